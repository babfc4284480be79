"""The dubbing jobs of one server: one at a time, and what they made is kept for a while."""

import asyncio
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from assistant.server.engine import Engine
from assistant.server.errors import ApiError, as_api_error
from assistant.server.state import ServerState

#: In the order in which a job goes through them.
STAGES = ("extract", "transcribe", "segment", "translate", "fit", "speak", "mix", "mux")
#: Finished jobs that are kept at most; the oldest goes first.
_KEPT = 8

Phase = Literal["arriving", "waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Step:
    """How far a stage is; `total` is 0 while there is nothing to count."""

    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Made:
    """The files of a finished job: the dubbed film, and how well it came out."""

    film: Path
    captions: Path
    report: Path
    picture: Path


Tell = Callable[[Step], None]
#: Dubs a file into a language; its results go into the folder. Called in a thread of its own.
Work = Callable[[Engine, Path, Path, str, Tell], Made]


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Raised in the job's thread when nobody wants it any more."""


class Dub:
    """One job, from its upload until its files are removed.

    Args:
        owner: the id of the key that began it, None on the server's own machine.
        language: to dub into.
        suffix: of the film's name, which says what the dub shall be written as.
        folder: where it gets one of its own.
    """

    def __init__(self, owner: str | None, language: str, suffix: str, folder: Path) -> None:
        self.id = f"dub_{uuid4().hex[:24]}"
        self.owner, self.language, self.folder = owner, language, folder / self.id
        #: The film as it was sent.
        self.source = self.folder / f"film{suffix}"
        self.phase: Phase = "arriving"
        #: Stages that began. Written by the job's thread, a whole value each time.
        self.steps: Mapping[str, Step] = {}
        self.error: str | None = None
        self.made: Made | None = None

    @property
    def over(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.phase in ("done", "failed", "cancelled")

    @property
    def wanted(self) -> bool:
        """Whether nobody cancelled it."""
        return self.phase != "cancelled"

    def told(self, step: Step) -> None:
        """The job came so far; raises Stopped if it need not go on."""
        if not self.wanted:
            raise Stopped
        self.steps = {**self.steps, step.stage: step}

    def remove(self) -> None:
        """Take its files away."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Dubs:
    """The jobs of one server.

    Args:
        state: the server, whose models and limits hold.
        work: dubs one film.
    """

    def __init__(self, state: ServerState, work: Work) -> None:
        self._state, self._work = state, work
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._dubs: dict[str, Dub] = {}
        self._waiting: deque[Dub] = deque()
        self._running: asyncio.Task[None] | None = None
        state.leaving.callback(self.close)

    def place(self, owner: str | None, language: str, suffix: str) -> Dub:
        """A place for a film that is arriving; ApiError 503 if too many are here already."""
        limit = self._state.config.max_dubs_waiting
        if sum(dub.phase in ("arriving", "waiting") for dub in self._dubs.values()) >= limit:
            raise ApiError(
                503,
                f"{limit} films are waiting to be dubbed, as many as may; try again later.",
                type="server_error",
                code="server_full",
                headers={"Retry-After": "60"},
            )
        dub = Dub(owner, language, suffix, self._root())
        dub.folder.mkdir()
        self._dubs[dub.id] = dub
        return dub

    def begin(self, dub: Dub) -> None:
        """The film has arrived: it is dubbed when those before it are."""
        dub.phase = "waiting"
        self._waiting.append(dub)
        if self._running is None:
            self._running = asyncio.create_task(self._work_off())

    def find(self, dub_id: str, owner: str | None) -> Dub:
        """One of this owner's jobs; ApiError 404 if there is none."""
        dub = self._dubs.get(dub_id)
        if dub is None or dub.owner != owner:
            raise ApiError(
                404,
                f"There is no dub '{dub_id[:60]}'; what was made is kept for "
                f"{self._state.config.dub_keep_s:g} s.",
                code="dub_not_found",
            )
        return dub

    def before(self, dub: Dub) -> int:
        """How many jobs come before one that waits."""
        if dub not in self._waiting:
            return 0
        return self._waiting.index(dub) + sum(d.phase == "running" for d in self._dubs.values())

    def drop(self, dub: Dub) -> None:
        """Nobody wants a job or its files any more; one that runs ends with its present step."""
        running = dub.phase == "running"
        if not dub.over:
            dub.phase = "cancelled"
        if dub in self._waiting:
            self._waiting.remove(dub)
        if not running:  # else its thread may still be writing
            self._forget(dub)

    def close(self) -> None:
        """The server ends: so do all jobs, and no file is left."""
        for dub in list(self._dubs.values()):
            self.drop(dub)
        self._dubs.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _root(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(
                prefix="voxsight-dubs-", ignore_cleanup_errors=True
            )
        return Path(self._folder.name)

    async def _work_off(self) -> None:
        while self._waiting:
            dub = self._waiting.popleft()
            dub.phase = "running"
            await self._run(dub)
            if dub.wanted:
                self._keep(dub)
            else:
                self._forget(dub)
        self._running = None

    async def _run(self, dub: Dub) -> None:
        engine, out = self._state.engine, dub.folder / "out"
        try:
            made = await asyncio.to_thread(
                self._work, engine, dub.source, out, dub.language, dub.told
            )
        except Exception as error:  # noqa: BLE001 - the border of one job
            if dub.wanted:
                self._state.metrics.error("dub")
                # The file has a name that only this server knows.
                dub.error = as_api_error(error).message.replace(str(dub.source), "the film")
                dub.phase = "failed"
            return
        if dub.wanted:
            dub.made, dub.phase = made, "done"

    def _keep(self, dub: Dub) -> None:
        dub.source.unlink(missing_ok=True)
        for oldest in list(self._finished())[:-_KEPT]:
            self._forget(oldest)
        asyncio.get_running_loop().call_later(self._state.config.dub_keep_s, self._forget, dub)

    def _finished(self) -> Iterator[Dub]:
        return (dub for dub in self._dubs.values() if dub.phase in ("done", "failed"))

    def _forget(self, dub: Dub) -> None:
        self._dubs.pop(dub.id, None)
        dub.remove()
