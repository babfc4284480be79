"""How well dubbing works: a film of recordings is dubbed, and the written file is measured."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyloudnorm
from numpy.typing import NDArray

from assistant.errors import ConfigError, VoxsightError
from assistant.evals.asr import Recording, read_transcripts
from assistant.evals.dub_video import make_film, sample_clips
from assistant.jobs.dub.job import DubOptions, Progress, dub
from assistant.jobs.dub.lines import FASTEST_RATE, SLOWEST_RATE
from assistant.jobs.dub.report import IN_SLOT_MS
from assistant.jobs.dub.speak import Listener, quiet_ms, understood
from assistant.loading import Models
from audio.asr_types import RecogniseOptions
from audio.pcm import SAMPLE_RATE, Samples, Sound
from audio.resample import resample

_STEP_MS = 10
# The old voice goes on 24 dB below the new one: what is less than 21 below its loudest is it.
_QUIET_DB = -21.0
_AROUND_MS = 120  # of sound around a line that the recogniser hears with it


@dataclass(frozen=True)
class MeasuredLine:
    """A line as it is found in the written file; times in ms.

    slot: from where the original begins to where it ends, borrowed pause included, and end_ms:
    where the dub ends, both by the loudness of their tracks; silence_ms: in the slot, and
    original_silence_ms: of the original there; errors of words: of the recogniser against the
    wording.
    """

    number: int
    language: str
    original: str
    wording: str
    slot: tuple[int, int]
    end_ms: int
    rate: float
    silence_ms: int
    original_silence_ms: int
    heard: str
    errors: int
    words: int

    @property
    def end_error_ms(self) -> int:
        """How far from the end of its slot the line ends; > 0 is late."""
        return self.end_ms - self.slot[1]


@dataclass(frozen=True)
class DubMeasures:
    """What ``measure_dub`` found; see ``summary``."""

    source: Path
    out: Path
    lines: tuple[MeasuredLine, ...]
    kept: int
    loudness_delta_lu: float
    av_end_delta_ms: int
    video_identical: bool

    def summary(self) -> dict[str, float | int | bool]:
        """The figures that are compared over time.

        Lines that keep their original count in ``kept`` and, as missed, in
        ``lines_in_slot_with_kept``; all else is of the lines that were dubbed.
        """
        count = max(1, len(self.lines))
        slots = sum(line.slot[1] - line.slot[0] for line in self.lines)
        in_slot = sum(abs(line.end_error_ms) <= IN_SLOT_MS for line in self.lines)
        in_range = sum(SLOWEST_RATE <= line.rate <= FASTEST_RATE for line in self.lines)
        words = sum(line.words for line in self.lines)
        return {
            "lines": len(self.lines),
            "lines_in_slot": round(in_slot / count, 4),
            "kept": self.kept,
            "lines_in_slot_with_kept": round(in_slot / max(1, len(self.lines) + self.kept), 4),
            "rate_in_range": round(in_range / count, 4),
            "silence_in_slot": round(sum(x.silence_ms for x in self.lines) / max(1, slots), 4),
            "silence_of_original": round(
                sum(x.original_silence_ms for x in self.lines) / max(1, slots), 4
            ),
            "back_wer": round(sum(line.errors for line in self.lines) / max(1, words), 4),
            "loudness_delta_lu": self.loudness_delta_lu,
            "av_end_delta_ms": self.av_end_delta_ms,
            "video_identical": self.video_identical,
        }


def measure_dub(
    models: Models,
    work: Path,
    *,
    data: Path | None = None,
    languages: Sequence[str] | None = None,
    options: DubOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> DubMeasures:
    """Make a film of recordings with pauses between them, dub it, and measure the result.

    Args:
        models: the recogniser must know many languages, as whisper-base does.
        work: a folder for the film, the dub and its stages; what is there is used again.
        data: recordings with ``transcripts.tsv``; the store's sample speech when left out, which
            makes two minutes.
        languages: of the recordings; all of them when left out.
        options: of the dub.
        progress: told of each step of the dub.

    Raises:
        ConfigError: there are no recordings, or none in the languages.
    """
    clips = _recordings(models, data, languages)
    work.mkdir(parents=True, exist_ok=True)
    film = work / "film.mp4"
    make_film(clips, film)
    report = dub(film, work / "dubbed.mp4", options, models=models, progress=progress)
    rows = json.loads((report.folder / "report.json").read_text(encoding="utf-8"))
    return measure_file(film, report.out, rows, models.recogniser)


def _recordings(
    models: Models, data: Path | None, languages: Sequence[str] | None
) -> list[Recording]:
    if data is None:
        clips = sample_clips(models.folder("sample-speech"), languages)
    else:
        known = read_transcripts(data)
        clips = [one for one in known if languages is None or one.language in languages]
    if not clips:
        wanted = ", ".join(languages or ())
        raise ConfigError(
            f"Expected recordings in {wanted or 'any language'} in {data or 'the sample speech'}, "
            "found none; name a language that there is, or leave it out."
        )
    return clips


def measure_file(
    source: Path, out: Path, report: Mapping[str, Any], listener: Listener
) -> DubMeasures:
    """Measure a dubbed file against its source; ``report`` tells the lines, slots and wordings.

    All else is taken from the file: when the voice ends, how much of a slot is silent, what a
    recogniser understands, how loud it is, and the picture.
    """
    dubbed, rate = decode_track(out, 0)
    original, original_rate = decode_track(out, 1)
    meters = (
        pyloudnorm.Meter(rate).integrated_loudness(dubbed),
        pyloudnorm.Meter(original_rate).integrated_loudness(original),
    )
    sounds = (
        Sound(dubbed.mean(axis=1, dtype=np.float32), rate),
        Sound(original.mean(axis=1, dtype=np.float32), original_rate),
    )
    lines = report["lines"]
    following = [row["slot_ms"][0] for row in lines[1:]] + [len(dubbed) * 1000 // rate]
    return DubMeasures(
        source=source,
        out=out,
        lines=tuple(
            _measure_line(row, until, sounds, listener, report["language"])
            for row, until in zip(lines, following, strict=True)
        ),
        kept=len(report["kept"]),
        loudness_delta_lu=round(float(meters[0] - meters[1]), 2),
        av_end_delta_ms=_end_delta_ms(out),
        video_identical=picture_hash(source) == picture_hash(out),
    )


def _measure_line(
    row: Mapping[str, Any],
    until_ms: int,
    sounds: tuple[Sound, Sound],
    listener: Listener,
    language: str,
) -> MeasuredLine:
    dubbed, original = sounds
    start, stop = row["slot_ms"]
    # Both are looked for in the same way, each up to where something else begins.
    old = _voice(original, start - _AROUND_MS, min(until_ms, stop + _AROUND_MS))
    slot = (old[0], old[-1] + _STEP_MS + row["borrowed_ms"])
    last = min(until_ms, max(row["spoken_ms"][1], stop + row["borrowed_ms"]) + _AROUND_MS)
    loud = _voice(dubbed, start, last)
    heard = _hear(_cut(dubbed, start - _AROUND_MS, last), dubbed.rate, listener, language)
    errors, words = understood(row["wording"], heard, language)
    return MeasuredLine(
        number=row["number"],
        language=row["from"],
        original=row["original"],
        wording=row["wording"],
        slot=slot,
        end_ms=loud[-1] + _STEP_MS,
        rate=row["rate"] / row["stretch"],
        silence_ms=quiet_ms([at - slot[0] for at in loud], slot[1] - slot[0]),
        original_silence_ms=quiet_ms([at - slot[0] for at in old], old[-1] + _STEP_MS - slot[0]),
        heard=heard,
        errors=errors,
        words=words,
    )


def _voice(sound: Sound, start_ms: int, end_ms: int) -> list[int]:
    """When (ms, rising) somebody is heard; ``start_ms`` if nobody is."""
    start_ms = max(0, start_ms)
    found = loud_steps(_cut(sound, start_ms, end_ms), sound.rate)
    return [start_ms + at for at in found] or [start_ms]


def _cut(sound: Sound, start_ms: int, end_ms: int) -> Samples:
    return sound.samples[max(0, start_ms) * sound.rate // 1000 : end_ms * sound.rate // 1000]


def loud_steps(samples: Samples, rate: int) -> list[int]:
    """When (ms, rising) a voice is heard: steps of 10 ms near the loudest ones."""
    step = rate * _STEP_MS // 1000
    steps = len(samples) // step
    powers = np.square(samples[: steps * step].reshape(steps, step)).mean(axis=1)
    if not steps:
        return []
    level = float(np.percentile(powers, 95)) * 10 ** (_QUIET_DB / 10)
    return [int(at) * _STEP_MS for at in np.flatnonzero(powers > level)]


def _hear(samples: Samples, rate: int, listener: Listener, language: str) -> str:
    sound = Sound(resample(samples, rate, SAMPLE_RATE), SAMPLE_RATE)
    options = RecogniseOptions(language=language, temperatures=(0.0,))
    return listener.transcribe(sound, options).text.strip()


def decode_track(path: Path, number: int) -> tuple[NDArray[np.float32], int]:
    """An audio track of a file: samples (n, channels) and their rate."""
    with av.open(str(path)) as file:
        if number >= len(file.streams.audio):
            raise VoxsightError(f"Expected {number + 1} audio tracks in {path}, found fewer.")
        stream = file.streams.audio[number]
        planar = av.AudioResampler(format="fltp")
        parts = [
            np.asarray(part.to_ndarray(), np.float32).T
            for frame in file.decode(stream)
            for part in planar.resample(frame)
        ]
        return np.concatenate(parts), int(stream.rate)


def picture_hash(path: Path) -> str:
    """The picture's packets with their times in ms, and its decoded frames, as one hash."""
    digest = hashlib.sha256()
    for packet in _packets(path, "video"):
        digest.update(f"{round(packet.pts * packet.time_base * 1000)} ".encode())
        digest.update(bytes(packet))
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            for plane in frame.planes:
                digest.update(bytes(plane))
    return digest.hexdigest()


def _end_delta_ms(path: Path) -> int:
    """Between the ends of the picture and of the first audio track."""
    ends = [
        max(Fraction(p.pts + p.duration) * p.time_base for p in _packets(path, kind))
        for kind in ("video", "audio")
    ]
    return abs(round(float(ends[0] - ends[1]) * 1000))


def _packets(path: Path, kind: str) -> Iterator[Any]:
    """The packets of the first stream of a kind."""
    with av.open(str(path)) as file:
        for packet in file.demux(getattr(file.streams, kind)[0]):
            if packet.size and packet.pts is not None:
                yield packet
