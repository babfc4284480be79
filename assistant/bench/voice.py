"""Times the streaming voice against Piper's own way: onnxruntime speaking the whole sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assistant.bench.timing import REST_S, interleaved
from assistant.evals.piper import piper_inputs, piper_session
from audio.tts import Reading, SpeakOptions, Voice
from audio.vocoder_graph import GraphVocoder, windows
from audio.vocoder_stream import ChunkPlan

#: About 12 s.
SENTENCE = (
    "The picture shows a small red teapot on a wooden table next to a window, with a white cup "
    "behind it and a folded newspaper in front of it, while a grey cat sleeps quietly on the chair "
    "in the warm light of the late afternoon sun."
)
_STILL = SpeakOptions(noise_scale=0.0, noise_w=0.0, seed=0)
_CALLS = 20  # of a chunk on a GPU, which is shorter than the clock's noise
NOT_RUN = "not run"


@dataclass(frozen=True)
class VoiceTimes:
    """Median seconds at one number of threads.

    whole: text to all samples, latent and sound each in one piece; streamed: text to all samples
    part by part; first: text to the first part; onnxruntime: phoneme ids to all samples.
    """

    whole: float
    streamed: float
    first: float
    onnxruntime: float


@dataclass(frozen=True)
class GraphTimes:
    """Median seconds of a first chunk on a GPU, from the latent, with its graph and without."""

    graph: float
    eager: float


@dataclass(frozen=True)
class VoiceReport:
    """All figures of a voice on one sentence; the ratios are a peer's time over ours."""

    device: str
    precision: str
    audio_s: float
    times: dict[int, VoiceTimes]  # by the number of threads
    first_chunk_s: float  # latents to the first samples, one thread
    chunked_max_abs: float
    parity_max_abs: float
    graph: GraphTimes | None

    def summary(self) -> dict[str, Any]:
        """The report as plain values, for one line of JSON."""
        one = min(self.times)
        figures = self._figures(self.times[one])
        for threads, times in self.times.items():
            if threads != one:
                more = self._figures(times)
                figures |= {f"{key}_{threads}_threads": value for key, value in more.items()}
        graph = self.graph
        chunk_s = graph.graph if graph else self.first_chunk_s
        return {
            **figures,
            "first_chunk_ms": round(1000 * chunk_s, 2),
            "chunked_max_abs": float(f"{self.chunked_max_abs:.3g}"),
            "parity_max_abs": float(f"{self.parity_max_abs:.3g}"),
            "graph_speedup": round(graph.eager / graph.graph, 2) if graph else NOT_RUN,
            "device": self.device,
            "precision": self.precision,
            "audio_s": round(self.audio_s, 2),
        }

    def _figures(self, times: VoiceTimes) -> dict[str, Any]:
        return {
            "rtf": round(times.streamed / self.audio_s, 4),
            "vs_onnxruntime": round(times.onnxruntime / times.streamed, 2),
            "vs_eager_whole": round(times.whole / times.streamed, 2),
            "first_sound_ms": round(1000 * times.first, 1),
            "first_sound_vs_piper": round(times.onnxruntime / times.first, 2),
        }


def measure_voice(
    voice: Voice,
    onnx_file: Path,
    *,
    clause: str = SENTENCE,
    threads: Sequence[int] = (1, 2),
    rounds: int = 7,
    progress: Callable[[int], None] | None = None,
) -> VoiceReport:
    """Speak one clause both ways without noise, in turn, and compare times and samples.

    Args:
        voice: as it is to be measured, in its precision and on its device.
        onnx_file: the same voice for onnxruntime, which runs on the CPU.
        clause: must be one clause with a word in it.
        threads: for torch and onnxruntime alike; the figures of the fewest have no suffix.
        rounds: values for each median.
        progress: told 1 after each of ``steps(threads, rounds)`` steps.
    """
    reading = voice.start(_STILL).read(clause)
    if reading is None:
        raise ValueError(f"expected a clause that can be spoken, got {clause!r}")
    ids = voice.ids(reading.phonemes)
    whole = _joined(_whole(voice, clause, reading))
    theirs = PiperSession(onnx_file, 1)(ids)
    times = {
        count: _times(voice, onnx_file, clause, reading, ids, count, rounds, progress)
        for count in threads
    }
    with _threads(min(threads)):
        first = interleaved({"first": lambda: next(reading.chunks())}, rounds)["first"]
    return VoiceReport(
        device=_device(voice),
        precision=str(voice.vocoder.pre.weight.dtype).removeprefix("torch."),
        audio_s=sum(reading.durations) / voice.sample_rate,
        times=times,
        first_chunk_s=first,
        chunked_max_abs=_difference(_joined(reading), whole),
        parity_max_abs=_difference(whole, theirs),
        graph=_graph_times(voice, rounds) if voice.vocoder.pre.weight.is_cuda else None,
    )


def steps(threads: Sequence[int], rounds: int) -> int:
    """How often ``measure_voice`` tells its progress."""
    return len(threads) * (rounds + 1)


class PiperSession:
    """Piper's file in onnxruntime, without noise."""

    def __init__(self, onnx_file: Path, threads: int) -> None:
        self._session = piper_session(onnx_file, threads)

    def __call__(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """All samples of the phoneme ids."""
        samples: NDArray[np.float32] = self._session.run(None, piper_inputs(ids))[0].ravel()
        return samples


def _times(
    voice: Voice,
    onnx_file: Path,
    clause: str,
    reading: Reading,
    ids: list[int],
    threads: int,
    rounds: int,
    progress: Callable[[int], None] | None,
) -> VoiceTimes:
    piper = PiperSession(onnx_file, threads)
    cases: dict[str, Callable[[], object]] = {
        "whole": lambda: _joined(_whole(voice, clause, reading)),
        "streamed": lambda: list(voice.start(_STILL).stream(clause)),
        "first": lambda: next(voice.start(_STILL).stream(clause)),
        "onnxruntime": lambda: piper(ids),
    }
    with _threads(threads):
        return VoiceTimes(**interleaved(cases, rounds, rest_s=REST_S, progress=progress))


def _whole(voice: Voice, clause: str, like: Reading) -> Reading:
    """The clause read anew, whose sound comes in one piece."""
    frames = sum(like.durations) // voice.vocoder.hop
    plan = ChunkPlan(frames, 1.0, frames)
    options = SpeakOptions(noise_scale=0.0, noise_w=0.0, seed=0, plan=plan)
    reading = voice.start(options).read(clause)
    assert reading is not None
    return reading


def _joined(reading: Reading) -> NDArray[np.float32]:
    return np.concatenate([chunk.samples for chunk in reading.chunks()])


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max()) if len(one) == len(other) else math.inf


def _graph_times(voice: Voice, rounds: int) -> GraphTimes:
    vocoder = voice.vocoder
    graphs, plan = GraphVocoder(vocoder), SpeakOptions().plan
    graphs.warm_up(plan)
    frames = max(graphs.lengths(plan))
    device = vocoder.pre.weight.device
    z = torch.randn(1, vocoder.latent, frames, device=device)
    window = next(windows(frames, graphs.margin, plan))

    def run(graph: bool) -> None:
        graphs.chunk(z, window, graph=graph)
        torch.cuda.synchronize(device)

    cases = {"graph": lambda: run(True), "eager": lambda: run(False)}
    return GraphTimes(**interleaved(cases, rounds, calls=_CALLS))


def _device(voice: Voice) -> str:
    device = voice.vocoder.pre.weight.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
