"""Sound files in and out: any common container to mono float32, within limits; WAV and FLAC out."""

import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import soundfile

from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE, Samples, Sound, check_samples, to_pcm16
from audio.resample import resample_blocks

_BLOCK_FRAMES = 1 << 16
_HEAD_BYTES = 1 << 16
_READABLE = "wav, flac, mp3, ogg, opus, m4a, mp4, webm, mkv, avi, aac or aiff"


@dataclass(frozen=True)
class MediaLimits:
    """What a file may hold at most; checked from its header, and again while it is decoded."""

    max_duration_s: float = 4 * 3600.0
    max_channels: int = 8
    max_rate: int = 384_000
    #: Decoded PCM in all, as float32 over all channels: what a decoder may be made to produce.
    max_decoded_bytes: int = 8 << 30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise AudioError(f"expected a positive {name}, got {value!r}")

    def check(self, path: Path, *, frames: float, channels: int, rate: int) -> None:
        """Refuse sound of ``frames`` samples per channel beyond the limits."""
        if channels > self.max_channels:
            raise AudioError(
                f"{path} has {channels} channels, at most {self.max_channels} are read; mix it down"
            )
        if not _MIN_RATE <= rate <= self.max_rate:
            raise AudioError(
                f"{path} has a sample rate of {rate} Hz, expected {_MIN_RATE} to {self.max_rate} Hz"
            )
        if frames > self.max_duration_s * rate:
            raise AudioError(
                f"{path} is longer than {self.max_duration_s:g} s, "
                "the limit for one file; cut it into parts"
            )
        if frames * channels * 4 > self.max_decoded_bytes:
            raise AudioError(
                f"{path} decodes to more than {self.max_decoded_bytes} bytes, "
                "the limit for one file; cut it into parts"
            )


_MIN_RATE = 1000
DEFAULT_LIMITS = MediaLimits()


def read_sound(
    source: Path, rate: int = SAMPLE_RATE, limits: MediaLimits = DEFAULT_LIMITS
) -> Sound:
    """Decode a sound or video file to mono at ``rate`` Hz; channels are averaged.

    The container is told by its first bytes, never by its name, and only known ones are opened:
    a playlist cannot make the reader open other files or a socket. Raises ``AudioError`` for a
    missing, empty, truncated, silent-track or foreign file and for one beyond ``limits``.
    """
    path = Path(source)
    head = _read_head(path)
    container = container_of(head)
    if container is None:
        raise AudioError(
            f"{path} is not a sound file that can be read; expected {_READABLE} content"
        )
    demuxer = _DEMUXERS.get(container)
    _check_complete(path, container, head)
    if demuxer is None:
        blocks = _soundfile_blocks(path, limits)
    else:
        blocks = _av_blocks(path, demuxer, _claims_duration(container, head), limits)
    return _collect(path, blocks, rate)


def _read_head(path: Path) -> bytes:
    if path.is_dir():
        raise AudioError(f"expected a sound file, got the folder {path}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise AudioError(f"there is no sound file {path}; check the name") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot read the sound file {path}: {error}") from None
    if not head:
        raise AudioError(f"{path} is empty; expected a sound file")
    return head


#: Containers that FFmpeg reads, with the only demuxer that each may use. MP3 is among them since
#: libsndfile fills what is missing of a truncated MP3 with silence and does not tell.
_DEMUXERS = {"mp3": "mp3", "adts": "aac", "mp4": "mov", "matroska": "matroska", "avi": "avi"}


def container_of(head: bytes) -> str | None:
    """The container by the first bytes of a file, 16 of them suffice; None for an unknown one.

    "wav", "avi", "aiff", "mp4" (also MOV), "flac", "ogg", "matroska" (also WebM), "mp3" or "adts".
    """
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] == b"ftyp":
        return "mp4"
    for magic, name in {
        b"fLaC": "flac",
        b"OggS": "ogg",
        b"\x1aE\xdf\xa3": "matroska",
        b"ID3": "mp3",
    }.items():
        if head.startswith(magic):
            return name
    # MPEG audio starts with 11 set bits; the layer field is 0 for AAC in ADTS, 1 for layer III.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "adts"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
        return "mp3"
    return None


def _check_complete(path: Path, container: str, head: bytes) -> None:
    """Refuse a truncated file where what is left would be read without a word."""
    size = path.stat().st_size
    if container in ("wav", "avi") and head[:4] == b"RIFF":
        claimed: int = struct.unpack("<I", head[4:8])[0] + 8
        # A recorder that wrote into a pipe leaves the size at 0 or at its maximum.
        streamed = claimed <= 8 or claimed >= 0xFFFFFFFF - 1024
        cut = not streamed and size + 1 < claimed
    elif container == "aiff":
        cut = size + 1 < struct.unpack(">I", head[4:8])[0] + 8
    elif container == "ogg":
        cut = not _ends_with_whole_page(path, size)
    else:
        cut = False  # the decoder itself reports it, or less comes than the header claims
    if cut:
        raise _truncated(path)


def _ends_with_whole_page(path: Path, size: int) -> bool:
    """Whether the last Ogg page (at most 65,307 bytes) is all there (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, size - 65_307))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    return len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _truncated(path: Path) -> AudioError:
    return AudioError(f"{path} is truncated: sound is missing at its end; copy or record it again")


def _soundfile_blocks(path: Path, limits: MediaLimits) -> Iterator[tuple[int, Samples]]:
    """Pairs (rate, mono samples (n,)) of a file that libsndfile reads."""
    try:
        with soundfile.SoundFile(path) as file:
            limits.check(path, frames=file.frames, channels=file.channels, rate=file.samplerate)
            done = 0
            while True:
                block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
                done += len(block)
                limits.check(path, frames=done, channels=file.channels, rate=file.samplerate)
                if not len(block):
                    break
                yield file.samplerate, block.mean(axis=1, dtype=np.float32)
            if done < file.frames:
                raise _truncated(path)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} cannot be decoded, it is damaged or truncated: {error}") from None


def _claims_duration(container: str, head: bytes) -> bool:
    """Whether the container states its length; otherwise FFmpeg only guesses it from the size."""
    if container == "mp3":
        return any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))
    return container != "adts"


def _av_blocks(
    path: Path, demuxer: str, claims_duration: bool, limits: MediaLimits
) -> Iterator[tuple[int, Samples]]:
    """Pairs (rate, mono samples (n,)) of the first audio track of a file that FFmpeg reads."""
    # An absolute path is never taken for a URL or a protocol such as "concat:".
    try:
        container = av.open(str(path.resolve()), format=demuxer, metadata_errors="ignore")
    except (av.FFmpegError, ValueError):
        raise AudioError(
            f"{path} cannot be opened, it is damaged or truncated; copy or record it again"
        ) from None
    with container:
        if not container.streams.audio:
            raise AudioError(f"{path} has no audio track; expected sound or video with sound")
        stream = container.streams.audio[0]
        claimed_s = (container.duration or 0) / av.time_base if claims_duration else 0.0
        channels, rate = stream.channels or 1, stream.rate or 0
        limits.check(path, frames=claimed_s * rate, channels=channels, rate=rate)
        frames = 0.0
        for frame in _decode(path, container, stream):
            frames += frame.samples * rate / frame.sample_rate
            limits.check(path, frames=frames, channels=len(frame.layout.channels), rate=rate)
            yield frame.sample_rate, frame.to_ndarray().mean(axis=0, dtype=np.float32)
        if frames < (claimed_s * 0.99 - 0.25) * rate:
            raise _truncated(path)


def _decode(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Frames of planar float samples; a few damaged packets are skipped, as players do."""
    planar = av.AudioResampler(format="fltp")
    packets = damaged = 0
    last_damaged = False
    try:
        for packet in container.demux(stream):
            packets += 1
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                damaged += 1
                last_damaged = bool(packet.size)
                continue
            last_damaged = last_damaged and not packet.size
            for frame in frames:
                yield from planar.resample(frame)
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"{path} cannot be decoded, it is damaged: {error}") from None
    if last_damaged:
        raise _truncated(path)
    if damaged > 3 + packets // 50:
        raise AudioError(f"{path} is damaged: {damaged} of {packets} packets cannot be decoded")


def _collect(path: Path, blocks: Iterable[tuple[int, Samples]], rate: int) -> Sound:
    """Resample the blocks as they come and join them, so only the result is held in memory."""
    rates: list[int] = []

    def checked() -> Iterator[Samples]:
        for block_rate, block in blocks:
            if block_rate != rates[0]:
                raise AudioError(
                    f"{path} changes its sample rate from {rates[0]} to {block_rate} Hz; convert it"
                )
            with _named(path):
                check_samples(block)
            yield block

    blocks = _peek(blocks, rates)
    pieces = list(resample_blocks(checked(), rates[0], rate)) if rates else []
    if not any(len(piece) for piece in pieces):
        raise AudioError(f"{path} holds no sound: it has a length of 0 s")
    return Sound(np.concatenate(pieces), rate)


def _peek(blocks: Iterable[tuple[int, Samples]], rates: list[int]) -> Iterable[tuple[int, Samples]]:
    """The same blocks, after noting the rate of the first one, if there is any."""
    iterator = iter(blocks)
    first = next(iterator, None)
    if first is None:
        return iter(())
    rates.append(first[0])

    def chained() -> Iterator[tuple[int, Samples]]:
        yield first
        yield from iterator

    return chained()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from None


def write_wav(path: Path, sound: Sound) -> None:
    """Write PCM16 mono, as WAV, or as FLAC where the name ends in ``.flac``.

    Written beside its goal and then moved there: a file by that name is whole, or as it was.
    """
    path = Path(path)
    if path.is_dir():
        raise AudioError(f"expected the name of a sound file to write, got the folder {path}")
    kind = "FLAC" if path.suffix.lower() == ".flac" else "WAV"
    pcm = to_pcm16(sound.samples)
    try:
        with _replacing(path) as file:
            soundfile.write(file, pcm, sound.rate, format=kind, subtype="PCM_16")
    except OSError as error:
        raise AudioError(f"cannot write the sound file {path}: {error.strerror}") from None
    except (soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(f"cannot write the sound file {path}: {error}") from None


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file in the same folder that takes the name ``path`` when all went well."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
