"""Token buckets and what a key has used, over a clock that the test turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.server.errors import ApiError
from assistant.server.limits import Bucket, Limits, Meter


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@given(
    st.floats(1, 1000),
    st.floats(1, 3600),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=30),
)
def test_a_bucket_never_gives_more_than_its_rate(
    capacity: float, period_s: float, steps: list[tuple[float, float]]
) -> None:
    clock = Clock()
    bucket = Bucket(capacity, period_s, clock)
    given_out, began = 0.0, clock.at
    for pause_s, amount in steps:
        clock.at += pause_s
        if not bucket.wait_s(amount) and amount <= capacity:
            bucket.take(amount)
            given_out += amount
        assert bucket.level <= capacity + 1e-9
    assert given_out <= capacity + (clock.at - began) * capacity / period_s + 1e-6


@given(st.floats(1, 1000), st.floats(0, 5000), st.floats(0, 100))
def test_who_waits_as_told_is_let_in(capacity: float, debt: float, amount: float) -> None:
    clock = Clock()
    bucket = Bucket(capacity, 60.0, clock)
    bucket.take(debt)
    clock.at += bucket.wait_s(amount) * (1 + 1e-9) + 1e-6
    assert bucket.wait_s(amount) == pytest.approx(0.0, abs=1e-6)


def test_requests_are_refused_until_time_has_passed() -> None:
    clock = Clock()
    meter = Meter("ann", Limits(requests_per_minute=3), clock)
    for _ in range(3):
        meter.spend(requests=1)
    with pytest.raises(ApiError) as refused:
        meter.spend(requests=1)
    assert refused.value.status == 429
    assert refused.value.headers["Retry-After"] == "20"
    assert refused.value.headers["x-ratelimit-remaining-requests"] == "0"
    clock.at += 20.0
    meter.spend(requests=1)
    with pytest.raises(ApiError):
        meter.spend(requests=1)


def test_tokens_never_refuse_but_their_debt_does() -> None:
    clock = Clock()
    meter = Meter("ann", Limits(tokens_per_minute=60), clock)
    meter.spend(requests=1)
    meter.spend(tokens=90)
    meter.spend(tokens=30)
    with pytest.raises(ApiError, match="60 tokens per minute; try again in 61 s"):
        meter.spend(requests=1)
    meter.spend(audio_s=5)
    clock.at += 61.0
    meter.spend(requests=1)


def test_sound_is_refused_when_its_limit_is_used_up() -> None:
    clock = Clock()
    meter = Meter("ann", Limits(audio_minutes_per_hour=1), clock)
    meter.spend(audio_s=90)  # one recording may overdraw: its length is known when it is decoded
    with pytest.raises(ApiError, match="seconds of audio"):
        meter.spend(audio_s=1)
    with pytest.raises(ApiError):
        meter.spend(requests=1)
    clock.at += 31 * 60.0
    meter.spend(requests=1, audio_s=1)


def test_what_is_refused_is_not_counted() -> None:
    clock = Clock()
    meter = Meter("ann", Limits(requests_per_minute=10, tokens_per_minute=60), clock)
    meter.spend(tokens=61)
    for _ in range(5):
        with pytest.raises(ApiError):
            meter.spend(requests=1)
    assert {r.name: r.remaining for r in meter.rate_limits()} == {"requests": 10, "tokens": 0}


def test_sessions_are_counted_while_they_run() -> None:
    meter = Meter("ann", Limits(sessions=1), Clock())
    with meter.session():
        with pytest.raises(ApiError) as refused, meter.session():
            pass
        assert (refused.value.status, refused.value.code) == (429, "too_many_sessions")
    with pytest.raises(KeyError), meter.session():
        raise KeyError
    with meter.session():
        pass


def test_headers_as_openai_sends_them() -> None:
    clock = Clock()
    meter = Meter("ann", Limits(requests_per_minute=60, tokens_per_minute=600), clock)
    meter.spend(requests=1, tokens=15)
    assert meter.headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "585",
        "x-ratelimit-reset-tokens": "1.5s",
    }


def test_without_limits_nothing_is_counted() -> None:
    meter = Meter("local", Limits(), Clock())
    for _ in range(1000):
        meter.spend(requests=1, audio_s=1e6, tokens=10**6)
    assert meter.headers() == {}
