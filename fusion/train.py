"""Fits an adapter's scene reader to labelled pictures, keeping only what measures better."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fusion.adapter import Directions
from fusion.adapter_file import AdapterHeader, save_adapter
from fusion.adapters import Encoder
from fusion.decoder import Decoder
from fusion.errors import FusionError
from fusion.fit import fit_correction, fit_gain, fit_logistic, fit_temperature, threshold_for
from fusion.scene import (
    SceneReader,
    centre_of,
    class_logits,
    halves,
    pair_inputs,
    presence_inputs,
    read_scene,
)
from fusion.train_data import class_rows, read_examples, split_examples
from fusion.train_sets import FeatureSet, Progress, SetMaker

#: Pictures of nothing that may pass as something, and single things that may pass as two.
FALSE_PRESENCE, FALSE_PAIR = 0.02, 0.02


@dataclass(frozen=True)
class TrainOptions:
    """What to train on and where to write. Nothing of the held-out pictures is ever read.

    `work` keeps features and the log, so that a run that was stopped goes on; `command` and
    `training_data` and `licence` go into the adapter's header.
    """

    data: Path
    output: Path
    work: Path
    command: str
    training_data: str = ""
    licence: str = "Apache-2.0"
    seed: int = 0
    held_out: int = 160
    validation: float = 0.2
    sharpness: float = 3.0
    tokens_per_name: int = 6
    correction_rank: int = 64
    correction_epochs: int = 20

    def __post_init__(self) -> None:
        """Refuse what has no meaning, with a FusionError."""
        checks = (
            (self.held_out >= 1, "held_out of 1 or more", self.held_out),
            (0 < self.validation < 1, "validation as a share between 0 and 1", self.validation),
            (self.correction_rank >= 0, "correction_rank of 0 (off) or more", self.correction_rank),
        )
        for fine, expected, came in checks:
            if not fine:
                raise FusionError(f"expected {expected}, but got {came}; change that option")


@dataclass(frozen=True, eq=False)
class _Part:
    """The four feature sets of the training or the validation part."""

    photos: FeatureSet
    nothing: FeatureSet
    pairs: FeatureSet
    placed: FeatureSet


@dataclass(frozen=True, eq=False)
class TrainResult:
    """Where the adapter was written and what it measures on the validation pictures."""

    path: Path
    reader: SceneReader
    measured: dict[str, float] = field(default_factory=dict)


def train_dictionary(
    options: TrainOptions,
    encoder: Encoder,
    decoder: Decoder,
    read_image: Callable[[Path], Image.Image],
    progress: Progress | None = None,
) -> TrainResult:
    """Fit temperature, presence, pairs and places, try a correction of the keys, and save.

    Every stage writes its figures before and after, on the validation pictures, as a line of
    `log.jsonl` beside the output. About two minutes for 640 pictures on two cores. Features are
    computed once; a second run with the same pictures reads them back.
    """
    split = split_examples(
        read_examples(options.data),
        held_out=options.held_out,
        validation=options.validation,
        seed=options.seed,
    )
    directions = encoder.class_directions()
    maker = SetMaker(encoder, read_image, options.work, options.seed, progress or _silent)
    with _log(options.output.with_suffix(".log.jsonl")) as log:
        log(
            "data",
            {
                "train": len(split.train),
                "validation": len(split.validation),
                "held_out_untouched": len(split.held_out),
                "seed": options.seed,
            },
        )
        parts = []
        for name, examples in (("train", split.train), ("validation", split.validation)):
            rows = class_rows(examples, directions.names)
            parts.append(
                _Part(
                    maker.photos(name, examples, rows),
                    maker.nothing(name, examples, max(200, len(examples) // 2)),
                    maker.pairs(name, examples, rows),
                    maker.placed(name, examples, rows),
                )
            )
        train, validation = parts
        reader = SceneReader()
        for stage in (_temperature, _presence, _pair, _place):
            reader, figures = stage(reader, directions, train, validation)
            log(stage.__name__.strip("_"), figures)
        if options.correction_rank:
            log("key_correction", _try_correction(options, directions, train, validation))
        measured = measure(reader, directions, validation)
        log("measured_on_validation", measured)
    _save(options, encoder, decoder, reader, measured)
    return TrainResult(options.output, reader, measured)


def _silent(_stage: str, _done: int, _total: int) -> None:
    return None


@contextmanager
def _log(path: Path) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:

        def write(stage: str, figures: dict[str, Any]) -> None:
            rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
            file.write(json.dumps({"stage": stage, **rounded}) + "\n")
            file.flush()

        yield write


_Fitted = tuple[SceneReader, dict[str, Any]]


def _temperature(reader: SceneReader, words: Directions, train: _Part, check: _Part) -> _Fitted:
    logits = class_logits(words, train.photos.pooled)
    found = fit_temperature(logits, train.photos.labels[:, 0])
    labels = check.photos.labels[:, 0]
    scores = class_logits(words, check.photos.pooled)
    before, after = (
        float(F.cross_entropy(scores / t, labels)) for t in (reader.temperature, found)
    )
    kept = replace(reader, temperature=found) if after < before else reader
    return kept, {"nll_before": before, "nll_after": after, "temperature": kept.temperature}


def _presence(reader: SceneReader, words: Directions, train: _Part, check: _Part) -> _Fitted:
    def inputs(features: FeatureSet) -> Tensor:
        return presence_inputs(words, features.pooled, features.patches.float())

    # Two things side by side are something too, though neither fills the picture.
    something = torch.cat((inputs(train.photos), inputs(train.pairs)))
    rows = torch.cat((something, inputs(train.nothing)))
    targets = torch.cat((torch.ones(len(something)), torch.zeros(len(train.nothing))))
    logistic = fit_logistic(rows, targets)
    threshold = threshold_for(logistic.probability(inputs(train.nothing)), FALSE_PRESENCE)
    kept = replace(reader, presence=logistic, presence_threshold=threshold)
    least = {}
    for name, one in (("before", reader), ("after", kept)):
        for kind in ("photos", "nothing"):
            least[f"{kind}_passed_{name}"] = _share_present(one, words, getattr(check, kind))
    return kept, {**least, "threshold": threshold}


def _share_present(reader: SceneReader, words: Directions, features: FeatureSet) -> float:
    single = replace(reader, pair=None, place_gain=None)
    seen = (
        bool(read_scene(features.picture(i), words, single, ("",) * 9).things)
        for i in range(len(features))
    )
    return sum(seen) / len(features)


def _pair(reader: SceneReader, words: Directions, train: _Part, check: _Part) -> _Fitted:
    if train.photos.patches.shape[-1] != words.weights.shape[-1]:
        return reader, {"skipped": "the encoder's patches are not in the space of its words"}
    photos, nothing = (_pair_rows(words, part) for part in (train.photos, train.nothing))
    one = torch.cat((photos, nothing, _pair_rows(words, train.placed)))
    two = _pair_rows(words, train.pairs, known=True)
    rows = torch.cat((one, two, _swapped(one), _swapped(two)))
    targets = torch.cat((torch.zeros(len(one)), torch.ones(len(two)))).repeat(2)
    logistic = fit_logistic(rows, targets)
    threshold = max(
        threshold_for(logistic.probability(rows).view(-1, 2).max(1).values, share)
        for rows, share in ((photos, FALSE_PAIR), (nothing, FALSE_PRESENCE / 2))
    )
    kept = replace(reader, pair=logistic, pair_threshold=threshold)
    return kept, {"threshold": threshold, **_measure_pairs(kept, words, check)}


def _swapped(rows: Tensor) -> Tensor:
    """The same pairs the other way round."""
    return rows[:, [1, 0, 3, 2, 4, 5, 6]]


def _pair_rows(words: Directions, features: FeatureSet, known: bool = False) -> Tensor:
    """Inputs for both ways of halving each picture (2n, 7), or for the `known` way only (n, 7)."""
    found = []
    for i in range(len(features)):
        picture = features.picture(i)
        whole = class_logits(words, picture.pooled)
        scores = class_logits(words, halves(picture))
        ways = ((2 if i % 2 else 0),) if known else (0, 2)
        found += [pair_inputs(scores[w], scores[w + 1], whole, words.weights) for w in ways]
    return torch.stack(found)


def _place(reader: SceneReader, words: Directions, train: _Part, check: _Part) -> _Fitted:
    if train.photos.patches.shape[-1] != words.weights.shape[-1]:
        return reader, {"skipped": "the encoder's patches are not in the space of its words"}
    best: tuple[float, SceneReader] | None = None
    for spread in (2.0, 4.0, 8.0, 16.0):
        found, true = _centres(words, train.placed, spread)
        gain = fit_gain(found, true)
        error = float(((0.5 + gain * (found - 0.5)) - true).abs().mean())
        if best is None or error < best[0]:
            best = (error, replace(reader, place_gain=gain, place_spread=spread))
    assert best is not None
    kept = best[1]
    found, true = _centres(words, check.placed, kept.place_spread)
    assert kept.place_gain is not None
    return kept, {
        "mean_error_before": float((found - true).abs().mean()),
        "mean_error_after": float(((0.5 + kept.place_gain * (found - 0.5)) - true).abs().mean()),
        "spread": kept.place_spread,
        "gain": [round(v, 3) for v in kept.place_gain.tolist()],
    }


def _centres(words: Directions, features: FeatureSet, spread: float) -> tuple[Tensor, Tensor]:
    """Found and true centres (n, 2) of the things whose word the encoder found."""
    best = class_logits(words, features.pooled).argmax(-1)
    right = (best == features.labels[:, 0]).nonzero().flatten().tolist()
    if len(right) < 2:
        raise FusionError(
            "expected the encoder to find at least two of the placed things, but it found "
            f"{len(right)}; train on more pictures of things that it knows"
        )
    rows = (words.scale * (features.patches[i].float() @ words.weights[best[i]]) for i in right)
    found = torch.stack([centre_of(scores, features.grid, spread) for scores in rows])
    return found, features.centres[right]


def _try_correction(
    options: TrainOptions, words: Directions, train: _Part, check: _Part
) -> dict[str, Any]:
    """Measure whether a low-rank correction of the features would name more unseen pictures.

    It is reported, not shipped: with one picture a class it makes things worse (see the log of the
    shipped adapter), and with a folder where it helps, that is the sign to train the encoder.
    """
    weights, bias = words.scale * words.weights, words.bias
    correction = fit_correction(
        train.photos.pooled,
        train.photos.labels[:, 0],
        weights,
        bias,
        rank=options.correction_rank,
        epochs=options.correction_epochs,
        seed=options.seed,
    )
    rows, labels = check.photos.pooled, check.photos.labels[:, 0]
    before, after = (
        float(((x @ weights.T + bias).argmax(-1) == labels).float().mean())
        for x in (rows, rows + rows @ correction)
    )
    return {"top1_before": before, "top1_after": after, "kept": False}


def measure(reader: SceneReader, words: Directions, part: _Part) -> dict[str, float]:
    """What the reader tells of a part's pictures: shares of 1."""
    figures = {
        "photos_passed": _share_present(reader, words, part.photos),
        "nothing_passed": _share_present(reader, words, part.nothing),
        **calibration(reader, words, part.photos),
    }
    if reader.pair is not None:
        figures |= _measure_pairs(reader, words, part)
    if reader.place_gain is not None:
        figures["placed_field_right"] = _field_right(reader, words, part.placed)
    return figures


def calibration(reader: SceneReader, words: Directions, photos: FeatureSet) -> dict[str, float]:
    """Top-1, and how far told probabilities are from being right (ten bins), before and after."""
    logits, labels = class_logits(words, photos.pooled), photos.labels[:, 0]
    right = (logits.argmax(-1) == labels).double()
    figures = {"top1": float(right.mean())}
    for name, temperature in (("ece_raw", 1.0), ("ece", reader.temperature)):
        sure = (logits / temperature).softmax(-1).max(-1).values.double()
        bins = (sure * 10).long().clamp(max=9)
        gaps = ((sure - right)[bins == b].sum().abs() for b in range(10))
        figures[name] = float(sum(gaps, torch.zeros(()))) / len(photos)
    return figures


def _measure_pairs(reader: SceneReader, words: Directions, part: _Part) -> dict[str, float]:
    """Pairs found as two, both and each named; single photos taken for two."""
    told = both = each = 0
    for i in range(len(part.pairs)):
        things = read_scene(part.pairs.picture(i), words, reader, ("",) * 9).things
        names = [words.names[row] for row in part.pairs.labels[i].tolist()]
        right = [t.guess.name == n for t, n in zip(things, names, strict=False)]
        told += len(things) == 2
        both += len(things) == 2 and all(right)
        each += len({t.guess.name for t in things} & set(names))
    doubled = sum(
        len(read_scene(part.photos.picture(i), words, reader, ("",) * 9).things) == 2
        for i in range(len(part.photos))
    )
    n = len(part.pairs)
    return {
        "pairs_told_as_two": told / n,
        "pairs_both_right": both / n,
        "pair_things_named": each / (2 * n),
        "photos_told_as_two": doubled / len(part.photos),
    }


def _field_right(reader: SceneReader, words: Directions, placed: FeatureSet) -> float:
    """Share of found things whose told field (of nine) is the true one."""
    fields = [str(i) for i in range(9)]
    single = replace(reader, pair=None)
    right = total = 0
    for i in range(len(placed)):
        things = read_scene(placed.picture(i), words, single, fields).things
        if not things or things[0].guess.name != words.names[int(placed.labels[i, 0])]:
            continue
        column, row = (int(v > 1 / 3) + int(v > 2 / 3) for v in placed.centres[i].tolist())
        right += things[0].guess.place == fields[3 * row + column]
        total += 1
    return right / max(1, total)


def _save(
    options: TrainOptions,
    encoder: Encoder,
    decoder: Decoder,
    reader: SceneReader,
    measured: dict[str, float],
) -> None:
    tensors, numbers = reader.to_tensors()
    header = AdapterHeader(
        kind="dictionary",
        encoder=encoder.name,
        encoder_dim=encoder.dim,
        language_model=decoder.name,
        hidden_size=decoder.hidden_size,
        training_data=options.training_data or options.data.name,
        licence=options.licence,
        command=options.command,
        settings={
            "reader": numbers,
            "sharpness": options.sharpness,
            "tokens_per_name": options.tokens_per_name,
            "wording": {},
        },
        measured={key: round(value, 4) for key, value in measured.items()},
    )
    save_adapter(options.output, header, tensors)
