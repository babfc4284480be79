"""The vocoder on a CUDA device: one captured graph for each length of window, on its own stream."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from audio.vocoder import Vocoder
from audio.vocoder_stream import ChunkPlan, look_ahead

_WARM_UPS = 3  # runs before a capture, in which libraries choose kernels and take workspace
_GRAPHS = 8  # chunks of a plan whose windows are captured; the last one stands for all after it


@dataclass(frozen=True)
class Window:
    """A stretch of latent frames: `start` to `stop` are wanted, `low` to `high` are looked at."""

    low: int
    start: int
    stop: int
    high: int

    @property
    def length(self) -> int:
        """Frames that go into the vocoder."""
        return self.high - self.low


def windows(frames: int, margin: int, plan: ChunkPlan) -> Iterator[Window]:
    """The windows for `frames` latent frames, whose wanted parts join to the whole."""
    start = 0
    for size in plan.sizes():
        stop = min(start + size, frames)
        yield Window(max(0, start - margin), start, stop, min(frames, stop + margin))
        start = stop
        if start >= frames:
            return


Replay = Callable[[Tensor], Tensor]
"""Latents (1, c, frames) of one length -> samples."""


class GraphVocoder:
    """Streams a latent through captured graphs; shared by all streams of the device.

    A chunk is computed from its window of latents, margins and all: on a GPU launching the
    kernels costs more than the margins, and a window has a fixed length, so a graph holds it all.
    At the ends of the latent a window ends too, and the layers see the same zeros as in the whole.
    Windows of other lengths, cut off by the end of a sentence, run without a graph.

    A lock guards the buffers; a call takes less than a millisecond, so sessions take turns.
    """

    def __init__(
        self, vocoder: Vocoder, capture: Callable[[Vocoder, Tensor], Replay] | None = None
    ) -> None:
        """`capture` makes the replay for windows like an example; a CUDA graph by default."""
        self._vocoder = vocoder
        self._capture = capture or capture_graph
        self._lock = threading.Lock()
        self._replays: dict[int, Replay] = {}
        self.margin = look_ahead(vocoder.layers)

    def lengths(self, plan: ChunkPlan) -> list[int]:
        """The lengths of window that every long sentence has, in the order of their first use."""
        endless = sum(islice(plan.sizes(), 2 * _GRAPHS)) + self.margin
        steady = islice(windows(endless, self.margin, plan), _GRAPHS)
        return list(dict.fromkeys(window.length for window in steady))

    @torch.inference_mode()
    def warm_up(self, plan: ChunkPlan) -> None:
        """Capture all graphs of a plan now, so that no listener waits for it."""
        weight = self._vocoder.pre.weight
        for length in self.lengths(plan):
            z = torch.zeros(1, self._vocoder.latent, length, device=weight.device)
            with self._lock:
                self._replay(z)

    @torch.inference_mode()
    def chunk(self, z: Tensor, window: Window, *, graph: bool = True) -> Tensor:
        """x."""
        part = z[:, :, window.low : window.high]
        hop = self._vocoder.hop
        wanted = slice((window.start - window.low) * hop, (window.stop - window.low) * hop)
        if not graph:
            return whole_window(self._vocoder, part)[wanted]
        with self._lock:
            return self._replay(part)(part)[wanted]

    def chunks(self, z: Tensor, plan: ChunkPlan) -> Iterator[Tensor]:
        """The samples for z (1, latent, frames), float32, part by part."""
        known = set(self.lengths(plan))
        for window in windows(z.shape[2], self.margin, plan):
            yield self.chunk(z, window, graph=window.length in known).float()

    def _replay(self, z: Tensor) -> Replay:
        length = z.shape[2]
        if length not in self._replays:
            self._replays[length] = self._capture(self._vocoder, z)
        return self._replays[length]


def whole_window(vocoder: Vocoder, z: Tensor) -> Tensor:
    """Samples of z (1, latent, frames) in one go, in the precision of the weights."""
    x = z[0].mT
    for layer in vocoder.layers:
        x = layer(x)
    return x[:, 0]


def capture_graph(vocoder: Vocoder, example: Tensor) -> Replay:
    """A CUDA graph of the vocoder for windows like `example`, with buffers of its own."""
    stream = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
    given = example.clone()
    stream.wait_stream(torch.cuda.current_stream(example.device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            whole_window(vocoder, given)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        made = whole_window(vocoder, given)

    def replay(z: Tensor) -> Tensor:
        caller = torch.cuda.current_stream(z.device)
        stream.wait_stream(caller)
        with torch.cuda.stream(stream):
            given.copy_(z)
            graph.replay()
            samples = made.clone()  # the graph writes its own buffer again
        caller.wait_stream(stream)
        samples.record_stream(caller)
        return samples

    return replay
