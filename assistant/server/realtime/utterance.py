"""One stretch of a user's speech on its way to words."""

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

from assistant.ear import Listener
from assistant.server.realtime.payloads import LogProb
from assistant.workers import Worker
from audio.pcm import SAMPLE_RATE, Samples
from audio.transcript import HeardWord, TranscriptUpdate

#: Sound that may wait for recognition. The recogniser's window holds 30 s: what a client sends
#: faster than it is spoken would fall out of it unheard.
_BEHIND = 8 * SAMPLE_RATE
_EAGER, _FIRST = 2 * SAMPLE_RATE, SAMPLE_RATE * 8 // 100
#: A pass that takes longer has waited for other sessions.
_QUICK = SAMPLE_RATE // 4
_LEAST_PROBABILITY = 1e-6

Stage = Callable[[str], AbstractContextManager[None]]


class Utterance:
    """What is heard of one turn. Every turn has a recogniser's state of its own.

    So the words of one that is over can be settled while the next has begun. Only the event loop
    touches the state; the model runs in its thread on a copy of what it needs.

    Args:
        listener: the streaming recogniser.
        worker: its thread.
        begin: where in the stream it begins, in samples at 16 kHz.
        item_id: the item that it will be.
        stage: times the passes.
    """

    def __init__(
        self, listener: Listener, worker: Worker, begin: int, item_id: str, stage: Stage
    ) -> None:
        self._listener, self._worker, self._stage = listener, worker, stage
        self._state = listener.state()
        self._pass = asyncio.Lock()
        self._claimed = False
        self._passed = self._length = self._took = 0
        self._tentative: tuple[HeardWord, ...] = ()
        self.begin, self.item_id = begin, item_id
        #: Words that are final, in order.
        self.committed: tuple[HeardWord, ...] = ()
        #: The words know the stream up to here, and there was speech up to there.
        self.until = self.speech_until = begin
        #: Whether the client was told of it, and how many words of it.
        self.announced = False
        self.told = 0
        #: What the client was last told that may still change.
        self.hinted = ""

    @property
    def end(self) -> int:
        """Where in the stream its sound ends until now."""
        return self.begin + self._length

    @property
    def seconds(self) -> float:
        """How long it is until now."""
        return self._length / SAMPLE_RATE

    @property
    def sure(self) -> str:
        """The words that are final."""
        return "".join(word.text for word in self.committed).strip()

    @property
    def text(self) -> str:
        """All words so far."""
        return "".join(word.text for word in self.committed + self._tentative).strip()

    @property
    def unsure(self) -> str:
        """The words so far that the client was not told of as final."""
        return "".join(word.text for word in self.committed[self.told :] + self._tentative).strip()

    @property
    def behind(self) -> bool:
        """Whether recognition should catch up before more sound comes."""
        return self._length - self._passed >= _BEHIND

    def claim(self, interval: int) -> bool:
        """Whether a pass is due: `interval` samples are new and none is under way or claimed.

        Until the first word is sure, so that it is told soon, one pass follows the other. After
        that, and where models are waited for, half of the time at most is spent in passes.
        """
        eager = not self.committed and self._length < _EAGER
        if eager:
            interval = min(interval, _FIRST)
        share = 1 if eager and self._took <= _QUICK else 2
        interval = max(interval, share * self._took)
        if self._claimed or self._pass.locked() or self._length - self._passed < interval:
            return False
        self._claimed = True
        return True

    def hear(self, samples: Samples, speech_until: int) -> None:
        """The next sound (n,); in the stream there was speech up to sample `speech_until`."""
        if not self._length:
            self._passed = len(samples)  # hardly more than the silence before the speech
        self._length += len(samples)
        self.speech_until = speech_until
        self._listener.hear(self._state, samples, max(0, speech_until - self.begin))

    def untold(self) -> tuple[HeardWord, ...]:
        """Final words that the client was not told of; now it is."""
        new = self.committed[self.told :]
        self.told = len(self.committed)
        return new

    async def read(self) -> None:
        """One pass of the recogniser, if there is speech that it does not know."""
        async with self._pass:
            self._claimed = False
            self._passed = heard = self._length
            request = self._listener.request(self._state)
            if request is not None:
                with self._stage("transcribe"):
                    found = await self._worker.run(lambda: self._listener.recognise(request))
                self._follow(self._listener.accept(self._state, found))
            self._took = self._length - heard  # what came meanwhile, at the speed of sound
            self.until = self.begin + heard

    async def finish(self) -> str:
        """It is over: its words, for good."""
        await self.read()
        self._follow(self._listener.finish(self._state))
        return self.sure

    def _follow(self, update: TranscriptUpdate) -> None:
        self.committed += update.committed_new
        self._tentative = update.tentative


def log_probabilities(words: tuple[HeardWord, ...]) -> tuple[LogProb, ...]:
    """How sure the recogniser is of each word."""
    return tuple(
        LogProb.of(word.text, math.log(max(word.probability, _LEAST_PROBABILITY))) for word in words
    )
