"""Contractions of English and their opposites, where the meaning leaves no doubt."""

import re
from types import MappingProxyType

_PAIRS = MappingProxyType(
    {
        "do not": "don't",
        "does not": "doesn't",
        "did not": "didn't",
        "is not": "isn't",
        "are not": "aren't",
        "was not": "wasn't",
        "were not": "weren't",
        "has not": "hasn't",
        "have not": "haven't",
        "had not": "hadn't",
        "cannot": "can't",
        "could not": "couldn't",
        "will not": "won't",
        "would not": "wouldn't",
        "should not": "shouldn't",
        "i am": "I'm",
        "you are": "you're",
        "we are": "we're",
        "they are": "they're",
        "i have": "I've",
        "you have": "you've",
        "we have": "we've",
        "they have": "they've",
        "i will": "I'll",
        "you will": "you'll",
        "he will": "he'll",
        "she will": "she'll",
        "we will": "we'll",
        "they will": "they'll",
        "it is": "it's",
        "that is": "that's",
        "there is": "there's",
        "what is": "what's",
        "he is": "he's",
        "she is": "she's",
        "let us": "let's",
    }
)
# "it's" may be "it has", and "let's go" is never "let us go" in the same tone.
_ONE_WAY = frozenset({"it's", "that's", "there's", "what's", "he's", "she's", "let's"})
_LONG = re.compile(
    # Never at the end of a clause ("yes, I am."), and "have" only before a participle or "to".
    r"\b(?:" + "|".join(re.escape(pair) for pair in _PAIRS) + r")\b(?=\s+[a-z])",
    re.IGNORECASE,
)
_SHORT = MappingProxyType(
    {short.lower(): pair for pair, short in _PAIRS.items() if short not in _ONE_WAY}
)
_SHORTENED = re.compile(
    r"\b(?:" + "|".join(re.escape(short) for short in _SHORT) + r")\b", re.IGNORECASE
)
_HAVE = re.compile(r"\s+(?:been|to|\w+ed|\w+en|seen|done|had|gone|made|got|found|heard)\b")


def contracted(text: str) -> str:
    """ "do not" as "don't", and so on."""

    def shorten(found: re.Match[str]) -> str:
        pair = found[0].lower()
        if pair.endswith(" have") and not _HAVE.match(text, found.end()):
            return found[0]
        return _cased(_PAIRS[pair], found[0])

    return _LONG.sub(shorten, text)


def expanded(text: str) -> str:
    """ "don't" as "do not", and so on, except in questions, which begin with it."""

    def lengthen(found: re.Match[str]) -> str:
        long = _SHORT[found[0].lower().replace("’", "'")]
        opens = found.start() == 0 or text[found.start() - 2 : found.start() - 1] in ".?!,"
        if opens and found[0].lower().endswith("n't"):
            return found[0]  # "don't you know" would become "do not you know"
        return _cased(long.replace("i ", "I ", 1) if long[:2] == "i " else long, found[0])

    return _SHORTENED.sub(lengthen, text)


def _cased(new: str, old: str) -> str:
    return new[:1].upper() + new[1:] if old[:1].isupper() else new
