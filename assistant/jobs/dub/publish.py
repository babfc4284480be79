"""What a finished dub leaves beside its stages; each file is whole or as it was."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import JsonValue

from assistant.jobs.dub.captions import to_srt, to_vtt, transcript_of
from assistant.jobs.dub.picture import draw
from assistant.jobs.dub.report import DubReport

REPORT_FILE, LINES_FILE, PICTURE_FILE = "report.json", "lines.json", "timeline.png"
SRT_FILE, VTT_FILE = "subtitles.srt", "subtitles.vtt"


def publish(report: DubReport, made: Path, sounds: tuple[Path, Path], lines: JsonValue) -> None:
    """Write the dub's folder, and at last the dub itself.

    Args:
        report: the finished job.
        made: the muxed file among the stages.
        sounds: the original's and the mix, for the picture.
        lines: what lines.json shall hold.
    """
    folder = report.folder
    transcript = transcript_of(report.lines, report.language)
    write_beside(folder / SRT_FILE, to_srt(transcript).encode())
    write_beside(folder / VTT_FILE, to_vtt(transcript).encode())
    write_beside(folder / LINES_FILE, _json(lines))
    write_beside(folder / REPORT_FILE, _json(report.to_dict()))
    picture = draw(report, *sounds)
    replace_with(folder / PICTURE_FILE, lambda path: picture.save(path, "PNG"))
    replace_with(report.out, lambda path: _copy(made, path))


def write_beside(path: Path, data: bytes) -> None:
    """Write a file that is whole or as it was."""
    replace_with(path, lambda beside: beside.write_bytes(data))


def replace_with(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written beside ``path``, flush it to the disk, and give it that name."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as taken:
        beside = Path(taken.name)
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _copy(made: Path, beside: Path) -> None:
    """The same file under another name where the disk can do that, else a copy of it."""
    beside.unlink()
    try:
        beside.hardlink_to(made)
    except OSError:
        shutil.copyfile(made, beside)


def _json(value: JsonValue) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
