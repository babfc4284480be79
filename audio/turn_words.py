"""What the words so far say about a turn: whether it may end here, and whether it is one at all.

The word lists are English. In other languages the marks decide, and what is not known as a
backchannel counts as words.
"""

import re
from typing import Literal

#: finished: the words end a sentence; hanging: more must come; open: nothing is known.
Completeness = Literal["finished", "open", "hanging"]

#: backchannel: "mm-hmm, okay"; interrupting: it has a word such as "stop", "but" or "what";
#: doubtful: any other words. Recognisers make such words out of hums ("Bye.", "Amen.").
Remark = Literal["backchannel", "doubtful", "interrupting"]

_NOTES = re.compile(r"\[[^]]*]|\([^)]*\)|\*[^*]*\*|♪")  # "[cough]": no words, whoever wrote them
_WORD = re.compile(r"[^\W_]+(?:['’.,:][^\W_]+)*")
_CLOSING = "\"'”’»)] "
_ENDS = (".", "!", "?", "。", "！", "？", "।", "؟")
_CUTS = (",", ";", ":", "-", "–", "—", "…", "..", "、", "，", "；", "：", "،")
_QUESTIONS = ("?", "!", "？", "！", "؟")

# A recogniser puts a full stop after whatever it has heard, so a stop alone proves nothing.
_NEVER_LAST = frozenset(
    str.split("""a an the my your our their and or but nor because cause although while unless if
    whether than plus um umm uh uhm er erm mr mrs ms dr prof versus every gonna wanna""")
)
_LAST_IN_A_QUESTION = frozenset(str.split("to of for with from at by as into onto between during"))
_LAST_BEFORE_A_MARK = frozenset(
    str.split("""i we they he she is are was were am be been can could will would shall should may
    might must do does did has have had i'm you're we're they're it's that's what's there's i'd i'll
    i've let's so then not very really just also even only like well about which who when
    where his its after before since until though""")
)
_DIGIT = re.compile(r"\d+")
_DIGIT_WORDS = frozenset(str.split("zero oh one two three four five six seven eight nine double"))
_NUMBER_CUES = frozenset(str.split("number code pin phone zip postcode extension digits digit"))

_INTERRUPTING = frozenset(
    str.split("""stop wait no nope hold hang but what what's why how where when who which actually
    sorry excuse pardon please hey listen question never cancel pause quiet skip repeat again
    slower louder wrong not don't didn't isn't can can't could tell show let let's instead""")
)
_HUM = re.compile(r"m+h*m*|h+m+|[aeou]+h+m*|h+u+h+|(?:h+a+)+h?|[ue]+[mr]+m*")
_PHRASES = tuple(
    tuple(phrase.split())
    for phrase in """yeah|yea|yep|yup|ya|yes|okay|ok|k|right|sure|cool|great|nice|wow|good|fine|true
    exactly|absolutely|indeed|totally|definitely|interesting|real|really|alright|all right|i see
    got it|i got it|gotcha|of course|makes sense|that makes sense|that's right|that's true
    that's great|that's good|that's nice|sounds good|i know|i understand|understood|oh my
    oh my god|my god|oh dear|go on|thanks|thank you|thank you very much|very good|very nice|you know
    i agree|agreed|oh yes|oh really|fair enough|good point|nice one|perfect|lovely|amazing|awesome
    """.replace("\n", "|").split("|")
    if phrase.strip()
)
_PREFIXES = frozenset(phrase[:length] for phrase in _PHRASES for length in range(1, len(phrase)))
_LONGEST = max(map(len, _PHRASES))
_KNOWN = frozenset(_PHRASES)


def words_of(text: str) -> list[str]:
    """The words in lower case, without marks; notes such as "[cough]" are none."""
    plain = _NOTES.sub(" ", text).lower().replace("’", "'")
    return _WORD.findall(plain)


def completeness(text: str) -> Completeness:
    """Whether a turn may end after `text`.

    Hanging: it ends with a comma, on a word that needs another ("because", "the", "um"), or while
    a number is read out digit by digit. Finished: it ends with a full stop, a question mark or
    the like. Open: anything else, no words included.
    """
    words = words_of(text)
    if not words:
        return "open"
    bare = _NOTES.sub(" ", text).rstrip(_CLOSING)
    if bare.endswith(_CUTS) or _needs_more(words[-1], bare) or _reads_digits(words):
        return "hanging"
    return "finished" if bare.endswith(_ENDS) else "open"


def remark(text: str) -> Remark:
    """What a listener's words so far are, said while the other one speaks.

    The last ones count as a backchannel while they may still become one, as "I" may become "I
    see". No words at all are a backchannel too.
    """
    words = words_of(text)
    if not _INTERRUPTING.isdisjoint(words):
        return "interrupting"
    at = 0
    while at < len(words):
        length = _phrase_at(words, at)
        if not length:
            return "backchannel" if tuple(words[at:]) in _PREFIXES else "doubtful"
        at += length
    return "backchannel"


def _phrase_at(words: list[str], at: int) -> int:
    """How many words from `at` are one backchannel; 0 for none."""
    for length in range(min(_LONGEST, len(words) - at), 0, -1):
        if tuple(words[at : at + length]) in _KNOWN:
            return length
    return 1 if _HUM.fullmatch(words[at]) else 0


def _needs_more(word: str, bare: str) -> bool:
    if word in _NEVER_LAST:
        return True
    if word in _LAST_IN_A_QUESTION:
        return not bare.endswith(_QUESTIONS)
    return word in _LAST_BEFORE_A_MARK and not bare.endswith(_ENDS)


def _reads_digits(words: list[str]) -> bool:
    """Two digits or groups of them at the end, or one where a number was announced."""
    run = 0
    for word in reversed(words):
        if not (_DIGIT.fullmatch(word) or word in _DIGIT_WORDS):
            break
        run += 1
    return run >= 2 or (run == 1 and not _NUMBER_CUES.isdisjoint(words))
