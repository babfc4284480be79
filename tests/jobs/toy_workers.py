"""Workers without models, that a test can send anywhere."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from assistant.errors import VoxsightError


@dataclass(frozen=True)
class Square:
    def __call__(self, task: int) -> int:
        return task * task


@dataclass(frozen=True)
class Fragile:
    """Squares; a task of ``deadly`` kills the process, at most ``times`` times."""

    folder: Path
    deadly: tuple[int, ...]
    times: int = 1

    def __call__(self, task: int) -> int:
        marks = [self.folder / f"{task}-{i}" for i in range(self.times)]
        if task in self.deadly:
            for mark in marks:
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return task * task


@dataclass(frozen=True)
class Faulty:
    """Refuses odd numbers, stumbles over multiples of 4 the first time."""

    folder: Path

    def __call__(self, task: int) -> int:
        if task % 2:
            raise VoxsightError(f"Expected an even number, got {task}; add one.")
        mark = self.folder / str(task)
        if task % 4 == 0 and not mark.exists():
            mark.touch()
            raise RuntimeError("stumbled")
        return task * task


@dataclass(frozen=True)
class Sleeper:
    """Notes its process and sleeps."""

    folder: Path

    def __call__(self, task: int) -> int:
        (self.folder / f"{os.getpid()}").touch()
        time.sleep(600)
        return task


def unmade() -> Square:
    raise VoxsightError("Expected a model, found none; fetch it.")
