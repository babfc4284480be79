"""Wordings: the same English line a little shorter or longer, by rules that keep its meaning."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from assistant.jobs.dub.contractions import contracted, expanded

_NUMBER = r"\d{1,3}(?:\.\d+)?"
# "1, 2, 3", "1-2-3", "1,2,3" and "1 2 3": at least three, and not a date or a big number.
_BETWEEN = r"(?:, |,(?!\d{3}(?!\d))|-| )"
_NUMBERS = re.compile(rf"(?<![\w.,-]){_NUMBER}(?:{_BETWEEN}{_NUMBER}){{2,}}(?![\w-]|[.,]\d)")
_DIGITS = re.compile(r"(?<![\w.,-])\d{7,}(?![\w-]|[.,]\d)")
_FILLERS = re.compile(
    r"\b(?:well|so|oh|now|okay|you know|i mean|actually|basically|honestly),\s+"
    r"|,\s+(?:you know|i mean|actually|of course|though)\b"
    r"|\b(?:really|very|quite|just|actually|simply)\s+(?=[a-z])",
    re.IGNORECASE,
)
_MARK = re.compile(r"\s*[,;:]\s+")
_SPACES = re.compile(r"\s+")
_GROUPS = (10_000, 5, 3, 2)  # a list is read without pauses, or with one after so many of its parts
_MOST = 12
_ENDS = ".?!"
_OPEN_END = re.compile(r"[\s,;:–—-]+$")  # a line that Whisper did not end


def tidied(text: str) -> str:
    """The text as it is to be read: numbers of a list apart, a capital first, a mark last.

    Whisper writes counting as "1-2-3" (which would be read as "one to two to three") or "1,2,3".
    """
    return _clean(_NUMBERS.sub(lambda found: ", ".join(_parts(found[0])), text))


def _clean(text: str) -> str:
    text = _SPACES.sub(" ", text.replace("\u200b", "")).strip()
    text = _OPEN_END.sub("", text)
    ends = text[-1:] if text[-1:] in _ENDS else f"{text[-1:]}."
    return text[:1].upper() + text[1:-1] + ends if len(text) > 1 else text.upper()


def _alike(text: str) -> str:
    """What texts share that sound the same: their words and their pauses."""
    return text.lower().rstrip(_ENDS)


def wordings(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts and what the rules make of them, nearest to the first first; at most 12."""
    given = [tidied(text) for text in texts]
    others = [other for text in given for other in variants(text)]
    found: dict[str, str] = {}
    for text in given + others:
        if _alike(text):
            found.setdefault(_alike(text), text)
    return tuple(found.values())[:_MOST]


def variants(text: str) -> Iterator[str]:
    """Other ways to say a text: shorter ones and longer ones, none that is the text itself."""
    seen = {_alike(text)}
    for rule in _RULES:
        for other in rule(text):
            tidy = _clean(other)
            if _alike(tidy) not in seen and any(map(str.isalnum, tidy)):
                seen.add(_alike(tidy))
                yield tidy


def _parts(numbers: str) -> list[str]:
    return re.findall(_NUMBER, numbers)


def _lists(text: str) -> Iterator[str]:
    """Numbers with no pause between them, or fewer pauses, or "and" before the last."""
    if not _NUMBERS.search(text):
        return
    for size in _GROUPS:
        yield _NUMBERS.sub(partial(_grouped, size), text)
    yield _NUMBERS.sub(lambda found: _with_and(_parts(found[0])), text)


def _grouped(size: int, found: re.Match[str]) -> str:
    parts = _parts(found[0])
    rows = (parts[at : at + size] for at in range(0, len(parts), size))
    return ", ".join(" ".join(row) for row in rows)


def _with_and(parts: list[str]) -> str:
    return f"{' '.join(parts[:-1])} and {parts[-1]}"


def _digits(text: str) -> Iterator[str]:
    """Counting written in one run of digits."""
    if _DIGITS.search(text):
        yield _DIGITS.sub(lambda found: " ".join(found[0]), text)


def _without_marks(text: str) -> Iterator[str]:
    """No pause within the line."""
    if not _NUMBERS.search(text):
        yield _MARK.sub(" ", text)


def _without_fillers(text: str) -> Iterator[str]:
    yield _FILLERS.sub("", text)


def _contractions(text: str) -> Iterator[str]:
    yield contracted(text)
    yield expanded(text)


_RULES: tuple[Callable[[str], Iterator[str]], ...] = (
    _contractions,
    _without_fillers,
    _lists,
    _digits,
    _without_marks,
)
