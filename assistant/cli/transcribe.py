"""``voxsight transcribe``: a file's words to the terminal, or a library's into a folder."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from assistant.cli.console import (
    PullBars,
    counted,
    make_table,
    print_json,
    remarks,
    results,
    say,
)
from assistant.config import load_settings
from assistant.errors import USER_ERRORS, ConfigError, VoxsightError
from assistant.loading import Models

if TYPE_CHECKING:
    from assistant.jobs.summary import LanguageTotal, TranscribeReport
    from assistant.jobs.transcribing import Progress, TranscribeOptions

#: Failures that are shown; the file lists them all.
_SHOWN = 20
_SOME_FAILED = 1


class Format(StrEnum):
    """How a transcript is printed."""

    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


class EngineChoice(StrEnum):
    """Where a batch runs."""

    LOCAL = "local"
    RAY = "ray"


class DeviceChoice(StrEnum):
    """What a batch is computed on."""

    CPU = "cpu"
    CUDA = "cuda"


_BATCH = "With -o"

Files = Annotated[
    list[Path],
    typer.Argument(
        help="Sound or video files; with -o also folders, patterns such as 'talks/**/*.mp4', and "
        "manifests (.jsonl: a line has audio, and maybe language and id)."
    ),
]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="Write results into this folder.")]
Printed = Annotated[
    Format | None, typer.Option("--format", "-f", help="How to print it: text by default.")
]
Language = Annotated[
    str | None, typer.Option(help="A code such as en or de; detected when left out.")
]
Translate = Annotated[bool, typer.Option(help="Translate into English.")]
Words = Annotated[
    bool, typer.Option(help="Give each word its time, as results in a folder always do.")
]
Model = Annotated[str | None, typer.Option(help="Recogniser; see 'models list'.")]
Formats = Annotated[
    str | None, typer.Option(help="Beside JSON: txt,srt,vtt.", rich_help_panel=_BATCH)
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes, each with its models.", rich_help_panel=_BATCH),
]
EngineName = Annotated[
    EngineChoice | None,
    typer.Option("--engine", help="This machine, or a Ray cluster.", rich_help_panel=_BATCH),
]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster that runs.", rich_help_panel=_BATCH)
]
Device = Annotated[
    DeviceChoice | None,
    typer.Option("--device", help="Where the recogniser runs.", rich_help_panel=_BATCH),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed.", rich_help_panel=_BATCH)
]
Json = Annotated[
    bool, typer.Option("--json", help="End with one line of JSON.", rich_help_panel=_BATCH)
]


def transcribe(
    files: Files,
    out: Out = None,
    format: Printed = None,
    language: Language = None,
    translate: Translate = False,
    words: Words = False,
    model: Model = None,
    formats: Formats = None,
    workers: Workers = None,
    engine: EngineName = None,
    address: Address = None,
    device: Device = None,
    retry_failed: RetryFailed = False,
    json: Json = False,
) -> None:
    """Write down what is said in files, with times.

    Without -o it is printed. With -o every recording NAME gets NAME.json (segments, words, times,
    language, confidence) and the other formats in that folder; what is there and has not changed
    is not done again, and what fails is listed in failures.jsonl. The exit code is then 1 if some
    recordings failed.
    """
    from assistant.jobs.files import is_collection

    given = {
        "--formats": formats,
        "--workers": workers,
        "--engine": engine,
        "--address": address,
        "--device": device,
        "--retry-failed": retry_failed or None,
        "--json": json or None,
    }
    if out is None:
        _refuse_collections([file for file in files if is_collection(file)])
        _refuse(given, "is about results in a folder; name one with -o")
        _print_all(files, format or Format.TEXT, language, translate, words, model)
        return
    _refuse({"--format": format}, "is about printing; use --formats with -o")
    options = _options(language, translate, formats, device, retry_failed)
    report = _run(files, out, options, model, engine or EngineChoice.LOCAL, workers, address)
    _show(report, out)
    if json:
        print_json(report.summary())
    if report.failures:
        raise typer.Exit(_SOME_FAILED)


def _refuse(given: dict[str, Any], why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"The option {name} {why}.")


def _refuse_collections(found: list[Path]) -> None:
    if found:
        raise ConfigError(
            f"Expected a folder for the results of {found[0]}; name one with -o FOLDER."
        )


def _model(model: str | None, translate: bool, languages: set[str | None]) -> str | None:
    """What was asked for, or what is needed, or None for what the settings name."""
    return model or ("whisper-base" if translate or languages - {None, "en"} else None)


# Results printed


def _print_all(
    files: list[Path],
    form: Format,
    language: str | None,
    translate: bool,
    words: bool,
    model: str | None,
) -> None:
    from audio.asr_types import RecogniseOptions

    name = _model(model, translate, {language})
    models = Models(load_settings(recogniser=name), PullBars(), remarks.print)
    options = RecogniseOptions(
        language=language,
        task="translate" if translate else "transcribe",
        words=words,
        beam_size=models.settings.recogniser_beam,
    )
    failures = 0
    for file in files:
        try:
            _print_one(models, file, options, form, titled=len(files) > 1)
        except USER_ERRORS as error:
            if len(files) == 1:
                raise
            failures += 1
            remarks.print(f"[red]{escape(str(error))}[/red]")
    if failures:
        raise VoxsightError(f"{failures} of {len(files)} files could not be transcribed.")


def _print_one(models: Models, file: Path, options: Any, form: Format, *, titled: bool) -> None:
    from assistant.inputs import media_limits
    from audio import subtitles
    from audio.asr_types import Segment
    from audio.media import read_sound

    sound = read_sound(file, limits=media_limits(models.settings))
    with counted(f"Transcribing {file.name}", max(1, round(sound.duration_s))) as advance:
        done = 0

        def step(segment: Segment) -> None:
            nonlocal done
            advance(max(0, round(segment.end) - done))
            done = max(done, round(segment.end))

        transcript = models.recogniser.transcribe(sound, options, step)
    write = {
        Format.TEXT: subtitles.to_text,
        Format.JSON: subtitles.to_json,
        Format.SRT: subtitles.to_srt,
        Format.VTT: subtitles.to_vtt,
    }[form]
    if titled and form is not Format.JSON:
        say(f"== {file}")
    say(write(transcript).rstrip("\n"))


# Results in a folder


def _options(
    language: str | None,
    translate: bool,
    formats: str | None,
    device: DeviceChoice | None,
    retry_failed: bool,
) -> "TranscribeOptions":
    from assistant.jobs.outputs import FORMATS
    from assistant.jobs.transcribing import TranscribeOptions

    chosen: Any = FORMATS
    if formats is not None:
        named = (form.strip() for form in formats.split(","))
        chosen = tuple(dict.fromkeys(form for form in named if form not in ("", "json")))
    return TranscribeOptions(
        language=language,
        task="translate" if translate else "transcribe",
        formats=chosen,
        retry_failed=retry_failed,
        device=(device or DeviceChoice.CPU).value,
    )


def _run(
    files: list[Path],
    out: Path,
    options: "TranscribeOptions",
    model: str | None,
    engine: EngineChoice,
    workers: int | None,
    address: str | None,
) -> "TranscribeReport":
    from assistant.jobs.engine import engine_by_name
    from assistant.jobs.files import Library
    from assistant.jobs.transcribing import transcribe

    library = Library(files)
    languages = {options.language, *library.languages}
    name = _model(model, options.task == "translate", languages)
    models = Models(load_settings(recogniser=name), PullBars(), remarks.print)
    models.folder(models.settings.recogniser)  # its bar must not meet the one below
    gpu = options.device == "cuda"
    chosen = engine_by_name(engine.value, workers=workers, address=address, gpu=gpu)
    with closing(chosen), _bar() as progress:
        return transcribe(library, out, options, models=models, engine=chosen, progress=progress)


@contextmanager
def _bar() -> Iterator[Callable[["Progress"], None]]:
    """A bar in seconds of sound, with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        *(BarColumn(), TextColumn("{task.fields[sound]}"), TimeRemainingColumn()),
    )
    # A group of recordings may take long, and without a step in the period no time is estimated.
    with Bars(*columns, console=remarks, speed_estimate_period=900.0) as bars:
        task = bars.add_task("Looking", total=None, sound="")

        def show(progress: "Progress") -> None:
            failed = f", {progress.failures} failed" if progress.failures else ""
            bars.update(
                task,
                description=f"{progress.ended} of {progress.recordings} recordings{failed}",
                completed=progress.done_s,
                total=progress.sound_s,
                sound=f"{_clock(progress.done_s)} of {_clock(progress.sound_s)}",
            )

        yield show


def _show(report: "TranscribeReport", out: Path) -> None:
    title = f"{report.done} transcribed, {report.skipped} had been, {len(report.failures)} failed"
    columns = ("language", "recordings", "sound", "confidence")
    table = make_table(f"{out}: {title}", *columns, numbers=columns[1:])
    for language, one in report.languages.items():
        table.add_row(language, *_cells(one))
    total = report.total
    if len(report.languages) > 1:
        table.add_row("all", *_cells(total))
    results.print(table if report.done else table.title)
    if report.done:
        speed = f"{report.speed:.1f} s of sound a second"
        results.print(f"{_clock(total.sound_s)} of sound in {_clock(report.took_s)}: {speed}")
    for failure in report.failures[:_SHOWN]:
        told = failure.audio in failure.reason
        line = failure.reason if told else f"{failure.audio}: {failure.reason}"
        remarks.print(f"[red]{escape(line)}[/red]", soft_wrap=True)
    if report.failures:
        more = len(report.failures) - _SHOWN
        also = f"{more} more are in" if more > 0 else "Listed in"
        line = f"{also} {out / 'failures.jsonl'}; --retry-failed tries them again."
        remarks.print(escape(line), soft_wrap=True)


def _cells(one: "LanguageTotal") -> tuple[str, str, str]:
    confidence = "" if one.confidence is None else f"{one.confidence:.0%}"
    return str(one.recordings), _clock(one.sound_s), confidence


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
