from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.errors import VoxsightError
from assistant.jobs.dub.lines import FittedLine, Line, SpokenLine, TranslatedLine

LINE = Line(1, 500, 1500, 200, "es", "A", "Hola.")
FITTED = FittedLine(LINE, "Hello.", 1.0, 1.0, 500, 1560, 0, 3)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 99),
    st.integers(0, 10**7),
    st.integers(1, 10**5),
    st.text(min_size=1).filter(str.strip),
)
def test_round_trip(number: int, start: int, length: int, text: str) -> None:
    line = Line(number, start, start + length, 0, "ja", "B", text)
    translated = TranslatedLine(line, (text, "x"))
    fitted = FittedLine(line, text, 1.1, 0.95, start, start + length, 0, 0)
    spoken = SpokenLine(fitted, start, start + 1, ((text, 1, 2),), text, 0.25, 10)
    for record in (line, translated, fitted, spoken):
        assert type(record).from_dict(record.to_dict()) == record


def test_derived() -> None:
    assert LINE.slot_ms == 1000
    assert FITTED.miss_ms == 60
    kept = TranslatedLine(LINE, (), kept="because")
    assert TranslatedLine.from_dict(kept.to_dict()) == kept


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"number": "1"}, "Line is wrong at number"),
        ({"number": 0}, "numbered from 1"),
        ({"extra": 1}, "Line is wrong at extra"),
        ({"start_ms": 1.5}, "wrong at start_ms"),
        ({"start_ms": 1500}, "end after it starts"),
        ({"free_ms": -1}, "pause of 0 ms or more"),
        ({"language": None}, "wrong at language"),
    ],
)
def test_bad_line(change: dict[str, Any], told: str) -> None:
    with pytest.raises(VoxsightError, match=told):
        Line.from_dict({**LINE.to_dict(), **change})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rate": 1.3}, "rate of 0.85 to 1.25"),
        ({"stretch": 0.8}, "stretched by 0.9 to 1,"),
        ({"start_ms": 400}, "within its times"),
        ({"wording": " "}, "within its times"),
        ({"borrowed_ms": 300}, "borrow 0 to 200"),
    ],
)
def test_bad_fitted_line(change: dict[str, Any], told: str) -> None:
    with pytest.raises(VoxsightError, match=told):
        FittedLine.from_dict({**FITTED.to_dict(), **change})


@pytest.mark.parametrize(("wordings", "kept"), [((), ""), (("a", " "), ""), (("a",), "why")])
def test_bad_translated_line(wordings: tuple[str, ...], kept: str) -> None:
    with pytest.raises(VoxsightError, match="should have wordings"):
        TranslatedLine(LINE, wordings, kept)


def test_missing_field() -> None:
    with pytest.raises(VoxsightError, match="wrong at original"):
        Line.from_dict({key: value for key, value in LINE.to_dict().items() if key != "original"})
