import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from assistant.jobs.engine import EngineError
from assistant.jobs.local import LocalEngine
from tests.jobs.toy_workers import Faulty, Fragile, Square, unmade


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.02)


def pids(folder: Path) -> list[int]:
    return [int(file.name) for file in folder.iterdir() if file.name.isdigit()]


def test_processes_do_what_one_process_does_and_failures_stay_apart(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    answers = []
    for folder, workers in ((here, 1), (there, 2)):
        folder.mkdir()
        with closing(LocalEngine(workers)) as engine:
            outcomes = engine.map(partial(Faulty, folder), range(9))
            answers.append(sorted(outcomes, key=lambda outcome: outcome.index))
    assert answers[0] == answers[1]
    assert [o.attempts for o in answers[1]] == [2, 1, 1, 1, 2, 1, 1, 1, 2]
    assert multiprocessing.active_children() == []


def test_a_killed_process_is_replaced_and_its_task_done_again(tmp_path: Path) -> None:
    engine = LocalEngine(2)
    outcomes = {o.index: o for o in engine.map(partial(Fragile, tmp_path, (3, 5)), range(8))}
    assert [outcomes[i].result for i in range(8)] == [i * i for i in range(8)]
    assert [outcomes[i].attempts for i in range(8)] == [1, 1, 1, 2, 1, 2, 1, 1]


def test_a_task_that_kills_again_and_again_is_given_up(tmp_path: Path) -> None:
    deadly = partial(Fragile, tmp_path, (1,), 9)
    outcomes = {o.index: o for o in LocalEngine(2).map(deadly, range(4), retries=1)}
    assert outcomes[1].failure == "the worker process was ended by the signal SIGKILL"
    assert outcomes[1].attempts == 2
    assert [outcomes[i].result for i in (0, 2, 3)] == [0, 4, 9]


def test_workers_that_cannot_be_made_end_the_job() -> None:
    with pytest.raises(EngineError, match="Expected a model"):
        list(LocalEngine(2).map(unmade, [1, 2]))
    assert multiprocessing.active_children() == []


def test_ending_the_iteration_ends_the_processes() -> None:
    outcomes = LocalEngine(2).map(Square, iter(int, 1))
    assert next(outcomes).result == 0
    assert len(multiprocessing.active_children()) == 2
    outcomes.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_closing_the_engine_ends_the_processes() -> None:
    engine = LocalEngine(2)
    outcomes = engine.map(Square, iter(int, 1))
    next(outcomes)
    engine.close()
    assert multiprocessing.active_children() == []


# A shell lets what it starts in the background ignore SIGINT, and that is inherited.
SLEEP = """
import signal
from functools import partial
from pathlib import Path
from assistant.jobs.local import LocalEngine
from tests.jobs.toy_workers import Sleeper

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    list(LocalEngine(2).map(partial(Sleeper, Path({folder!r})), range(4)))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_parent_ends(tmp_path: Path, sent: signal.Signals) -> None:
    script = tmp_path / "sleep.py"
    marks = tmp_path / "marks"
    marks.mkdir()
    script.write_text(SLEEP.format(folder=str(marks)))
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": root},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    with parent:
        until(lambda: len(pids(marks)) == 2 or parent.poll() is not None)
        children = pids(marks)
        assert len(children) == 2
        # As a terminal does it, which tells the whole group; a kill is for one process only.
        (os.killpg if sent is signal.SIGINT else os.kill)(parent.pid, sent)
        parent.wait()
    until(lambda: all(map(ended, children)))


def test_a_child_does_not_hear_the_interruption_of_the_terminal(tmp_path: Path) -> None:
    engine = LocalEngine(2)
    outcomes = engine.map(Square, range(3))
    first = next(outcomes)
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)
    assert sorted([first.result or 0, *((o.result or 0) for o in outcomes)]) == [0, 1, 4]
