from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.errors import ConfigError
from assistant.jobs.dub.fit import FitOptions, fit, fit_line, ranked
from assistant.jobs.dub.lines import Line, TranslatedLine
from assistant.jobs.dub.voices import Said


@dataclass
class FakeVoice:
    """Takes as long as a function says; cannot speak."""

    length_ms: Callable[[str, float, int], float]
    name: str = "fake"
    sample_rate: int = 1000
    asked: list[tuple[str, float, int]] = field(default_factory=list)

    def measure(self, text: str, rate: float, seed: int) -> int:
        self.asked.append((text, rate, seed))
        return round(self.length_ms(text, rate, seed))

    def say(self, text: str, rate: float, seed: int) -> Said:
        raise AssertionError("fitting makes no sound")


def translated(*wordings: str, slot: int = 2_000, free: int = 0) -> TranslatedLine:
    return TranslatedLine(Line(1, 1_000, 1_000 + slot, free, "es", "A", "x"), wordings)


def by_letters(text: str, rate: float, seed: int) -> float:
    return 100 * len(text) / rate


def test_the_best_wording_at_its_own_pace() -> None:
    best = fit_line(translated("a" * 20, "b" * 20, "c" * 19), FakeVoice(by_letters))
    assert best is not None
    assert (best.wording[0], best.rate, best.stretch, best.borrowed_ms) == ("a", 1.0, 1.0, 0)
    assert (best.start_ms, best.end_ms) == (1_000, 3_000)


def test_the_rate_before_another_wording_and_that_before_the_rates_bounds() -> None:
    near = fit_line(translated("a" * 21, "b" * 20), FakeVoice(by_letters))
    assert near is not None and near.wording[0] == "a" and near.rate > 1
    far = fit_line(translated("a" * 24, "b" * 20), FakeVoice(by_letters))
    assert far is not None and far.wording[0] == "b" and far.rate == 1


def test_a_voice_whose_length_follows_the_rate_badly() -> None:
    def rounded(text: str, rate: float, seed: int) -> float:
        return 100 * len(text) / rate**0.7

    best = fit_line(translated("a" * 22), FakeVoice(rounded))
    assert best is not None and abs(best.miss_ms) < 20 and best.stretch == 1


def test_seeds_vary() -> None:
    def lucky(text: str, rate: float, seed: int) -> float:
        return 2_000 if seed == 3 else 2_140

    best = fit_line(translated("a"), FakeVoice(lucky))
    assert best is not None and best.seed == 3 and best.miss_ms == 0


def test_borrows_only_where_speed_does_not_help() -> None:
    best = fit_line(translated("a" * 30, free=1_000), FakeVoice(by_letters))
    assert best is not None
    assert best.borrowed_ms == best.end_ms - 3_000 > 0 and best.miss_ms == 0
    assert best.rate == 1.25 and best.stretch == 1


def test_stretches_as_the_last_resort() -> None:
    shorter = fit_line(translated("a" * 27), FakeVoice(by_letters))
    assert shorter is not None and shorter.rate == 1.25 and 0.9 <= shorter.stretch < 1


def test_what_is_too_short_begins_a_little_late() -> None:
    def short(text: str, rate: float, seed: int) -> float:
        return 1_700 / max(rate, 0.95)  # 1,789 ms at the most

    best = fit_line(translated("a"), FakeVoice(short))
    assert best is not None and best.stretch == 1
    assert (best.start_ms, best.miss_ms) == (1_180, -31)
    # Also where the voice only dies away in the slot's last moments,
    dying = fit_line(translated("a", free=500), FakeVoice(lambda *_: 1_870))
    assert dying is not None and dying.start_ms > 1_000
    # and not where it is far too short either way: lips and voice begin together.
    hopeless = fit_line(translated("a"), FakeVoice(lambda *_: 900))
    assert hopeless is not None and hopeless.start_ms == 1_000


def test_what_is_too_short_pauses_at_its_marks() -> None:
    slow = fit_line(translated("a, b"), FakeVoice(lambda _, rate, seed: 1_400 / rate))
    assert slow is not None and (slow.rate, slow.start_ms, slow.stretch) == (0.85, 1_000, 1)
    assert slow.added_pause_ms == 2_000 - round(1_400 / 0.85) and slow.end_ms == 3_000
    # Each mark has its bound, and the voice goes on while it dies away where there is room.
    short = FakeVoice(lambda _, rate, seed: 400)
    assert best_pause(translated("a, b: c.", free=500), short) == 1_600
    assert best_pause(translated("a, b: c, d", free=500), short) == 1_645
    # Nobody pauses where slower speech is enough.
    assert best_pause(translated("aaaaaaaa, bbbbbbbb"), FakeVoice(by_letters)) == 0


def best_pause(line: TranslatedLine, voice: FakeVoice) -> int:
    best = fit_line(line, voice)
    assert best is not None
    return best.added_pause_ms


def test_a_pace_out_of_bounds_is_worse_than_an_early_end() -> None:
    early = fit_line(translated("a" * 15), FakeVoice(by_letters))
    assert early is not None and (early.rate, early.stretch) == (0.85, 1)


def test_a_line_goes_on_while_its_voice_dies_away() -> None:
    best = fit_line(translated("a" * 20, free=500), FakeVoice(by_letters))
    assert best is not None and 30 <= best.miss_ms <= 75 and best.borrowed_ms == 0


def test_what_does_not_fit_is_left_out() -> None:
    voice = FakeVoice(by_letters)
    kept = TranslatedLine(Line(2, 0, 10, 0, "es", "A", "x"), (), kept="why")
    fits = translated("a" * 20)
    assert fit_line(translated("a" * 40), voice) is None
    assert fit([kept, translated("a" * 40), fits], voice) == (fit_line(fits, voice),)
    assert fit_line(translated("mute"), FakeVoice(lambda *_: 0.0)) is None


def test_ranked_is_sorted_and_repeatable() -> None:
    line = translated("a" * 20, "b" * 18, free=500)
    found = ranked(line, FakeVoice(by_letters))
    assert [cost for cost, _ in found] == sorted(cost for cost, _ in found)
    assert found == ranked(line, FakeVoice(by_letters))
    assert found[0][1] == fit_line(line, FakeVoice(by_letters))


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="1 or more seeds"):
        FitOptions(seeds=0)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(1, 12_000), min_size=1, max_size=6),
    st.integers(1, 12_000),
    st.integers(0, 2_000),
    st.floats(0.5, 1.0),
    st.integers(0, 300),
    st.sampled_from(["wording {}", "a wording, {}", "yes: a wording, {}"]),
    st.sampled_from([0, 20, 150]),
)
def test_bounds_are_kept(
    lengths: list[int], slot: int, free: int, power: float, spread: int, form: str, miss: int
) -> None:
    words = {form.format(number): length for number, length in enumerate(lengths)}

    def length_ms(text: str, rate: float, seed: int) -> float:
        return (words[text] + seed * 7919 % (spread + 1)) / rate**power

    voice = FakeVoice(length_ms)
    line = translated(*words, slot=slot, free=free)
    best = fit_line(line, voice, FitOptions(miss_ms=miss))
    if best is None:
        fastest = min(length_ms(text, 1.25, seed) for text in words for seed in range(4))
        assert fastest * 0.9 > slot + free - spread - 2
        return
    assert best.wording in words and 0 <= best.start_ms - line.line.start_ms <= 180
    if best.start_ms > line.line.start_ms:
        assert best.end_ms <= line.line.end_ms + min(45, free)
    assert best.end_ms <= line.line.end_ms + free, "speaks into the next line"
    assert 0.85 <= best.rate <= 1.25 and 0.9 <= best.stretch <= 1
    made = round(length_ms(best.wording, best.rate, best.seed)) * best.stretch
    assert abs(best.end_ms - best.start_ms - best.added_pause_ms - made) <= 1
    assert 0 <= best.added_pause_ms <= 800 * form.count("g,") + 800 * form.count(":")
    assert best.added_pause_ms == 0 or best.stretch == 1
    assert best.borrowed_ms in (0, best.end_ms - line.line.end_ms)
    assert len(set(voice.asked)) == len(voice.asked), "measured twice"
