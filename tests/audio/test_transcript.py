import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE
from audio.transcript import (
    HeardWord,
    LocalAgreement,
    TranscriptState,
    common_prefix,
)

SHORT = LocalAgreement(window_s=4.0, run_up_s=1.0, context_words=5)


def words(text: str, begin_s: float = 0.0, each_s: float = 0.5) -> list[HeardWord]:
    """The words of a text, one after the other."""
    step = round(each_s * SAMPLE_RATE)
    begin = round(begin_s * SAMPLE_RATE)
    return [
        HeardWord(f" {word}", begin + i * step, begin + (i + 1) * step)
        for i, word in enumerate(text.split())
    ]


def spell(found: Sequence[HeardWord]) -> str:
    return "".join(word.text for word in found).strip()


def hear(state: TranscriptState, text: str, until_s: float = 3.0) -> tuple[str, str]:
    update = SHORT.hear(state, words(text), round(until_s * SAMPLE_RATE))
    return spell(update.committed_new), spell(update.tentative)


def test_what_two_hypotheses_agree_on_is_final_but_for_the_last_word() -> None:
    state = TranscriptState()
    assert hear(state, "my fellow Americans.") == ("", "my fellow Americans.")
    assert hear(state, "My fellow Americans ask") == ("My fellow Americans", "ask")
    assert hear(state, "ask") == ("", "ask")
    assert hear(state, "ask not what") == ("ask", "not what")
    assert hear(state, "nor what") == ("", "nor what")
    assert spell(SHORT.close(state).committed_new) == "nor what"
    assert spell(state.committed) == "My fellow Americans ask nor what"
    assert state.tentative == ()


def doubted(text: str, doubt: str) -> list[HeardWord]:
    """The words of a text; those of `doubt` are unlikely."""
    found = words(text)
    return [replace(w, probability=0.3) if w.text.strip() in doubt.split() else w for w in found]


def test_an_unlikely_word_waits_for_a_third_hypothesis_and_holds_up_what_follows() -> None:
    state = TranscriptState()

    def told(text: str, doubt: str) -> str:
        update = SHORT.hear(state, doubted(text, doubt), 3 * SAMPLE_RATE)
        return spell(update.committed_new)

    assert told("for all", "all") == ""
    assert told("for all the Chinese", "all") == "for"  # twice, but unlikely
    assert told("although the Chinese took", "") == ""  # it was another word
    assert told("although the Chinese took", "Chinese") == "although the"
    assert told("Chinese took impressions from", "Chinese took") == "Chinese took"  # the third time
    assert told("impressions from wood", "") == "impressions from"  # likely: twice is enough


def test_the_later_spelling_is_kept() -> None:
    state = TranscriptState()
    hear(state, "it's, in the end well")
    assert hear(state, "Its in The end. Well")[0] == "Its in The end."


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [("a b c", "a b d", 2), ("A, b!", "a b", 2), ("a", "", 0), ("x a", "a", 0), ("- a", "— a", 0)],
)
def test_the_common_prefix_ignores_case_and_punctuation(one: str, other: str, count: int) -> None:
    assert common_prefix(words(one), words(other)) == count


def test_a_window_is_cut_at_a_sentence_that_shortens_it_enough() -> None:
    state = TranscriptState()
    text = "one two three four. five six seven eight nine ten"
    hear(state, text, 5.0)
    assert state.window_begin == 0
    hear(state, text, 5.0)
    assert state.window_begin == 2 * SAMPLE_RATE  # where "four." ends
    assert spell(state.context) == "one two three four."
    assert spell(state.prefix) == "five six seven eight nine"


def test_a_sentence_that_shortens_a_window_too_little_is_passed_over() -> None:
    state = TranscriptState()
    for _ in range(2):
        hear(state, "one two. three four five six seven eight nine ten", 5.0)
    assert spell(state.prefix) == "eight nine"


def test_without_a_sentence_a_window_is_cut_at_a_word_before_the_run_up() -> None:
    state = TranscriptState()
    for _ in range(2):
        hear(state, "one two three four five six seven eight nine ten", 5.0)
    # "nine" ends at 4.5 s; 1 s before that "eight" begins
    assert spell(state.prefix) == "eight nine"
    assert state.window_begin == round(3.5 * SAMPLE_RATE)
    # of the context only so many words are kept
    assert spell(state.context) == "three four five six seven"


def test_silence_before_a_word_is_cut_but_for_a_moment() -> None:
    state = TranscriptState()
    found = [*words("one"), *words("two three four", 3.0)]
    for _ in range(2):
        SHORT.hear(state, found, round(4.5 * SAMPLE_RATE))
    assert spell(state.prefix) == "two three"
    assert state.window_begin == round(2.9 * SAMPLE_RATE)


def test_words_that_never_agree_are_final_when_the_window_is_twice_too_long() -> None:
    state = TranscriptState()
    assert hear(state, "a b c d e f g h", 7.9)[0] == ""
    assert hear(state, "b c d e f g h i j", 8.1) == ("b c d e f g h i", "j")
    assert state.window_begin >= round(3.0 * SAMPLE_RATE)


def test_a_window_without_words_moves_on() -> None:
    state = TranscriptState()
    SHORT.hear(state, [], 9 * SAMPLE_RATE)
    assert state.window_begin == 5 * SAMPLE_RATE
    assert state.prefix == []


@pytest.mark.parametrize(
    "options",
    [{"window_s": 2.0, "run_up_s": 2.0}, {"window_s": 15.0}, {"run_up_s": -1.0}],
)
def test_figures_that_contradict_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(AudioError, match="expected 0 <= run_up_s < window_s <= 14"):
        LocalAgreement(**options)  # type: ignore[arg-type]


def test_a_negative_context_is_refused() -> None:
    with pytest.raises(AudioError, match="0 or more context_words, got -1"):
        LocalAgreement(context_words=-1)
    with pytest.raises(AudioError, match="of 0 to 1 as sure, got 1.5"):
        LocalAgreement(sure=1.5)


texts = st.lists(st.sampled_from(["a", "B", "b,", "c.", "dd", "e?"]), max_size=12)


@given(st.lists(st.tuples(texts, st.floats(0.1, 3.0)), min_size=1, max_size=12))
def test_nothing_is_ever_taken_back(hypotheses: list[tuple[list[str], float]]) -> None:
    """Whatever a recogniser says, and however the window is cut."""
    state = TranscriptState()
    final: list[HeardWord] = []
    until = begin_s = 0.0
    for text, more_s in hypotheses:
        until += more_s
        found = words(" ".join(text), begin_s, 0.3)
        before = (state.window_begin, list(final))
        update = SHORT.hear(state, found, round(until * SAMPLE_RATE))
        final += update.committed_new
        # every word of the hypothesis is either final now or tentative, once and in order
        assert [*before[1], *found] == [*final, *update.tentative]
        assert state.tentative == update.tentative
        # the state keeps the end of what is final, the window's words all of it
        assert state.committed == final[len(final) - len(state.committed) :]
        assert len(state.context) <= SHORT.context_words
        assert before[0] <= state.window_begin
        assert until * SAMPLE_RATE - state.window_begin <= 2 * 4.0 * SAMPLE_RATE + 1
        begin_s = final[-1].end / SAMPLE_RATE if final else 0.0
    rest = state.tentative
    assert SHORT.close(state).committed_new == rest
    assert state.tentative == ()


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_a_recogniser_whose_last_words_waver_gives_the_true_text(
    rng: random.Random, wavering: int
) -> None:
    """Two minutes of speech; the last words of each hypothesis are wrong, those before right."""
    truth = words(" ".join(rng.choice(["a", "b", "c."]) + str(i) for i in range(300)), 0.0, 0.4)
    state = TranscriptState()
    final: list[HeardWord] = []
    for until in range(SAMPLE_RATE, truth[-1].end + 1, SAMPLE_RATE):
        heard = [word for word in truth if word.end <= until][len(final) :]
        sure = max(0, len(heard) - wavering)
        wrong = [replace(word, text=f" wrong{rng.random()}") for word in heard[sure:]]
        final += SHORT.hear(state, [*heard[:sure], *wrong], until).committed_new
        assert until - state.window_begin <= 6 * SAMPLE_RATE
    assert final == truth[: len(final)]
    assert len(final) >= len(truth) - wavering - 5
    final += SHORT.hear(state, truth[len(final) :], truth[-1].end).committed_new
    assert [*final, *SHORT.close(state).committed_new] == truth
