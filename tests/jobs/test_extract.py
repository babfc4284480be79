from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from assistant.jobs.dub.extract import SOUND_FILE, SPEECH_FILE, extract, open_source, read_extracted
from assistant.jobs.dub.source import SourceSound
from audio.errors import AudioError
from audio.media import MediaLimits
from tests.jobs.dub_samples import noise, write_film, write_sound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


def beeps(at_s: tuple[float, ...], seconds: float, rate: int, channels: int = 2) -> np.ndarray:
    """Silence with 0.1 s of tone at each of the times: (n, channels)."""
    samples = np.zeros((round(seconds * rate), channels), np.float32)
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate // 10) / rate)
    for start in at_s:
        samples[round(start * rate) :][: len(tone)] = tone[:, None]
    return samples


def heard_at(path: Path) -> list[float]:
    """When each beep begins in a file, in s."""
    samples, rate = soundfile.read(path, always_2d=True)
    loud = np.flatnonzero(np.abs(samples).max(axis=1) > 0.2)
    starts = [loud[0], *(b for a, b in pairwise(loud) if b - a > rate // 4)]
    return [float(start) / rate for start in starts]


def test_film(tmp_path: Path, folder: Path) -> None:
    film = write_film(tmp_path / "a.mp4", beeps((0.5, 2.5), 3, 48_000), steps_ms=(40, 15, 90))
    facts = extract(film, folder)
    assert facts == read_extracted(folder)
    assert facts.has_picture and (facts.rate, facts.channels) == (48_000, 2)
    assert (facts.damaged_packets, facts.filled_ms) == (0, 0)
    assert facts.duration_ms == pytest.approx(3000, abs=45)
    for name, rate, channels in ((SPEECH_FILE, 16_000, 1), (SOUND_FILE, 48_000, 2)):
        info = soundfile.info(folder / name)
        assert (info.samplerate, info.channels) == (rate, channels)
        assert info.duration * 1000 == pytest.approx(facts.duration_ms, abs=1)
        assert heard_at(folder / name) == pytest.approx([0.5, 2.5], abs=0.03)


def test_recording_bit_by_bit(tmp_path: Path, folder: Path) -> None:
    source = write_sound(tmp_path / "a.wav", noise(1.5, 44_100, channels=1), 44_100)
    facts = extract(source, folder)
    assert not facts.has_picture and (facts.rate, facts.channels) == (44_100, 1)
    before, after = soundfile.read(source)[0], soundfile.read(folder / SOUND_FILE)[0]
    assert np.array_equal(before, after)
    again = folder / "again"
    again.mkdir()
    extract(source, again)
    for name in (SPEECH_FILE, SOUND_FILE, "facts.json"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_surround_is_mixed_by_the_standard(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "a.wav"
    levels = np.array([0.1, 0.2, 0.3, 0.9, 0.05, 0.15], np.float32)  # FL FR FC LFE BL BR
    soundfile.write(source, np.tile(levels, (48_000, 1)), 48_000, "PCM_24", format="WAVEX")
    facts = extract(source, folder)
    assert (facts.source_channels, facts.channels) == (6, 2)
    half = 0.5**0.5
    expected = [0.1 + half * 0.3 + half * 0.05, 0.2 + half * 0.3 + half * 0.15]
    mixed = soundfile.read(folder / SOUND_FILE)[0]
    assert mixed.mean(axis=0) == pytest.approx(expected, abs=1e-4)


def damage(path: Path, share: tuple[float, float]) -> None:
    """Overwrite the packets of the first audio track between two shares of its length."""
    with av.open(str(path)) as file:
        packets = [p for p in file.demux(file.streams.audio[0]) if p.size and p.pos is not None]
        places = [(packet.pos, packet.size) for packet in packets]
    data = bytearray(path.read_bytes())
    for pos, size in places[int(share[0] * len(places)) : int(share[1] * len(places))]:
        data[pos : pos + size] = b"\xff" * size
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_damage_in_the_middle_shifts_nothing(tmp_path: Path, folder: Path, name: str) -> None:
    # Matroska loses the rest of a cluster of 5 s.
    samples = beeps((0.5, 14.5), 15, 48_000)
    film = write_film(tmp_path / name, samples, picture=None if name == "a.webm" else "mpeg4")
    damage(film, (0.2, 0.3))
    facts = extract(film, folder)
    assert facts.duration_ms == pytest.approx(15_000, abs=60)
    for kind in (SOUND_FILE, SPEECH_FILE):
        assert heard_at(folder / kind)[0] == pytest.approx(0.5, abs=0.03)
        assert heard_at(folder / kind)[-1] == pytest.approx(14.5, abs=0.03)
    if name == "a.mp4":
        assert facts.damaged_packets > 10 and facts.filled_ms > 1_000


def test_sound_that_begins_late(tmp_path: Path, folder: Path) -> None:
    film = tmp_path / "late.mkv"
    with av.open(str(film), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 8_000), 9_000, np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 16_000, 16_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    facts = extract(film, folder)
    assert (facts.duration_ms, facts.filled_ms) == (1_500, 1_000)
    assert heard_at(folder / SOUND_FILE) == pytest.approx([1.0], abs=0.002)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.mp4", None, "there is no file"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"#EXTM3U\nhttp://example.org/x.ts", "not a video or sound file"),
        ("cut.mp4", b"\0\0\0\x18ftypmp42" + bytes(60), "cannot be opened"),
    ],
)
def test_bad_files(tmp_path: Path, folder: Path, name: str, content: bytes, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=told):
        extract(tmp_path / name, folder)
    with pytest.raises(AudioError, match="cannot read"):
        open_source(tmp_path)


def test_no_sound(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(AudioError, match="has no audio track"):
        extract(write_film(tmp_path / "mute.mp4", None, seconds=0.5), folder)
    with pytest.raises(AudioError, match="has a length of 0 s"):
        extract(write_sound(tmp_path / "zero.wav", np.zeros((0, 1), np.float32)), folder)


def test_limits(tmp_path: Path, folder: Path) -> None:
    source = write_sound(tmp_path / "a.wav", noise(2.0))
    with pytest.raises(AudioError, match="longer than 1 s"):
        extract(source, folder, MediaLimits(max_duration_s=1))
    with pytest.raises(AudioError, match="at most 1 are read"):
        extract(source, folder, MediaLimits(max_channels=1))


class FakeFrame:
    """A frame of some samples at a time, as the decoder gives it."""

    def __init__(self, pts: int | None, samples: int, rate: int = 1_000) -> None:
        self.pts, self.samples, self.sample_rate = pts, samples, rate
        self.time_base, self.layout = 1 / rate, None

    def to_ndarray(self) -> np.ndarray:
        return np.full((1, self.samples), 0.5, np.float32)


def test_frames_find_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_sound(tmp_path / "a.wav", noise(0.1, 1_000, channels=1), 1_000)
    sound = SourceSound(source)

    class Planar:
        def __init__(self, format: str) -> None:
            assert format == "fltp"

        def resample(self, frame: FakeFrame) -> list[FakeFrame]:
            return [frame]

    def blocks(*frames: FakeFrame) -> np.ndarray:
        def given(*_: object) -> Iterator[FakeFrame]:
            yield from frames

        monkeypatch.setattr("assistant.jobs.dub.source.av.AudioResampler", Planar)
        monkeypatch.setattr(SourceSound, "_frames", given)
        return np.concatenate([block[:, 0] for block in sound.blocks()])

    half = 0.5
    assert blocks(FakeFrame(0, 50), FakeFrame(60, 50)).tolist() == [half] * 100  # noise of 10 ms
    assert blocks(FakeFrame(None, 50), FakeFrame(None, 50)).tolist() == [half] * 100
    gap = blocks(FakeFrame(0, 50), FakeFrame(100, 50))
    assert gap.tolist() == [half] * 50 + [0.0] * 50 + [half] * 50 and sound.filled == 50
    assert len(blocks(FakeFrame(0, 100), FakeFrame(40, 100))) == 140  # overlap is dropped
    assert len(blocks(FakeFrame(-100, 150))) == 50  # before the file's time 0
    with pytest.raises(AudioError, match="changes its sample rate"):
        blocks(FakeFrame(0, 50), FakeFrame(50, 50, rate=2_000))
