import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.asr_windows import Cutting, Span, cut_windows, speech_likelihood, speech_seconds
from audio.errors import AudioError
from audio.vad import BLOCK, SileroVad, VadState

RATE = 16_000
PLAIN = Cutting(longest_s=10.0, gap_s=1.0, margin_s=0.2)


def likelihood(*stretches: tuple[float, float]) -> np.ndarray:
    """(value, seconds) one after the other, in blocks."""
    parts = [np.full(round(s * RATE / BLOCK), value, np.float32) for value, s in stretches]
    return np.concatenate(parts)


def seconds(spans: list[Span]) -> list[tuple[float, float]]:
    return [(round(s.begin / RATE, 1), round(s.end / RATE, 1)) for s in spans]


def test_a_long_pause_ends_a_window_and_a_short_one_does_not() -> None:
    given_ = likelihood((0, 1), (0.9, 2), (0, 0.5), (0.9, 2), (0, 3), (0.9, 1), (0, 2))
    assert seconds(cut_windows(given_, len(given_) * BLOCK, PLAIN)) == [(0.8, 5.7), (8.3, 9.7)]


def test_a_full_window_ends_at_the_longest_pause_of_its_second_half() -> None:
    given_ = likelihood((0.9, 6), (0, 0.8), (0.9, 2), (0, 0.3), (0.9, 4), (0, 2))
    assert seconds(cut_windows(given_, len(given_) * BLOCK, PLAIN)) == [(0.0, 6.2), (6.6, 13.3)]


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    given_ = likelihood((0.9, 7), (0.6, 0.1), (0.9, 7))
    (first, second) = cut_windows(given_, len(given_) * BLOCK, PLAIN)
    assert first.end == second.begin
    assert first.end / RATE == pytest.approx(7.05, abs=0.1)


def test_clicks_and_silence_give_no_window() -> None:
    given_ = likelihood((0, 1), (0.9, 0.06), (0, 1), (0.3, 3))
    assert cut_windows(given_, len(given_) * BLOCK, PLAIN) == []
    assert cut_windows(np.zeros(0, np.float32), 100, PLAIN) == []


def test_the_margin_reaches_into_the_samples_after_the_last_block() -> None:
    given_ = likelihood((0.9, 1))
    total = len(given_) * BLOCK + 300
    assert cut_windows(given_, total, PLAIN) == [Span(0, total)]


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(1, 200)), max_size=30),
    st.integers(0, BLOCK - 1),
    st.floats(2, 28),
    st.floats(0.2, 5),
    st.floats(0, 0.5),
)
def test_windows_hold_all_speech_in_order_and_are_not_too_long(
    runs: list[tuple[float, int]], odd: int, longest: float, gap: float, margin: float
) -> None:
    values = np.repeat(
        np.array([v for v, _ in runs], np.float32), np.array([n for _, n in runs], int)
    )
    cutting = Cutting(longest, gap, margin)
    total = len(values) * BLOCK + odd
    spans = cut_windows(values, total, cutting)
    assert all(0 <= s.begin < s.end <= total for s in spans)
    assert all(a.end <= b.begin for a, b in itertools.pairwise(spans))
    assert all(s.seconds <= longest + 2 * margin + 0.1 for s in spans)
    covered = np.zeros(total, bool)
    for span in spans:
        covered[span.begin : span.end] = True
    start = 0
    for value, count in runs:
        if value >= 0.5 and count >= 3:
            assert covered[start * BLOCK : (start + count) * BLOCK].all()
        start += count


def test_speech_is_counted_in_whole_blocks() -> None:
    given_ = likelihood((0, 1), (0.9, 2), (0, 1))
    assert speech_seconds(given_, Span(0, len(given_) * BLOCK)) == pytest.approx(2, abs=0.04)
    assert speech_seconds(given_, Span(2 * RATE, 4 * RATE)) == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"longest_s": 29.0}, "windows of 2 to 28 s"),
        ({"gap_s": 0.1}, "gap of 0.2 to 28 s"),
        ({"margin_s": 0.6}, "margin of 0 to 0.5 s"),
    ],
)
def test_bad_cuttings_are_refused(fields: dict[str, float], wrong: str) -> None:
    with pytest.raises(AudioError, match=wrong):
        Cutting(**fields)


def test_sections_heard_alone_are_like_the_whole() -> None:
    vad = SileroVad.load()
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(0, 0.3, 130), RATE)
    samples = (rng.normal(size=130 * RATE) * loud).astype(np.float32)
    found = speech_likelihood(vad, samples)
    whole = vad.push(VadState(), samples)
    assert found.shape == whole.shape
    assert np.abs(found - whole).mean() < 0.01
    with ThreadPoolExecutor(2) as pool:
        assert np.array_equal(speech_likelihood(vad, samples, pool.map), found)


def test_digital_silence_is_not_heard_at_all() -> None:
    class Deaf:
        def push(self, state: VadState, samples: np.ndarray) -> np.ndarray:
            raise AssertionError("silence was heard")

    four_minutes = np.zeros(240 * RATE, np.float32)
    assert not speech_likelihood(Deaf(), four_minutes).any()  # type: ignore[arg-type]
    assert len(speech_likelihood(Deaf(), four_minutes[:100])) == 0  # type: ignore[arg-type]
