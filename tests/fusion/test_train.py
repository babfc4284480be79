import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fusion.adapters import load_adapter
from fusion.errors import FusionError
from fusion.fit import fit_correction, fit_gain, fit_logistic, fit_temperature, threshold_for
from fusion.train import TrainOptions, train_dictionary
from fusion.train_data import class_rows, read_examples, split_examples
from fusion.train_pictures import blurred, nothing_picture, placed, side_by_side
from tests.fusion.tiny import Features, Words, tiny_decoder

COLOURS = {
    "red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 30),
    "pink": (230, 60, 220), "cyan": (40, 220, 220),
}  # fmt: skip


def read(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


class ColourEncoder:
    """Knows six colours: a cell's features are how near it is to each."""

    name = "colours"
    dim = 6
    calls = 0

    def encode(self, image: Any) -> Features:
        ColourEncoder.calls += 1
        small = np.asarray(image.resize((7, 7), Image.Resampling.BOX), np.float32)
        cells = torch.from_numpy(small).reshape(49, 1, 3)
        ideal = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
        near = (-(cells - ideal).norm(dim=-1) / 8).exp()
        return Features(near, near.mean(0), (7, 7), self.name)

    def class_directions(self, names: Sequence[str] | None = None) -> Words:
        return Words(tuple(COLOURS), torch.eye(6) * 12, torch.zeros(6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of six colours, each a little different, in a folder for each colour."""
    root = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for i in range(12):
            pixels = random.normal(np.array(colour) + random.normal(0, 1, 3), 6, (60, 80, 3))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(root / name / f"{i}.png")
    return root


def options(folder: Path, tmp_path: Path, **changes: Any) -> TrainOptions:
    settings = {
        "data": folder,
        "output": tmp_path / "out" / "a.safetensors",
        "work": tmp_path / "work",
        "command": "a test",
        "held_out": 12,
        "correction_rank": 2,
        "correction_epochs": 1,
    }
    return TrainOptions(**(settings | changes))


def test_training_end_to_end_and_again(folder: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    chosen = options(folder, tmp_path)
    result = train_dictionary(
        chosen, ColourEncoder(), tiny_decoder(), read, lambda stage, *_: steps.append(stage)
    )
    assert set(steps) == {
        f"{part}-{kind}"
        for part in ("train", "validation")
        for kind in ("photos", "nothing", "pairs", "placed")
    }
    lines = [json.loads(x) for x in (tmp_path / "out" / "a.log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == [
        "data", "temperature", "presence", "pair", "place", "key_correction",
        "measured_on_validation",
    ]  # fmt: skip
    assert (lines[0]["train"], lines[0]["validation"], lines[0]["held_out_untouched"]) == (
        48,
        12,
        12,
    )
    assert result.measured["pairs_both_right"] > 0.6
    assert result.measured["photos_told_as_two"] <= 0.1
    assert result.measured["ece"] <= result.measured["ece_raw"] + 1e-6
    calls = ColourEncoder.calls
    again = train_dictionary(chosen, ColourEncoder(), tiny_decoder(), read)
    assert ColourEncoder.calls == calls, "features are read back, not computed again"
    assert again.measured == result.measured
    adapter = load_adapter(result.path, ColourEncoder(), tiny_decoder())
    two = side_by_side(*(Image.new("RGB", (9, 9), COLOURS[c]) for c in ("red", "cyan")), False)
    guesses = adapter(ColourEncoder().encode(two)).guesses
    assert [(g.name, g.place) for g in guesses] == [
        ("red", "on the left"),
        ("cyan", "on the right"),
    ]


def test_held_out_pictures_are_never_opened(folder: Path, tmp_path: Path) -> None:
    chosen = options(folder, tmp_path, correction_rank=0)
    opened: set[Path] = set()

    def watched(path: Path) -> Image.Image:
        opened.add(path)
        return read(path)

    train_dictionary(chosen, ColourEncoder(), tiny_decoder(), watched)
    split = split_examples(read_examples(folder), held_out=12)
    assert opened == {e.path for e in (*split.train, *split.validation)}


class ProjectingEncoder(ColourEncoder):
    """Its patches are wider than its words' directions, as a CLIP tower's are."""

    name = "projecting"

    def encode(self, image: Any) -> Features:
        plain = super().encode(image)
        return Features(plain.patches.repeat(1, 2), plain.pooled, plain.grid, self.name)


def test_patches_outside_the_words_space_are_left_alone(folder: Path, tmp_path: Path) -> None:
    result = train_dictionary(options(folder, tmp_path), ProjectingEncoder(), tiny_decoder(), read)
    assert result.reader.pair is None
    assert result.reader.place_gain is None
    assert result.reader.presence is not None


def test_split_is_fixed_and_disjoint(folder: Path) -> None:
    examples = read_examples(folder)
    split = split_examples(examples, held_out=12)
    again = split_examples(list(reversed(examples)), held_out=12)
    assert split == again
    parts = [{e.path for e in part} for part in (split.train, split.validation, split.held_out)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(examples) == 72
    assert split_examples(examples, held_out=12, seed=1) != split
    with pytest.raises(FusionError, match="at least 10"):
        split_examples(examples, held_out=65)


def picture(path: Path) -> None:
    Image.new("RGB", (4, 4)).save(path)


def test_three_kinds_of_folders_are_read(tmp_path: Path) -> None:
    with pytest.raises(FusionError, match="found none"):
        read_examples(tmp_path)
    (tmp_path / "tea_pot").mkdir()
    picture(tmp_path / "tea_pot" / "b.png")
    assert [(e.label, e.index) for e in read_examples(tmp_path)] == [("tea pot", None)]
    picture(tmp_path / "001.png")
    picture(tmp_path / "7.png")
    (tmp_path / "classes.tsv").write_text('index\twnid\tname\n0\tn0\ta "b\n1\tn1\tcat\n')
    assert [(e.label, e.index) for e in read_examples(tmp_path)] == [("cat", 1)]
    (tmp_path / "labels.tsv").write_text("file\tlabel\n7.png\tdog\n")
    assert [(e.path.name, e.label) for e in read_examples(tmp_path)] == [("7.png", "dog")]


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("name\tlabel\n")
    with pytest.raises(FusionError, match="file is missing"):
        read_examples(tmp_path)
    (tmp_path / "labels.tsv").write_text("file\tlabel\nnone.png\tcat\n")
    with pytest.raises(FusionError, match=r"none\.png that labels\.tsv names"):
        read_examples(tmp_path)
    (tmp_path / "labels.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FusionError, match="expected a table"):
        read_examples(tmp_path)


def test_labels_find_their_words(folder: Path) -> None:
    examples = read_examples(folder)
    rows = class_rows(examples, ["Red", "green", "blue", "yellow", "pink", "cyan", "red"])
    assert {(e.label, r) for e, r in zip(examples, rows, strict=True)} == {
        (name, i) for i, name in enumerate(COLOURS)
    }
    with pytest.raises(FusionError, match="labelled 'cyan'"):
        class_rows(examples, list(COLOURS)[:-1])


@pytest.mark.parametrize("wrong", [{"held_out": 0}, {"validation": 1.0}, {"correction_rank": -1}])
def test_options_without_meaning_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FusionError, match=next(iter(wrong))):
        options(tmp_path, tmp_path, **wrong)


def test_temperature_undoes_a_known_one() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=random) * 3
    labels = torch.multinomial(logits.softmax(-1), 1, generator=random)[:, 0]
    assert fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.08)


def test_logistic_is_at_its_minimum() -> None:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 3, generator=random) * torch.tensor([1.0, 5.0, 0.1]) + 7
    noise = torch.randn(500, generator=random)
    targets = (inputs[:, 0] - inputs[:, 1] + noise > 0).float()
    found = fit_logistic(inputs, targets)
    share = targets.mean()
    weight = torch.where(targets > 0, 0.5 / share, 0.5 / (1 - share))

    def loss(w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        scores = ((inputs - found.mean) / found.std) @ w + b
        miss = F.binary_cross_entropy_with_logits(scores, targets, weight=weight)
        return miss + 1e-3 * w.square().sum()

    w, b = found.weight.clone().requires_grad_(), found.bias.clone().requires_grad_()
    loss(w, b).backward()
    assert w.grad is not None
    assert b.grad is not None
    assert float(w.grad.abs().max()) < 1e-4
    assert float(b.grad.abs()) < 1e-4


def test_threshold_and_gain() -> None:
    chances = torch.arange(100) / 100
    assert int((chances >= threshold_for(chances, 0.05)).sum()) == 5
    found = torch.rand(50, 2, generator=torch.Generator().manual_seed(1))
    gain = torch.tensor([1.5, 0.7])
    torch.testing.assert_close(fit_gain(found, 0.5 + gain * (found - 0.5)), gain)


def test_correction_learns_what_can_be_learnt() -> None:
    random = torch.Generator().manual_seed(2)
    weights = torch.randn(4, 10, generator=random)
    labels = torch.arange(400) % 4
    rows = weights[(labels + 1) % 4] + 0.1 * torch.randn(400, 10, generator=random)
    before = ((rows @ weights.T).argmax(-1) == labels).float().mean()
    correction = fit_correction(rows, labels, weights, torch.zeros(4), rank=4, epochs=400, seed=0)
    after = (((rows + rows @ correction) @ weights.T).argmax(-1) == labels).float().mean()
    assert before < 0.1
    assert after > 0.9


def test_made_pictures() -> None:
    random = np.random.default_rng(0)
    kinds = {nothing_picture(random).tobytes() for _ in range(30)}
    assert len(kinds) == 30
    red, blue = (Image.new("RGB", (50, 30), c) for c in ("red", "blue"))
    pair, stack = side_by_side(red, blue, False), side_by_side(red, blue, True)
    assert (pair.getpixel((5, 200)), pair.getpixel((200, 5))) == ((255, 0, 0), (0, 0, 255))
    assert (stack.getpixel((200, 5)), stack.getpixel((5, 200))) == ((255, 0, 0), (0, 0, 255))
    image, (x, y) = placed(red, blue, random)
    assert image.getpixel((round(x * 224), round(y * 224))) == (255, 0, 0)
    pixels = np.asarray(image, np.int64)
    where = np.argwhere(pixels[..., 0] == 255).mean(0)
    assert where / 224 == pytest.approx([y, x], abs=0.01)
    spots = Image.fromarray(random.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    assert np.asarray(blurred(spots, random)).std() < 20


def test_a_damaged_feature_file_is_made_again(folder: Path, tmp_path: Path) -> None:
    chosen = options(folder, tmp_path, correction_rank=0)
    first = train_dictionary(chosen, ColourEncoder(), tiny_decoder(), read)
    for path in (tmp_path / "work").glob("train-p*.safetensors"):
        path.write_bytes(b"damaged")
    assert (
        train_dictionary(chosen, ColourEncoder(), tiny_decoder(), read).measured == first.measured
    )


def test_an_encoder_that_finds_nothing_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(self: ColourEncoder, image: Any) -> Features:
        return Features(torch.zeros(49, 6), torch.zeros(6), (7, 7), self.name)

    monkeypatch.setattr(ColourEncoder, "encode", blind)

    def words(self: ColourEncoder, names: Sequence[str] | None = None) -> Words:
        return Words((*COLOURS, "x"), torch.zeros(7, 6), torch.tensor([0.0] * 6 + [1.0]))

    monkeypatch.setattr(ColourEncoder, "class_directions", words)
    with pytest.raises(FusionError, match="at least two of the placed things"):
        train_dictionary(options(folder, tmp_path), ColourEncoder(), tiny_decoder(), read)
