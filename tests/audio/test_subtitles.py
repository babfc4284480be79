import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysubs2 import SSAFile

from audio.asr_types import Segment, Transcript, Word
from audio.errors import AudioError
from audio.subtitles import cues, to_json, to_srt, to_text, to_vtt


def transcript(*segments: Segment) -> Transcript:
    return Transcript(
        text=" ".join(segment.text for segment in segments),
        language="en",
        language_probability=0.98765,
        duration_s=10.0,
        segments=segments,
    )


def timed(*words: tuple[float, float, str]) -> Segment:
    parts = tuple(Word(start, end, f" {text}", 0.9) for start, end, text in words)
    return Segment(words[0][0], words[-1][1], " ".join(w[2] for w in words), parts)


HELLO = transcript(Segment(0.0, 1.5, "Hello, world."), Segment(3661.25, 3662.0, "A < B & C --> D"))


def test_text_is_one_line_per_segment() -> None:
    assert to_text(HELLO) == "Hello, world.\nA < B & C --> D\n"


def test_srt() -> None:
    assert to_srt(HELLO) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello, world.\n\n"
        "2\n01:01:01,250 --> 01:01:02,000\nA < B & C → D\n\n"
    )


def test_vtt_is_escaped() -> None:
    assert to_vtt(HELLO) == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.500\nHello, world.\n\n"
        "2\n01:01:01.250 --> 01:01:02.000\nA &lt; B &amp; C --&gt; D\n\n"
    )


def test_what_means_something_to_substation_is_shown_as_it_is() -> None:
    said = transcript(Segment(0, 1, r"{i1}C:\new \N \h {\p1} m 0 0"))
    for written in (to_srt(said), to_vtt(said)):
        shown = written.splitlines()[-2].replace("\N{WORD JOINER}", "")
        assert shown == r"{i1}C:\new \N \h {\p1} m 0 0"


def test_cues_are_read_back_as_they_were_written() -> None:
    said = transcript(timed(*[(i * 0.5, i * 0.5 + 0.4, f"word{i:02d}") for i in range(30)]))
    for written in (to_srt(said), to_vtt(said)):
        read = SSAFile.from_string(written)
        assert [(e.start, e.end, tuple(e.text.split(r"\N"))) for e in read] == [
            (cue.start_ms, cue.end_ms, cue.lines) for cue in cues(said)
        ]


def test_json_has_stable_keys() -> None:
    got = json.loads(to_json(transcript(timed((0.0, 0.5, "hi"), (0.5, 1.0, "café")))))
    assert list(got) == ["text", "language", "language_probability", "duration_s", "segments"]
    assert got["language_probability"] == 0.9877
    assert list(got["segments"][0]) == [
        "start",
        "end",
        "text",
        "avg_logprob",
        "no_speech_prob",
        "words",
    ]
    assert got["segments"][0]["words"][1] == {
        "start": 0.5,
        "end": 1.0,
        "text": "café",
        "probability": 0.9,
    }


def test_an_empty_transcript_gives_empty_files() -> None:
    nothing = transcript()
    assert (to_text(nothing), to_srt(nothing), to_vtt(nothing)) == ("", "", "WEBVTT\n\n")


def test_long_text_is_wrapped_evenly() -> None:
    (cue,) = cues(transcript(Segment(0, 4, "the quick brown fox jumps over the lazy dog again")))
    assert cue.lines == ("the quick brown fox jumps", "over the lazy dog again")


def test_a_long_segment_is_split_evenly_at_its_words() -> None:
    words = [(i * 0.5, i * 0.5 + 0.4, f"word{i:02d}") for i in range(30)]
    got = cues(transcript(timed(*words)))
    assert [(c.start_ms, c.end_ms) for c in got] == [(0, 4900), (5000, 9900), (10000, 14900)]
    assert got[0].lines == (
        "word00 word01 word02 word03 word04",
        "word05 word06 word07 word08 word09",
    )


def test_a_pause_within_a_segment_parts_cues() -> None:
    got = cues(transcript(timed((0, 1, "wait"), (3, 4, "go"))))
    assert [c.lines for c in got] == [("wait",), ("go",)]


def test_without_words_time_is_shared_by_length() -> None:
    got = cues(transcript(Segment(10.0, 20.0, "aaaaaaaaa " * 16)))
    assert [(c.start_ms, c.end_ms) for c in got] == [(10_000, 15_000), (15_000, 20_000)]


def test_text_without_spaces_is_broken_anywhere() -> None:
    got = cues(transcript(Segment(0, 10, "字" * 100)))
    assert [len(line) for cue in got for line in cue.lines] == [42, 42, 16]
    assert sum(cue.end_ms - cue.start_ms for cue in got) == 10_000


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.integers(0, 3000),
            st.text(alphabet="ab c,é字", max_size=300),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_cues_never_overlap_and_lose_no_letter(
    raw: list[tuple[int, int, str, bool]],
) -> None:
    segments, now = [], 0
    for gap, length, text, with_words in raw:
        start, end = now + gap, now + gap + length
        now = end
        words: tuple[Word, ...] = ()
        runs = text.split()
        if with_words and runs:
            step = (end - start) / 1000 / len(runs)
            words = tuple(
                Word(start / 1000 + i * step, start / 1000 + (i + 1) * step, f" {run}", 1.0)
                for i, run in enumerate(runs)
            )
        segments.append(Segment(start / 1000, end / 1000, text.strip(), words))
    got = cues(transcript(*segments))
    for before, after in pairwise(got):
        assert before.end_ms <= after.start_ms
    for cue in got:
        assert cue.start_ms < cue.end_ms
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= 42 for line in cue.lines)
    spelled = re.sub(r"\s", "", "".join(line for cue in got for line in cue.lines))
    assert spelled == re.sub(r"\s", "", "".join(segment.text for segment in segments))


@pytest.mark.parametrize(
    "segments",
    [
        (Segment(0, 2, "a"), Segment(1, 3, "b")),
        (Segment(2, 1, "a"),),
        (timed((0, 2, "a"), (1, 3, "b")),),
        (Segment(0, 1, "a", (Word(0, 5, " a", 1.0),)),),
    ],
)
def test_times_that_run_backwards_are_refused(segments: tuple[Segment, ...]) -> None:
    with pytest.raises(AudioError, match="in order"):
        cues(transcript(*segments))
