import json
from contextlib import closing

import pytest

from assistant.bench.jobs import measure_scheduler
from assistant.cli.app import run
from assistant.jobs.engine import Engine, engine_by_name


@pytest.mark.parametrize(("workers", "tasks"), [(1, 10_000), (2, 300)])
def test_every_simulated_task_is_answered(workers: int, tasks: int) -> None:
    with closing(engine_by_name("local", workers=workers)) as engine:
        report = measure_scheduler(engine, tasks)
    assert list(report.summary()) == ["workers", "tasks", "first_ms", "task_us"]
    assert (report.workers, report.tasks) == (workers, tasks)
    assert report.task_us > 0 and report.first_ms > 0


def test_tasks_that_are_lost_are_noticed() -> None:
    class Losing:
        workers = 1

        def map(self, make_worker: object, tasks: object) -> object:
            engine: Engine = engine_by_name("local")
            return iter(list(engine.map(make_worker, tasks))[:-1])  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match="1 of 5 tasks were lost"):
        measure_scheduler(Losing(), 5)  # type: ignore[arg-type]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "jobs", "--tasks", "20", "--no-ray", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["tasks"] == 20
    assert figures["local_1_us_per_task"] > 0 and figures["local_2_us_per_task"] > 0
