"""The conversation: its items in order, and what belongs to each beside what the client sees."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from assistant.server.realtime.bounds import DialogueLimits
from assistant.server.realtime.items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputAudio,
    InputImage,
    Item,
    MessageItem,
    OutputAudio,
)
from assistant.server.realtime.playback import heard_words
from assistant.server.realtime.wire import WireError
from audio.spoken_words import SpokenWord
from fusion.adapter import SoftTokens

ROOT = "root"


@dataclass(frozen=True)
class Speech:
    """The sound of one part of an item.

    data: in the format that the client gave or was sent, empty once it is forgotten; ms: its
    length; words: what is said in it, with times in samples at `rate`.
    """

    data: bytes
    ms: int
    bytes_per_ms: int
    words: tuple[SpokenWord, ...] = ()
    rate: int = 1

    def cut(self, end_ms: int) -> "Speech":
        """What was heard by who heard `end_ms`."""
        return replace(
            self,
            data=self.data[: end_ms * self.bytes_per_ms],
            ms=end_ms,
            words=tuple(heard_words(list(self.words), self.rate, end_ms)),
        )


@dataclass(eq=False)
class Entry:
    """An item of a conversation, without its sound, and what the models know of it."""

    item: Item
    #: The sound of its parts by their places; forgotten first when there is too much.
    speech: dict[int, Speech] = field(default_factory=dict)
    #: Its pictures as the language model sees them, by the places of their parts.
    pictures: dict[int, SoftTokens] = field(default_factory=dict)
    #: What the camera showed when it was said.
    frame: SoftTokens | None = None
    #: What was said of it, where that is less than the client was told; it was cut off then.
    spoken: str | None = None
    #: What is still to be found out about it: words, pictures.
    work: "list[asyncio.Task[None]]" = field(default_factory=list)
    #: Why its words are not known.
    fault: Exception | None = None
    #: It is too old: no prompt holds it any more.
    left_out: bool = False

    @property
    def id(self) -> str:
        """The item's."""
        return self.item.id

    def say(self, index: int, transcript: str) -> None:
        """The words of its sound at place `index` are known."""
        self._put(index, transcript)

    def cut(self, index: int, end_ms: int) -> None:
        """Only `end_ms` of its sound were heard: what came after was never said."""
        speech = self.speech[index].cut(end_ms)
        self.speech[index] = speech
        self.spoken = " ".join(word.text for word in speech.words)
        self._put(index, self.spoken)
        self.item = self.item.model_copy(update={"status": "incomplete"})

    def _put(self, index: int, transcript: str) -> None:
        assert isinstance(self.item, MessageItem)
        content = list(self.item.content)
        content[index] = content[index].model_copy(update={"transcript": transcript})
        self.item = self.item.model_copy(update={"content": tuple(content)})


def characters(item: Item) -> int:
    """How much there is to read in an item, pictures' URLs included."""
    match item:
        case FunctionCallItem():
            return len(item.name) + len(item.arguments)
        case FunctionCallOutputItem():
            return len(item.output)
    return sum(_part_characters(part) for part in item.content)


def _part_characters(part: object) -> int:
    match part:
        case InputImage(image_url=url):
            return len(url)
        case InputAudio(transcript=words) | OutputAudio(transcript=words):
            return len(words or "")
    return len(getattr(part, "text", ""))


def _text_characters(item: Item) -> int:
    if not isinstance(item, MessageItem):
        return characters(item)
    return sum(_part_characters(p) for p in item.content if not isinstance(p, InputImage))


class Conversation:
    """Items in order. Nothing here waits or sends; WireError says what cannot be done."""

    def __init__(self, limits: DialogueLimits) -> None:
        self._limits = limits
        self._entries: list[Entry] = []
        self._characters = 0
        #: Counts the changes.
        self.version = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def last_id(self) -> str | None:
        """Of the newest item."""
        return self._entries[-1].id if self._entries else None

    def previous_id(self, entry: Entry) -> str | None:
        """Of the item before this one."""
        place = self._entries.index(entry)
        return self._entries[place - 1].id if place else None

    def holds(self, entry: Entry) -> bool:
        """Whether it was not deleted."""
        return entry in self._entries

    def find(self, item_id: str, doing: str, code: str) -> Entry:
        """The entry of an item; `doing` and `code` go into the error if there is none."""
        for entry in self._entries:
            if entry.id == item_id:
                return entry
        raise WireError(
            f"Error {doing} item: the item with id '{item_id}' does not exist.", code, "item_id"
        )

    def check(self, item: Item) -> None:
        """Whether a client's item may be added."""
        if any(entry.id == item.id for entry in self._entries):
            raise WireError(
                f"An item with id '{item.id}' exists already; choose another id or none.",
                "item_create_duplicate_item_id",
                "item.id",
            )
        calls = Counter(e.item.call_id for e in self if isinstance(e.item, FunctionCallItem))
        if isinstance(item, FunctionCallOutputItem) and item.call_id not in calls:
            raise WireError(
                f"Tool call ID '{item.call_id}' not found in conversation.",
                "invalid_tool_call_id",
                "item.call_id",
            )
        self.check_size(item)
        full = self._characters + characters(item) > self._limits.max_conversation_chars
        if full or len(self) >= self._limits.max_items:
            raise WireError(
                f"The conversation is full: it holds {len(self)} items; delete old ones.",
                "conversation_full",
                "item",
            )

    def check_size(self, item: Item) -> None:
        """Whether an item is not too long."""
        if _text_characters(item) > self._limits.max_item_chars:
            raise WireError(
                f"An item has at most {self._limits.max_item_chars} characters, got "
                f"{_text_characters(item)}; send less.",
                "string_above_max_length",
                "item",
            )

    def place(self, previous_id: str | None) -> int:
        """Where an item goes that is to follow `previous_id`; None means at the end."""
        if previous_id is None:
            return len(self)
        if previous_id == ROOT:
            return 0
        for place, entry in enumerate(self._entries, 1):
            if entry.id == previous_id:
                return place
        raise WireError(
            f"Error creating item: the previous item with id '{previous_id}' does not exist.",
            "item_create_invalid_previous_item_id",
            "previous_item_id",
        )

    def add(self, entry: Entry, place: int | None = None) -> list[Entry]:
        """Put an item at a place, by default the end.

        Returns those that are forgotten for it: whoever talks for hours loses the oldest.
        """
        self.version += 1
        self._entries.insert(len(self) if place is None else place, entry)
        self._characters += characters(entry.item)
        gone = []
        while len(self) > self._limits.max_items and self._entries[0] is not entry:
            gone.append(self._entries[0])
            self.remove(self._entries[0])
        self.trim_sound()
        return gone

    def remove(self, entry: Entry) -> None:
        """Take an item out."""
        self.version += 1
        self._entries.remove(entry)
        self._characters = sum(characters(each.item) for each in self._entries)

    def trim_sound(self) -> None:
        """Forget the oldest sound beyond the limit."""
        kept = 0
        for entry in reversed(self._entries):
            for index, speech in list(entry.speech.items()):
                kept += len(speech.data)
                if kept > self._limits.max_kept_sound_bytes:
                    # Its words stay, so that it can still be cut to what was heard.
                    entry.speech[index] = replace(speech, data=b"")
