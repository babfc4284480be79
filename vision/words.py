"""Directions of words in the joint space of a CLIP-like model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.encoders import ClassDirections
from vision.errors import VisionError

_BATCH = 256  # texts at a time, so that a vocabulary of thousands of words stays in memory


def word_directions(
    names: Sequence[str] | None,
    templates: Sequence[str],
    embed: Callable[[list[str]], Tensor],
    scale: float,
    bias: float,
) -> ClassDirections:
    """Embed every name in every template; average the normalised embeddings (CLIP, section 3.1.4).

    `embed` maps b texts to (b, p). Raises VisionError without names: the vocabulary is the
    caller's choice.
    """
    if not names:
        raise VisionError("A CLIP encoder has no classes of its own; give the words to look for.")
    total: Tensor | None = None
    for template in templates:
        texts = [template.replace("{}", name) for name in names]
        pieces = [embed(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        directions = F.normalize(torch.cat(pieces).float().cpu(), dim=-1)
        total = directions if total is None else total + directions
    assert total is not None  # EncoderOptions refuses an empty tuple of templates
    weights = F.normalize(total, dim=-1) if len(templates) > 1 else total
    return ClassDirections(tuple(names), weights, torch.full((len(names),), bias), scale)
