"""Puts recordings of like length together, so that those recognised at once are done at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from assistant.jobs.files import Recording

#: So many recordings are looked at ahead; more would only cost memory.
AHEAD = 256
_MOST_RECORDINGS = 16
_MOST_S = 480.0


@dataclass(frozen=True)
class Group:
    """Recordings of one language that are recognised together, ``sound_s`` long in all."""

    recordings: tuple[Recording, ...]
    sound_s: float


def group(measured: Iterable[tuple[Recording, float]]) -> Iterator[Group]:
    """Groups of recordings, given with their lengths in s; the longest come first.

    A long one at the end would keep one worker when the others have nothing left to do.
    """
    members: list[Recording] = []
    total_s = 0.0
    for recording, seconds in sorted(measured, key=_order):
        full = len(members) == _MOST_RECORDINGS or total_s + seconds > _MOST_S
        if members and (full or members[0].language != recording.language):
            yield Group(tuple(members), total_s)
            members, total_s = [], 0.0
        members.append(recording)
        total_s += seconds
    if members:
        yield Group(tuple(members), total_s)


def _order(measured: tuple[Recording, float]) -> tuple[str, float, str]:
    recording, seconds = measured
    return recording.language or "", -seconds, recording.name
