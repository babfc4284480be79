"""Text is cut where one would breathe, and read as one would read it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.errors import AudioError
from audio.numbers import LARGEST, cardinal, decimal, digits, ordinal, year
from audio.speech_text import ClauseSplitter, SplitRules, split_clauses, verbalise

_TEXT_PARTS = st.sampled_from(
    [
        *"abcdefgh",
        *[" ", "  ", "\n", "\n\n", ".", ". ", "...", "! ", "? ", ", ", "; ", ": ", "— "],
        *[
            "Dr. ",
            "e.g. ",
            "etc. ",
            "J. ",
            "p.m. ",
            "3.5",
            "12. ",
            "- ",
            '" ',
            "“",
            "The ",
            "a word ",
            *["and ", "with ", "is"],
        ],
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(_TEXT_PARTS, max_size=120),
    cuts=st.lists(st.integers(1, 25), min_size=1, max_size=30),
    longest=st.integers(20, 80),
    opening=st.integers(0, 12),
)
def test_cuts_do_not_depend_on_how_the_text_arrives(
    parts: list[str], cuts: list[int], longest: int, opening: int
) -> None:
    text = "".join(parts)
    rules = SplitRules(6, 15, longest, opening)
    pieces, at = [], 0
    while at < len(text):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(text[at : at + size])
        at += size
    whole = list(split_clauses(text, rules))
    assert list(split_clauses(pieces, rules)) == whole
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert all(len(clause) <= longest + 4 for clause in whole)


_LONG = (
    "The old grey cat sleeps on the chair by the window and dreams of a mouse that ran behind "
    "the white door of the kitchen when the sun was low."
)


@pytest.mark.parametrize(
    ("text", "opening", "clauses"),
    [
        (_LONG, 0, [_LONG]),
        (
            _LONG,
            14,
            [
                "The old grey cat sleeps",
                "on the chair by the window and dreams of a mouse that ran",
                "behind the white door of the kitchen when the sun was low.",
            ],
        ),
        ("Yes, it is in the box.", 9, ["Yes, it is", "in the box."]),
        ("Nobody. And it was never.", 4, ["Nobody.", "And it was never."]),
        ("It is here.", 4, ["It is here."]),
    ],
)
def test_speech_may_open_before_a_clause_is_whole(
    text: str, opening: int, clauses: list[str]
) -> None:
    rules = SplitRules(opening=opening)
    assert list(split_clauses(text, rules)) == clauses
    assert list(split_clauses(iter(text), rules)) == clauses


def test_a_negative_opening_is_refused() -> None:
    with pytest.raises(AudioError, match="opening of 0 characters or more, got -1"):
        SplitRules(opening=-1)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_gives_letters_and_marks_only(text: str) -> None:
    said = verbalise(text)
    assert all(sign.isalpha() or sign in " ',.;:?!" or not sign.isascii() for sign in said)
    assert "  " not in said
    assert not any(sign.isdigit() and sign.isascii() for sign in said)


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("One two. Three four.", ["One two.", "Three four."]),
        ("Dr. Smith met Mr. J. Doe at 3.5 km.", ["Dr. Smith met Mr. J. Doe at 3.5 km."]),
        ("It opens at 5 p.m. The end.", ["It opens at 5 p.m.", "The end."]),
        ("It opens at 5 p.m. on Monday.", ["It opens at 5 p.m. on Monday."]),
        ("Apples, pears, etc. We left.", ["Apples, pears, etc.", "We left."]),
        ("See No. 7 of Vol. 2.", ["See No. 7 of Vol. 2."]),
        ('He said "stop!" Then he left.', ['He said "stop!"', "Then he left."]),
        ("# Title\n\n- one\n- two\n1. three", ["# Title", "- one", "- two", "1. three"]),
        ("a line that is\nwrapped by hand", ["a line that is\nwrapped by hand"]),
        ("Wait... what? Yes!", ["Wait...", "what?", "Yes!"]),
        ("   ", []),
        ("", []),
    ],
)
def test_sentences(text: str, clauses: list[str]) -> None:
    assert list(split_clauses(text)) == clauses


def test_the_first_clause_comes_early_and_later_ones_stay_whole() -> None:
    splitter = ClauseSplitter()
    assert splitter.feed("On the right of the door, the") == ["On the right of the door,"]
    assert splitter.feed(" cat sleeps, as cats do. Next") == ["the cat sleeps, as cats do."]
    assert splitter.finish() == ["Next"]
    assert splitter.finish() == []


def test_text_without_marks_is_cut_at_a_space() -> None:
    text = "word " * 200
    clauses = list(split_clauses(text))
    assert all(clause.endswith("word") for clause in clauses)
    assert max(map(len, clauses)) <= SplitRules().longest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # numbers
        ("1,204 of 27", "one thousand two hundred four of twenty seven"),
        ("3.05 and -5", "three point zero five and minus five"),
        ("the 2nd, 21st and 100th", "the second, twenty first and one hundredth"),
        ("in 1938, 2005, 2024 and 1900", "in nineteen thirty eight, two thousand five, "
         "twenty twenty four and nineteen hundred"),
        ("the 1980s and the 90s", "the nineteen eighties and the nineties"),
        ("1/2, 3/4 and 2 1/2", "one half, three quarters and two and a half"),
        ("10-20 people", "ten to twenty people"),
        ("007", "zero zero seven"),
        ("version 1.2.3", "version one point two point three"),
        ("No. 7 and #3", "number seven and number three"),
        # dates and times
        ("March 14, 2024", "March fourteenth, twenty twenty four"),
        ("on 3 May 1999", "on the third of May nineteen ninety nine"),
        ("2024-03-14", "March fourteenth, twenty twenty four"),
        ("12/25/2020", "December twenty fifth, twenty twenty"),
        ("at 7:45 a.m. today", "at seven forty five A M today"),
        ("9:05, 14:00 and 3:00", "nine oh five, fourteen hundred and three o'clock"),
        ("by 7pm. Then", "by seven P M. Then"),
        # money, percent, units
        ("$1,249.99", "one thousand two hundred forty nine dollars and ninety nine cents"),
        ("£1, €20 and $0.01", "one pound, twenty euros and one cent"),
        ("$3.5 million, $2k and ¥5", "three point five million dollars, two thousand dollars "
         "and five yen"),
        ("62% of 5.5 %", "sixty two percent of five point five percent"),
        ("1 kg, 2 lbs, 60 km/h", "one kilogram, two pounds, sixty kilometers per hour"),
        ("20m², 3GHz, 5 ft", "twenty square meters, three gigahertz, five feet"),
        ("-5 °C", "minus five degrees Celsius"),
        # phones and addresses
        ("555-0142", "five five five, zero one four two"),
        ("(555) 123-4567", "five five five, one two three, four five six seven"),
        ("+1 555 010", "plus one, five five five, zero one zero"),
        ("example.com/help.", "example dot com slash help."),
        ("https://www.example.org/a_b?x=1", "example dot org slash a underscore b question mark "
         "x equals one"),
        ("jo.doe@mail-host.net", "jo dot doe at mail dash host dot net"),
        # abbreviations and capitals
        ("Dr. and Mrs. Hughes, St. Louis", "Doctor and Missus Hughes, Saint Louis"),
        ("221 Baker St. in London", "two hundred twenty one Baker Street in London"),
        ("tea, milk, etc. We left", "tea, milk, et cetera. We left"),
        ("e.g. this vs. that", "for example this versus that"),
        ("the USA, NASA and the CEO's PDFs", "the U S A, Nasa and the C E O's P D Fs"),
        ("the U.S. army. J. R. Smith", "the U S army. J R Smith"),
        ("GitHub", "Git Hub"),
        ("It is NOT open", "It is Not open"),
        # marks
        ("**bold** _it_ ~~old~~ `code_name`", "bold it old code name"),
        ("[a link](http://x.org) ![alt](p.png)", "a link alt"),
        ("## Title\n- one\n- two", "Title. one. two"),
        ("```python\nx\n```", "x"),
        ("| a | b |\n|---|---|\n| c | d |", "a, b, c, d"),
        ("Hi 👋🏽 there 😀!", "Hi there!"),
        ("a — b (c) “d”", "a, b, c, d"),
        ("'quoted' dogs' rock 'n' roll", "quoted dogs' rock n roll"),
        ("salt & pepper + x = y @ home", "salt and pepper plus x equals y at home"),
        ("so... what?!", "so. what?"),
        ("¿? --- *** ...", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_reading(text: str, said: str) -> None:
    assert verbalise(text).strip(" .?!") == said.strip(" .?!")


@given(st.integers(0, LARGEST))
def test_cardinals_can_be_read_back(number: int) -> None:
    assert _value(cardinal(number)) == number


def _value(words: str) -> int:
    """Read words back with a table of its own."""
    small = {cardinal(n): n for n in (*range(20), *range(20, 100, 10))}
    total = group = 0
    for word in words.split():
        if word == "hundred":
            group *= 100
        elif word in small:
            group += small[word]
        else:
            power = ["thousand", "million", "billion", "trillion", "quadrillion"].index(word) + 1
            total, group = total + group * 1000**power, 0
    return total + group


def test_number_words() -> None:
    assert cardinal(-3) == "minus three"
    assert cardinal(LARGEST + 1) == "one" + " zero" * 18
    assert [ordinal(n) for n in (1, 12, 20, 33)] == [
        "first",
        "twelfth",
        "twentieth",
        "thirty third",
    ]
    assert decimal(".5") == "zero point five"
    assert digits("4-2") == "four two"
    assert [year(n) for n in (1066, 1905, 2000, 2010)] == [
        "ten sixty six", "nineteen oh five", "two thousand", "twenty ten",
    ]  # fmt: skip
