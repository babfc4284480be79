import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from assistant.stages import StageClock
from assistant.workers import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("test")
    yield made
    made.close()


async def collect(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


def test_items_come_in_order_from_one_thread(worker: Worker) -> None:
    threads = set()

    def numbers() -> Iterator[int]:
        for number in range(20):
            threads.add(threading.current_thread().name)
            yield number

    assert asyncio.run(collect(worker.iterate(numbers))) == list(range(20))
    assert len(threads) == 1
    assert "voxsight-test" in threads.pop()


def test_nothing_is_computed_that_nobody_asked_for(worker: Worker) -> None:
    made: list[int] = []
    closed: list[bool] = []

    def numbers() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    async def first_three() -> list[int]:
        taken = []
        stream = worker.iterate(numbers)
        async for item in stream:
            taken.append(item)
            if len(taken) == 3:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return taken

    assert asyncio.run(first_three()) == [0, 1, 2]
    assert made == [0, 1, 2]
    assert closed == [True]


def test_an_error_in_the_model_reaches_the_caller(worker: Worker) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("model")

    with pytest.raises(ValueError, match="model"):
        asyncio.run(collect(worker.iterate(broken)))
    assert asyncio.run(worker.run(lambda: 7)) == 7  # the thread lives on


def test_workers_that_share_a_turn_never_run_at_once() -> None:
    turn = threading.Lock()
    workers = [Worker(f"w{i}", turn) for i in range(3)]
    running = 0
    most = 0

    def step() -> Iterator[int]:
        nonlocal running, most
        for number in range(50):
            running += 1
            most = max(most, running)
            threading.Event().wait(0.0002)
            running -= 1
            yield number

    async def all_at_once() -> list[list[int]]:
        return await asyncio.gather(*(collect(worker.iterate(step)) for worker in workers))

    assert asyncio.run(all_at_once()) == [list(range(50))] * 3
    assert most == 1
    for worker in workers:
        worker.close()


def test_stage_clock_adds_up_and_marks_once() -> None:
    time = iter([0.0, 1.0, 1.5, 2.0, 2.25, 3.0, 4.0])
    clock = StageClock(lambda: next(time))
    with clock.stage("a"):
        pass
    with clock.stage("a"):
        pass
    clock.mark("b")
    clock.mark("b")
    assert clock.milliseconds() == {"a": 750.0, "b": 3000.0}
