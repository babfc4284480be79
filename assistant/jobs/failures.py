"""What could not be done, and why: listed in a file, line by line as it happens."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from assistant.jobs.files import Recording
from assistant.jobs.outputs import Outputs, Recipe, Stamp, printable

NAME = "failures.jsonl"


@dataclass(frozen=True)
class Failure:
    """One recording that could not be transcribed.

    Attributes:
        audio: its name in the results.
        reason: one sentence.
        made_from: its content and how it was to be recognised: while both stay the same, so does
            the failure.
    """

    audio: str
    reason: str
    made_from: str


class Failures:
    """The failures of the job at hand, and those of the job before.

    During a job each failure is added to the file at once, so that a killed job keeps what it
    knows; at the end the file lists this job's failures alone, in the order of their names.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._file = outputs.folder / NAME
        self._before, torn = _read(self._file)
        self._now: dict[str, Failure] = {}
        if torn:
            outputs.write_text(NAME, _text(self._before.values()))

    def known(self, recording: Recording, recipe: Recipe) -> Failure | None:
        """The failure of an earlier job, if trying again would be trying the same."""
        known = self._before.get(printable(recording.name))
        if known is None or known.made_from != fingerprint(recording, recipe):
            return None
        return known

    def add(self, failure: Failure) -> None:
        """Notes a failure. OSError if the file cannot be written; it is kept all the same."""
        self._now[failure.audio] = failure
        with self._file.open("ab") as file:
            file.write(_text([failure]).encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())

    def __len__(self) -> int:
        return len(self._now)

    def all(self) -> tuple[Failure, ...]:
        """This job's failures, by name."""
        return tuple(self._now[name] for name in sorted(self._now))

    def close(self) -> None:
        """Writes the list as it is at the end of a job; without failures there is none."""
        if self._now:
            self._outputs.write_text(NAME, _text(self.all()))
        else:
            self._file.unlink(missing_ok=True)


def fingerprint(recording: Recording, recipe: Recipe) -> str:
    """Tells a recording's content and recipe apart from others; also where it cannot be read."""
    try:
        stamp = Stamp.of(recording.path)
        content = f"{stamp.size} {stamp.sha256}"
    except OSError as error:
        content = f"unreadable: {error.strerror}"
    text = json.dumps([content, recipe.to_dict(recording)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _text(failures: Iterable[Failure]) -> str:
    return "".join(f"{json.dumps(asdict(failure), ensure_ascii=False)}\n" for failure in failures)


def _read(file: Path) -> tuple[dict[str, Failure], bool]:
    """The failures listed, and whether a line is no whole one, as a killed job may leave it."""
    found: dict[str, Failure] = {}
    torn = False
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            failure = Failure(**json.loads(line))
        except (ValueError, TypeError):
            torn = True
        else:
            found[failure.audio] = failure
    return found, torn
