"""Local layers fed piece by piece make what they make of the whole, and keep only their margins."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from audio.errors import AudioError
from audio.vocoder_stream import ChunkPlan, LayerState, VocoderState, chunks, look_ahead


@dataclass
class _Sum:
    """Adds up the steps within the margin, each output step `stride` times, in whole numbers."""

    margin: int
    stride: int
    seen: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        around = F.pad(x, (0, 0, self.margin, self.margin)).unfold(0, 2 * self.margin + 1, 1)
        scale = torch.arange(1, self.stride + 1).repeat(len(x))[:, None]
        return around.sum(-1).repeat_interleave(self.stride, 0) * scale % 1009


def _whole(layers: list[_Sum], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


_LAYERS = st.lists(st.builds(_Sum, st.integers(0, 7), st.integers(1, 4)), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(layers=_LAYERS, sizes=st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_any_pieces_make_the_whole(layers: list[_Sum], sizes: list[int]) -> None:
    x = torch.randint(0, 100, (sum(sizes) + 1, 2))
    state, made = VocoderState(), []
    for number, piece in enumerate(x.split([*sizes, 1])):
        out = state.feed(layers, piece, last=number == len(sizes))
        if out is not None:
            made.append(out)
    assert torch.equal(torch.cat(made), _whole(layers, x))
    for layer, held in zip(layers, state.layers, strict=True):
        assert held.rows is not None
        assert len(held.rows) <= layer.margin


@settings(max_examples=100, deadline=None)
@given(layers=_LAYERS, frames=st.integers(1, 200), first=st.integers(1, 20), growth=st.floats(1, 4))
def test_chunks_keep_to_the_plan(
    layers: list[_Sum], frames: int, first: int, growth: float
) -> None:
    plan = ChunkPlan(first, growth, 40)
    x = torch.randint(0, 100, (frames, 1))
    parts = list(chunks(layers, x, plan))
    assert torch.equal(torch.cat(parts), _whole(layers, x))
    scale = len(torch.cat(parts)) // frames
    due = torch.tensor([size for size, _ in zip(plan.sizes(), parts, strict=False)]).cumsum(0)
    given_so_far = torch.tensor([len(part) for part in parts]).cumsum(0)
    assert (given_so_far >= (due * scale).clamp(max=frames * scale)).all()


def test_a_step_depends_on_what_lies_within_the_look_ahead_only() -> None:
    layers = [_Sum(3, 2), _Sum(5, 4), _Sum(9, 1)]
    assert look_ahead(layers) == 7  # 3 + 5 / 2 + 9 / 8
    x = torch.randint(0, 100, (60, 1))
    other = x.clone()
    other[30 + 8 :] += 1
    assert torch.equal(_whole(layers, x)[: 31 * 8], _whole(layers, other)[: 31 * 8])


def test_only_margins_are_computed_again() -> None:
    layer = _Sum(4, 1)
    parts = list(chunks([layer], torch.zeros(200, 1), ChunkPlan(20, 1.0, 20)))
    assert len(parts) == 10
    assert layer.seen <= 200 + 9 * 2 * layer.margin


def test_nothing_comes_of_nothing() -> None:
    assert LayerState().feed(_Sum(1, 1), None, last=True) is None
    assert VocoderState().feed([_Sum(3, 1)], torch.zeros(2, 1)) is None


def test_two_streams_do_not_meet() -> None:
    layers = [_Sum(2, 2), _Sum(3, 1)]
    one, two = torch.randint(0, 100, (2, 30, 1))
    states = VocoderState(), VocoderState()
    made: tuple[list[Tensor], list[Tensor]] = ([], [])
    for at in range(0, 30, 5):
        for x, state, out in zip((one, two), states, made, strict=True):
            part = state.feed(layers, x[at : at + 5], last=at == 25)
            out.extend([] if part is None else [part])
    assert torch.equal(torch.cat(made[0]), _whole(layers, one))
    assert torch.equal(torch.cat(made[1]), _whole(layers, two))


@pytest.mark.parametrize(("first", "growth", "longest"), [(0, 2.0, 9), (9, 2.0, 8), (1, 0.5, 9)])
def test_endless_plans_are_refused(first: int, growth: float, longest: int) -> None:
    with pytest.raises(AudioError, match="first <= longest"):
        ChunkPlan(first, growth, longest)
