"""Keeps the conversation and tells the client of every change to it."""

import base64
from collections.abc import Callable

from assistant.server.realtime.conversation import Conversation, Entry, Speech
from assistant.server.realtime.events_out import (
    AudioCommitted,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
    ServerEvent,
)
from assistant.server.realtime.items import (
    InputAudio,
    Item,
    MessageItem,
    OutputAudio,
)
from assistant.server.realtime.playback import Playing, Playlist
from assistant.server.realtime.wire import WireError
from audio.spoken_words import SpokenWord

Emit = Callable[[ServerEvent], None]


class Record:
    """The conversation of one dialogue, and what of it is being heard.

    Args:
        conversation: the items.
        emit: sends an event.
        now: where the sound that comes in is, in samples at 16 kHz.
    """

    def __init__(self, conversation: Conversation, emit: Emit, now: Callable[[], int]) -> None:
        self.conversation, self.playlist = conversation, Playlist()
        self._emit, self._now = emit, now

    # The user's items

    def create(self, entry: Entry, place: int) -> None:
        """A client's item goes to its place."""
        self._add(entry, place)
        self._done(entry)

    def commit(self, entry: Entry) -> None:
        """A turn of the user is over: it becomes the last item."""
        self._emit(AudioCommitted(previous_item_id=self.conversation.last_id, item_id=entry.id))
        self._add(entry)
        self._done(entry)

    def delete(self, entry: Entry) -> None:
        """An item goes, and its sound is no longer waited for."""
        self.conversation.remove(entry)
        self.playlist.forget(entry.id)
        for work in entry.work:
            work.cancel()
        self._emit(ItemDeleted(item_id=entry.id))

    def retrieve(self, entry: Entry) -> None:
        """Send an item with its sound, as far as it is kept."""
        item = entry.item
        if isinstance(item, MessageItem):
            content = list(item.content)
            for index, speech in entry.speech.items():
                part = content[index]
                if speech.data and isinstance(part, InputAudio | OutputAudio):
                    audio = base64.b64encode(speech.data).decode()
                    content[index] = part.model_copy(update={"audio": audio})
            item = item.model_copy(update={"content": tuple(content)})
        self._emit(ItemRetrieved(item=item))

    # The assistant's

    def open(self, item: Item) -> Entry:
        """The assistant begins an item."""
        entry = Entry(item)
        self._add(entry)
        return entry

    def close(self, entry: Entry, item: Item, speech: Speech | None, spoken: str | None) -> None:
        """An item of the assistant is final.

        speech: its sound, None for none; spoken: what was said, if less than what was written.
        """
        entry.item, entry.spoken = item, spoken
        if speech is not None:
            entry.speech[0] = speech
        for playing in self.playlist:
            if playing.item_id == entry.id:
                playing.ended = True
        if self.conversation.holds(entry):
            self.conversation.trim_sound()
            self._done(entry)

    def say(
        self, entry: Entry, start: int, count: int, words: tuple[SpokenWord, ...], rate: int
    ) -> None:
        """`count` samples at `rate` of an item's sound go out, from its sample `start` on."""
        playing = next((each for each in self.playlist if each.item_id == entry.id), None)
        playing = playing or self.playlist.start(entry.id, rate)
        playing.add(start, count, words, self.playlist.begun(playing, self._now()))

    def truncate(self, entry: Entry, index: int, end_ms: int) -> None:
        """Only `end_ms` of an item's sound were heard.

        WireError if it is not sound of the assistant, or shorter than that.
        """
        speech = entry.speech.get(index)
        message = isinstance(entry.item, MessageItem) and entry.item.role == "assistant"
        if not message or speech is None:
            raise WireError(
                "Only model output audio messages can be truncated.",
                "unsupported_content_type",
                "item_id",
            )
        if end_ms > speech.ms:
            raise WireError(
                f"Audio content of {speech.ms}ms is already shorter than {end_ms}ms.",
                "invalid_value",
                "audio_end_ms",
            )
        self.playlist.forget(entry.id)
        self._cut(entry, index, end_ms)

    def interrupt(self) -> None:
        """The user takes the turn: who reports what is played has heard no more than that."""
        now = self._now()
        for playing in self.playlist.stop(now):
            entry = self._entry(playing)
            if self.playlist.reported and entry is not None and 0 in entry.speech:
                self._cut(entry, 0, min(playing.played_ms(now), entry.speech[0].ms))

    def played(self, item_id: str, index: int, played_ms: int) -> None:
        """The client has played so much of an item; WireError if it has no such sound."""
        if self.playlist.report(item_id, played_ms):
            return
        entry = self.conversation.find(item_id, "acknowledging", "item_playback_invalid_item_id")
        part = entry.item.content[index : index + 1] if isinstance(entry.item, MessageItem) else ()
        if not part or not isinstance(part[0], OutputAudio):
            raise WireError(
                f"The item '{item_id}' has no sound of the assistant at place {index}.",
                "unsupported_content_type",
                "content_index",
            )

    def _entry(self, playing: Playing) -> Entry | None:
        return next((entry for entry in self.conversation if entry.id == playing.item_id), None)

    def _cut(self, entry: Entry, index: int, end_ms: int) -> None:
        entry.cut(index, end_ms)
        self.conversation.version += 1
        self._emit(ItemTruncated(item_id=entry.id, content_index=index, audio_end_ms=end_ms))

    def _add(self, entry: Entry, place: int | None = None) -> None:
        gone = self.conversation.add(entry, place)
        previous = self.conversation.previous_id(entry)
        self._emit(ItemAdded(previous_item_id=previous, item=entry.item))
        for old in gone:
            self.playlist.forget(old.id)
            self._emit(ItemDeleted(item_id=old.id))

    def _done(self, entry: Entry) -> None:
        previous = self.conversation.previous_id(entry)
        self._emit(ItemDone(previous_item_id=previous, item=entry.item))
