"""``voxsight talk``: a conversation, with a recording or through the microphone."""

import asyncio
import io
import json as json_text
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from assistant.cli.console import PullBars, make_table, print_json, remarks, results, say
from assistant.config import Settings, load_settings
from assistant.errors import VoxsightError

if TYPE_CHECKING:
    # The model libraries take seconds to import; the command imports them when it runs.
    from assistant.rehearsal import Cue, Moment
    from audio.pcm import Sound

_FRAME_S = 0.5
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


@dataclass(frozen=True)
class Files:
    """What is written when the conversation is over; each only if it was asked for."""

    sound: Path | None = None
    timeline: Path | None = None
    picture: Path | None = None

    def __post_init__(self) -> None:
        for path in self.wanted.values():
            if path.is_dir():
                raise VoxsightError(f"Expected the name of a file to write, got the folder {path}.")
            if not path.parent.is_dir():
                raise VoxsightError(f"There is no folder {path.parent} to write {path.name} into.")

    @property
    def wanted(self) -> dict[str, Path]:
        """The files by the keys that they have in JSON."""
        named = {
            "audio_file": self.sound,
            "timeline": self.timeline,
            "picture": self.picture,
        }
        return {key: path for key, path in named.items() if path is not None}


@dataclass
class Record:
    """A conversation that took place: what was said, as sound at 16 kHz, and what happened."""

    title: str
    sound: "Sound"
    moments: "list[Moment]" = field(default_factory=list)


def talk(
    input: Annotated[
        Path | None, typer.Option(help="A recording of the person; without it, the microphone.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture to talk about; may be repeated.")
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Folder of camera frames, in name order, two a second.")
    ] = None,
    realtime: Annotated[
        bool,
        typer.Option(
            help="At the speed of speech; --no-realtime goes as fast as the models do, and shows "
            "the times of models that cost nothing."
        ),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Sound of it all: left the person, right the assistant."),
    ] = None,
    timeline: Annotated[Path | None, typer.Option(help="JSON file of all events.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG file of the time line.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Talk with the assistant, which can be interrupted; Ctrl-C ends it.

    With a microphone, use headphones: through a loudspeaker the assistant hears itself, and takes
    its own words for yours. It needs the extra 'voxsight[talk]'.
    """
    files = Files(out, timeline, picture)
    if input is None and (frames is not None or not realtime):
        raise VoxsightError(
            "Expected --frames and --no-realtime only with a recording; name one with --input."
        )
    settings = load_settings()
    cues, lead = _cues(image or [], frames, settings)
    if input is None:
        record = _converse(settings, cues, quiet=json, keep=json or bool(files.wanted))
    else:
        record = _rehearse(settings, input, cues, lead, realtime=realtime, quiet=json)
    _write(record, files)
    _tell(record, files, json)


# What comes in


def _cues(
    images: Sequence[Path], frames: Path | None, settings: Settings
) -> "tuple[list[Cue], float]":
    """The pictures, and how many s of silence must come first for all that were named to be seen.

    Of the first a glance is enough; each further one is shown twice, as a scene that has settled.
    """
    from assistant.events import PictureIn
    from assistant.inputs import read_question_image
    from assistant.rehearsal import Cue

    read = partial(read_question_image, settings=settings)
    shown = [picture for path in images for picture in [read(path)] * (1 + (len(images) > 1))]
    cues = [Cue(number * _FRAME_S, PictureIn(image)) for number, image in enumerate(shown)]
    lead = len(cues) * _FRAME_S if len(images) > 1 else 0.0
    paths = _frame_paths(frames) if frames is not None else []
    for number, path in enumerate([*paths, *paths[-1:]], len(cues)):  # the last one settles
        cues.append(Cue(number * _FRAME_S, lambda path=path: PictureIn(read(path))))  # type: ignore[misc]
    return cues, lead


def _frame_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise VoxsightError(f"There is no folder of frames {folder}; check the name.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not paths:
        raise VoxsightError(
            f"Expected pictures ({', '.join(_PICTURES)}) in the folder {folder}, found none."
        )
    return paths


# The conversation


def _rehearse(
    settings: Settings, input: Path, cues: "list[Cue]", lead: float, *, realtime: bool, quiet: bool
) -> Record:
    from assistant.answering import Workers
    from assistant.inputs import media_limits
    from assistant.rehearsal import Clock, Rehearsal, hurried
    from audio.media import read_sound
    from audio.pcm import join, silence

    sound = read_sound(input, limits=media_limits(settings))
    if lead:
        sound = join([silence(lead), sound])
    workers, clock = (Workers.start(), Clock()) if realtime else hurried()
    try:
        session, _ = _session(settings, workers)
        screen = Screen(clock.now, sound.duration_s, quiet=quiet)
        rehearsal = Rehearsal(session, sound, cues, clock, on_event=screen.follow)
        with screen:
            return Record(input.name, sound, asyncio.run(rehearsal.run()))
    finally:
        workers.close()


def _converse(settings: Settings, cues: "list[Cue]", *, quiet: bool, keep: bool) -> Record:
    from assistant.answering import Workers
    from assistant.microphone import LiveTalk, SoundDevice
    from assistant.rehearsal import Clock
    from audio.pcm import SAMPLE_RATE, Samples, Sound, silence

    device = SoundDevice()
    workers, clock = Workers.start(), Clock()
    record, heard = Record("a conversation", silence(0.0)), list[Samples]()
    try:
        session, rate = _session(settings, workers)
        screen = Screen(clock.now, None, quiet=quiet)

        def follow(moment: "Moment") -> None:
            screen.follow(moment)
            record.moments.append(moment if keep else _without_samples(moment))

        live = LiveTalk(session, device, rate, cues, follow, heard.append if keep else None, clock)
        with screen:
            asyncio.run(_until_interrupted(live.run, live.end))
    finally:
        workers.close()
    if live.lost:
        remarks.print(f"{live.lost} blocks of sound were lost: the models are too slow here.")
    if heard:
        import numpy as np

        record.sound = Sound(np.concatenate(heard), SAMPLE_RATE)
    return record


def _without_samples(moment: "Moment") -> "Moment":
    """What is left when nobody wants the sound: a conversation may last for hours."""
    from assistant.events import ReplySound
    from audio.pcm import silence

    event = moment.event
    if not isinstance(event, ReplySound):
        return moment
    return replace(moment, event=replace(event, sound=silence(0.0, event.sound.rate)))


async def _until_interrupted(run: Callable[[], Any], end: Callable[[], None]) -> None:
    """Ctrl-C is how a person ends a conversation, so it is no error."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, end)
    try:
        await run()
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        # asyncio puts Python's own handler back, whatever there was: a background job ignores it.
        signal.signal(signal.SIGINT, before)


def _session(settings: Settings, workers: Any) -> "tuple[Any, int]":
    """A session with the settings' models, and the rate of its voice."""
    from assistant.live import live_parts
    from assistant.loading import Models
    from assistant.session import Session, SessionConfig

    models = Models(settings, PullBars(), remarks.print)
    models.fetch_all()
    with remarks.status("Loading the models …"):
        parts = live_parts(models, workers)
    config = SessionConfig(max_answer_tokens=settings.max_answer_tokens)
    return Session(parts, config), parts.tongue.voice.sample_rate


class Screen:
    """Shows a conversation: what is certain as lines on standard output, what may change below."""

    def __init__(
        self, now: Callable[[], float], total_s: float | None, *, quiet: bool = False
    ) -> None:
        self._now, self._total, self._quiet = now, total_s, quiet
        self._start = now()
        self._state = Text("listening")
        self._live = Live(console=remarks, get_renderable=self._line, transient=True)

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def follow(self, moment: "Moment") -> None:
        """Show the next event."""
        from assistant import events

        match moment.event:
            case events.SpeechBegan():
                self._state = Text("listening …")
            case events.Partial(committed, tentative):
                self._state = Text.assemble(committed, " ", (tentative, "dim"))
            case events.PictureKept(number, seen):
                likely = ", ".join(sighting.name for sighting in seen.sightings[:3])
                self._print(f"Sees:      picture {number}: {likely or 'nothing it knows'}")
            case events.TurnEnded(_, question):
                self._state = Text("thinking …")
                self._print(f"You:       {question}")
            case events.ReplyText(_, text):
                begun = self._state.plain.startswith("Assistant:")
                self._state = Text((self._state.plain if begun else "Assistant: ") + text)
            case events.ReplyEnded(_, text):
                self._state = Text("speaking")
                self._print(f"Assistant: {text}")
            case events.ReplyStopped(_, heard):
                self._state = Text("listening …")
                self._print(f"           (interrupted after: {heard})")

    def _print(self, line: str) -> None:
        if self._quiet:
            return
        # The changing line makes room, so that the two streams do not mix in a terminal.
        self._live.stop()
        say(line)
        self._live.start()

    def _line(self) -> Text:
        passed = self._now() - self._start
        goal = f" of {self._total:.0f}" if self._total is not None else ""
        line = Text.assemble((f"{passed:.0f}{goal} s  ", "cyan"), self._state)
        line.truncate(remarks.width - 1, overflow="ellipsis")
        return line


# What goes out


def _write(record: Record, files: Files) -> None:
    from assistant.timeline import stereo, timeline_json
    from assistant.waterfall import draw

    if files.sound is not None:
        samples, rate = stereo(record.sound, record.moments)
        _save(files.sound, _encoded(samples, rate, flac=files.sound.suffix.lower() == ".flac"))
    if files.timeline is not None:
        text = json_text.dumps(timeline_json(record.moments), ensure_ascii=False, indent=1)
        _save(files.timeline, text.encode() + b"\n")
    if files.picture is not None:
        drawn = io.BytesIO()
        draw(record.moments, record.sound, record.title).save(drawn, "PNG")
        _save(files.picture, drawn.getvalue())


def _encoded(samples: Any, rate: int, *, flac: bool) -> bytes:
    """A sound file of PCM16, (n, channels)."""
    import soundfile

    from audio.pcm import to_pcm16

    file = io.BytesIO()
    pcm = to_pcm16(samples.ravel()).reshape(samples.shape)
    soundfile.write(file, pcm, rate, format="FLAC" if flac else "WAV", subtype="PCM_16")
    return file.getvalue()


def _save(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    try:
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(scratch).chmod(0o644)
            Path(scratch).replace(path)
        finally:
            Path(scratch).unlink(missing_ok=True)
    except OSError as error:
        raise VoxsightError(f"Cannot write {path}: {error.strerror}.") from None


def _tell(record: Record, files: Files, json: bool) -> None:
    """The figures; VoxsightError if the conversation ended with a fault."""
    from assistant.events import SessionFailed
    from assistant.timeline import summarise

    turns = [turn.summary() for turn in summarise(record.moments)]
    if json:
        print_json({"turns": turns} | {key: str(path) for key, path in files.wanted.items()})
    elif turns:
        columns = ("decided", "first text", "first sound")
        table = make_table(
            "From the end of speech, in ms", "turn", *columns, numbers=("turn", *columns)
        )
        for turn in turns:
            times = (turn[f"{name.replace(' ', '_')}_ms"] for name in columns)
            table.add_row(str(turn["turn"]), *("-" if t is None else f"{t:,.0f}" for t in times))
        say("")
        results.print(table)
        for path in files.wanted.values():
            say(f"Written: {path}")
    for moment in record.moments:
        if isinstance(moment.event, SessionFailed):
            raise VoxsightError(moment.event.message)
    if not turns:
        remarks.print("No question was understood.")
