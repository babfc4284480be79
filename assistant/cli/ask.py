"""``voxsight ask`` and ``voxsight demo``: a question by voice, a picture, a spoken answer."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.assets import asset
from assistant.cli.console import PullBars, print_json, remarks, results, say, stage_table
from assistant.config import load_settings
from assistant.errors import VoxsightError
from assistant.player import play

if TYPE_CHECKING:
    # The model libraries take seconds to import; the commands import them when they run.
    from assistant.api import Assistant, Reply
    from assistant.events import Event

_PHOTOS = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="WAV file for the spoken answer.")]
Play = Annotated[
    bool | None,
    typer.Option("--play/--no-play", help="Play the answer; by default in a terminal."),
]


def ask(
    audio: Annotated[Path | None, typer.Option(help="The spoken question.")] = None,
    image: Annotated[Path | None, typer.Option(help="The picture that it is about.")] = None,
    text: Annotated[str | None, typer.Option(help="A written question, or more of it.")] = None,
    out: Out = Path("answer.wav"),
    speech: Annotated[bool, typer.Option("--speech/--no-speech", help="Speak it.")] = True,
    recogniser: Annotated[str | None, typer.Option(help="Speech recogniser.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Image encoder.")] = None,
    language_model: Annotated[str | None, typer.Option(help="Language model.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Adapter file or 'dictionary'.")] = None,
    voice: Annotated[str | None, typer.Option(help="Voice.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
    play_it: Play = None,
    json: Json = False,
) -> None:
    """Answer a spoken or written question, about a picture if there is one."""
    from assistant.api import Assistant

    settings = load_settings(
        recogniser=recogniser,
        image_encoder=encoder,
        language_model=language_model,
        adapter=adapter,
        voice=voice,
        max_answer_tokens=max_tokens,
    )
    with Assistant(settings, progress=PullBars(), remark=remarks.print) as assistant:
        _run(assistant, audio, image, text, out if speech else None, play_it, json)


def demo(
    photo: Annotated[str, typer.Option(help=f"One of {', '.join(_PHOTOS)}.")] = "cat",
    out: Out = Path("answer.wav"),
    play_it: Play = None,
    json: Json = False,
) -> None:
    """Hear a spoken answer to a spoken question about a sample photo; fetches what it needs."""
    from assistant.api import Assistant

    if photo not in _PHOTOS:
        raise VoxsightError(f"Expected a photo out of {', '.join(_PHOTOS)}, but got '{photo}'.")
    with Assistant(load_settings(), progress=PullBars(), remark=remarks.print) as assistant:
        image = assistant.models.folder("sample-photos") / _PHOTOS[photo]
        assistant.models.fetch_all()
        remarks.print(f"Asking by voice about {image.name} …")
        _run(assistant, asset("demo/question.wav"), image, None, out, play_it, json)


def _run(
    assistant: "Assistant",
    audio: Path | None,
    image: Path | None,
    text: str | None,
    out: Path | None,
    play_it: bool | None,
    json: bool,
) -> None:
    reply = assistant.ask(
        audio, image, text, speak=out is not None, on_event=None if json else _show
    )
    written = _save(reply, out)
    if json:
        print_json(
            {
                "transcript": reply.question,
                "answer": reply.answer,
                "stages_ms": reply.stages_ms,
                "audio_file": str(written) if written else None,
            }
        )
    else:
        say("")
        results.print(stage_table(reply.stages_ms))
        if written and reply.sound:
            say(f"Spoken answer: {written} ({reply.sound.duration_s:.1f} s)")
    wanted = play_it if play_it is not None else sys.stdout.isatty() and not json
    if written and wanted and not play(written) and play_it:
        remarks.print("No sound player or device was found; open the file to hear it.")


def _save(reply: "Reply", out: Path | None) -> Path | None:
    return reply.save(out) if out is not None and reply.sound is not None else None


def _show(event: "Event") -> None:
    from assistant.events import Heard, Seen, TextPiece

    if isinstance(event, Heard):
        say(f"Heard:  {event.transcript.text.strip()}")
    elif isinstance(event, Seen):
        likely = ", ".join(f"{s.name} {s.probability:.0%}" for s in event.sightings[:3])
        remarks.print(f"Sees:   {likely}" if event.recognised else "Sees:   nothing it knows")
        say("Answer: ", end="")
    elif isinstance(event, TextPiece):
        say(event.text, end="")
