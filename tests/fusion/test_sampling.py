import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import FusionError
from fusion.sampling import Sampler, filtered_probabilities


def reference(logits: list[float], temperature: float, top_k: int, top_p: float) -> list[float]:
    """Plain Python, in the order of transformers' warpers."""
    scaled = [value / temperature for value in logits]
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    kept = order[:top_k] if top_k else order
    total = sum(math.exp(scaled[i] - scaled[order[0]]) for i in kept)
    share = {i: math.exp(scaled[i] - scaled[order[0]]) / total for i in kept}
    chosen, reached = [], 0.0
    for i in kept:
        if chosen and reached >= top_p:
            break
        chosen.append(i)
        reached += share[i]
    left = sum(share[i] for i in chosen)
    return [share[i] / left if i in chosen else 0.0 for i in range(len(logits))]


@given(
    # a grid, so that no two scores are so close that rounding decides their order
    logits=st.lists(
        st.integers(-6000, 6000).map(lambda n: n / 500), min_size=2, max_size=30, unique=True
    ),
    temperature=st.floats(0.2, 3),
    top_k=st.integers(0, 8),
    top_p=st.floats(0.05, 0.999),
)
@settings(max_examples=150, deadline=None)
def test_filter_equals_plain_reference(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    found = filtered_probabilities(
        torch.tensor(logits, dtype=torch.float64), temperature, top_k, top_p
    )
    expected = reference(logits, temperature, top_k, top_p)
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_filter_equals_transformers() -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(1)) * 4
    warped = logits
    for warper in (TemperatureLogitsWarper(0.7), TopKLogitsWarper(40), TopPLogitsWarper(0.9)):
        warped = warper(torch.zeros(1, 1, dtype=torch.long), warped)
    found = filtered_probabilities(logits[0], 0.7, 40, 0.9)
    torch.testing.assert_close(found.float(), warped.softmax(-1)[0], atol=1e-6, rtol=1e-5)


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    expected = filtered_probabilities(logits, 1.0, 3)
    sampler = Sampler(1.0, 3, 1.0, seed=5)
    counts = torch.zeros(4)
    for _ in range(4000):
        counts[sampler.pick(logits)] += 1
    assert counts[3] == 0
    # four standard errors of a share drawn 4,000 times
    assert ((counts / 4000 - expected).abs() < 4 * (0.25 / 4000) ** 0.5).all()


def test_same_seed_same_draws_other_seed_other_draws() -> None:
    logits = torch.zeros(50)
    first, again, other = (
        [sampler.pick(logits) for _ in range(20)]
        for sampler in (Sampler(1, 0, 1, 3), Sampler(1, 0, 1, 3), Sampler(1, 0, 1, 4))
    )
    assert first == again != other


def test_greedy_takes_the_best() -> None:
    assert Sampler(0, 0, 1, 0).pick(torch.tensor([0.0, 3.0, 2.0])) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_are_no_numbers_are_refused(temperature: float) -> None:
    with pytest.raises(FusionError, match="finite"):
        Sampler(temperature, 0, 1, 0).pick(torch.tensor([float("nan"), 1.0]))
