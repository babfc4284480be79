"""Who may import whom: read from the code, so that the rooms stay apart."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"assistant", "audio", "vision", "fusion", "ui"}
MAY_IMPORT = {
    "audio": set[str](),
    "vision": set[str](),
    "fusion": set[str](),
    "assistant": {"audio", "vision", "fusion"},
    # The page speaks to the server through its public WebSocket and HTTP interface only.
    "ui": set[str](),
}
#: The one place where the server serves the page.
MOUNTS_THE_PAGE = ROOT / "assistant/server/pages.py"


def imported_rooms(source: str) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "import by full name"
            modules.add(node.module or "")
    return {module.split(".")[0] for module in modules} & ROOMS


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_room_imports_only_what_it_may(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    for file in (ROOT / room).rglob("*.py"):
        extra = imported_rooms(file.read_text(encoding="utf-8")) - allowed
        if file == MOUNTS_THE_PAGE:
            extra -= {"ui"}
        assert not extra, f"{file.relative_to(ROOT)} imports {sorted(extra)}"


def test_the_rule_sees_a_breach() -> None:
    assert imported_rooms("def f():\n    from assistant.config import Settings") == {"assistant"}
    assert imported_rooms("import vision.image as image, json") == {"vision"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_module_says_what_it_is_for(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        assert docstring, f"{file.relative_to(ROOT)} has no docstring"
