"""A list of recordings in JSON Lines: one object a line with audio, and maybe language and id."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.errors import ConfigError

_KEYS = ("audio", "language", "id")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
#: Segments of a path, none of which can lead out of a folder or be hidden in it.
_ID = re.compile(r"[\w][\w ,+=@.-]*(/[\w][\w ,+=@.-]*)*")
_LONGEST_ID = 200


@dataclass(frozen=True)
class Line:
    """One line: a recording as it is written, and what is said about it."""

    audio: str
    language: str | None
    id: str | None


@dataclass(frozen=True)
class Facts:
    """What all lines of a manifest say together."""

    lines: int
    languages: frozenset[str]
    with_ids: bool


def read_lines(file: Path) -> Iterator[Line]:
    """The lines, checked one by one; empty ones are passed over. ConfigError names the line."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, text in enumerate(lines, start=1):
                if text.strip():
                    yield _line(text, f"line {number} of {file}")
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"Cannot read the manifest {file}: {error.strerror}.") from None


def check(file: Path) -> Facts:
    """Reads all of it once, so that a job does not begin with a list that is wrong further down.

    Raises:
        ConfigError: a wrong line, no line, ids for some lines only, or a recording twice where
            its results would have the same name.
    """
    seen: set[bytes] = set()  # 16 bytes each, whatever the names are
    languages: set[str] = set()
    with_ids = 0
    for line in read_lines(file):
        name = line.id if line.id is not None else os.path.normpath(line.audio)
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in seen:
            what = "id" if line.id is not None else "recording"
            raise ConfigError(f"{file} lists the {what} {name!r} twice; give each line its own id.")
        seen.add(digest)
        with_ids += line.id is not None
        languages |= {line.language} if line.language else set()
    if not seen:
        raise ConfigError(f"Expected one recording a line in {file}, but it is empty.")
    if with_ids not in (0, len(seen)):
        raise ConfigError(
            f"{with_ids} of {len(seen)} lines of {file} have an id; give one to all, or to none."
        )
    return Facts(len(seen), frozenset(languages), bool(with_ids))


def _line(text: str, where: str) -> Line:
    try:
        values = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f'Expected an object such as {{"audio": "a.wav"}} in {where}.')
    for key, value in values.items():
        if key not in _KEYS:
            raise ConfigError(f"{where} has the key {key!r}; expected {', '.join(_KEYS)}.")
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ConfigError(f"Expected text as {key!r} in {where}, got {value!r}.")
    if "audio" not in values:
        raise ConfigError(f"{where} lacks the key 'audio'; name the recording.")
    return Line(values["audio"], _language(values, where), _id(values, where))


def _language(values: dict[str, str], where: str) -> str | None:
    language = values.get("language")
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise ConfigError(f"Expected a code such as en or de in {where}, got {language!r}.")
    return language


def _id(values: dict[str, str], where: str) -> str | None:
    name = values.get("id")
    if name is not None and (not _ID.fullmatch(name) or len(name.encode()) > _LONGEST_ID):
        raise ConfigError(
            f"Expected an id that can name a file (letters, digits, - _ . and / for folders, up "
            f"to {_LONGEST_ID} bytes) in {where}, got {name!r}."
        )
    return name


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key comes twice")
    return values
