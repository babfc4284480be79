"""The words around a question: system prompt and the frames that pictures are shown in."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from assistant.assets import asset
from assistant.errors import ConfigError
from fusion.adapter import SoftTokens
from fusion.prompt import Turn

#: A turn's texts and images in the order they are shown.
Parts = tuple[str | Tensor, ...]

_IMAGE, _QUESTION, _NUMBER, _ANSWER = "{image}", "{question}", "{number}", "{answer}"


@dataclass(frozen=True)
class Prompts:
    """The shipped or a user's own wording; see ``assets/prompts.toml``."""

    system: str
    with_picture: str
    without_picture: str
    numbered_picture: str = "Picture {number} shows:{image}.\n{question}"
    picture_again: str = "\nPicture {number} shows:{image}."
    interrupted: str = "{answer}…"

    def __post_init__(self) -> None:
        needed = (
            ("with_picture", (_IMAGE, _QUESTION)),
            ("without_picture", (_QUESTION,)),
            ("numbered_picture", (_NUMBER, _IMAGE, _QUESTION)),
            ("picture_again", (_NUMBER, _IMAGE)),
            ("interrupted", (_ANSWER,)),
        )
        for name, marks in needed:
            text: str = getattr(self, name)
            if any(text.count(mark) != 1 for mark in marks):
                raise ConfigError(
                    f"Expected {' and '.join(marks)} once each in the prompt {name}, found "
                    f"{text!r}; correct prompts.toml."
                )

    def ask(
        self, question: str, picture: SoftTokens | None = None, history: Sequence[Turn] = ()
    ) -> list[Turn]:
        """The turns of one question, after those of the conversation so far."""
        return [self.first, *history, Turn("user", self.user(question, picture))]

    @property
    def first(self) -> Turn:
        """The turn that every conversation begins with."""
        return Turn("system", (self.system,))

    def user(
        self, question: str, picture: SoftTokens | None = None, number: int | None = None
    ) -> Parts:
        """What the person says and shows; `number` tells the picture from others."""
        if picture is None:
            return (self.without_picture.replace(_QUESTION, question),)
        frame = self.with_picture if number is None else self.numbered_picture
        # The question last: nothing that a person says is taken for one of our marks.
        before, after = (
            part.replace(_NUMBER, str(number)).replace(_QUESTION, question)
            for part in frame.split(_IMAGE)
        )
        return before, picture.embeddings, after

    def again(self, picture: SoftTokens, number: int) -> Parts:
        """An earlier picture that the question names, after the question's words."""
        before, after = self.picture_again.replace(_NUMBER, str(number)).split(_IMAGE)
        return before, picture.embeddings, after

    def cut(self, heard: str) -> str:
        """An answer interrupted after the words ``heard``; after a sentence it has no mark."""
        if heard.endswith((".", "!", "?")):
            return heard
        return self.interrupted.replace(_ANSWER, heard.rstrip(" ,;:…—–-"))


def load_prompts(path: Path | None = None) -> Prompts:
    """The wording in ``path`` (default: the shipped one); an unknown or missing key is refused."""
    path = path or asset("prompts.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        missing = [field.name for field in fields(Prompts) if field.name not in content]
        if missing:
            raise TypeError(f"{', '.join(missing)} missing")
        return Prompts(**content)
    except (OSError, tomllib.TOMLDecodeError, TypeError) as problem:
        raise ConfigError(
            f"Cannot use the prompts in {path}: {problem}; correct the file."
        ) from None
