"""Turns: begun, maybe done, resumed, done; backchannels go by, interruptions do not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.resample import resample
from audio.tts import SpeakOptions, Voice
from audio.turn import (
    Backchannel,
    Done,
    Interrupted,
    MaybeDone,
    Patience,
    Resumed,
    SpeechStarted,
    TurnConfig,
    TurnEvent,
    TurnState,
    TurnTaker,
)
from audio.turn_words import Completeness, Remark, completeness, remark
from audio.vad import BLOCK, SileroVad, VadState

MS = 16
CONFIG = TurnConfig()


def said(blocks: int) -> list[float]:
    return [0.9] * blocks


def quiet(blocks: int) -> list[float]:
    return [0.02] * blocks


def names(events: list[TurnEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


# One turn


def test_a_turn_from_its_start_to_its_end() -> None:
    taker = TurnTaker()
    events = taker.hear([*quiet(20), *said(30), *quiet(30)])
    assert events == [
        SpeechStarted(at=22 * BLOCK, begin=20 * BLOCK - 300 * MS),
        MaybeDone(at=57 * BLOCK, end=50 * BLOCK),  # the first block that ends 200 ms later
        Done(at=70 * BLOCK, end=50 * BLOCK),  # 640 ms
    ]
    assert taker.state is TurnState.DONE
    assert taker.position == 80 * BLOCK


def test_more_speech_resumes_the_turn() -> None:
    taker = TurnTaker()
    events = taker.hear([*said(20), *quiet(10), *said(10)])
    assert names(events) == ["SpeechStarted", "MaybeDone", "Resumed"]
    assert events[-1] == Resumed(at=32 * BLOCK)
    assert taker.state is TurnState.SPEAKING
    assert taker.hear(quiet(7)) == [MaybeDone(at=47 * BLOCK, end=40 * BLOCK)]


def test_short_pauses_between_words_are_nothing() -> None:
    events = TurnTaker().hear([*said(10), *quiet(4)] * 5)
    assert names(events) == ["SpeechStarted"]


def test_speech_lasts_until_it_falls_below_the_lower_threshold() -> None:
    taker = TurnTaker()
    assert taker.hear([0.45] * 10) == []
    assert names(taker.hear([0.6, *[0.4] * 30])) == ["SpeechStarted"]
    assert taker.hear([0.3] * 7) == [MaybeDone(at=48 * BLOCK, end=41 * BLOCK)]


def test_the_pre_roll_reaches_neither_the_turn_before_nor_before_the_start() -> None:
    taker = TurnTaker(TurnConfig(pre_roll_ms=2000))
    events = taker.hear([*quiet(3), *said(10), *quiet(30), *said(10)])
    starts = [event.begin for event in events if isinstance(event, SpeechStarted)]
    assert starts == [0, 13 * BLOCK]


def test_one_block_is_a_click() -> None:
    taker = TurnTaker()
    assert taker.hear([*quiet(5), 1.0, *quiet(5)] * 4) == []
    assert taker.state is TurnState.SILENT


@given(at=st.integers(0, 24))
def test_a_click_after_speech_resumes_nothing(at: int) -> None:
    silence = quiet(25)
    silence[at] = 1.0
    clean = TurnTaker().hear([*said(20), *quiet(25)])
    clicked = TurnTaker().hear([*said(20), *silence])
    if at == 0:  # it belongs to the speech before it
        assert clicked == TurnTaker().hear([*said(21), *quiet(24)])
        return
    # A click at the very block of a decision puts it off by that one block.
    late = [0 if event.at != (21 + at) * BLOCK else BLOCK for event in clean]
    assert clicked == [
        replace(event, at=event.at + by) for event, by in zip(clean, late, strict=True)
    ]


@given(at=st.integers(2, 27))
def test_a_gap_of_one_block_ends_nothing(at: int) -> None:
    speech = said(30)
    speech[at] = 0.0
    whole = TurnTaker().hear([*said(30), *quiet(25)])
    assert TurnTaker().hear([*speech, *quiet(25)]) == whole


# Words


@pytest.mark.parametrize(
    ("text", "maybe_ms", "done_ms"),
    [
        ("", 200, 640),
        ("what is this", 200, 640),
        ("What is this?", 160, 480),
        ("I like it because", 480, 1200),
        ("My number is 5 5 5", 480, 1200),
    ],
)
def test_the_words_decide_how_long_to_wait(text: str, maybe_ms: int, done_ms: int) -> None:
    taker = TurnTaker()
    taker.hear(said(30))
    assert taker.read(text) == []
    maybe, done = taker.hear(quiet(50))
    waited = [(event.at - 30 * BLOCK) / MS for event in (maybe, done)]
    assert names([maybe, done]) == ["MaybeDone", "Done"]
    for got, wanted in zip(waited, (maybe_ms, done_ms), strict=True):
        assert wanted <= got < wanted + 32


def test_words_that_lag_behind_say_nothing() -> None:
    taker = TurnTaker()
    taker.hear(said(30))
    taker.read("What is this?", until=25 * BLOCK)
    assert names(taker.hear(quiet(19))) == ["MaybeDone"]
    assert names(taker.hear(quiet(1))) == ["Done"]


def test_late_words_decide_at_once() -> None:
    taker = TurnTaker()
    assert names(taker.hear([*said(30), *quiet(16)])) == ["SpeechStarted", "MaybeDone"]
    assert taker.read("What is this?") == [Done(at=46 * BLOCK, end=30 * BLOCK)]


def test_late_hanging_words_keep_the_turn_open() -> None:
    taker = TurnTaker()
    taker.hear([*said(30), *quiet(16)])
    assert taker.read("What is the") == []
    assert taker.hear(quiet(20)) == []
    assert names(taker.hear(quiet(2))) == ["Done"]


def test_words_between_turns_are_ignored() -> None:
    taker = TurnTaker()
    assert taker.read("stop") == []
    taker.hear([*said(10), *quiet(40)])
    assert taker.read("because") == []
    assert names(taker.hear([*said(10), *quiet(20)]))[-1] == "Done"


# While the assistant speaks


def overlapping() -> TurnTaker:
    taker = TurnTaker()
    taker.assistant(True)
    return taker


def test_a_backchannel_goes_by() -> None:
    taker = overlapping()
    assert names(taker.hear([*quiet(20), *said(10)])) == ["SpeechStarted"]
    assert taker.read("Mm-hmm.") == []
    assert taker.hear(quiet(7)) == []
    heard = taker.read("Mm-hmm, yeah.")
    assert heard == [Backchannel(at=37 * BLOCK, begin=20 * BLOCK - 4800, end=30 * BLOCK)]
    assert taker.state is TurnState.SILENT
    assert names(taker.hear([*quiet(20), *said(2)])) == ["SpeechStarted"]


@pytest.mark.parametrize("text", ["Stop.", "wait", "No.", "hold on", "yeah, but", "okay, stop"])
def test_words_that_interrupt_do_so_at_once(text: str) -> None:
    taker = overlapping()
    taker.hear(said(5))
    assert taker.read(text) == [Interrupted(at=5 * BLOCK, begin=0)]


def test_doubtful_words_interrupt_with_enough_speech() -> None:
    taker = overlapping()
    taker.hear(said(8))
    assert taker.read("Amen.") == []
    assert taker.hear(said(4)) == []
    assert names(taker.hear(said(1))) == ["Interrupted"]


def test_short_doubtful_words_go_by() -> None:
    taker = overlapping()
    taker.hear([*said(8), *quiet(10)])
    assert names(taker.read("Amen.")) == ["Backchannel"]


def test_long_speech_without_words_interrupts() -> None:
    taker = overlapping()
    assert names(taker.hear(said(21))) == ["SpeechStarted"]
    assert taker.hear(said(1)) == [Interrupted(at=22 * BLOCK, begin=0)]


def test_two_stretches_without_words_interrupt() -> None:
    events = overlapping().hear([*said(12), *quiet(15), *said(12)])
    assert names(events) == ["SpeechStarted", "Interrupted"]


def test_speech_that_backchannels_explain_does_not_interrupt() -> None:
    taker = overlapping()
    for _ in range(6):
        assert "Interrupted" not in names(taker.hear(said(10)))
        assert taker.read("yeah, right, okay, yeah") == []
    assert names(taker.hear(said(21))) == []
    assert names(taker.hear(said(1))) == ["Interrupted"]


@pytest.mark.parametrize("text", ["", "[cough]"])
def test_a_reading_without_words_explains_nothing_while_speech_lasts(text: str) -> None:
    taker = overlapping()
    taker.hear(said(20))
    assert taker.read(text) == []
    assert names(taker.hear(said(2))) == ["Interrupted"]


def test_a_cough_goes_by() -> None:
    taker = overlapping()
    taker.hear([*said(20), *quiet(10)])
    assert names(taker.read("[cough]")) == ["Backchannel"]


@pytest.mark.parametrize(("blocks", "verdict"), [(18, "Backchannel"), (19, "Interrupted")])
def test_without_words_the_length_decides_after_a_while(blocks: int, verdict: str) -> None:
    taker = overlapping()
    assert names(taker.hear([*said(blocks), *quiet(31)])) == ["SpeechStarted"]
    assert names(taker.hear(quiet(1)))[0] == verdict


def test_an_interruption_goes_on_as_any_turn() -> None:
    taker = overlapping()
    taker.hear([*said(10), *quiet(8)])
    events = taker.read("Stop.")
    assert names(events) == ["Interrupted", "MaybeDone"]
    assert names(taker.assistant(False)) == []
    assert names(taker.hear(quiet(30))) == ["Done"]


def test_speech_that_outlasts_the_reply_is_an_ordinary_turn() -> None:
    taker = overlapping()
    taker.hear([*said(10), *quiet(7)])
    assert taker.assistant(False) == [MaybeDone(at=17 * BLOCK, end=10 * BLOCK)]
    taker.read("Yes.")
    assert names(taker.hear(quiet(20))) == ["Done"]


def test_speech_from_before_the_reply_is_no_interruption() -> None:
    taker = TurnTaker()
    taker.hear(said(10))
    assert taker.assistant(True) == []
    assert taker.hear(said(40)) == []
    assert names(taker.hear(quiet(30))) == ["MaybeDone", "Done"]


# Whatever comes

_RUN = st.tuples(st.sampled_from([0.0, 0.02, 0.36, 0.45, 0.55, 0.99]), st.integers(1, 30)).map(
    lambda run: [run[0]] * run[1]
)
_TEXT = st.sampled_from(["", "yeah", "I", "stop", "Amen", "It is red.", "because", "5 5"])
_STEP = st.one_of(
    _RUN,
    _RUN,
    st.tuples(_TEXT, st.one_of(st.none(), st.integers(0, 400).map(lambda n: n * BLOCK))),
    st.booleans(),
)


def play(steps: list[Any], taker: TurnTaker, *, by: int | None = None) -> list[TurnEvent]:
    """Feed probabilities (`by` at a time), (text, until) and whether the assistant speaks."""
    events: list[TurnEvent] = []
    for step in steps:
        if isinstance(step, bool):
            events += taker.assistant(step)
        elif isinstance(step, tuple):
            events += taker.read(*step)
        else:
            for at in range(0, len(step), by or len(step)):
                events += taker.hear(step[at : at + (by or len(step))])
    return events


@settings(deadline=None)
@given(steps=st.lists(_STEP, max_size=25), by=st.integers(1, 7))
def test_how_blocks_are_grouped_does_not_matter(steps: list[Any], by: int) -> None:
    assert play(steps, TurnTaker(), by=by) == play(steps, TurnTaker())


_FOLLOWS = {
    None: {"SpeechStarted"},
    "SpeechStarted": {"MaybeDone", "Interrupted", "Backchannel"},
    "Interrupted": {"MaybeDone"},
    "MaybeDone": {"Resumed", "Done"},
    "Resumed": {"MaybeDone"},
    "Done": {"SpeechStarted"},
    "Backchannel": {"SpeechStarted"},
}


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(_STEP, max_size=40))
def test_events_follow_their_grammar_and_time_never_goes_back(steps: list[Any]) -> None:
    before, at, floor = None, 0, 0
    for event in play(steps, TurnTaker()):
        assert type(event).__name__ in _FOLLOWS[before]
        assert at <= event.at
        match event:
            case SpeechStarted(begin=begin) | Interrupted(begin=begin):
                assert floor <= begin < event.at
            case MaybeDone(end=end) | Done(end=end) | Backchannel(end=end):
                assert floor < end < event.at
                if not isinstance(event, MaybeDone):
                    floor = end
        before, at = type(event).__name__, event.at


@given(levels=st.lists(st.floats(0, 0.499), max_size=100), speaks=st.booleans())
def test_silence_alone_starts_nothing(levels: list[float], speaks: bool) -> None:
    taker = TurnTaker()
    taker.assistant(speaks)
    assert taker.hear(levels) == []


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(_STEP, max_size=40))
def test_what_is_kept_has_a_bound(steps: list[Any]) -> None:
    taker = overlapping()
    for step in steps:
        play([step], taker)
        if taker._utterance is not None:
            # The blocks that make a voice sure arrive together: these may be beyond it.
            sure = CONFIG.min_speech_ms // 32 - 1
            assert len(taker._utterance.unexplained) <= CONFIG.interrupting_ms // 32 + sure


# Borders


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_out_of_range_is_refused(probability: float) -> None:
    with pytest.raises(AudioError, match="from 0 to 1"):
        TurnTaker().hear([probability])


def test_a_wrong_move_names_both_states() -> None:
    with pytest.raises(RuntimeError, match="from silent a turn goes to speaking, not done"):
        TurnTaker()._move(TurnState.DONE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speech_on": 0.3}, "speech_off <= speech_on"),
        ({"speech_off": 0.0}, "speech_off <= speech_on"),
        ({"speech_on": 1.0}, "speech_off <= speech_on"),
        ({"min_speech_ms": 0}, "min_speech_ms"),
        ({"pre_roll_ms": -1}, "pre_roll_ms"),
        ({"backchannel_gap_ms": 0}, "backchannel_gap_ms"),
        ({"short_ms": 800}, "short_ms <= interrupting_ms"),
        ({"short_ms": 50}, "short_ms <= interrupting_ms"),
        ({"doubtful_ms": 0}, "doubtful_ms"),
        ({"words_wait_ms": 100}, "words_wait_ms"),
        ({"done": Patience(200, 210, 300)}, "maybe_done.hanging_ms of at most done.hanging_ms"),
    ],
)
def test_contradictory_thresholds_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        TurnConfig(**options)


@pytest.mark.parametrize("times", [(0, 1, 2), (3, 2, 4), (1, 3, 2)])
def test_patience_grows(times: tuple[int, int, int]) -> None:
    with pytest.raises(AudioError, match="finished_ms <= open_ms <= hanging_ms"):
        Patience(*times)


# What words say


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is this?", "finished"),
        ("I went home.", "finished"),
        ('He said "yes."', "finished"),
        ("Where are you from?", "finished"),
        ("Yes, I am.", "finished"),
        ("Turn it on.", "finished"),
        ("I was born in 1990.", "finished"),
        ("I want two.", "finished"),
        ("It costs 1,000.", "finished"),
        ("これは何ですか？", "finished"),
        ("", "open"),
        ("[cough]", "open"),
        ("what is this", "open"),
        ("I have two", "open"),
        ("I went home and", "hanging"),
        ("I went home and.", "hanging"),
        ("because", "hanging"),
        ("What is the", "hanging"),
        ("It is, um", "hanging"),
        ("I want to go to.", "hanging"),
        ("yes I am", "hanging"),
        ("Yes, but...", "hanging"),
        ("First,", "hanging"),
        ("I spoke to Dr.", "hanging"),
        ("5 5 5", "hanging"),
        ("555-12", "hanging"),
        ("It is four two seven", "hanging"),
        ("my number is 0", "hanging"),
        ("你好，", "hanging"),
    ],
)
def test_completeness(text: str, expected: Completeness) -> None:
    assert completeness(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (text, "backchannel")
            for text in ("", "Mm-hmm.", "mhm", "Uh-huh", "Hmm…", "Yeah, yeah.")
        ),
        *((text, "backchannel") for text in ("Okay. I see.", "Right!", "That’s right", "Um.")),
        *((text, "backchannel") for text in ("(laughs)", "I", "got", "yeah, that's", "Haha")),
        *((text, "interrupting") for text in ("stop", "No.", "Wait, wait", "yeah but", "What?")),
        *((text, "doubtful") for text in ("Amen.", "I did", "got home", "Bye.", "I see a dog")),
    ],
)
def test_remarks(text: str, expected: Remark) -> None:
    assert remark(text) == expected


# With the real voice and the real detector

BACKCHANNELS = (
    *("uh-huh", "yeah", "yeah yeah", "okay", "right", "sure", "I see", "got it", "oh really"),
    *("all right", "wow"),
)
INTERRUPTIONS = (
    *("stop", "wait", "no", "hold on", "that's wrong", "excuse me", "what about the other one"),
    *("yeah but why is it red", "okay, tell me about the second picture"),
    "actually, can I ask something",
)


@dataclass(frozen=True)
class Clip:
    """Something said half a second into a stream, and what the detector makes of it."""

    text: str
    begin: int
    end: int
    probabilities: NDArray[np.float32]

    def words_by(self, sample: int) -> str:
        """The words that are out by then; a word's share of the time is its share of letters."""
        share = (sample - self.begin) / (self.end - self.begin)
        words = self.text.split()
        letters = np.cumsum([len(word) for word in words])
        return " ".join(words[: int((letters <= share * letters[-1]).sum())])

    def interrupts(self, late: int | None) -> bool:
        """Whether it stops the assistant, its words known `late` samples after they were said."""
        taker = overlapping()
        events: list[TurnEvent] = []
        for number, probability in enumerate(self.probabilities):
            events += taker.hear([float(probability)])
            if late is not None and number % 3 == 0:
                events += taker.read(self.words_by(taker.position - late), taker.position - late)
        kinds = names(events)
        assert ("Interrupted" in kinds) != ("Backchannel" in kinds)
        return "Interrupted" in kinds


@pytest.fixture(scope="module")
def clips(model_folder: Callable[[str], Path]) -> dict[str, Clip]:
    voice, vad = Voice.load(model_folder("en_US-joe-medium")), SileroVad.load()
    rng = np.random.default_rng(3)
    made = {}
    for text in (*BACKCHANNELS, *INTERRUPTIONS):
        for rate in (0.9, 1.15):
            spoken = voice.speak(text, SpeakOptions(rate=rate, seed=1))
            samples = resample(spoken.samples, spoken.rate, 16_000)
            begin, end = 8000, 8000 + len(samples)
            sound = np.pad(samples, (begin, 32_000)) + rng.normal(0, 1e-3, end + 32_000)
            heard = vad.push(VadState(), sound.astype(np.float32))
            made[f"{text}, {rate}"] = Clip(text, begin, end, heard)
    return made


def rates(clips: dict[str, Clip], late: int | None) -> tuple[float, set[str]]:
    """The share of backchannels that cut the reply, and the interruptions missed."""
    cuts = [clip.interrupts(late) for clip in clips.values() if clip.text in BACKCHANNELS]
    missed = {
        name
        for name, clip in clips.items()
        if clip.text in INTERRUPTIONS and not clip.interrupts(late)
    }
    return float(np.mean(cuts)), missed


@pytest.mark.models
def test_with_words_backchannels_go_by_and_interruptions_do_not(clips: dict[str, Clip]) -> None:
    cuts, missed = rates(clips, late=300 * MS)
    assert cuts <= 0.10
    assert len(missed) <= 0.05 * 2 * len(INTERRUPTIONS), missed


@pytest.mark.models
def test_without_words_only_short_interruptions_are_missed(clips: dict[str, Clip]) -> None:
    cuts, missed = rates(clips, late=None)
    assert cuts <= 0.10
    # By its length alone "stop" cannot be told from "yeah".
    assert {clips[name].text for name in missed} <= {
        "stop",
        "wait",
        "no",
        "hold on",
        "that's wrong",
    }
