"""Features of running streams: each frame is computed once, Whisper's windows are cut on demand."""

from collections.abc import Sequence

import numpy as np

from audio.errors import AudioError
from audio.features.dispatch import Kernel, kernel_for
from audio.features.log_mel import HALF, check_feature_rate, mirror_start
from audio.features.reference import FLOOR, HOP, N_FFT
from audio.pcm import SAMPLE_RATE, Samples, check_samples

WINDOW_FRAMES = 3000  # 30 s, what Whisper was trained on

_SILENCE = np.float32(np.log10(FLOOR))
_FIRST_COLUMNS = 256  # 2.6 s: most of what is said in a conversation is short
_SLACK = 512  # columns beyond those kept, so that they move once in 5 s and not at each push
_BLOCK = 1000 * HOP  # samples taken at once, which bounds the memory of a long push


class FeatureStream:
    """The log-mel frames of one stream of sound, from chunks of any size.

    Frame i is centred on sample 160 i and known as soon as sample 160 i + 199 is; the start is
    mirrored. The last ``keep_frames`` frames are kept, unclamped, and no more: memory stays flat
    however long the stream is. Chunked equals whole bit for bit: ``log10_mel`` of the whole sound
    has the same frames, but for those that its mirrored end touches.

    Args:
        n_mels: number of mel bands.
        keep_frames: how far back windows may begin.
        kernel: what computes the frames; the CPU's when left out.
    """

    def __init__(
        self, n_mels: int = 80, *, keep_frames: int = WINDOW_FRAMES, kernel: Kernel | None = None
    ) -> None:
        if keep_frames < 1:
            raise AudioError(f"expected to keep 1 or more frames, got {keep_frames}")
        self.n_mels = n_mels
        #: Samples taken so far.
        self.samples = 0
        #: Frames computed so far.
        self.frames = 0
        self._kernel = kernel or kernel_for()
        self._keep = keep_frames
        self._pending = np.zeros(0, np.float32)  # from the start of the next frame on
        self._columns = np.empty((n_mels, min(_FIRST_COLUMNS, keep_frames + _SLACK)), np.float32)
        self._held = 0  # columns in use, the last one is frame ``frames - 1``

    @property
    def first(self) -> int:
        """The earliest frame that is still kept."""
        return self.frames - min(self._held, self._keep)

    @property
    def nbytes(self) -> int:
        """Memory that the stream holds, in bytes."""
        return self._columns.nbytes + self._pending.nbytes

    def push(self, samples: Samples, *, rate: int = SAMPLE_RATE) -> int:
        """Take the next samples (n,) float32 at 16 kHz; returns how many frames became known.

        AudioError, with nothing taken, for what is not mono float32 sound at 16 kHz.
        """
        check_feature_rate(rate)
        check_samples(samples)
        return self._push(samples)

    def log10(self, begin: int, end: int) -> Samples:
        """The unclamped frames (n_mels, end - begin), all of which must be known and still kept."""
        if not self.first <= begin <= end <= self.frames:
            raise AudioError(
                f"expected frames between {self.first} and {self.frames}, got {begin} to {end}; "
                f"the stream keeps the last {self._keep}"
            )
        column = self._held - self.frames
        return self._columns[:, begin + column : end + column].copy()

    def window(self, begin: int, frames: int = WINDOW_FRAMES) -> Samples:
        """Whisper's input (n_mels, frames) float32 from frame ``begin`` on, scaled and clamped.

        What has not come yet is silence, as in ``log_mel`` with padding; the stream stays as it
        is. AudioError if ``begin`` is no longer kept.
        """
        out = np.full((self.n_mels, frames), _SILENCE, np.float32)
        known = max(begin, min(self.frames, begin + frames))
        if begin < self.frames:
            out[:, : known - begin] = self.log10(begin, known)
        rest = self._ending()[:, max(0, begin - self.frames) :][:, : begin + frames - known]
        out[:, known - begin : known - begin + rest.shape[1]] = rest
        self._kernel.clamp(out)
        return out

    def _ending(self) -> Samples:
        """The frames that the sound so far reaches into, if silence comes after it."""
        if not self.samples:
            return np.empty((self.n_mels, 0), np.float32)
        pending = self._pending
        if not self._begun:
            pending = mirror_start(np.append(pending, np.zeros(HALF, np.float32)))[:-HALF]
        touched = -(-len(pending) // HOP)
        sound = np.zeros(touched * HOP + N_FFT - HOP, np.float32)
        sound[: len(pending)] = pending
        out = np.empty((self.n_mels, touched), np.float32)
        self._kernel.log10_frames(sound, out, 0, touched)
        return out

    @property
    def _begun(self) -> bool:
        return self.samples > HALF

    def _push(self, samples: Samples) -> int:
        known = self.frames
        for start in range(0, len(samples), _BLOCK):
            frames = self._take(samples[start : start + _BLOCK])
            if frames:
                column = self._reserve(frames)
                self._kernel.log10_frames(self._pending, self._columns, column, frames)
                self._let_go(frames)
        return self.frames - known

    def _take(self, samples: Samples) -> int:
        """Hold the samples; returns how many frames can be computed now."""
        had_begun = self._begun
        self.samples += len(samples)
        self._pending = np.concatenate((self._pending, samples))
        if not self._begun:
            return 0
        if not had_begun:
            self._pending = mirror_start(self._pending)
        return max(0, (len(self._pending) - N_FFT) // HOP + 1)

    def _reserve(self, frames: int) -> int:
        """Count new frames in and return the column where the first of them is to be written."""
        if self._held + frames > self._columns.shape[1]:
            self._make_room(frames)
        column = self._held
        self._held += frames
        self.frames += frames
        return column

    def _let_go(self, frames: int) -> None:
        """Forget the samples that only the latest ``frames`` frames needed."""
        self._pending = self._pending[frames * HOP :].copy()

    def _make_room(self, count: int) -> None:
        """Double the columns up to what is kept and some slack; from then on, drop old ones."""
        limit = self._keep + max(_SLACK, count)
        kept = min(self._held, self._keep)
        old = self._columns[:, self._held - kept : self._held]
        size = self._columns.shape[1]
        if size < limit:
            self._columns = np.empty((self.n_mels, min(limit, 2 * max(size, count))), np.float32)
        self._columns[:, :kept] = old
        self._held = kept


def advance(streams: Sequence[FeatureStream], chunks: Sequence[Samples]) -> list[int]:
    """Push one chunk into each stream with one call of the kernel; returns each one's new frames.

    The same as ``push`` on each, bit for bit. The streams' samples are laid one after the other
    at multiples of a frame, so that frames of different streams fill the same vector lanes; the
    two frames that would reach from one stream into the next are not used. AudioError, with
    nothing taken, if a chunk is bad or the streams differ in bands or kernel.
    """
    if len(streams) != len(chunks):
        raise AudioError(
            f"expected one chunk for each stream, got {len(chunks)} chunks for {len(streams)}"
        )
    if len({id(stream) for stream in streams}) != len(streams):
        raise AudioError("expected different streams, got the same one twice; join its chunks")
    if len({(stream.n_mels, stream._kernel) for stream in streams}) > 1:
        raise AudioError("expected streams of one kernel and number of bands, got several")
    for chunk in chunks:
        check_samples(chunk)
    counts = [stream._take(chunk) for stream, chunk in zip(streams, chunks, strict=True)]
    ready = [(stream, count) for stream, count in zip(streams, counts, strict=True) if count]
    if not ready:
        return counts
    reach = -(-N_FFT // HOP) - 1  # frames that a stream's end reaches into
    starts = np.cumsum([0, *(count + reach for _, count in ready)]).tolist()
    sound = np.zeros(starts[-1] * HOP + N_FFT, np.float32)
    for start, (stream, count) in zip(starts, ready, strict=False):
        part = stream._pending[: count * HOP + N_FFT - HOP]
        sound[start * HOP : start * HOP + len(part)] = part
    log10 = np.empty((ready[0][0].n_mels, starts[-1]), np.float32)
    ready[0][0]._kernel.log10_frames(sound, log10, 0, starts[-1])
    for start, (stream, count) in zip(starts, ready, strict=False):
        column = stream._reserve(count)
        stream._columns[:, column : column + count] = log10[:, start : start + count]
        stream._let_go(count)
    return counts
