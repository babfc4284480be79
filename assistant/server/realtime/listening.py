"""What a dialogue hears: the input audio buffer, voice activity and turns, and their words."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from assistant.ear import Listener, VoiceActivity
from assistant.server.realtime.bounds import DialogueLimits
from assistant.server.realtime.choices import SemanticVad, TurnDetection
from assistant.server.realtime.sound_buffer import SoundBuffer
from assistant.server.realtime.turns import turn_config
from assistant.server.realtime.utterance import Stage, Utterance
from assistant.server.realtime.wire import WireError, new_id
from assistant.workers import Worker
from audio.pcm import SAMPLE_RATE, Samples
from audio.turn import Backchannel, Done, SpeechStarted, TurnEvent, TurnTaker
from audio.vad import BLOCK, VadState

_STEP = SAMPLE_RATE // 10  # sound is followed in steps of 100 ms, however much comes at once
_LEAST = SAMPLE_RATE // 10  # that can be committed, as in the API
_MS = SAMPLE_RATE // 1000


@dataclass(frozen=True)
class Heard:
    """A turn that is over: its words to be, its sound, and where in the stream it ends."""

    utterance: Utterance
    samples: Samples
    end: int


class Listening:
    """Follows one stream of sound; places are samples at 16 kHz since it began.

    Args:
        activity, listener: the models.
        worker: the recogniser's thread.
        limits: how much may be kept.
        stage: times the recogniser.
        on_turn: told each event of a turn with its utterance, and for `Done` with what was heard.
        recognise: makes a pass over an utterance and tells `follow`; `on_due` lets it be made
            beside, for there is enough that is new.
        audible: whether the assistant can be heard when the stream is at this place.
    """

    def __init__(
        self,
        activity: VoiceActivity,
        listener: Listener,
        worker: Worker,
        *,
        limits: DialogueLimits,
        stage: Stage,
        on_turn: Callable[[TurnEvent, Utterance, Heard | None], None],
        recognise: Callable[[Utterance], Awaitable[None]],
        on_due: Callable[[Utterance], None],
        audible: Callable[[int], bool],
    ) -> None:
        self._activity, self.listener, self._worker = activity, listener, worker
        self._limits, self._stage = limits, stage
        self._on_turn, self._audible = on_turn, audible
        self._recognise, self._on_due = recognise, on_due
        self._interval = limits.recognise_every_ms * _MS
        self._voice = VadState()
        self._buffer = SoundBuffer()
        self._speech_until = 0
        self._detection: TurnDetection | None = None
        #: The utterance that is open, if there is one.
        self.utterance: Utterance | None = None
        self.position = 0
        self._restart()

    def configure(self, detection: TurnDetection | None, listener: Listener) -> Utterance | None:
        """Other turn detection or another recogniser; the utterance that ends by it.

        Its sound stays in the buffer, so that it may still be committed.
        """
        if detection == self._detection and listener is self.listener:
            return None
        utterance, self.utterance = self.utterance, None
        self._detection, self.listener = detection, listener
        self._restart()
        return utterance

    @property
    def overlapping(self) -> bool:
        """Whether speech beside the assistant is judged before it counts: only `semantic_vad`."""
        return isinstance(self._detection, SemanticVad)

    def check_room(self, count: int) -> None:
        """WireError if `count` more samples would be too many to wait for a commit."""
        waiting = len(self._buffer) + count
        if self._detection is None and waiting > self._limits.max_buffer_s * SAMPLE_RATE:
            raise WireError(
                f"The input audio buffer holds at most {self._limits.max_buffer_s:g} s; commit or "
                "clear it before more is appended.",
                "input_audio_buffer_full",
                "audio",
            )

    async def append(self, samples: Samples) -> None:
        """The next sound (n,) float32 at 16 kHz.

        What comes faster than it is spoken waits here until recognition has caught up.
        """
        for start in range(0, len(samples), _STEP):
            self._hear(samples[start : start + _STEP])
            utterance = self.utterance
            if utterance is not None and utterance.behind:
                await self._recognise(utterance)
            elif utterance is not None and utterance.claim(self._interval):
                self._on_due(utterance)
            if start:
                await asyncio.sleep(0)  # so that a long piece does not hold up everything else

    def follow(self, utterance: Utterance) -> None:
        """An utterance's words are known better: the turn may end sooner, or be an interruption."""
        if utterance is self.utterance and self._detection is not None:
            self._take(self._turns.read(utterance.text, utterance.until - self._base))

    def commit(self) -> Heard:
        """The client says that the turn is over; WireError if there is hardly any sound."""
        if len(self._buffer) < _LEAST:
            raise WireError(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms "
                f"of audio, but buffer only has {len(self._buffer) / _MS:.2f}ms of audio.",
                "input_audio_buffer_commit_empty",
            )
        if self.utterance is None:
            self._open(self._buffer.begin)
        heard = self._heard(self.position)
        self._restart()
        return heard

    def clear(self) -> Utterance | None:
        """Forget what was not committed; the utterance that ends by it."""
        utterance, self.utterance = self.utterance, None
        self._buffer.drop(self.position)
        self._restart()
        return utterance

    def idle_turn(self) -> Heard:
        """What came in without speech, as a turn."""
        self._open(self._buffer.begin)
        return self._heard(self.position)

    def _restart(self) -> None:
        config = turn_config(self._detection)
        self._turns = TurnTaker(config)
        self._base = self._voice.blocks * BLOCK  # where the turn taker's time begins
        self._speech_off = config.speech_off
        self._kept_silence = (config.pre_roll_ms + 1000) * _MS

    def _hear(self, samples: Samples) -> None:
        first = self._voice.blocks
        probabilities = self._activity.push(self._voice, samples)
        voiced = np.flatnonzero(probabilities >= self._speech_off)
        if voiced.size:
            self._speech_until = (first + int(voiced[-1]) + 1) * BLOCK
        self.position += len(samples)
        self._buffer.push(samples)
        if self._detection is None and self.utterance is None:
            self._open(self._buffer.begin)
        elif self.utterance is not None:
            self.utterance.hear(samples, self._speech_until)
        if self._detection is not None:
            if self.overlapping:
                self._take(self._turns.assistant(self._audible(self.position)))
            self._take(self._turns.hear(probabilities))
            self._bound()

    def _bound(self) -> None:
        if self.utterance is None:
            self._buffer.drop(self.position - self._kept_silence)
        elif len(self._buffer) >= self._limits.max_buffer_s * SAMPLE_RATE:
            self._take([Done(self.position - self._base, self.position - self._base)])
            self._restart()

    def _open(self, begin: int) -> None:
        begin = max(begin, self._buffer.begin)
        self.utterance = Utterance(self.listener, self._worker, begin, new_id("item"), self._stage)
        self.utterance.hear(self._buffer.since(begin), self._speech_until)

    def _heard(self, end: int) -> Heard:
        utterance, self.utterance = self.utterance, None
        assert utterance is not None
        heard = Heard(utterance, self._buffer.since(utterance.begin), end)
        self._buffer.drop(self.position)
        return heard

    def _take(self, events: list[TurnEvent]) -> None:
        for event in events:
            if isinstance(event, SpeechStarted):
                self._open(event.begin + self._base)
            utterance, heard = self.utterance, None
            if utterance is None:
                continue  # it ended while its events were being followed
            if isinstance(event, Done):
                heard = self._heard(self.position)
            elif isinstance(event, Backchannel):
                self.utterance = None
            self._on_turn(event, utterance, heard)
