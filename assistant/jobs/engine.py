"""Many tasks through a few workers: what an engine is, and the schedule that all engines share."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from assistant.errors import USER_ERRORS, ConfigError, VoxsightError

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

EngineName = Literal["local", "ray"]

#: So many workers that end one after the other, with no answer between them, are no accident.
_HOPELESS = 10


class EngineError(VoxsightError):
    """The workers themselves fail, whatever the task."""


class Worker(Protocol[T_contra, R_co]):
    """Made once in each process; holds one set of models and does one task at a time."""

    def __call__(self, task: T_contra, /) -> R_co:
        """Does the task. Doing one twice, after a crash, must give the same."""
        ...


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """How a task ended: with a result, or with a failure told in one sentence.

    Attributes:
        index: position of the task among all, from 0.
        attempts: how often a worker was given the task.
    """

    index: int
    task: T
    result: R | None
    failure: str | None
    attempts: int


class Staff(ABC, Generic[T, R]):
    """Workers of one kind. They keep their models from one list of tasks to the next."""

    @abstractmethod
    def map(self, tasks: Iterable[T], *, retries: int = 1) -> Generator[Outcome[T, R], None, None]:
        """The tasks' outcomes, as they finish.

        Tasks are taken from the iterable when a worker is free for one, so it may be endless.
        Tasks and results must be picklable. A task is given again, up to ``retries`` times, when
        its worker died or when it failed for no fault of the input; one of ``USER_ERRORS`` is
        final. Ending the iteration early ends the workers. One iteration at a time.

        Raises:
            EngineError: no worker can be made.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the workers."""


class Engine(ABC):
    """Runs tasks on this machine or on many.

    Attributes:
        workers: how many tasks run at once.
        threads: how many threads the models of one worker should use.
        here: whether tasks run in this thread, and so may call back.
    """

    workers: int
    threads: int
    here: bool

    @abstractmethod
    def staff(self, make_worker: Callable[[], Worker[T, R]]) -> Staff[T, R]:
        """Workers that are each made when their first task comes; to be closed.

        ``make_worker`` must be picklable.
        """

    def map(
        self, make_worker: Callable[[], Worker[T, R]], tasks: Iterable[T], *, retries: int = 1
    ) -> Generator[Outcome[T, R], None, None]:
        """One list of tasks with workers that end with it; see ``Staff.map``."""
        with closing(self.staff(make_worker)) as staff:
            yield from staff.map(tasks, retries=retries)

    @abstractmethod
    def close(self) -> None:
        """Ends whatever still runs."""


def engine_by_name(
    name: EngineName,
    *,
    workers: int | None = None,
    address: str | None = None,
    gpu: bool = False,
) -> Engine:
    """The engine called ``local`` or ``ray``.

    Args:
        name: ``local``: processes of this machine; ``ray``: actors, on one machine or many.
        workers: how many at once; None lets the engine choose (local: 1; ray: what has room).
        address: of a Ray cluster that runs; None starts one on this machine.
        gpu: give every Ray worker a GPU of its own.

    Raises:
        ConfigError: an unknown name, fewer than one worker, an address without Ray, or no Ray.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"Expected one worker or more, got {workers}.")
    if name == "local":
        if address is not None:
            raise ConfigError(
                "Expected no address with the engine 'local'; use the engine 'ray' for a cluster."
            )
        from assistant.jobs.local import LocalEngine

        return LocalEngine(workers or 1)
    if name == "ray":
        from assistant.jobs.ray_engine import RayEngine

        return RayEngine(workers, address, gpu=gpu)
    raise ConfigError(f"Expected the engine 'local' or 'ray', got {name!r}.")


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# What every engine shares: the post where a worker sits, and who is given what


@dataclass(frozen=True)
class Reply(Generic[R]):
    """What a post answers: a result, or why there is none.

    Attributes:
        again: another attempt may end better.
        broken: the worker could not be made, so that no task can be done here.
    """

    result: R | None = None
    failure: str | None = None
    again: bool = False
    broken: bool = False


class Post(Generic[T, R]):
    """A worker at its place: made for its first task, and whatever goes wrong becomes a reply.

    Here is the border at which one task's failure, of any kind, is kept from the others.
    """

    def __init__(self, make_worker: Callable[[], Worker[T, R]]) -> None:
        self._make_worker = make_worker
        self._worker: Worker[T, R] | None = None

    def run(self, task: T) -> Reply[R]:
        """Does one task."""
        try:
            if self._worker is None:
                self._worker = self._make_worker()
        except Exception as error:  # noqa: BLE001 - the border: it ends this worker only
            return Reply(failure=reason(error), broken=True)
        try:
            return Reply(self._worker(task))
        except USER_ERRORS as error:
            return Reply(failure=reason(error))
        except Exception as error:  # noqa: BLE001 - the border of one task
            return Reply(failure=reason(error), again=True)


def reason(error: BaseException) -> str:
    """The error in one line, named where it is not one that is meant for a user."""
    text = " ".join(str(error).split())
    if isinstance(error, USER_ERRORS):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Crew(Protocol):
    """Posts elsewhere: hired, given a task each, waited for."""

    def hire(self) -> Any | None:
        """A new post; None where there is no room for one beside those that are."""
        ...

    def give(self, post: Any, task: Any) -> None:
        """Hands a task to a post that has none."""
        ...

    def wait(self) -> list[tuple[Any, Reply[Any] | None]]:
        """The posts that have answered since, one at least; None tells that the post is gone."""
        ...

    def farewell(self, post: Any) -> str:
        """How a post that is gone ended."""
        ...

    def dismiss(self) -> None:
        """Ends all posts at once."""
        ...


@dataclass(frozen=True)
class _Given(Generic[T]):
    index: int
    task: T
    attempts: int


class CrewStaff(Staff[T, R]):
    """Up to ``size`` posts of a crew, kept at work."""

    def __init__(self, crew: Crew, size: int) -> None:
        self._crew, self._size = crew, size
        self._idle: list[Any] = []

    def map(self, tasks: Iterable[T], *, retries: int = 1) -> Generator[Outcome[T, R], None, None]:
        """See ``Staff.map``."""
        at_work: dict[Any, _Given[T]] = {}
        try:
            yield from self._run(at_work, tasks, retries)
        finally:
            if at_work:  # what they would answer belongs to no list of tasks any more
                self.close()

    def close(self) -> None:
        """See ``Staff.close``."""
        self._idle.clear()
        self._crew.dismiss()

    def _run(
        self, at_work: dict[Any, _Given[T]], tasks: Iterable[T], retries: int
    ) -> Generator[Outcome[T, R], None, None]:
        fresh = (_Given(index, task, 1) for index, task in enumerate(tasks))
        again: deque[_Given[T]] = deque()
        deaths = 0
        while True:
            while len(at_work) < self._size and (next_one := _next(again, fresh)) is not None:
                post = self._idle.pop() if self._idle else self._crew.hire()
                if post is None:
                    again.appendleft(next_one)
                    break
                at_work[post] = next_one
                self._crew.give(post, next_one.task)
            if not at_work:
                return
            for post, reply in self._crew.wait():
                given = at_work.pop(post)
                if reply is None:
                    deaths += 1
                    reply = Reply[Any](failure=self._crew.farewell(post), again=True)
                    _check_hope(deaths, reply)
                else:
                    deaths = 0
                    self._idle.append(post)
                if reply.broken:
                    raise EngineError(str(reply.failure))
                if reply.again and given.attempts <= retries:
                    again.append(_Given(given.index, given.task, given.attempts + 1))
                else:
                    yield _outcome(given, reply)


def _next(again: deque[_Given[T]], fresh: Iterator[_Given[T]]) -> _Given[T] | None:
    if again:
        return again.popleft()
    return next(fresh, None)


def _outcome(given: _Given[T], reply: Reply[R]) -> Outcome[T, R]:
    return Outcome(given.index, given.task, reply.result, reply.failure, given.attempts)


def _check_hope(deaths: int, reply: Reply[Any]) -> None:
    if deaths >= _HOPELESS:
        raise EngineError(
            f"{deaths} workers in a row ended without an answer, the last: {reply.failure}; "
            "use fewer workers if memory is short."
        )


class HereStaff(Staff[T, R]):
    """One worker in this process, which does the tasks one by one."""

    def __init__(self, make_worker: Callable[[], Worker[T, R]]) -> None:
        self._make_worker = make_worker
        self._post: Post[T, R] | None = None

    def map(self, tasks: Iterable[T], *, retries: int = 1) -> Generator[Outcome[T, R], None, None]:
        """See ``Staff.map``."""
        post = self._post = self._post or Post(self._make_worker)
        for index, task in enumerate(tasks):
            attempts = 1
            while (reply := post.run(task)).again and attempts <= retries:
                attempts += 1
            if reply.broken:
                raise EngineError(str(reply.failure))
            yield _outcome(_Given(index, task, attempts), reply)

    def close(self) -> None:
        """See ``Staff.close``."""
        self._post = None
