"""Layers that look only a few steps around them, computed piece by piece along time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from audio.errors import AudioError


class LocalLayer(Protocol):
    """A layer whose output at a step depends on its input at most `margin` steps away.

    Beyond the ends of what it is given it sees zeros.
    """

    @property
    def margin(self) -> int:
        """Input steps that an output looks at on either side."""
        ...

    @property
    def stride(self) -> int:
        """Output steps for each input step."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """(t, c) -> (t * stride, c')."""
        ...


@dataclass(frozen=True)
class ChunkPlan:
    """How many latent frames come out at a time: little first, so that sound begins early.

    Each chunk is `growth` times as long as the one before, so while one is heard the next is
    computed, up to `longest`. Raises AudioError for sizes that never come to an end.
    """

    first: int = 8
    growth: float = 2.0
    longest: int = 128

    def __post_init__(self) -> None:
        if not (1 <= self.first <= self.longest and self.growth >= 1):
            raise AudioError(
                f"A plan of chunks should have 1 <= first <= longest and a growth of at least 1 "
                f"but has first {self.first}, longest {self.longest}, growth {self.growth}."
            )

    def sizes(self) -> Iterator[int]:
        """Frames of the first chunk, the second, and so on without end."""
        size = float(self.first)
        while True:
            yield min(int(size), self.longest)
            size = min(size * self.growth, float(self.longest))


@dataclass
class LayerState:
    """What one layer keeps of one stream: the input that later outputs look back at."""

    rows: Tensor | None = None  # (t, c)
    start: int = 0  # where rows[0] lies in the stream
    done: int = 0  # input steps whose outputs have been given

    def feed(self, layer: LocalLayer, new: Tensor | None, *, last: bool) -> Tensor | None:
        """The outputs that are certain after more input (None: no more); None if there are none.

        Only the margins are computed anew, once for each call.
        """
        rows = new if self.rows is None else self.rows
        if rows is None:
            return None
        if new is not None and self.rows is not None:
            rows = torch.cat((self.rows, new))
        ready = self.start + len(rows) - (0 if last else layer.margin)
        if ready <= self.done:
            self.rows = rows
            return None
        skip, stop = self.done - self.start, ready - self.start
        out = layer(rows)[skip * layer.stride : stop * layer.stride]
        kept = max(0, stop - layer.margin)
        self.rows, self.start, self.done = rows[kept:], self.start + kept, ready
        return out


@dataclass
class VocoderState:
    """One stream on its way through a row of layers; the caller holds it."""

    layers: list[LayerState] = field(default_factory=list)

    def feed(
        self, layers: Sequence[LocalLayer], rows: Tensor | None, *, last: bool = False
    ) -> Tensor | None:
        """Take in more steps (t, c); what comes out at the end, or None if nothing does yet."""
        if not self.layers:
            self.layers = [LayerState() for _ in layers]
        with torch.inference_mode():
            for layer, state in zip(layers, self.layers, strict=True):
                rows = state.feed(layer, rows, last=last)
        return rows


def look_ahead(layers: Iterable[LocalLayer]) -> int:
    """How many steps of the first layer's input the last one's output looks at on either side."""
    steps, stride = 0.0, 1
    for layer in layers:
        steps += layer.margin / stride
        stride *= layer.stride
    return -int(-steps // 1)


def chunks(layers: Sequence[LocalLayer], rows: Tensor, plan: ChunkPlan) -> Iterator[Tensor]:
    """The layers' outputs for rows (t, c), each time at least as much as planned.

    Joined they are what the layers make of the whole, to the last bits of the arithmetic.
    """
    state, ahead, fed, wanted = VocoderState(), look_ahead(layers), 0, 0
    for size in plan.sizes():
        wanted += size
        upto = min(wanted + ahead, len(rows))
        out = state.feed(layers, rows[fed:upto], last=upto == len(rows))
        fed = upto
        if out is not None:
            yield out
        if fed == len(rows):
            return
