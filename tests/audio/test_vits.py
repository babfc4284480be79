"""The way from phoneme ids to latents, each layer against a plain reference."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from audio.errors import AudioError
from audio.linear import FixedLinear
from audio.onnx_weights import VoiceWeights
from audio.vits import Sampling, Vits, pace_factor
from audio.vits_layers import ChannelNorm, Conv, Coupling, RelativeAttention, spline_inverse
from tests.audio.tiny_voice import CHANNELS, HEADS, LATENT, SYMBOLS, WINDOW, tiny_weights


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.sampled_from([1, 4, 48, 96]),
    taps=st.sampled_from([1, 3, 5, 7]),
    dilation=st.integers(1, 4),
    time=st.integers(1, 40),
    depthwise=st.booleans(),
)
def test_convolution_equals_torch(
    inputs: int, taps: int, dilation: int, time: int, depthwise: bool
) -> None:
    random = torch.Generator().manual_seed(inputs * 1000 + time)
    out, groups = (inputs, inputs) if depthwise else (6, 1)
    kernel = torch.randn(out, inputs // groups, taps, generator=random)
    bias = torch.randn(out, generator=random)
    weights = VoiceWeights({"c.weight": kernel, "c.bias": bias}, {}, {"c": dilation})
    x = torch.randn(time, inputs, generator=random)
    wanted = F.conv1d(
        x.mT[None],
        kernel,
        bias,
        padding=(taps - 1) * dilation // 2,
        dilation=dilation,
        groups=groups,
    )[0].mT
    got = Conv(weights, "c", out, inputs // groups, taps, groups=groups)(x)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_fixed_product_is_the_same_packed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias, x = torch.randn(7, 30), torch.randn(7), torch.randn(5, 30)
    packed = FixedLinear(weight, bias)(x)
    monkeypatch.setattr("audio.linear._can_pack", lambda: False)
    torch.testing.assert_close(FixedLinear(weight, bias)(x), packed, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed, x @ weight.mT + bias, rtol=1e-5, atol=1e-5)


def test_norm_is_over_channels() -> None:
    weights = tiny_weights()
    name = "enc_p.encoder.norm_layers_1.0"
    x = torch.randn(5, CHANNELS)
    centred = x - x.mean(1, keepdim=True)
    wanted = centred / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    wanted = wanted * weights.tensors[f"{name}.gamma"] + weights.tensors[f"{name}.beta"]
    torch.testing.assert_close(ChannelNorm(weights, name, CHANNELS)(x), wanted)


@pytest.mark.parametrize("time", [1, 3, 2 * WINDOW + 1, 20])
def test_attention_equals_a_loop(time: int) -> None:
    weights = tiny_weights()
    name = "enc_p.encoder.attn_layers.0"
    x = torch.randn(time, CHANNELS, generator=torch.Generator().manual_seed(time))
    got = RelativeAttention(weights, name, CHANNELS)(x)
    np.testing.assert_allclose(got.numpy(), _attention_loop(weights, name, x), atol=1e-5)


def _attention_loop(weights: VoiceWeights, name: str, x: torch.Tensor) -> np.ndarray:
    t = {k.removeprefix(f"{name}."): v.double().numpy() for k, v in weights.tensors.items()}
    rows = x.double().numpy()
    q, k, v = (rows @ t[f"conv_{p}.weight"][:, :, 0].T + t[f"conv_{p}.bias"] for p in "qkv")
    size = CHANNELS // HEADS
    out = np.zeros_like(rows)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(rows)):
            near = [j - i + WINDOW for j in range(len(rows))]
            keys = [
                k[j, part] + (t["emb_rel_k"][0, n] if 0 <= n <= 2 * WINDOW else 0)
                for j, n in enumerate(near)
            ]
            values = [
                v[j, part] + (t["emb_rel_v"][0, n] if 0 <= n <= 2 * WINDOW else 0)
                for j, n in enumerate(near)
            ]
            scores = np.array([q[i, part] @ key / math.sqrt(size) for key in keys])
            share = np.exp(scores - scores.max())
            out[i, part] = (share / share.sum()) @ np.array(values)
    return out @ t["conv_o.weight"][:, :, 0].T + t["conv_o.bias"]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), bins=st.integers(2, 10))
def test_spline_inverse_undoes_the_spline(seed: int, bins: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(30, generator=random, dtype=torch.float64) * 3
    widths, heights = (torch.randn(30, bins, generator=random).double() for _ in range(2))
    slopes = torch.randn(30, bins - 1, generator=random).double()
    rows = zip(x, widths, heights, slopes, strict=True)
    y = torch.tensor([_spline(*row) for row in rows], dtype=torch.float64)
    back = spline_inverse(y, widths, heights, slopes)
    torch.testing.assert_close(back, x, rtol=1e-6, atol=1e-6)


def _spline(x: torch.Tensor, w: torch.Tensor, h: torch.Tensor, s: torch.Tensor) -> float:
    """The forward spline for one value, from equations 4 of Durkan et al. 2019."""
    if abs(float(x)) > 5:
        return float(x)
    bins = len(w)
    knots = [
        np.concatenate(([0], np.cumsum(1e-3 + (1 - 1e-3 * bins) * raw.softmax(0).numpy()))) * 10 - 5
        for raw in (w, h)
    ]
    slope = np.concatenate(([1], 1e-3 + np.log1p(np.exp(s.numpy())), [1]))
    k = min(int(np.searchsorted(knots[0], float(x), side="right")) - 1, bins - 1)
    width, height = (knot[k + 1] - knot[k] for knot in knots)
    mean, at = height / width, (float(x) - knots[0][k]) / width
    top = height * (mean * at**2 + slope[k] * at * (1 - at))
    bottom = mean + (slope[k] + slope[k + 1] - 2 * mean) * at * (1 - at)
    return float(knots[1][k] + top / bottom)


def test_coupling_inverse_takes_back_what_the_forward_adds() -> None:
    coupling = Coupling(tiny_weights(), "flow.flows.0", LATENT)
    z = torch.randn(12, LATENT)
    first, second = z[:, : LATENT // 2], z[:, LATENT // 2 :]
    forward = torch.cat((first, second + coupling.post(coupling.enc(coupling.pre(first)))), 1)
    torch.testing.assert_close(coupling.inverse(forward), z, rtol=1e-5, atol=1e-5)


def test_latents_have_a_frame_for_every_duration() -> None:
    vits = Vits(tiny_weights())
    latents = vits.latents([1, 0, 7, 0, 9, 0, 2], Sampling(), torch.Generator().manual_seed(3))
    assert latents.z.shape == (1, LATENT, sum(latents.durations))
    assert len(latents.durations) == 7
    assert vits.symbols == SYMBOLS


def test_a_seed_fixes_the_reading_and_another_changes_it() -> None:
    vits, ids = Vits(tiny_weights()), [1, 0, 7, 0, 9, 0, 2]
    one, again, other = (
        vits.latents(ids, Sampling(), torch.Generator().manual_seed(seed)).z for seed in (3, 3, 4)
    )
    assert torch.equal(one, again)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_without_noise_chance_has_no_say() -> None:
    vits, still = Vits(tiny_weights()), Sampling(noise_scale=0.0, noise_w=0.0)
    torch.testing.assert_close(vits.latents([1, 5, 2], still).z, vits.latents([1, 5, 2], still).z)


def test_a_longer_scale_lasts_longer() -> None:
    vits = Vits(tiny_weights())
    short, long = (
        sum(vits.latents(list(range(1, 20)), Sampling(0, 0, scale)).durations)
        for scale in (1.0, 3.0)
    )
    assert 2 * short < long < 4 * short


@given(st.lists(st.floats(0.0625, 5.0, width=32), min_size=1, max_size=80), st.floats(0.25, 4.0))
@example([2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0], 1.95)  # all get their next frame at once
@example([1.7, 1.8, 1.9], 1.05)
def test_the_pace_gives_the_whole_length(lengths: list[float], pace: float) -> None:
    each = torch.tensor(lengths)
    factor = pace_factor(each, pace)
    wanted = float(torch.ceil(each).sum()) / pace
    if factor > 0.2501:
        assert torch.ceil(each * factor).sum() >= wanted - 1e-3
    if pace != 1.0:  # the least that is enough
        assert torch.ceil(each * factor * 0.999).sum() <= wanted or factor < 0.2501
    assert (factor <= 1.0) if pace > 1 else (factor >= 1.0)
    assert torch.ceil(each * factor).min() >= 1


def test_the_pace_of_nothing() -> None:
    assert pace_factor(torch.zeros(3), 0.5) > 0


def test_the_pace_is_that_of_the_reading() -> None:
    vits, ids = Vits(tiny_weights()), list(range(1, 20))
    own = sum(vits.latents(ids, Sampling(0, 0)).durations)
    for pace in (0.5, 0.85, 1.25):
        assert sum(vits.latents(ids, Sampling(0, 0, pace=pace)).durations) == pytest.approx(
            own / pace, abs=2
        )


@pytest.mark.parametrize("ids", [[], [SYMBOLS], [-1, 3]])
def test_unknown_ids_are_refused(ids: list[int]) -> None:
    with pytest.raises(AudioError, match=f"between 0 and {SYMBOLS - 1}"):
        Vits(tiny_weights()).latents(ids, Sampling())


@pytest.mark.parametrize(
    "name",
    ["enc_p.emb.weight", "dp.flows.3.proj.weight", "flow.flows.2.post.bias", "dp.flows.0.m"],
)
def test_an_incomplete_voice_is_refused(name: str) -> None:
    weights = tiny_weights()
    del weights.tensors[name]
    with pytest.raises(AudioError, match=f"lacks the weight {name}"):
        Vits(weights)


def test_a_voice_without_a_flow_is_refused() -> None:
    weights = tiny_weights()
    kept = {k: v for k, v in weights.tensors.items() if not k.startswith("flow.")}
    with pytest.raises(AudioError, match="lacks the flow"):
        Vits(replace(weights, tensors=kept))


def test_a_voice_with_several_speakers_is_refused() -> None:
    weights = tiny_weights()
    weights.tensors["emb_g.weight"] = torch.zeros(10, 4)
    with pytest.raises(AudioError, match="several speakers"):
        Vits(weights)
