"""Pauses within a line grow where the voice makes them, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.jobs.dub import pauses
from assistant.jobs.dub.voices import Said
from audio.spoken_words import SpokenWord

RATE = 8_000


def _said(*words: tuple[str, float, float]) -> Said:
    """Tones for the words, each followed by a gap that counts as its own."""
    samples, spans = [], []
    at = 0
    for text, seconds, pause_s in words:
        tone = 0.3 * np.sin(np.arange(round(seconds * RATE)) * 0.3)
        quiet = np.zeros(round(pause_s * RATE))
        end = at + len(tone) + len(quiet)
        spans.append(SpokenWord(text, at, end))
        samples += [tone, quiet]
        at = end
    return Said(np.concatenate(samples).astype(np.float32), tuple(spans))


def test_marks_within_a_line() -> None:
    assert pauses.count("Well, here we are: home.") == 2
    assert pauses.count("One sentence. “Another,” she said") == 2
    assert pauses.count("No mark but the last!") == 0
    assert pauses.count("") == 0
    assert pauses.count("At 12:30 it costs 1,000") == 0
    assert pauses.count("Mr. Smith met Dr. J. R. Jones at 5 p.m. today, at last") == 1
    assert pauses.count("— Well, — he said, — come in... please!") == 3


def test_the_silence_lies_in_the_pause() -> None:
    said = _said(("Well,", 0.3, 0.1), ("here", 0.2, 0.0), ("we", 0.2, 0.0), ("are.", 0.3, 0.0))
    made = pauses.lengthened(said, 500, RATE)
    assert len(made.samples) == len(said.samples) + RATE // 2
    assert [word.text for word in made.words] == ["Well,", "here", "we", "are."]
    assert [word.start for word in made.words[1:]] == [word.end for word in made.words[:-1]]
    assert made.words[1].start == said.words[1].start + RATE // 2
    assert made.words[-1].end == len(made.samples)
    loud = np.flatnonzero(made.samples)
    gaps = np.diff(loud)
    assert gaps.max() == pytest.approx(0.6 * RATE, abs=4)
    # Nothing but silence was added: the words sound as they did.
    np.testing.assert_array_equal(made.samples[made.samples != 0], said.samples[said.samples != 0])


def test_marks_share_the_silence() -> None:
    said = _said(("a,", 0.3, 0.1), ("b,", 0.3, 0.1), ("c,", 0.3, 0.1), ("d.", 0.3, 0.0))
    made = pauses.lengthened(said, 1_000, RATE)
    assert len(made.samples) == len(said.samples) + RATE
    lengths = [word.end - word.start for word in made.words]
    assert max(lengths[:3]) - min(lengths[:3]) <= 1 and lengths[3] == 0.3 * RATE


def test_nothing_is_added_without_a_mark() -> None:
    said = _said(("no", 0.3, 0.1), ("mark.", 0.3, 0.0))
    assert pauses.lengthened(said, 500, RATE) is said
    marked = _said(("a,", 0.3, 0.1), ("b", 0.3, 0.0))
    assert pauses.lengthened(marked, 0, RATE) is marked


def test_a_soft_consonant_is_no_pause() -> None:
    said = _said(("a,", 0.3, 0.0), ("spa", 0.5, 0.0))
    said.samples[round(0.35 * RATE) : round(0.42 * RATE)] *= 0.1  # -20 dB, within the next word
    made = pauses.lengthened(said, 200, RATE)
    assert not made.samples[round(0.3 * RATE) : round(0.5 * RATE)].any()
    assert made.words[0].end == made.words[1].start == 0.5 * RATE


def test_a_voice_that_makes_no_pause_does_not_click() -> None:
    said = _said(("a,", 0.3, 0.0), ("b", 0.3, 0.0))
    made = pauses.lengthened(said, 200, RATE)
    assert len(made.samples) == len(said.samples) + RATE // 5
    assert np.abs(np.diff(made.samples)).max() <= np.abs(np.diff(said.samples)).max() + 1e-6


@given(
    st.lists(
        st.tuples(st.sampled_from(["a,", "b", "c.", "d"]), st.integers(0, 300), st.integers(0, 50)),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 2_000),
)
def test_no_sample_and_no_word_is_lost(words: list[tuple[str, int, int]], pause_ms: int) -> None:
    said = _said(*((text, tone / 1000, gap / 1000) for text, tone, gap in words))
    made = pauses.lengthened(said, pause_ms, RATE)
    marks = pauses.count(" ".join(text for text, _, _ in words))
    assert len(made.samples) - len(said.samples) == (pause_ms * RATE // 1000 if marks else 0)
    assert [word.text for word in made.words] == [word.text for word in said.words]
    assert all(0 <= word.start <= word.end <= len(made.samples) for word in made.words)
    pairs = zip(made.words[:-1], made.words[1:], strict=True)
    assert all(first.end == second.start for first, second in pairs)
