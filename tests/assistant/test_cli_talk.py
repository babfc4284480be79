"""``voxsight talk``: files in and out, lines on standard output, errors in one sentence."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from rich.console import Console

from assistant.assets import asset
from assistant.cli import talk as command
from assistant.cli.app import run
from assistant.errors import VoxsightError
from assistant.events import Partial, PictureKept, ReplyStopped, ReplyText, Seen
from assistant.rehearsal import Moment
from assistant.session import Session
from audio.media import write_wav
from audio.pcm import Samples, Sound
from tests.assistant.session_fakes import RATE, Models, say, silence
from tests.assistant.test_session import seen


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    """The command talks with a session of fake models."""
    fakes = Models(look=seen)
    monkeypatch.setattr(command, "_session", lambda *_: (Session(fakes.parts()), RATE))
    return fakes


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    write_wav(path, Sound(np.concatenate((silence(0.3), say("what is this")))))
    return path


def fast(recording: Path, *options: Any) -> int:
    return run(["talk", "--input", str(recording), "--no-realtime", *map(str, options)])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.count("\n") == 1
    return printed.err


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def test_a_recording_is_answered_and_everything_is_written(
    models: Models, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, timeline, picture = (tmp_path / name for name in ("a.flac", "t.json", "p.png"))
    options = ("--out", out, "--timeline", timeline, "--picture", picture)
    assert fast(recording, *options) == 0
    printed = capsys.readouterr().out
    assert "You:       what is this\nAssistant: You said what is this.\n" in printed
    assert "first sound" in printed
    assert f"Written: {picture}" in printed.replace("\n", " ")
    samples, rate = soundfile.read(out)
    first = json.loads(timeline.read_text())["turns"][0]
    begin = np.flatnonzero(samples[:, 1])[0] / rate
    assert begin == pytest.approx(first["speech_end_s"] + first["first_sound_ms"] / 1000, abs=0.001)
    assert np.count_nonzero(samples[:, 1]) == 5 * 3_200
    assert size_of(picture) == (1600, 700)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.flac",
        "p.png",
        "question.wav",
        "t.json",
    ]


def test_for_programs_there_is_one_line(
    models: Models, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.wav"
    assert fast(recording, "--json", "--out", out) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    report = json.loads(printed)
    assert report["audio_file"] == str(out)
    assert "timeline" not in report
    assert report["turns"][0]["question"] == "what is this"
    assert soundfile.info(out).format == "WAV"


def test_at_the_speed_of_speech_it_takes_as_long(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "quiet.wav", Sound(silence(0.1)))
    begin = time.perf_counter()
    assert run(["talk", "--input", str(tmp_path / "quiet.wav")]) == 0
    assert time.perf_counter() - begin >= 1.6
    assert "No question was understood" in capsys.readouterr().err


def pictures(folder: Path, *shades: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:03}.png" for number in range(len(shades))]
    for path, shade in zip(paths, shades, strict=True):
        Image.new("RGB", (64, 48), (shade, 255 - shade, shade // 2)).save(path)
    return paths


def test_all_pictures_are_seen_before_the_question(
    models: Models, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = pictures(tmp_path / "shown", 10, 200, 90)
    timeline = tmp_path / "t.json"
    options = [part for path in paths for part in ("--image", str(path))]
    assert fast(recording, *options, "--timeline", timeline) == 0
    assert capsys.readouterr().out.startswith(
        "Sees:      picture 1: shade 10\nSees:      picture 2: shade 200\n"
        "Sees:      picture 3: shade 90\nYou:"
    )
    events = [event["event"] for event in json.loads(timeline.read_text())["events"]]
    assert events[:4] == ["picture_kept"] * 3 + ["speech_began"]


def test_frames_of_a_camera_are_kept_when_the_scene_changes(
    models: Models, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "frames"
    pictures(folder, 10, 10, 200, 200)
    (folder / "notes.txt").write_text("no picture")
    assert fast(recording, "--frames", folder) == 0
    printed = capsys.readouterr().out
    assert "picture 1: shade 10\n" in printed
    assert "picture 2: shade 200\n" in printed
    assert "picture 3" not in printed


def test_a_broken_frame_ends_it_with_one_sentence(
    models: Models, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "frames", 10)
    (tmp_path / "frames" / "001.png").write_bytes(b"no picture")
    assert fast(recording, "--frames", tmp_path / "frames", "--json") == 2
    assert "001.png is not a readable" in capsys.readouterr().err


def test_a_session_that_fails_is_one_sentence_and_leaves_its_time_line(
    models: Models, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.decoder.fault = VoxsightError("Out of luck.")
    timeline = tmp_path / "t.json"
    assert fast(recording, "--timeline", timeline) == 2
    assert capsys.readouterr().err == "voxsight: Out of luck.\n"
    assert json.loads(timeline.read_text())["events"][-1]["message"] == "Out of luck."


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--input", "none.wav"], "there is no sound file none.wav"),
        (["--input", "QUESTION", "--frames", "none"], "There is no folder of frames none"),
        (["--input", "QUESTION", "--frames", "EMPTY"], "Expected pictures (.jpg"),
        (["--input", "QUESTION", "--image", "none.png"], "none.png"),
        (["--input", "QUESTION", "--out", "none/a.wav"], "There is no folder none"),
        (["--input", "QUESTION", "--picture", "EMPTY"], "got the folder"),
        (["--frames", "EMPTY"], "name one with --input"),
        (["--no-realtime"], "name one with --input"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_loaded(
    options: list[str],
    told: str,
    recording: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"QUESTION": str(recording), "EMPTY": str(tmp_path / "empty")}
    assert run(["talk", *(places.get(option, option) for option in options)]) == 2
    assert told in error_of(capsys)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(VoxsightError, match="Cannot write"):
        command._save(tmp_path / "gone" / "a.json", b"{}")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(VoxsightError, match="Cannot write"):
        command._save(tmp_path / "a.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


# What is on the screen


def test_what_may_change_is_shown_below_what_is_certain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(stderr=True, force_terminal=True, width=60, color_system=None)
    monkeypatch.setattr(command, "remarks", console)
    now = [0.0]
    screen = command.Screen(lambda: now[0], 12.0)

    def line(*events: Any) -> str:
        for event in events:
            screen.follow(Moment(now[0], event))
        return screen._line().plain

    with screen:
        now[0] = 3.2
        assert line(Partial("what is", "this")) == "3 of 12 s  what is this"
        assert line(ReplyText(1, "A"), ReplyText(1, " cat")) == "3 of 12 s  Assistant: A cat"
        assert line(Partial("", "x" * 100)).endswith("…")
        line(PictureKept(1, Seen((), False)), ReplyStopped(1, "A"))
    printed = capsys.readouterr()
    assert printed.out == (
        "Sees:      picture 1: nothing it knows\n           (interrupted after: A)\n"
    )
    assert "3 of 12 s" in printed.err
    assert command.Screen(lambda: 0.0, None)._line().plain == "0 s  listening"


# Through a microphone


class Person:
    """A device whose microphone says one sentence, and who then presses Ctrl-C."""

    def start(
        self, rate: int, heard: Callable[[Samples], None], wanted: Callable[[int], Samples]
    ) -> float:
        def speak() -> None:
            sound = np.concatenate((say("what is this"), silence(3)))
            for at in range(0, len(sound), 512):
                heard(sound[at : at + 512])
                wanted(512)
                time.sleep(0.002)
            os.kill(os.getpid(), signal.SIGINT)

        self.thread = threading.Thread(target=speak)
        self.thread.start()
        return 0.0

    def stop(self) -> None:
        self.thread.join()


@pytest.mark.parametrize("kept", [False, True])
def test_a_conversation_at_the_microphone_ends_with_ctrl_c(
    kept: bool,
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("assistant.microphone.SoundDevice", Person)
    before = signal.getsignal(signal.SIGINT)
    out = tmp_path / "a.wav"
    assert run(["talk", *(["--out", str(out)] if kept else [])]) == 0
    printed = capsys.readouterr()
    assert "You:       what is this\nAssistant: You said what is this.\n" in printed.out
    assert "first sound" in printed.out
    assert "lost" not in printed.err
    assert signal.getsignal(signal.SIGINT) is before
    assert out.exists() is kept
    if kept:
        samples, _ = soundfile.read(out)
        question = say("what is this")
        assert np.allclose(samples[: len(question), 0], question, atol=1e-4)
        assert samples[:, 1].any()


def test_the_help_warns_of_loudspeakers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["talk", "--help"]) == 0
    assert "headphones" in capsys.readouterr().out


# With the real models


@pytest.mark.models
def test_the_question_of_the_demo_is_answered(
    model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = model_folder("sample-photos") / "chelsea.png"
    out, timeline, picture = (tmp_path / name for name in ("a.wav", "t.json", "p.png"))
    options = ("--image", image, "--out", out, "--timeline", timeline, "--picture", picture)
    assert fast(asset("demo/question.wav"), *options, "--json") == 0
    (turn,) = json.loads(capsys.readouterr().out)["turns"]
    words = turn["question"].lower().strip(" ?.").split()
    assert words == ["what", "can", "you", "see", "in", "this", "picture"]
    assert 300 < turn["first_sound_ms"] < 1200  # turn taking alone
    document = json.loads(timeline.read_text())
    (kept,) = [event for event in document["events"] if event["event"] == "picture_kept"]
    likely = [sighting["name"].lower() for sighting in kept["seen"]["sightings"][:3]]
    assert any(name in turn["answer"].lower() for name in likely)
    sounds = [event for event in document["events"] if event["event"] == "reply_sound"]
    spoken = " ".join(word["text"] for event in sounds for word in event["words"])
    assert spoken == turn["answer"]
    assert sounds[-1]["heard_s"][1] <= document["duration_s"]
    samples, rate = soundfile.read(out)
    assert rate == 22_050
    assert samples.shape[1] == 2
    assert samples.any(axis=0).all()
    assert size_of(picture) == (1600, 700)
