"""The words that go with a classifier's rows: one name to say and the synonyms to accept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vision.errors import VisionError

_HEADER = ("index", "wnid", "name", "synonyms")


@dataclass(frozen=True)
class ClassName:
    """One class: its WordNet id, the name to say, and other names for the same thing."""

    wnid: str
    name: str
    synonyms: tuple[str, ...] = ()


def read_class_names(path: Path) -> tuple[ClassName, ...]:
    """Read a table with the columns index, wnid, name, synonyms (separated by `|`).

    Lines starting with `#` are comments. Raises VisionError unless the indices run from 0 upward.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VisionError(f"Cannot read the class names in {path}: {error}.") from error
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    if not rows or tuple(rows[0]) != _HEADER:
        raise VisionError(
            f"Expected a table with the columns {', '.join(_HEADER)} in {path}; "
            "restore the file that came with the program."
        )
    return tuple(_class_name(row, index, path) for index, row in enumerate(rows[1:]))


def _class_name(row: list[str], index: int, path: Path) -> ClassName:
    if len(row) != len(_HEADER) or row[0] != str(index) or not row[2]:
        raise VisionError(
            f"Expected class {index} with {len(_HEADER)} columns in {path}, found {row!r}; "
            "restore the file that came with the program."
        )
    return ClassName(row[1], row[2], tuple(word for word in row[3].split("|") if word))


def find_classes(classes: tuple[ClassName, ...], wanted: tuple[str, ...]) -> list[int]:
    """Return the row of each wanted word, a class's own name going before a synonym.

    Case is ignored; of several classes with one name the first counts. Raises VisionError for a
    word that names no class.
    """
    rows: dict[str, int] = {}
    for index, entry in enumerate(classes):
        rows.setdefault(entry.name.casefold(), index)
    for index, entry in enumerate(classes):
        for synonym in entry.synonyms:
            rows.setdefault(synonym.casefold(), index)
    unknown = [word for word in wanted if word.casefold() not in rows]
    if unknown:
        raise VisionError(
            f"This classifier has no class {unknown[0]!r}: its {len(classes)} classes are fixed; "
            "choose names from its list, or use a CLIP encoder, whose vocabulary is open."
        )
    return [rows[word.casefold()] for word in wanted]
