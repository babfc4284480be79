"""Computes an encoder's features of the training pictures once, and keeps them on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusion.adapters import Encoder
from fusion.train_data import Example
from fusion.train_pictures import blurred, nothing_picture, placed, side_by_side

#: Called with the name of the stage, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of many pictures: `pooled` (n, p), `patches` (n, m, d) of `grid`, and what is known.

    `labels` (n, 2): the classes in a picture, -1 for none; `centres` (n, 2): where the thing is.
    """

    pooled: Tensor
    patches: Tensor
    grid: tuple[int, int]
    labels: Tensor
    centres: Tensor
    encoder: str

    def __len__(self) -> int:
        return int(self.pooled.shape[0])

    def picture(self, index: int) -> PictureFeatures:
        """The features of one picture, as the encoder gave them."""
        return PictureFeatures(
            self.patches[index].float(), self.pooled[index], self.grid, self.encoder
        )


@dataclass(frozen=True, eq=False)
class PictureFeatures:
    """One picture of a set (an `ImageFeatures`)."""

    patches: Tensor
    pooled: Tensor
    grid: tuple[int, int]
    encoder: str


@dataclass(frozen=True, eq=False)
class _Sample:
    image: Image.Image
    labels: tuple[int, int] = (-1, -1)
    centre: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True, eq=False)
class SetMaker:
    """Makes feature sets of one split part, reading them back where they are already on disk."""

    encoder: Encoder
    read_image: Callable[[Path], Image.Image]
    folder: Path
    seed: int
    progress: Progress

    def photos(self, part: str, examples: Sequence[Example], rows: Sequence[int]) -> FeatureSet:
        """The photos as they are."""

        def samples() -> Iterator[_Sample]:
            for example, row in zip(examples, rows, strict=True):
                yield _Sample(self.read_image(example.path), (row, -1))

        return self._set(f"{part}-photos", examples, rows, samples, len(examples))

    def nothing(self, part: str, examples: Sequence[Example], count: int) -> FeatureSet:
        """`count` pictures of nothing and a quarter as many photos that are out of focus."""

        def samples() -> Iterator[_Sample]:
            random = self._random(f"{part}-nothing")
            for _ in range(count):
                yield _Sample(nothing_picture(random))
            for i in range(count // 4):
                photo = self.read_image(examples[i % len(examples)].path)
                yield _Sample(blurred(photo, random))

        return self._set(f"{part}-nothing", examples, [count], samples, count + count // 4)

    def pairs(self, part: str, examples: Sequence[Example], rows: Sequence[int]) -> FeatureSet:
        """Each photo beside (even places) or above (odd places) another one of the same part."""

        def samples() -> Iterator[_Sample]:
            order = self._random(f"{part}-pairs").permutation(len(examples))
            for i, (first, second) in enumerate(zip(order, np.roll(order, 1), strict=True)):
                images = [self.read_image(examples[int(k)].path) for k in (first, second)]
                labels = (rows[int(first)], rows[int(second)])
                yield _Sample(side_by_side(images[0], images[1], bool(i % 2)), labels)

        return self._set(f"{part}-pairs", examples, rows, samples, len(examples))

    def placed(self, part: str, examples: Sequence[Example], rows: Sequence[int]) -> FeatureSet:
        """Each photo, small, somewhere on a blurred other one."""

        def samples() -> Iterator[_Sample]:
            random = self._random(f"{part}-placed")
            for i, row in enumerate(rows):
                ground = self.read_image(examples[int(random.integers(len(examples)))].path)
                image, centre = placed(self.read_image(examples[i].path), ground, random)
                yield _Sample(image, (row, -1), centre)

        return self._set(f"{part}-placed", examples, rows, samples, len(examples))

    def _random(self, name: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))

    def _set(
        self,
        name: str,
        examples: Sequence[Example],
        known: Sequence[int],
        samples: Callable[[], Iterator[_Sample]],
        total: int,
    ) -> FeatureSet:
        """Read the set `name` or make it; another seed, encoder or list of pictures is another."""
        listed = "\n".join(f"{e.path.name}:{e.path.stat().st_size}" for e in examples)
        key = f"{self.encoder.name}\n{self.seed}\n{list(known)}\n{listed}"
        path = self.folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.safetensors"
        if (found := _read_set(path, self.encoder.name)) is not None:
            self.progress(name, total, total)
            return found
        made = self._encode(name, samples(), total)
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: getattr(made, k).contiguous() for k in ("pooled", "labels", "centres")}
        tensors |= {"patches": made.patches.contiguous(), "grid": torch.tensor(made.grid)}
        save_file(tensors, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        return made

    def _encode(self, name: str, samples: Iterator[_Sample], total: int) -> FeatureSet:
        columns: dict[str, list[Any]] = {"pooled": [], "patches": [], "labels": [], "centres": []}
        grid = (0, 0)
        for done, sample in enumerate(samples, 1):
            features = self.encoder.encode(sample.image)
            grid = features.grid
            columns["pooled"].append(features.pooled)
            columns["patches"].append(features.patches.half())  # a quarter of a GB otherwise
            columns["labels"].append(torch.tensor(sample.labels))
            columns["centres"].append(torch.tensor(sample.centre))
            self.progress(name, done, total)
        stacked = {key: torch.stack(values) for key, values in columns.items()}
        return FeatureSet(**stacked, grid=grid, encoder=self.encoder.name)


def _read_set(path: Path, encoder: str) -> FeatureSet | None:
    """A set from an earlier run; one that cannot be read is made again."""
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        rows, columns = tensors.pop("grid").tolist()
        return FeatureSet(**tensors, grid=(rows, columns), encoder=encoder)
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
