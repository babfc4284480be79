from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.errors import ConfigError
from assistant.jobs.dub import speakers
from assistant.jobs.dub.speakers import (
    SpeakerOptions,
    Turn,
    assign_speakers,
    diarisation_config,
    diarise,
    turns_of,
)


def test_one_speaker_without_turns() -> None:
    assert assign_speakers([(0, 10), (20, 30)], ()) == ["A", "A"]


def test_named_in_order_of_appearance_by_overlap() -> None:
    turns = [Turn(0, 100, 7), Turn(90, 300, 3), Turn(300, 400, 7)]
    assert assign_speakers([(0, 95), (80, 200), (310, 320)], turns) == ["A", "B", "A"]
    assert assign_speakers([(290, 390)], turns) == ["A"]
    assert assign_speakers([(1_000, 1_100), (0, 5)], turns) == ["A", "A"]
    assert assign_speakers([(0, 400)], [Turn(0, 60, 1), Turn(60, 130, 2), Turn(130, 190, 1)]) == [
        "A"
    ]


def test_many_names() -> None:
    turns = [Turn(at * 10, at * 10 + 9, at) for at in range(28)]
    names = assign_speakers([(turn.start_ms, turn.end_ms) for turn in turns], turns)
    assert names[25:] == ["Z", "A2", "B2"]


SPANS = st.tuples(st.integers(0, 999), st.integers(1, 200)).map(lambda s: (s[0], s[0] + s[1]))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(SPANS, min_size=1, max_size=20),
    st.lists(st.tuples(SPANS, st.integers(0, 3)), min_size=1, max_size=9),
)
def test_every_span_has_a_speaker(
    spans: list[tuple[int, int]], drawn: list[tuple[tuple[int, int], int]]
) -> None:
    turns = [Turn(*span, speaker) for span, speaker in drawn]
    names = assign_speakers(spans, turns)
    assert len(names) == len(spans) and names[0] == "A"
    assert sorted(set(names)) == list("ABCD"[: len(set(names))])
    assert len(set(names)) <= len({turn.speaker for turn in turns})


def test_missing_models_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs segmentation.onnx and embedding.onnx in .*dub"):
        diarise(tmp_path / "x.flac", SpeakerOptions(tmp_path))


@pytest.mark.parametrize("values", [{"speakers": 0}, {"threshold": 0.0}, {"threads": 0}])
def test_options_are_checked(tmp_path: Path, values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="Expected"):
        SpeakerOptions(tmp_path, **values)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / "embedding.onnx").write_bytes(b"x")
    return tmp_path


def test_the_configuration_is_the_librarys_own(folder: Path) -> None:
    pytest.importorskip("sherpa_onnx")
    config = diarisation_config(SpeakerOptions(folder, speakers=3, threshold=0.7, threads=2))
    assert config.segmentation.pyannote.model == str(folder / "model.onnx")
    assert config.embedding.model == str(folder / "embedding.onnx")
    assert config.segmentation.num_threads == config.embedding.num_threads == 2
    assert config.clustering.num_clusters == 3
    assert config.clustering.threshold == pytest.approx(0.7)
    assert diarisation_config(SpeakerOptions(folder)).clustering.num_clusters == -1


def test_absent_package_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(speakers, "import_module", absent)
    with pytest.raises(ConfigError, match="pip install sherpa-onnx"):
        diarisation_config(SpeakerOptions(folder))


def test_result_becomes_turns() -> None:
    part = SimpleNamespace(start=0.5, end=1.2345, speaker=2)
    result = SimpleNamespace(sort_by_start_time=lambda: [part])
    assert turns_of(result) == (Turn(500, 1234, 2),)


class FakeSherpa:
    """The library, with a diarisation that hears one speaker in all the sound."""

    sample_rate = 16_000

    def __init__(self, config: object = None) -> None:
        if config == "damaged":
            raise RuntimeError("no model")

    OfflineSpeakerDiarization: type

    def process(self, samples: np.ndarray) -> SimpleNamespace:
        assert samples.dtype == np.float32 and samples.ndim == 1
        part = SimpleNamespace(start=0.0, end=len(samples) / 16_000, speaker=0)
        return SimpleNamespace(sort_by_start_time=lambda: [part])


FakeSherpa.OfflineSpeakerDiarization = FakeSherpa


def test_diarise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = folder / "speech.flac"
    soundfile.write(speech, np.zeros(8_000, np.float32), 16_000)
    monkeypatch.setattr(speakers, "diarisation_config", lambda options: "fine")
    monkeypatch.setattr(speakers, "_sherpa", lambda: FakeSherpa)
    assert diarise(speech, SpeakerOptions(folder)) == (Turn(0, 500, 0),)
    monkeypatch.setattr(FakeSherpa, "sample_rate", 8_000)
    with pytest.raises(ConfigError, match="Expected speaker models for 16000 Hz"):
        diarise(speech, SpeakerOptions(folder))
    monkeypatch.setattr(speakers, "diarisation_config", lambda options: "damaged")
    with pytest.raises(ConfigError, match="Cannot load the models"):
        diarise(speech, SpeakerOptions(folder))
    monkeypatch.setattr(speakers, "_LONGEST_S", 0.1)
    with pytest.raises(ConfigError, match="cut it into parts"):
        diarise(speech, SpeakerOptions(folder))
