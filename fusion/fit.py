"""Fits the few numbers of a scene reader, and tries to improve an encoder's class directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion.scene import Logistic


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The divisor of scores (n, c) under which the right words' probabilities are likeliest.

    Temperature scaling: Guo et al., arXiv:1706.04599.
    """
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    scores = logits.double()
    _minimise([log_t], lambda: F.cross_entropy(scores / log_t.exp(), labels))
    return float(log_t.detach().exp())


def fit_logistic(inputs: Tensor, targets: Tensor, penalty: float = 1e-3) -> Logistic:
    """Logistic regression (n, k) -> 0 or 1, both outcomes weighing the same in all."""
    mean, std = inputs.mean(0), inputs.std(0).clamp_min(1e-6)
    rows = ((inputs - mean) / std).double()
    share = targets.double().mean()
    weights = torch.where(targets > 0, 0.5 / share, 0.5 / (1 - share)).double()
    weight = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        scores = rows @ weight + bias
        miss = F.binary_cross_entropy_with_logits(scores, targets.double(), weight=weights)
        return miss + penalty * weight.square().sum()

    _minimise([weight, bias], loss)
    return Logistic(mean, std, weight.detach().float(), bias.detach().float())


def threshold_for(chances: Tensor, share: float) -> float:
    """The threshold that at most `share` of `chances` (n,) reach."""
    return float(torch.quantile(chances, 1.0 - share)) + 1e-6


def fit_gain(found: Tensor, true: Tensor) -> Tensor:
    """Least squares for true - 0.5 = gain * (found - 0.5), for x and y apart; both (n, 2)."""
    a, b = found - 0.5, true - 0.5
    return (a * b).sum(0) / a.square().sum(0).clamp_min(1e-9)


def _minimise(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]


def fit_correction(
    rows: Tensor,
    labels: Tensor,
    weights: Tensor,
    bias: Tensor,
    *,
    rank: int,
    epochs: int,
    seed: int,
) -> Tensor:
    """A low-rank correction (d, d) of features: scores = (x + x C) weights^T + bias.

    Trained with cross entropy (label smoothing 0.1) on features (n, d). The caller keeps it only
    if it is better on pictures it has not seen.
    """
    random = torch.Generator().manual_seed(seed)
    down = torch.randn(rows.shape[1], rank, generator=random) * 0.02
    up = torch.zeros(rank, rows.shape[1])
    parameters = [down.requires_grad_(), up.requires_grad_()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-4, weight_decay=0.1)
    for _ in range(epochs):
        for batch in torch.chunk(torch.randperm(len(rows), generator=random), -(-len(rows) // 128)):
            x = rows[batch]
            scores = (x + x @ down @ up) @ weights.T + bias
            loss = F.cross_entropy(scores, labels[batch], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return (down @ up).detach()
