"""The address of the realtime API: who comes in with which model and settings."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, WebSocket

from assistant.server.door import Caller, caller
from assistant.server.engine import Engine
from assistant.server.errors import ApiError
from assistant.server.http.names import ALIASES, Role, served
from assistant.server.realtime.connection import Connection
from assistant.server.realtime.extensions import asked_for
from assistant.server.realtime.settings import Kind, Offer, SessionSettings
from assistant.server.realtime.wire import WireError, new_id
from assistant.server.state import state_of

router = APIRouter()

# OpenAI's names of recognisers that only its realtime API has.
_LIVE_RECOGNISERS = ("gpt-live-transcribe", "gpt-realtime-whisper")
#: What the server as a whole is called; its models have their own names in ``/v1/models``.
MODEL = "voxsight"


def offer_of(engine: Engine) -> Offer:
    """What sessions on this engine can be given."""
    models = engine.models
    own = {model.role: model.id for model in served(models.settings)}
    return Offer(
        model=MODEL,
        voices=(own[Role.VOICE],),
        instructions=models.prompts.system,
        languages=frozenset(models.recogniser.languages),
        recognisers=(own[Role.RECOGNISER], *ALIASES[Role.RECOGNISER], *_LIVE_RECOGNISERS),
    )


@router.websocket("/v1/realtime")
async def realtime(websocket: WebSocket, who: Annotated[Caller, Depends(caller)]) -> None:
    """A realtime session; the query may hold ``model``, ``intent`` and ``extensions``."""
    state = state_of(websocket)
    offer = offer_of(state.engine)
    try:
        settings = _first_settings(websocket, who, offer)
        extensions = asked_for(websocket.query_params.get("extensions", ""))
    except WireError as error:
        raise ApiError(400, error.message, code=error.code, param=error.param) from None
    await Connection(websocket, state, who, settings, offer, extensions).serve()


def _first_settings(websocket: WebSocket, who: Caller, offer: Offer) -> SessionSettings:
    query = websocket.query_params
    model = query.get("model", offer.model)
    if not offer.knows_model(model):
        raise ApiError(
            404,
            f"There is no realtime model '{model[:60]}' here; ask for '{offer.model}'.",
            code="model_not_found",
            param="model",
        )
    kind: Kind = "transcription" if query.get("intent") == "transcription" else "realtime"
    return settings_from(who.session_defaults or {}, offer, kind)


def settings_from(
    session: Mapping[str, Any], offer: Offer, kind: Kind = "realtime"
) -> SessionSettings:
    """The settings of a new session that begins with ``session``, as a client secret holds it.

    Raises WireError if that cannot be had.
    """
    settings = SessionSettings.initial(offer, new_id("sess"), kind)
    return settings.updated({"type": kind, **session}, offer) if session else settings
