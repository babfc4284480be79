"""The same library in any company and with any number of workers: the same bytes."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from assistant.config import load_settings
from assistant.jobs import transcribe
from assistant.jobs.local import LocalEngine
from assistant.loading import Models
from tests.jobs.sounds import results, tree

pytestmark = pytest.mark.models


def test_two_processes_of_which_one_is_killed(
    speech_library: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        while not killed:
            for child in multiprocessing.active_children()[:1]:
                time.sleep(0.5)
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert results(speech_library, tmp_path / "out", LocalEngine(2)) == expected
    killer.join()
    assert killed


def test_results_do_not_depend_on_the_company(
    speech_library: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    models = Models(load_settings(recogniser="whisper-tiny.en"))
    transcribe(speech_library.parent / "0.wav", out, models=models)
    alone = tree(out)
    assert len(alone) == 5
    for name, content in alone.items():
        assert content == expected[name]
