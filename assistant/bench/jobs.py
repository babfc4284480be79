"""What the engines cost: tasks that do nothing, so that only the scheduler's time is left."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.jobs.engine import Engine
from assistant.jobs.files import Recording
from assistant.jobs.grouping import Group
from assistant.jobs.recognising import Done


@dataclass(frozen=True)
class SchedulerReport:
    """What one task took, in µs, models, files and sound left out."""

    workers: int
    tasks: int
    first_ms: float
    task_us: float

    def summary(self) -> dict[str, Any]:
        """The report for one line of JSON."""
        return {
            "workers": self.workers,
            "tasks": self.tasks,
            "first_ms": round(self.first_ms, 1),
            "task_us": round(self.task_us, 1),
        }


class SimulatedWorker:
    """Answers a recording as if it had been transcribed."""

    def __call__(self, task: Group) -> tuple[Done, ...]:
        """What a real worker sends back."""
        return tuple(Done(recording, 1.0, "en", 0.9, 3) for recording in task.recordings)


def measure_scheduler(engine: Engine, tasks: int = 10_000) -> SchedulerReport:
    """Sends simulated recordings, one a task, through an engine; there are two of them at least.

    The first task waits for a worker's process to start, and is told apart; the others' mean time
    is what one recording costs, whatever is done with it.
    """
    began = time.perf_counter()
    outcomes = engine.map(SimulatedWorker, _simulated(tasks))
    next(outcomes)
    first = time.perf_counter()
    answered = 1 + sum(1 for outcome in outcomes if outcome.result is not None)
    ended = time.perf_counter()
    if answered != tasks:
        raise AssertionError(f"{tasks - answered} of {tasks} tasks were lost")
    each_us = 1e6 * (ended - first) / (tasks - 1)
    return SchedulerReport(engine.workers, tasks, 1000 * (first - began), each_us)


def _simulated(count: int) -> Iterator[Group]:
    for number in range(count):
        name = f"talks/2024/recording-{number:06}.wav"
        yield Group((Recording(Path("/library") / name, name),), 1.0)
