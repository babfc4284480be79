"""The finished file: every packet of the picture, the tracks, the subtitles, the same bytes."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from assistant.errors import VoxsightError
from assistant.jobs.dub.mux import Track, default_suffix, mux, picture_end_ms
from assistant.jobs.dub.track_languages import language_name, three_letters
from audio.errors import AudioError
from audio.subtitles import Cue
from tests.jobs.dub_samples import noise, packets, write_film, write_sound

CUES = (Cue(100, 900, ("Fish & {chips}", "<now>")), Cue(1500, 2500, ("Ünd — so",)))


@pytest.fixture
def track(tmp_path: Path) -> Track:
    sound = write_sound(tmp_path / "dub.flac", noise(3.0))
    return Track(sound, CUES, "eng", "deu", "English (synthetic voice)")


@pytest.mark.parametrize(
    ("name", "codec", "sound", "subtitles"),
    [
        ("a.mp4", "mpeg4", "aac", "mov_text"),
        ("a.mov", "mpeg4", "aac", "mov_text"),
        ("a.mkv", "mpeg4", "opus", "srt"),
        ("a.webm", "libvpx", "opus", "webvtt"),
    ],
)
def test_keeps_the_picture_and_adds_tracks(
    name: str, codec: str, sound: str, subtitles: str, track: Track, tmp_path: Path
) -> None:
    source = write_film(tmp_path / name, noise(3.0), picture=codec, steps_ms=(40, 20, 60, 33))
    out = tmp_path / f"out{source.suffix}"
    mux(source, track, out)
    assert default_suffix(source) == source.suffix
    frames, copied = packets(source, "video"), packets(out, "video")
    assert [(data, at) for data, at, _ in copied] == [(data, at) for data, at, _ in frames]
    with av.open(str(out)) as file:
        dub, original = file.streams.audio
        assert [dub.codec_context.name, dub.language] == [sound, "eng"]
        title = dub.metadata.get("title") or dub.metadata["name"]
        assert title == "English (synthetic voice)"
        assert dub.disposition & Disposition.default
        assert not original.disposition & Disposition.default
        assert file.streams.subtitles[0].codec_context.name == subtitles
        notice = {key.lower(): text for key, text in file.metadata.items()}["comment"]
        assert "synthetic" in notice
    old, new = packets(source, "audio"), packets(out, "audio", 1)
    assert [data for data, *_ in new] == [data for data, *_ in old]
    told = [(data.decode(), at) for data, at, _ in packets(out, "subtitles") if len(data) > 2]
    assert [(text[-15:], at) for text, at in told] == [
        (told[0][0][-15:], 100),
        (told[1][0][-15:], 1500),
    ]
    assert "Fish & (chips)\n<now>" in told[0][0].replace("&amp;", "&").replace("&lt;", "<").replace(
        "&gt;", ">"
    )
    assert told[1][0].endswith("Ünd — so")


def test_audio_and_picture_end_together(track: Track, tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.mp4", noise(3.0))
    mux(source, track, tmp_path / "out.mp4")
    ends = [
        max(at + length for _, at, length in packets(tmp_path / "out.mp4", kind))
        for kind in ("video", "audio")
    ]
    assert abs(ends[0] - ends[1]) <= 25
    assert picture_end_ms(source) == ends[0] == 3000


def test_the_same_bytes_each_time(track: Track, tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        source = write_film(tmp_path / f"a{suffix}", noise(3.0))
        outs = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
        for out in outs:
            mux(source, track, out)
        assert outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(("name", "tracks"), [("out.mka", 2), ("out.m4a", 2), ("out.wav", 1)])
def test_sound_alone(name: str, tracks: int, track: Track, tmp_path: Path) -> None:
    source = write_film(tmp_path / "talk.m4a", noise(3.0), picture=None)
    assert default_suffix(source) == ".m4a"
    assert picture_end_ms(source) is None
    mux(source, track, tmp_path / name)
    with av.open(str(tmp_path / name)) as file:
        assert len(file.streams.audio) == tracks
        assert not file.streams.video
        samples = sum(frame.samples for frame in file.decode(file.streams.audio[0]))
        assert samples == pytest.approx(3 * 48_000, abs=1024)


def test_sound_out_of_a_film(track: Track, tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.mp4", noise(3.0))
    mux(source, track, tmp_path / "out.m4a")
    with av.open(str(tmp_path / "out.m4a")) as file:
        assert not file.streams.video
        assert len(file.streams.audio) == 2


def test_a_recording_that_m4a_cannot_hold(track: Track, tmp_path: Path) -> None:
    source = write_sound(tmp_path / "talk.wav", noise(1.0))
    assert default_suffix(source) == ".mka"
    mux(source, track, tmp_path / "out.mka")
    assert len(packets(tmp_path / "out.mka", "audio", 1)) > 0


def test_refuses_what_a_container_cannot_hold(track: Track, tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.mp4", noise(3.0))
    with pytest.raises(
        VoxsightError, match=r"out\.webm cannot hold the original's video \(mpeg4\)"
    ):
        mux(source, track, tmp_path / "out.webm")
    with pytest.raises(AudioError, match="there is no file"):
        mux(tmp_path / "none.mp4", track, tmp_path / "out.mp4")


def test_what_the_source_tells_of_itself_stays(track: Track, tmp_path: Path) -> None:
    path = tmp_path / "told.mkv"
    with av.open(str(path), "w") as file:
        file.metadata["title"] = "A film"
        stream = file.add_stream("aac", rate=48_000, layout="mono")
        stream.metadata["language"] = "fra"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    mux(path, track, tmp_path / "out.mka")
    with av.open(str(tmp_path / "out.mka")) as file:
        assert file.metadata["title"] == "A film"
        assert file.streams.audio[1].language == "fre" or file.streams.audio[1].language == "fra"


def test_names_of_languages() -> None:
    assert [three_letters(code) for code in ("en", "de", "yue", "xx")] == [
        "eng",
        "deu",
        "yue",
        "und",
    ]
    assert language_name("de") == "German"
    assert language_name("xx") == "Xx"
