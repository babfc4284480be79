"""Chooses the next token from logits: greedy, or temperature, then top-k, then top-p."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.errors import FusionError


def filtered_probabilities(
    logits: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Probabilities (vocab,) in float64 after temperature, top-k and top-p, in that order.

    `top_k` 0 and `top_p` 1 switch their filter off. Top-p keeps the fewest most likely tokens whose
    probabilities reach p (nucleus sampling: Holtzman et al., arXiv:1904.09751), at least one.
    """
    scores = logits.double() / temperature
    if 0 < top_k < scores.numel():
        kept = scores.topk(top_k).indices
        mask = torch.ones_like(scores, dtype=torch.bool)
        mask[kept] = False
        scores = scores.masked_fill(mask, -torch.inf)
    probabilities = scores.softmax(-1)
    if top_p < 1.0:
        ordered, places = probabilities.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        probabilities[places[before >= top_p]] = 0.0
        probabilities /= probabilities.sum()
    return probabilities


class Sampler:
    """Draws token ids; one per stream, as it holds the stream's random state."""

    def __init__(self, temperature: float, top_k: int, top_p: float, seed: int) -> None:
        """Temperature 0 is greedy; the same seed gives the same draws on the same logits."""
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p
        self._random = torch.Generator().manual_seed(seed)

    def pick(self, logits: Tensor) -> int:
        """One token id from `logits` (vocab,), float32; FusionError if they are not numbers."""
        logits = logits.cpu()
        if self._temperature == 0.0:
            best = int(logits.argmax())
            if not bool(torch.isfinite(logits[best])):
                raise _not_numbers()
            return best
        probabilities = filtered_probabilities(logits, self._temperature, self._top_k, self._top_p)
        if not bool(torch.isfinite(probabilities).all()):
            raise _not_numbers()
        return int(torch.multinomial(probabilities, 1, generator=self._random))


def _not_numbers() -> FusionError:
    return FusionError(
        "expected finite scores from the language model, but it gave infinities or NaN; "
        "the model's or the adapter's weights are damaged or do not fit each other"
    )
