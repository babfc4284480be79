"""How English words change in a sentence, as espeak-ng en-us is heard to say them: tables."""

from __future__ import annotations

from collections.abc import Mapping

# Words whose usual form differs from the lexicon's, which lists them as said alone.
USUAL: Mapping[str, str] = {
    "i": "aɪ",
    "had": "hæd",
    "o'clock": "əklˈɑːk",
    "an": "ɐn",
    "laughs": "lˈæfs",
    "wanna": "wˈɑːnə",
    "gonna": "ɡˈʌnə",
}

# Forms before a vowel.
BEFORE_VOWEL: Mapping[str, str] = {"the": "ðɪ", "to": "tʊ", "it": "ɪɾ", "at": "æɾ"}

# Forms inside a clause; at its start the lexicon's form with a light stress stands.
INSIDE: Mapping[str, str] = {"what": "wʌt", "when": "wɛn", "what's": "wʌts"}

# Forms as the last word of a clause.
LAST: Mapping[str, str] = {"a": "ˈeɪ", "to": "tuː", "has": "hˈæz", "the": "ðə"}

# Lightly stressed or unstressed words that take the main stress at the end of a clause, even when
# only an unstressed word follows ("think about it").
STRESSED_LATE = frozenset(
    str.split(
        """that these those what which who whom where when why how my his hers being have having
        doing
        can could will would shall should might isn't aren't weren't couldn't won't
        shouldn't there's what's who's where's on over under up down without onto
        about above across among before behind below beside between beyond near
        through within so there go going get got make made put"""
    )
)

# Words that take the main stress only as the very last word of a clause.
STRESSED_LAST = frozenset(str.split("this that's be in by while not"))

# Pairs that are said as one word. "~" stands for the vowel of "the": ə, or ɪ before a vowel.
_PAIR_LINES = """
    this one: ðˈɪswˌʌn
    that a: ðˌæɾə
    that the: ðætð~
    that one: ðˈætwˌʌn
    no one: nˈoʊwˈʌn
    no more: nˈoʊmˌoːɹ
    we shall: wiːʃˌɐl
    was a: wʌzɐ
    was the: wʌzð~
    have been: hɐvbɪn
    have not: hɐvnˌɑːt
    has been: hˈæzbiːn
    has not: həznɑːt
    had it: hˌædɪt
    had them: hˌædðɛm
    had been: hɐdbɪn
    had to: hædtə
    do not: duːnˌɑːt
    does not: dʌznˌɑːt
    did not: dɪdnˌɑːt
    could have: kˌʊdɐv
    would have: wʊdhɐv
    should have: ʃˌʊdəv
    may have: mˌeɪhɐv
    might have: mˌaɪthɐv
    must have: mˈʌstɐv
    can't have: kˈæntɐv
    couldn't have: kˌʊdəntəv
    won't have: wˌoʊntɐv
    wouldn't have: wˌʊdəntəv
    shouldn't have: ʃˌʊdənthəv
    he's had: hiːzhˌæd
    she's had: ʃiːzhˌæd
    it's had: ɪtshˌæd
    i've had: aɪvhˌæd
    you've had: juːvhˌæd
    we've had: wiːvhˌæd
    they've had: ðeɪvhˌæd
    that's it: ðætsˈɪt
    that's been: ðɐtsbˌɪn
    in the: ɪnð~
    in which: ɪnwˌɪtʃ
    on the: ɔnð~
    at a: æɾə
    at once: ɐtwˈʌns
    for a: fɚɹə
    for the: fɚð~
    from the: fɹʌmð~
    of a: əvə
    of the: ʌvð~
    of which: ʌvwˈɪtʃ
    out of: ˌaʊɾəv
    to be: təbi
    with the: wɪðð~
    than a: ðˌænə
    not a: nˌɑːɾə
    not have: nˌɑːɾɐv
    many of: mˈɛnɪəv
    there be: ðɛɹbˈiː
    there are: ðɛɹˌɑːɹ
    there was: ðɛɹwˌʌz
    there were: ðɛɹwˌɜː
    i am: aɪɐm
    for an: fɚɹən
    of an: əvən
    than an: ðˌænən
    such as: sˈʌtʃ ɐz
    at all: æɾ ˈɔːl
"""
PAIRS: Mapping[tuple[str, str], str] = {
    (words.split()[0], words.split()[1]): said
    for words, said in (line.strip().split(": ") for line in _PAIR_LINES.strip().splitlines())
}

# Words that sound otherwise as verbs; the lexicon has the noun or adjective. Forms in -s follow.
_VERB_LINES = """
record ɹᵻkˈoːɹd, present pɹɪzˈɛnt, object ɑːbdʒˈɛkt, project pɹədʒˈɛkt, permit pɚmˈɪt,
conduct kəndˈʌkt, contrast kəntɹˈæst, export ɛkspˈoːɹt, increase ɪŋkɹˈiːs, rebel ɹᵻbˈɛl,
suspect səspˈɛkt, conflict kənflˈɪkt, contract kəntɹˈækt, desert dᵻzˈɜːt, use jˈuːz, house hˈaʊz,
close klˈoʊz, live lˈɪv, wind wˈaɪnd, tear tˈɛɹ, abuse ɐbjˈuːz, separate sˈɛpɚɹˌeɪt,
estimate ˈɛstᵻmˌeɪt, graduate ɡɹˈædjuːˌeɪt, alternate ˈɔːltɚnˌeɪt, moderate mˈɑːdɚɹˌeɪt,
convict kənvˈɪkt, extract ɛkstɹˈækt, progress pɹəɡɹˈɛs, protest pɹətˈɛst, perfect pɚfˈɛkt,
attribute ɐtɹˈɪbjuːt, transfer tɹænsfˈɜː, survey sɚvˈeɪ, coordinate koʊˈɔːɹdɪnˌeɪt,
deliberate dᵻlˈɪbɚɹˌeɪt, bow bˈaʊ, finance faɪnˈæns
"""


def _verbs() -> dict[str, str]:
    pairs = [entry.split() for entry in _VERB_LINES.replace("\n", " ").split(",")]
    plain = dict(pairs)
    third = {word + "s": said + _third_person(said) for word, said in plain.items()}
    return plain | third


def _third_person(said: str) -> str:
    if said.endswith(("s", "z")):
        return "ᵻz"
    return "s" if said.endswith(("t", "k", "p")) else "z"


VERBS: Mapping[str, str] = _verbs()

# After these words a word of VERBS is a verb ...
BEFORE_VERB = frozenset(
    str.split(
        """to i you we they who people can could will would shall should may might must don't
        didn't doesn't not won't can't cannot couldn't wouldn't shouldn't let's please
        i'll you'll he'll she'll we'll they'll i'd you'd he'd she'd we'd they'd"""
    )
)
# ... and after these it is one if it ends in -s.
BEFORE_THIRD_PERSON = frozenset(str.split("he she it that who which"))
# Adverbs that may stand between.
SKIPPED = frozenset(str.split("also always never often just only still usually really even"))

# After a perfect or a passive "read" rhymes with "red".
BEFORE_PARTICIPLE = frozenset(
    str.split(
        """has have had having was were is are been be being i've you've we've they've it's
        haven't hasn't hadn't"""
    )
)
PARTICIPLES: Mapping[str, str] = {"read": "ɹˈɛd", "wound": "wˈaʊnd"}

# Words that sound otherwise after an article or a possessive; the lexicon has the verb.
NOUNS: Mapping[str, str] = {
    "produce": "pɹˈɑːduːs",
    "refund": "ɹˈiːfʌnd",
    "refuse": "ɹˈɛfjuːs",
    "upset": "ˈʌpsɛt",
}
BEFORE_NOUN = frozenset(str.split("a an the this that my your his her its our their some any no"))

# espeak takes a breath before these once a clause has gone on for a while: no linking r.
BREATH_BEFORE = frozenset(str.split("and or if although"))
