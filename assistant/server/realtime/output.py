"""One item of a response on its way out: a message, written or spoken, or a function call."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from assistant.server.realtime import events_out as out
from assistant.server.realtime.choices import AudioFormat
from assistant.server.realtime.conversation import Entry, Speech
from assistant.server.realtime.extensions import OutputWords, WordTime
from assistant.server.realtime.formats import (
    AudioOut,
    bytes_per_sample,
    milliseconds,
    rate_of,
    to_base64,
)
from assistant.server.realtime.items import (
    FunctionCallItem,
    Item,
    MessageItem,
    OutputAudio,
    OutputText,
)
from assistant.server.realtime.payloads import AudioPart, TextPart
from assistant.server.realtime.record import Emit, Record
from audio.pcm import Samples
from audio.spoken_words import SpokenWord


class Ending(Enum):
    """How an item ends: by itself, at the limit of tokens, or broken off."""

    COMPLETE = "complete"
    FULL = "full"
    CUT = "cut"

    @property
    def status(self) -> Literal["completed", "incomplete"]:
        """As the client is told."""
        return "completed" if self is Ending.COMPLETE else "incomplete"


@dataclass(frozen=True)
class Place:
    """Where an item's events go: its response, its place there, and the conversation if any."""

    response_id: str
    index: int
    emit: Emit
    record: Record | None

    def begin(self, item: Item) -> Entry | None:
        """The item begins."""
        self.emit(
            out.OutputItemAdded(response_id=self.response_id, output_index=self.index, item=item)
        )
        return self.record.open(item) if self.record is not None else None

    def end(
        self, entry: Entry | None, item: Item, speech: Speech | None, spoken: str | None
    ) -> None:
        """The item is final."""
        self.emit(
            out.OutputItemDone(response_id=self.response_id, output_index=self.index, item=item)
        )
        if self.record is not None and entry is not None:
            self.record.close(entry, item, speech, spoken)


class CallOutput:
    """A function call: its arguments come as JSON text, piece by piece."""

    def __init__(self, place: Place, call_id: str, name: str) -> None:
        self._place, self._arguments = place, ""
        self.item: Item = FunctionCallItem(
            call_id=call_id, name=name, arguments="", status="in_progress"
        )
        self._call: dict[str, Any] = {
            "response_id": place.response_id,
            "item_id": self.item.id,
            "output_index": place.index,
            "call_id": call_id,
        }
        self._name = name
        self._entry = place.begin(self.item)

    def add(self, arguments: str) -> None:
        """More of the arguments."""
        self._arguments += arguments
        self._place.emit(out.ArgumentsDelta(**self._call, delta=arguments))

    def end(self, ending: Ending) -> None:
        """No more will come."""
        self._place.emit(
            out.ArgumentsDone(**self._call, name=self._name, arguments=self._arguments)
        )
        self.item = self.item.model_copy(
            update={"arguments": self._arguments, "status": ending.status}
        )
        self._place.end(self._entry, self.item, None, None)

    @property
    def text(self) -> str:
        """What the model wrote of it."""
        return self._name + self._arguments


@dataclass
class _Sound:
    """What was sent of a message's sound."""

    encoder: AudioOut
    rate: int
    data: bytearray = field(default_factory=bytearray)
    words: list[SpokenWord] = field(default_factory=list)

    def speech(self) -> Speech:
        format = self.encoder.format
        return Speech(
            bytes(self.data),
            milliseconds(len(self.data), format),
            rate_of(format) * bytes_per_sample(format) // 1000,
            tuple(self.words),
            self.rate,
        )


class MessageOutput:
    """A message with one part: written, or spoken in `format` from sound of `rate` Hz."""

    def __init__(self, place: Place, format: AudioFormat | None, rate: int) -> None:
        self._place, self.text = place, ""
        self._sound = _Sound(AudioOut(format, rate), rate) if format is not None else None
        self.item: Item = MessageItem(role="assistant", content=(), status="in_progress")
        self._part: dict[str, Any] = {
            "response_id": place.response_id,
            "item_id": self.item.id,
            "output_index": place.index,
            "content_index": 0,
        }
        self._entry = place.begin(self.item)
        place.emit(out.ContentPartAdded(**self._part, part=self._whole_part()))

    def write(self, text: str) -> None:
        """More words."""
        self.text += text
        kind = out.TextDelta if self._sound is None else out.TranscriptDelta
        self._place.emit(kind(**self._part, delta=text))

    def say(self, start: int, samples: Samples, words: tuple[SpokenWord, ...]) -> None:
        """More sound, from sample `start` on."""
        assert self._sound is not None
        self._sound.words.extend(words)
        if words:
            times = tuple(WordTime.of(word, self._sound.rate) for word in words)
            self._place.emit(OutputWords(**self._part, words=times))
        self._send(self._sound.encoder.push(samples))
        if self._place.record is not None and self._entry is not None:
            rate = self._sound.rate
            self._place.record.say(self._entry, start, len(samples), words, rate)

    def end(self, ending: Ending) -> None:
        """No more will come."""
        emit, part, sound = self._place.emit, self._part, self._sound
        if sound is None:
            emit(out.TextDone(**part, text=self.text))
            content: OutputText | OutputAudio = OutputText(text=self.text)
        else:
            if ending is not Ending.CUT:
                self._send(sound.encoder.finish())
            emit(out.AudioDone(**part))
            emit(out.TranscriptDone(**part, transcript=self.text))
            content = OutputAudio(transcript=self.text)
        emit(out.ContentPartDone(**part, part=self._whole_part()))
        self.item = self.item.model_copy(update={"content": (content,), "status": ending.status})
        speech = sound.speech() if sound else None
        spoken = None
        if speech and ending is Ending.CUT:
            spoken = " ".join(word.text for word in speech.words)
        self._place.end(self._entry, self.item, speech, spoken)

    def _send(self, data: bytes) -> None:
        assert self._sound is not None
        if data:
            self._sound.data += data
            self._place.emit(out.AudioDelta(**self._part, delta=to_base64(data)))

    def _whole_part(self) -> TextPart | AudioPart:
        return TextPart(text=self.text) if self._sound is None else AudioPart(transcript=self.text)
