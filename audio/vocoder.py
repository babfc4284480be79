"""The HiFi-GAN generator: latents in, waveform out, with no state of its own.

Source: Kong, Kim and Bae 2020, "HiFi-GAN: Generative Adversarial Networks for Efficient and
High Fidelity Speech Synthesis".
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio.errors import AudioError
from audio.linear import FixedLinear
from audio.onnx_weights import VoiceWeights
from audio.vocoder_stream import ChunkPlan, LocalLayer, chunks

_SLOPE = 0.1
_LAST_SLOPE = 0.01  # the published generator uses the library's default here
# A whole utterance at the last rates is many megabytes per tensor, which leave the cache and make
# the allocator fetch fresh pages each time; that costs more than the margins computed twice.
_WHOLE = ChunkPlan(first=256, longest=256)


class Convolution(nn.Module):
    """A convolution over time with "same" padding, its weights taken by name.

    `shape` is the expected (out, in, kernel), None where any size will do. Always a convolution,
    never a matrix product over overlapping rows: at 64 channels one Zen 5 core does 230 GFLOP/s
    this way and 180 the other. The zeros around the input are written out, because oneDNN adds up
    in another order near a border that it pads itself, and a chunk would not equal the whole.
    """

    weight: Tensor
    bias: Tensor | None
    stride = 1

    def __init__(
        self,
        weights: VoiceWeights,
        name: str,
        *shape: int | None,
        bias: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        kernel = weights.take(f"{name}.weight", *shape) * scale
        self.out, self.inputs, taps = kernel.shape
        self.dilation = weights.dilations.get(name, 1)
        self.margin = (taps - 1) * self.dilation // 2
        laid_out = kernel[:, :, None].contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", laid_out)  # (out, in, 1, taps)
        self.register_buffer("bias", weights.take(f"{name}.bias", self.out) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(t, in) -> (t, out), in the precision of the weights."""
        return self.inner(F.pad(x.to(self.weight.dtype), (0, 0, self.margin, self.margin)))

    def inner(self, padded: Tensor) -> Tensor:
        """(margin + t + margin, in) -> (t, out)."""
        steps = padded.mT[None, :, None]  # a view: (1, in, 1, ...) in channels-last memory
        return F.conv2d(steps, self.weight, self.bias, 1, 0, (1, self.dilation))[0, :, 0].mT


def activated(x: Tensor, margin: int, slope: float = _SLOPE) -> Tensor:
    """The leaky ReLU of x (t, c) with zeros around it: (margin + t + margin, c)."""
    out = x.new_empty(len(x) + 2 * margin, x.shape[1])
    out[:margin] = 0
    out[len(out) - margin :] = 0
    torch.ops.aten.leaky_relu.out(x, slope, out=out[margin : margin + len(x)])
    return out


class ResidualBlock(nn.Module):
    """ "ResBlock2": dilated convolutions, each with a residual around it."""

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        depth = weights.count(name + ".convs.{}.weight")
        if not depth:
            weights.take(f"{name}.convs.0.weight")
        self._convs = [
            Convolution(weights, f"{name}.convs.{i}", channels, channels, None)
            for i in range(depth)
        ]
        self.convs = nn.ModuleList(self._convs)
        self.first_margin = self._convs[0].margin
        self.reach = sum(conv.margin for conv in self._convs)

    def forward(self, x: Tensor, active: Tensor) -> Tensor:
        """(t, c) -> (t, c); `active` is `activated(x, self.first_margin)`."""
        for number, conv in enumerate(self._convs):
            x = conv.inner(activated(x, conv.margin) if number else active).add_(x)
        return x


class Upsample(nn.Module):
    """A transposed convolution that makes `stride` times as many steps."""

    def __init__(self, weights: VoiceWeights, name: str, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        kernel = weights.take(f"{name}.weight", channels, None, None) * scale
        self.inputs, (self.out, self.taps) = channels, kernel.shape[1:]
        self.stride = weights.strides.get(name, self.taps // 2)
        if self.taps % self.stride or (self.taps - self.stride) % 2:
            raise AudioError(
                f"{weights.source}: {name} should have a kernel that is a whole, even-sided "
                f"multiple of its stride but has {self.taps} over {self.stride}; choose another "
                f"Piper voice."
            )
        self.reach = self.taps // self.stride - 1  # further input steps that an output adds up
        # (in, out, taps) -> (stride * out, (reach + 1) * in), the newest input step last
        parts = kernel.permute(2, 1, 0).reshape(self.reach + 1, self.stride * self.out, channels)
        bias = weights.take(f"{name}.bias", self.out).repeat(self.stride)
        self.spread = FixedLinear(parts.flip(0).transpose(0, 1).reshape(len(bias), -1), bias)

    def forward(self, padded: Tensor) -> Tensor:
        """(reach + t + reach, c) with zeros at the ends -> (t * stride, c / 2).

        One matrix product over overlapping rows of the input.
        """
        steps = len(padded) - self.reach
        rows = padded.as_strided((steps, (self.reach + 1) * self.inputs), (self.inputs, 1))
        cut = (self.taps - self.stride) // 2
        out: Tensor = self.spread(rows).view(-1, self.out)
        return out[cut : cut + (steps - self.reach) * self.stride]


class Stage(nn.Module):
    """One upsampling, the sum of its residual blocks and, in the last stage, the output layer.

    The mean of the blocks that the paper has is their sum here: what follows is linear but for
    the leaky ReLU, which lets a positive factor through, so the weights after it are divided.
    """

    def __init__(
        self, up: Upsample, blocks: list[ResidualBlock], post: Convolution | None = None
    ) -> None:
        super().__init__()
        self.up = up
        self._blocks = blocks
        self.blocks = nn.ModuleList(blocks)
        self.post = post
        self.stride = up.stride
        reach = max(block.reach for block in blocks) + (post.margin if post else 0)
        self.margin = -(-reach // up.stride) + up.reach + 1

    def forward(self, x: Tensor) -> Tensor:
        """(t, c) -> (t * stride, c / 2), or (t * stride, 1) samples from the last stage."""
        x = self.up(activated(x, self.up.reach))
        widest = max(block.first_margin for block in self._blocks)
        active = activated(x, widest)  # which the blocks share
        total: Tensor | None = None
        for block in self._blocks:
            trim = widest - block.first_margin
            made: Tensor = block(x, active[trim : len(active) - trim])
            total = made if total is None else total.add_(made)
        assert total is not None
        if self.post is None:
            return total
        return self.post.inner(activated(total, self.post.margin, _LAST_SLOPE)).tanh_()


class Vocoder(nn.Module):
    """HiFi-GAN with its sizes read off the weights; `hop` samples for each latent frame.

    Computes in the precision of its weights; samples are float32 all the same. Measured for
    `.to(torch.bfloat16)` on one Zen 5 core (AVX512-BF16) with a Piper voice: 0.55 of the time; 40
    sentences were recognised with the same 15 errors in 410 words (in one of them another comma),
    the sound differed by 40 dB below its level, the spectrum by 2.5 dB. Chunks equal the whole
    bit for bit with one thread; with more, sums are split otherwise for each length, and a step of
    bfloat16 at the entrance becomes up to 4e-3 in a sample (float32: 3e-6).
    """

    def __init__(self, weights: VoiceWeights) -> None:
        """Raises AudioError if a weight is absent or has an unexpected shape."""
        super().__init__()
        stages = weights.count("dec.ups.{}.weight")
        blocks = weights.count("dec.resblocks.{}.convs.0.weight")
        if not stages or not blocks or blocks % stages:
            raise AudioError(
                f"{weights.source} should hold a HiFi-GAN with a whole number of ResBlock2 for "
                f"each upsampling, but has {stages} upsamplings and {blocks} blocks; choose a "
                f"Piper voice of low or medium quality."
            )
        self.pre = Convolution(weights, "dec.conv_pre", None, None, None)
        self.hop, channels, fan, scale = 1, self.pre.out, blocks // stages, 1.0
        stack: list[Stage] = []
        for number in range(stages):
            up = Upsample(weights, f"dec.ups.{number}", channels, scale)
            channels, self.hop, scale = up.out, self.hop * up.stride, 1 / fan
            mine = [
                ResidualBlock(weights, f"dec.resblocks.{number * fan + i}", channels)
                for i in range(fan)
            ]
            last = number == stages - 1
            post = _output_layer(weights, channels, scale) if last else None
            stack.append(Stage(up, mine, post))
        self.stages = nn.ModuleList(stack)
        self.layers: list[LocalLayer] = [self.pre, *stack]
        self.eval()

    @property
    def latent(self) -> int:
        """How many channels a latent frame has."""
        return self.pre.inputs

    @torch.inference_mode()
    def __call__(self, z: Tensor, plan: ChunkPlan = _WHOLE) -> Tensor:
        """z (1, latent, frames) -> float32 samples (frames * hop,) within -1..1."""
        return torch.cat(list(self.chunks(z, plan)))

    def chunks(self, z: Tensor, plan: ChunkPlan) -> Iterator[Tensor]:
        """The samples for z (1, latent, frames) piece by piece, the first piece soon."""
        for part in chunks(self.layers, z[0].mT, plan):
            yield part[:, 0].float()


def _output_layer(weights: VoiceWeights, channels: int, scale: float) -> Convolution:
    has_bias = "dec.conv_post.bias" in weights.tensors
    return Convolution(weights, "dec.conv_post", 1, channels, None, bias=has_bias, scale=scale)
