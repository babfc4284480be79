"""The words around a question: system prompt and the frame that a picture is shown in."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant.assets import asset
from assistant.errors import ConfigError
from fusion.adapter import SoftTokens
from fusion.prompt import Turn

_IMAGE, _QUESTION = "{image}", "{question}"


@dataclass(frozen=True)
class Prompts:
    """The shipped or a user's own wording; see ``assets/prompts.toml``."""

    system: str
    with_picture: str
    without_picture: str

    def __post_init__(self) -> None:
        needed = (
            ("with_picture", self.with_picture, (_IMAGE, _QUESTION)),
            ("without_picture", self.without_picture, (_QUESTION,)),
        )
        for name, text, marks in needed:
            if any(text.count(mark) != 1 for mark in marks):
                raise ConfigError(
                    f"Expected {' and '.join(marks)} once each in the prompt {name}, found "
                    f"{text!r}; correct prompts.toml."
                )

    def ask(
        self, question: str, picture: SoftTokens | None = None, history: Sequence[Turn] = ()
    ) -> list[Turn]:
        """The turns of one question, after those of the conversation so far."""
        frame = self.without_picture if picture is None else self.with_picture
        before, _, after = frame.partition(_IMAGE)
        texts = (part.replace(_QUESTION, question) for part in (before, after))
        first, second = texts
        parts = (first,) if picture is None else (first, picture.embeddings, second)
        return [Turn("system", (self.system,)), *history, Turn("user", parts)]


def load_prompts(path: Path | None = None) -> Prompts:
    """The wording in ``path`` (default: the shipped one); an unknown or missing key is refused."""
    path = path or asset("prompts.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return Prompts(**content)
    except (OSError, tomllib.TOMLDecodeError, TypeError) as problem:
        raise ConfigError(
            f"Cannot use the prompts in {path}: {problem}; correct the file."
        ) from None
