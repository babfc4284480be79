"""Time that passes only while somebody waits: minutes of a conversation in seconds.

What a model takes is measured, and its result arrives that much later on the simulated clock, so
that whatever comes late in a real conversation comes late here, too.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeVar

from assistant.rehearsal import Clock
from assistant.reply import Tongue
from assistant.session import Parts
from assistant.workers import Worker

T = TypeVar("T")


class _Skipper(selectors.SelectSelector):
    """Moves the clock on instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # only a thread can wake the loop
            return super().select()
        ready = super().select(0)
        if not ready:
            self.now += max(0.0, timeout)
        return ready


class _SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipper = _Skipper()
        super().__init__(self._skipper)

    def time(self) -> float:
        return self._skipper.now


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on an event loop whose sleeps take no time; its clock begins at 0."""
    with asyncio.Runner(loop_factory=_SimulatedLoop) as runner:
        return runner.run(main)


def loop_clock() -> Clock:
    """The running loop's own time, for a rehearsal."""
    return Clock(asyncio.get_running_loop().time, asyncio.sleep)


class LateWorker(Worker):
    """Works at once, and hands over the result when the clock says that it would be there.

    Args:
        turn: held as long as the work lasts; those who share it take turns, as threads would.
    """

    def __init__(self, name: str, turn: asyncio.Lock) -> None:
        super().__init__(name)
        self._late = turn
        #: Seconds worked so far.
        self.busy_s = 0.0

    async def run(self, call: Callable[[], T]) -> T:
        """The result of ``call()``, as late as it would have come."""
        await self._late.acquire()
        begun = perf_counter()
        try:
            result = call()
        finally:
            took = perf_counter() - begun
            self.busy_s += took
            # Not when the caller has it: work goes on in a thread when its caller has left.
            asyncio.get_running_loop().call_later(took, self._late.release)
        await asyncio.sleep(took)
        return result


def late(parts: Parts) -> Parts:
    """The same models, working on the running loop's clock."""
    turn = asyncio.Lock()
    listening, looking, thinking, speaking = (
        LateWorker(name, turn) for name in ("listen", "look", "think", "speak")
    )
    return replace(
        parts,
        listening=listening,
        looking=looking,
        thinking=thinking,
        tongue=Tongue(parts.tongue.voice, speaking),
    )
