"""What is made from a verified file and kept in the cache; made anew if it was touched since."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_STAMP = ".derived.json"


def derived_folder(root: Path, source: Path, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` fills from ``source``, made now if it is missing or changed.

    Args:
        root: where derived folders are kept.
        source: the file it is made from; another size or time of change gives another folder.
        make: fills the folder it is given; it must not leave half of it behind.
    """
    stat = source.stat()
    folder = root / f"{source.stem}-{stat.st_size:x}-{stat.st_mtime_ns:x}"
    if _stamp_matches(folder):
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{folder.name}.lock"):
        if not _stamp_matches(folder):  # another process may have made it meanwhile
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            stamp = folder / f"{_STAMP}.partial"
            stamp.write_text(json.dumps(_fingerprint(folder)), encoding="utf-8")
            stamp.replace(folder / _STAMP)
    return folder


def _fingerprint(folder: Path) -> dict[str, list[int]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): [file.stat().st_size, file.stat().st_mtime_ns]
        for file in files
        if not file.name.startswith(_STAMP)
    }


def _stamp_matches(folder: Path) -> bool:
    try:
        noted = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(noted == _fingerprint(folder))
