"""One conversation: listens, looks, thinks and speaks at once, and can be interrupted."""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Coroutine
from typing import Any

from assistant.ear import Ear
from assistant.errors import USER_ERRORS, VoxsightError
from assistant.events import (
    AudioIn,
    Backchannelled,
    Partial,
    PictureIn,
    PictureKept,
    Played,
    ReplySound,
    ReplyStopped,
    Seen,
    SessionClosed,
    SessionEvent,
    SessionFailed,
    SessionInput,
    Sighting,
    SpeechBegan,
    StopReply,
    TextIn,
    TurnEnded,
)
from assistant.reply import Gate, Playback, Reply
from assistant.session_parts import Parts, SessionConfig
from audio.pcm import SAMPLE_RATE, Samples, Sound, check_samples
from audio.spoken_words import SpokenWord
from audio.turn import (
    Backchannel,
    Done,
    Interrupted,
    MaybeDone,
    Resumed,
    SpeechStarted,
    TurnEvent,
)
from fusion.decoder import DecodeOptions, TextStream
from fusion.prompt import Turn
from vision.frames import Frame, FrameSelector, FrameState

__all__ = ["Parts", "Session", "SessionConfig"]

_log = logging.getLogger(__name__)


class Session:
    """One conversation of one person; it shares models with others and nothing else.

    ``run`` takes what comes in and gives what goes out. Answers are prepared when the person may
    be done, and held back until that is sure; more speech drops them without a trace. What an
    interruption cut off was never said, as far as the conversation remembers.
    """

    def __init__(
        self, parts: Parts, config: SessionConfig | None = None, *, name: str = "session"
    ) -> None:
        self._parts, self._config, self._name = parts, config or SessionConfig(), name
        config = self._config
        self._out: asyncio.Queue[SessionEvent] = asyncio.Queue()
        self._ear = Ear(
            *(parts.activity, parts.listener, parts.listening),
            *(config.turns, config.recognise_every_ms),
        )
        self._frames, self._camera = FrameSelector(config.frames), FrameState()
        self._memory = parts.new_memory()
        self._cache = parts.new_cache()
        self._turn, self._turn_end = 0, 0
        self._partial = Partial("", "")
        self._draft: Reply | None = None  # prepared for a turn that may be over
        self._reply: Reply | None = None  # being given
        self._looking: asyncio.Task[None] | None = None
        self._prefilling: asyncio.Task[None] | None = None

    async def run(self, inputs: AsyncIterable[SessionInput]) -> AsyncIterator[SessionEvent]:
        """The events of the session; the last one is SessionClosed or SessionFailed.

        Closing the iterator ends the session: no task outlives it.
        """
        serving = asyncio.create_task(self._serve(inputs), name=self._name)
        try:
            while True:
                event = await self._out.get()
                yield event
                if isinstance(event, SessionClosed | SessionFailed):
                    break
        finally:
            serving.cancel()
            await asyncio.wait([serving])

    async def _serve(self, inputs: AsyncIterable[SessionInput]) -> None:
        last: SessionEvent = SessionFailed("The session was ended from outside.")
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                async for item in inputs:
                    self._take(item)
                self._stop_everything()
            last = SessionClosed()
        except* USER_ERRORS as faults:
            last = SessionFailed(str(_first(faults)))
        except* Exception as faults:  # noqa: BLE001 - the border: whatever broke ends one session only
            _log.exception("session %s failed", self._name)
            fault = _first(faults)
            last = SessionFailed(f"The session failed: {type(fault).__name__}: {fault}")
        finally:
            self._out.put_nowait(last)

    def _emit(self, event: SessionEvent) -> None:
        if self._out.qsize() >= self._config.waiting_events:
            raise VoxsightError(
                f"The client has not read {self._config.waiting_events} events; read them as they "
                "come."
            )
        self._out.put_nowait(event)

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        return self._group.create_task(work)

    def _take(self, item: SessionInput) -> None:
        match item:
            case AudioIn(samples):
                self._hear(samples)
            case PictureIn(image):
                self._see(image)
            case TextIn(text):
                self._read(text)
            case Played(turn, samples):
                if self._reply is not None and self._reply.turn == turn:
                    self._reply.playback.reported = samples
                    self._check_heard_out()
            case StopReply():
                self._interrupt()

    # Listening

    def _hear(self, samples: Samples) -> None:
        check_samples(samples)
        if len(samples) > self._config.longest_chunk_s * SAMPLE_RATE:
            raise VoxsightError(
                f"Expected sound in pieces of at most {self._config.longest_chunk_s:g} s, got "
                f"{len(samples) / SAMPLE_RATE:.1f} s at once."
            )
        self._follow(self._ear.hear(samples))
        self._check_heard_out()
        if self._ear.due:
            self._start(self._recognise())

    def _follow(self, events: list[TurnEvent]) -> None:
        for event in events:
            match event:
                case SpeechStarted(_, begin):
                    self._resume_before_sound()
                    self._emit(SpeechBegan(begin))
                    self._ear.begin(begin)
                    self._partial = Partial("", "")
                case MaybeDone():
                    self._draft = self._prepare()
                case Resumed():
                    self._drop_draft()
                case Done(_, end):
                    self._interrupt()
                    self._turn_end = end
                    self._reply, self._draft = self._draft or self._prepare(), None
                    self._start(self._commit(self._reply, end))
                case Interrupted():
                    self._interrupt()
                case Backchannel():
                    self._ear.dismiss()
                    self._emit(Backchannelled())

    async def _recognise(self) -> None:
        events = await self._ear.read()
        heard = self._ear.heard
        partial = Partial(heard.committed.strip(), heard.tentative.strip())
        changed = self._ear.open and partial != self._partial
        if changed:
            self._partial = partial
            self._emit(partial)
        self._follow(events)
        if changed:
            self._prefill(heard.committed)

    def _prefill(self, words: str) -> None:
        """Run the words that are sure through the language model while the person still speaks."""
        idle = self._prefilling is None or self._prefilling.done()
        if idle and self._draft is None and self._reply is None:
            self._prefilling = self._start(self._prefill_now(self._memory.question(words.strip())))

    async def _prefill_now(self, turns: list[Turn]) -> None:
        parts = self._parts

        def work() -> None:
            parts.decoder.prefill(parts.prompts.build(turns, open_answer=False), self._cache)

        await parts.thinking.run(work)

    # Looking

    def _see(self, image: Any) -> None:
        kept = self._frames.see(self._camera, image, self._ear.position)
        if kept is not None:
            self._looking = self._start(self._look(kept, self._looking))

    async def _look(self, frame: Frame, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        seen = await self._parts.looking.run(lambda: self._parts.look(frame.image))
        picture = self._memory.see(seen, frame.at)
        sightings = tuple(Sighting(guess.name, guess.probability) for guess in seen.guesses)
        self._emit(PictureKept(picture.number, Seen(sightings, seen.recognised)))
        self._prefill("")

    # Answering

    def _prepare(self, question: str | None = None) -> Reply:
        """Begin an answer to what has been said so far; nothing of it goes out yet."""
        self._turn += 1
        playback = Playback(self._parts.tongue.voice.sample_rate, SAMPLE_RATE)
        reply = Reply(self._turn, self._emit, playback)
        if question is not None:
            reply.asked.set_result(question)
        reply.task = self._start(self._answer(reply))
        return reply

    async def _answer(self, reply: Reply) -> None:
        try:
            await self._answer_to(reply)
        except asyncio.CancelledError:
            if reply.gate is not Gate.CLOSED:  # not by us: without it the turn would never end
                raise VoxsightError("The answer was cancelled from outside.") from None
            raise

    async def _answer_to(self, reply: Reply) -> None:
        if not reply.asked.done():
            await self._recognise()
            if reply.gate is Gate.CLOSED:
                return
            reply.asked.set_result(self._ear.heard.text)
        if not reply.question:
            return
        if self._looking is not None:
            await asyncio.wait([self._looking])
        turns = self._memory.question(reply.question)
        reply.shown = turns[-1]

        async def wrote(text: str) -> None:
            reply.say(text, self._ear.position)

        async def spoke(start: int, sound: Sound, words: tuple[SpokenWord, ...]) -> None:
            reply.send(ReplySound(reply.turn, start, sound, words), self._ear.position)
            self._tell_audible(reply)

        await self._parts.tongue.speak(self._think(turns), wrote, spoke)
        reply.end(self._ear.position)
        self._check_heard_out()

    async def _think(self, turns: list[Turn]) -> AsyncIterator[str]:
        parts = self._parts
        options = DecodeOptions(max_tokens=self._config.max_answer_tokens)

        def begin() -> TextStream:
            return parts.decoder.stream(parts.prompts.build(turns), options, self._cache)

        async for piece in parts.thinking.iterate(begin):
            yield piece

    def _tell_audible(self, reply: Reply) -> None:
        if reply is self._reply and reply.audible:
            self._follow(self._ear.assistant(True))

    async def _commit(self, draft: Reply, end: int) -> None:
        """The turn is over: let the answer that was prepared go out, if it fits what was said."""
        question = await self._ear.finish()
        prepared = await draft.asked
        if draft.gate is Gate.CLOSED:  # the person went on before the answer began
            return
        if not question:
            draft.close()
            self._reply = None
            return
        if question != prepared:
            draft.close()
            draft = self._reply = self._prepare(question)
        draft.open(end, self._ear.position)
        self._tell_audible(draft)
        self._check_heard_out()

    def _resume_before_sound(self) -> None:
        """Someone speaks before the answer can be heard: it was not the end of the turn.

        What was asked waits in the memory, to be answered together with what follows.
        """
        reply = self._reply
        if reply is None or reply.audible:
            return
        if reply.gate is Gate.HELD:  # the last pass over its words is still under way
            if not reply.asked.done():
                reply.asked.set_result(self._ear.heard.text)
            if reply.question:
                self._emit(TurnEnded(reply.turn, reply.question, self._turn_end))
                self._emit(ReplyStopped(reply.turn, ""))
        self._interrupt()

    def _drop_draft(self) -> None:
        if self._draft is not None:
            self._draft.close()
            self._draft = None

    def _read(self, text: str) -> None:
        if self._reply is not None:
            self._reply.assume_read(self._ear.position)
            self._check_heard_out()
        self._interrupt()
        self._drop_draft()
        self._reply = self._prepare(text)
        self._reply.open(self._ear.position, self._ear.position)

    # The end of a reply

    def _check_heard_out(self) -> None:
        """Once a reply was heard to its end, remember it."""
        reply = self._reply
        if reply is not None and reply.finished(self._ear.position):
            self._reply = None
            self._remember(reply, reply.text)
            self._follow(self._ear.assistant(False))

    def _interrupt(self) -> None:
        """Stop the reply; the conversation remembers what was heard of it."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        heard, opened = reply.heard(self._ear.position), reply.gate is Gate.OPEN
        reply.close()
        self._remember(reply, heard, interrupted=True)
        if opened:
            self._emit(ReplyStopped(reply.turn, heard))
        self._follow(self._ear.assistant(False))

    def _remember(self, reply: Reply, heard: str, *, interrupted: bool = False) -> None:
        # What nobody was told an answer to was asked all the same, and waits in the memory.
        turn = reply.shown or Turn("user", (reply.question,))
        if reply.question:
            self._memory.remember(turn, heard, interrupted=interrupted)

    def _stop_everything(self) -> None:
        for reply in (self._draft, self._reply):
            if reply is not None:
                reply.close()


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    """The fault that ended the others."""
    first = faults.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
