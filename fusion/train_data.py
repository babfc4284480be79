"""Finds the labelled pictures of a folder and splits them once and for all."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import FusionError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Example:
    """One picture and what it shows; `index` is its class number where the folder numbers them."""

    path: Path
    label: str
    index: int | None = None


@dataclass(frozen=True)
class Split:
    """`train` to fit on, `validation` to choose with, `held_out` to measure on, never touched."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    held_out: tuple[Example, ...]


def read_examples(folder: Path) -> list[Example]:
    """The labelled pictures of `folder`, in the order of their names.

    Understood, in this order: `labels.tsv` (columns file, label), `classes.tsv` (columns index,
    name; pictures are called NNN.jpg by index), and one subfolder for each class. FusionError if
    none of them gives a picture.
    """
    if (folder / "labels.tsv").is_file():
        found = _from_labels(folder)
    elif (folder / "classes.tsv").is_file():
        found = _from_classes(folder)
    else:
        found = [
            Example(path, path.parent.name.replace("_", " "))
            for path in sorted(folder.glob("*/*"))
            if path.suffix.lower() in _SUFFIXES
        ]
    if not found:
        raise FusionError(
            f"expected labelled pictures in {folder} (labels.tsv, classes.tsv with NNN.jpg, or a "
            "subfolder for each class), but found none; give another folder"
        )
    return found


def _rows(path: Path, *columns: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = (line for line in file if not line.startswith("#"))
            reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if missing := [c for c in columns if c not in (reader.fieldnames or ())]:
                raise FusionError(
                    f"expected the columns {', '.join(columns)} in {path}, but {missing[0]} is "
                    "missing; correct its first line"
                )
            return [{c: row[c] or "" for c in columns} for row in reader]
    except (OSError, UnicodeDecodeError) as problem:
        raise FusionError(f"expected a table in {path}, but {problem}; correct it") from None


def _from_labels(folder: Path) -> list[Example]:
    rows = _rows(folder / "labels.tsv", "file", "label")
    examples = [Example(folder / row["file"], row["label"]) for row in rows if row["label"]]
    if gone := [example.path for example in examples if not example.path.is_file()]:
        raise FusionError(
            f"expected the picture {gone[0]} that labels.tsv names, but it is not there; "
            "add it or take out its line"
        )
    return sorted(examples, key=lambda example: example.path.name)


def _from_classes(folder: Path) -> list[Example]:
    names = {
        int(row["index"]): row["name"] for row in _rows(folder / "classes.tsv", "index", "name")
    }
    numbered = [
        (path, int(path.stem))
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _SUFFIXES and path.stem.isdecimal()
    ]
    return [Example(path, names[index], index) for path, index in numbered if index in names]


def split_examples(
    examples: Sequence[Example], *, held_out: int = 160, validation: float = 0.2, seed: int = 0
) -> Split:
    """Split by a hash of each picture's name, so that the same folder always gives the same split.

    `held_out` pictures are set aside, then the share `validation` of the rest. FusionError if less
    than ten pictures would remain to train on.
    """

    def place(example: Example) -> str:
        name = f"{example.path.parent.name}/{example.path.name}"
        return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    ordered = sorted(examples, key=place)
    rest = ordered[held_out:]
    cut = round(len(rest) * validation)
    if len(rest) - cut < 10:
        raise FusionError(
            f"expected at least 10 pictures to train on beside {held_out} held out, but "
            f"{len(ordered)} are there; add pictures or hold out fewer"
        )
    return Split(tuple(rest[cut:]), tuple(rest[:cut]), tuple(ordered[:held_out]))


def class_rows(examples: Sequence[Example], names: Sequence[str]) -> list[int]:
    """Which of the encoder's words each picture shows; FusionError for a label that is none.

    The folder's own numbers count where they fit the encoder's words one to one, because different
    tables spell the same class differently.
    """
    if all(e.index is not None and e.index < len(names) for e in examples) and len(names) >= 1000:
        return [int(e.index) for e in examples if e.index is not None]
    known = {name.casefold(): row for row, name in reversed(list(enumerate(names)))}
    unknown = [e for e in examples if e.label.casefold() not in known]
    if unknown:
        raise FusionError(
            f"expected labels among the encoder's {len(names)} words, but {unknown[0].path.name} "
            f"is labelled {unknown[0].label!r}; rename it, or use an encoder with open vocabulary"
        )
    return [known[e.label.casefold()] for e in examples]
