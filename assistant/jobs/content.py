"""Results of stages on disk, each under the hash of what it was made from: made once, whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EACCES, EDQUOT, ENOSPC, EPERM, EROFS
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from filelock import FileLock
from pydantic import JsonValue

from assistant.errors import VoxsightError

#: Raise a stage's number when the same inputs shall give another result.
STAGE_VERSIONS: Mapping[str, int] = MappingProxyType(
    {
        "extract": 1,
        "separate": 1,
        "piece": 1,  # of the hearing: a language or words that need not be heard again
        "transcribe": 1,
        "speakers": 1,
        "segment": 1,
        "translate": 2,
        "fit": 5,
        "speak": 5,
        "mix": 1,
        "mux": 1,
    }
)

_KEY_LENGTH = 24  # of 64 hexadecimal digits: 96 bits
_MANIFEST = "manifest.json"
_JOURNAL = "journal.jsonl"
_LOCKS = ".locks"
# What the owner of the disk can mend; any other OSError is a fault in a stage and stays one.
_NO_ROOM = frozenset({ENOSPC, EDQUOT, EROFS, EACCES, EPERM})
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Result:
    """A finished stage: its key goes into the inputs of the next one; its files are in `folder`."""

    stage: str
    key: str
    folder: Path


class Results:
    """Results of stages in one folder, shared safely by processes and outliving their death.

    A result is made in a folder of its own, flushed to the disk with a manifest of its files'
    sha256, and then renamed: it is there whole or not at all. A result whose files no longer fit
    its manifest is made anew.
    """

    def __init__(self, folder: Path) -> None:
        """Keep results in `folder`, which is made when it is missing."""
        self.folder = Path(folder)
        self._noted: set[tuple[str, str]] = set()

    def get(
        self, stage: str, inputs: Mapping[str, JsonValue], make: Callable[[Path], None]
    ) -> Result:
        """The result of `stage` on `inputs`; `make(folder)` writes its files if there is none yet.

        The inputs must name everything that the result depends on. An error of `make` passes
        through and leaves nothing. Raises VoxsightError for an unknown stage, inputs that are not
        JSON, and a disk that is full or cannot be written.
        """
        result = self.result(stage, inputs)
        with _writing(self.folder):
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / _LOCKS / f"{stage}-{result.key}"):
                if not is_whole(result.folder):
                    self._make(result, make)
                elif not self._is_noted(result):  # its maker died between the two
                    self._note(result)
        return result

    def result(self, stage: str, inputs: Mapping[str, JsonValue]) -> Result:
        """Where the result of `stage` on `inputs` is or would be; nothing is made."""
        if stage not in STAGE_VERSIONS:
            known = ", ".join(STAGE_VERSIONS)
            raise VoxsightError(f"Expected one of the stages {known}, got {stage!r}.")
        key = _key({"stage": stage, "version": STAGE_VERSIONS[stage], "inputs": dict(inputs)})
        return Result(stage, key, self.folder / stage / key)

    def journal(self) -> list[tuple[str, str]]:
        """Stage and key of everything that was ever made here, in order; damaged lines skipped."""
        try:
            lines = (self.folder / _JOURNAL).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [entry for line in lines if (entry := _entry(line))]

    def _make(self, result: Result, make: Callable[[Path], None]) -> None:
        parent = result.folder.parent
        parent.mkdir(exist_ok=True)
        # Under the lock of this key whatever lies here for it was left by a process that died.
        for left in parent.glob(f".{result.key}-*"):
            shutil.rmtree(left)
        scratch = parent / f".{result.key}-{uuid4().hex}"
        scratch.mkdir()
        try:
            make(scratch)
            write_json(scratch / _MANIFEST, {"files": dict(_hashes(scratch))})
            _flush(scratch)
            if result.folder.exists():  # damaged
                result.folder.replace(scratch.with_name(f"{scratch.name}-old"))
            scratch.replace(result.folder)
        finally:
            for left in parent.glob(f".{result.key}-*"):
                shutil.rmtree(left, ignore_errors=True)
        _flush_entry(parent)
        self._note(result)

    def _is_noted(self, result: Result) -> bool:
        entry = (result.stage, result.key)
        if entry not in self._noted:
            self._noted.update(self.journal())
        return entry in self._noted

    def _note(self, result: Result) -> None:
        line = json.dumps({"stage": result.stage, "key": result.key}) + "\n"
        # One write to a file opened for appending: lines of several processes do not mix.
        with (self.folder / _JOURNAL).open("ab", buffering=0) as file:
            file.write(line.encode())
            os.fsync(file.fileno())
        self._noted.add((result.stage, result.key))


def is_whole(folder: Path) -> bool:
    """Whether a result's folder holds exactly the files of its manifest, byte for byte."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("files") == dict(_hashes(folder))


def canonical_json(value: JsonValue) -> str:
    """The one way to write a value: sorted keys, no spaces, no NaN.

    Raises VoxsightError for what is not JSON.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise VoxsightError(f"Expected a value that can be written as JSON, but {error}.") from None


def write_json(path: Path, value: JsonValue) -> None:
    """Write a value to a file of a stage, readable and always the same bytes."""
    canonical_json(value)
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote. Raises VoxsightError for a file that is absent or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise VoxsightError(
            f"Cannot read {path}: {error}; delete its folder, and it is made anew."
        ) from None


def file_sha256(path: Path) -> str:
    """The sha256 of a file, for the inputs of the stage that reads it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _key(value: JsonValue) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:_KEY_LENGTH]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.name != _MANIFEST)


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for file in _files(folder):
        yield file.relative_to(folder).as_posix(), file_sha256(file)


def _flush(folder: Path) -> None:
    """Everything under the folder onto the disk, so that a rename never outruns the bytes."""
    for path in [*folder.rglob("*"), folder]:
        _flush_entry(path)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entry(line: str) -> tuple[str, str] | None:
    try:
        noted = json.loads(line)
        return str(noted["stage"]), str(noted["key"])
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise VoxsightError(
            f"Cannot write results into {folder}: {error.strerror}; "
            "free some space, or name another folder."
        ) from error
