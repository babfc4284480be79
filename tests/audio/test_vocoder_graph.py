"""Windows of latents, each computed by a replay of its own length, join to the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audio.vocoder import Vocoder
from audio.vocoder_graph import GraphVocoder, Replay, whole_window, windows
from audio.vocoder_stream import ChunkPlan
from tests.audio.tiny_voice import LATENT, tiny_weights

_PLAN = ChunkPlan(first=3, growth=2.0, longest=24)


class _Buffers:
    """What a captured graph is but for the capture: fixed input and output, filled by each call."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def __call__(self, vocoder: Vocoder, example: Tensor) -> Replay:
        given_z, made = torch.empty_like(example), whole_window(vocoder, example)
        self.lengths.append(example.shape[2])

        def replay(z: Tensor) -> Tensor:
            given_z.copy_(z)
            made.copy_(whole_window(vocoder, given_z))
            return made.clone()

        return replay


@settings(max_examples=60, deadline=None)
@given(frames=st.integers(1, 400), margin=st.integers(0, 40), first=st.integers(1, 24))
def test_windows_cover_the_latent_once(frames: int, margin: int, first: int) -> None:
    found = list(windows(frames, margin, ChunkPlan(first, 1.5, 24)))
    wanted = [frame for window in found for frame in range(window.start, window.stop)]
    assert wanted == list(range(frames))
    for window in found:
        assert window.low == max(0, window.start - margin)
        assert window.high == min(frames, window.stop + margin)


@pytest.mark.parametrize("frames", [1, 2, 30, 77, 250])
def test_graphs_make_the_whole(frames: int) -> None:
    vocoder, buffers = Vocoder(tiny_weights()), _Buffers()
    graphs = GraphVocoder(vocoder, buffers)
    z = torch.randn(1, LATENT, frames)
    parts = list(graphs.chunks(z, _PLAN))
    torch.testing.assert_close(torch.cat(parts), vocoder(z), rtol=0, atol=2e-6)
    whole_parts = [len(part) // vocoder.hop for part in parts[:-1]]
    assert whole_parts == [3, 6, 12, *[24] * 20][: len(whole_parts)]
    assert set(buffers.lengths) <= set(graphs.lengths(_PLAN))


def test_each_length_is_captured_once_and_ends_of_sentences_never() -> None:
    buffers = _Buffers()
    graphs = GraphVocoder(Vocoder(tiny_weights()), buffers)
    graphs.warm_up(_PLAN)
    captured = list(buffers.lengths)
    assert captured == graphs.lengths(_PLAN)
    for frames in (250, 251, 333):
        list(graphs.chunks(torch.randn(1, LATENT, frames), _PLAN))
    assert buffers.lengths == captured


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", [torch.float32, torch.float16, torch.bfloat16])
def test_captured_graphs_equal_the_cpu(precision: torch.dtype) -> None:
    exact = Vocoder(tiny_weights())
    graphs = GraphVocoder(Vocoder(tiny_weights()).to("cuda", precision))
    graphs.warm_up(_PLAN)
    tolerance = 1e-3 if precision == torch.float32 else 0.1
    for frames in (20, 250, 333):
        z = torch.randn(1, LATENT, frames)
        got = torch.cat(list(graphs.chunks(z.cuda(), _PLAN))).cpu()
        torch.testing.assert_close(got, exact(z), rtol=0, atol=tolerance)
