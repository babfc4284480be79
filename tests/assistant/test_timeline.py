"""Time lines of constructed conversations: figures, JSON, sound and the picture's rows."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.events import (
    Backchannelled,
    Partial,
    PictureKept,
    ReplyEnded,
    ReplySound,
    ReplyStopped,
    ReplyText,
    Seen,
    SessionClosed,
    SessionFailed,
    Sighting,
    SpeechBegan,
    TurnEnded,
)
from assistant.rehearsal import Moment
from assistant.timeline import duration_of, heard_parts, stereo, summarise, timeline_json
from assistant.waterfall import draw, lanes
from audio.pcm import Sound
from audio.spoken_words import SpokenWord

RATE = 8_000  # of the voice


def sound(turn: int, start_s: float, seconds: float, *words: str) -> ReplySound:
    start, count = round(start_s * RATE), round(seconds * RATE)
    spoken = tuple(SpokenWord(word, start, start + count) for word in words)
    return ReplySound(turn, start, Sound(np.full(count, 0.5, np.float32), RATE), spoken)


CONVERSATION = [
    Moment(0.2, SpeechBegan(0)),
    Moment(0.6, Partial("", "what is")),
    Moment(1.1, Partial("what is", "this")),
    Moment(1.9, TurnEnded(1, "what is this", 16_000)),  # the end of speech is at 1 s
    Moment(2.0, ReplyText(1, "A")),
    Moment(2.1, ReplyText(1, " cat.")),
    Moment(2.4, sound(1, 0.0, 1.0, "A")),
    Moment(2.5, sound(1, 1.0, 1.0, "cat.")),
    Moment(2.6, ReplyEnded(1, "A cat.")),
    Moment(3.9, ReplyStopped(1, "A")),
    Moment(5.0, TurnEnded(2, "and now", 64_000)),
    Moment(5.5, ReplyText(2, "Well")),
    Moment(6.0, sound(2, 0.0, 0.5, "Well")),
    Moment(7.0, sound(2, 0.5, 0.5)),  # late: it is heard when it comes
    Moment(7.1, ReplyEnded(2, "Well")),
    Moment(8.2, SessionClosed()),
]


def test_each_turn_has_its_times() -> None:
    first, second = summarise(CONVERSATION)
    assert (first.question, first.answer) == ("what is this", "A")  # what was heard of it
    assert (first.speech_end, first.decided) == (1.0, 1.9)
    assert (first.first_text, first.last_text, first.first_sound) == (2.0, 2.1, 2.4)
    assert (first.silent, first.interrupted) == (3.9, 3.9)
    assert (second.answer, second.interrupted, second.silent) == ("Well", None, 7.5)
    summary = first.summary()
    assert (summary["decided_ms"], summary["first_text_ms"]) == (900, 1000)
    assert summary["first_sound_ms"] == 1400


def test_a_turn_without_a_reply_has_no_times_of_one() -> None:
    (turn,) = summarise([Moment(1.5, TurnEnded(3, "hello", 16_000))])
    summary = turn.summary()
    assert summary["decided_ms"] == 500
    assert all(summary[key] is None for key in ("first_text_ms", "first_sound_ms", "silent_s"))
    assert summarise([Moment(1.0, ReplyText(1, "of no turn"))]) == []


def test_parts_are_heard_one_after_the_other_late_ones_late_and_cut_ones_not() -> None:
    heard = [(part.begin, part.end) for part in heard_parts(CONVERSATION)]
    assert heard == [(2.4, 3.4), (3.4, 3.9), (6.0, 6.5), (7.0, 7.5)]


def test_a_part_that_nobody_heard_has_no_length() -> None:
    moments = [
        Moment(1.0, sound(1, 0.0, 2.0)),
        Moment(1.0, sound(1, 2.0, 2.0)),
        Moment(2.0, ReplyStopped(1, "")),
        Moment(2.5, ReplyStopped(9, "")),  # of a reply without sound
    ]
    assert [(part.begin, part.end) for part in heard_parts(moments)] == [(1.0, 2.0), (2.0, 2.0)]
    follows = [Moment(1.0, sound(1, 0.0, 2.0)), Moment(2.0, sound(2, 0.0, 1.0))]
    assert [(part.begin, part.end) for part in heard_parts(follows)] == [(1.0, 2.0), (2.0, 3.0)]


def test_the_json_holds_every_event_and_no_samples() -> None:
    seen = Seen((Sighting("cat", 0.5),), True)
    extra = [
        Moment(8.3, PictureKept(1, seen)),
        Moment(8.4, Backchannelled()),
        Moment(8.5, SessionFailed("Out of luck.")),
    ]
    document = json.loads(json.dumps(timeline_json(CONVERSATION + extra)))
    assert len(document["events"]) == len(CONVERSATION) + 3
    assert document["duration_s"] == 8.5
    by_name: dict[str, Any] = {event["event"]: event for event in document["events"]}
    assert by_name["turn_ended"]["speech_end_s"] == 4.0
    assert by_name["speech_began"] == {"at_s": 0.2, "event": "speech_began", "begin_s": 0.0}
    assert by_name["picture_kept"]["seen"]["sightings"] == [{"name": "cat", "probability": 0.5}]
    assert by_name["session_failed"]["message"] == "Out of luck."
    late = by_name["reply_sound"]
    assert late["heard_s"] == [7.0, 7.5]
    assert (late["start_s"], late["duration_s"], late["words"]) == (0.5, 0.5, [])
    first = document["events"][6]
    assert first["words"] == [{"text": "A", "start_s": 0.0, "end_s": 1.0}]
    assert document["turns"][0]["first_sound_ms"] == 1400


def test_the_person_is_on_the_left_and_the_assistant_on_the_right() -> None:
    person = Sound(np.full(16_000, 0.25, np.float32), 16_000)
    both, rate = stereo(person, CONVERSATION)
    assert rate == RATE
    assert both.shape == (pytest.approx(7.5 * RATE, abs=1), 2)
    assert both[RATE // 2, 0] == pytest.approx(0.25, abs=0.01)
    assert not both[RATE + 100 :, 0].any()
    speaking = np.flatnonzero(np.diff(both[:, 1] != 0)) + 1
    assert list(speaking / RATE) == pytest.approx([2.4, 3.9, 6.0, 6.5, 7.0, 7.5], abs=2 / RATE)


def test_without_a_reply_there_is_only_the_person() -> None:
    person = Sound(np.full(100, 0.25, np.float32), 16_000)
    both, rate = stereo(person, [])
    assert rate == 16_000
    assert np.array_equal(both[:100, 0], person.samples)
    assert not both[:, 1].any()


# The picture


def rows(moments: list[Moment]) -> dict[str, list[tuple[float, float, str]]]:
    return {lane.name: [(s.begin, s.end, s.label) for s in lane.spans] for lane in lanes(moments)}


def test_the_rows_of_a_conversation() -> None:
    found = rows(CONVERSATION)
    assert found["speech in"][0] == (0.0, 1.0, "what is this")
    assert found["tentative words"] == [(0.6, 1.1, "what is"), (1.1, 1.9, "this")]
    assert found["committed words"] == [(1.1, 1.9, "what is")]
    assert found["turn over?"] == [(1.0, 1.9, "900 ms"), (4.0, 5.0, "1000 ms")]
    assert found["text, from first token"][0] == (2.0, 2.1, "1000 ms: A")
    assert found["sound as made"][:2] == [(2.0, 2.4, "1.00 s"), (2.4, 2.5, "1.00 s")]
    assert found["sound as heard"][1] == (3.4, 3.9, "cat.")
    assert found["silence before it"] == [(1.0, 2.4, "1400 ms"), (4.0, 6.0, "2000 ms")]
    assert found["remarks"] == [(3.9, 3.9, "interrupted")]


def test_speech_ends_with_its_turn_or_with_the_next_or_is_still_going_on() -> None:
    moments = [
        Moment(0.3, SpeechBegan(0)),
        Moment(1.0, Backchannelled()),
        Moment(2.2, SpeechBegan(32_000)),
        Moment(4.2, SpeechBegan(64_000)),
        Moment(5.0, SessionFailed("Out of luck.")),
    ]
    found = rows(moments)
    assert [span[:2] for span in found["speech in"]] == [(0.0, 1.0), (2.0, 4.0), (4.0, 5.0)]
    assert [span[2] for span in found["remarks"]] == ["went on", "Out of luck."]


texts = st.text("ab ", max_size=4)
turns = st.integers(1, 3)
events = st.one_of(
    st.builds(SpeechBegan, st.integers(0, 200_000)),
    st.builds(Partial, texts, texts),
    st.just(Backchannelled()),
    st.builds(TurnEnded, turns, texts, st.integers(0, 200_000)),
    st.builds(ReplyText, turns, texts),
    st.builds(sound, turns, st.floats(0, 3), st.floats(0, 2)),
    st.builds(ReplyEnded, turns, texts),
    st.builds(ReplyStopped, turns, texts),
    st.just(SessionFailed("x")),
)


@given(st.lists(st.tuples(st.floats(0, 2), events), max_size=30))
@settings(deadline=None)
def test_rows_never_overlap_whatever_happens(steps: list[tuple[float, Any]]) -> None:
    at, moments = 0.0, []
    for step, event in steps:
        at += step
        moments.append(Moment(at, event))
    end = max(duration_of(moments), 200_000 / 16_000)
    for lane in lanes(moments):
        for span in lane.spans:
            assert 0 <= span.begin <= span.end <= end
        for before, after in pairwise(lane.spans):
            assert before.end <= after.begin
    json.dumps(timeline_json(moments))
    assert [m["at_s"] for m in timeline_json(moments)["events"]] == sorted(
        round(m.at, 4) for m in moments
    )


def test_the_picture_shows_what_happened_where() -> None:
    image = draw(CONVERSATION, Sound(np.full(16_000, 0.5, np.float32)), "A title")
    assert image.size == (1600, 700)
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 20
    green = (116, 196, 118)  # sound as heard: row 6 of 9, from 2.4 s to 3.9 s of 8.2 s
    scale = (1600 - 180 - 20) / 8.2
    height = (700 - 64 - 44) / 9
    y = round(64 + height * 6.25)
    assert image.getpixel((round(180 + 2.8 * scale), y)) == green
    assert image.getpixel((round(180 + 2.2 * scale), y)) == (255, 255, 255)
    assert image.getpixel((round(180 + 4.2 * scale), y)) == (255, 255, 255)


def test_a_long_conversation_gets_a_wide_picture_and_an_empty_one_any() -> None:
    long = [*CONVERSATION, Moment(100.0, SessionClosed())]
    assert draw(long).size == (5000, 700)
    assert draw([Moment(10_000.0, SessionClosed())]).size == (16_000, 700)
    assert draw([]).size == (1600, 700)
