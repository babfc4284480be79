"""What one session hears: voice activity, turns and words, each with its own small state."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assistant.workers import Worker
from audio.asr_stream import Hypothesis, ListenState, Request
from audio.pcm import SAMPLE_RATE, Samples
from audio.transcript import HeardWord, TranscriptUpdate
from audio.turn import TurnConfig, TurnEvent, TurnTaker
from audio.vad import BLOCK, VadState

#: Speech that is silent for so long may be over; most stops within words are shorter.
_PAUSE = 3 * BLOCK


class VoiceActivity(Protocol):
    """The model of voice activity; see ``audio.vad.SileroVad``."""

    def push(self, state: VadState, samples: Samples) -> NDArray[np.float32]:
        """The probability of speech in each block that is now complete."""
        ...


class Listener(Protocol):
    """The streaming recogniser; see ``audio.asr_stream.StreamingRecogniser``."""

    def state(self) -> ListenState:
        """The state of a new stream."""
        ...

    def begin(self, state: ListenState, at: int) -> None:
        """An utterance begins at sample ``at``."""
        ...

    def hear(self, state: ListenState, samples: Samples, speech_until: int | None = None) -> None:
        """Take in sound, in which there was speech up to sample ``speech_until``."""
        ...

    def request(self, state: ListenState) -> Request | None:
        """What is to be recognised now, None if nothing is new."""
        ...

    def recognise(self, request: Request) -> Hypothesis:
        """One call of the model, in any thread."""
        ...

    def accept(self, state: ListenState, hypothesis: Hypothesis) -> TranscriptUpdate:
        """What the hypothesis changes."""
        ...

    def finish(self, state: ListenState) -> TranscriptUpdate:
        """The utterance is over: what was tentative is final."""
        ...


@dataclass(frozen=True)
class Heard:
    """The words of an utterance; recognition has heard the stream up to sample ``until``."""

    committed: str = ""
    tentative: str = ""
    until: int = 0

    @property
    def text(self) -> str:
        """All words so far."""
        return (self.committed + self.tentative).strip()


class Ear:
    """Follows one stream of sound.

    Sound is taken in at once, on the event loop: features and voice activity cost a fraction of a
    millisecond. Only the recogniser's model runs in its thread, on a copy of what it needs, so
    that nothing but the event loop touches the stream's state.

    Args:
        activity, listener: the models, shared by all sessions.
        worker: the recogniser's thread.
        config: thresholds of turn taking.
        interval_ms: recognition runs again when so much more was said.
    """

    def __init__(
        self,
        activity: VoiceActivity,
        listener: Listener,
        worker: Worker,
        config: TurnConfig,
        interval_ms: int,
    ) -> None:
        self._activity, self._listener, self._worker = activity, listener, worker
        self._interval = interval_ms * SAMPLE_RATE // 1000
        self._activity_state = VadState()
        self._state = listener.state()
        self._speech_off, self._speech_until = config.speech_off, 0
        self._turns = TurnTaker(config)
        self._pass = asyncio.Lock()
        self._passed = 0  # position at which the latest pass began
        self._utterance = 0  # counts them
        #: Whether an utterance has begun and is not over.
        self.open = False
        #: Samples taken in.
        self.position = 0
        self.heard = Heard()

    def hear(self, samples: Samples) -> list[TurnEvent]:
        """The next sound (n,); the events that follow from it."""
        first = self._activity_state.blocks
        probabilities = self._activity.push(self._activity_state, samples)
        voiced = np.flatnonzero(probabilities >= self._speech_off)
        if voiced.size:
            self._speech_until = (first + int(voiced[-1]) + 1) * BLOCK
        self.position += len(samples)
        self._listener.hear(self._state, samples, self._speech_until)
        return self._turns.hear(probabilities)

    def assistant(self, speaking: bool) -> list[TurnEvent]:
        """Whether the assistant can be heard from now on; the events that follow."""
        return self._turns.assistant(speaking)

    @property
    def due(self) -> bool:
        """Whether an utterance is open, no pass is running, and one is worth its cost.

        That is so if enough is new, and as soon as speech pauses with words that are not known:
        if it was the end, then what was said is known while it is still being waited for.
        """
        if not self.open or self._pass.locked():
            return False
        paused = self.position - self._speech_until >= _PAUSE
        unknown = self.heard.until < self._speech_until
        return (paused and unknown) or self.position - self._passed >= self._interval

    def begin(self, at: int) -> None:
        """An utterance begins at sample ``at``."""
        self._listener.begin(self._state, at)
        self.open, self._passed, self.heard = True, self.position, Heard(until=at)
        self._utterance += 1

    def dismiss(self) -> None:
        """The utterance was none: a backchannel."""
        self.open = False

    async def read(self) -> list[TurnEvent]:
        """One recognition pass: sets ``heard`` and returns the turn's events that follow."""
        utterance = self._utterance
        async with self._pass:
            await self._read_all()
        if not self.open or utterance != self._utterance:
            return []  # the words are of an utterance that is over
        return self._turns.read(self.heard.text, self.heard.until)

    async def finish(self) -> str:
        """The utterance is over: its words, for good.

        The model is called only if there was speech after the latest pass.
        """
        self.open, utterance = False, self._utterance
        async with self._pass:
            await self._read_all()
            if utterance != self._utterance:
                return ""
            self._follow(self._listener.finish(self._state), self.heard.until)
            return self.heard.text

    async def _read_all(self) -> None:
        self._passed = until = self.position
        request = self._listener.request(self._state)
        if request is None:
            self.heard = replace(self.heard, until=until)
            return
        utterance = self._utterance
        hypothesis = await self._worker.run(lambda: self._listener.recognise(request))
        if utterance == self._utterance:
            self._follow(self._listener.accept(self._state, hypothesis), until)

    def _follow(self, update: TranscriptUpdate, until: int) -> None:
        committed = self.heard.committed + _text(update.committed_new)
        self.heard = Heard(committed, _text(update.tentative), until)


def _text(words: Sequence[HeardWord]) -> str:
    return "".join(word.text for word in words)
