"""A film to be dubbed: recordings one after the other over a moving picture, drawn here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from assistant.evals.asr import Recording
from audio.media import read_sound
from audio.pcm import Samples

RATE = 48_000
_WIDTH, _HEIGHT = 320, 180
_PAUSES_S = (1.2, 2.6, 0.9, 3.4, 1.8)  # between clips, in turn
# Milliseconds from frame to frame, in turn: a variable rate, as telephones film.
_STEPS_MS = (40, 40, 20, 60, 33, 47)
_BED_LEVEL = 0.004  # of a soft noise and chord under all of it
_FRAME = 1024


@dataclass(frozen=True)
class Clip:
    """A recording in the film: its language and words, and when it is heard, in ms."""

    language: str
    text: str
    start_ms: int
    end_ms: int


def sample_clips(data: Path, languages: Sequence[str] | None = None) -> list[Recording]:
    """The store's sample speech, a recording of each language in turn."""
    chosen = sorted(folder for folder in data.iterdir() if folder.is_dir())
    rows = [
        [_sample(folder.name, wav) for wav in sorted(folder.glob("*.wav"))]
        for folder in chosen
        if languages is None or folder.name in languages
    ]
    return [clip for row in zip_longest(*rows) for clip in row if clip is not None]


def _sample(language: str, wav: Path) -> Recording:
    text = wav.with_suffix(".txt").read_text(encoding="utf-8")
    return Recording(wav, language, text.strip())


def make_film(
    clips: Sequence[Recording], out: Path, *, seconds: float = 0.0, gain: float = 0.7
) -> list[Clip]:
    """Write a film of the clips with pauses between them; what is said in it, in order.

    MPEG-4 picture of a variable frame rate and AAC sound at 48 kHz, stereo, in any container that
    holds them; the same bytes each time. ``seconds``: the least length.
    """
    pieces: list[Samples] = [np.zeros(RATE, np.float32)]
    heard: list[Clip] = []
    at = RATE
    for clip, pause in zip(clips, cycle(_PAUSES_S), strict=False):
        speech = read_sound(clip.path, RATE).samples * np.float32(gain)
        start_ms, end_ms = (place * 1000 // RATE for place in (at, at + len(speech)))
        heard.append(Clip(clip.language, clip.text, start_ms, end_ms))
        pieces += [speech, np.zeros(round(pause * RATE), np.float32)]
        at += len(speech) + len(pieces[-1])
    missing = round(seconds * RATE) - at
    sound = np.concatenate([*pieces, np.zeros(max(0, missing), np.float32)])
    _write(out, _stereo(sound + _bed(len(sound))))
    return heard


def _bed(count: int) -> Samples:
    """Something that is there all the time, as in any film: hiss and a chord."""
    times = np.arange(count) / RATE
    chord = sum(np.sin(2 * np.pi * tone * times) for tone in (110.0, 164.8, 220.0))
    noise = np.random.default_rng(0).standard_normal(count)
    bed: Samples = (_BED_LEVEL * (0.5 * chord + 0.3 * noise)).astype(np.float32)
    return bed


def _stereo(sound: Samples) -> NDArray[np.float32]:
    """Slightly to the left, so that the two channels differ."""
    return np.stack([sound, sound * np.float32(0.8)])


def _write(out: Path, sound: NDArray[np.float32]) -> None:
    with av.open(str(out), "w", container_options={"fflags": "+bitexact"}) as file:
        picture: Any = file.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        picture.bit_rate = 400_000
        picture.codec_context.time_base = Fraction(1, 1000)
        track: Any = file.add_stream("aac", rate=RATE, layout="stereo")
        track.bit_rate = 128_000
        for stream in (picture, track):
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        at = 0
        for time_ms, pixels in _pictures(sound.shape[1] * 1000 // RATE):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            file.mux(picture.encode(frame))
            until = min(sound.shape[1], (time_ms + 100) * RATE // 1000)
            at = _encode_sound(file, track, sound, at, until)
        _encode_sound(file, track, sound, at, sound.shape[1], last=True)
        file.mux(picture.encode(None))
        file.mux(track.encode(None))


def _encode_sound(
    file: Any, track: Any, sound: NDArray[np.float32], at: int, until: int, *, last: bool = False
) -> int:
    """Encode the samples from ``at`` on in whole frames; where the next one begins."""
    while at + _FRAME <= until or (last and at < until):
        part = np.ascontiguousarray(sound[:, at : min(until, at + _FRAME)])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        file.mux(track.encode(frame))
        at += part.shape[1]
    return at


def _pictures(duration_ms: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Times in ms and pictures (height, width, 3): a sky that turns, a ball, a bar of the time."""
    rows, columns = np.mgrid[0:_HEIGHT, 0:_WIDTH].astype(np.float32)
    time_ms, steps = 0, cycle(_STEPS_MS)
    while time_ms < duration_ms:
        seconds = time_ms / 1000
        picture = np.empty((_HEIGHT, _WIDTH, 3), np.float32)
        picture[..., 0] = 40 + 60 * rows / _HEIGHT
        picture[..., 1] = 70 + 40 * np.sin(columns / 60 + seconds)
        picture[..., 2] = 150 - 50 * rows / _HEIGHT
        across = _WIDTH / 2 + _WIDTH / 3 * np.sin(1.3 * seconds)
        down = _HEIGHT / 2 + _HEIGHT / 4 * np.cos(1.9 * seconds)
        picture[np.hypot(columns - across, rows - down) < 18] = (250, 210, 60)
        picture[_HEIGHT - 6 :, : int(_WIDTH * time_ms / duration_ms)] = (230, 230, 230)
        yield time_ms, picture.astype(np.uint8)
        time_ms += next(steps)
