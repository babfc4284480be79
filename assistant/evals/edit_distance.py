"""How many insertions, deletions and substitutions turn one sequence into another."""

from collections.abc import Hashable, Sequence


def edit_distance(ref: Sequence[Hashable], hyp: Sequence[Hashable]) -> int:
    """Levenshtein distance between two sequences of words, phonemes or letters.

    Two rows of the dynamic programme of Wagner & Fischer (1974): time O(n*m), memory O(m).
    Divided by ``len(ref)`` it is the word (phoneme, character) error rate.
    """
    if len(ref) < len(hyp):  # the distance is symmetric; keep the row short
        ref, hyp = hyp, ref
    row = list(range(len(hyp) + 1))
    for i, wanted in enumerate(ref, start=1):
        diagonal, row[0] = row[0], i
        for j, got in enumerate(hyp, start=1):
            substitute = diagonal + (wanted != got)
            diagonal = row[j]
            row[j] = min(substitute, diagonal + 1, row[j - 1] + 1)
    return row[-1]
