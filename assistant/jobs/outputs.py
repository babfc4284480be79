"""What a job leaves behind: results that are whole or not there, and that tell what made them."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from assistant.errors import VoxsightError
from assistant.jobs.files import Recording
from audio import subtitles
from audio.asr_batch import BatchOptions
from audio.asr_types import Transcript

Format = Literal["txt", "srt", "vtt"]
Device = Literal["cpu", "cuda"]
FORMATS: tuple[Format, ...] = ("txt", "srt", "vtt")

#: Raised when the same recording would be written down in another way than before.
VERSION = 1
#: How the second line of a result begins; the rest of the line is what it was made from.
_MADE_FROM = '  "made_from": '
_WRITERS = {"txt": subtitles.to_text, "srt": subtitles.to_srt, "vtt": subtitles.to_vtt}


@dataclass(frozen=True)
class Recipe:
    """How recordings are recognised: by which model, with which options."""

    model: str
    model_sha256: str
    device: Device
    options: BatchOptions

    def options_for(self, recording: Recording) -> BatchOptions:
        """The options, with the recording's language where that is known."""
        return replace(self.options, language=recording.language or self.options.language)

    def to_dict(self, recording: Recording) -> dict[str, Any]:
        """What a result depends on, beside the recording's content."""
        return {
            "version": VERSION,
            "audio": printable(recording.name),
            "model": self.model,
            "model_sha256": self.model_sha256,
            "device": self.device,
            "options": json.loads(json.dumps(asdict(self.options_for(recording)))),
        }


@dataclass(frozen=True)
class Stamp:
    """A recording's content; its time of change only spares reading it again."""

    size: int
    sha256: str
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Reads the whole file. OSError if it cannot be read."""
        stat = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(stat.st_size, digest, stat.st_mtime_ns)


def confidence(transcript: Transcript) -> tuple[float | None, int]:
    """The mean probability of the words, None without any, and how many they are."""
    words = [word.probability for segment in transcript.segments for word in segment.words]
    return (round(sum(words) / len(words), 4) if words else None), len(words)


def printable(name: str) -> str:
    """A file's name as text that can be written, whatever bytes it consists of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Outputs:
    """The folder of results: ``NAME.json`` for every recording, and the formats asked for.

    A result tells what it was made from: the recording's size and SHA-256, the model, and the
    options. It is good as long as these are the same. Its own time of change is set to the
    recording's, so that an untouched recording need not be read again to know that; where the
    times differ, the content decides.

    Everything is written into a hidden folder in here and moved to its place when it is whole,
    ``NAME.json`` last: where it is, all is.
    """

    folder: Path
    formats: tuple[Format, ...] = FORMATS

    @property
    def _hidden(self) -> Path:
        return self.folder / ".voxsight"

    @property
    def _scratch(self) -> Path:
        return self._hidden / "partial"

    def open(self) -> FileLock:
        """Readies the folder for one job, and tidies up after one that was killed.

        Returns the lock to hand to ``close``. VoxsightError if nothing can be written here, or
        another job writes.
        """
        lock = FileLock(self._hidden / "lock", timeout=0)
        try:
            self._hidden.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir()
        except Timeout:
            raise VoxsightError(
                f"Another job writes to {self.folder}; wait for it, or name another folder."
            ) from None
        except OSError as error:
            raise VoxsightError(
                f"Cannot write results to {self.folder}: {error.strerror}; name another folder."
            ) from None
        return lock

    def close(self, lock: FileLock) -> None:
        """Leaves nothing but results."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        lock.release()

    def check_seen(self) -> None:
        """VoxsightError on a machine that does not see the folder that the job has opened."""
        if not self._scratch.is_dir():
            raise VoxsightError(
                f"Expected the results' folder {self.folder} on every machine of the cluster, "
                "but one lacks it; name a folder that all of them share."
            )

    def is_done(self, recording: Recording, recipe: Recipe) -> bool:
        """Whether a good result is there, in all formats."""
        places = [self._place(recording, form) for form in self.formats]
        try:
            return all(place.is_file() for place in places) and self._is_good(recording, recipe)
        except OSError:
            return False  # the attempt to make it will tell why

    def _is_good(self, recording: Recording, recipe: Recipe) -> bool:
        place = self._place(recording, "json")
        made_from = _made_from(place)
        stat = recording.path.stat()
        digest = made_from.pop("sha256", None)
        if made_from != {"size": stat.st_size, **recipe.to_dict(recording)}:
            return False
        if stat.st_mtime_ns == place.stat().st_mtime_ns:
            return True
        if Stamp.of(recording.path).sha256 != digest:
            return False
        _set_time(place, stat.st_mtime_ns)
        return True

    def write(
        self, recording: Recording, recipe: Recipe, stamp: Stamp, transcript: Transcript
    ) -> None:
        """Writes all of a result. OSError if that fails."""
        for form in self.formats:
            self._write(self._place(recording, form), _WRITERS[form](transcript))
        made_from = {"size": stamp.size, "sha256": stamp.sha256, **recipe.to_dict(recording)}
        values = {"confidence": confidence(transcript)[0], **subtitles.to_dict(transcript)}
        rest = json.dumps(values, ensure_ascii=False, indent=2)
        text = "{\n" + _MADE_FROM + json.dumps(made_from, ensure_ascii=False) + "," + rest[1:]
        self._write(self._place(recording, "json"), text + "\n", stamp.mtime_ns)

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the job itself. OSError if that fails."""
        self._write(self.folder / name, text)

    def _place(self, recording: Recording, form: str) -> Path:
        return self.folder / f"{recording.name}.{form}"

    def _write(self, place: Path, text: str, mtime_ns: int | None = None) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = self._scratch / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with partial.open("xb") as file:
                file.write(text.encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            if mtime_ns is not None:
                _set_time(partial, mtime_ns)
            partial.replace(place)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _made_from(place: Path) -> dict[str, Any]:
    """What a result says that it was made from; nothing if it is none of ours."""
    try:
        with place.open(encoding="utf-8") as file:
            first, second = file.readline(), file.readline()
        if first != "{\n" or not second.startswith(_MADE_FROM):
            return {}
        found = json.loads(second.removeprefix(_MADE_FROM).rstrip().removesuffix(","))
    except ValueError:
        return {}
    return dict(found) if isinstance(found, Mapping) else {}


def _set_time(place: Path, mtime_ns: int) -> None:
    os.utime(place, ns=(mtime_ns, mtime_ns))
