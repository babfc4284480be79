"""Which recordings a job is about, and what their results are called."""

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import av
import soundfile

from assistant.errors import ConfigError
from assistant.jobs import manifest

#: What is taken from a folder; a file that is named, or matched by a pattern, may end in anything.
ENDINGS = frozenset(
    {
        *(".aac", ".aif", ".aifc", ".aiff", ".avi", ".flac", ".m4a", ".m4b", ".m4v", ".mka"),
        *(".mkv", ".mov", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm"),
    }
)
_DEMUXERS = {
    "avi": (".avi",),
    "matroska": (".mkv", ".webm", ".mka"),
    "mov": (".mp4", ".m4a", ".m4b", ".m4v", ".mov"),
}
#: Of a recording whose header tells no length: that of compressed speech.
_BYTES_PER_S = 16_000


@dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        path: where it is, absolute.
        name: what its results are called, before their endings: a relative path.
        language: the one that is spoken, where a manifest tells it.
    """

    path: Path
    name: str
    language: str | None = None


class Library:
    """The recordings that files, folders, patterns and manifests name, read as they are needed.

    A result is called as its recording, ending included, so that ``a.wav`` and ``a.mp3`` do not
    meet: ``a.wav.json`` and ``a.mp3.json``. The folder in front is the recording's, seen from the
    deepest folder that holds all that is named: of one folder its own tree; of two, each under
    its name. What a manifest names elsewhere is put under ``elsewhere/`` and a hash of the path
    as the manifest has it. Where a manifest gives ids, these are the names.

    Folders are searched to the bottom, links to folders not followed, hidden files passed over.

    Raises:
        ConfigError: a manifest is wrong, or a folder or a pattern holds no recording.
    """

    def __init__(self, named: Sequence[Path]) -> None:
        if not named:
            raise ConfigError("Expected recordings, got none; name files, a folder or a manifest.")
        self._named = [_absolute(path) for path in named]
        lists = {path: manifest.check(path) for path in self._named if _is_manifest(path)}
        if any(facts.with_ids for facts in lists.values()) and len(self._named) > 1:
            raise ConfigError(
                "Expected a manifest with ids by itself, as its ids could meet the names of other "
                "recordings; transcribe the others into a folder of their own."
            )
        #: Languages that manifests tell.
        self.languages = frozenset[str]().union(*(facts.languages for facts in lists.values()))
        self._root = Path(os.path.commonpath([_anchor(path) for path in self._named]))
        for path in self._named:
            if next(self._of(path), None) is None:
                raise ConfigError(f"Expected recordings in {path}, found none; check the name.")

    def __iter__(self) -> Iterator[Recording]:
        for path in self._named:
            yield from self._of(path)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _of(self, named: Path) -> Iterator[Recording]:
        if _is_manifest(named):
            for line in manifest.read_lines(named):
                path = _absolute(named.parent / line.audio)
                yield Recording(path, line.id or self._name(path, line.audio), line.language)
        elif named.is_dir():
            yield from (Recording(path, self._name(path)) for path in _below(named))
        elif _is_pattern(named):
            for found in glob.iglob(str(named), recursive=True):  # noqa: PTH207, hidden ones are not
                path = _absolute(Path(found))
                if path.is_file():
                    yield Recording(path, self._name(path))
        else:
            yield Recording(named, self._name(named))

    def _name(self, path: Path, written: str = "") -> str:
        if path.is_relative_to(self._root):
            return path.relative_to(self._root).as_posix()
        digest = hashlib.sha256(written.encode(errors="surrogatepass")).hexdigest()
        return str(PurePosixPath("elsewhere", digest[:12], path.name))


def is_collection(named: Path) -> bool:
    """Whether this is a folder, a pattern or a manifest, and not a recording itself."""
    return named.is_dir() or _is_manifest(named) or _is_pattern(named)


def _is_manifest(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl" and not path.is_dir()


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _absolute(path: Path) -> Path:
    """Without links followed, so that a recording keeps the name that it was given."""
    return Path(os.path.normpath(path.absolute()))


def _anchor(path: Path) -> Path:
    """The folder from which a recording's name is told."""
    if path.is_dir():
        return path
    parts = path.parent.parts
    if _is_pattern(path):
        magic = (i for i, part in enumerate(parts) if glob.has_magic(part))
        parts = parts[: next(magic, len(parts))]
    return Path(*parts)


def _below(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in ENDINGS and not name.startswith("."):
                yield Path(at, name)


def length_s(path: Path) -> float:
    """About how long a recording is, told without decoding it; 0 for what cannot be read.

    Only for sharing out the work and for telling how much is left.
    """
    try:
        return float(soundfile.info(os.fsencode(path)).duration)
    except (soundfile.LibsndfileError, OSError, TypeError):  # the last for a name such as a.raw
        pass
    try:
        return _container_length_s(path) or path.stat().st_size / _BYTES_PER_S
    except OSError:
        return 0.0


def _container_length_s(path: Path) -> float:
    # The demuxer is named, as another might follow what it reads to other files.
    for demuxer, endings in _DEMUXERS.items():
        if path.suffix.lower() in endings:
            try:
                with av.open(str(path), format=demuxer, metadata_errors="ignore") as container:
                    return _seconds(container)
            except (av.FFmpegError, ValueError):
                return 0.0
    return 0.0


def _seconds(container: Any) -> float:
    return float(container.duration or 0) / av.time_base
