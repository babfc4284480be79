"""Small material for tests of dubbing: lines, a voice that hums, films of a second."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from assistant.jobs.dub.lines import FittedLine, Line, SpokenLine
from assistant.jobs.dub.voices import Said
from audio.asr_types import RecogniseOptions
from audio.pcm import Samples, Sound
from audio.spoken_words import SpokenWord

VOICE_RATE = 22_050


def line(number: int = 1, start: int = 1000, end: int = 3000, free: int = 500, **own: Any) -> Line:
    values: dict[str, Any] = {"language": "de", "speaker": "A", "original": "Guten Tag."}
    return Line(number, start, end, free, **{**values, **own})


def fitted(of: Line | None = None, wording: str = "Good day to you.", **own: Any) -> FittedLine:
    of = of or line()
    values: dict[str, Any] = {
        "rate": 1.0,
        "stretch": 1.0,
        "start_ms": of.start_ms,
        "end_ms": of.end_ms,
        "borrowed_ms": 0,
        "seed": 0,
    }
    return FittedLine(of, wording, **{**values, **own})


def spoken(of: FittedLine | None = None, **own: Any) -> SpokenLine:
    of = of or fitted()
    texts = of.wording.split()
    each = (of.end_ms - of.start_ms) // len(texts)
    words = tuple(
        (text, of.start_ms + at * each, of.start_ms + (at + 1) * each)
        for at, text in enumerate(texts)
    )
    values: dict[str, Any] = {
        "start_ms": of.start_ms,
        "end_ms": of.end_ms,
        "words": words,
        "back_text": of.wording,
        "back_wer": 0.0,
        "silence_ms": 0,
    }
    return SpokenLine(of, **{**values, **own})


@dataclass(frozen=True)
class HummingVoice:
    """0.1 s of hum for each letter, a little more or less by the seed."""

    name: str = "hum"
    sample_rate: int = VOICE_RATE
    each_s: float = 0.1

    def measure(self, text: str, rate: float, seed: int) -> int:
        letters = sum(map(str.isalpha, text))
        return round(letters * self.each_s / rate * (1 + 0.01 * seed) * self.sample_rate)

    def say(self, text: str, rate: float, seed: int) -> Said:
        count = self.measure(text, rate, seed)
        times = np.arange(count) / self.sample_rate
        samples = (0.3 * np.sin(2 * np.pi * (200 + seed) * times)).astype(np.float32)
        texts = text.split()
        edges = np.linspace(0, count, len(texts) + 1).astype(int).tolist()
        words = (SpokenWord(*each) for each in zip(texts, edges, edges[1:], strict=False))
        return Said(samples, tuple(words))


@dataclass(frozen=True)
class Text:
    text: str


@dataclass
class Ear:
    """Hears what it is told, in turn, and the last one for ever after."""

    texts: list[str]
    options: list[RecogniseOptions] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)

    def transcribe(self, sound: Sound, options: RecogniseOptions) -> Text:
        self.options.append(options)
        self.sounds.append(sound)
        return Text(self.texts.pop(0) if len(self.texts) > 1 else self.texts[0])


def noise(seconds: float, rate: int = 48_000, level: float = 0.1, channels: int = 2) -> Samples:
    """(n, channels) float32."""
    shape = (round(seconds * rate), channels)
    return (level * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def write_sound(path: Path, samples: Samples, rate: int = 48_000) -> Path:
    soundfile.write(path, samples, rate, subtype="PCM_24")
    return path


def write_film(
    path: Path,
    sound: Samples | None,
    *,
    seconds: float = 3.0,
    rate: int = 48_000,
    layout: str = "stereo",
    picture: str | None = "mpeg4",
    steps_ms: tuple[int, ...] = (40,),
) -> Path:
    """A film with the sound (n, channels); no sound or no picture where these are None."""
    with av.open(str(path), "w") as file:
        codec = "libopus" if path.suffix == ".webm" else "aac"
        video = file.add_stream(picture, rate=25) if picture else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
        form = "flt" if codec == "libopus" else "fltp"
        own = {"rate": rate, "layout": layout, "format": form}
        audio = None if sound is None else file.add_stream(codec, **own)
        time, number = 0, 0
        while video is not None and time < seconds * 1000:
            pixels = np.full((48, 64, 3), number * 5 % 256, np.uint8)
            pixels[:, number % 64] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            file.mux(video.encode(frame))
            time += steps_ms[number % len(steps_ms)]
            number += 1
        if video is not None:
            file.mux(video.encode(None))
        if audio is not None:
            _encode(file, audio, sound, rate, layout)
    return path


def _encode(file: Any, audio: Any, sound: Any, rate: int, layout: str) -> None:
    form = audio.codec_context.format
    for at in range(0, len(sound), 960):
        block = sound[at : at + 960]
        data = block.T if form.is_planar else block.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data), format=form.name, layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        file.mux(audio.encode(frame))
    file.mux(audio.encode(None))


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[bytes, int, int]]:
    """Each packet's bytes, time and length in ms."""
    with av.open(str(path)) as file:
        stream = getattr(file.streams, kind)[number]
        return [
            (
                bytes(packet),
                round(packet.pts * packet.time_base * 1000),
                round((packet.duration or 0) * packet.time_base * 1000),
            )
            for packet in file.demux(stream)
            if packet.size and packet.pts is not None
        ]
