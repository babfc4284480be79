"""A person's corrections: checked strictly, and only what was changed is made anew."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.errors import VoxsightError
from assistant.jobs.dub.editing import (
    EditedLine,
    Plan,
    apply_edits,
    at_rate,
    lines_document,
    read_edits,
    to_edit,
)
from assistant.jobs.dub.lines import FittedLine, TranslatedLine
from tests.jobs.dub_samples import HummingVoice, fitted, line

FIRST, SECOND, THIRD = (
    line(1, 1000, 2000, 420),
    line(2, 2500, 4000, 920, speaker="B"),
    line(3, 5000, 6000, 0),
)
TRANSLATED = (
    TranslatedLine(FIRST, ("Good day.", "Hello there.")),
    TranslatedLine(SECOND, ("How are you?",)),
    TranslatedLine(THIRD, (), "a song"),
)
PLAN = Plan(
    (fitted(FIRST, "Hello there."), fitted(SECOND, "How are you?")),
    (TRANSLATED[2],),
)


def _fit(each: TranslatedLine) -> FittedLine:
    return fitted(each.line, each.wordings[0], rate=1.2)


def _edited(*changes: EditedLine) -> Plan:
    by_number = {change.number: change for change in changes}
    edits = tuple(by_number.get(each.number, each) for each in to_edit(PLAN, {}))
    return apply_edits(PLAN, TRANSLATED, edits, _fit, lambda _: HummingVoice())


def _own(number: int, **changes: Any) -> EditedLine:
    return replace(to_edit(PLAN, {})[number - 1], **changes)


def test_written_and_read_back(tmp_path: Path) -> None:
    lines = to_edit(PLAN, {2: 1.1})
    assert [(each.text, each.rate) for each in lines] == [
        ("Hello there.", None),
        ("How are you?", 1.1),
        ("", None),
    ]
    path = tmp_path / "lines.json"
    path.write_text(json.dumps(lines_document(lines, "abc", "en")))
    assert read_edits(path, "abc", "en") == lines


def test_nothing_changed_is_the_very_same_plan() -> None:
    assert _edited() == PLAN


def test_a_new_text_changes_only_its_line() -> None:
    plan = _edited(_own(2, text="How do you do?"))
    assert plan.fitted[0] is PLAN.fitted[0]
    assert (plan.fitted[1].wording, plan.fitted[1].rate) == ("How do you do?", 1.2)
    assert plan.kept == PLAN.kept


def test_a_rate_is_kept_to() -> None:
    plan = _edited(_own(1, rate=0.9))
    assert (plan.fitted[0].rate, plan.fitted[0].wording) == (0.9, "Hello there.")


def test_a_moved_slot_is_fitted_with_all_wordings() -> None:
    plan = _edited(_own(1, end_ms=2200))
    assert plan.fitted[0].line == replace(FIRST, end_ms=2200, free_ms=220)
    assert plan.fitted[0].wording == "Good day."  # the fit chose, from all there are
    assert plan.fitted[1] is PLAN.fitted[1]


def test_a_line_that_comes_nearer_takes_the_pause_before_it() -> None:
    plan = _edited(_own(2, start_ms=2200))
    assert plan.fitted[0].line.free_ms == 2200 - 80 - 2000
    assert plan.fitted[1].line.start_ms == 2200


def test_another_speaker() -> None:
    assert _edited(_own(2, speaker="A")).fitted[1].line.speaker == "A"


def test_an_empty_text_keeps_the_original_and_a_text_dubs_what_was_kept() -> None:
    plan = _edited(_own(1, text=" "), _own(3, text="La la la."))
    assert [each.line.number for each in plan.fitted] == [2, 3]
    assert plan.fitted[1].wording == "La la la."
    assert [(each.line.number, each.kept[:8]) for each in plan.kept] == [(1, "a person")]


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (1, {"original": "Hallo."}, "The original of line 1 says which line it is"),
        (2, {"language": "fr"}, "The language of line 2"),
    ],
)
def test_what_names_a_line_stays(number: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VoxsightError, match=message):
        _edited(_own(number, **changes))


def test_every_line_is_there_once() -> None:
    lines = to_edit(PLAN, {})
    with pytest.raises(VoxsightError, match="line 2 is missing or unknown"):
        apply_edits(PLAN, TRANSLATED, (lines[0], lines[2]), _fit, lambda _: HummingVoice())


def test_a_rate_that_does_not_fit_is_refused() -> None:
    with pytest.raises(VoxsightError, match=r"Line 1 takes 1\d\d\d ms at a rate of 0.85"):
        at_rate(line(end=1500, free=0), "Far too long.", 0.85, HummingVoice())


def test_at_a_rate_the_best_seed_ends_the_line() -> None:
    made = at_rate(line(end=2250, free=0), "Good day to you.", 1.0, HummingVoice())
    assert (made.end_ms, made.borrowed_ms) == (2236, 0)
    made = at_rate(line(end=2040), "Good day to you.", 1.0, HummingVoice())
    assert (made.seed, made.borrowed_ms) == (0, 160)


def test_at_a_rate_pauses_may_be_longer() -> None:
    made = at_rate(line(end=2700, free=0), "Good day, to you.", 1.0, HummingVoice())
    assert made.rate == 1.0 and made.stretch == 1 and made.added_pause_ms > 250
    assert made.end_ms == 2700


def _document() -> dict[str, Any]:
    return dict(lines_document(to_edit(PLAN, {}), "abc", "en"))  # type: ignore[arg-type]


def _with(at: int, **changes: Any) -> dict[str, Any]:
    document = _document()
    document["lines"][at].update(changes)
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "Cannot read the edited lines"),
        (json.dumps([]), "Expected .* to hold format, language, lines, source"),
        (json.dumps({**_document(), "more": 1}), "and nothing else"),
        (json.dumps({**_document(), "source": "other"}), "edited lines of this dub"),
        (json.dumps({**_document(), "language": "de"}), "edited lines of this dub"),
        (json.dumps({**_document(), "lines": {}}), "Expected a list of lines"),
        (json.dumps(_with(0, rate=2.0)), "Line 1 should have a rate of 0.85 to 1.25"),
        (json.dumps(_with(0, end_ms=900)), "Line 1 should start"),
        (json.dumps(_with(0, text=5)), "A EditedLine is wrong at text"),
        (json.dumps(_with(0, colour="red")), "A EditedLine is wrong at colour"),
        (json.dumps(_with(0, end_ms=2600)), "line 2 starts at 2500 ms"),
        (json.dumps(_with(1, number=1)), "in order and one after the other"),
    ],
)
def test_a_file_is_checked_strictly(document: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_text(document)
    with pytest.raises(VoxsightError, match=message):
        read_edits(path, "abc", "en")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VoxsightError, match="Cannot read the edited lines"):
        read_edits(tmp_path / "none.json", "abc", "en")
