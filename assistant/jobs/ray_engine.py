"""The engine of many machines: Ray actors, each with one set of models."""

import logging
import math
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from assistant.errors import ConfigError
from assistant.jobs.engine import CrewStaff, Engine, Post, Reply, Staff, Worker, cores

T = TypeVar("T")
R = TypeVar("R")

_CORES_PER_WORKER = 2
#: Answers are small; results go to files.
_STORE_BYTES = 80 << 20
_QUIET = {
    # Nothing is sent to anybody.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's way from now on, and the warning about it is not for our users.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
#: A cluster that we start is for this machine: its ports are then opened to nobody else.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class RayEngine(Engine):
    """Runs tasks in Ray actors, one per two cores, or per GPU.

    The machines must see the same files under the same names, and have this package installed;
    each fetches the models that it lacks. An actor that dies is replaced, and its task given to
    another. Without an address a cluster is started on this machine, which ends with ``close``;
    where the program has already connected to one, that is used, and left as it is.

    Raises:
        ConfigError: Ray is not installed, the cluster is not reached or has too little room.
    """

    def __init__(
        self, workers: int | None = None, address: str | None = None, *, gpu: bool = False
    ) -> None:
        alone = address is None
        self._ray = load_ray(alone=alone)
        self._needs: dict[str, float] = {"CPU": min(_CORES_PER_WORKER, cores())}
        if alone and workers is not None:
            self._needs["CPU"] = max(1, cores() // workers)
        if gpu:
            self._needs["GPU"] = 1
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _connect(self._ray, address, round(self._needs["CPU"] * (workers or 1)))
        self.here = False
        self.threads = round(self._needs["CPU"])
        room = _room(self._ray.cluster_resources(), self._needs)
        if room < (workers or 1):
            self.close()
            raise ConfigError(
                f"Expected a Ray cluster with room for {workers or 1} workers of "
                f"{_listed(self._needs)}, found room for {room}; use fewer, or add machines."
            )
        self.workers = workers or room

    def staff(self, make_worker: Callable[[], Worker[T, R]]) -> Staff[T, R]:
        """See ``Engine.staff``."""
        return CrewStaff(_Actors(self._ray, make_worker, self._needs), self.workers)

    def close(self) -> None:
        """Ends the cluster that was started here, or the connection that was made here."""
        if self._ours:
            self._ray.shutdown()


def load_ray(*, alone: bool = True) -> Any:
    """The module ``ray``, with its reports to its makers off; ConfigError if it is missing."""
    # Read when Ray is imported, and by the processes that it starts.
    os.environ.update(_QUIET | (_ALONE if alone else {}))
    try:
        return import_module("ray")
    except ImportError:
        raise ConfigError(
            "The engine 'ray' needs Ray, which is not installed; pip install 'voxsight[ray]'."
        ) from None


def _connect(ray: Any, address: str | None, least_cores: int) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {
            "address": "local",
            "num_cpus": max(cores(), least_cores),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
        }
    else:
        options |= {"address": address}
    try:
        ray.init(**options)
    except (OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise ConfigError(f"Cannot use a Ray cluster {where}: {_first_line(error)}") from None


def _room(has: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many workers fit."""
    return min(math.floor(has.get(name, 0) / amount) for name, amount in needs.items())


def _listed(needs: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in needs.items())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


class _Actors:
    """Posts in actors."""

    def __init__(
        self, ray: Any, make_worker: Callable[[], Worker[Any, Any]], needs: Mapping[str, float]
    ) -> None:
        self._ray = ray
        self._make_worker = make_worker
        self._needs = needs
        # Restarts and retries are ours, so that attempts are counted as in the other engine.
        self._post = ray.remote(
            num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), max_restarts=0, max_task_retries=0
        )(Post)
        self._posts: list[Any] = []
        self._working: dict[Any, Any] = {}
        self._ends: dict[Any, str] = {}

    def hire(self) -> Any | None:
        # An actor without room would wait for a machine while others could do its task.
        if self._posts and not _room(self._ray.available_resources(), self._needs):
            return None
        post = self._post.remote(self._make_worker)
        self._posts.append(post)
        return post

    def give(self, post: Any, task: Any) -> None:
        self._working[post.run.remote(task)] = post

    def wait(self) -> list[tuple[Any, Reply[Any] | None]]:
        ready, _ = self._ray.wait(list(self._working), num_returns=1)
        return [self._answer(reference) for reference in ready]

    def _answer(self, reference: Any) -> tuple[Any, Reply[Any] | None]:
        post = self._working.pop(reference)
        try:
            return post, self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._ends[post] = _first_line(error).rstrip(".")
            return post, None

    def farewell(self, post: Any) -> str:
        self._posts.remove(post)
        self._ray.kill(post)
        return f"the Ray worker ended: {self._ends.pop(post)}"

    def dismiss(self) -> None:
        posts, self._posts, self._working = self._posts, [], {}
        for post in posts:
            self._ray.kill(post)
