"""The voice benchmark on a tiny voice: its figures, and that it sees a difference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assistant.bench import voice as bench
from assistant.bench.voice import GraphTimes, VoiceReport, VoiceTimes, measure_voice, steps
from audio.tts import Voice
from tests.audio.tiny_voice import write_tiny_voice

_CLAUSE = "A dog ran home and it sat at 12:30."


class _Piper:
    """Stands in for onnxruntime, which cannot run the tiny voice's file."""

    samples = np.zeros(3, np.float32)

    def __init__(self, onnx_file: Path, threads: int) -> None:
        assert onnx_file.is_file()

    def __call__(self, ids: list[int]) -> np.ndarray:
        return self.samples


@pytest.fixture(scope="module")
def voice_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_voice(tmp_path_factory.mktemp("voice"))


@pytest.fixture
def voice(voice_file: Path, monkeypatch: pytest.MonkeyPatch) -> Voice:
    monkeypatch.setattr(bench, "PiperSession", _Piper)
    monkeypatch.setattr(bench, "REST_S", 0.0)
    return Voice.load(voice_file.parent)


def test_all_keys_come_from_one_run(voice: Voice, voice_file: Path) -> None:
    told: list[int] = []
    report = measure_voice(voice, voice_file, clause=_CLAUSE, rounds=2, progress=told.append)
    assert sum(told) == steps((1, 2), 2) == 6
    summary = report.summary()
    named = {
        "rtf", "vs_onnxruntime", "first_chunk_ms", "first_sound_vs_piper", "chunked_max_abs",
        "vs_eager_whole", "graph_speedup", "device", "rtf_2_threads", "vs_onnxruntime_2_threads",
    }  # fmt: skip
    assert named <= set(summary)
    assert (summary["device"], summary["graph_speedup"]) == ("cpu", "not run")
    assert summary["precision"] == "float32"
    assert summary["chunked_max_abs"] < 1e-4
    assert report.parity_max_abs == float("inf")  # another length


def test_a_difference_from_onnxruntime_is_seen(
    voice: Voice, voice_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = voice.start(bench._STILL).say(_CLAUSE)
    assert piece is not None
    monkeypatch.setattr(_Piper, "samples", piece.sound.samples + np.float32(0.25))
    report = measure_voice(voice, voice_file, clause=_CLAUSE, threads=(1,), rounds=1)
    assert report.parity_max_abs == pytest.approx(0.25, abs=1e-4)


def test_ratios_are_the_peers_time_over_ours() -> None:
    times = {2: VoiceTimes(1.0, 0.5, 0.1, 2.0), 1: VoiceTimes(2.0, 1.0, 0.25, 3.0)}
    report = VoiceReport("gpu", "float16", 10.0, times, 0.03, 1e-5, 1e-4, GraphTimes(0.002, 0.005))
    assert report.summary() == {
        "rtf": 0.1,
        "vs_onnxruntime": 3.0,
        "vs_eager_whole": 2.0,
        "first_sound_ms": 250.0,
        "first_sound_vs_piper": 12.0,
        "rtf_2_threads": 0.05,
        "vs_onnxruntime_2_threads": 4.0,
        "vs_eager_whole_2_threads": 2.0,
        "first_sound_ms_2_threads": 100.0,
        "first_sound_vs_piper_2_threads": 20.0,
        "first_chunk_ms": 2.0,
        "chunked_max_abs": 1e-5,
        "parity_max_abs": 1e-4,
        "graph_speedup": 2.5,
        "device": "gpu",
        "precision": "float16",
        "audio_s": 10.0,
    }


def test_a_clause_without_words_is_refused(voice: Voice, voice_file: Path) -> None:
    with pytest.raises(ValueError, match="can be spoken"):
        measure_voice(voice, voice_file, clause="...")


@pytest.mark.models
def test_the_real_file_makes_the_same_sound(model_folder: Callable[[str], Path]) -> None:
    folder = model_folder("en_US-joe-medium")
    onnx_file = next(folder.glob("*.onnx"))
    voice = Voice.load(folder)
    report = measure_voice(voice, onnx_file, clause="Hello there.", threads=(1,), rounds=1)
    assert report.parity_max_abs < 1e-3
    assert report.chunked_max_abs < 1e-4


def test_the_command_refuses_an_unknown_precision(capsys: pytest.CaptureFixture[str]) -> None:
    from assistant.cli.app import run

    assert run(["bench", "voice", "--precision", "int8"]) == 2
    assert "float32, bfloat16, float16" in capsys.readouterr().err
