"""When the recogniser passes over an utterance that is not over."""

import asyncio
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import pytest

from assistant.server.realtime.utterance import Utterance
from audio.pcm import SAMPLE_RATE
from audio.transcript import HeardWord, TranscriptUpdate

_MS = SAMPLE_RATE // 1000
_INTERVAL = 500 * _MS
WORD = HeardWord(" yes", 0, 3200, 0.9)


class Speaker:
    """Speech that goes on while a pass takes its time; the recogniser is sure at a given pass."""

    def __init__(self, took_ms: int, sure_at: int) -> None:
        self.took_ms, self.sure_at, self.passes = took_ms, sure_at, 0
        stage = cast(Any, lambda name: nullcontext())
        self.utterance = Utterance(cast(Any, self), cast(Any, self), 0, "item_1", stage)
        self.speak(300)

    def speak(self, milliseconds: int) -> None:
        self.utterance.hear(np.zeros(milliseconds * _MS, np.float32), 0)

    def interval_ms(self) -> int:
        """How much is spoken from one pass to the beginning of the next."""
        spoken = self.took_ms if self.passes else 0
        while not self.utterance.claim(_INTERVAL):
            self.speak(20)
            spoken += 20
        asyncio.run(self.utterance.read())
        return spoken

    # The listener and its thread

    def state(self) -> None:
        return None

    def hear(self, state: Any, samples: Any, speech_until: int) -> None:
        return None

    def request(self, state: Any) -> object:
        return object()

    async def run(self, call: Any) -> Any:
        self.speak(self.took_ms)
        return call()

    def recognise(self, request: Any) -> object:
        self.passes += 1
        return request

    def accept(self, state: Any, found: Any) -> TranscriptUpdate:
        return TranscriptUpdate((WORD,) if self.passes == self.sure_at else (), ())


@pytest.mark.parametrize(
    ("took_ms", "intervals"),
    [
        (60, [80, 80, 80, 500, 500]),  # eager up to the first word, which the third pass tells
        (160, [80, 160, 160, 500, 500]),  # one after the other
        (400, [80, 800, 800, 800, 800]),  # others are waited for: half of the time at most
    ],
)
def test_passes_are_close_until_the_first_word_and_share_the_models(
    took_ms: int, intervals: list[int]
) -> None:
    speaker = Speaker(took_ms, sure_at=3)
    assert [speaker.interval_ms() for _ in intervals] == intervals


def test_who_says_nothing_that_is_understood_is_not_listened_to_so_often_for_ever() -> None:
    speaker = Speaker(60, sure_at=0)
    found = [speaker.interval_ms() for _ in range(25)]
    assert found[0] == 80 and found[-1] == 500
    assert speaker.utterance.seconds > 2
