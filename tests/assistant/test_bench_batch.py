"""The batch benchmark: what both sides are given, what is counted, and a short run of it."""

import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant.bench import batch as bench
from assistant.bench.batch import Spoken, joined, measure_batch, speak, steps
from assistant.errors import ConfigError
from assistant.evals.asr import read_transcripts


def write_recordings(folder: Path, *rows: tuple[str, str, str]) -> Path:
    """A folder with a second of noise under each name, and their table."""
    rng = np.random.default_rng(0)
    for name, _, _ in rows:
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes((rng.normal(size=16_000) * 3000).astype("<i2").tobytes())
    lines = ["file\tlanguage\ttext", *("\t".join(row) for row in rows)]
    (folder / "transcripts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_recordings(tmp_path, ("a.wav", "en", "apples"), ("b.wav", "en", "pears plums"))


def test_files_hold_their_words_and_are_always_the_same(data: Path) -> None:
    recordings = read_transcripts(data)
    files = speak(recordings, 60)
    assert sum(file.sound.duration_s for file in files) >= 60
    assert len(files) > 2
    for file in files:
        turns = file.text.count("apples") + file.text.count("pears plums")
        assert 1.3 * turns <= file.sound.duration_s <= 3 * turns
    again = speak(recordings, 60)
    assert [file.text for file in again] == [file.text for file in files]
    assert np.array_equal(joined(again).sound.samples, joined(files).sound.samples)
    assert joined(files).text.split() == [word for file in files for word in file.text.split()]


def test_both_sides_hear_the_same_and_are_scored_alike(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def side(wrong: bool) -> Callable[..., Callable[[Sequence[Spoken]], list[str]]]:
        def load(*arguments: Any) -> Callable[[Sequence[Spoken]], list[str]]:
            asked.append(arguments)
            return lambda files: [f"{'wrong ' if wrong else ''}{file.text}" for file in files]

        return load

    monkeypatch.setattr(bench, "_ours", side(wrong=False))
    monkeypatch.setattr(bench, "_theirs", side(wrong=True))
    monkeypatch.setattr(bench, "REST_S", 0.0)
    told: list[int] = []
    report = measure_batch(
        data, Path("whisper-x"), beam=5, threads=3, seconds=30, rounds=2, progress=told.append
    )
    assert asked == [(Path("whisper-x"), "en", 5, 3, True)] * 2
    assert sum(told) == steps(2)
    summary = report.summary()
    assert (summary["wer"], summary["wer_files"]) == (0.0, 0.0)
    words = len(joined(speak(read_transcripts(data), 30)).text.split())
    assert summary["wer_batched_pipeline"] == round(1 / words, 4)
    assert summary["wer_batched_pipeline_files"] == round(report.files / words, 4)
    assert (summary["model"], summary["beam"], summary["threads"]) == ("whisper-x", 5, 3)


def test_ratios_are_its_time_over_ours() -> None:
    heard = {
        "ours": bench.Heard(2.0, 0.01),
        "theirs": bench.Heard(5.0, 0.02),
        "ours_files": bench.Heard(4.0, 0.01),
        "theirs_files": bench.Heard(6.0, 0.02),
    }
    report = bench.BatchReport("m", 1, 2, True, 100.0, 3, **heard)
    summary = report.summary()
    assert (summary["vs_batched_pipeline"], summary["vs_batched_pipeline_files"]) == (2.5, 1.5)
    assert summary["audio_seconds_per_second"] == 50.0


def test_several_languages_cannot_be_joined(tmp_path: Path) -> None:
    write_recordings(tmp_path, ("a.wav", "en", "one"), ("b.wav", "de", "zwei"))
    with pytest.raises(ConfigError, match="one language to join, got de, en"):
        measure_batch(tmp_path, Path("whisper-x"))


@pytest.mark.models
def test_a_short_run(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    sample = model_folder("sample-speech") / "en" / "quick_brown_fox.wav"
    (tmp_path / "fox.wav").symlink_to(sample)
    text = sample.with_suffix(".txt").read_text(encoding="utf-8").strip()
    (tmp_path / "transcripts.tsv").write_text(
        f"file\tlanguage\ttext\nfox.wav\ten\t{text}\n", encoding="utf-8"
    )
    folder = model_folder("whisper-tiny.en")
    summary = measure_batch(tmp_path, folder, threads=1, seconds=5, rounds=1).summary()
    assert summary["audio_s"] >= 5
    assert summary["vs_batched_pipeline"] > 0
    assert 0 <= summary["wer"] <= 0.5
    assert summary["wer_batched_pipeline"] >= 0
