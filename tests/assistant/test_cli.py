"""The commands that need no model, and the border where errors become one line."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.cli import models as models_command
from assistant.cli.app import app, run
from assistant.cli.console import PullBars, counted
from assistant.cli.doctor import examine
from assistant.config import Settings
from assistant.errors import VoxsightError
from assistant.player import play

CONTENT = b"content of a model"
CATALOGUE = f"""
[models.toy]
task = "samples"
summary = "a toy"
licence = "MIT"
upstream = "-"
[[models.toy.files]]
path = "toy.bin"
size = {len(CONTENT)}
sha256 = "{hashlib.sha256(CONTENT).hexdigest()}"
sources = [{{ kind = "package", parts = [
    {{ package = "toy==1.0", member = "toy.bin", wheel_bytes = 10 }} ] }}]
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a catalogue of one model that is in the cache; gives the model's file."""
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(CATALOGUE)
    monkeypatch.setattr("assistant.models.asset", lambda name: catalogue)
    monkeypatch.setenv("VOXSIGHT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VOXSIGHT_OFFLINE", "1")
    file = tmp_path / "cache" / "models" / "toy" / "toy.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return file


def test_list_tells_the_state(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "verify"]) == 0
    capsys.readouterr()
    assert run(["models", "list", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["state"]) for row in report["models"]] == [("toy", "ready")]
    toy.unlink()
    assert run(["models", "list"]) == 0
    assert "absent" in capsys.readouterr().out


def test_verify_finds_a_flipped_byte(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "verify", "toy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"verified": ["toy"], "problems": {}}
    toy.write_bytes(CONTENT[:-1] + b"L")
    assert run(["models", "verify"]) == 2
    printed = capsys.readouterr()
    assert "toy.bin is damaged" in printed.out.replace("\n", "")
    assert "voxsight models pull toy" in " ".join(printed.err.split())


def test_pull_of_what_is_there_needs_no_network(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "pull"]) == 0
    assert "toy: ready" in capsys.readouterr().err


def test_pull_of_what_is_missing_offline(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.unlink()
    assert run(["models", "pull", "toy"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "offline mode is on" in error


@pytest.mark.parametrize("form", [[], ["--json"], ["--warm"]])
def test_doctor(form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", *form]) == 0
    printed = capsys.readouterr().out
    assert "torch" in printed
    assert "whisper-tiny.en" in printed


def test_doctor_tells_what_would_be_fetched(tmp_path: Path) -> None:
    report = examine(Settings(cache_dir=tmp_path / "none" / "yet"))
    names = {row["name"] for row in report["would_fetch"]}
    assert {"whisper-tiny.en", "en_US-joe-medium", "sample-photos"} <= names
    assert not (tmp_path / "none").exists()


def test_setting_out_of_range_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXSIGHT_THREADS", "none")
    assert run(["doctor"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_interrupt_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models_command.ModelStore, "state", interrupt)
    assert run(["models", "list"]) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(models_command.ModelStore, "state", fail)
    with pytest.raises(ZeroDivisionError):
        run(["models", "list"])


def test_error_text_with_brackets_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise VoxsightError("no [red]file[/nonsense] here")

    monkeypatch.setattr(models_command.ModelStore, "state", fail)
    assert run(["models", "list"]) == 2
    assert "no [red]file[/nonsense] here" in capsys.readouterr().err


def test_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m assistant.cli models list | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    app(["--help"], standalone_mode=False)
    printed = capsys.readouterr().out
    for command in ("demo", "ask", "transcribe", "speak", "models", "doctor", "eval"):
        assert command in printed


def test_progress_bars_reach_their_end(capsys: pytest.CaptureFixture[str]) -> None:
    with PullBars().model("toy", 10) as came:
        came(4)
    with counted("Counting", 1) as advance:
        advance(1, 3)
        advance(2)
    printed = capsys.readouterr()
    assert not printed.out
    assert "Fetching toy" in printed.err
    assert "3/3" in printed.err


def test_player_is_found_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not play(tmp_path / "a.wav")
    for code, name in ((1, "pw-play"), (0, "aplay")):
        program = tmp_path / name
        program.write_text(f"#!{os.path.realpath('/bin/sh')}\nexit {code}\n")
        program.chmod(0o755)
    assert play(tmp_path / "a.wav")
