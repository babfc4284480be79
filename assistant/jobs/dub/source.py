"""The sound of a video or recording, block by block, each block at its own time."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.media import DEFAULT_LIMITS, MediaLimits, container_of

#: A stretch of sound of several channels: (n, channels) float32.
Block = NDArray[np.float32]

#: The only demuxer that may open a container: a playlist cannot make it open other files or a
#: socket.
_DEMUXERS = MappingProxyType(
    {
        "mp4": "mov",
        "adts": "aac",
        **{name: name for name in ("matroska", "wav", "avi", "aiff", "flac", "ogg", "mp3")},
    }
)
_HEAD_BYTES = 16
_TOLERANCE_S = 0.02  # timestamps in whole ms, and the frames of encoders that round, stray less
_FILL = 1 << 16  # samples of silence that are given at once
_RETRIES = 16  # failures to read on, one after the other, before the file counts as ended
# A mix for two ears after ITU-R BS.775: left, right. What a name does not tell goes to both.
_HALF_POWER = 0.5**0.5
_DOWNMIX = MappingProxyType(
    {
        "FL": (1.0, 0.0),
        "FR": (0.0, 1.0),
        "FC": (_HALF_POWER, _HALF_POWER),
        "LFE": (0.0, 0.0),
        "BL": (_HALF_POWER, 0.0),
        "SL": (_HALF_POWER, 0.0),
        "FLC": (_HALF_POWER, 0.0),
        "BR": (0.0, _HALF_POWER),
        "SR": (0.0, _HALF_POWER),
        "FRC": (0.0, _HALF_POWER),
    }
)


def open_source(source: Path) -> Any:
    """An ``av`` container to read from; the caller closes it.

    Raises AudioError for a file that is absent, empty, damaged, or of an unknown kind.
    """
    demuxer = _demuxer(Path(source))
    try:
        # An absolute path is never taken for a URL or a protocol such as "concat:".
        return av.open(str(Path(source).resolve()), format=demuxer, metadata_errors="ignore")
    except (av.FFmpegError, ValueError):
        raise AudioError(
            f"{source} cannot be opened, it is damaged or truncated; copy or record it again"
        ) from None


def _demuxer(source: Path) -> str:
    try:
        with source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise AudioError(f"there is no file {source}; check the name") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot read {source}: {error}") from None
    if not head:
        raise AudioError(f"{source} is empty; expected a video or a sound file")
    container = container_of(head)
    if container is not None:
        return _DEMUXERS[container]
    raise AudioError(
        f"{source} is not a video or sound file that can be read; expected mp4, mov, mkv, webm, "
        "avi, wav, flac, mp3, ogg, opus, m4a, aac or aiff content"
    )


@dataclass
class SourceSound:
    """The first audio track of a file, decoded to one or two channels at its own rate.

    Sample i of all the blocks is what the file plays at i / rate s: where packets are damaged or
    missing there is silence of their length, so that nothing after them shifts.

    rate: in Hz; channels: 1 or 2; source_channels: before the mix; has_picture: whether the file
    has a picture that moves or stands. Once the blocks are through: samples: given in all;
    filled: of them silence in place of what was lost; damaged: packets that could not be decoded.
    """

    path: Path
    limits: MediaLimits = DEFAULT_LIMITS
    rate: int = 0
    channels: int = 0
    source_channels: int = 0
    has_picture: bool = False
    samples: int = 0
    filled: int = 0
    damaged: int = 0

    def __post_init__(self) -> None:
        with closing(open_source(self.path)) as file:
            stream = self._stream(file)
            self.has_picture = bool(file.streams.video)
            self.rate, self.source_channels = stream.rate or 0, stream.channels or 1
            self.channels = min(2, self.source_channels)
            claimed_s = (file.duration or 0) / av.time_base
            self._check(claimed_s * self.rate if _tells_duration(file) else 0)

    def blocks(self) -> Iterator[Block]:
        """The sound from the file's time 0 on, in blocks of any length.

        Raises AudioError for a change of the rate, and a file beyond the limits.
        """
        self.samples = self.filled = self.damaged = 0
        with closing(open_source(self.path)) as file:
            stream = self._stream(file)
            planar = av.AudioResampler(format="fltp")
            for frame in self._frames(file, stream):
                if frame.sample_rate != self.rate:
                    raise AudioError(
                        f"{self.path} changes its sample rate from {self.rate} to "
                        f"{frame.sample_rate} Hz; convert it"
                    )
                start = self._place(frame)
                for part in planar.resample(frame):
                    mixed = self._mixed(part)
                    yield from self._silence(start - self.samples)
                    # A frame that begins before the last one ended gives what is new of it.
                    new = mixed[max(0, self.samples - start) :]
                    if len(new):
                        self.samples += len(new)
                        self._check(self.samples)
                        yield new
                    start += len(mixed)

    def _stream(self, file: Any) -> Any:
        if not file.streams.audio:
            raise AudioError(
                f"{self.path} has no audio track; expected a video with sound, or a recording"
            )
        return file.streams.audio[0]

    def _check(self, samples: float) -> None:
        self.limits.check(self.path, frames=samples, channels=self.source_channels, rate=self.rate)

    def _frames(self, file: Any, stream: Any) -> Iterator[Any]:
        """Frames that are whole; damaged packets are counted and left out."""
        for packet in self._packets(file, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            whole = [frame for frame in frames if not frame.is_corrupt]
            self.damaged += len(whole) < len(frames)
            yield from whole

    def _packets(self, file: Any, stream: Any) -> Iterator[Any]:
        """What the file holds of a track; where it is unreadable, what comes after."""
        failures = 0
        packets = file.demux(stream)
        while failures <= _RETRIES:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                failures += 1
                self.damaged += 1
                packets = file.demux(stream)  # the old iterator has ended with the error
                continue
            if packet is None:
                return
            failures = 0
            yield packet

    def _place(self, frame: Any) -> int:
        """The sample at which a frame begins; small steps of its time stamp are noise."""
        if frame.pts is None or frame.time_base is None:
            return self.samples
        stamped = round(frame.pts * frame.time_base * self.rate)
        near = abs(stamped - self.samples) <= _TOLERANCE_S * self.rate
        return self.samples if near else stamped

    def _silence(self, samples: int) -> Iterator[Block]:
        if samples > 0:
            self._check(self.samples + samples)
        while samples > 0:
            count = min(samples, _FILL)
            self.samples += count
            self.filled += count
            samples -= count
            yield np.zeros((count, self.channels), np.float32)

    def _mixed(self, frame: Any) -> Block:
        """A planar frame (channels, n) as (n, 1 or 2)."""
        planes = np.nan_to_num(frame.to_ndarray(), posinf=1.0, neginf=-1.0)
        if len(planes) > 2:
            names = [channel.name for channel in frame.layout.channels]
            both = (_HALF_POWER, _HALF_POWER)
            matrix = np.array([_DOWNMIX.get(name, both) for name in names], np.float32)
            return np.asarray(planes.T @ matrix, np.float32)
        if len(planes) != self.channels:  # the track changes between mono and stereo
            planes = np.repeat(planes.mean(axis=0, keepdims=True), self.channels, axis=0)
        return np.ascontiguousarray(planes.T, np.float32)


def _tells_duration(file: Any) -> bool:
    """Whether the container states its length; of these two FFmpeg guesses it from the size."""
    return file.format.name not in ("mp3", "aac")
