"""Joins the commands and turns what a user did wrong into one line and exit code 2."""

import os
import sys
from typing import Any

import typer
from rich.markup import escape

from assistant.cli import (
    ask,
    bench,
    doctor,
    dub,
    evals,
    keys,
    models,
    serve,
    speech,
    talk,
    train,
    transcribe,
    ui,
)
from assistant.cli.console import remarks
from assistant.errors import USER_ERRORS

#: Base of what wrong options raise. Typer brings a copy of click of its own, so click's would miss.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
_INTERRUPTED = 130

app = typer.Typer(
    help="A local assistant that listens, looks and speaks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(ask.demo)
app.command("ask")(ask.ask)
app.command("transcribe")(transcribe.transcribe)
app.command("dub")(dub.dub)
app.command("speak")(speech.speak)
app.command("talk")(talk.talk)
app.command("train-adapter")(train.train_adapter)
app.command("doctor")(doctor.doctor)
app.command("serve")(serve.serve)
app.command("ui")(ui.ui)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(evals.app, name="eval")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point of ``voxsight``."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command; returns its exit code.

    0: done; 1: a batch has ended, but some of it failed and is listed; 2: bad input, or nothing
    could be done; 130: interrupted.
    """
    try:
        code = app(arguments, prog_name="voxsight", standalone_mode=False)
    except USER_ERRORS as error:
        return _refuse(str(error))
    except _USAGE_ERROR as error:
        return _refuse(_usage(error)) if str(error) else 2  # the help was printed instead
    except BrokenPipeError:
        # The reader of our output (such as `head`) left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    if code == _INTERRUPTED:
        remarks.print("Interrupted.")
    return code if isinstance(code, int) else 0


def _refuse(message: str) -> int:
    """Prints one line, whatever the message holds, and gives the exit code for bad input."""
    line = " ".join(message.split())
    remarks.print(f"[red]voxsight:[/red] {escape(line)}", soft_wrap=True)
    return 2


def _usage(error: Any) -> str:
    where = error.ctx.command_path if error.ctx else "voxsight"
    return f"{error.format_message().rstrip('.')}; see '{where} --help'."
