"""The finished file: the picture as it was, the dub, the original sound, and subtitles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
import soundfile
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet

from assistant.errors import VoxsightError
from assistant.jobs.dub.extract import open_source
from audio.subtitles import Cue

_FRAME = 1024  # samples that the encoder is given at once
_BIT_RATE = 160_000
_MS = Fraction(1, 1000)
#: What FFmpeg writes anew by itself, and what would not be true of the new file.
_NOT_COPIED = frozenset(
    ("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "comment")
)
NOTICE = (
    "The speech of the first audio track is synthetic: a computer voice speaks a machine "
    "translation. The original sound is the second audio track."
)
_NOTICE_ALONE = "The speech is synthetic: a computer voice speaks a machine translation."
# The encoders of subtitles want the head of an ASS script before its lines.
_ASS_HEAD = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment, MarginL, MarginR, MarginV
Style: Default,Arial,16,&Hffffff,2,10,10,10

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@dataclass(frozen=True)
class Container:
    """How a kind of file is written; ``subtitles`` "" and ``second`` False where it has no room."""

    format: str
    codec: str
    subtitles: str = ""
    picture: bool = True
    second: bool = True


#: By the ending of the file's name.
CONTAINERS: Mapping[str, Container] = MappingProxyType(
    {
        ".mp4": Container("mp4", "aac", "mov_text"),
        ".m4v": Container("mp4", "aac", "mov_text"),
        ".mov": Container("mov", "aac", "mov_text"),
        ".mkv": Container("matroska", "libopus", "subrip"),
        ".webm": Container("webm", "libopus", "webvtt"),
        ".m4a": Container("mp4", "aac", "mov_text", picture=False),
        ".mka": Container("matroska", "libopus", "subrip", picture=False),
        ".wav": Container("wav", "pcm_s16le", picture=False, second=False),
    }
)
# Sound that an .m4a can hold as it is; for the rest there is .mka.
_IN_M4A = frozenset(("aac", "alac", "mp3", "mp3float", "flac", "opus", "ac3", "eac3"))


@dataclass(frozen=True)
class Track:
    """What is new in the file: the dub's sound (FLAC or WAV at 48 kHz, stereo) and its subtitles.

    language, original_language: ISO 639-3 codes, such as eng; title: of the new track.
    """

    sound: Path
    cues: Sequence[Cue]
    language: str
    original_language: str
    title: str


def default_suffix(source: Path) -> str:
    """The ending of the dub's name: the source's own where it can be, else one that holds it."""
    suffix = source.suffix.lower()
    with closing(open_source(source)) as file:
        if _pictures(file):
            return suffix if suffix in CONTAINERS and CONTAINERS[suffix].picture else ".mkv"
        holds = file.streams.audio and file.streams.audio[0].codec_context.name in _IN_M4A
        return ".m4a" if holds else ".mka"


def picture_end_ms(source: Path) -> int | None:
    """When the last frame of the picture ends, by its packets; None without a picture."""
    with closing(open_source(source)) as file:
        pictures = _pictures(file)
        if not pictures:
            return None
        ends = [
            (packet.pts + (packet.duration or 0)) * packet.time_base
            for packet in file.demux(pictures[0])
            if packet.pts is not None
        ]
    return round(max(ends, default=Fraction(0)) * 1000)


def mux(source: Path, track: Track, out: Path) -> None:
    """Write the dubbed file; the same input gives the same bytes, on any day and any machine.

    Raises:
        VoxsightError: the kind of file that ``out`` names cannot hold the source's streams.
    """
    kind = CONTAINERS[out.suffix.lower()]
    with closing(open_source(source)) as file:
        options = {"fflags": "+bitexact"}
        if kind.format in ("mp4", "mov"):
            options["movflags"] = "+faststart"
        with av.open(str(out), "w", format=kind.format, container_options=options) as made:
            made.metadata.update(_metadata(file, kind))
            streams = [*_pictures(file)] if kind.picture else []
            copies = {stream.index: _copy(made, stream, out) for stream in streams}
            dub = _dub_stream(made, kind, track)
            for stream in file.streams.audio if kind.second else ():
                copies[stream.index] = _copy(made, stream, out)
                _describe(copies[stream.index], stream, track)
            written = [_encoded(dub, track.sound)]
            if kind.subtitles and track.cues:
                written.append(_subtitles(_subtitle_stream(made, kind, track), track.cues))
            if copies:
                written.append(_copied(file, copies))
            made.set_chapters(file.chapters())
            for packet in merge(*written, key=_time):
                made.mux(packet)


def _pictures(file: Any) -> list[Any]:
    """The streams that move; a cover is none."""
    return [s for s in file.streams.video if not s.disposition & Disposition.attached_pic]


def _metadata(file: Any, kind: Container) -> dict[str, str]:
    kept = {key: text for key, text in file.metadata.items() if key.lower() not in _NOT_COPIED}
    return {**kept, "comment": NOTICE if kind.second else _NOTICE_ALONE}


def _copy(made: Any, stream: Any, out: Path) -> Any:
    """A stream of the new file with the packets of the old one."""
    try:
        # The decoder serves as the template, as there may be no encoder for what is only copied.
        copy = made.add_stream_from_template(stream, opaque=True)
    except ValueError:
        raise VoxsightError(
            f"{out.name} cannot hold the original's {stream.type} ({stream.codec_context.name}); "
            f"choose a name that ends in {'.mkv' if stream.type == 'video' else '.mka or .mkv'}."
        ) from None
    copy.metadata.update(
        {key: text for key, text in stream.metadata.items() if key in ("language", "title")}
    )
    return copy


def _describe(copy: Any, stream: Any, track: Track) -> None:
    """The original sound: no longer what is heard by default, and said to be what it is."""
    copy.disposition = Disposition(0)
    copy.metadata.setdefault("title", "Original")
    if stream.metadata.get("language", "und") == "und" and track.original_language:
        copy.metadata["language"] = track.original_language


def _dub_stream(made: Any, kind: Container, track: Track) -> Any:
    with soundfile.SoundFile(track.sound) as sound:
        rate = sound.samplerate
    form = {"aac": "fltp", "libopus": "flt"}.get(kind.codec, "s16")
    stream = made.add_stream(kind.codec, rate=rate, layout="stereo", format=form)
    if kind.codec != "pcm_s16le":
        stream.bit_rate = _BIT_RATE
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    stream.metadata.update(
        {"language": track.language, "title": track.title, "handler_name": track.title}
    )
    stream.disposition = Disposition.default
    return stream


def _encoded(stream: Any, sound: Path) -> Iterator[Any]:
    """The packets of the dub."""
    form = stream.codec_context.format
    with soundfile.SoundFile(sound) as file:
        at = 0
        while len(block := file.read(_FRAME, dtype="float32", always_2d=True)):
            if form.name == "s16":
                block = np.rint(np.clip(block, -1, 1 - 2**-15) * 32768).astype(np.int16)
            data = block.T if form.is_planar else block.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(data), format=form.name, layout="stereo"
            )
            frame.sample_rate, frame.pts = file.samplerate, at
            frame.time_base = Fraction(1, file.samplerate)
            at += len(block)
            yield from stream.encode(frame)
        yield from stream.encode(None)


def _subtitle_stream(made: Any, kind: Container, track: Track) -> Any:
    stream = made.add_stream(kind.subtitles)
    stream.codec_context.subtitle_header = _ASS_HEAD
    stream.codec_context.time_base = _MS
    stream.metadata.update({"language": track.language, "title": "Subtitles of the dub"})
    stream.disposition = Disposition(0)
    return stream


def _subtitles(stream: Any, cues: Iterable[Cue]) -> Iterator[Any]:
    """The packets of the subtitles."""
    for number, cue in enumerate(cues):
        length = cue.end_ms - cue.start_ms
        # In ASS, braces hold commands and a backslash begins one.
        text = "\\N".join(cue.lines).replace("{", "(").replace("}", ")")
        line = f"{number},0,Default,,0,0,0,,{text}".encode()
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(line, 0, length))
        packet.stream, packet.time_base = stream, _MS
        packet.pts = packet.dts = cue.start_ms
        packet.duration = length
        yield packet


def _copied(file: Any, copies: Mapping[int, Any]) -> Iterator[Any]:
    """The source's packets, untouched but for the stream that they go to."""
    for packet in file.demux([file.streams[index] for index in copies]):
        if packet.size and packet.dts is not None:
            packet.stream = copies[packet.stream_index]
            yield packet


def _time(packet: Any) -> Fraction:
    return Fraction(packet.dts * packet.time_base)
