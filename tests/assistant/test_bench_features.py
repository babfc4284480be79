"""The benchmark of the features: what it times, how it counts, and that its parity check bites."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from assistant.bench import features as bench
from assistant.bench.features import FeatureReport, TorchLogMel, measure_features, steps
from assistant.bench.timing import interleaved
from assistant.cli.app import run
from assistant.evals.asr import Recording
from audio.features import reference
from audio.features.dispatch import Kernel, kernel_for, use_kernel
from audio.media import read_sound

QUESTION = Path(__file__).parents[2] / "assets" / "demo" / "question.wav"


def test_cases_take_turns_and_the_first_round_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, log, rounds = [0.0], "", []
    costs = {"a": iter([9.0, 1.0, 3.0, 2.0]), "b": iter([9.0, 5.0, 5.0, 8.0])}
    monkeypatch.setattr("assistant.bench.timing.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(
        "assistant.bench.timing.time.sleep", lambda s: now.__setitem__(0, now[0] + s)
    )

    def case(name: str) -> None:
        nonlocal log
        log += name
        now[0] += next(costs[name])

    cases = {name: lambda name=name: case(name) for name in "ab"}  # type: ignore[misc]
    medians = interleaved(cases, 3, rest_s=100.0, progress=rounds.append)
    assert medians == {"a": 2.0, "b": 5.0}
    assert log == "ab" * 4
    assert rounds == [1] * 4
    ticks = interleaved({"c": lambda: now.__setitem__(0, now[0] + 1)}, 2, calls=10)
    assert ticks == {"c": 1.0}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_GROWTH_S", (1, 2))
    monkeypatch.setattr(bench, "_STREAMS", 3)


@pytest.mark.usefixtures("quick")
def test_the_report_has_every_key_and_the_parity_of_this_run() -> None:
    progress: list[int] = []
    threads = torch.get_num_threads()
    speech = read_sound(QUESTION).samples
    report = measure_features(speech, rounds=1, progress=progress.append)
    summary = json.loads(json.dumps(report.summary()))
    assert {
        *("vs_faster_whisper", "vs_torch_stft", "vs_torchaudio", "vs_kaldi_native_fbank"),
        *("tick_vs_chunk", "tick_vs_window", "max_abs_error", "max_abs_error_whisper"),
    } <= summary.keys()
    assert all(summary[key] > 0 for key in ("vs_faster_whisper", "vs_kaldi_native_fbank"))
    assert 0 < summary["max_abs_error"] <= 1e-4
    assert 0 < summary["max_abs_error_whisper"] <= 1e-3
    assert summary["stream_bytes"][0] == summary["stream_bytes"][1]
    assert len(progress) == 3 * 2 + 2 == steps(1)
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("quick")
def test_a_wrong_kernel_shows_in_the_report() -> None:
    right = kernel_for()

    def off(samples: np.ndarray, out: np.ndarray, column: int, frames: int) -> None:
        right.log10_frames(samples, out, column, frames)
        out[0, column : column + frames] += 0.5

    with use_kernel(Kernel("off", off, right.clamp)):
        report = measure_features(read_sound(QUESTION).samples, rounds=1)
    assert report.summary()["max_abs_error"] > 0.1
    assert report.summary()["max_abs_error_whisper"] > 0.1


def test_the_peers_compute_whispers_features() -> None:
    sound = bench.speech_window(read_sound(QUESTION).samples)
    wanted = reference.log_mel(sound)
    for extract in (TorchLogMel(80), bench._torchaudio_extractor()):
        np.testing.assert_allclose(extract(sound).numpy(), wanted, atol=1e-3)
    kaldi = bench._kaldi_extractor()
    assert kaldi is not None
    assert 2_990 <= kaldi(sound) <= 3_000


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kaldi_native_fbank", None)
    assert "kaldi-native-fbank" not in bench._extractors(np.zeros(480_000, np.float32))
    report = FeatureReport(
        rounds=1,
        window_us={"voxsight": 1.0, "faster-whisper": 20.0},
        tick_us={"voxsight": 1.0, "chunk alone": 9.0, "window again": 600.0},
        second_us={1: 2.0, 10: 3.0},
        streams_us={},
        stream_bytes=(1, 1),
        errors={80: 1e-6, 128: 2e-6},
        max_abs_error_whisper=1e-5,
    )
    summary = report.summary()
    assert summary["vs_kaldi_native_fbank"] is None
    assert (summary["vs_faster_whisper"], summary["growth"]) == (20.0, 1.5)
    assert summary["max_abs_error"] == 2e-6


def test_the_command_refuses_what_it_cannot_measure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["bench", "features", "--device", "tpu"]) == 2
    assert "cpu or cuda" in capsys.readouterr().err
    assert run(["bench", "features", "--data", str(tmp_path)]) == 2
    assert "transcripts.tsv" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_the_command_prints_tables_and_last_a_line_of_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["bench", "features", "--rounds", "1", "--json"]) == 0
    out = capsys.readouterr().out
    assert "kaldi-native-fbank" in out
    assert json.loads(out.splitlines()[-1])["rounds"] == 1


@pytest.mark.models
def test_the_words_are_those_from_faster_whispers_features(model_folder) -> None:  # type: ignore[no-untyped-def]
    progress: list[int] = []
    recordings = [
        Recording(path, "en", "")
        for path in sorted((model_folder("sample-speech") / "en").glob("*.wav"))
    ]
    parity = bench.compare_texts(model_folder("whisper-tiny.en"), recordings, progress.append)
    assert parity.texts == parity.texts_identical == len(recordings) == len(progress) / 2 >= 3
