"""Times our log-mel against the libraries that others would take, and checks that it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from assistant.bench.timing import interleaved
from assistant.evals.asr import Recording
from audio.asr import RecogniseOptions, Recogniser
from audio.features import reference
from audio.features.log_mel import log_mel
from audio.features.reference import HOP, N_FFT, RANGE, mel_filters
from audio.features.stream import WINDOW_FRAMES, FeatureStream, advance
from audio.media import read_sound
from audio.pcm import SAMPLE_RATE, Samples

WINDOW = 30 * SAMPLE_RATE
TICK = SAMPLE_RATE // 10
#: Bands of Whisper's models: 80 up to large-v2, 128 for large-v3.
BANDS = (80, 128)
_GROWTH_S = (1, 10, 60, 600, 3600)
_TICKS = 300  # per timed run: one alone is shorter than the clock's noise
_CALLS = 4  # of each extractor in a row, so that each finds its own data in the cache
_STREAMS = 64

Extract = Callable[[Samples], Any]


@dataclass(frozen=True)
class TextParity:
    """Of ``texts`` recordings, how many give the same words as from faster-whisper's features.

    In float32 and in int8: there a difference in the last bits, which any two ways to compute the
    features have, turns into another rounding of the activations and may tip a near tie.
    """

    texts: int
    texts_identical: int
    texts_identical_int8: int


@dataclass(frozen=True)
class FeatureReport:
    """Medians in µs, one thread each; a ratio is a peer's time over ours."""

    rounds: int
    #: 30 s, 80 bands, by extractor; ours is "voxsight".
    window_us: dict[str, float]
    #: A 100 ms chunk into a running stream, and what extracting that chunk or the window costs.
    tick_us: dict[str, float]
    #: Time for a second of sound pushed in ticks, by the length of the stream in s.
    second_us: dict[int, float]
    #: One tick of ``_STREAMS`` streams, pushed one by one and in one batched call.
    streams_us: dict[str, float]
    #: Bytes held by a stream when its window is full, and after an hour.
    stream_bytes: tuple[int, int]
    errors: dict[int, float]  # largest difference from the definition, by bands
    max_abs_error_whisper: float
    texts: TextParity | None = None

    def ratio(self, peer: str) -> float | None:
        """The peer's time for 30 s over ours; None for a peer that is not installed."""
        theirs = self.window_us.get(peer)
        return None if theirs is None else round(theirs / self.window_us["voxsight"], 2)

    def summary(self) -> dict[str, Any]:
        """The report as plain values, for one line of JSON."""
        tick = self.tick_us["voxsight"]
        return {
            "vs_faster_whisper": self.ratio("faster-whisper"),
            "vs_torch_stft": self.ratio("torch.stft"),
            "vs_torchaudio": self.ratio("torchaudio"),
            "vs_kaldi_native_fbank": self.ratio("kaldi-native-fbank"),
            "tick_vs_chunk": round(self.tick_us["chunk alone"] / tick, 2),
            "tick_vs_window": round(self.tick_us["window again"] / tick, 1),
            "growth": round(max(self.second_us.values()) / min(self.second_us.values()), 3),
            "max_abs_error": max(self.errors.values()),
            "max_abs_error_whisper": self.max_abs_error_whisper,
            **{key: value for key, value in asdict(self).items() if key not in ("errors", "texts")},
            **(asdict(self.texts) if self.texts else {}),
        }


def measure_features(
    speech: Samples, *, rounds: int = 15, progress: Callable[[int], None] | None = None
) -> FeatureReport:
    """Measure on one core and compare with the reference and transformers on ``speech`` (n,).

    ``progress`` is told 1 after each of ``steps(rounds)`` steps.
    """
    step = progress or (lambda _: None)
    sound = speech_window(speech)
    with one_thread():
        window = interleaved(_extractors(sound), rounds, calls=_CALLS, progress=step)
        ticks = _time_ticks(sound, rounds, step)
        seconds, held = _time_growth(sound, step)
        streams = _time_streams(sound, rounds, step)
        errors = {bands: _error(sound, bands) for bands in BANDS}
        whisper = _whisper_error(speech)
    return FeatureReport(
        rounds=rounds,
        window_us=_microseconds(window),
        tick_us=_microseconds(ticks),
        second_us=seconds,
        streams_us=_microseconds(streams),
        stream_bytes=held,
        errors=errors,
        max_abs_error_whisper=whisper,
    )


def steps(rounds: int) -> int:
    """How often ``measure_features`` tells its progress."""
    return 3 * (rounds + 1) + len(_GROWTH_S)


def speech_window(speech: Samples) -> Samples:
    """30 s of sound: the speech, repeated, over a little noise so that no band is ever empty."""
    noise = np.random.default_rng(0).standard_normal(WINDOW).astype(np.float32) * np.float32(1e-3)
    return np.resize(speech, WINDOW) + noise


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps every thread pool in the process to one thread, ours and the peers'."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _extractors(sound: Samples) -> dict[str, Callable[[], Any]]:
    """What makes 80 bands of 30 s, ready to be timed; a peer that is not installed is left out."""
    extractors: dict[str, Extract] = {
        "voxsight": log_mel,
        "faster-whisper": faster_whisper_extractor(80),
        "torch.stft": TorchLogMel(80),
        "torchaudio": _torchaudio_extractor(),
    }
    kaldi = _kaldi_extractor()
    if kaldi is not None:
        extractors["kaldi-native-fbank"] = kaldi
    return {name: partial(extract, sound) for name, extract in extractors.items()}


def faster_whisper_extractor(n_mels: int) -> Extract:
    """faster-whisper's own features (n_mels, n // 160) float32."""
    from faster_whisper.feature_extractor import FeatureExtractor

    extractor = FeatureExtractor(feature_size=n_mels)
    return lambda samples: extractor(samples)[:, : len(samples) // HOP]


class TorchLogMel:
    """Whisper's log-mel as openai/whisper computes it: torch.stft and a dense mel product."""

    def __init__(self, n_mels: int, device: str = "cpu") -> None:
        self._window = torch.hann_window(N_FFT, device=device)
        self._filters = torch.from_numpy(mel_filters(n_mels).astype(np.float32)).to(device)

    def __call__(self, samples: Samples | torch.Tensor) -> torch.Tensor:
        """(n,) or (rows, n) to (n_mels, n // 160) or (rows, n_mels, n // 160)."""
        sound = torch.as_tensor(samples)
        spectrum = torch.stft(sound, N_FFT, HOP, window=self._window, return_complex=True)
        mel = self._filters @ spectrum[..., :-1].abs().square()
        return _whisper_scale(mel)


def _torchaudio_extractor() -> Extract:
    spectrogram = torchaudio.transforms.MelSpectrogram(
        *(SAMPLE_RATE, N_FFT, N_FFT, HOP), n_mels=80, norm="slaney", mel_scale="slaney"
    )
    return lambda samples: _whisper_scale(spectrogram(torch.from_numpy(samples))[..., :-1])


def _whisper_scale(mel: torch.Tensor) -> torch.Tensor:
    log10 = mel.clamp(min=1e-10).log10()
    peak = log10.amax(dim=(-2, -1), keepdim=True)
    return (torch.maximum(log10, peak - RANGE) + 4.0) / 4.0


def _kaldi_extractor() -> Extract | None:
    """Kaldi's streaming filter bank: other features at the same price list, so for cost only."""
    try:
        import kaldi_native_fbank as kaldi
    except ImportError:
        return None
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 80

    def extract(samples: Samples) -> int:
        bank = kaldi.OnlineFbank(options)
        bank.accept_waveform(SAMPLE_RATE, samples.tolist())
        bank.input_finished()
        for frame in range(bank.num_frames_ready):
            bank.get_frame(frame)
        return int(bank.num_frames_ready)

    return extract


def _time_ticks(sound: Samples, rounds: int, step: Callable[[int], None]) -> dict[str, float]:
    """A 100 ms tick of a stream whose window is full, against extracting it, or all, again."""
    stream = FeatureStream()
    stream.push(sound)
    chunks = sound[: _TICKS * TICK].reshape(_TICKS, TICK)
    extract = faster_whisper_extractor(80)

    def ticks() -> None:
        for chunk in chunks:
            stream.push(chunk)

    def alone() -> None:
        for chunk in chunks:
            extract(chunk)

    def again() -> None:
        extract(sound)

    cases = {"voxsight": ticks, "chunk alone": alone, "window again": again}
    times = interleaved(cases, rounds, progress=step)
    per_run = {"voxsight": _TICKS, "chunk alone": _TICKS, "window again": 1}
    return {name: times[name] / runs for name, runs in per_run.items()}


def _time_growth(
    sound: Samples, step: Callable[[int], None]
) -> tuple[dict[int, float], tuple[int, int]]:
    """µs for each second of streams of growing length, and the bytes held at 40 s and 1 h."""
    second_us: dict[int, float] = {}
    ticks = sound.reshape(-1, TICK)

    def listen(stream: FeatureStream, seconds: int) -> None:
        for tick in range(10 * seconds):
            stream.push(ticks[tick % len(ticks)])

    full, hour = FeatureStream(), FeatureStream()
    listen(full, 40)
    for seconds in _GROWTH_S:
        hour = FeatureStream()
        # As much sound for each length, so that the noise of the clock is the same.
        repeats = max(1, 120 // seconds)
        times = interleaved(
            {"run": lambda s=seconds: listen(FeatureStream(), s)},  # type: ignore[misc]
            *(3 if seconds < 600 else 1,),
            calls=repeats,
        )
        second_us[seconds] = round(times["run"] / seconds * 1e6, 2)
        step(1)
    listen(hour, 3600)
    return second_us, (full.nbytes, hour.nbytes)


def _time_streams(sound: Samples, rounds: int, step: Callable[[int], None]) -> dict[str, float]:
    """One tick of many streams, one after the other and in one batched call."""
    one_by_one = [FeatureStream() for _ in range(_STREAMS)]
    batched = [FeatureStream() for _ in range(_STREAMS)]
    chunks = list(sound[: _STREAMS * TICK].reshape(_STREAMS, TICK))

    def push() -> None:
        for stream, chunk in zip(one_by_one, chunks, strict=True):
            stream.push(chunk)

    cases = {"one by one": push, "batched": lambda: advance(batched, chunks)}
    return interleaved(cases, rounds, progress=step)


def _error(sound: Samples, n_mels: int) -> float:
    """Largest difference from the definition, whole and streamed in ticks of uneven size."""
    wanted = reference.log_mel(sound, n_mels)
    whole = float(np.abs(log_mel(sound, n_mels) - wanted).max())
    stream = FeatureStream(n_mels)
    for chunk in np.split(sound, range(777, len(sound), 4321)):
        stream.push(chunk)
    streamed: NDArray[np.float64] = np.abs(stream.window(0) - wanted)
    # the whole is mirrored at its end, where the stream has silence
    return max(whole, float(streamed[:, :-2].max()))


class FasterWhisperStream(FeatureStream):
    """A stream that cuts its windows from faster-whisper's own features, to compare texts."""

    def __init__(self, n_mels: int) -> None:
        super().__init__(n_mels)
        self._sound = np.zeros(0, np.float32)
        self._extract = faster_whisper_extractor(n_mels)

    def push(self, samples: Samples, *, rate: int = SAMPLE_RATE) -> int:
        """As ``FeatureStream.push``."""
        self._sound = np.concatenate((self._sound, samples))
        return super().push(samples, rate=rate)

    def window(self, begin: int, frames: int = WINDOW_FRAMES) -> Samples:
        """As ``FeatureStream.window``: silence after the sound."""
        silence = np.zeros(max(0, (begin + frames) * HOP - len(self._sound)), np.float32)
        mel: Samples = self._extract(np.concatenate((self._sound, silence)))
        return np.ascontiguousarray(mel[:, begin : begin + frames])


def _whisper_error(speech: Samples) -> float:
    """Largest difference from transformers' extractor on real speech, both band counts."""
    from transformers import WhisperFeatureExtractor

    errors = []
    speech = speech[:WINDOW]
    for bands in BANDS:
        theirs = WhisperFeatureExtractor(feature_size=bands)(
            speech, sampling_rate=SAMPLE_RATE, return_tensors="np"
        )["input_features"][0]
        ours = log_mel(speech, bands, WINDOW - len(speech))
        errors.append(float(np.abs(ours - theirs).max()))
    return max(errors)


def compare_texts(
    folder: Path, recordings: Sequence[Recording], progress: Callable[[int], None]
) -> TextParity:
    """Recognise recordings with the Whisper model in ``folder`` from both kinds of features.

    ``progress`` is told 1 twice for each recording.
    """
    same = {"float32": 0, "int8": 0}
    for compute_type in same:
        ours = Recogniser.load(folder, threads=1, compute_type=compute_type)
        theirs = ours.with_features(FasterWhisperStream)
        for recording in recordings:
            sound = read_sound(recording.path)
            options = RecogniseOptions(language=recording.language)
            texts = [one.transcribe(sound, options).text for one in (ours, theirs)]
            same[compute_type] += texts[0] == texts[1]
            progress(1)
    return TextParity(len(recordings), same["float32"], same["int8"])


def _microseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value * 1e6, 2) for name, value in seconds.items()}
