import os
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from assistant.errors import ConfigError
from assistant.jobs.engine import EngineError, engine_by_name
from assistant.jobs.local import LocalEngine
from assistant.jobs.ray_engine import RayEngine
from tests.jobs.sounds import results
from tests.jobs.toy_workers import Faulty, Fragile, Square, unmade

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with closing(RayEngine(2)) as engine:
        yield engine


def test_actors_do_what_processes_do(engine: RayEngine, tmp_path: Path) -> None:
    answers = []
    for name, each in (("local", LocalEngine(1)), ("ray", engine)):
        folder = tmp_path / name
        folder.mkdir()
        outcomes = each.map(partial(Faulty, folder), range(9))
        answers.append(sorted(outcomes, key=lambda outcome: outcome.index))
    assert answers[0] == answers[1]


@pytest.mark.models
def test_results_are_the_same_bytes(
    engine: RayEngine, speech_library: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    assert results(speech_library, tmp_path / "out", engine) == expected


def test_a_killed_actor_is_replaced_and_its_task_done_again(
    engine: RayEngine, tmp_path: Path
) -> None:
    outcomes = {o.index: o for o in engine.map(partial(Fragile, tmp_path, (3, 5)), range(8))}
    assert [outcomes[i].result for i in range(8)] == [i * i for i in range(8)]
    assert [outcomes[i].attempts for i in range(8)] == [1, 1, 1, 2, 1, 2, 1, 1]


def test_a_task_that_kills_again_and_again_is_given_up(engine: RayEngine, tmp_path: Path) -> None:
    deadly = partial(Fragile, tmp_path, (1,), 9)
    outcomes = {o.index: o for o in engine.map(deadly, range(4), retries=1)}
    assert (outcomes[1].failure or "").startswith("the Ray worker ended: The actor died")
    assert outcomes[1].attempts == 2
    assert [outcomes[i].result for i in (0, 2, 3)] == [0, 4, 9]


def test_tasks_are_taken_as_workers_are_free(engine: RayEngine) -> None:
    outcomes = engine.map(Square, iter(int, 1))
    assert [next(outcomes).result for _ in range(3)] == [0, 0, 0]


def test_workers_that_cannot_be_made_end_the_job(engine: RayEngine) -> None:
    with pytest.raises(EngineError, match="Expected a model"):
        list(engine.map(unmade, [1, 2]))


def test_a_cluster_that_runs_is_used_and_left(engine: RayEngine) -> None:
    import ray

    with closing(engine_by_name("ray", workers=1)) as second:
        assert [o.result for o in second.map(Square, [3])] == [9]
        assert second.threads >= 1
    assert ray.is_initialized()
    with closing(engine_by_name("ray")) as third:
        assert third.workers >= 1
    with pytest.raises(ConfigError, match="room for 999 workers of 1 CPU, found room for"):
        engine_by_name("ray", workers=999)
    with pytest.raises(ConfigError, match="1 GPU, found room for 0"):
        engine_by_name("ray", workers=1, gpu=True)


def test_nothing_is_reported_to_anybody(engine: RayEngine) -> None:
    from ray._common.usage import usage_lib

    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not usage_lib.usage_stats_enabled()


def test_without_ray_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'voxsight\[ray\]'"):
        RayEngine(1)


def test_a_cluster_that_is_not_there_is_named(
    engine: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def refuse(**options: object) -> None:
        raise ConnectionError(f"no cluster at {options['address']}\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match="at host:6379: no cluster at host:6379$"):
        RayEngine(1, "host:6379")
