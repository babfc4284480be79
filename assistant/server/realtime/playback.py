"""What the client has heard of the answers: sound is made faster than it is played."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from assistant.reply import Playback
from audio.pcm import SAMPLE_RATE
from audio.spoken_words import SpokenWord, words_heard

_END_S = 0.1


@dataclass(eq=False)
class Playing:
    """The sound of one item on its way to somebody's ear.

    `rate` is that of the words' times and of `playback`; `ended` tells that no more will come.
    """

    item_id: str
    rate: int
    words: list[SpokenWord] = field(default_factory=list)
    ended: bool = False
    playback: Playback = field(init=False)

    def __post_init__(self) -> None:
        self.playback = Playback(self.rate, SAMPLE_RATE)

    @property
    def sent_ms(self) -> int:
        """How much was sent, in ms."""
        return self.playback.sent * 1000 // self.rate

    def add(self, start: int, count: int, words: tuple[SpokenWord, ...], begun: int) -> None:
        """`count` samples from `start` on were sent; playing begins at `begun` at the earliest."""
        if self.playback.begun is None:
            self.playback.begun = begun
        self.playback.sent = start + count
        self.words.extend(words)

    def played_ms(self, now: int) -> int:
        """How much was heard when the stream coming in is at sample `now`, in ms."""
        return max(0, self.playback.played(now)) * 1000 // self.rate

    def over(self, now: int) -> bool:
        """Whether all of it was heard, but for what nobody misses."""
        left = self.playback.sent - self.playback.played(now)
        return self.ended and left <= _END_S * self.rate

    def ends_at(self, now: int) -> int:
        """The place in the stream coming in at which what was sent so far has been heard."""
        left = self.playback.sent - max(0, self.playback.played(now))
        return now + left * SAMPLE_RATE // self.rate


def heard_words(words: list[SpokenWord], rate: int, until_ms: int) -> list[SpokenWord]:
    """The words that somebody has heard who heard `until_ms`; half a word counts."""
    return words[: words_heard(words, until_ms * rate // 1000)]


class Playlist:
    """The items that are being heard or will be, in order.

    The client reports what it has played (`voxsight.playback.update`). Without reports it is
    guessed from the sound that has come in since, which arrives at the speed of time.
    """

    def __init__(self) -> None:
        self._items: list[Playing] = []
        #: Whether the client reports.
        self.reported = False

    def __iter__(self) -> Iterator[Playing]:
        return iter(self._items)

    def start(self, item_id: str, rate: int) -> Playing:
        """An item's sound begins."""
        playing = Playing(item_id, rate)
        self._items.append(playing)
        return playing

    def begun(self, playing: Playing, now: int) -> int:
        """When an item's first sound that is sent now will be heard: after those before it."""
        before = self._items[: self._items.index(playing)] if playing in self._items else []
        return max([now, *(each.ends_at(now) for each in before)])

    def report(self, item_id: str, played_ms: int) -> bool:
        """The client has played so much of an item; whether it is one that is being heard."""
        self.reported = True
        for playing in self._items:
            if playing.item_id == item_id:
                played = played_ms * playing.rate // 1000
                playing.playback.reported = max(played, playing.playback.reported or 0)
                return True
        return False

    def audible(self, now: int) -> bool:
        """Whether the assistant can be heard; what was heard to its end is forgotten."""
        self._items = [playing for playing in self._items if not playing.over(now)]
        return any(playing.playback.sent > 0 for playing in self._items)

    def ends_at(self, now: int) -> int:
        """When all that was sent so far has been heard."""
        return max([now, *(playing.ends_at(now) for playing in self._items)])

    def stop(self, now: int) -> list[Playing]:
        """The client falls silent: the items that were not heard to their end."""
        stopped = [playing for playing in self._items if not playing.over(now)]
        self._items = []
        return stopped

    def forget(self, item_id: str) -> None:
        """An item is gone, or was cut by the client itself."""
        self._items = [playing for playing in self._items if playing.item_id != item_id]
