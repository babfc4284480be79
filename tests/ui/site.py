"""A web site of static files on a free port, for pages that no server of ours serves."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

UI = Path(__file__).parents[2] / "ui"
EMPTY = b"<!doctype html><title>test</title><link rel=icon href=data:,><button>go</button>"


class Handler(SimpleHTTPRequestHandler):
    """Serves the client's files, and what a test has put beside them."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript"}

    def __init__(self, *given: Any, own: dict[str, bytes], **named: Any) -> None:
        self._own = own
        super().__init__(*given, **named)

    def do_GET(self) -> None:
        body = self._own.get(urlsplit(self.path).path)
        if body is None:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(self.path.partition("?")[0] or "/"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def guess_type(self, path: Any) -> str:
        return "text/html" if str(path).endswith("/") else super().guess_type(path)

    def log_message(self, format: str, *values: Any) -> None: ...


class Site:
    """Where the files are; ``own`` takes further ones by their path."""

    def __init__(self, port: int, own: dict[str, bytes]) -> None:
        self.port, self.own = port, own

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"


@contextmanager
def serving(folder: Path = UI) -> Iterator[Site]:
    """A site of the files in a folder, with an empty page at its root."""
    own = {"/": EMPTY}
    handler = partial(Handler, own=own, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, name="site")
        thread.start()
        try:
            yield Site(server.server_address[1], own)
        finally:
            server.shutdown()
            thread.join()
