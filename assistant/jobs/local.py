"""The engine of one machine: this process, or several that each hold one set of models."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from assistant.jobs.engine import (
    CrewStaff,
    Engine,
    HereStaff,
    Post,
    Reply,
    Staff,
    Worker,
    cores,
)

T = TypeVar("T")
R = TypeVar("R")

#: What thread pools read when they are loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PATIENCE_S = 5.0


class LocalEngine(Engine):
    """Runs tasks on this machine.

    One worker runs in this process. More get a process each, started anew (not forked, which no
    thread pool survives), and share the cores. A process that is killed is replaced, and its task
    given to another. The processes end with their staff, and when this process ends, however it
    does.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.here = workers == 1
        self.threads = max(1, cores() // workers)
        self._crews: list[_Processes] = []

    def staff(self, make_worker: Callable[[], Worker[T, R]]) -> Staff[T, R]:
        """See ``Engine.staff``."""
        if self.here:
            return HereStaff(make_worker)
        crew = _Processes(make_worker, self.threads)
        self._crews = [*(crew for crew in self._crews if crew.posts), crew]
        return CrewStaff(crew, self.workers)

    def close(self) -> None:
        """Ends all processes; what they were doing is lost."""
        for crew in self._crews:
            crew.dismiss()


@dataclass(frozen=True, eq=False)
class _Post:
    """A worker's process, and the pipe to it."""

    process: BaseProcess
    pipe: Connection


class _Processes:
    """Posts in processes of their own."""

    def __init__(self, make_worker: Callable[[], Worker[Any, Any]], threads: int) -> None:
        self._make_worker = make_worker
        self._threads = threads
        self.posts: dict[Connection, _Post] = {}
        self._working: dict[Connection, _Post] = {}

    def hire(self) -> _Post:
        spawning = multiprocessing.get_context("spawn")
        ours, theirs = spawning.Pipe()
        process = spawning.Process(target=_serve, args=(theirs, self._threads), daemon=True)
        process.start()
        theirs.close()  # else its end would not be noticed here
        post = self.posts[ours] = _Post(process, ours)
        self._send(post, self._make_worker)
        return post

    def give(self, post: _Post, task: Any) -> None:
        self._working[post.pipe] = post
        self._send(post, task)

    def wait(self) -> list[tuple[_Post, Reply[Any] | None]]:
        ready = [pipe for pipe in wait(list(self._working)) if isinstance(pipe, Connection)]
        return [(self._working.pop(pipe), _receive(pipe)) for pipe in ready]

    def farewell(self, post: _Post) -> str:
        del self.posts[post.pipe]
        _end(post)
        code = post.process.exitcode or 0
        post.process.close()
        if code < 0:
            return f"the worker process was ended by the signal {_signal_name(-code)}"
        return f"the worker process ended with the exit code {code}"

    def dismiss(self) -> None:
        # A process that is loading or computing would not look at its pipe for long.
        posts, self.posts, self._working = list(self.posts.values()), {}, {}
        for post in posts:
            post.process.kill()
        for post in posts:
            _end(post)
            post.process.close()

    def _send(self, post: _Post, message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # then ``wait`` finds it gone
            post.pipe.send(message)


def _receive(pipe: Connection) -> Reply[Any] | None:
    try:
        reply = pipe.recv()
    except (EOFError, OSError):
        return None
    assert isinstance(reply, Reply)
    return reply


def _end(post: _Post) -> None:
    post.pipe.close()
    post.process.join(_PATIENCE_S)
    if post.process.is_alive():
        post.process.kill()
        post.process.join()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


# In the worker's process


def _serve(pipe: Connection, threads: int) -> None:
    """Answers tasks until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends its children
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_threads(threads)
    with suppress(EOFError, ConnectionError):
        post = Post[Any, Any](pipe.recv())
        while True:
            pipe.send(post.run(pipe.recv()))


def _end_with_parent() -> None:
    """A long task must not outlive a parent that was killed: nobody would read its answer."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _limit_threads(threads: int) -> None:
    """For libraries to come, and for those that the start of the process has already loaded."""
    from threadpoolctl import threadpool_limits

    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    threadpool_limits(threads)
