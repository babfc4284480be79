"""A conversation through a microphone and a speaker, with the device behind a small protocol."""

import asyncio
import importlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from assistant.errors import VoxsightError
from assistant.events import (
    AudioIn,
    Played,
    ReplySound,
    ReplyStopped,
    SessionEvent,
    SessionInput,
)
from assistant.rehearsal import Clock, Cue, Moment
from assistant.session import Session
from audio.pcm import SAMPLE_RATE, Samples

BLOCK_MS = 32
#: Blocks of the microphone that may wait for the session, 8 s; beyond these, the newest are lost,
#: and the session goes on with what it has.
WAITING_BLOCKS = 250


class Device(Protocol):
    """A microphone and a speaker that call back in threads of their own, block by block."""

    def start(
        self, rate: int, heard: Callable[[Samples], None], wanted: Callable[[int], Samples]
    ) -> float:
        """Begin.

        Args:
            rate: at which to play, in Hz.
            heard: to be given each block (n,) float32 at 16 kHz.
            wanted: gives the next so many samples to play, (n,) float32.

        Returns:
            How long after ``wanted`` gave a sample it is heard, in s.
        """
        ...

    def stop(self) -> None:
        """End; no callback comes after this."""
        ...


class Speaker:
    """What is to be played, between the session and the device's thread.

    What waits is bounded by the length of a reply, which the session's options limit.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        #: How long after it is taken a sample is heard, in samples.
        self.delay = 0
        self._lock = threading.Lock()
        self._parts: deque[Samples] = deque()
        self._turn: int | None = None
        self._taken = 0  # of the reply
        self._clock = 0  # samples that the device took, silence included
        self._marks: deque[tuple[int, int, int]] = deque()  # (clock, turn, taken)

    def follow(self, event: SessionEvent) -> None:
        """Play a reply's sound; stop at once when it was interrupted."""
        match event:
            case ReplySound(turn, _, sound, _):
                if sound.rate != self.rate:
                    raise VoxsightError(
                        f"Expected sound at {self.rate} Hz, got {sound.rate} Hz; one voice speaks."
                    )
                with self._lock:
                    if turn != self._turn:
                        self._drop(turn)
                    self._parts.append(sound.samples)
            case ReplyStopped():
                with self._lock:
                    self._drop(None)

    def _drop(self, turn: int | None) -> None:
        self._parts.clear()
        self._marks.clear()
        self._turn, self._taken = turn, 0

    def take(self, count: int) -> Samples:
        """The next ``count`` samples, silence where there are none; for the device's thread."""
        block = np.zeros(count, np.float32)
        with self._lock:
            at = 0
            while self._parts and at < count:
                part = self._parts.popleft()
                now = part[: count - at]
                block[at : at + len(now)] = now
                at += len(now)
                if len(now) < len(part):
                    self._parts.appendleft(part[len(now) :])
            self._clock += count
            self._taken += at
            if self._turn is not None and at:
                self._marks.append((self._clock, self._turn, self._taken))
        return block

    def played(self) -> Played | None:
        """How much of the reply has been heard, by the device's count; None if nothing is new."""
        report = None
        with self._lock:
            while self._marks and self._marks[0][0] + self.delay <= self._clock:
                _, turn, taken = self._marks.popleft()
                report = Played(turn, taken)
        return report


@dataclass
class LiveTalk:
    """A person at a microphone, talking with one session.

    Args:
        session: takes the sound.
        device: the microphone and the speaker.
        rate: of the session's voice, in Hz.
        cues: what comes in beside the sound.
        on_event: told every event as it comes.
        on_sound: given what the microphone heard.
        clock: injected in tests.
    """

    session: Session
    device: Device
    rate: int
    cues: Sequence[Cue] = ()
    on_event: Callable[[Moment], None] | None = None
    on_sound: Callable[[Samples], None] | None = None
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        #: Blocks that came while the session was too far behind.
        self.lost = 0
        self._blocks: asyncio.Queue[Samples | None] = asyncio.Queue()
        self._speaker = Speaker(self.rate)
        self._start = self.clock.now()

    async def run(self) -> None:
        """Talk until ``end`` is called or the session is over."""
        loop = asyncio.get_running_loop()

        def heard(block: Samples) -> None:  # in the device's thread, which reuses its buffer
            loop.call_soon_threadsafe(self._put, np.array(block, np.float32))

        delay = self.device.start(self.rate, heard, self._speaker.take)
        self._speaker.delay = round(delay * self.rate)
        try:
            async for event in self.session.run(self._inputs()):
                self._speaker.follow(event)
                if self.on_event is not None:
                    self.on_event(Moment(self.clock.now() - self._start, event))
        finally:
            self.device.stop()

    def end(self) -> None:
        """End the conversation; to be called from the event loop."""
        self._blocks.put_nowait(None)

    def _put(self, block: Samples) -> None:
        if self._blocks.qsize() < WAITING_BLOCKS:
            self._blocks.put_nowait(block)
        else:
            self.lost += 1

    async def _inputs(self) -> AsyncIterator[SessionInput]:
        cues = sorted(self.cues, key=lambda cue: cue.at)
        position = 0
        while (block := await self._blocks.get()) is not None:
            while cues and cues[0].at * SAMPLE_RATE <= position:
                yield await cues.pop(0).make()
            report = self._speaker.played()
            if report is not None:
                yield report
            if self.on_sound is not None:
                self.on_sound(block)
            if not position:  # its first sample was the start
                self._start = self.clock.now() - len(block) / SAMPLE_RATE
            position += len(block)
            yield AudioIn(block)


class SoundDevice:
    """The system's own microphone and speaker, through PortAudio.

    VoxsightError if the extra is not installed or the system has no such device.
    """

    def __init__(self) -> None:
        try:
            self._library: Any = importlib.import_module("sounddevice")
        except ImportError:
            raise VoxsightError(
                "Talking through a microphone needs an extra that is not installed; run "
                "pip install 'voxsight[talk]', or play a recording with --input FILE."
            ) from None
        except OSError as error:
            raise VoxsightError(
                f"The PortAudio library is missing ({error}); install it with the system's "
                "packages (libportaudio2 or portaudio)."
            ) from None
        self._streams: list[Any] = []

    def start(
        self, rate: int, heard: Callable[[Samples], None], wanted: Callable[[int], Samples]
    ) -> float:
        """Begin; see ``Device``."""

        def hear(block: Any, _frames: int, _time: Any, _status: Any) -> None:
            heard(block[:, 0])

        def play(block: Any, frames: int, _time: Any, _status: Any) -> None:
            block[:, 0] = wanted(frames)

        self._open("microphone", self._library.InputStream, SAMPLE_RATE, hear)
        self._open("speaker", self._library.OutputStream, rate, play)
        return float(self._streams[-1].latency)

    def _open(self, what: str, kind: Any, rate: int, callback: Callable[..., None]) -> None:
        size = rate * BLOCK_MS // 1000
        try:
            stream = kind(
                samplerate=rate,
                blocksize=size,
                channels=1,
                dtype="float32",
                latency="low",
                callback=callback,
            )
            self._streams.append(stream)
            stream.start()
        except (self._library.PortAudioError, ValueError) as error:
            self.stop()
            raise VoxsightError(
                f"No {what} can be opened at {rate} Hz ({error}); check the system's sound "
                "settings, or play a recording with --input FILE."
            ) from None

    def stop(self) -> None:
        """End; no callback comes after this."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()
