import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.jobs.dub.contractions import contracted, expanded
from assistant.jobs.dub.wordings import tidied, variants, wordings


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        (" hello  world ", "Hello world."),
        ("1-2-3-4", "1, 2, 3, 4."),
        ("1,2,3,90", "1, 2, 3, 90."),
        ("1 2 3", "1, 2, 3."),
        ("it cost 1,000,000 dollars", "It cost 1,000,000 dollars."),
        ("on 2024-01-02 he left", "On 2024-01-02 he left."),
        ("and then,", "And then."),
        ("what? no!", "What? no!"),
        ("of the \u200b\u200bworld", "Of the world."),
        ("x", "X"),
    ],
)
def test_tidied(text: str, tidy: str) -> None:
    assert tidied(text) == tidy
    assert tidied(tidy) == tidy or len(tidy) == 1


def test_lists_lose_their_pauses_step_by_step() -> None:
    found = wordings(["1, 2, 3, 4, 5, 6, 7, 8, 9, 10."])
    assert found[0] == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."
    assert "1 2 3 4 5 6 7 8 9 10." in found
    assert "1 2 3 4 5, 6 7 8 9 10." in found
    assert "1 2 3 4 5 6 7 8 9 and 10." in found


def test_a_run_of_digits_may_be_counting() -> None:
    assert wordings(["1234567"]) == ("1234567.", "1 2 3 4 5 6 7.")
    assert wordings(["in 1984"]) == ("In 1984.",)


def test_fillers_and_pauses() -> None:
    assert "I think it is good." in wordings(["Well, I think it is really good, you know."])
    assert "Good morning the world." in wordings(["Good morning, the world."])


def test_order_and_number() -> None:
    texts = [f"Do not go, number {number}." for number in range(9)]
    found = wordings(texts)
    assert found[: len(texts)] == tuple(texts) and len(found) == 12
    assert wordings(["Hello world.", "hello world", "Hello world!"]) == ("Hello world.",)
    assert wordings(["", " ", "..."]) == ()


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("I do not know.", "I don't know."),
        ("It is not here and they are late.", None),
        ("We have been there.", "We've been there."),
        ("You will see.", "You'll see."),
        ("I am here.", "I'm here."),
        ("They could not come.", "They couldn't come."),
    ],
)
def test_contractions_and_back(long: str, short: str | None) -> None:
    if short is None:
        assert contracted(long) == "It's not here and they're late."
    else:
        assert contracted(long) == short and expanded(short) == long


@pytest.mark.parametrize(
    "text", ["Yes, I am.", "We have a car.", "Who they are, nobody knows.", "They have, too."]
)
def test_no_contraction_where_nobody_says_it(text: str) -> None:
    assert contracted(text) == text


@pytest.mark.parametrize("text", ["Don't you know?", "It's gone.", "Let's go.", "Can't you?"])
def test_no_expansion_where_it_would_be_wrong(text: str) -> None:
    assert expanded(text) == text


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="abc I'.,!?-1 2\n", max_size=60))
def test_wordings_are_clean_and_different(text: str) -> None:
    found = wordings([text])
    assert len({one.lower() for one in found}) == len(found) <= 12
    for one in found:
        assert one == one.strip() and "  " not in one and "\n" not in one
    for other in variants(tidied(text)) if text.strip() else ():
        assert other != tidied(text)
