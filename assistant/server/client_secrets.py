"""Makes client secrets: what a browser gets instead of a key."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from assistant.server.door import Caller, caller
from assistant.server.engine import Engine
from assistant.server.errors import ApiError, error_responses
from assistant.server.realtime.route import offer_of, settings_from
from assistant.server.realtime.wire import WireError
from assistant.server.state import state_of

router = APIRouter()


class ExpiresAfter(BaseModel):
    """How long a client secret may wait to be used."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"] = "created_at"
    seconds: int | None = Field(
        default=None,
        ge=10,
        le=7200,
        description="More than allowed is cut to what is.",
    )


class ClientSecretRequest(BaseModel):
    """What the secret is to open."""

    model_config = ConfigDict(extra="forbid")

    expires_after: ExpiresAfter = ExpiresAfter()
    session: dict[str, Any] = Field(
        default_factory=lambda: {"type": "realtime"},
        description="Settings that the session begins with, as in `session.update`.",
    )


class ClientSecret(BaseModel):
    """A secret for one session."""

    value: str
    expires_at: int = Field(description="Seconds since 1970.")
    session: dict[str, Any]


@router.post(
    "/v1/realtime/client_secrets",
    summary="Make a client secret",
    responses=error_responses(400, 401, 403, 413, 429, 503),
)
async def create_client_secret(
    request: Request, body: ClientSecretRequest, who: Annotated[Caller, Depends(caller)]
) -> ClientSecret:
    """Make a short-lived secret that opens one realtime session, for a browser to connect with.

    It goes into the header `Authorization: Bearer ek_...` or the WebSocket's subprotocol
    `openai-insecure-api-key.ek_...`.
    """
    who.spend(requests=1)
    state = state_of(request)
    session = _checked(body.session, state.engine)
    secret, token = state.tokens.create(who.key_id, body.session, body.expires_after.seconds)
    return ClientSecret(value=secret, expires_at=token.expires_at, session=session)


def _checked(session: dict[str, Any], engine: Engine) -> dict[str, Any]:
    """The settings that the session will begin with; ApiError 400 if it cannot have them."""
    try:
        settings = settings_from(session, offer_of(engine))
    except WireError as error:
        param = error.param or "session"
        raise ApiError(400, error.message, code=error.code, param=param) from None
    told: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    return told
