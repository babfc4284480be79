"""Does the streamed answer name what the picture shows, and does it come from the picture?"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from assistant.errors import ConfigError
from assistant.prompts import Prompts
from fusion.adapter import Adapter, SoftTokens
from fusion.decoder import DecodeOptions, Decoder, KVCache
from fusion.prompt import PromptBuilder
from fusion.train_data import Example, class_rows, read_examples, split_examples
from vision.classes import ClassName
from vision.image import read_image

if TYPE_CHECKING:
    from vision.encoders import ImageEncoder

#: None of these was used to choose the prompts or the adapter's numbers.
QUESTIONS = (
    "What is in this picture?",
    "What do you see here?",
    "Can you tell me what this is?",
    "What am I looking at?",
    "Describe the photo in one sentence.",
)
_SIDE = 256
_COLOURS = (
    ("black", (0, 0, 0)),
    ("white", (255, 255, 255)),
    ("navy", (20, 30, 90)),
    ("yellow", (235, 210, 60)),
    ("brown", (110, 75, 45)),
    ("violet", (130, 60, 160)),
)
_DECLINES = re.compile(
    r"\b(?:can['’]?t|cannot|can not|could(?:n['’]t| not)|unable to|not able to|nothing|hard to)\b"
    r".{0,60}\b(?:make|made|making|recogni[sz]e|identify|see|tell|visible|discernible)\b"
    r"|\bnothing\b|\bnot sure what\b",
    re.IGNORECASE | re.DOTALL,
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VisionOptions:
    """`held_out` pictures are asked about; `all_questions` asks all five of each."""

    held_out: int = 160
    seed: int = 0
    all_questions: bool = False
    max_tokens: int = 40

    def __post_init__(self) -> None:
        if self.held_out < 2 or self.max_tokens < 1:
            raise ConfigError(
                "Expected at least 2 pictures and 1 token to measure with, found "
                f"{self.held_out} and {self.max_tokens}."
            )


@dataclass(frozen=True)
class VisionRow:
    """One answer. ``named_swapped``: it names what another picture shows, the label it is paired
    with; for a blank picture (``label`` "") ``named`` means that it names the paired label.
    """

    file: str
    label: str
    question: str
    answer: str
    named: bool
    named_other: bool
    declined: bool


@dataclass(frozen=True)
class VisionReport:
    """Shares of 1 over the held-out pictures, and the answers that they were counted from."""

    named: float
    named_blank: float
    named_swapped: float
    encoder_top1: float
    images: int
    blank_declined: float
    rows: tuple[VisionRow, ...]

    def summary(self) -> dict[str, float | int]:
        """The figures that are compared over time."""
        names = ("named", "named_blank", "named_swapped", "encoder_top1", "blank_declined")
        shares = {name: round(getattr(self, name), 4) for name in names}
        return {**shares, "images": self.images}


class Names:
    """Whether an answer names a class: by its name or a synonym, as whole words."""

    def __init__(self, classes: Sequence[ClassName]) -> None:
        self._classes = classes

    def in_answer(self, answer: str, row: int) -> bool:
        """Whether ``answer`` names class ``row``; case, hyphens and a plural s do not matter."""
        entry = self._classes[row]
        plain = _plain(answer)
        return any(_pattern(word).search(plain) for word in (entry.name, *entry.synonyms))


def _plain(text: str) -> str:
    return re.sub(r"[^\w]+", " ", text.casefold().replace("'s", "")).strip()


@lru_cache(maxsize=8192)
def _pattern(words: str) -> re.Pattern[str]:
    plain = re.escape(_plain(words)).replace(r"\ ", " ?")
    stem = rf"(?:{plain}(?:s|es)?|{plain[:-1]}ies)" if plain.endswith("y") else plain + "(?:s|es)?"
    return re.compile(rf"\b{stem}\b")


def declines(answer: str) -> bool:
    """Whether the answer says that nothing can be made out."""
    return _DECLINES.search(answer) is not None


def nothing_pictures() -> list[tuple[str, Image.Image]]:
    """Twenty pictures of nothing: single colours, noise, gradients, patterns, soft clouds.

    None of them, and no picture with the same numbers, was used to fit an adapter.
    """
    random = np.random.default_rng(77)
    x, y = np.meshgrid(np.linspace(0, 1, _SIDE), np.linspace(0, 1, _SIDE))
    shares = {
        "diagonal-ramp": (x + y) / 2,
        "radial-ramp": np.hypot(x - 0.5, y - 0.5),
        "ramp": x,
        "diagonal-stripes": ((x + y) * 12 % 1 > 0.5).astype(float),
        "wide-stripes": (y * 5 % 1 > 0.5).astype(float),
        "waves": 0.5 + 0.5 * np.sin(18 * x),
    }
    arrays = {
        name: share[..., None] * random.uniform(0, 255, 3)
        + (1 - share[..., None]) * random.uniform(0, 255, 3)
        for name, share in shares.items()
    }
    for name, colour in _COLOURS:
        arrays[name] = np.zeros((_SIDE, _SIDE, 3)) + colour
    for strength in (12, 35, 70):
        grey = random.normal(random.uniform(40, 200), strength, (_SIDE, _SIDE, 1))
        arrays[f"grey-noise-{strength}"] = np.repeat(grey, 3, 2)
        arrays[f"noise-{strength}"] = random.normal(110, strength, (_SIDE, _SIDE, 3))
    salt = random.random((_SIDE, _SIDE, 1)) < 0.5
    arrays["salt-and-pepper"] = np.repeat(salt * 255.0, 3, 2)
    pictures = {
        name: Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        for name, values in arrays.items()
    }
    cloud = pictures["noise-70"].filter(ImageFilter.GaussianBlur(9))
    return [*pictures.items(), ("soft-cloud", cloud)]


class VisionEvaluation:
    """Asks the product's own decoder, with the product's prompts, about known pictures."""

    def __init__(
        self,
        encoder: "ImageEncoder",
        adapter: Adapter,
        decoder: Decoder,
        prompts: Prompts,
        classes: Sequence[ClassName],
    ) -> None:
        self._encoder, self._adapter, self._decoder = encoder, adapter, decoder
        self._prompts, self._names = prompts, Names(classes)
        self._builder = PromptBuilder(decoder)
        # Every question starts with the same system prompt: run it once.
        self._prefix = decoder.new_cache()
        decoder.prefill(self._builder.prefix(prompts.system), self._prefix)

    def answer(self, question: str, picture: SoftTokens, max_tokens: int) -> str:
        """The streamed answer to one question."""
        prompt = self._builder.build(self._prompts.ask(question, picture))
        cache: KVCache = self._prefix.fork()
        options = DecodeOptions(max_tokens=max_tokens)
        return "".join(self._decoder.stream(prompt, options, cache)).strip()

    def run(
        self, data: Path, options: VisionOptions | None = None, progress: Progress | None = None
    ) -> VisionReport:
        """Measure on the held-out pictures of ``data`` (see ``fusion.train_data``)."""
        options = options or VisionOptions()
        examples = read_examples(data)
        held_out = split_examples(examples, held_out=options.held_out, seed=options.seed).held_out
        directions = self._encoder.class_directions()
        rows = class_rows(held_out, directions.names)
        features = [self._encoder.encode(read_image(example.path)) for example in held_out]
        right = [
            int(directions.logits(f.pooled).argmax()) == row
            for f, row in zip(features, rows, strict=True)
        ]
        pictures = [self._adapter(f) for f in features]
        blanks = [(name, self._adapter(self._encoder.encode(i))) for name, i in nothing_pictures()]
        asked = _plan(held_out, rows, pictures, blanks, options)
        answers: list[VisionRow] = []
        for done, item in enumerate(asked, 1):
            answers.append(self._ask(item, options.max_tokens))
            if progress is not None:
                progress(done, len(asked))
        return _report(answers, sum(right) / len(right), len(held_out))

    def _ask(self, item: "_Item", max_tokens: int) -> VisionRow:
        answer = self.answer(item.question, item.picture, max_tokens)
        return VisionRow(
            item.file,
            item.label,
            item.question,
            answer,
            item.row is not None and self._names.in_answer(answer, item.row),
            any(self._names.in_answer(answer, row) for row in item.other_rows),
            declines(answer),
        )


@dataclass(frozen=True, eq=False)
class _Item:
    """One question: ``row`` is the picture's class, ``other_rows`` are classes it does not show."""

    file: str
    label: str
    question: str
    picture: SoftTokens
    row: int | None
    other_rows: tuple[int, ...]


def _plan(
    examples: Sequence[Example],
    rows: Sequence[int],
    pictures: Sequence[SoftTokens],
    blanks: Sequence[tuple[str, SoftTokens]],
    options: VisionOptions,
) -> list[_Item]:
    """Each picture with its question(s), then each blank; labels to compare with beside them."""
    items: list[_Item] = []
    for i, (example, row, picture) in enumerate(zip(examples, rows, pictures, strict=True)):
        other = next((r for r in (*rows[i + 1 :], *rows[:i]) if r != row), row)
        questions = QUESTIONS if options.all_questions else QUESTIONS[i % len(QUESTIONS) :][:1]
        items += [
            _Item(example.path.name, example.label, question, picture, row, (other,))
            for question in questions
        ]
    for i, (name, picture) in enumerate(blanks):
        # What was declined reads the same for every blank, so two questions each are enough.
        few = tuple(QUESTIONS[(i + k) % len(QUESTIONS)] for k in (0, 2))
        questions = QUESTIONS if options.all_questions else few
        items += [_Item(name, "", question, picture, None, tuple(rows)) for question in questions]
    return items


def _report(answers: Sequence[VisionRow], top1: float, images: int) -> VisionReport:
    shown = [row for row in answers if row.label]
    blank = [row for row in answers if not row.label]
    return VisionReport(
        named=sum(row.named for row in shown) / len(shown),
        named_blank=sum(row.named_other for row in blank) / len(blank),
        named_swapped=sum(row.named_other for row in shown) / len(shown),
        encoder_top1=top1,
        images=images,
        blank_declined=sum(row.declined for row in blank) / len(blank),
        rows=tuple(answers),
    )
