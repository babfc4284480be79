import json
from pathlib import Path

import pytest

from assistant.cli.app import run
from tests.jobs.sounds import ToyModel, tone

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyModel:
    return ToyModel(tmp_path / "toy-model", monkeypatch)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    tone(tmp_path / "lib" / "a.wav", 0.5)
    tone(tmp_path / "lib" / "in" / "a.wav", 3.5)
    return tmp_path / "lib"


def batch(toy: ToyModel, *arguments: object) -> int:
    model = toy.models.settings.recogniser
    return run(["transcribe", *map(str, arguments), "--model", model])


def test_a_folder_is_transcribed_and_summed_up(
    toy: ToyModel, library: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    assert batch(toy, library, "-o", out, "--formats", "srt, json", "--json") == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out.splitlines()[-1])
    assert (summary["done"], summary["failed"], summary["audio_seconds"]) == (2, 0, 4.0)
    assert f"{out}: 2 transcribed, 0 had been, 0 failed" in printed.out.replace("\n", "")
    assert "0:00:04 of sound in" in printed.out
    assert "2 of 2 recordings" in printed.err
    assert "0:00:04 of 0:00:04" in printed.err
    assert {file.name for file in out.iterdir()} == {
        *(".voxsight", "a.wav.json", "a.wav.srt", "in"),
    }
    assert batch(toy, library, "-o", out, "--formats", "srt") == 0
    assert "0 transcribed, 2 had been" in capsys.readouterr().out


def test_some_that_failed_make_the_exit_code_1(
    toy: ToyModel, library: Path, tmp_path: Path, capsys: Captured
) -> None:
    (library / "[b].wav").touch()
    out = tmp_path / "out"
    assert batch(toy, library, "-o", out) == 1
    told = capsys.readouterr().err
    assert "[b].wav is empty; expected a sound file" in told
    assert f"Listed in {out}/failures.jsonl; --retry-failed tries them again." in told
    tone(library / "[b].wav")
    assert batch(toy, library, "-o", out, "--retry-failed") == 0


def test_many_failures_are_counted(
    toy: ToyModel, library: Path, tmp_path: Path, capsys: Captured
) -> None:
    for i in range(23):
        (library / f"{i}.wav").touch()
    assert batch(toy, library, "-o", tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert told.count("is empty;") == 20
    assert "3 more are in" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["lib"], "Expected a folder for the results of lib; name one with -o FOLDER."),
        (["lib/*.wav"], "name one with -o FOLDER"),
        (["lib/a.wav", "--workers", "2"], "The option --workers is about results in a folder"),
        (["lib/a.wav", "--json"], "--json is about results in a folder"),
        (["lib/a.wav", "--retry-failed"], "--retry-failed is about results"),
        (["lib", "-o", "out", "-f", "srt"], "--format is about printing; use --formats with -o"),
        (["lib", "-o", "out", "--formats", "pdf"], "txt, srt, vtt; got 'pdf'"),
        (["lib", "-o", "out", "--address", "a:1"], "use the engine 'ray' for a cluster"),
        (["lib", "-o", "out", "--engine", "cloud"], "'cloud' is not one of 'local', 'ray'"),
        (["none/*.wav", "-o", "out"], "Expected recordings in"),
        (["lib", "-o", "lib/a.wav"], "Cannot write results to"),
    ],
)
def test_what_does_not_fit_is_refused(
    toy: ToyModel,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(library.parent)
    assert batch(toy, *arguments) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (library.parent / "out").exists()


def test_printing_goes_on_after_a_bad_file(library: Path, capsys: Captured) -> None:
    (library / "b.wav").touch()
    (library / "c.wav").touch()
    assert run(["transcribe", str(library / "b.wav")]) == 2
    assert "is empty" in capsys.readouterr().err
    assert run(["transcribe", str(library / "b.wav"), str(library / "c.wav")]) == 2
    assert "2 of 2 files could not be transcribed" in capsys.readouterr().err
