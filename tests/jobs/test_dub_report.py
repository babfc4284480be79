"""The report, the subtitles and the picture of a dub."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assistant.jobs.dub.captions import cues, to_srt, to_vtt, transcript_of
from assistant.jobs.dub.lines import TranslatedLine
from assistant.jobs.dub.mix import Mixed
from assistant.jobs.dub.picture import draw
from assistant.jobs.dub.publish import publish, replace_with
from assistant.jobs.dub.report import DubReport, end_error_ms, in_slot, line_row, totals
from tests.jobs.dub_samples import fitted, line, noise, spoken, write_sound

GOOD = spoken(fitted(line(1, 1000, 3000, 500)))
LATE = spoken(
    fitted(line(2, 5000, 6000, 900, original="Wie geht es?"), "How are you all?", end_ms=6300),
    back_text="how are you",
    back_wer=0.25,
    silence_ms=100,
)
BORROWS = spoken(
    fitted(line(3, 8000, 9000, 900), "See you.", end_ms=9500, borrowed_ms=500, rate=1.2)
)
STRETCHED = spoken(fitted(line(4, 20_000, 21_000), "Well then.", stretch=0.9, rate=1.2))
KEPT = TranslatedLine(line(5, 31_000, 33_000, original="ら"), (), "a song")
LINES = (GOOD, LATE, BORROWS, STRETCHED)


@pytest.fixture
def report(tmp_path: Path) -> DubReport:
    out = tmp_path / "film.en.mp4"
    folder = tmp_path / "film.en.mp4.dub"
    folder.mkdir()
    mixed = Mixed(-20.0, -20.3, -1.5, 2.0)
    return DubReport(Path("/far/film.mp4"), out, folder, "en", {"A": "joe"}, LINES, (KEPT,), mixed)


def test_ends_and_slots() -> None:
    assert [end_error_ms(each) for each in LINES] == [0, 300, 0, 0]
    assert [in_slot(each) for each in LINES] == [True, False, True, True]


def test_totals_weigh_silence_by_time_and_errors_by_words() -> None:
    figures = totals(LINES, "en")
    assert figures["lines"] == 4
    assert figures["lines_in_slot"] == 0.75
    assert figures["rate_in_range"] == 0.75  # 1.2 / 0.9 is faster than 1.25
    assert figures["silence_in_slot"] == pytest.approx(100 / (2000 + 1000 + 1500 + 1000), abs=1e-4)
    assert figures["back_wer"] == pytest.approx(1 / (4 + 4 + 2 + 2), abs=1e-4)
    assert (figures["borrowed"], figures["stretched"]) == (1, 1)
    assert totals((), "en")["back_wer"] == 0


def test_report_names_no_folder_and_no_time_of_day(report: DubReport) -> None:
    text = json.dumps(report.to_dict())
    assert "/far" not in text
    assert report.summary()["loudness_delta_lu"] == -0.3
    assert report.to_dict()["kept"] == [
        {"number": 5, "slot_ms": [31_000, 33_000], "original": "ら", "why": "a song"}
    ]
    row = line_row(LATE)
    assert (row["end_error_ms"], row["in_slot"], row["back_wer"]) == (300, False, 0.25)
    silent = replace(report, mixed=Mixed(None, None, None, 0.0))
    assert silent.summary()["loudness_delta_lu"] is None


def test_subtitles_follow_the_new_voice() -> None:
    transcript = transcript_of((BORROWS, GOOD), "en")
    assert [(cue.start_ms, cue.end_ms, cue.lines) for cue in cues(transcript)] == [
        (1000, 3000, ("Good day to you.",)),
        (8000, 9500, ("See you.",)),
    ]
    assert "00:00:08,000 --> 00:00:09,500\nSee you." in to_srt(transcript)
    assert to_vtt(transcript).startswith("WEBVTT")
    assert transcript_of((), "en").segments == ()


def test_lines_that_meet_give_subtitles_that_do_not() -> None:
    first = spoken(fitted(line(1, 1000, 3000, 500), end_ms=3100))
    second = spoken(fitted(line(2, 3050, 4000, 500), "And you?"))
    times = [(cue.start_ms, cue.end_ms) for cue in cues(transcript_of((first, second), "en"))]
    assert times == [(1000, 3050), (3050, 4000)]


def test_the_picture_shows_every_line(report: DubReport, tmp_path: Path) -> None:
    original = write_sound(tmp_path / "original.flac", noise(35.0, 8000, channels=1), 8000)
    quiet = write_sound(tmp_path / "mix.flac", np.zeros((48_000 * 35, 2), np.float32))
    picture = draw(report, original, quiet)
    assert picture.size == (1800, 104 + 2 * 234 + 8)  # two strips of half a minute
    pixels = np.asarray(picture).reshape(-1, 3)
    strips = np.asarray(picture)[104:]
    for colour in ("#a1d99b", "#fb8a72", "#2f7d4f", "#d9d9d9", "#c6dbef"):
        wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (strips == wanted).all(axis=2).sum() > 100, colour
    assert (pixels == [0x6B, 0x93, 0xB8]).all(axis=1).sum() > 10_000  # the original's wave
    assert not (strips == [0x5F, 0x9E, 0x6E]).all(axis=2).any()  # the mix is silent
    assert draw(report, original, quiet).tobytes() == picture.tobytes()


def test_publish_writes_everything_whole(report: DubReport, tmp_path: Path) -> None:
    original = write_sound(tmp_path / "original.flac", noise(3.0))
    made = tmp_path / "made.mp4"
    made.write_bytes(b"film")
    for _ in range(2):  # again over what is there
        publish(report, made, (original, original), {"lines": []})
    assert report.out.read_bytes() == b"film"
    names = ["lines.json", "report.json", "subtitles.srt", "subtitles.vtt", "timeline.png"]
    assert sorted(path.name for path in report.folder.iterdir()) == names
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert json.loads((report.folder / "report.json").read_text())["totals"]["lines"] == 4


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def fail(beside: Path) -> None:
        beside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_with(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
