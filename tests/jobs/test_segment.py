from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.jobs.dub.hear import Heard, HeardWord, Region
from assistant.jobs.dub.segment import SegmentRules, segment
from assistant.jobs.dub.speakers import Turn

RULES = SegmentRules()


def region(text: str, start: int, word_ms: int = 400, language: str = "es") -> Region:
    words = tuple(
        HeardWord(start + at * word_ms, start + (at + 1) * word_ms, f" {word}", 0.9)
        for at, word in enumerate(text.split())
    )
    return Region(start, words[-1].end_ms, language, 0.9, words)


def lines_of(*regions: Region, duration_ms: int = 600_000, turns: tuple[Turn, ...] = ()) -> list:
    return list(segment(Heard(duration_ms, regions), turns))


def texts(*regions: Region, turns: tuple[Turn, ...] = ()) -> list[str]:
    return [line.original for line in lines_of(*regions, turns=turns)]


def test_sentences_and_pauses() -> None:
    assert texts(region("Hola a todos. ¿Cómo estáis hoy? Bien, gracias amigos!", 0)) == [
        "Hola a todos.",
        "¿Cómo estáis hoy?",
        "Bien, gracias amigos!",
    ]
    near, far = region("y", 3_600), region("mundo entero feliz", 5_000)
    assert texts(region("una frase sin fin aquí mismo", 1_000), near, far) == [
        "una frase sin fin aquí mismo y",
        "mundo entero feliz",
    ]
    assert texts(region("“Hola a todos.” Sí señor mío", 0)) == ["“Hola a todos.”", "Sí señor mío"]


def test_initials_end_no_sentence() -> None:
    assert texts(region("El señor J. R. Tolkien vive en U.S.", 0)) == [
        "El señor J. R. Tolkien vive en U.S."
    ]


def test_language_and_speaker_end_a_line() -> None:
    first, second = region("hola a todos", 0), region("hello all", 1_300, language="en")
    assert texts(first, second) == ["hola a todos", "hello all"]
    turns = (Turn(0, 790, 4), Turn(790, 9_000, 2))
    lines = lines_of(region("hola a todos vosotros dos", 0), turns=turns)
    assert [(line.original, line.speaker) for line in lines] == [
        ("hola a", "A"),
        ("todos vosotros dos", "B"),
    ]


def test_long_is_cut_at_a_clause() -> None:
    text = " ".join(["palabra"] * 17 + ["final,"] + ["otra"] * 20)
    lines = lines_of(region(text, 0))
    assert [len(line.original.split()) for line in lines] == [18, 20]
    assert lines[0].original.endswith("final,")


def test_tiny_are_joined() -> None:
    assert texts(region("Sí. Claro que sí, hombre.", 0)) == ["Sí. Claro que sí, hombre."]
    assert texts(region("Sí.", 0), region("Claro que sí, hombre.", 1_000)) == [
        "Sí.",
        "Claro que sí, hombre.",
    ]


def test_free_time() -> None:
    first, second = lines_of(
        region("Hola a todos.", 0), region("Adiós a todos.", 3_000), duration_ms=5_000
    )
    assert (first.end_ms, first.free_ms) == (1_200, 3_000 - 1_200 - 80)
    assert (second.end_ms, second.free_ms) == (4_200, 800)


def test_nothing_heard() -> None:
    assert segment(Heard(1_000, ())) == ()
    assert segment(Heard(1_000, (Region(0, 500, "en", 0.5),))) == ()


WORD = st.tuples(
    st.integers(0, 1_500),  # pause before
    st.integers(0, 1_400),  # length
    st.sampled_from(["a", "palabra", "fin.", "coma,", "¿qué?", "好", "J."]),
    st.sampled_from(["es", "es", "es", "en"]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(WORD, min_size=1, max_size=60), st.integers(0, 3_000))
def test_every_word_in_exactly_one_line(drawn: list[tuple[int, int, str, str]], tail: int) -> None:
    regions, at = [], 0
    for number, (pause, length, text, language) in enumerate(drawn):
        at += pause
        word = HeardWord(at, at + length, f" {text}{number}" if text == "好" else f" {text}", 0.5)
        regions.append(Region(at, at + length, language, 0.5, (word,)))
        at += length
    lines = segment(Heard(at + tail, tuple(regions)), rules=RULES)
    said = " ".join(line.original for line in lines).split()
    assert said == [word.text.strip() for part in regions for word in part.words]
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    for before, after in pairwise(lines):
        assert before.end_ms <= after.start_ms
        assert before.end_ms + before.free_ms <= max(before.end_ms, after.start_ms - RULES.gap_ms)
    for line in lines:
        assert line.slot_ms <= RULES.longest_ms + 1 or len(line.original.split()) == 1
        assert line.end_ms + line.free_ms <= max(at + tail, line.end_ms)
