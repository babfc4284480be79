"""``voxsight transcribe`` and ``voxsight speak``: files of speech to text, and text to a file."""

from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from assistant.cli.console import PullBars, counted, print_json, remarks, say
from assistant.config import load_settings
from assistant.errors import USER_ERRORS, VoxsightError
from assistant.loading import Models


class Format(StrEnum):
    """How a transcript is written."""

    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Sound or video files.")],
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = (
        Format.TEXT
    ),
    language: Annotated[
        str | None, typer.Option(help="A code such as en or de; detected when left out.")
    ] = None,
    translate: Annotated[bool, typer.Option(help="Translate into English.")] = False,
    words: Annotated[bool, typer.Option(help="Give each word its time.")] = False,
    model: Annotated[str | None, typer.Option(help="Recogniser; see 'models list'.")] = None,
) -> None:
    """Write down what is said in files, with times."""
    from audio.asr_types import RecogniseOptions

    name = model or ("whisper-base" if translate or language not in (None, "en") else None)
    models = Models(load_settings(recogniser=name), PullBars(), remarks.print)
    options = RecogniseOptions(
        language=language,
        task="translate" if translate else "transcribe",
        words=words,
        beam_size=models.settings.recogniser_beam,
    )
    failures = []
    for file in files:
        try:
            _transcribe_one(models, file, options, format, titled=len(files) > 1)
        except USER_ERRORS as error:
            if len(files) == 1:
                raise
            failures.append(str(error))
            remarks.print(f"[red]{error}[/red]", markup=True)
    if failures:
        raise VoxsightError(f"{len(failures)} of {len(files)} files could not be transcribed.")


def _transcribe_one(
    models: Models, file: Path, options: Any, form: Format, *, titled: bool
) -> None:
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


def speak(
    text: Annotated[str, typer.Argument(help="What to say; '-' reads standard input.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="WAV file to write.")] = Path(
        "speech.wav"
    ),
    voice: Annotated[str | None, typer.Option(help="Voice; see 'models list'.")] = None,
    rate: Annotated[float, typer.Option(min=0.25, max=4.0, help="2 is twice as fast.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same sound.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Say a text and write it to a sound file."""
    from audio.media import write_wav
    from audio.pcm import join
    from audio.speech_text import split_clauses
    from audio.tts import SpeakOptions

    words = typer.get_text_stream("stdin").read() if text == "-" else text
    options = SpeakOptions(rate=rate, seed=seed)
    models = Models(load_settings(voice=voice), PullBars(), remarks.print)
    pieces = []
    start = perf_counter()
    with counted("Speaking", len(list(split_clauses(words)))) as advance:
        for piece in models.voice.stream(words, options):
            pieces.append(piece)
            advance(1)
    sound = join(pieces)
    write_wav(out, sound)
    took = perf_counter() - start
    if json:
        print_json({"audio_file": str(out), "duration_s": sound.duration_s, "took_s": took})
    else:
        say(f"{out}: {sound.duration_s:.1f} s of speech in {took:.1f} s")
