"""Puts the page before the API: what a browser may read of it, and what its scripts may do."""

import asyncio
import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from os import stat_result

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.server.app import IN_TURN
from assistant.server.dubbing import dubbed
from assistant.server.dubs import Dubs, Work
from assistant.server.exchange import Exchange
from assistant.server.http import dubs, loaded, timed

PATH = "/ui"
FILES_PATH = PATH + "/files"
_SHOWN = (".js", ".css", ".html", ".svg")
#: All that a browser needs of Gradio. Its uploads, its queue and its files stay closed: the page
#: does without them, and nobody has to show a key to read a page.
_FRAME = re.compile(r"/ui/(assets/.+|static/.+|theme\.css)?")
_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.S)
#: Gradio's page names a manifest at the root of the host, where ours has none, ...
_MANIFEST = re.compile(rb'<link rel="manifest"[^>]*>')
#: ... and pictures of other hosts, for those who link to it.
_FOREIGN = re.compile(rb'\s*<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')
_ICON = f'<link rel="icon" type="image/svg+xml" href="{FILES_PATH}/mark.svg">'.encode()


def mount_page(app: FastAPI, dub: Work = dubbed) -> None:
    """Serve the page of ``app``'s server at ``/ui``, with the API's extensions that it needs."""
    from ui.app import FILES

    app.state.dubs = Dubs(app.state.server, dub)
    app.state.exchange = Exchange(app.state.server)
    app.include_router(loaded.router)
    app.include_router(dubs.router)
    app.include_router(timed.router, dependencies=[IN_TURN])
    app.add_api_route("/", _to_page, include_in_schema=False)
    app.mount(FILES_PATH, _Files(directory=FILES))
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # Gradio asks for a loop; where none runs it makes some and leaves them open.
        asyncio.run(_mount_frame(app))
    else:
        _mount(app)


async def _mount_frame(app: FastAPI) -> None:
    _mount(app)


def _mount(app: FastAPI) -> None:
    from gradio import mount_gradio_app

    from ui.app import build, head, theme

    mount_gradio_app(
        app,
        build(),
        PATH,
        theme=theme(),
        head=head(FILES_PATH),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        show_error=False,
        app_kwargs={"docs_url": None, "openapi_url": None},
    )
    mounted = app.routes[-1]
    assert isinstance(mounted, Mount)
    mounted.app = _Frame(mounted.app)


async def _to_page() -> RedirectResponse:
    return RedirectResponse(PATH + "/")


class _Files(StaticFiles):
    """The page's own files; the Python beside them is not for browsers."""

    def lookup_path(self, path: str) -> tuple[str, stat_result | None]:
        """The file of that name; HTTPException 404 for a kind that is not shown."""
        if not path.endswith(_SHOWN):
            raise HTTPException(404)
        return super().lookup_path(path)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """A file, to be asked for again each time: an update of the server counts at once."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = "no-cache"
        response.headers.update(policy(()))
        return response


class _Frame:
    """Gradio's application, of which a browser may read the page and no more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; HTTPException 404 or 405 for what the page does without."""
        path = scope["path"]
        if not _FRAME.fullmatch(path):
            raise HTTPException(404)
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405)
        if path == PATH + "/":
            await self._app(_uncompressed(scope), receive, _Page(send).send)
        else:
            await self._app(scope, receive, _with_headers(send, policy(())))


def _uncompressed(scope: Scope) -> Scope:
    """The same request for a page that is not compressed: it is read here."""
    headers = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
    return {**scope, "headers": headers}


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": list(message.get("headers", ()))}
            MutableHeaders(raw=message["headers"]).update(headers)
        await send(message)

    return with_headers


class _Page:
    """Gradio's HTML on its way out: taken whole, since its policy names the scripts in it."""

    def __init__(self, send: Send) -> None:
        self._send, self._body = send, b""
        self._start: Message = {}

    async def send(self, message: Message) -> None:
        """Hold the response until all of it is there."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(raw=list(self._start["headers"]))
        if headers.get("content-type", "").startswith("text/html"):
            self._body = _FOREIGN.sub(b"", _MANIFEST.sub(_ICON, self._body))
            headers["content-length"] = str(len(self._body))
        headers.update(policy(_INLINE_SCRIPT.findall(self._body)))
        await self._send({**self._start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": self._body})


def policy(scripts: Sequence[bytes]) -> dict[str, str]:
    """Headers of the page; ``scripts`` are those within its HTML, allowed by their hashes.

    Gradio forces one directive to be wider than it should be: its components set styles inline.
    Its HTML component would need 'unsafe-eval', too, which is why the page does not use it.
    """
    hashes = "".join(
        f" 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in scripts
    )
    directives = (
        "default-src 'none'",
        f"script-src 'self'{hashes}",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "content-security-policy": "; ".join(directives),
        "permissions-policy": "microphone=(self), camera=(self), geolocation=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cross-origin-opener-policy": "same-origin",
    }
