"""The HiFi-GAN generator against a plain one written with torch's own convolutions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from audio.errors import AudioError
from audio.onnx_weights import VoiceWeights
from audio.vocoder import Upsample, Vocoder
from audio.vocoder_stream import ChunkPlan
from tests.audio.tiny_voice import DILATIONS, LATENT, UPS, tiny_weights


def _plain_generator(weights: VoiceWeights, z: torch.Tensor) -> torch.Tensor:
    """HiFi-GAN as its paper describes it, on (1, channels, time), the whole at once."""
    t = weights.tensors
    x = F.conv1d(z, t["dec.conv_pre.weight"], t["dec.conv_pre.bias"], padding=3)
    for stage, (_, stride, kernel) in enumerate(UPS):
        up = f"dec.ups.{stage}"
        x = F.conv_transpose1d(
            F.leaky_relu(x, 0.1),
            t[f"{up}.weight"],
            t[f"{up}.bias"],
            stride,
            padding=(kernel - stride) // 2,
        )
        total = torch.zeros_like(x)
        for block, (taps, spread) in enumerate(DILATIONS.items()):
            y = x
            for i, dilation in enumerate(spread):
                name = f"dec.resblocks.{stage * len(DILATIONS) + block}.convs.{i}"
                y = y + F.conv1d(
                    F.leaky_relu(y, 0.1),
                    t[f"{name}.weight"],
                    t[f"{name}.bias"],
                    padding=(taps - 1) * dilation // 2,
                    dilation=dilation,
                )
            total = total + y
        x = total / len(DILATIONS)
    return F.conv1d(F.leaky_relu(x, 0.01), t["dec.conv_post.weight"], padding=3).tanh()[0, 0]


def _quiet_weights(seed: int = 0) -> VoiceWeights:
    """A voice too quiet for the last tanh to hide a difference."""
    weights = tiny_weights(seed)
    weights.tensors["dec.conv_post.weight"] *= 0.005
    return weights


@settings(max_examples=30, deadline=None)
@given(
    frames=st.integers(1, 300),
    first=st.integers(1, 9),
    growth=st.floats(1, 3),
    longest=st.integers(9, 90),
    seed=st.integers(0, 99),
)
def test_chunks_equal_the_whole(
    frames: int, first: int, growth: float, longest: int, seed: int
) -> None:
    weights = _quiet_weights(seed)
    vocoder = Vocoder(weights)
    z = torch.randn(1, LATENT, frames, generator=torch.Generator().manual_seed(seed))
    parts = list(vocoder.chunks(z, ChunkPlan(first, growth, longest)))
    got = torch.cat(parts)
    assert got.shape == (frames * vocoder.hop,)
    torch.testing.assert_close(got, vocoder(z), rtol=0, atol=2e-6)
    torch.testing.assert_close(got, _plain_generator(weights, z), rtol=1e-3, atol=2e-4)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="needs products in bfloat16"
)
def test_bfloat16_is_close_and_comes_as_float32() -> None:
    z = torch.randn(1, LATENT, 60, generator=torch.Generator().manual_seed(0))
    exact = Vocoder(_quiet_weights())(z)
    got = Vocoder(_quiet_weights()).to(torch.bfloat16)(z)
    assert got.dtype == torch.float32
    assert 0 < (got - exact).norm() / exact.norm() < 0.02


def test_sizes_are_read_off_the_weights() -> None:
    vocoder = Vocoder(tiny_weights())
    assert (vocoder.hop, vocoder.latent, len(vocoder.stages)) == (8, LATENT, 2)


def test_input_is_left_as_it_was() -> None:
    z = torch.randn(1, LATENT, 20)
    before = z.clone()
    vocoder = Vocoder(tiny_weights())
    assert torch.equal(vocoder(z), vocoder(z))
    assert torch.equal(z, before)


@pytest.mark.parametrize(("stride", "kernel"), [(2, 4), (4, 8), (8, 16), (3, 9), (4, 4)])
def test_upsampling_equals_torch(stride: int, kernel: int) -> None:
    tensors = {"u.weight": torch.randn(6, 5, kernel), "u.bias": torch.randn(5)}
    x = torch.randn(11, 6)
    padding = (kernel - stride) // 2
    wanted = F.conv_transpose1d(x.mT[None], tensors["u.weight"], tensors["u.bias"], stride, padding)
    up = Upsample(VoiceWeights(tensors, {"u": stride}), "u", 6)
    got = up(F.pad(x, (0, 0, up.reach, up.reach)))
    torch.testing.assert_close(got, wanted[0].mT[: 11 * stride], rtol=1e-5, atol=1e-5)


def test_an_uneven_upsampling_is_refused() -> None:
    tensors = {"u.weight": torch.randn(6, 5, 7), "u.bias": torch.randn(5)}
    with pytest.raises(AudioError, match="has 7 over 2"):
        Upsample(VoiceWeights(tensors, {"u": 2}, source="v.onnx"), "u", 6)


def test_missing_blocks_are_counted() -> None:
    weights = tiny_weights()
    kept = {k: v for k, v in weights.tensors.items() if not k.startswith("dec.resblocks.3.")}
    with pytest.raises(AudioError, match="2 upsamplings and 3 blocks"):
        Vocoder(VoiceWeights(kept, weights.strides, weights.dilations, "v.onnx"))


def test_a_missing_output_layer_is_named() -> None:
    weights = tiny_weights()
    del weights.tensors["dec.conv_post.weight"]
    with pytest.raises(AudioError, match=r"lacks the weight dec\.conv_post\.weight"):
        Vocoder(weights)
