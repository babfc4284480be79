"""``voxsight ui``: the page, served for this machine and opened in a browser."""

import contextlib
import threading
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.console import PullBars, remarks
from assistant.config import load_settings

if TYPE_CHECKING:
    # The model libraries take seconds to import; the command imports them when it runs.
    from fastapi import FastAPI

    from assistant.server.engine import Engine
    from assistant.server.state import ServerState


def ui(
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; any but this machine's own needs a key."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    browser: Annotated[
        bool, typer.Option(help="Open the page in the browser when it is ready.")
    ] = True,
) -> None:
    """Serve the API with the page for talking in a browser, and open it.

    It is the server of 'voxsight serve', with all its settings, plus the page at /ui. Browsers
    give a microphone only to pages on this machine or behind https.
    """
    from assistant.server.config import load_server_config
    from assistant.server.lifecycle import run

    settings = load_settings()

    def load() -> "Engine":
        from assistant.server.engine import Engine

        with remarks.status("Loading the models …"):
            return Engine.load(settings, PullBars(), remarks.print)

    def ready(url: str, _: "ServerState") -> None:
        with contextlib.suppress(OSError):  # nobody may be reading any more
            remarks.print(f"The page is at {url}/ui/; Ctrl-C ends it.")
        if browser:
            # Some browsers come back only when they are closed.
            threading.Thread(
                target=webbrowser.open, args=[f"{url}/ui/"], name="voxsight-browser", daemon=True
            ).start()

    run(load_server_config(None, host=host, port=port), load, ready, app_with_page)


def app_with_page(state: "ServerState") -> "FastAPI":
    """The application of ``voxsight ui`` and of ``voxsight serve --ui``."""
    from assistant.server.app import create_app
    from assistant.server.pages import mount_page

    app = create_app(state)
    mount_page(app)
    return app
