"""Joins the routes and what stands before them into one application."""

from collections.abc import AsyncIterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from assistant.server import api_page, client_secrets, health
from assistant.server.admission import AdmissionMiddleware
from assistant.server.bodies import BodyLimitMiddleware
from assistant.server.border import BorderMiddleware
from assistant.server.door import OPEN_PATHS, DoorMiddleware
from assistant.server.errors import add_error_handlers
from assistant.server.http import chat, models, speech, transcriptions, translations
from assistant.server.realtime import route as realtime
from assistant.server.state import ServerState, state_of

_TAGS = (
    ("realtime", "Speech to speech over a WebSocket at `/v1/realtime`, and its client secrets."),
    ("audio", "Transcription, translation and speech."),
    ("chat", "Text, pictures and sound in; text and speech out."),
    ("models", "What the server runs."),
    ("operation", "For whoever runs the server."),
)


async def _in_turn(request: Request) -> AsyncIterator[None]:
    """Holds a place among the requests that are worked on until the response is sent."""
    async with state_of(request).admission.place():
        if await request.is_disconnected():
            raise ClientDisconnect
        yield


#: Of routes that use the models.
IN_TURN = Depends(_in_turn)


def create_app(state: ServerState) -> FastAPI:
    """The application of one server; ``state`` is found by routes with ``state_of``."""
    app = FastAPI(
        title="Voxsight",
        version=_version(),
        summary="A local assistant that listens, looks and speaks, behind OpenAI's API.",
        openapi_tags=[{"name": name, "description": about} for name, about in _TAGS],
        middleware=_middleware(state),
        docs_url=None,
        redoc_url=None,
    )
    app.state.server = state
    add_error_handlers(app)
    app.include_router(health.router)
    app.include_router(api_page.router)
    app.include_router(realtime.router, tags=["realtime"])
    app.include_router(models.router, tags=["models"])
    for router in (speech.router, transcriptions.router, translations.router):
        app.include_router(router, tags=["audio"], dependencies=[IN_TURN])
    app.include_router(chat.router, tags=["chat"], dependencies=[IN_TURN])
    app.include_router(client_secrets.router, tags=["realtime"])
    app.openapi = lambda: _page(app)  # type: ignore[method-assign]
    return app


def _middleware(state: ServerState) -> list[Middleware]:
    """What stands before the routes, outermost first."""
    config = state.config
    layers = [
        Middleware(BorderMiddleware, metrics=state.metrics),
        Middleware(DoorMiddleware, door=state.door),
        Middleware(AdmissionMiddleware, admission=state.admission),
        Middleware(BodyLimitMiddleware, config=config),
    ]
    if config.allowed_origins:
        # Before the border: a page may only read a refusal that carries these headers, too.
        headers = Middleware(
            CORSMiddleware,
            allow_origins=list(config.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["x-request-id", "retry-after"],
        )
        layers.insert(0, headers)
    return layers


def _page(app: FastAPI) -> dict[str, Any]:
    """The API's page: the framework's, with how to bring a key, and errors as they are answered."""
    if app.openapi_schema:
        return app.openapi_schema
    page = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    parts = page.setdefault("components", {})
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in page["paths"].items():
        for operation in operations.values():
            # A body that does not fit is answered with 400, as OpenAI does.
            operation["responses"].pop("422", None)
            if path not in OPEN_PATHS:
                operation["security"] = [{"key": []}]
    for name in ("HTTPValidationError", "ValidationError"):
        parts.get("schemas", {}).pop(name, None)
    app.openapi_schema = page
    return page


def _version() -> str:
    try:
        return version("voxsight")
    except PackageNotFoundError:  # run from its sources
        return "0"
