"""The layers of VITS that turn phonemes into latents: attention, spline flow, coupling.

Everything works on one utterance, so there are no masks. Tensors are (time, channels): with the
channels innermost, oneDNN's convolutions run about three times as fast as on (channels, time),
a convolution over one step is a plain matrix product, and a layer norm needs no transpose.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio.linear import FixedLinear
from audio.onnx_weights import VoiceWeights

_NORM_EPS = 1e-5
_WIDE = 192  # inputs times taps from which a matrix product beats a convolution
_SPLINE_TAIL = 5.0
_MIN_BIN = 1e-3


class Conv(nn.Module):
    """A convolution over time with "same" padding, its weights taken by name.

    Args:
        weights: the voice.
        name: the module's training name, such as `enc_p.proj`.
        shape: expected (out, in / groups, kernel); None where any size will do.
    """

    def __init__(
        self,
        weights: VoiceWeights,
        name: str,
        *shape: int | None,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        kernel = weights.take(f"{name}.weight", *shape)
        self.out, self.inputs, self.taps = kernel.shape
        offset = weights.take(f"{name}.bias", self.out) if bias else None
        self.dilation = weights.dilations.get(name, 1)
        self.padding = (self.taps - 1) * self.dilation // 2
        dense = groups == 1 and self.dilation == 1
        self.kernel: FixedLinear | SpreadKernel = (
            FixedLinear(kernel.permute(0, 2, 1).reshape(self.out, -1), offset)
            if dense and self.inputs * self.taps >= _WIDE
            else SpreadKernel(kernel, offset, self.dilation, groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(t, in) -> (t, out)."""
        if self.taps > 1 and isinstance(self.kernel, FixedLinear):
            # Each row of this view holds the inputs of one output step: no copy is made.
            padded = F.pad(x, (0, 0, self.padding, self.padding))
            x = padded.as_strided((x.shape[0], self.taps * self.inputs), (self.inputs, 1))
        out: Tensor = self.kernel(x)
        return out


class SpreadKernel(nn.Module):
    """A convolution that is dilated, grouped or too thin for a matrix product."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, kernel: Tensor, bias: Tensor | None, dilation: int, groups: int) -> None:
        super().__init__()
        laid_out = kernel[:, :, None].contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", laid_out)  # (out, in / groups, 1, taps)
        self.register_buffer("bias", bias)
        self.padding = (0, (kernel.shape[2] - 1) * dilation // 2)
        self.dilation = (1, dilation)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """(t, in) -> (t, out)."""
        steps = x.mT[None, :, None]  # a view: (1, in, 1, t) in channels-last memory
        y = F.conv2d(steps, self.weight, self.bias, 1, self.padding, self.dilation, self.groups)
        return y[0, :, 0].mT


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (t, c)."""

    gamma: Tensor
    beta: Tensor

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        self.register_buffer("gamma", weights.take(f"{name}.gamma", channels))
        self.register_buffer("beta", weights.take(f"{name}.beta", channels))

    def forward(self, x: Tensor) -> Tensor:
        """(t, c) -> (t, c)."""
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, _NORM_EPS)


class RelativeAttention(nn.Module):
    """Self-attention with learned relative positions within a window (Shaw et al. 2018)."""

    rel_k: Tensor
    rel_v: Tensor

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        one = (channels, channels, 1)
        self.q = Conv(weights, f"{name}.conv_q", *one)
        self.k = Conv(weights, f"{name}.conv_k", *one)
        self.v = Conv(weights, f"{name}.conv_v", *one)
        self.o = Conv(weights, f"{name}.conv_o", *one)
        self.register_buffer("rel_k", weights.take(f"{name}.emb_rel_k", 1, None, None))
        span, self.head = self.rel_k.shape[1:]
        self.register_buffer("rel_v", weights.take(f"{name}.emb_rel_v", 1, span, self.head))
        self.window = span // 2

    def forward(self, x: Tensor) -> Tensor:
        """(t, c) -> (t, c)."""
        time = x.shape[0]
        q, k, v = (  # (heads, t, head)
            part(x).view(time, -1, self.head).transpose(0, 1) for part in (self.q, self.k, self.v)
        )
        q = q / math.sqrt(self.head)
        # The scores lie in the middle of wider rows, so that the entries around the diagonal are a
        # view too: row i's window is (i, i + offset). What sticks out at the ends is padding.
        heads, span, window = len(q), 2 * self.window + 1, self.window
        wide = q.new_zeros(heads, time, time + 2 * window)
        scores = wide[:, :, window : window + time]
        scores.copy_(q @ k.mT)
        row = wide.stride(1)
        band = wide.as_strided((heads, time, span), (time * row, row + 1, 1))
        band += q @ self.rel_k.mT
        scores.copy_(scores.softmax(-1))
        wide[:, :, :window] = 0
        wide[:, :, window + time :] = 0
        mixed = scores @ v + band @ self.rel_v
        out: Tensor = self.o(mixed.transpose(0, 1).reshape(time, -1))
        return out


class EncoderBlock(nn.Module):
    """Attention and a convolutional feed-forward, each with a residual and a norm after it."""

    def __init__(self, weights: VoiceWeights, name: str, number: int, channels: int) -> None:
        super().__init__()
        self.attention = RelativeAttention(weights, f"{name}.attn_layers.{number}", channels)
        self.norm_1 = ChannelNorm(weights, f"{name}.norm_layers_1.{number}", channels)
        feed = f"{name}.ffn_layers.{number}"
        self.up = Conv(weights, f"{feed}.conv_1", None, channels, None)
        self.down = Conv(weights, f"{feed}.conv_2", channels, self.up.out, None)
        self.norm_2 = ChannelNorm(weights, f"{name}.norm_layers_2.{number}", channels)

    def forward(self, x: Tensor) -> Tensor:
        """(t, c) -> (t, c)."""
        x = self.norm_1(x + self.attention(x))
        out: Tensor = self.norm_2(x + self.down(self.up(x).relu_()))
        return out


class SeparableStack(nn.Module):
    """Dilated depth-separable convolutions (the "DDSConv" of VITS)."""

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        depth = weights.count(name + ".convs_sep.{}.weight")
        deep = (channels, 1, None)
        wide = (channels, channels, 1)
        self.separate = nn.ModuleList(
            Conv(weights, f"{name}.convs_sep.{i}", *deep, groups=channels) for i in range(depth)
        )
        self.mix = nn.ModuleList(
            Conv(weights, f"{name}.convs_1x1.{i}", *wide) for i in range(depth)
        )
        self.norm_1 = nn.ModuleList(
            ChannelNorm(weights, f"{name}.norms_1.{i}", channels) for i in range(depth)
        )
        self.norm_2 = nn.ModuleList(
            ChannelNorm(weights, f"{name}.norms_2.{i}", channels) for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(t, c) -> (t, c)."""
        layers = zip(self.separate, self.norm_1, self.mix, self.norm_2, strict=True)
        for separate, norm_1, mix, norm_2 in layers:
            y = F.gelu(norm_1(separate(x)))
            x = x + F.gelu(norm_2(mix(y)))
        return x


class SplineFlow(nn.Module):
    """One coupling of the duration predictor: a monotone rational-quadratic spline.

    Source: Durkan et al. 2019, "Neural Spline Flows"; bins and tail as in VITS.
    """

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        self.pre = Conv(weights, f"{name}.pre", channels, 1, 1)
        self.convs = SeparableStack(weights, f"{name}.convs", channels)
        self.proj = Conv(weights, f"{name}.proj", None, channels, 1)
        self.bins = (self.proj.out + 1) // 3
        self.scale = 1.0 / math.sqrt(channels)

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """(t, 2) -> (t, 2): the first channel stays, the second is taken back."""
        first, second = z[:, :1], z[:, 1]
        hidden = self.proj(self.convs(self.pre(first) + condition))
        widths, heights, slopes = hidden.split(
            (self.bins, self.bins, self.bins - 1), dim=1
        )  # (t, bins), (t, bins), (t, bins - 1)
        back = spline_inverse(second, widths * self.scale, heights * self.scale, slopes)
        return torch.cat((first, back[:, None]), 1)


def spline_inverse(y: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor) -> Tensor:
    """Inverse of a monotone rational-quadratic spline on [-5, 5]; outside it is the identity.

    Args:
        y: (t,) values.
        widths, heights: (t, bins) unnormalised bin sizes.
        slopes: (t, bins - 1) unnormalised slopes at the inner knots; they are 1 at both ends.
    """
    left, width = _knots(widths)
    bottom, height = _knots(heights)
    slope = F.pad(_MIN_BIN + F.softplus(slopes), (1, 1), value=1.0)
    inside = (y >= -_SPLINE_TAIL) & (y <= _SPLINE_TAIL)
    target = y.clamp(-_SPLINE_TAIL, _SPLINE_TAIL)
    index = (bottom[:, 1:-1] <= target[:, None]).sum(1, keepdim=True)  # (t, 1)

    def at(table: Tensor, shift: int = 0) -> Tensor:
        return table.gather(1, index + shift)[:, 0]

    w, h, d0, d1 = at(width), at(height), at(slope), at(slope, 1)
    mean = h / w
    rise = target - at(bottom)
    bend = d0 + d1 - 2 * mean
    a = rise * bend + h * (mean - d0)
    b = h * d0 - rise * bend
    c = -mean * rise
    root = (b.square() - 4 * a * c).clamp_min(0).sqrt()
    back = (2 * c) / (-b - root) * w + at(left)
    return torch.where(inside, back, y)


def _knots(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Knot positions (t, bins + 1) from -5 to 5, and the bin sizes (t, bins) between them."""
    share = _MIN_BIN + (1 - _MIN_BIN * raw.shape[1]) * raw.softmax(1)
    knots = F.pad(share.cumsum(1), (1, 0)) * (2 * _SPLINE_TAIL) - _SPLINE_TAIL
    knots[:, -1] = _SPLINE_TAIL
    return knots, knots[:, 1:] - knots[:, :-1]


class WaveNet(nn.Module):
    """Gated convolutions with residual and skip paths (van den Oord et al. 2016)."""

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        self.channels = channels
        depth = weights.count(name + ".in_layers.{}.weight")
        self.gates = nn.ModuleList(
            Conv(weights, f"{name}.in_layers.{i}", 2 * channels, channels, None)
            for i in range(depth)
        )
        self.outs = nn.ModuleList(
            Conv(weights, f"{name}.res_skip_layers.{i}", None, channels, 1) for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(t, c) -> (t, c)."""
        skipped = torch.zeros_like(x)
        for gate, out in zip(self.gates, self.outs, strict=True):
            signal, switch = gate(x).split(self.channels, 1)
            mixed = out(signal.tanh() * switch.sigmoid())
            if mixed.shape[1] > self.channels:  # the last layer has only the skip path
                x = x + mixed[:, : self.channels]
                mixed = mixed[:, self.channels :]
            skipped = skipped + mixed
        return skipped


class Coupling(nn.Module):
    """A mean-only residual coupling of the prior flow (VITS, Kim et al. 2021)."""

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        self.kept = channels // 2
        self.pre = Conv(weights, f"{name}.pre", None, self.kept, 1)
        hidden = self.pre.out
        self.enc = WaveNet(weights, f"{name}.enc", hidden)
        self.post = Conv(weights, f"{name}.post", self.kept, hidden, 1)

    def inverse(self, z: Tensor) -> Tensor:
        """(t, c) -> (t, c)."""
        first, second = z[:, : self.kept], z[:, self.kept :]
        return torch.cat((first, second - self.post(self.enc(self.pre(first)))), 1)
