"""``voxsight dub``: videos and recordings into another language, with what became of each line."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from assistant.cli.console import PullBars, make_table, print_json, remarks, results
from assistant.config import load_settings
from assistant.errors import USER_ERRORS, ConfigError, VoxsightError
from assistant.loading import Models

if TYPE_CHECKING:
    from assistant.jobs.dub.job import DubOptions, DubReport
    from assistant.jobs.dub.lines import FittedLine
    from assistant.jobs.engine import Engine


class Original(StrEnum):
    """What becomes of the original sound."""

    DUCK = "duck"
    REMOVE = "remove"
    KEEP_BEDS = "keep-beds"


class EngineName(StrEnum):
    """What does the lines."""

    LOCAL = "local"
    RAY = "ray"


Voices = Annotated[
    list[str] | None, typer.Option(help="Voice or folder of one; several for speakers.")
]
SpeakerVoices = Annotated[
    list[str] | None, typer.Option(help="SPEAKER=VOICE, such as A=en_US-joe-medium.")
]
Translator = Annotated[
    str | None,
    typer.Option(help="Translation or chat model: name, folder or hub:NAME."),
]
Separator = Annotated[Path | None, typer.Option(help="Weights of hdemucs_high, for keep-beds.")]
Speakers = Annotated[
    Path | None, typer.Option(help="Folder of sherpa-onnx models that tell speakers apart.")
]
Edit = Annotated[Path | None, typer.Option(help="A lines.json that you corrected; for one file.")]


def dub(
    files: Annotated[
        list[Path], typer.Argument(help="Videos or recordings, folders, patterns, a manifest.")
    ],
    to: Annotated[str, typer.Option(help="Code of the language to dub into.")] = "en",
    out: Annotated[
        Path, typer.Option("-o", "--out", help="File, or a folder for one or more.")
    ] = Path("dubbed"),
    language: Annotated[
        str | None, typer.Option(help="Of the original; detected line by line when left out.")
    ] = None,
    original: Annotated[
        Original, typer.Option(help="The original sound under the voice.")
    ] = Original.DUCK,
    duck_db: Annotated[float, typer.Option(help="How much softer it is there.")] = -24.0,
    voice: Voices = None,
    speaker_voice: SpeakerVoices = None,
    translator: Translator = None,
    separator: Separator = None,
    speakers: Speakers = None,
    edit: Edit = None,
    model: Annotated[str, typer.Option(help="Recogniser of many languages.")] = "whisper-base",
    engine: Annotated[EngineName, typer.Option(help="What does the lines.")] = EngineName.LOCAL,
    workers: Annotated[int | None, typer.Option(min=1, help="Lines at once.")] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster.")] = None,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Dub into another language: same picture, new voice, original sound as second track."""
    from assistant.jobs.dub.job import DubOptions
    from assistant.jobs.dub.mix import MixOptions

    options = DubOptions(
        language=to,
        spoken=language,
        mix=MixOptions(original.value, duck_db),
        voices=tuple(voice or ()),
        speaker_voices=_pairs(speaker_voice or ()),
        translator=translator,
        separator=separator,
        diarisation=speakers,
        edits=edit,
    )
    goals = _goals(files, out)
    if edit is not None and len(goals) > 1:
        raise ConfigError(f"Edited lines are of one file, but {len(goals)} were named; name one.")
    models = Models(load_settings(recogniser=model), PullBars(), remarks.print)
    with _engine(engine, workers, address) as chosen:
        reports, failures = _dub_each(goals, options, models, chosen)
    if json:
        print_json(_document(reports, failures))
    if failures:
        raise VoxsightError(
            f"{len(failures)} of {len(goals)} files could not be dubbed: "
            + "; ".join(reason for _, reason in failures)
        )


def _pairs(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = [pair.partition("=") for pair in given]
    wrong = next((p for p in pairs if not (p[0] and p[2])), None)
    if wrong is not None:
        raise ConfigError(f"Expected a speaker's voice as A=NAME, got {''.join(wrong)!r}.")
    return tuple((speaker, name) for speaker, _, name in pairs)


def _goals(files: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Each recording once, with where its dub goes; several need a folder.

    In the folder they keep the tree that they lie in, so that two of one name do not meet.
    """
    from assistant.jobs.dub.mux import CONTAINERS
    from assistant.jobs.files import Library, is_collection

    library = Library(files)
    found = {recording.path: recording.name for recording in library}
    if len(found) == 1 and not any(map(is_collection, files)):
        return [(path, out) for path in found]
    if out.suffix.lower() in CONTAINERS and not out.is_dir():
        raise ConfigError(
            f"Expected a folder for the dubs of several files, got the file name {out}."
        )
    return [(path, out / Path(name).parent) for path, name in sorted(found.items())]


@contextmanager
def _engine(
    name: EngineName, workers: int | None, address: str | None
) -> Iterator["Engine | None"]:
    """The engine; none where this process does it all, with the models that it shares."""
    if name is EngineName.LOCAL and address is None and workers in (None, 1):
        yield None
        return
    from assistant.jobs.engine import engine_by_name

    engine = engine_by_name(name.value, workers=workers, address=address)
    try:
        yield engine
    finally:
        engine.close()


def _dub_each(
    goals: Sequence[tuple[Path, Path]],
    options: "DubOptions",
    models: Models,
    engine: "Engine | None",
) -> tuple[list["DubReport"], list[tuple[Path, str]]]:
    """One after the other; what fails is told at the end, and the others go on."""
    from assistant.jobs.dub.job import dub

    reports, failures = [], []
    for source, out in goals:
        try:
            with _bar(source.name) as tell:
                report = dub(source, out, options, models=models, engine=engine, progress=tell)
        except (*USER_ERRORS, OSError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            failures.append((source, f"{source.name}: {reason}"))
            if len(goals) > 1:
                remarks.print(f"{source.name}: {reason}.", style="red", markup=False)
        else:
            reports.append(report)
            _show(report)
    return reports, failures


@contextmanager
def _bar(name: str) -> Iterator[Callable[[Any], None]]:
    """A bar for the stage that runs, with the time that is left of it."""
    columns = (
        TextColumn("{task.description}"),
        *(BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()),
    )
    from assistant.jobs.dub.job import STAGES

    with Progress(*columns, console=remarks, transient=True) as bars:
        task = bars.add_task(name, total=1)
        stage = ""

        def tell(step: Any) -> None:
            nonlocal stage
            if step.stage != stage:
                stage = step.stage
                number = STAGES.index(stage) + 1
                bars.reset(task, description=f"{name}: {number}/{len(STAGES)} {stage}")
            bars.update(task, completed=step.done, total=step.total)

        yield tell


def _show(report: "DubReport") -> None:
    """A row for each line, then what they come to."""
    from assistant.jobs.dub.report import end_error_ms

    table = make_table(
        str(report.out), "line", "at", "says", "rate", "end", "WER", numbers=("line", "at", "rate")
    )
    for line in report.lines:
        fitted = line.fitted
        table.add_row(
            str(fitted.line.number),
            f"{line.start_ms / 1000:.1f}",
            fitted.wording,
            f"{fitted.rate:.2f}{_changed(fitted)}",
            f"{end_error_ms(line):+d} ms",
            f"{line.back_wer:.0%}",
        )
    for kept in report.kept:
        table.add_row(
            str(kept.line.number), f"{kept.line.start_ms / 1000:.1f}", f"(original: {kept.kept})"
        )
    results.print(table)
    told = ", ".join(f"{key} {value}" for key, value in report.summary().items())
    results.print(f"{told}\nReport, subtitles and lines to edit: {report.folder}\n")


def _changed(fitted: "FittedLine") -> str:
    """What was done to a line beside its rate."""
    late_ms = fitted.start_ms - fitted.line.start_ms
    return (
        (f", sound x {fitted.stretch:.2f}" if fitted.stretch != 1.0 else "")
        + (f", pauses +{fitted.added_pause_ms} ms" if fitted.added_pause_ms else "")
        + (f", {late_ms} ms late" if late_ms else "")
    )


def _document(
    reports: Sequence["DubReport"], failures: Sequence[tuple[Path, str]]
) -> dict[str, Any]:
    return {
        "dubs": [{"source": str(r.source), "out": str(r.out), **r.summary()} for r in reports],
        "failures": [{"source": str(source), "reason": reason} for source, reason in failures],
    }
