"""One reply of a session: thought and spoken perhaps before it is certain that it is wanted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from assistant.events import (
    ReplyEnded,
    ReplySound,
    ReplyText,
    SessionEvent,
    TurnEnded,
)
from assistant.workers import Worker
from audio.pcm import Sound
from audio.speech_text import ClauseSplitter, SplitRules
from audio.spoken_words import SpokenWord, words_heard
from audio.tts import Voice
from fusion.prompt import Turn

#: Clauses that may wait for the voice. The language model writes faster than anyone speaks; beyond
#: this many it waits, so that a very long answer does not pile up.
WAITING_CLAUSES = 16


@dataclass
class Playback:
    """How much of a reply has been heard.

    The listener reports it; without reports it is guessed from the sound that has come in since,
    which arrives at the speed of time. All but ``rate_in`` counts samples of the reply.
    """

    rate: int
    rate_in: int
    sent: int = 0
    reported: int | None = None
    begun: int | None = None  # position of the sound coming in when the first of it was sent

    def played(self, now: int) -> int:
        """Samples heard at position ``now`` of the sound coming in."""
        if self.reported is not None:
            return min(self.reported, self.sent)
        if self.begun is None:
            return 0
        return min((now - self.begun) * self.rate // self.rate_in, self.sent)


class Gate(Enum):
    """Whether a reply's events go out: not yet, at once, or never (again)."""

    HELD = "held"
    OPEN = "open"
    CLOSED = "closed"


def _future() -> "asyncio.Future[str]":
    return asyncio.get_running_loop().create_future()


@dataclass
class Reply:
    """The answer to turn ``turn``; ``emit`` sends its events once the gate is open."""

    turn: int
    emit: Callable[[SessionEvent], None]
    playback: Playback
    text: str = ""
    words: list[SpokenWord] = field(default_factory=list)
    ended: bool = False  # everything was said
    gate: Gate = Gate.HELD
    task: "asyncio.Task[None] | None" = None
    #: The words of the question, once they are recognised, and the turn that shows them.
    asked: "asyncio.Future[str]" = field(default_factory=_future)
    shown: Turn | None = None
    _held: list[SessionEvent] = field(default_factory=list)

    @property
    def question(self) -> str:
        """What it answers; "" as long as that is not known."""
        return self.asked.result() if self.asked.done() else ""

    def open(self, end: int, now: int) -> None:
        """The turn ended at sample ``end``: send what was prepared, and the rest as it comes."""
        self.gate = Gate.OPEN
        self.emit(TurnEnded(self.turn, self.question, end))
        held, self._held = self._held, []
        for event in held:
            self._deliver(event, now)

    def close(self) -> None:
        """Send nothing more, whatever is still on its way."""
        self.gate = Gate.CLOSED
        self._held.clear()
        if self.task is not None:
            self.task.cancel()
        if not self.asked.done():
            self.asked.set_result("")

    def send(self, event: SessionEvent, now: int) -> None:
        """Send an event, or hold it back until the gate opens."""
        if self.gate is Gate.OPEN:
            self._deliver(event, now)
        elif self.gate is Gate.HELD:
            self._held.append(event)

    def _deliver(self, event: SessionEvent, now: int) -> None:
        if isinstance(event, ReplySound):
            if self.playback.begun is None:
                self.playback.begun = now
            self.playback.sent = event.start + len(event.sound.samples)
            self.words.extend(event.words)
        self.emit(event)

    def say(self, text: str, now: int) -> None:
        """More of the text was written."""
        self.text += text
        self.send(ReplyText(self.turn, text), now)

    def end(self, now: int) -> None:
        """Everything was written and spoken."""
        self.ended = True
        self.send(ReplyEnded(self.turn, self.text.strip()), now)

    def assume_read(self, now: int) -> None:
        """The listener answers: one who sends neither sound nor reports has read all of it."""
        playback = self.playback
        if self.ended and playback.reported is None and playback.begun in (None, now):
            playback.reported = playback.sent

    @property
    def audible(self) -> bool:
        """Whether some of its sound was sent."""
        return self.gate is Gate.OPEN and self.playback.sent > 0

    def finished(self, now: int) -> bool:
        """Whether it was heard to its end."""
        return (
            self.gate is Gate.OPEN
            and self.ended
            and self.playback.played(now) >= self.playback.sent
        )

    def heard(self, now: int) -> str:
        """The words that have been heard."""
        count = words_heard(self.words, self.playback.played(now))
        return " ".join(word.text for word in self.words[:count])


@dataclass(frozen=True)
class Tongue:
    """A voice and the thread that it speaks in; ``rules`` say where a text is cut for it."""

    voice: Voice
    worker: Worker
    rules: SplitRules = field(default_factory=SplitRules)

    async def speak(
        self,
        pieces: AsyncIterator[str],
        on_text: Callable[[str], Awaitable[None]],
        on_sound: Callable[[int, Sound, tuple[SpokenWord, ...]], Awaitable[None]],
    ) -> None:
        """Speak a text clause by clause while it is being written.

        Args:
            pieces: the text as the language model writes it.
            on_text: told each piece.
            on_sound: told each part of the sound as (sample where it begins, part, words that
                begin in it).
        """
        clauses: asyncio.Queue[str | None] = asyncio.Queue(WAITING_CLAUSES)

        async def write() -> None:
            splitter = ClauseSplitter(self.rules)
            async for piece in pieces:
                await on_text(piece)
                for clause in splitter.feed(piece):
                    await clauses.put(clause)
                    await asyncio.sleep(0)  # the voice takes its turn before the next piece does
            for clause in splitter.finish():
                await clauses.put(clause)
            await clauses.put(None)

        async def speak() -> None:
            speaking = self.voice.start()
            begin = end = 0
            while (clause := await clauses.get()) is not None:
                async for chunk in self.worker.iterate(partial(speaking.stream, clause)):
                    words = tuple(_later(word, begin) for word in chunk.words)
                    sound = Sound(chunk.samples, self.voice.sample_rate)
                    await on_sound(begin + chunk.start, sound, words)
                    end = begin + chunk.start + len(chunk.samples)
                begin = end

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(speak())


def _later(word: SpokenWord, samples: int) -> SpokenWord:
    return SpokenWord(word.text, word.start + samples, word.end + samples)
