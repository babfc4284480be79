"""Events of our own, beside those of OpenAI's API, and which of them a client asked for."""

from collections.abc import Collection
from typing import Literal, cast, get_args

from assistant.server.realtime.payloads import Sighting
from assistant.server.realtime.wire import Event, Many, Wire, WireError
from audio.spoken_words import SpokenWord

#: What a client may ask for in the query of the address, ``extensions=tentative,words``.
Extension = Literal["tentative", "words"]
_KNOWN: tuple[str, ...] = get_args(Extension)


class FrameSeen(Event):
    """A camera frame was kept and looked at; ``recognised`` is false for nothing known.

    ``frame_event_id`` is the ``event_id`` of the client's ``voxsight.camera.frame``, if it had one.
    """

    type: Literal["voxsight.camera.frame_seen"] = "voxsight.camera.frame_seen"
    frame_event_id: str | None = None
    sightings: Many[Sighting]
    recognised: bool


class Tentative(Event):
    """The user's words so far that no transcription event has told: they may still change.

    Each takes the place of the one before; after any transcription event of the item there are
    none until the next of these. An item that was not announced yet is told of by these alone.
    """

    type: Literal["voxsight.input_audio_transcription.tentative"] = (
        "voxsight.input_audio_transcription.tentative"
    )
    item_id: str
    text: str


class WordTime(Wire):
    """A word as it was written, and when it is heard, in ms from the beginning of its part."""

    text: str
    start_ms: int
    end_ms: int

    @classmethod
    def of(cls, word: SpokenWord, rate: int) -> "WordTime":
        """The times of a word in sound of ``rate`` Hz."""
        ms = 1000 / rate
        return cls(text=word.text, start_ms=round(word.start * ms), end_ms=round(word.end * ms))


class OutputWords(Event):
    """The next words of a spoken answer, sent just before the sound that says them."""

    type: Literal["voxsight.output_audio.words"] = "voxsight.output_audio.words"
    response_id: str
    item_id: str
    output_index: int
    content_index: int
    words: Many[WordTime]


def asked_for(names: str) -> frozenset[Extension]:
    """The extensions in a query such as ``tentative,words``; WireError for an unknown one."""
    asked = frozenset(name for name in names.split(",") if name)
    for name in sorted(asked):
        if name not in _KNOWN:
            raise WireError(
                f"There is no extension '{name[:60]}'; ask for {' or '.join(_KNOWN)}.",
                "unknown_extension",
                "extensions",
            )
    return cast(frozenset[Extension], asked)


def is_for(event: Event, asked: Collection[Extension]) -> bool:
    """Whether an event goes to a client that asked for these extensions."""
    match event:
        case Tentative():
            return "tentative" in asked
        case OutputWords():
            return "words" in asked
    return True
