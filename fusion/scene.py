"""Reads a scene from class scores: is anything there, how sure, where, and is there a second one.

The numbers that this takes are few, and `fusion.train` fits them on pictures with known labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fusion.adapter import Directions, Guess, ImageFeatures
from fusion.errors import FusionError


def class_logits(directions: Directions, rows: Tensor) -> Tensor:
    """Scores (..., c) of features (..., p) for every word."""
    return directions.scale * (rows @ directions.weights.T) + directions.bias


@dataclass(frozen=True, eq=False)
class Logistic:
    """Logistic regression: probability = sigmoid(weight . (x - mean) / std + bias)."""

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def probability(self, inputs: Tensor) -> Tensor:
        """Map inputs (..., k) to probabilities (...)."""
        return torch.sigmoid(((inputs - self.mean) / self.std) @ self.weight + self.bias)


def presence_inputs(directions: Directions, pooled: Tensor, patches: Tensor) -> Tensor:
    """Map features (..., p) and patches (..., n, d) to what tells a thing from nothing, (..., 2).

    The best score that any word has at any cell, and the entropy of the whole picture's scores in
    nats. On 128 validation photos and 250 pictures of nothing these two pass all photos and 3 % of
    nothing. The energy (log-sum-exp of the scores, Liu et al., arXiv:2010.03759) with the best
    score and its probability passes 95 % of the photos at the same 3 %; the feature's length tells
    nothing. An encoder whose patches are not in the space of its words gives its best score for
    the whole picture instead.
    """
    logits = class_logits(directions, pooled)
    shares = logits.log_softmax(-1)
    entropy = -(shares.exp() * shares).sum(-1)
    if patches.shape[-1] == directions.weights.shape[1]:
        best = class_logits(directions, patches).amax((-2, -1))
    else:
        best = logits.amax(-1)
    return torch.stack((best, entropy), dim=-1)


def halves(features: ImageFeatures) -> Tensor:
    """Mean features of the left, right, top and bottom part, (4, d); the middle is left out."""
    rows, cols = features.grid
    cells = features.patches.view(rows, cols, -1)
    r, c = max(1, rows * 3 // 7), max(1, cols * 3 // 7)
    parts = (cells[:, :c], cells[:, -c:], cells[:r], cells[-r:])
    return torch.stack([part.mean((0, 1)) for part in parts])


def pair_inputs(first: Tensor, second: Tensor, whole: Tensor, weights: Tensor) -> Tensor:
    """Map the scores (c,) of both halves and the whole to what tells two things from one, (7,).

    How sure each half is, what each gives the other's word, how sure the whole is and what it
    gives both words, and how alike the two words' directions are.
    """
    logs = [scores.log_softmax(-1) for scores in (first, second, whole)]
    a, b = int(first.argmax()), int(second.argmax())
    alike = torch.cosine_similarity(weights[a], weights[b], dim=0)
    parts = (logs[0][a], logs[1][b], logs[0][b], logs[1][a], logs[2].max(), logs[2][[a, b]].max())
    return torch.stack((*parts, alike))


def centre_of(scores: Tensor, grid: tuple[int, int], spread: float) -> Tensor:
    """Where one word's score lies: (x, y) in 0..1 from scores (n,) of the cells."""
    share = (scores / spread).softmax(-1).view(grid)
    x = (torch.arange(grid[1]) + 0.5) / grid[1]
    y = (torch.arange(grid[0]) + 0.5) / grid[0]
    return torch.stack(((share.sum(0) * x).sum(), (share.sum(1) * y).sum()))


@dataclass(frozen=True, eq=False)
class SceneReader:
    """The fitted numbers. Without them (None), that part of the scene is not told.

    `temperature`: divides scores so that probabilities mean what they say. `presence`: is anything
    there; where it was not fitted, a best probability of `least_probability` is asked. `pair`: are
    there two things. `place_gain` (2,): from the spread-out centre to the thing's own centre.
    """

    temperature: float = 1.0
    least_probability: float = 0.25
    presence: Logistic | None = None
    presence_threshold: float = 0.5
    pair: Logistic | None = None
    pair_threshold: float = 0.5
    place_gain: Tensor | None = None
    place_spread: float = 4.0

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Tensors and plain settings, as an adapter file stores them."""
        tensors: dict[str, Tensor] = {}
        settings: dict[str, object] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Logistic):
                tensors |= {f"{entry.name}.{p.name}": getattr(value, p.name) for p in fields(value)}
            elif isinstance(value, Tensor):
                tensors[entry.name] = value
            elif value is not None:
                settings[entry.name] = value
        return tensors, settings

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], settings: dict[str, object]) -> SceneReader:
        """Rebuild what `to_tensors` gave; FusionError if something is missing."""
        try:
            parts: dict[str, object] = {k: float(str(v)) for k, v in settings.items()}
            for name in ("presence", "pair"):
                if f"{name}.weight" in tensors:
                    parts[name] = Logistic(
                        *(tensors[f"{name}.{entry.name}"] for entry in fields(Logistic))
                    )
            parts["place_gain"] = tensors.get("place_gain")
            return cls(**parts)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as problem:
            raise FusionError(
                f"expected the numbers of a scene reader, but {problem} does not fit; "
                "train the adapter again"
            ) from None


@dataclass(frozen=True, eq=False)
class Thing:
    """One thing found: its scores (c,) for all words, the best word, how sure, and where."""

    logits: Tensor
    guess: Guess


@dataclass(frozen=True, eq=False)
class Scene:
    """The things to tell (none if the picture resembles nothing) and all good guesses."""

    things: tuple[Thing, ...]
    guesses: tuple[Guess, ...]


def read_scene(
    features: ImageFeatures, directions: Directions, reader: SceneReader, places: Sequence[str]
) -> Scene:
    """Find the one or two things in a picture.

    `places` names nine fields row by row, from the top left to the bottom right.
    """
    logits = class_logits(directions, features.pooled)
    guesses = best_guesses(directions.names, logits, reader.temperature)
    if not _is_present(directions, features, reader, guesses):
        return Scene((), guesses)
    if (pair := _find_pair(features, directions, reader, logits, places)) is not None:
        return Scene(pair, tuple(thing.guess for thing in pair))
    place = _place(features, directions, reader, int(logits.argmax()), places)
    first = Guess(guesses[0].name, guesses[0].probability, place)
    return Scene((Thing(logits, first),), (first, *guesses[1:]))


def best_guesses(
    names: Sequence[str], logits: Tensor, temperature: float, count: int = 5
) -> tuple[Guess, ...]:
    """The `count` most likely words with calibrated probabilities; words that occur twice add."""
    probabilities = (logits / temperature).softmax(-1)
    top = probabilities.topk(min(2 * count, len(names)))
    found: dict[str, float] = {}
    for value, index in zip(top.values.tolist(), top.indices.tolist(), strict=True):
        found[names[index]] = found.get(names[index], 0.0) + value
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return tuple(Guess(name, value) for name, value in ordered[:count])


def _is_present(
    directions: Directions,
    features: ImageFeatures,
    reader: SceneReader,
    guesses: tuple[Guess, ...],
) -> bool:
    if reader.presence is None:
        return guesses[0].probability >= reader.least_probability
    inputs = presence_inputs(directions, features.pooled, features.patches)
    return float(reader.presence.probability(inputs)) >= reader.presence_threshold


def _place(
    features: ImageFeatures,
    directions: Directions,
    reader: SceneReader,
    word: int,
    places: Sequence[str],
) -> str:
    """Which of nine fields the word's centre is in, or "" if the encoder's cells cannot tell."""
    if reader.place_gain is None:
        return ""
    scores = directions.scale * (features.patches @ directions.weights[word])
    centre = centre_of(scores, features.grid, reader.place_spread)
    x, y = (0.5 + reader.place_gain * (centre - 0.5)).tolist()
    column, row = (int(value > 1 / 3) + int(value > 2 / 3) for value in (x, y))
    return places[3 * row + column]


def _find_pair(
    features: ImageFeatures,
    directions: Directions,
    reader: SceneReader,
    whole: Tensor,
    places: Sequence[str],
) -> tuple[Thing, Thing] | None:
    """Two different things side by side or one above the other, if that is likely."""
    if reader.pair is None:
        return None
    scores = class_logits(directions, halves(features))
    best: tuple[float, int] = (reader.pair_threshold, -1)
    for start in (0, 2):
        one, other = scores[start], scores[start + 1]
        if directions.names[int(one.argmax())] == directions.names[int(other.argmax())]:
            continue
        chance = reader.pair.probability(pair_inputs(one, other, whole, directions.weights))
        best = max(best, (float(chance), start))
    if best[1] < 0:
        return None
    fields_of = {0: (3, 5), 2: (1, 7)}[best[1]]
    first, second = (
        Thing(scores[row], _guess(directions, scores[row], reader, places[field]))
        for row, field in zip((best[1], best[1] + 1), fields_of, strict=True)
    )
    return first, second


def _guess(directions: Directions, logits: Tensor, reader: SceneReader, place: str) -> Guess:
    top = best_guesses(directions.names, logits, reader.temperature, 1)[0]
    return Guess(top.name, top.probability, place)
