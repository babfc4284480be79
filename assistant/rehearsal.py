"""Plays a recording into a session at the speed of speech, and writes down when what happened."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from assistant.answering import Workers
from assistant.errors import VoxsightError
from assistant.events import (
    AudioIn,
    Backchannelled,
    Partial,
    PictureIn,
    Played,
    ReplyEnded,
    ReplySound,
    ReplyStopped,
    SessionEvent,
    SessionInput,
    SpeechBegan,
    TurnEnded,
)
from assistant.session import Session
from assistant.workers import Worker
from audio.pcm import SAMPLE_RATE, Sound

T = TypeVar("T")

CHUNK = 1024  # samples, 64 ms
#: Turns of the event loop without work after which nothing more will come by itself.
_SETTLED = 50


@dataclass(frozen=True)
class Clock:
    """What time it is, in s, and how to wait; a test gives its own."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep


@dataclass(frozen=True)
class Cue:
    """Something that comes in beside the sound, ``at`` s after the start.

    ``item`` may be what makes it, called in a thread when it is time: a thousand frames of a
    camera need not be in memory.
    """

    at: float
    item: SessionInput | Callable[[], SessionInput]

    async def make(self) -> SessionInput:
        """What comes in."""
        return await asyncio.to_thread(self.item) if callable(self.item) else self.item


@dataclass(frozen=True)
class Moment:
    """An event, and when it came in s after the start."""

    at: float
    event: SessionEvent


class Listener:
    """Someone who hears replies at the speed of sound, and reports how far."""

    def __init__(self) -> None:
        self.turn: int | None = None
        #: When the reply's sound began, in s; put off by each part that comes too late, since a
        #: part that comes late is heard late, and so is all after it.
        self.begun = 0.0
        self._sent = 0
        self._rate = 1
        self._ended = False

    def follow(self, event: SessionEvent, at: float) -> None:
        """Take in an event that came at ``at`` s."""
        match event:
            case ReplySound(turn, start, sound, _):
                if turn != self.turn:
                    self.turn, self.begun, self._ended = turn, at, False
                    self._rate = sound.rate
                self.begun = max(self.begun, at - start / sound.rate)
                self._sent = start + len(sound.samples)
            case ReplyEnded(turn):
                self._ended = turn == self.turn
            case ReplyStopped(turn) if turn == self.turn:
                self.turn = None

    def played(self, now: float) -> Played | None:
        """How much of the current reply has been heard at ``now`` s; None if there is none."""
        if self.turn is None:
            return None
        heard = min(int((now - self.begun) * self._rate), self._sent)
        report = Played(self.turn, heard)
        if self._ended and heard == self._sent:
            self.turn = None
        return report


class Expectation:
    """Whether a conversation still owes something: the end of a turn, or of its reply."""

    def __init__(self) -> None:
        self._speaking = self._words = False
        self._replies: set[int] = set()

    def follow(self, event: SessionEvent) -> None:
        """Take in the next event."""
        match event:
            case SpeechBegan():
                self._speaking = True
            case Partial(committed, tentative):
                # Noise has no words and no turn; a late pass may read a turn that is over.
                self._words = self._speaking and bool(committed or tentative)
            case Backchannelled():
                self._speaking = self._words = False
            case TurnEnded(turn):
                self._speaking = self._words = False
                self._replies.add(turn)
            case ReplyEnded(turn) | ReplyStopped(turn):
                self._replies.discard(turn)

    @property
    def open(self) -> bool:
        """Whether words wait for the end of their turn, or a turn for the end of its reply."""
        return self._words or bool(self._replies)


@dataclass
class Rehearsal:
    """One recording, played into one session.

    A chunk comes when its last sample was spoken, as from a microphone.

    Args:
        session: takes the sound.
        sound: what is said, at 16 kHz.
        cues: pictures and whatever else comes in meanwhile.
        clock: injected in tests.
        patience_s: silence after the sound for as long as a turn or a reply goes on, at most.
    """

    session: Session
    sound: Sound
    cues: Sequence[Cue] = ()
    clock: Clock = field(default_factory=Clock)
    patience_s: float = 30.0
    #: Silence after the sound in any case: so long a turn may need to end.
    rest_s: float = 1.5
    on_event: Callable[[Moment], None] | None = None

    def __post_init__(self) -> None:
        if self.sound.rate != SAMPLE_RATE:
            raise VoxsightError(
                f"Expected a recording at {SAMPLE_RATE} Hz, got {self.sound.rate} Hz; resample it."
            )

    async def run(self) -> list[Moment]:
        """All events with their times; the sound begins at 0."""
        self._start = self.clock.now()
        self._listener, self._expected = Listener(), Expectation()
        moments = []
        async for event in self.session.run(self._inputs()):
            moment = Moment(self.clock.now() - self._start, event)
            self._listener.follow(event, moment.at)
            self._expected.follow(event)
            moments.append(moment)
            if self.on_event is not None:
                self.on_event(moment)
        return moments

    async def _inputs(self) -> AsyncIterator[SessionInput]:
        cues = sorted(self.cues, key=lambda cue: cue.at)
        least = self.sound.duration_s + self.rest_s
        most = self.sound.duration_s + self.patience_s
        position = 0
        while True:
            while cues and cues[0].at <= position / SAMPLE_RATE:
                yield await cues.pop(0).make()
            begin, position = position, position + CHUNK
            at = position / SAMPLE_RATE
            await self.clock.sleep(self._start + at - self.clock.now())
            report = self._listener.played(self.clock.now() - self._start)
            if report is not None:
                yield report
            busy = self._expected.open or self._listener.turn is not None
            if at >= most or (at >= least and not busy and not cues):
                return
            chunk = self.sound.samples[begin:position]
            yield AudioIn(np.pad(chunk, (0, CHUNK - len(chunk))))


def pictures(images: Sequence[Any], every_s: float = 0.5) -> list[Cue]:
    """Camera frames, one each ``every_s`` s; the last one is seen twice, for it to settle."""
    shown = [*images, images[-1]] if images else []
    return [Cue(number * every_s, PictureIn(image)) for number, image in enumerate(shown)]


# As fast as the models go


class _CountingWorker(Worker):
    """A worker that tells how many calls are under way, in a list that several workers share."""

    def __init__(self, name: str, turn: "threading.Lock", calls: list[str]) -> None:
        super().__init__(name, turn)
        self._name, self._calls = name, calls

    async def run(self, call: Callable[[], T]) -> T:
        self._calls.append(self._name)
        try:
            return await super().run(call)
        finally:
            self._calls.remove(self._name)


def hurried() -> tuple[Workers, Clock]:
    """Threads for the models, and a clock that skips every wait but stands still while they work.

    A recording is so played as fast as the models go. The times are then those of models that cost
    nothing: what turn taking alone makes people wait.
    """
    calls: list[str] = []
    turn = threading.Lock()
    names = ("listen", "look", "think", "speak")
    workers = Workers(*(_CountingWorker(name, turn, calls) for name in names))
    return workers, skipping_clock(lambda: bool(calls))


def skipping_clock(working: Callable[[], bool]) -> Clock:
    """A clock on which only waiting takes time, and that only once ``working`` has ended."""
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        quiet = 0
        while quiet < _SETTLED:
            busy = working()
            await asyncio.sleep(0.001 if busy else 0)
            quiet = 0 if busy else quiet + 1
        now += max(0.0, seconds)

    return Clock(lambda: now, sleep)
