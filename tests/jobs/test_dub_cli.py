"""``voxsight dub``: one file, a folder of them, and what is told of those that fail."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from assistant.cli import dub as command
from assistant.errors import ConfigError, VoxsightError
from tests.jobs.dub_fakes import played_dub
from tests.jobs.dub_samples import noise, write_film


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command with played models."""
    app = typer.Typer()
    app.command()(command.dub)

    def dub(source: Path, out: Path, options: Any, *, progress: Any, **_: Any) -> Any:
        return played_dub(source, out, tmp_path / "models", options, progress=progress)

    monkeypatch.setattr("assistant.jobs.dub.job.dub", dub)
    return lambda *arguments: app(map(str, arguments), standalone_mode=False)


def test_one_file(app: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_film(tmp_path / "film.mp4", noise(5.0), seconds=5.0)
    app(film, "-o", tmp_path / "english.mp4", "--json")
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["failures"] == []
    assert told["dubs"][0]["out"] == str(tmp_path / "english.mp4")
    assert told["dubs"][0]["lines"] == 3


def test_two_of_one_name_do_not_meet_and_the_rest_goes_on(
    app: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).mkdir(parents=True)
        sound = None if name == "b" else noise(5.0)
        write_film(tmp_path / "in" / name / "film.mp4", sound, seconds=5.0)
    with pytest.raises(VoxsightError, match=r"1 of 3 files .* has no audio track"):
        app(tmp_path / "in", "-o", tmp_path / "out", "--json")
    made = sorted(path.relative_to(tmp_path / "out") for path in tmp_path.glob("out/*/*.mp4"))
    assert made == [Path("a/film.en.mp4"), Path("c/film.en.mp4")]
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(told["dubs"]) == 2
    assert told["failures"][0]["source"].endswith("b/film.mp4")


def test_the_same_file_twice_is_dubbed_once(
    app: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = write_film(tmp_path / "film.mp4", noise(5.0), seconds=5.0)
    app(film, film, "-o", tmp_path / "out", "--json")
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["dubs"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "de"], "Into 'de' a dub needs"),
        (["--original", "keep-beds"], "hdemucs_high"),
        (["--speaker-voice", "joe"], "Expected a speaker's voice as A=NAME"),
        (["-o", "one.mp4"], "Expected a folder for the dubs of several files"),
        (["--edit", "lines.json"], "Edited lines are of one file"),
    ],
)
def test_clear_refusals(app: Any, tmp_path: Path, arguments: list[str], message: str) -> None:
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / name).write_bytes(b"film")
    with pytest.raises(ConfigError, match=message):
        app(tmp_path / "one.mp4", tmp_path / "two.mp4", *arguments)
