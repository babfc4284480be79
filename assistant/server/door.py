"""Who may come in, from where, and how much they may use."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.errors import ConfigError
from assistant.server import api_page, keys, tokens
from assistant.server.admission import Admission
from assistant.server.config import ServerConfig
from assistant.server.errors import ApiError, offered_subprotocol
from assistant.server.keys import Key, KeyFile
from assistant.server.limits import Limits, Meter, RateLimit
from assistant.server.tokens import Tokens

_log = logging.getLogger(__name__)
_CALLER = "voxsight.caller"
#: A browser cannot set headers on a WebSocket, so OpenAI's clients send the key in this one.
_SUBPROTOCOL_KEY = "openai-insecure-api-key."
_REALTIME = "/v1/realtime"
#: What needs no key: an operator's probes and the page of the API.
OPEN_PATHS = frozenset(("/healthz", "/readyz", "/openapi.json", *api_page.PATHS))
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Caller:
    """Who sends a request or opens a session.

    ``session_defaults`` are the settings that came with a client secret; ``subprotocol`` is what
    the handshake of a WebSocket is to answer with.
    """

    name: str
    key_id: str | None
    meter: Meter
    admission: Admission
    session_defaults: Mapping[str, Any] | None = None
    subprotocol: str | None = None

    def spend(self, *, requests: int = 0, audio_s: float = 0, tokens: int = 0) -> None:
        """Count work against the key's limits; see ``Meter.spend``.

        Raises ApiError 429 with Retry-After.
        """
        self.meter.spend(requests=requests, audio_s=audio_s, tokens=tokens)

    def session(self) -> AbstractContextManager[None]:
        """Counts a running session against key and server; ApiError 429 or 503 if one is full."""
        return self._session()

    @contextmanager
    def _session(self) -> Iterator[None]:
        with self.meter.session(), self.admission.session():
            yield

    def rate_limits(self) -> tuple[RateLimit, ...]:
        """How the key's limits stand, for ``rate_limits.updated``."""
        return self.meter.rate_limits()


class Door:
    """Checks where a connection comes from and whose it is.

    Args:
        config: the settings.
        keys: the keys; a change of their file counts at once.
        tokens: the client secrets.
        admission: the server's own limits, for the callers.
        now: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        config: ServerConfig,
        keys: KeyFile,
        tokens: Tokens,
        admission: Admission,
        now: Callable[[], float],
    ) -> None:
        self._config, self._keys, self._tokens = config, keys, tokens
        self._admission, self._now = admission, now
        self._meters: dict[str, Meter] = {}
        # On the user's own machine nothing is counted but what the server as a whole can do.
        self._local = Caller("local", None, Meter("local", Limits(), now), admission)

    def check_source(self, connection: HTTPConnection) -> None:
        """Refuses web pages of others; ApiError 403.

        A page that a user visits can reach a server on his machine. Its Origin gives it away; and
        if its own name was pointed at 127.0.0.1 (DNS rebinding), the Host header does.
        """
        host = connection.headers.get("host", "")
        allowed = {name.lower() for name in self._config.allowed_hosts}
        if self._config.loopback:
            allowed |= _LOOPBACK_NAMES | {self._config.host}
        name = _host_name(host)
        if allowed and name not in allowed:
            raise ApiError(
                403,
                f"This server is not known as '{name[:100]}'; call it by its address, or add the "
                "name to allowed_hosts.",
                type="permission_error",
                code="host_not_allowed",
            )
        origin = connection.headers.get("origin")
        if origin is not None and not self._is_allowed(origin.lower(), host.lower()):
            raise ApiError(
                403,
                f"Pages of the origin '{origin[:100]}' may not call this server; add it to "
                "allowed_origins if they should.",
                type="permission_error",
                code="origin_not_allowed",
            )

    def _is_allowed(self, origin: str, host: str) -> bool:
        own = origin.removeprefix("http://").removeprefix("https://") == host
        return (own and "://" in origin) or origin in self._config.allowed_origins

    def identify(self, connection: HTTPConnection) -> Caller:
        """Whose connection it is; uses up a client secret. ApiError 401 if nobody's."""
        subprotocol = offered_subprotocol(connection)
        return replace(self._whose(connection), subprotocol=subprotocol)

    def _whose(self, connection: HTTPConnection) -> Caller:
        try:
            return self._find(connection, _secret(connection))
        except ConfigError as error:
            # Who cannot be checked is not let in; what is wrong is for the operator to read.
            _log.error("keys cannot be read", exc_info=error)
            raise ApiError(
                503,
                "The server cannot read its keys; tell its operator.",
                type="server_error",
                code="keys_unreadable",
            ) from None

    def _find(self, connection: HTTPConnection, secret: str | None) -> Caller:
        if secret is not None and secret.startswith(tokens.PREFIX):
            return self._of_token(connection, secret)
        key = None
        if secret is not None and secret.startswith(keys.PREFIX):
            key = self._keys.find(secret)
        if key is not None:
            return self._of_key(key)
        if self._config.loopback and not (secret or "").startswith(keys.PREFIX):
            # Programs written for a hosted service always send some key; here none is needed.
            return self._local
        raise _unauthorised(
            "The key is unknown or revoked; ask the operator of this server for a new one."
            if secret
            else "Expected a key in the header 'Authorization: Bearer vx-...', got none."
        )

    def _of_key(self, key: Key) -> Caller:
        return Caller(key.name, key.id, self._meter(key), self._admission)

    def _of_token(self, connection: HTTPConnection, secret: str) -> Caller:
        if connection.scope["type"] != "websocket" or connection.url.path != _REALTIME:
            raise _unauthorised(f"A client secret opens only {_REALTIME}; use a key here.")
        token = self._tokens.redeem(secret)
        if token.key_id is None:
            return replace(self._local, session_defaults=token.session)
        for key in self._keys.active():
            if key.id == token.key_id:
                return replace(self._of_key(key), session_defaults=token.session)
        raise _unauthorised("The key that made this client secret was revoked.")

    def _meter(self, key: Key) -> Meter:
        limits = self._limits(key.limits)
        meter = self._meters.get(key.id)
        if meter is None or meter.limits != limits:
            meter = self._meters[key.id] = Meter(key.name, limits, self._now)
        return meter

    def _limits(self, own: Limits) -> Limits:
        config = self._config

        def first(value: float | None, default: float) -> float:
            return default if value is None else value

        return Limits(
            int(first(own.sessions, config.key_sessions)),
            first(own.requests_per_minute, config.key_requests_per_minute),
            first(own.audio_minutes_per_hour, config.key_audio_minutes_per_hour),
            first(own.tokens_per_minute, config.key_tokens_per_minute),
        )


def check_exposure(config: ServerConfig, keys: KeyFile) -> None:
    """Refuse to be open to all who can reach the address; ConfigError if nobody has a key."""
    if not config.loopback and not keys.active():
        raise ConfigError(
            f"Listening on {config.host} needs at least one key, or anybody could use the server; "
            "make one with 'voxsight keys create NAME'."
        )


class DoorMiddleware:
    """Lets in who may, before anything of a body is read."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        self._door.check_source(connection)
        if _open(connection.url.path):
            await self._app(scope, receive, send)
            return
        caller = scope[_CALLER] = self._door.identify(connection)

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                limits = caller.meter.headers().items()
                have = {name.lower() for name, _ in message.get("headers", ())}
                new = [(k.encode(), v.encode()) for k, v in limits if k.encode() not in have]
                message = {**message, "headers": [*message.get("headers", ()), *new]}
            await send(message)

        await self._app(scope, receive, send_with_limits)


def _open(path: str) -> bool:
    """Whether anybody may read what is there: what holds nothing of anyone, the page included."""
    return path in OPEN_PATHS or path in ("/", "/ui") or path.startswith("/ui/")


async def caller(connection: HTTPConnection) -> Caller:
    """Who calls: a dependency of routes, for HTTP and WebSocket."""
    known: Caller = connection.scope[_CALLER]
    return known


def _secret(connection: HTTPConnection) -> str | None:
    scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    for name in connection.scope.get("subprotocols", ()):
        if name.startswith(_SUBPROTOCOL_KEY):
            return str(name.removeprefix(_SUBPROTOCOL_KEY))
    return None


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _unauthorised(message: str) -> ApiError:
    return ApiError(
        401,
        message,
        type="authentication_error",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )
