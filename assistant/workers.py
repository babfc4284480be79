"""Runs blocking model calls in a thread of their own and turns iterators into async iterators."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from assistant.stages import StageClock

T = TypeVar("T")
_END = object()


class Worker:
    """The one thread that calls one model.

    Args:
        name: what the thread is called in a debugger or a stack dump.
        turn: a lock shared by the models of one device. On a CPU every model brings a thread pool
            as wide as the machine; two that run at once slow each other down many times over, so
            they take turns, one step (a token, a clause) at a time.
    """

    def __init__(self, name: str, turn: "threading.Lock | None" = None) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"voxsight-{name}")
        self._turn = turn or threading.Lock()

    async def run(self, call: Callable[[], T]) -> T:
        """The result of ``call()``, made in the worker's thread."""

        def step() -> T:
            with self._turn:
                return call()

        return await asyncio.get_running_loop().run_in_executor(self._pool, step)

    async def iterate(self, make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """The items of ``make()``, each computed in the worker's thread when it is asked for.

        Nothing is computed ahead, so nothing piles up; when the caller stops, so does the model.
        """
        made: list[Iterator[T]] = []

        def first() -> object:
            made.append(make())
            return next(made[0], _END)

        try:
            item = await self.run(first)  # together: another model could take its turn in between
            while item is not _END:
                yield item  # type: ignore[misc]  # the sentinel is excluded above
                item = await self.run(lambda: next(made[0], _END))
        finally:
            await self.run(lambda: [close() for close in map(_closer, made)])

    def close(self) -> None:
        """Waits for the running call and ends the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _closer(iterator: Iterator[T]) -> Callable[[], object]:
    """What ends a generator early; other iterators need no ending."""
    return getattr(iterator, "close", lambda: None)


class TimedWorker(Worker):
    """Another worker's thread, with the time that its calls take counted for a stage."""

    def __init__(self, worker: Worker, clock: StageClock, stage: str) -> None:
        self._pool, self._turn = worker._pool, worker._turn
        self._clock, self._stage = clock, stage

    async def run(self, call: Callable[[], T]) -> T:
        """As ``Worker.run``; waiting for the thread counts too."""
        with self._clock.stage(self._stage):
            return await super().run(call)
