from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.jobs.dub.regions import RegionRules, Span, find_regions, read_span, trimmed
from assistant.jobs.dub.spoken_languages import settle
from audio.errors import AudioError
from audio.vad import BLOCK, VadState

RATE = 16_000


class LoudnessVad:
    """Takes what is loud for speech; counts the blocks that it was shown."""

    def __init__(self) -> None:
        self.blocks = 0

    def push(self, state: VadState, samples: np.ndarray) -> np.ndarray:
        blocks = samples.reshape(-1, BLOCK)
        self.blocks += len(blocks)
        return (np.abs(blocks).max(axis=1) > 0.05).astype(np.float32)


def write(path: Path, *parts: tuple[float, float]) -> Path:
    """A file of parts (seconds, level)."""
    random = np.random.default_rng(0)
    samples = [random.uniform(-level, level, round(s * RATE)) for s, level in parts]
    soundfile.write(path, np.concatenate(samples), RATE, "PCM_16")
    return path


def seconds(spans: list[Span]) -> list[tuple[float, float]]:
    return [(round(span.start / RATE, 1), round(span.end / RATE, 1)) for span in spans]


def found(path: Path, **rules: Any) -> list[tuple[float, float]]:
    return seconds(find_regions(path, LoudnessVad(), RegionRules(**rules)))  # type: ignore[arg-type]


def test_pauses_part_regions(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.flac", (1, 0), (1, 0.5), (0.2, 0.01), (1, 0.5), (1, 0.01), (0.5, 0.5)
    )
    assert found(path) == [(1.0, 3.2), (4.2, 4.7)]
    assert found(path, pause_s=0.1) == [(1.0, 2.0), (2.2, 3.2), (4.2, 4.7)]
    assert found(path, shortest_s=1.0) == [(1.0, 3.2)]


def test_long_speech_is_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", (0.5, 0), (7, 0.5))
    spans = find_regions(path, LoudnessVad(), RegionRules(longest_s=3))  # type: ignore[arg-type]
    assert all(span.samples <= 3 * RATE for span in spans) and len(spans) > 2
    assert all(before.end == after.start for before, after in pairwise(spans))
    assert seconds([spans[0], spans[-1]])[0][0] == 0.5 and spans[-1].end >= 7.4 * RATE


def test_digital_silence_costs_nothing(tmp_path: Path) -> None:
    vad = LoudnessVad()
    path = write(tmp_path / "a.flac", (600, 0), (1, 0.5))
    assert seconds(find_regions(path, vad)) == [(600.0, 601.0)]  # type: ignore[arg-type]
    assert vad.blocks <= 512
    assert find_regions(write(tmp_path / "b.flac", (1, 0)), vad) == []  # type: ignore[arg-type]


def test_only_16_khz(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(100), 8_000)
    with pytest.raises(AudioError, match="expected 16 kHz mono"):
        found(tmp_path / "a.flac")


def test_read_span(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.arange(1_000) / 2_000, RATE, "PCM_24")
    samples, start = read_span(path, Span(100, 200), margin=10)
    assert start == 90 and len(samples) == 120 and samples[0] == pytest.approx(0.045, abs=1e-4)
    samples, start = read_span(path, Span(5, 995), margin=10)
    assert start == 0 and len(samples) == 1_000


def burst(start: int, end: int, total: int = RATE, noise: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(1)
    samples = random.normal(0, noise, total) if noise else np.zeros(total)
    samples[start:end] += random.uniform(-0.5, 0.5, end - start)
    return samples.astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.002])
@pytest.mark.parametrize("off", [(-1_600, 1_600), (800, -800), (0, 0), (-400, -1_000)])
def test_trimmed_to_the_sound(noise: float, off: tuple[int, int]) -> None:
    samples = burst(4_800, 11_200, noise=noise)
    begin, end = trimmed(samples, 4_800 + off[0], 11_200 + off[1])
    assert abs(begin - 4_800) <= 160 and abs(end - 11_200) <= 160


def test_trimmed_leaves_silence_alone() -> None:
    assert trimmed(np.zeros(1_000, np.float32), 100, 900) == (100, 900)
    assert trimmed(np.zeros(0, np.float32), 0, 0) == (0, 0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 15_000), st.integers(1, 3_000), st.floats(0, 0.3))
def test_trimmed_is_never_empty(start: int, length: int, noise: float) -> None:
    samples = np.random.default_rng(0).normal(0, noise, RATE).astype(np.float32)
    end = min(RATE, start + length)
    begin, stop = trimmed(samples, start, end)
    assert 0 <= begin < stop <= RATE
    assert begin >= start - 2_100 and stop <= end + 2_300


def test_languages_settle_together() -> None:
    clear = {"es": 0.97, "en": 0.03}
    doubtful = {"pt": 0.45, "es": 0.40, "en": 0.15}
    assert settle([doubtful], [1.0])[0][0] == "pt"
    assert [code for code, _ in settle([clear, doubtful, clear], [5.0, 1.0, 5.0])] == ["es"] * 3
    assert [code for code, _ in settle([clear, {"ja": 0.99, "es": 0.01}], [5.0, 3.0])] == [
        "es",
        "ja",
    ]
    assert settle([], []) == []


@settings(deadline=None, max_examples=40)
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1), min_size=1), min_size=1))
def test_settled_probabilities(found: list[dict[str, float]]) -> None:
    for code, probability in settle(found, [1.0] * len(found)):
        assert code in "abcd" and 0 < probability <= 1
