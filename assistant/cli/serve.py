"""``voxsight serve``: the API, until a signal ends it."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.console import PullBars, print_json, remarks
from assistant.config import load_settings

if TYPE_CHECKING:
    # The model libraries take seconds to import; the command imports them when it runs.
    from assistant.server.engine import Engine
    from assistant.server.state import ServerState


def serve(
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; any but this machine's own needs a key."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of the server's settings.")] = None,
    page: Annotated[
        bool, typer.Option("--ui", help="Serve the page for a browser at /ui, too.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when the server is ready.")
    ] = False,
) -> None:
    """Serve the API for programs written for OpenAI's: realtime, audio and chat.

    Every setting can also be given as VOXSIGHT_SERVER_<NAME>. The log goes to standard error, one
    line of JSON for each event. Ctrl-C or SIGTERM lets what runs come to its end first.
    """
    from assistant.cli.ui import app_with_page
    from assistant.server.app import create_app
    from assistant.server.config import load_server_config
    from assistant.server.lifecycle import run

    chosen = load_server_config(config, host=host, port=port)
    settings = load_settings()

    def load() -> "Engine":
        from assistant.server.engine import Engine

        with remarks.status("Loading the models …"):
            return Engine.load(settings, PullBars(), remarks.print)

    def ready(url: str, state: "ServerState") -> None:
        limit = state.admission.session_limit
        # Nobody may be reading any more; the server serves all the same.
        with contextlib.suppress(OSError):
            if json:
                print_json({"url": url, "pid": os.getpid(), "sessions": limit})
            else:
                where = f"the page is at {url}/ui/" if page else f"the API's page is at {url}/docs"
                remarks.print(f"Listening on {url}, {where}; Ctrl-C ends it.")

    try:
        run(chosen, load, ready, app_with_page if page else create_app)
    finally:
        _forget_unwritten()


def _forget_unwritten() -> None:
    """A stream that took nothing more must not turn a good end into a bad one."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
