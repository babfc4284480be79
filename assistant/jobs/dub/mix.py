"""The sound of a dub: the new voice over the old sound, as loud as that was, without clipping."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import soundfile

from assistant.errors import ConfigError
from assistant.jobs.dub.lines import Record
from assistant.jobs.dub.loudness import (
    Block,
    LoudnessMeter,
    PeakMeter,
    decibels,
    factor_of,
    level,
    loudness,
)
from audio.pcm import Samples
from audio.resample import Resampler, resample

#: What becomes of the original sound under the new voice.
Original = Literal["duck", "remove", "keep-beds"]
#: Rate and channels of the mix.
RATE, CHANNELS = 48_000, 2

_BLOCK = RATE  # samples that are mixed at once
_CENTRE = 1 / sqrt(2)  # mono sound on both channels has the loudness that it had on one
_CEILING_DB = -1.0  # true peak (EBU R 128); an encoder may add to it
_FRAME = 48  # samples of one value of the limiter: 1 ms
_HOLD_MS, _BESIDE = 6, 2  # ms that the limiter goes down in, and stays down for beside a peak
_NEAR_LU, _PASSES = 0.1, 4
_FADE_MS = 4
_LEVEL_RANGE_LU = 6.0  # a line follows the loudness of the one it replaces so far
_ATTACK_MS, _RELEASE_MS, _MERGE_MS = 120, 280, 400


@dataclass(frozen=True)
class MixOptions:
    """original: see ``Original``; duck_db: how much softer it is under the voice, below 0."""

    original: Original = "duck"
    duck_db: float = -24.0

    def __post_init__(self) -> None:
        if self.original not in ("duck", "remove", "keep-beds"):
            raise ConfigError(
                f"Expected the original to be duck, remove or keep-beds, got {self.original!r}."
            )
        if not -60.0 <= self.duck_db <= 0.0:
            raise ConfigError(f"Expected a ducking of -60 to 0 dB, got {self.duck_db:g}.")


@dataclass(frozen=True)
class VoicePart:
    """A spoken line: its WAV file, where it begins, and the slot of the original, in ms."""

    path: Path
    start_ms: int
    end_ms: int
    slot_ms: tuple[int, int]


@dataclass(frozen=True)
class Mixed(Record):
    """What was measured; None for a loudness where there is only silence.

    original_lufs, lufs: integrated; true_peak_db: of the mix; gain_db: that brought it there.
    """

    original_lufs: float | None
    lufs: float | None
    true_peak_db: float | None
    gain_db: float


@dataclass(frozen=True)
class Envelope:
    """The gain of a sound over time: ``inside`` the spans (start, end) in ms, else ``outside``."""

    spans: tuple[tuple[int, int], ...]
    inside: float
    outside: float

    def gains(self, start: int, count: int) -> Samples:
        """The gain (count,) of samples from ``start`` on, with smooth ramps outside the spans."""
        if not self.spans or self.inside == self.outside:
            return np.full(count, self.outside, np.float32)
        points, values = [], []
        for begin, end in _merged(self.spans):
            points += [begin - _ATTACK_MS, begin, end, end + _RELEASE_MS]
            values += [0.0, 1.0, 1.0, 0.0]
        times = (start + np.arange(count)) * (1000 / RATE)
        share = np.interp(times, points, values)
        smooth = share * share * (3 - 2 * share)
        gains: Samples = (self.outside + (self.inside - self.outside) * smooth).astype(np.float32)
        return gains


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order; what is closer than the ramps are long is one, so that nothing pumps."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin - merged[-1][1] < _ATTACK_MS + _RELEASE_MS + _MERGE_MS:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def layers(
    original: Path,
    parts: Sequence[VoicePart],
    kept: Sequence[tuple[int, int]],
    options: MixOptions,
    beds: Path | None = None,
) -> list[tuple[Path, Envelope]]:
    """What is heard beside the voice: sounds with their gains.

    Args:
        original: the sound of the source.
        parts: what is spoken.
        kept: spans in ms where the original is heard whatever the options say.
        options: what becomes of the rest of it.
        beds: the original without its voices, for "keep-beds".
    """
    stay = tuple(kept)
    if options.original == "duck":
        times = ((min(p.start_ms, p.slot_ms[0]), max(p.end_ms, p.slot_ms[1])) for p in parts)
        return [(original, Envelope(tuple(times), factor_of(options.duck_db), 1.0))]
    if options.original == "remove":
        return [(original, Envelope(stay, 1.0, 0.0))]
    if beds is None:
        raise ConfigError("To keep the beds, the original must be separated first; got no beds.")
    return [(beds, Envelope(stay, 0.0, 1.0)), (original, Envelope(stay, 1.0, 0.0))]


def mix(
    original: Path,
    sounds: Sequence[tuple[Path, Envelope]],
    parts: Sequence[VoicePart],
    duration_ms: int,
    out: Path,
) -> Mixed:
    """Mix the sounds and the voice into ``out``, a FLAC of 24 bits, 48 kHz, two channels.

    Its integrated loudness is that of ``original``, the true peak at most -1 dB. In passes over
    the files, block by block, so that a long film needs no more memory than a short one.
    """
    target = loudness(stereo_blocks(original), RATE)
    premix = _Premix(sounds, _levelled(original, parts), duration_ms * RATE // 1000)
    meter, peaks = LoudnessMeter(RATE, CHANNELS), PeakMeter(_FRAME, CHANNELS)
    for block in premix.blocks():
        meter.push(block)
        peaks.push(block)
    known = isfinite(target) and isfinite(meter.lufs)
    gain_db = target - meter.lufs if known else 0.0
    for attempt in range(1, _PASSES + 1):
        limiter = _Limiter.plan(peaks.peaks, factor_of(gain_db))
        made, peak = _write(premix, limiter, out)
        miss = target - made if known else 0.0
        if abs(miss) <= _NEAR_LU or attempt == _PASSES:
            break
        gain_db += miss
    return Mixed(_rounded(target), _rounded(made), _rounded(decibels(peak)), round(gain_db, 2))


def _rounded(value: float) -> float | None:
    return round(value, 2) if isfinite(value) else None


def _write(premix: "_Premix", limiter: "_Limiter", out: Path) -> tuple[float, float]:
    """Loudness and true peak of what is written."""
    meter, peaks = LoudnessMeter(RATE, CHANNELS), PeakMeter(_FRAME, CHANNELS)
    at = 0
    with soundfile.SoundFile(
        out, "w", samplerate=RATE, channels=CHANNELS, format="FLAC", subtype="PCM_24"
    ) as file:
        for block in premix.blocks():
            limited = block * limiter.gains(at, len(block))[:, None]
            file.write(limited)
            meter.push(limited)
            peaks.push(limited)
            at += len(block)
    return meter.lufs, float(peaks.peaks.max(initial=0.0))


@dataclass(frozen=True, eq=False)
class _Limiter:
    """The gain of the whole mix over time: one for all of it, and less around peaks."""

    frames: Samples

    @classmethod
    def plan(cls, peaks: Samples, gain: float) -> "_Limiter":
        """So that no peak (frames,) exceeds the ceiling: known in advance, it comes smoothly."""
        allowed = factor_of(_CEILING_DB) / np.maximum(peaks * gain, 1e-9)
        # The least is held for longer than the average is taken over, by the frames beside that
        # of the peak: where it is noted late, or a gain lies between two frames.
        width, held = 2 * _HOLD_MS + 1, 2 * (_HOLD_MS + _BESIDE) + 1
        padded = np.pad(np.minimum(allowed, 1.0), 2 * _HOLD_MS + _BESIDE, mode="edge")
        lowest = np.lib.stride_tricks.sliding_window_view(padded, held).min(axis=1)
        smooth = np.convolve(lowest, np.full(width, 1 / width), "valid")
        return cls((gain * smooth).astype(np.float32))

    def gains(self, start: int, count: int) -> Samples:
        """The gain (count,) of the samples from ``start`` on."""
        middle = (np.arange(start, start + count) + 0.5) / _FRAME - 0.5
        first = max(0, start // _FRAME - 2)
        near = self.frames[first : (start + count) // _FRAME + 3]
        gains: Samples = np.interp(middle - first, np.arange(len(near)), near).astype(np.float32)
        return gains


@dataclass(frozen=True)
class _Premix:
    """The sounds and the levelled voice, added up, ``length`` samples; can be read many times."""

    sounds: Sequence[tuple[Path, Envelope]]
    voices: Sequence[tuple[VoicePart, float]]
    length: int

    def blocks(self) -> Iterator[Block]:
        """Blocks (n, 2) float32 in order."""
        beds = [(_exactly(stereo_blocks(path), self.length), env) for path, env in self.sounds]
        voice = _VoiceTrack(self.voices)
        for at in range(0, self.length, _BLOCK):
            count = min(_BLOCK, self.length - at)
            total = np.zeros((count, CHANNELS), np.float32)
            for blocks, envelope in beds:
                total += next(blocks) * envelope.gains(at, count)[:, None]
            total += voice.read(at, count)[:, None] * np.float32(_CENTRE)
            yield total


class _VoiceTrack:
    """All lines as one track, of which only those that sound are in memory; read in order."""

    def __init__(self, voices: Sequence[tuple[VoicePart, float]]) -> None:
        self._waiting = sorted(voices, key=lambda voice: voice[0].start_ms, reverse=True)
        self._sounding: list[tuple[int, Samples]] = []

    def read(self, start: int, count: int) -> Samples:
        """The samples (count,) from ``start`` on."""
        end = start + count
        while self._waiting and _begin(self._waiting[-1][0]) < end:
            part, gain = self._waiting.pop()
            self._sounding.append((_begin(part), _line_sound(part) * np.float32(gain)))
        total = np.zeros(count, np.float32)
        for begin, samples in self._sounding:
            low, high = max(begin, start), min(begin + len(samples), end)
            if low < high:
                total[low - start : high - start] += samples[low - begin : high - begin]
        self._sounding = [(b, samples) for b, samples in self._sounding if b + len(samples) > end]
        return total


def _begin(part: VoicePart) -> int:
    return part.start_ms * RATE // 1000


def _line_sound(part: VoicePart) -> Samples:
    """A line at the mix's rate, with ends that cannot click."""
    samples, rate = soundfile.read(part.path, dtype="float32")
    made = resample(samples, rate, RATE)
    fade = min(len(made) // 2, _FADE_MS * RATE // 1000)
    ramp = np.linspace(0.0, 1.0, fade, endpoint=False, dtype=np.float32)
    ends = np.ones(len(made), np.float32)
    ends[:fade], ends[len(made) - fade :] = ramp, ramp[::-1]
    return made * ends


def _levelled(original: Path, parts: Sequence[VoicePart]) -> list[tuple[VoicePart, float]]:
    """Each part with the gain that makes it as loud as what it replaces, within 6 dB of all."""
    old = [_level_between(original, *part.slot_ms) for part in parts]
    heard = [value for value in old if isfinite(value)]
    usual = median(heard) if heard else None
    voices = []
    for part, value in zip(parts, old, strict=True):
        samples, rate = soundfile.read(part.path, dtype="float32")
        own = level(samples, rate)
        gain_db = 0.0
        if usual is not None and isfinite(own):
            near = min(max(value, usual - _LEVEL_RANGE_LU), usual + _LEVEL_RANGE_LU)
            gain_db = near - own
        voices.append((part, factor_of(gain_db)))
    return voices


def _level_between(path: Path, start_ms: int, end_ms: int) -> float:
    with soundfile.SoundFile(path) as file:
        begin = min(file.frames, start_ms * file.samplerate // 1000)
        file.seek(begin)
        frames = min(file.frames, end_ms * file.samplerate // 1000) - begin
        samples = file.read(max(0, frames), dtype="float32", always_2d=True)
        return level(samples, file.samplerate) if len(samples) else -inf


def stereo_blocks(path: Path, rate: int = RATE) -> Iterator[Block]:
    """A sound file of one or two channels at ``rate`` on two, in blocks (n, 2) float32."""
    with soundfile.SoundFile(path) as file:
        channels = range(min(CHANNELS, file.channels))
        streams = [Resampler.between(file.samplerate, rate).stream() for _ in channels]
        while len(block := file.read(file.samplerate, dtype="float32", always_2d=True)):
            yield _stereo([s.push(block[:, c].copy()) for c, s in enumerate(streams)])
        yield _stereo([stream.finish() for stream in streams])


def _stereo(channels: Sequence[Samples]) -> Block:
    if len(channels) == 1:
        return np.stack([channels[0] * np.float32(_CENTRE)] * CHANNELS, axis=1)
    return np.stack(channels, axis=1)


def _exactly(blocks: Iterator[Block], length: int) -> Iterator[Block]:
    """The same sound in blocks of ``_BLOCK``, cut or filled with silence to ``length``."""
    held = np.zeros((0, CHANNELS), np.float32)
    for at in range(0, length, _BLOCK):
        count = min(_BLOCK, length - at)
        while len(held) < count and (block := next(blocks, None)) is not None:
            held = np.concatenate([held, block])
        missing = max(0, count - len(held))
        yield np.pad(held[:count], ((0, missing), (0, 0)))
        held = held[count:]
