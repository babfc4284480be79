"""The whole path on real models, as a user meets it: commands in, files and exit codes out."""

import json
import socket
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assistant.cli.app import run

pytestmark = pytest.mark.models

Folder = Callable[[str], Path]
#: All that the commands below load: fetched before the sockets are blocked.
NEEDED = (
    *("whisper-tiny.en", "whisper-base", "qwen2.5-coder-0.5b-instruct", "en_US-joe-medium"),
    *("efficientnet-lite0", "sample-photos", "sample-speech"),
)


@pytest.fixture(scope="module", autouse=True)
def fetched(model_folder: Folder) -> None:
    for name in NEEDED:
        model_folder(name)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach a network fails the test; asyncio's own socket pair is let through."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a socket was opened: {arguments}")

    monkeypatch.setenv("VOXSIGHT_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def words(text: str) -> set[str]:
    return set("".join(c if c.isalpha() else " " for c in text.lower()).split())


@pytest.mark.usefixtures("no_network")
def test_ask_by_voice_about_a_picture_without_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model_folder: Folder
) -> None:
    question, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    assert run(["speak", "What can you see in this picture?", "-o", str(question)]) == 0
    capsys.readouterr()
    photo = model_folder("sample-photos") / "coffee.png"
    arguments = ["ask", "--audio", str(question), "--image", str(photo), "-o", str(answer)]
    assert run([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(report) == {"transcript", "answer", "stages_ms", "audio_file"}
    assert {"what", "picture"} <= words(report["transcript"])
    assert words(report["answer"]) & {"espresso", "coffee", "cup"}
    for stage in ("load_models", "transcribe", "look", "first_token", "think", "speak", "total"):
        assert report["stages_ms"][stage] > 0
    # What the file says is what the answer says.
    assert run(["transcribe", report["audio_file"]]) == 0
    spoken = words(capsys.readouterr().out)
    assert len(spoken & words(report["answer"])) >= 0.6 * len(words(report["answer"]))


def test_answer_streams_and_ends_with_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model_folder: Folder
) -> None:
    photo = model_folder("sample-photos") / "rocket.jpg"
    out = tmp_path / "a.wav"
    arguments = ["ask", "--text", "What is this?", "--image", str(photo), "-o", str(out)]
    assert run(arguments) == 0
    printed = capsys.readouterr().out
    assert "Answer: " in printed
    assert "What took the time" in printed
    with wave.open(str(out)) as sound:
        assert sound.getframerate() == 22_050
        assert sound.getnframes() > 11_025


@pytest.mark.parametrize("form", ["text", "json", "srt", "vtt"])
def test_transcribe_in_every_format(
    form: str, capsys: pytest.CaptureFixture[str], model_folder: Folder
) -> None:
    file = model_folder("sample-speech") / "en" / "quick_brown_fox.wav"
    assert run(["transcribe", str(file), "--format", form, "--words"]) == 0
    printed = capsys.readouterr().out
    assert {"quick", "brown", "fox"} <= words(printed)
    assert printed.startswith("WEBVTT") == (form == "vtt")
    assert ("-->" in printed) == (form in ("srt", "vtt"))
    if form == "json":
        transcript = json.loads(printed)
        assert transcript["language"] == "en"
        assert transcript["segments"][0]["words"]


def test_transcribe_goes_on_after_a_bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model_folder: Folder
) -> None:
    good = model_folder("sample-speech") / "en" / "quick_brown_fox.wav"
    assert run(["transcribe", str(tmp_path / "none.wav"), str(good)]) == 2
    printed = capsys.readouterr()
    assert "fox" in words(printed.out)
    assert "none.wav" in printed.err
    assert "1 of 2 files" in " ".join(printed.err.split())


def bad_files(folder: Path, photo: Path) -> dict[str, Path]:
    empty = folder / "empty.wav"
    with wave.open(str(empty), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
    text = folder / "text.wav"
    text.write_text("This is no sound at all.\n" * 100)
    cut = folder / "cut.jpg"
    cut.write_bytes(photo.read_bytes()[:20_000])
    huge = folder / "huge.png"
    Image.fromarray(np.zeros((1, 1), np.uint8)).resize((30_000, 1)).save(huge)
    content = bytearray(huge.read_bytes())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    huge.write_bytes(content)
    return {"empty": empty, "text": text, "cut": cut, "huge": huge}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing file", "none.wav"),
        ("empty audio", "empty.wav"),
        ("text named wav", "text.wav"),
        ("truncated jpg", "cut.jpg"),
        ("huge png", "huge.png"),
        ("unknown voice", "no model 'nobody'"),
        ("unknown recogniser", "no model 'whisper-tiny'"),
        ("no question", "Expected a question"),
        ("no folder to write", "nofolder"),
        ("photo of the demo", "Expected a photo"),
        ("unknown option", "No such option"),
        ("rate out of range", "less than or equal to 4"),
        ("language unknown to the model", "language"),
        ("text without words", "speak"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    case: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model_folder: Folder,
) -> None:
    photo = model_folder("sample-photos") / "rocket.jpg"
    sound = model_folder("sample-speech") / "en" / "counting.wav"
    bad = bad_files(tmp_path, photo)
    out = tmp_path / "answer.wav"
    arguments = {
        "missing file": ["ask", "--audio", str(tmp_path / "none.wav"), "--image", str(photo)],
        "empty audio": ["ask", "--audio", str(bad["empty"]), "--image", str(photo)],
        "text named wav": ["ask", "--audio", str(bad["text"]), "--image", str(photo)],
        "truncated jpg": ["ask", "--audio", str(sound), "--image", str(bad["cut"])],
        "huge png": ["ask", "--audio", str(sound), "--image", str(bad["huge"])],
        "unknown voice": ["speak", "Hello", "--voice", "nobody"],
        "unknown recogniser": ["transcribe", str(sound), "--model", "whisper-tiny"],
        "no question": ["ask", "--image", str(photo)],
        "no folder to write": ["speak", "Hello", "-o", str(tmp_path / "nofolder" / "a.wav")],
        "photo of the demo": ["demo", "--photo", "dog"],
        "unknown option": ["ask", "--picture", str(photo)],
        "rate out of range": ["speak", "Hello", "--rate", "100"],
        "language unknown to the model": ["transcribe", str(sound), "--language", "xx"],
        "text without words": ["speak", "..."],
    }[case]
    if arguments[0] in ("ask", "speak") and "-o" not in arguments:
        arguments += ["-o", str(out)]
    before = sorted(tmp_path.iterdir())
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert message in " ".join(printed.err.split())
    assert "Traceback" not in printed.err
    assert sorted(tmp_path.iterdir()) == before


def test_flipped_byte_in_a_model_is_one_clear_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model_folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    voice = model_folder("en_US-joe-medium")
    copy = tmp_path / "models" / voice.name
    copy.mkdir(parents=True)
    for file in voice.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    model = copy / "en_US-joe-medium.onnx"
    content = bytearray(model.read_bytes())
    content[30_000_000] ^= 0x40
    model.write_bytes(content)
    monkeypatch.setenv("VOXSIGHT_CACHE_DIR", str(tmp_path))
    out = tmp_path / "speech.wav"
    assert run(["speak", "Hello", "-o", str(out)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "en_US-joe-medium.onnx is damaged" in error
    assert "voxsight models pull en_US-joe-medium" in error
    assert not out.exists()


def test_python_in_four_lines(tmp_path: Path, model_folder: Folder) -> None:
    from assistant import Assistant

    with Assistant() as assistant:
        photo = model_folder("sample-photos") / "coffee.png"
        reply = assistant.ask(text="What do you see?", image=photo)
        assert reply.answer
        assert reply.save(tmp_path / "answer.wav").stat().st_size > 44
        again = assistant.ask(text="What do you see?", image=photo, speak=False)
        assert again.answer == reply.answer
        assert again.sound is None
        assert again.stages_ms["load_models"] < reply.stages_ms["load_models"]


def test_recording_without_speech(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = tmp_path / "silent.wav"
    with wave.open(str(silent), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(64_000))
    out = tmp_path / "answer.wav"
    assert run(["ask", "--audio", str(silent), "-o", str(out)]) == 2
    assert "no speech was heard" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
