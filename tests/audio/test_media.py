import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from audio import media
from audio.errors import AudioError
from audio.media import MediaLimits, read_sound, write_wav
from audio.pcm import Sound

RATE = 44_100
SECONDS = 3


def stereo() -> np.ndarray:
    t = np.arange(RATE * SECONDS) / RATE
    return np.stack([0.4 * np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], 1).astype(np.float32)


def encode_av(path: Path, codec: str, rate: int, **options: str) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(stereo().T), format="fltp", layout="stereo"
        )
        frame.sample_rate = RATE
        convert = av.AudioResampler(stream.codec_context.format, "stereo", rate)
        fifo = av.AudioFifo()
        for part in [*convert.resample(frame), *convert.resample(None)]:
            part.pts = None
            fifo.write(part)
        while (
            part := fifo.read(stream.codec_context.frame_size or 1024, partial=True)
        ) is not None:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def make(folder: Path, kind: str) -> Path:
    path = folder / f"sound.{kind}"
    if kind in ("m4a", "mp4"):
        return encode_av(path, "aac", RATE, movflags="faststart")
    if kind == "aac":
        return encode_av(path, "aac", RATE)
    if kind == "avi":
        return encode_av(path, "pcm_s16le", RATE)
    if kind in ("webm", "mkv"):
        return encode_av(path, "libopus", 48_000)
    soundfile.write(path, stereo(), RATE)
    return path


KINDS = ["wav", "flac", "mp3", "ogg", "aiff", "m4a", "mp4", "webm", "mkv", "aac", "avi"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_gives_the_same_tone(tmp_path: Path, kind: str) -> None:
    sound = read_sound(make(tmp_path, kind))
    assert sound.rate == 16_000
    assert sound.duration_s == pytest.approx(SECONDS, abs=0.08)
    middle = sound.samples[16_000:32_000].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle)) / 8000
    assert int(spectrum.argmax()) == 440
    assert spectrum[440] == pytest.approx(0.2, abs=0.01)  # both channels count half


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind)
    content = path.read_bytes()
    # An Ogg file of this length has one page or two: cut within the last.
    path.write_bytes(content[: int(len(content) * 0.6)])
    with pytest.raises(AudioError, match="truncated|damaged"):
        read_sound(path)


def test_the_name_does_not_matter_the_content_does(tmp_path: Path) -> None:
    path = make(tmp_path, "flac").rename(tmp_path / "sound.wav")
    assert read_sound(path).duration_s == SECONDS


def test_a_wav_from_a_pipe_has_no_sizes(tmp_path: Path) -> None:
    path = make(tmp_path, "wav")
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert read_sound(path).duration_s == SECONDS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is a shopping list\n" * 10, "not a sound file"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "not a sound file"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "truncated|damaged"),
        (b"fLaC" + bytes(100), "damaged"),
        (b"\x00\x00\x00\x1cftypM4A " + bytes(100), "damaged"),
        (b"\x1aE\xdf\xa3" + bytes(100), "damaged"),
        (b"OggS" + bytes(100), "damaged"),
        (b"ID3" + bytes(100), "damaged|no sound|no audio"),
        (b"\xff\xfb", "damaged|no sound|no audio"),
    ],
)
def test_what_holds_no_sound_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "question.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        read_sound(path)
    assert "question.wav" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="there is no sound file"):
        read_sound(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match="got the folder"):
        read_sound(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(AudioError, match="cannot read"):
        read_sound(tmp_path / "loop")


def test_empty_audio_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(AudioError, match="holds no sound"):
        read_sound(tmp_path / "empty.wav")


def test_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="no audio track"):
        read_sound(path)


def test_values_that_are_not_sound_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.array([0.0, np.nan, 0.0], np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="odd.wav.*NaN"):
        read_sound(path)


@pytest.mark.parametrize("kind", ["wav", "m4a", "webm"])
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (MediaLimits(max_duration_s=2), "longer than 2 s"),
        (MediaLimits(max_channels=1), "2 channels"),
        (MediaLimits(max_rate=22_050), "sample rate"),
        (MediaLimits(max_decoded_bytes=100_000), "more than 100000 bytes"),
    ],
)
def test_limits(tmp_path: Path, kind: str, limits: MediaLimits, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        read_sound(make(tmp_path, kind), limits=limits)


def test_a_header_that_lies_is_caught_while_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long silence in a small MP3 that states no length stops at the limit, not at the end."""
    path = tmp_path / "bomb.mp3"
    soundfile.write(path, np.zeros(16_000 * 600, np.float32), 16_000)
    head = path.read_bytes()
    assert len(head) < 3_000_000
    monkeypatch.setattr(media, "_claims_duration", lambda *_: False)
    decoded = 0
    real = media._decode

    def counting(*args: object) -> object:
        nonlocal decoded
        for frame in real(*args):  # type: ignore[arg-type]
            decoded += frame.samples
            yield frame

    monkeypatch.setattr(media, "_decode", counting)
    with pytest.raises(AudioError, match="longer than 5 s"):
        read_sound(path, limits=MediaLimits(max_duration_s=5))
    assert decoded < 16_000 * 6


def test_limits_are_checked() -> None:
    with pytest.raises(AudioError, match="max_duration_s"):
        MediaLimits(max_duration_s=0)


@pytest.mark.parametrize("name", ["answer.wav", "answer.flac"])
def test_written_sound_comes_back(tmp_path: Path, name: str) -> None:
    samples = (np.arange(-800, 800, dtype=np.float32) * 16) / 32768
    write_wav(tmp_path / name, Sound(samples, 16_000))
    np.testing.assert_array_equal(read_sound(tmp_path / name).samples, samples)
    info = soundfile.info(tmp_path / name)
    assert (info.format, info.subtype, info.samplerate) == (
        name[-4:].strip(".").upper(),
        "PCM_16",
        16_000,
    )
    assert [p.name for p in tmp_path.iterdir()] == [name]


def fails(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answer.wav"
    path.write_bytes(b"the answer before")
    monkeypatch.setattr(media.os, "fsync", fails)
    with pytest.raises(AudioError, match="No space left"):
        write_wav(path, Sound(np.zeros(100, np.float32)))
    assert path.read_bytes() == b"the answer before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "where", [lambda folder: folder, lambda folder: folder / "missing" / "answer.wav"]
)
def test_an_impossible_goal_is_refused(tmp_path: Path, where: Callable[[Path], Path]) -> None:
    with pytest.raises(AudioError, match="write"):
        write_wav(where(tmp_path), Sound(np.zeros(100, np.float32)))
    assert list(tmp_path.iterdir()) == []
