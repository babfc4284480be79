"""Written English to spoken words: numbers, dates, money, units, abbreviations, addresses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from audio.numbers import cardinal, decimal, digits, ordinal, plural, year
from audio.spoken_tables import (
    ABBREVIATIONS,
    ADDRESS_SIGNS,
    CURRENCIES,
    IRREGULAR,
    LONGEST_SPELLED,
    READ_AS_WORDS,
    UNITS,
)

_MONTHS = str.split(
    "January February March April May June July August September October November December"
)
_MONTH = "|".join([*_MONTHS, *(f"{month[:3]}\\.?" for month in _MONTHS), "Sept\\.?"])
_UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_SCALE = r"thousand|million|billion|trillion"


def verbalise(text: str) -> str:
    """The words and clause marks to be spoken: letters, apostrophes, spaces and , . ; : ? !

    Markdown and code marks, emoji and other signs without a reading are dropped, so the result may
    be empty. Spelled letters come out as single capitals ("U S A").
    """
    text = unicodedata.normalize("NFC", text)
    for pattern, spoken in _RULES:
        text = pattern.sub(spoken, text)
    return _tidy(text)


def _tidy(text: str) -> str:
    text = "".join(sign if _speakable(sign) else " " for sign in text)
    text = re.sub(r"(?<![^\W\d_])'|'(?![^\W\d_])(?<!s')", " ", text)
    text = re.sub(r"\s*[,.;:?!](?:\s*[,.;:?!])*\s*", _strongest, text)
    return re.sub(r"\s+", " ", text).strip(" ,;:")


def _speakable(sign: str) -> bool:
    return sign.isalpha() or sign in " ',.;:?!" or unicodedata.combining(sign) != 0


def _strongest(marks: re.Match[str]) -> str:
    """Of several marks in a row the one that ends the most, and a space after it."""
    return min("".join(marks[0].split()), key="?!.:;,".index) + " "


# ---- the rules: one function for each kind of sign that is read in its own way


def _address(found: re.Match[str]) -> str:
    """A web or mail address: its words, with the signs named."""
    said = re.sub(r"^https?://(?:www\.)?|^www\.", "", found[0]).rstrip("/")
    tail = ""
    while said and said[-1] in ".,;:!?)":
        said, tail = said[:-1], said[-1] + tail
    for sign, name in ADDRESS_SIGNS.items():
        said = said.replace(sign, f" {name} ")
    said = re.sub(r"\d+", lambda run: f" {_plain_number(run)} ", said)
    return f" {said} {tail}"


def _money(found: re.Match[str]) -> str:
    major, minor = CURRENCIES[found["sign"]]
    amount = found["amount"].replace(",", "")
    if found["scale"]:
        scale = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion"}
        word = scale.get(found["scale"].lower(), found["scale"])
        return f"{decimal(amount)} {word} {_many(major)}"
    whole, _, part = amount.partition(".")
    said = f"{cardinal(int(whole))} {major if int(whole) == 1 else _many(major)}"
    if len(part) == 2 and minor:
        cents = int(part)
        if cents:
            count = f"{cardinal(cents)} {minor if cents == 1 else _many(minor)}"
            said = count if not int(whole) else f"{said} and {count}"
        return said
    return f"{decimal(amount)} {_many(major)}" if part else said


def _many(name: str) -> str:
    """ "kilometer per hour" -> "kilometers per hour"."""
    first, _, rest = name.partition(" ")
    if first in ("square", "cubic", "kilowatt"):
        return f"{first} {_many(rest)}"
    made = first if first.endswith("hertz") else IRREGULAR.get(first) or plural(first)
    return f"{made} {rest}".strip()


def _measure(found: re.Match[str]) -> str:
    amount, unit = found["amount"], UNITS[found["unit"]]
    return f"{decimal(amount)} {unit if amount == '1' else _many(unit)}"


def _month_day(found: re.Match[str]) -> str:
    said = f"{_month_name(found['month'])} {ordinal(int(found['day']))}"
    return f"{said}, {year(int(found['year']))}" if found["year"] else said


def _day_month(found: re.Match[str]) -> str:
    said = f"the {ordinal(int(found['day']))} of {_month_name(found['month'])}"
    return f"{said} {year(int(found['year']))}" if found["year"] else said


def _numeric_date(found: re.Match[str]) -> str:
    month, day = int(found["month"]), int(found["day"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return found[0]
    return f"{_MONTHS[month - 1]} {ordinal(day)}, {year(int(found['year']))}"


def _month_name(text: str) -> str:
    return next(month for month in _MONTHS if month.startswith(text[:3]))


def _time(found: re.Match[str]) -> str:
    hour, minute = int(found["hour"]), int(found["minute"] or 0)
    if hour > 24 or minute > 59:
        return found[0]
    half = " ".join((found["half"] or "").replace(".", "").upper())
    said = cardinal(hour)
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif not half:
        said += " hundred" if hour > 12 or hour == 0 else " o'clock"
    ends = (found["half"] or "").count(".") in (1, 2) and found["half"].endswith(".")
    if ends and found["half"].count(".") == 2:  # "a.m." has its own full stop, "am." has not
        ends = _at_sentence_end(found)
    return f"{said} {half}{'.' if ends else ''}"


def _at_sentence_end(found: re.Match[str]) -> bool:
    rest = found.string[found.end() :].lstrip()
    return not rest or rest[0].isupper() or rest[0].isdigit()


def _fraction(found: re.Match[str]) -> str:
    top, bottom = int(found["top"]), int(found["bottom"])
    names = {2: "half", 4: "quarter"}
    if bottom not in range(2, 101) or top >= bottom:
        return f"{cardinal(top)} slash {cardinal(bottom)}"
    name = names.get(bottom, ordinal(bottom))
    if top == 1:
        return f"one {name}"
    return f"{cardinal(top)} {'halves' if bottom == 2 else plural(name)}"


def _mixed_number(found: re.Match[str]) -> str:
    part = _fraction(found)
    return f"{cardinal(int(found['whole']))} and {'a half' if part == 'one half' else part}"


def _decade(found: re.Match[str]) -> str:
    number = int(found["year"])
    return plural(year(number) if number >= 1000 else cardinal(number))


def _plain_number(found: re.Match[str]) -> str:
    text = found[0]
    if "," in text or "." in text:
        return decimal(text)
    if len(text) > 1 and (text[0] == "0" or len(text) > 12):
        return digits(text)
    number = int(text)
    return year(number) if len(text) == 4 and 1100 <= number < 2100 else cardinal(number)


def _dotted(found: re.Match[str]) -> str:
    """A version or an address such as 1.2.3."""
    return f" {' point '.join(cardinal(int(part)) for part in found[0].split('.'))} "


def _abbreviation(found: re.Match[str]) -> str:
    said = ABBREVIATIONS[found[0]]
    final = found[0] in ("etc.", "Inc.", "Ltd.", "Co.", "Corp.", "Jr.", "Sr.")
    return said + "." if final and _at_sentence_end(found) else said


def _capitals(found: re.Match[str]) -> str:
    word, ending = found["word"], found["ending"] or ""
    if word in READ_AS_WORDS:
        return word.capitalize() + ending
    if len(word) > LONGEST_SPELLED and re.search("[AEIOU]", word):
        return word.capitalize() + ending
    return " ".join(word) + ending


def _dotted_capitals(found: re.Match[str]) -> str:
    letters = " ".join(found[0].replace(".", ""))
    return letters + "." if found[0].endswith(".") and _at_sentence_end(found) else letters


_Spoken = str | Callable[[re.Match[str]], str]

_PATTERNS: list[tuple[str, int, _Spoken]] = [
    # typographic forms of plain signs
    ("[‘’ʼ´](?=\\w)", 0, "'"),
    ("…", 0, "..."),
    ("½", 0, " 1/2"),
    ("¼", 0, " 1/4"),
    ("¾", 0, " 3/4"),
    ("[−‑–](?=\\d)", 0, "-"),
    (r"\n(?=\s*(?:[-*+•]|\d{1,2}[.)]|#{1,6})\s)", 0, ".\n"),
    # markdown: fences, pictures, links, headings, lists, quotes, tables, emphasis
    (r"^\s*(```|~~~).*$", re.M, ""),
    (r"!?\[([^\]]*)\]\([^)]*\)", 0, r"\1"),
    (r"^\s{0,3}(?:#{1,6}|>+|[-*+•])\s+", re.M, ""),
    (r"^\s*\d{1,2}[.)]\s+(?=\D)", re.M, ""),
    (r"^\s*\|?(?:\s*:?-{3,}:?\s*\|?)+\s*$", re.M, ""),
    (r"\s*\|\s*", 0, ", "),
    (r"(\*{1,3}|~~|(?<!\w)_{1,3})(?=\S)(.+?)(?<=\S)\1", 0, r"\2"),
    (r"(?:https?://|www\.)\S+", 0, _address),
    (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", 0, _address),
    (r"\b(?:[\w-]+\.)+(?:com|org|net|io|edu|gov|ai|dev|co\.uk)(?:/[^\s,;]*)?\b", 0, _address),
    # money, dates, times
    (
        rf"(?P<sign>[$€£¥₹])\s?(?P<amount>{_NUMBER})"
        rf"(?:\s?(?P<scale>{_SCALE}|[kKmMbB]n?\b))?",
        0,
        _money,
    ),
    (r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)\b", 0, _numeric_date),
    (r"\b(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})\b", 0, _numeric_date),
    (
        rf"\b(?P<month>{_MONTH})\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?!:)"
        r"(?:,?\s(?P<year>\d{4})\b)?",
        0,
        _month_day,
    ),
    (
        rf"\b(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month>{_MONTH})\b"
        r"(?:,?\s(?P<year>\d{4})\b)?",
        0,
        _day_month,
    ),
    (
        r"\b(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::\d\d)?"
        r"(?:\s?(?P<half>[ap]\.?m\b\.?))?(?!\d)",
        re.I,
        _time,
    ),
    (r"\b(?P<hour>\d{1,2})(?P<minute>)\s?(?P<half>[ap]\.?m\b\.?)", re.I, _time),
    # numbers with something attached
    (
        r"\(\d{3}\) ?\d{3}-\d{4}|\+\d[\d ()-]{6,}\d|\b\d{3}-(?:\d{3}-)?\d{4}\b",
        0,
        lambda found: _phone(found[0]),
    ),
    (r"(?<=\d)\s?[-–]\s?(?=\d)", 0, " to "),
    (r"(?<![\w.])-(?=\d)", 0, "minus "),
    (rf"(?P<amount>{_NUMBER})\s?%", 0, lambda m: f"{decimal(m['amount'])} percent"),
    (r"\b(?P<year>\d{3}0|(?<=the )\d0)'?s\b", 0, _decade),
    (rf"\b(?P<amount>{_NUMBER})[\s-]?(?P<unit>{_UNIT})(?![\w/])", 0, _measure),
    (
        r"\b(?P<whole>\d+) (?P<top>\d)/(?P<bottom>\d{1,2})\b",
        0,
        _mixed_number,
    ),
    (r"\b(?P<top>\d{1,3})/(?P<bottom>\d{1,3})\b", 0, _fraction),
    (r"\b(\d[\d,]*)(?:st|nd|rd|th)\b", 0, lambda m: ordinal(int(m[1].replace(",", "")))),
    (r"(?<![\d.])\d+(?:\.\d+){2,}\b", 0, _dotted),
    (r"(?:#|\b[Nn]o\.\s?|\bNos\.\s?)(?=\d)", 0, "number "),
    (_NUMBER, 0, lambda m: f" {_plain_number(m)} "),
    # words that are not written as said
    (r"\bSt\.(?=\s[A-Z])(?<!\w St\.)", 0, "Saint"),
    (r"(?<=[a-z] )St\.(?=\s[A-Z])|^St\.(?=\s[A-Z])", 0, "Saint"),
    (r"\bSt\.", 0, "Street"),
    (
        r"(?<![\w.])(?:" + "|".join(re.escape(a) for a in ABBREVIATIONS) + r")(?!\w)",
        0,
        _abbreviation,
    ),
    (r"\b(?:[A-Za-z]\.){2,}(?!\w)", 0, _dotted_capitals),
    (r"(?<![A-Z] )\b([A-Z])\.(?=\s[A-Z])", 0, r"\1"),
    (r"(?<=[a-z])(?=[A-Z])", 0, " "),
    (r"\b(?P<word>[A-Z]{2,})(?P<ending>'?s)?\b", 0, _capitals),
    # signs with a name, brackets and dashes
    (r"\s?&\s?", 0, " and "),
    (r"\s?\+\s?", 0, " plus "),
    (r"\s?[=≈]\s?", 0, " equals "),
    (r"(?<=\w) ?[×] ?(?=\w)", 0, " times "),
    (r"\s?→\s?", 0, " to "),
    (r"@", 0, " at "),
    (r"\s?[([{]\s?", 0, ", "),
    (r"\s?[)\]}]", 0, ", "),
    (r"\s[-–—]+\s|[–—]+|--+", 0, ", "),
    (r"\n\s*\n", 0, ". "),
]

_RULES = [(re.compile(pattern, flags), spoken) for pattern, flags, spoken in _PATTERNS]


def _phone(text: str) -> str:
    groups = re.findall(r"\d+", text)
    said = ", ".join(digits(group) for group in groups)
    return f"plus {said}" if text.startswith("+") else said
