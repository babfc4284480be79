from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assistant.errors import ConfigError
from assistant.evals.vision import (
    QUESTIONS,
    Names,
    VisionEvaluation,
    VisionOptions,
    declines,
    nothing_pictures,
)
from assistant.prompts import Prompts, load_prompts
from fusion.adapter import Guess, ImageFeatures, SoftTokens
from fusion.decoder import DecodeOptions
from fusion.prompt import PromptBuilder, Turn
from fusion.train_data import read_examples, split_examples
from tests.fusion.tiny import HIDDEN, tiny_decoder
from vision.classes import ClassName, read_class_names
from vision.encoders import ClassDirections, PatchEmbeddings

CLASSES = (
    ClassName("", "red panel"),
    ClassName("", "green-fly", ("aphid",)),
    ClassName("", "blue berry", ("Vaccinium",)),
)
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


@pytest.mark.parametrize(
    ("answer", "row", "named"),
    [
        ("It is a red panel.", 0, True),
        ("Two RED PANELS!", 0, True),
        ("A redpanel", 0, True),
        ("The panel is red.", 0, False),
        ("A red panelist", 0, False),
        ("a green fly", 1, True),
        ("a greenfly sits", 1, True),
        ("aphids", 1, True),
        ("Blue berries in a bowl", 2, True),
        ("vaccinium", 2, True),
        ("blackberry", 2, False),
        ("", 2, False),
    ],
)
def test_naming_needs_whole_words(answer: str, row: int, named: bool) -> None:
    assert Names(CLASSES).in_answer(answer, row) is named


@pytest.mark.parametrize(
    "answer",
    [
        "I can't make out what is in the picture.",
        "The picture shows nothing I can make out.",
        "I cannot tell what this is.",
        "It is hard to make out.",
        "I'm not able to see anything.",
        "I couldn’t recognise it.",
    ],
)
def test_declining_is_heard(answer: str) -> None:
    assert declines(answer)


@pytest.mark.parametrize(
    "answer",
    ["A tin can.", "I see a cat in the centre.", "You can see a dog.", "It can tell time."],
)
def test_naming_is_not_declining(answer: str) -> None:
    assert not declines(answer)


def test_pictures_of_nothing_differ_and_stay_the_same() -> None:
    first, second = nothing_pictures(), nothing_pictures()
    assert [name for name, _ in first] == [name for name, _ in second]
    assert all(a[1].tobytes() == b[1].tobytes() for a, b in zip(first, second, strict=True))
    assert len({image.tobytes() for _, image in first}) == len(first) == 20


class ColourEncoder:
    name = "colours"
    dim = 3

    def encode(self, image: Image.Image) -> PatchEmbeddings:
        pooled = torch.from_numpy(np.asarray(image, np.float32).mean((0, 1)) / 255)
        return PatchEmbeddings(pooled[None], pooled, (1, 1), self.name)

    def class_directions(self, names: Sequence[str] | None = None) -> ClassDirections:
        names = tuple(entry.name for entry in CLASSES)
        return ClassDirections(names, torch.eye(3), torch.zeros(3))


class ColourAdapter:
    """Names the strongest colour; sees nothing where none is much stronger than the rest."""

    def __call__(self, features: ImageFeatures) -> SoftTokens:
        low, high = features.pooled.aminmax()
        best = int(features.pooled.argmax())
        guess = Guess(CLASSES[best].name, float(high))
        return SoftTokens(torch.zeros(2, HIDDEN), (guess,), recognised=bool(high - low > 0.55))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for entry, colour in zip(CLASSES, COLOURS, strict=True):
        folder = tmp_path / entry.name
        folder.mkdir()
        for i in range(8):
            Image.new("RGB", (8, 8), tuple(c + i for c in colour)).save(folder / f"{i}.png")
    return tmp_path


@pytest.fixture(scope="module")
def evaluation() -> VisionEvaluation:
    return VisionEvaluation(
        ColourEncoder(), ColourAdapter(), tiny_decoder(), load_prompts(), CLASSES
    )


def truthful(question: str, picture: SoftTokens, max_tokens: int) -> str:
    assert question in QUESTIONS
    if not picture.recognised:
        return "I can't make it out."
    return f"It is a {picture.guesses[0].name}."


def test_truthful_answers_score_full_marks(
    evaluation: VisionEvaluation, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "answer", truthful)
    steps: list[tuple[int, int]] = []
    report = evaluation.run(data, VisionOptions(held_out=10), lambda *at: steps.append(at))
    recognised = [row for row in report.rows if not row.label and not row.declined]
    assert report.summary() == {
        "named": 1.0,
        "named_swapped": 0.0,
        "named_blank": round(len(recognised) / 40, 4),
        "blank_declined": round(1 - len(recognised) / 40, 4),
        "encoder_top1": 1.0,
        "images": 10,
    }
    assert steps == [(i + 1, 50) for i in range(50)]
    held_out = split_examples(read_examples(data), held_out=10).held_out
    assert [row.file for row in report.rows[:10]] == [e.path.name for e in held_out]
    assert [row.question for row in report.rows[:10]] == [*QUESTIONS, *QUESTIONS]


def test_an_answer_that_names_everything_is_found_out(
    evaluation: VisionEvaluation, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = " and ".join(entry.name for entry in CLASSES)
    monkeypatch.setattr(evaluation, "answer", lambda *_: everything)
    figures = evaluation.run(data, VisionOptions(held_out=10)).summary()
    assert figures["named"] == figures["named_swapped"] == figures["named_blank"] == 1.0
    assert figures["blank_declined"] == 0.0


def test_all_questions_ask_each_picture_five_times(
    evaluation: VisionEvaluation, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "answer", truthful)
    report = evaluation.run(data, VisionOptions(held_out=10, all_questions=True))
    assert len(report.rows) == (10 + 20) * 5
    assert report.images == 10


def test_the_answer_is_the_decoders_own_stream(evaluation: VisionEvaluation) -> None:
    picture = SoftTokens(torch.randn(3, HIDDEN))
    decoder, prompts = tiny_decoder(), load_prompts()
    prompt = PromptBuilder(decoder).build(prompts.ask("What is it?", picture))
    expected = "".join(decoder.stream(prompt, DecodeOptions(max_tokens=12))).strip()
    for _ in range(2):  # the shared prefix is not spoilt by the first answer
        assert evaluation.answer("What is it?", picture, 12) == expected


@pytest.mark.parametrize("wrong", [{"held_out": 1}, {"max_tokens": 0}])
def test_options_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        VisionOptions(**wrong)


def test_shipped_names_do_not_name_each_other_by_chance() -> None:
    """Spoken alone, a class's name names few other classes, so swapped scores stay honest."""
    table = Path(__file__).parents[2] / "assets" / "imagenet_classes.tsv"
    classes = read_class_names(table)
    names = Names(classes)
    pairs = [(i, (i * 37 + 11) % len(classes)) for i in range(len(classes))]
    hits = [
        (classes[i].name, classes[j].name)
        for i, j in pairs
        if i != j and names.in_answer(f"The picture shows a {classes[i].name}.", j)
    ]
    assert len(hits) < len(classes) * 0.005, hits


def test_prompts_frame_the_picture_and_keep_the_history() -> None:
    prompts = Prompts("Be brief.", "Seen:{image}. {question}", "{question}")
    picture = SoftTokens(torch.zeros(2, 4))
    history = [Turn("user", ("hi",)), Turn("assistant", ("hello",))]
    turns = prompts.ask("what {image} is it?", picture, history)
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    before, image, after = turns[-1].parts
    assert (before, after) == ("Seen:", ". what {image} is it?")
    assert image is picture.embeddings
    assert prompts.ask("why?")[-1].parts == ("why?",)


def test_wrong_prompts_are_refused(tmp_path: Path) -> None:
    shipped = load_prompts()
    assert "{question}" in shipped.with_picture
    path = tmp_path / "prompts.toml"
    for text in ("system = ", 'system = "x"', 'nonsense = "x"'):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"prompts\.toml"):
            load_prompts(path)
    with pytest.raises(ConfigError, match=r"\{image\} and \{question\} once"):
        Prompts("s", "{question}", "{question}")
