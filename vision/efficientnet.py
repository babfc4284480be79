"""EfficientNet-Lite0's network: the convolutional body that turns pixels into a 7 x 7 grid.

Written out here because importing timm for one small network costs five seconds at start-up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (kernel, stride, expansion, output channels) of the 16 blocks of EfficientNet-Lite0.
# Source: github.com/tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py
BLOCKS = (
    (3, 1, 1, 16),
    *((3, 2, 6, 24), (3, 1, 6, 24)),
    *((5, 2, 6, 40), (5, 1, 6, 40)),
    *((3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80)),
    *((5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112)),
    *((5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192)),
    (3, 1, 6, 320),
)
STEM, WIDTH, CLASSES = 32, 1280, 1000


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: the odd pixel goes to the right and bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, ceil(h / stride), ceil(w / stride))."""
        pads: list[int] = []
        for length in (input.shape[-1], input.shape[-2]):  # F.pad starts with the last axis
            step, kernel = self.stride[0], self.kernel_size[0]
            total = max((-(-length // step) - 1) * step + kernel - length, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            input = F.pad(input, pads)
        return F.conv2d(input, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual block without squeeze-and-excitation (the Lite variant).

    Attribute names are those of the published checkpoint without their leading underscores.
    """

    def __init__(self, inputs: int, kernel: int, stride: int, expansion: int, outputs: int):
        super().__init__()
        hidden = inputs * expansion
        self.expand_conv = SameConv2d(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.bn0 = _norm(hidden) if expansion > 1 else nn.Identity()
        self.depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self.bn1 = _norm(hidden)
        self.project_conv = SameConv2d(hidden, outputs, 1)
        self.bn2 = _norm(outputs)
        self.expands = expansion > 1
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        y = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        y = F.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        result: Tensor = x + y if self.residual else y
        return result


class EfficientNetLite0Network(nn.Module):
    """EfficientNet-Lite0 (Tan and Le, arXiv:1905.11946; Lite: TensorFlow 2020), evaluation only.

    The classifier `fc` is kept as a parameter holder: callers apply it where they need it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, STEM, 3, stride=2)
        self.bn0 = _norm(STEM)
        widths = (STEM, *(outputs for *_, outputs in BLOCKS))
        self.blocks = nn.ModuleList(
            Block(inputs, *spec) for inputs, spec in zip(widths, BLOCKS, strict=False)
        )
        self.conv_head = SameConv2d(widths[-1], WIDTH, 1)
        self.bn1 = _norm(WIDTH)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels (b, 3, h, w) to features (b, 1280, h / 32, w / 32), all >= 0."""
        x = F.relu6(self.bn0(self.conv_stem(pixels)))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.bn1(self.conv_head(x)))


def fold_batch_norms(network: EfficientNetLite0Network) -> None:
    """Fold every batch norm into its convolution, in place: the same numbers in fewer steps."""
    pairs: list[tuple[nn.Module, str, str]] = [
        (network, "conv_stem", "bn0"),
        (network, "conv_head", "bn1"),
    ]
    for block in network.blocks:
        pairs += [(block, "depthwise_conv", "bn1"), (block, "project_conv", "bn2")]
        if isinstance(block, Block) and block.expands:
            pairs.append((block, "expand_conv", "bn0"))
    for owner, conv_name, norm_name in pairs:
        conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
        gain = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * gain
        folded = conv.weight.double() * gain[:, None, None, None]
        conv.weight = nn.Parameter(folded.float(), requires_grad=False)
        conv.bias = nn.Parameter(bias.float(), requires_grad=False)
        setattr(owner, norm_name, nn.Identity())
