"""axe-core, the accessibility checker: fetched from npm once, and run in a page."""

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import platformdirs
from playwright.sync_api import Page

from tests.ui.browsers import without

VERSION = "4.11.0"
MISSING = (
    "axe-core is not there and npm cannot fetch it; install npm (Debian: apt-get install npm) and "
    "allow it to reach its registry to check accessibility."
)
_VIOLATIONS = """async () => {
  const { violations } = await axe.run(document);
  const shown = ({ html, any }) => [html.slice(0, 160), any[0]?.message];
  return violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map(shown) }));
}"""


def axe_source() -> str:
    """The checker's script; see ``without`` for where it cannot be had."""
    folder = Path(platformdirs.user_cache_dir("voxsight")) / "npm"
    archive = folder / f"axe-core-{VERSION}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            without(MISSING)
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", folder]
        if subprocess.run(command, capture_output=True, check=False).returncode or (
            not archive.exists()
        ):
            without(MISSING)
    with tarfile.open(archive) as files:
        script = files.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


def serious(page: Page, source: str) -> list[dict[str, Any]]:
    """What keeps people out of the page as it is now: `id`, `impact`, and the elements."""
    page.evaluate(source)  # not as a script of the page: its policy allows none of others
    found: list[dict[str, Any]] = page.evaluate(_VIOLATIONS)
    return [each for each in found if each["impact"] in ("serious", "critical")]
