"""The evaluation of dubbing: its film, and what it finds in a file that is known."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from assistant.errors import ConfigError, VoxsightError
from assistant.evals.dub import decode_track, loud_steps, measure_file, picture_hash
from assistant.evals.dub_video import make_film, sample_clips
from tests.jobs.dub_fakes import played_dub
from tests.jobs.dub_samples import Ear, noise, write_film, write_sound


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two languages with a clip each."""
    for language, text in (("de", "Hallo."), ("fr", "Salut.")):
        folder = tmp_path / "speech" / language
        folder.mkdir(parents=True)
        write_sound(folder / "clip.wav", noise(0.4, 16_000, channels=1), 16_000)
        (folder / "clip.txt").write_text(text)
    return tmp_path / "speech"


def test_the_film_holds_the_clips_and_is_the_same_each_time(speech: Path, tmp_path: Path) -> None:
    clips = sample_clips(speech)
    assert [(clip.language, clip.text) for clip in clips] == [("de", "Hallo."), ("fr", "Salut.")]
    assert len(sample_clips(speech, ["fr"])) == 1
    heard = make_film(clips, tmp_path / "film.mp4", seconds=7.0)
    assert [(clip.text, clip.start_ms, clip.end_ms) for clip in heard] == [
        ("Hallo.", 1000, 1400),
        ("Salut.", 2600, 3000),
    ]
    make_film(clips, tmp_path / "again.mp4", seconds=7.0)
    assert (tmp_path / "film.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    sound, rate = decode_track(tmp_path / "film.mp4", 0)
    assert len(sound) / rate == pytest.approx(7.0, abs=0.05)
    loud = np.abs(sound).max(axis=1) > 0.1
    first = np.flatnonzero(loud)[0] / rate
    assert first == pytest.approx(1.0, abs=0.05)
    with av.open(str(tmp_path / "film.mp4")) as file:
        times = [packet.pts for packet in file.demux(video=0) if packet.pts is not None]
    assert len(set(np.diff(times))) > 2  # a variable frame rate


def test_loud_steps() -> None:
    sound = np.zeros(16_000, np.float32)
    sound[4000:8000] = 0.5
    sound[8000:9000] = 0.01
    assert loud_steps(sound, 16_000) == list(range(250, 500, 10))
    assert loud_steps(np.zeros(0, np.float32), 16_000) == []


def test_measures_what_was_written(tmp_path: Path) -> None:
    sound = noise(5.0, level=1e-4)
    for start, end in ((0.3, 1.2), (1.6, 2.7), (3.3, 4.2)):
        sound[round(start * 48_000) : round(end * 48_000)] += noise(end - start, level=0.1)
    film = write_film(tmp_path / "film.mp4", sound, seconds=5.0)
    report = played_dub(film, tmp_path / "out.mp4", tmp_path / "models")
    wordings = [line.fitted.wording for line in report.lines]
    ear = Ear([wordings[0], "How are", wordings[2]])
    words = len(" ".join(wordings).split())
    measures = measure_file(film, report.out, report.to_dict(), ear)
    summary = measures.summary()
    assert summary["lines"] == 3
    assert summary["video_identical"] is True
    assert abs(summary["loudness_delta_lu"]) <= 0.3
    assert summary["av_end_delta_ms"] <= 40
    assert summary["back_wer"] == pytest.approx(1 / words, abs=1e-4)
    assert summary["rate_in_range"] == 1.0
    assert summary["silence_of_original"] == 0.0  # one noise from end to end
    # The voice here hums until its end, so that plan and sound agree.
    planned = [line.end_ms - line.fitted.line.end_ms for line in report.lines]
    found = [line.end_ms - line.slot[1] for line in measures.lines]
    borrowed = [line.fitted.borrowed_ms for line in report.lines]
    wanted = [plan - more for plan, more in zip(planned, borrowed, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=40)
    # Another picture is found out.
    other = write_film(tmp_path / "other.mp4", noise(5.0), seconds=4.9)
    assert picture_hash(other) != picture_hash(film)
    with pytest.raises(VoxsightError, match="Expected 2 audio tracks"):
        decode_track(film, 1)


def test_recordings_of_ones_own(speech: Path, tmp_path: Path) -> None:
    from assistant.evals.dub import measure_dub

    table = "file\tlanguage\ttext\nde/clip.wav\tde\tHallo.\n"
    (speech / "transcripts.tsv").write_text(table)
    models: Any = None  # nothing is loaded before there is something to dub
    with pytest.raises(ConfigError, match=r"Expected recordings in fr, pl in .*speech, found none"):
        measure_dub(models, tmp_path / "work", data=speech, languages=["fr", "pl"])
    assert not (tmp_path / "work").exists()


@pytest.mark.models
def test_a_real_dub(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from assistant.config import load_settings
    from assistant.evals.dub import measure_dub
    from assistant.loading import Models

    model_folder("sample-speech")
    models = Models(load_settings(recogniser="whisper-base", threads=1))
    [clip, *_] = sample_clips(models.folder("sample-speech"), ["fr"])
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(clip.path, data)
    table = f"file\tlanguage\ttext\n{clip.path.name}\tfr\t{clip.text}\n"
    (data / "transcripts.tsv").write_text(table, encoding="utf-8")
    measures = measure_dub(models, tmp_path / "work", data=data)
    summary = measures.summary()
    assert summary["lines"] == 1
    assert summary["rate_in_range"] == 1.0
    assert summary["video_identical"] is True
    assert abs(summary["loudness_delta_lu"]) <= 1.0
    assert summary["av_end_delta_ms"] <= 40
    assert measures.lines[0].wording
