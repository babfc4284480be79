import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import ConfigError
from assistant.jobs.engine import (
    CrewStaff,
    EngineError,
    EngineName,
    HereStaff,
    Reply,
    engine_by_name,
    reason,
)
from audio.errors import AudioError
from tests.jobs.toy_workers import Faulty, Square, unmade


def test_one_worker_runs_here_and_takes_tasks_as_it_goes() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(10**9):
            taken.append(number)
            yield number

    engine = engine_by_name("local")
    outcomes = engine.map(Square, tasks())
    got = [next(outcomes) for _ in range(3)]
    assert [(o.index, o.task, o.result, o.failure, o.attempts) for o in got] == [
        (0, 0, 0, None, 1),
        (1, 1, 1, None, 1),
        (2, 2, 4, None, 1),
    ]
    assert taken == [0, 1, 2]
    engine.close()


def test_what_the_input_is_to_blame_for_is_final_and_other_failures_are_tried_again(
    tmp_path: Path,
) -> None:
    outcomes = list(HereStaff(lambda: Faulty(tmp_path)).map([1, 2, 4]))
    assert [(o.result, o.failure, o.attempts) for o in outcomes] == [
        (None, "Expected an even number, got 1; add one.", 1),
        (4, None, 1),
        (16, None, 2),
    ]
    (outcome,) = HereStaff(lambda: Faulty(tmp_path)).map([8], retries=0)
    assert (outcome.failure, outcome.attempts) == ("RuntimeError: stumbled", 1)


def test_a_worker_that_cannot_be_made_ends_the_job() -> None:
    with pytest.raises(EngineError, match="found none; fetch it"):
        list(HereStaff(unmade).map([1]))


def test_without_tasks_no_worker_is_made() -> None:
    assert list(HereStaff(unmade).map([])) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AudioError("a is\nempty"), "a is empty"),
        (OSError(28, "No space left on device", "/out/a.json"), "No space left on device: /out"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("odd"), "ValueError: odd"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_reasons_are_one_line(error: Exception, told: str) -> None:
    assert reason(error).startswith(told)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("local", {"workers": 0}, "one worker or more, got 0"),
        ("local", {"address": "host:1"}, "use the engine 'ray'"),
        ("cloud", {}, "'local' or 'ray', got 'cloud'"),
    ],
)
def test_wrong_choices_are_refused(name: EngineName, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        engine_by_name(name, **options)


def test_the_engine_divides_the_cores() -> None:
    engine = engine_by_name("local", workers=2)
    assert engine.workers == 2
    assert engine.threads == max(1, len(os.sched_getaffinity(0)) // 2)


class ScriptedCrew:
    """Posts that answer, or die, as a script says; room for some of them only."""

    def __init__(self, script: list[bool], room: int) -> None:
        self.script, self.room = script, room
        self.hired = 0
        self.posts: set[int] = set()
        self.working: dict[int, Any] = {}
        self.dismissed = False

    def hire(self) -> int | None:
        if len(self.posts) >= self.room:
            return None
        self.hired += 1
        self.posts.add(self.hired)
        return self.hired

    def give(self, post: int, task: Any) -> None:
        assert post in self.posts and post not in self.working
        self.working[post] = task

    def wait(self) -> list[tuple[int, Reply[Any] | None]]:
        lives = self.script.pop(0) if self.script else True
        post = min(self.working) if lives else max(self.working)
        task = self.working.pop(post)
        return [(post, Reply(task * 2) if lives else None)]

    def farewell(self, post: int) -> str:
        self.posts.remove(post)
        return "it died"

    def dismiss(self) -> None:
        self.dismissed = True


@given(
    st.lists(st.booleans(), max_size=30),
    st.integers(0, 12),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_every_task_ends_exactly_once_whatever_dies(
    script: list[bool], count: int, size: int, room: int, retries: int
) -> None:
    crew = ScriptedCrew(script, room)
    staff = CrewStaff[int, int](crew, size)
    try:
        with closing(staff):
            outcomes = list(staff.map(range(count), retries=retries))
    except EngineError as error:
        assert "10 workers in a row ended without an answer, the last: it died" in str(error)
        assert crew.dismissed
        return
    assert sorted(o.index for o in outcomes) == list(range(count))
    for outcome in outcomes:
        assert 1 <= outcome.attempts <= retries + 1
        if outcome.failure:
            assert outcome.attempts == retries + 1
        else:
            assert outcome.result == 2 * outcome.task
    assert crew.dismissed


def test_workers_that_all_die_end_the_job() -> None:
    with pytest.raises(EngineError, match="10 workers in a row"):
        list(CrewStaff(ScriptedCrew([False] * 99, 2), 2).map(range(100)))


def test_a_staff_is_kept_from_one_list_to_the_next() -> None:
    crew = ScriptedCrew([], 2)
    staff = CrewStaff[int, int](crew, 2)
    for _ in range(3):
        assert sorted(o.index for o in staff.map(range(5))) == list(range(5))
    assert crew.hired == 2 and not crew.dismissed


def test_an_iteration_that_ends_early_dismisses_who_is_at_work() -> None:
    crew = ScriptedCrew([], 2)
    outcomes = CrewStaff[int, int](crew, 2).map(range(5))
    next(outcomes)
    outcomes.close()
    assert crew.dismissed
