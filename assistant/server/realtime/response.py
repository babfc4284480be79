"""One response as the client sees it: pieces from the models become events, in the API's order.

    HELD --open--> OPEN --the last piece, cancel or fail--> CLOSED
      `----------------cancel--------------------------------^

A response that is prepared before it is certain that it is wanted is HELD: its pieces wait, and
if it is not wanted they are dropped without a trace. Once OPEN every piece goes out at once, and
however it ends, everything that was begun is ended and `response.done` is the last.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from assistant.reply import Gate
from assistant.server.realtime import events_out as out
from assistant.server.realtime.context import Prompt, Question
from assistant.server.realtime.items import Item
from assistant.server.realtime.output import CallOutput, Ending, MessageOutput, Place
from assistant.server.realtime.payloads import (
    InputTokens,
    OutputTokens,
    RateLimit,
    Response,
    ResponseSound,
    ResponseVoice,
    StatusDetails,
    StatusError,
    Usage,
)
from assistant.server.realtime.record import Emit, Record
from assistant.server.realtime.settings import SessionSettings
from assistant.server.realtime.wire import new_id
from assistant.writing import CallBegan, CallDelta, TextDelta, WritingEnded
from audio.pcm import Sound
from audio.spoken_words import SpokenWord

Cancelled = Literal["turn_detected", "client_cancelled"]


@dataclass(frozen=True, eq=False)
class Voiced:
    """More of the sound, from its sample `start` on, with the words that begin in it."""

    start: int
    sound: Sound
    words: tuple[SpokenWord, ...]


@dataclass(frozen=True)
class Failed:
    """A model could not go on."""

    code: str
    message: str
    type: str = "server_error"


Piece = TextDelta | Voiced | CallBegan | CallDelta | WritingEnded | Failed


@dataclass(frozen=True)
class Surroundings:
    """What a response needs of its dialogue.

    record: the conversation that it belongs to, None for one beside it; conversation_id: the
    record's; count: tokens of a text; limits: how the caller's limits stand; took: counts a time.
    """

    emit: Emit
    record: Record | None
    conversation_id: str | None
    voice_rate: int
    count: Callable[[str], int]
    limits: Callable[[], tuple[RateLimit, ...]]
    took: Callable[[str, float], None]
    ended: Callable[["ResponseRun"], None]
    clock: Callable[[], float] = time.monotonic


class ResponseRun:
    """A response from its first thought to `response.done`.

    Args:
        around: its dialogue.
        settings: what holds for it.
        metadata: echoed to the client.
        question: what it answers, if that is no item yet.
    """

    def __init__(
        self,
        around: Surroundings,
        settings: SessionSettings,
        metadata: Mapping[str, str] | None = None,
        question: Question | None = None,
    ) -> None:
        self._around, self.settings, self.question = around, settings, question
        self._metadata = dict(metadata) if metadata is not None else None
        self.id = new_id("resp")
        self.gate = Gate.HELD
        self.task: asyncio.Task[None] | None = None
        #: What the model was asked, once that is known.
        self.prompt: Prompt | None = None
        self.usage: Usage | None = None
        self._held: list[Piece] = []
        self._items: list[Item] = []
        self._item: MessageOutput | CallOutput | None = None
        self._written = ""
        self._began = around.clock()
        self._marks: set[str] = set()

    @property
    def wanted(self) -> bool:
        """Whether pieces are still taken."""
        return self.gate is not Gate.CLOSED

    @property
    def spoken(self) -> bool:
        """Whether it is to be heard."""
        return self.settings.output_modalities == ("audio",)

    @property
    def in_conversation(self) -> bool:
        """Whether its items belong to the conversation."""
        return self._around.record is not None

    @property
    def open_item_id(self) -> str | None:
        """The item that is being given."""
        return self._item.item.id if self._item is not None else None

    def take(self, piece: Piece) -> None:
        """A piece from the models: it goes out, waits, or is dropped, as the gate stands."""
        self._mark(piece)
        if self.gate is Gate.OPEN:
            self._give(piece)
        elif self.gate is Gate.HELD:
            self._held.append(piece)

    def open(self) -> None:
        """It is wanted: give what is there, and the rest as it comes."""
        self.gate = Gate.OPEN
        self._around.emit(out.ResponseCreated(response=self._resource("in_progress")))
        if limits := self._around.limits():
            self._around.emit(out.RateLimitsUpdated(rate_limits=limits))
        held, self._held = self._held, []
        for piece in held:
            self.take_open(piece)

    def take_open(self, piece: Piece) -> None:
        """A piece that was held, unless an earlier one ended the response."""
        if self.gate is Gate.OPEN:
            self._give(piece)

    def cancel(self, reason: Cancelled) -> None:
        """Nobody wants it any more. What was held is dropped; what was begun is ended."""
        if self.gate is Gate.OPEN:
            details = StatusDetails(type="cancelled", reason=reason)
            self._end("cancelled", details, Ending.CUT)
        self._close()
        if self.task is not None:
            self.task.cancel()

    def _give(self, piece: Piece) -> None:
        match piece:
            case TextDelta(text):
                self._write(text)
            case Voiced(start, sound, words):
                if isinstance(self._item, MessageOutput):
                    self._item.say(start, sound.samples, words)
            case CallBegan(_, call_id, name):
                self._end_item(Ending.COMPLETE)
                self._item = CallOutput(self._place(), call_id, name)
            case CallDelta(_, arguments):
                if isinstance(self._item, CallOutput):
                    self._item.add(arguments)
            case WritingEnded():
                self._finish(piece)
            case Failed(code, message, kind):
                error = StatusError(type=kind, code=code, message=message)
                self._end("failed", StatusDetails(type="failed", error=error), Ending.CUT)
                self._close()

    def _write(self, text: str) -> None:
        if not isinstance(self._item, MessageOutput):
            text = text.lstrip()
            if not text:
                return  # nothing is said yet
            self._end_item(Ending.COMPLETE)
            output = self.settings.audio.output
            format = output.format if self.spoken and output is not None else None
            self._item = MessageOutput(self._place(), format, self._around.voice_rate)
        self._item.write(text)

    def _place(self) -> Place:
        return Place(self.id, len(self._items), self._around.emit, self._around.record)

    def _finish(self, ended: WritingEnded) -> None:
        self.usage = self._usage(ended)
        if ended.finish == "length":
            details = StatusDetails(type="incomplete", reason="max_output_tokens")
            self._end("incomplete", details, Ending.FULL)
        else:
            self._end("completed", None, Ending.COMPLETE)
        self._close()

    def _end(
        self,
        status: Literal["completed", "cancelled", "failed", "incomplete"],
        details: StatusDetails | None,
        ending: Ending,
    ) -> None:
        self._end_item(ending)
        self.usage = self.usage or self._usage(None)
        self._around.emit(out.ResponseDone(response=self._resource(status, details)))
        self._around.took("response", self._around.clock() - self._began)

    def _end_item(self, ending: Ending) -> None:
        if self._item is not None:
            item, self._item = self._item, None
            item.end(ending)
            self._items.append(item.item)
            self._written += item.text

    def _close(self) -> None:
        if self.gate is Gate.CLOSED:
            return
        self.gate = Gate.CLOSED
        self._held.clear()
        self._around.ended(self)

    def _mark(self, piece: Piece) -> None:
        stage = "first_sound" if isinstance(piece, Voiced) else "first_token"
        if stage not in self._marks and not isinstance(piece, WritingEnded | Failed):
            self._marks.add(stage)
            self._around.took(stage, self._around.clock() - self._began)

    def _usage(self, ended: WritingEnded | None) -> Usage:
        """What it took; of one that was broken off, what is known."""
        prompt = self.prompt
        read = ended.prompt_tokens if ended else prompt.tokens if prompt else 0
        wrote = ended.completion_tokens if ended else self._around.count(self._written)
        image = min(prompt.image_tokens if prompt else 0, read)
        spoken = min(prompt.audio_tokens if prompt else 0, read - image)
        return Usage(
            total_tokens=read + wrote,
            input_tokens=read,
            output_tokens=wrote,
            input_token_details=InputTokens(
                text_tokens=read - image - spoken,
                audio_tokens=spoken,
                image_tokens=image,
                cached_tokens=ended.cached_tokens if ended else 0,
            ),
            output_token_details=OutputTokens(text_tokens=wrote),
        )

    def _resource(
        self,
        status: Literal["completed", "cancelled", "failed", "incomplete", "in_progress"],
        details: StatusDetails | None = None,
    ) -> Response:
        output, sound = self.settings.audio.output, None
        if self.spoken and output is not None:
            sound = ResponseSound(output=ResponseVoice(format=output.format, voice=output.voice))
        return Response(
            id=self.id,
            status=status,
            status_details=details,
            output=tuple(self._items),
            conversation_id=self._around.conversation_id,
            output_modalities=self.settings.output_modalities,
            max_output_tokens=self.settings.max_output_tokens,
            audio=sound,
            usage=self.usage,
            metadata=self._metadata,
        )
