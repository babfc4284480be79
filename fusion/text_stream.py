"""Token ids to text, piece by piece: whole characters only, and never part of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"


class Detokeniser:
    """Gives the text that each new token adds; a character split over tokens waits for its end.

    Decodes a short tail twice (with and without the new token) and takes the difference, because a
    token's text may depend on its neighbours. The pieces add up to `decode(all ids)`.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        """`decode` turns ids into text and marks an incomplete character with U+FFFD."""
        self._decode = decode
        self._ids: list[int] = []
        self._start = 0  # where the tail that is decoded again starts
        self._given = 0  # ids before this one have been given out

    def push(self, token: int) -> str:
        """The text that is certain after `token`, possibly empty."""
        self._ids.append(token)
        old = self._decode(self._ids[self._start : self._given])
        new = self._decode(self._ids[self._start :])
        if len(new) <= len(old) or new.endswith(_UNFINISHED):
            return ""
        self._start, self._given = self._given, len(self._ids)
        return new[len(old) :]

    def flush(self) -> str:
        """What is left at the end of the stream (an unfinished character shows as U+FFFD)."""
        old = self._decode(self._ids[self._start : self._given])
        new = self._decode(self._ids[self._start :])
        self._start = self._given = len(self._ids)
        return new[len(old) :]


class StopFilter:
    """Passes text on up to the first stop string; text that may become one is held back.

    Of several stop strings the one that is complete first counts, so the result does not depend on
    how the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of the text so far that is safe to show."""
        if self.stopped:
            return ""
        self._held += text
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._held[: min(found)[1]]
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """At the end of the stream: what was held back after all."""
        shown, self._held = ("" if self.stopped else self._held), ""
        return shown

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
