"""Measures what each stage of an answer took."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter


class StageClock:
    """Adds up time by stage, in milliseconds, in the order in which stages first ran.

    Args:
        now: seconds on a monotonic clock; injected so that tests need not wait.
    """

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._start = now()
        self._spent: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time inside the block for the stage ``name``."""
        start = self._now()
        try:
            yield
        finally:
            self.add(name, 1000 * (self._now() - start))

    def add(self, name: str, milliseconds: float) -> None:
        """Counts ``milliseconds`` more for the stage ``name``."""
        self._spent[name] = self._spent.get(name, 0.0) + milliseconds

    def mark(self, name: str) -> None:
        """Notes, the first time only, how long after the clock's start this happened."""
        self._spent.setdefault(name, 1000 * (self._now() - self._start))

    def milliseconds(self) -> dict[str, float]:
        """A copy of the times, rounded to 0.1 ms."""
        return {name: round(spent, 1) for name, spent in self._spent.items()}
