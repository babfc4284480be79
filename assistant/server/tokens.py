"""Client secrets: short-lived and good for one session, to be handed to a browser."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from assistant.server.config import ServerConfig
from assistant.server.errors import ApiError
from assistant.server.keys import hash_of

PREFIX = "ek_"


@dataclass(frozen=True)
class Token:
    """What a client secret stands for; ``expires_at`` is in seconds since 1970."""

    key_id: str | None
    session: Mapping[str, Any]
    expires_at: int


class Tokens:
    """The client secrets that wait to be used; they live as long as the process.

    Args:
        config: lives and how many may wait.
        wall: seconds since 1970.
    """

    def __init__(self, config: ServerConfig, wall: Callable[[], float]) -> None:
        self._config, self._wall = config, wall
        self._waiting: dict[str, Token] = {}

    def create(
        self, key_id: str | None, session: Mapping[str, Any], life_s: int | None = None
    ) -> tuple[str, Token]:
        """A new secret and what it stands for; a life longer than allowed is cut to what is.

        Raises ApiError 429 if too many wait.
        """
        now = self._wall()
        self._forget_old(now)
        if len(self._waiting) >= self._config.max_tokens_waiting:
            raise ApiError(
                429,
                f"{self._config.max_tokens_waiting} client secrets wait to be used, as many as "
                "may; use them or let them expire.",
                type="rate_limit_error",
                code="too_many_client_secrets",
                headers={"Retry-After": str(self._config.token_s)},
            )
        life_s = min(life_s or self._config.token_s, self._config.max_token_s)
        secret = PREFIX + secrets.token_urlsafe(32)
        token = Token(key_id, dict(session), int(now) + life_s)
        self._waiting[hash_of(secret)] = token
        return secret, token

    def redeem(self, secret: str) -> Token:
        """What a secret stands for; it is used up by this. ApiError 401 if it is not good."""
        token = self._waiting.pop(hash_of(secret), None)
        if token is None or token.expires_at <= self._wall():
            raise ApiError(
                401,
                "The client secret is unknown, used or expired; each opens one session, so "
                "create a new one.",
                type="authentication_error",
                code="invalid_client_secret",
            )
        return token

    def _forget_old(self, now: float) -> None:
        old = [name for name, token in self._waiting.items() if token.expires_at <= now]
        for name in old:
            del self._waiting[name]
