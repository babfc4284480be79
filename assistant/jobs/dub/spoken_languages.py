"""Which language each stretch of speech is in, when all of them are weighed together."""

from collections.abc import Mapping, Sequence

import numpy as np

_ROUNDS = 20
_DOUBT = 1e-4  # added to every probability: a detector that is certain may be wrong
_LONGEST_S = 4.0  # a longer stretch weighs no more


def settle(
    found: Sequence[Mapping[str, float]], seconds: Sequence[float]
) -> list[tuple[str, float]]:
    """The language of each stretch with its probability.

    A second of speech tells a language badly, a recording holds few languages, and so the
    languages of the long and clear stretches are likelier in the short ones: a mixture whose
    shares are found by expectation maximisation from what the detector says of each stretch.

    Args:
        found: for each stretch, languages and their probabilities.
        seconds: how long each stretch is.
    """
    if not found:
        return []
    languages = sorted({language for one in found for language in one})
    likely = np.array([[one.get(language, 0.0) for language in languages] for one in found])
    likely = likely + _DOUBT
    weights = np.minimum(np.asarray(seconds, np.float64), _LONGEST_S)
    shares = np.full(len(languages), 1 / len(languages))
    for _ in range(_ROUNDS):
        posterior = likely * shares
        posterior /= posterior.sum(axis=1, keepdims=True)
        shares = weights @ posterior / weights.sum()
    best = posterior.argmax(axis=1)
    return [
        (languages[at], round(float(row[at]), 4)) for at, row in zip(best, posterior, strict=True)
    ]
