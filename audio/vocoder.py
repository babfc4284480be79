"""The HiFi-GAN generator: latents in, waveform out, with no state of its own.

Source: Kong, Kim and Bae 2020, "HiFi-GAN: Generative Adversarial Networks for Efficient and
High Fidelity Speech Synthesis".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio.errors import AudioError
from audio.linear import FixedLinear
from audio.onnx_weights import VoiceWeights
from audio.vits_layers import Conv

_SLOPE = 0.1
_TILE_FLOATS = 1 << 19  # 2 MiB: a tile stays in the cache, and few tiles keep calls few
_LAST_SLOPE = 0.01  # the published generator uses the library's default here


class ResidualBlock(nn.Module):
    """ "ResBlock2": dilated convolutions, each with a residual around it."""

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        depth = weights.count(name + ".convs.{}.weight")
        if not depth:
            weights.take(f"{name}.convs.0.weight")
        convs = [Conv(weights, f"{name}.convs.{i}", channels, channels, None) for i in range(depth)]
        self.convs = nn.ModuleList(convs)
        self.reach = sum(conv.padding for conv in convs)

    def forward(self, x: Tensor, active: Tensor | None) -> Tensor:
        """(t, c) -> (t, c); `active` is the leaky ReLU of x, which all blocks of a stage share."""
        for conv in self.convs:
            x = conv(F.leaky_relu(x, _SLOPE) if active is None else active).add_(x)
            active = None
        return x


class Upsample(nn.Module):
    """A transposed convolution that makes `stride` times as many steps."""

    bias: Tensor

    def __init__(self, weights: VoiceWeights, name: str, channels: int) -> None:
        super().__init__()
        kernel = weights.take(f"{name}.weight", channels, None, None)
        self.out, self.taps = kernel.shape[1:]
        self.stride = weights.strides.get(name, self.taps // 2)
        if self.taps % self.stride or (self.taps - self.stride) % 2:
            raise AudioError(
                f"{weights.source}: {name} should have a kernel that is a whole, even-sided "
                f"multiple of its stride but has {self.taps} over {self.stride}; choose another "
                f"Piper voice."
            )
        self.spread = FixedLinear(kernel.permute(2, 1, 0).reshape(-1, channels), None)
        self.register_buffer("bias", weights.take(f"{name}.bias", self.out))

    def forward(self, x: Tensor) -> Tensor:
        """(t, c) -> (t * stride, c / 2).

        Each input step writes `taps` output steps, `stride` apart from its neighbour's: one matrix
        product, then the `taps / stride` overlapping parts are added.
        """
        time, parts = x.shape[0], self.taps // self.stride
        spread = self.spread(x).view(time, parts, self.stride * self.out)
        total = self.bias.repeat(self.stride).repeat(time + parts - 1, 1)
        for part in range(parts):
            total[part : part + time] += spread[:, part]
        cut = (self.taps - self.stride) // 2
        return total.view(-1, self.out)[cut : cut + time * self.stride]


class Stage(nn.Module):
    """One upsampling, the mean of its residual blocks and, in the last stage, the output layer.

    Computed tile by tile along time: a whole utterance at the last rates is many megabytes per
    tensor, which leave the cache and make the allocator fetch fresh pages each time, and that
    costs more than the arithmetic. Each tile reads `margin` extra steps on both sides.
    """

    def __init__(self, up: Upsample, blocks: list[ResidualBlock], post: Conv | None = None) -> None:
        super().__init__()
        self.up = up
        self.blocks = nn.ModuleList(blocks)
        self.post = post
        reach = max(block.reach for block in blocks) + (post.padding if post else 0)
        self.margin = -(-reach // up.stride) + up.taps // up.stride
        self.tile = max(_TILE_FLOATS // (up.out * up.stride), 4 * self.margin)

    def forward(self, x: Tensor) -> Tensor:
        """(t, c) -> (t * stride, c / 2), or (t * stride, 1) samples from the last stage."""
        time, stride = x.shape[0], self.up.stride
        out = x.new_empty(time * stride, 1 if self.post else self.up.out)
        for start in range(0, time, self.tile):
            stop = min(start + self.tile, time)
            low, high = max(0, start - self.margin), min(time, stop + self.margin)
            part = self._whole(x[low:high])
            out[start * stride : stop * stride] = part[(start - low) * stride :][
                : (stop - start) * stride
            ]
        return out

    def _whole(self, x: Tensor) -> Tensor:
        x = self.up(F.leaky_relu(x, _SLOPE))
        active = F.leaky_relu(x, _SLOPE)
        total: Tensor = self.blocks[0](x, active)
        for block in list(self.blocks)[1:]:
            total += block(x, active)
        total /= len(self.blocks)
        if self.post is not None:
            total = self.post(F.leaky_relu_(total, _LAST_SLOPE)).tanh_()
        return total


class Vocoder(nn.Module):
    """HiFi-GAN with its sizes read off the weights; `hop` samples for each latent frame."""

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
        self.pre = Conv(weights, "dec.conv_pre", None, None, None)
        self.stages = nn.ModuleList()
        self.hop, channels, fan = 1, self.pre.out, blocks // stages
        for number in range(stages):
            up = Upsample(weights, f"dec.ups.{number}", channels)
            channels, self.hop = up.out, self.hop * up.stride
            mine = [
                ResidualBlock(weights, f"dec.resblocks.{number * fan + i}", channels)
                for i in range(fan)
            ]
            last = number == stages - 1
            self.stages.append(Stage(up, mine, _output_layer(weights, channels) if last else None))
        self.eval()

    @property
    def latent(self) -> int:
        """How many channels a latent frame has."""
        return self.pre.inputs

    @torch.inference_mode()
    def __call__(self, z: Tensor) -> Tensor:
        """z (1, latent, frames) float32 -> samples (frames * hop,) within -1..1."""
        out: Tensor = super().__call__(z)
        return out

    def forward(self, z: Tensor) -> Tensor:
        """See `__call__`."""
        x: Tensor = self.pre(z[0].mT.contiguous())  # (frames, latent)
        for stage in self.stages:
            x = stage(x)
        return x[:, 0]


def _output_layer(weights: VoiceWeights, channels: int) -> Conv:
    has_bias = "dec.conv_post.bias" in weights.tensors
    return Conv(weights, "dec.conv_post", 1, channels, None, bias=has_bias)
