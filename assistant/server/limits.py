"""How much one key may use: token buckets over an injected clock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from assistant.server.errors import ApiError


@dataclass(frozen=True)
class Limits:
    """Limits of one key; None is no limit."""

    sessions: int | None = None
    requests_per_minute: float | None = None
    audio_minutes_per_hour: float | None = None
    tokens_per_minute: float | None = None


class RateLimit(NamedTuple):
    """How a limit stands; ``reset_seconds`` is when all of it is there again."""

    name: str
    limit: int
    remaining: int
    reset_seconds: float


class Bucket:
    """An amount that is spent and comes back evenly over a period.

    The cost of some work is known only when it is done, so a bucket may be overdrawn; what comes
    next waits until the debt is paid off.
    """

    def __init__(self, capacity: float, period_s: float, now: Callable[[], float]) -> None:
        self.capacity, self.per_s, self._now = capacity, capacity / period_s, now
        self._level, self._at = capacity, now()

    @property
    def level(self) -> float:
        """What is left now; below zero is debt."""
        now = self._now()
        self._level = min(self.capacity, self._level + (now - self._at) * self.per_s)
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        """Spend ``amount``, if need be by overdrawing."""
        self._level = self.level - amount

    def wait_s(self, amount: float = 0.0) -> float:
        """Seconds until the level is ``amount``, and above zero."""
        missing = min(amount, self.capacity) - self.level
        return max(0.0, missing / self.per_s) if amount else self._wait_for_more()

    def reset_s(self) -> float:
        """Seconds until the bucket is full."""
        return (self.capacity - self.level) / self.per_s

    def _wait_for_more(self) -> float:
        # A tiny amount above zero, so that a caller who waits as told is let in.
        return 0.0 if self.level > 0 else (1e-3 - self.level) / self.per_s


class Meter:
    """What one key has used."""

    def __init__(self, name: str, limits: Limits, now: Callable[[], float]) -> None:
        self.limits, self._name = limits, name
        self.sessions = 0

        def bucket(amount: float | None, period_s: float) -> Bucket | None:
            return None if amount is None else Bucket(amount, period_s, now)

        audio = limits.audio_minutes_per_hour
        self._requests = bucket(limits.requests_per_minute, 60.0)
        self._audio_s = bucket(None if audio is None else audio * 60.0, 3600.0)
        self._tokens = bucket(limits.tokens_per_minute, 60.0)

    def spend(self, *, requests: int = 0, audio_s: float = 0.0, tokens: int = 0) -> None:
        """Count work.

        A request needs its place and that no limit is used up; audio needs that some of its own
        limit is left. Tokens are counted when they are written, so they never refuse: what is
        overdrawn makes the next request wait.

        Raises ApiError 429 with Retry-After, and then counts nothing.
        """
        if requests:
            self._check(self._requests, requests, "requests per minute")
            self._check(self._tokens, 0, "tokens per minute")
        if requests or audio_s:
            self._check(self._audio_s, 0, "seconds of audio per hour")
        costs = ((self._requests, requests), (self._audio_s, audio_s), (self._tokens, tokens))
        for bucket, amount in costs:
            if bucket is not None:
                bucket.take(amount)

    def _check(self, bucket: Bucket | None, amount: float, what: str) -> None:
        if bucket is None or not (wait_s := bucket.wait_s(amount)):
            return
        seconds = max(1, ceil(wait_s))
        raise ApiError(
            429,
            f"The key '{self._name}' has used up its {bucket.capacity:g} {what}; try again in "
            f"{seconds} s.",
            type="rate_limit_error",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(seconds)} | self.headers(),
        )

    @contextmanager
    def session(self) -> Iterator[None]:
        """Counts a session while it runs; ApiError 429 if the key has as many as it may."""
        limit = self.limits.sessions
        if limit is not None and self.sessions >= limit:
            raise ApiError(
                429,
                f"The key '{self._name}' has {limit} sessions open, as many as it may; close one.",
                type="rate_limit_error",
                code="too_many_sessions",
                headers={"Retry-After": "5"},
            )
        self.sessions += 1
        try:
            yield
        finally:
            self.sessions -= 1

    def rate_limits(self) -> tuple[RateLimit, ...]:
        """How the limits on requests and tokens stand."""
        named = (("requests", self._requests), ("tokens", self._tokens))
        return tuple(
            RateLimit(name, int(b.capacity), max(0, int(b.level)), round(b.reset_s(), 3))
            for name, b in named
            if b is not None
        )

    def headers(self) -> dict[str, str]:
        """The headers ``x-ratelimit-*`` as OpenAI's API sends them."""
        headers = {}
        for name, limit, remaining, reset_s in self.rate_limits():
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(remaining)
            headers[f"x-ratelimit-reset-{name}"] = f"{reset_s:g}s"
        return headers
