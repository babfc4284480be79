"""``voxsight speak``: a text to a sound file."""

from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from assistant.cli.console import PullBars, counted, print_json, remarks, say
from assistant.config import load_settings
from assistant.loading import Models


def speak(
    text: Annotated[str, typer.Argument(help="What to say; '-' reads standard input.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="WAV file to write.")] = Path(
        "speech.wav"
    ),
    voice: Annotated[str | None, typer.Option(help="Voice; see 'models list'.")] = None,
    rate: Annotated[
        float,
        typer.Option(
            min=0.25, max=4.0, help="Of the voice's own pace; about 2 is the fastest that it can."
        ),
    ] = 1.0,
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
