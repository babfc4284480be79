from hypothesis import given
from hypothesis import strategies as st

from fusion.text_stream import Detokeniser, StopFilter
from tests.fusion.tiny import byte_tokenizer

TOKENIZER = byte_tokenizer()


def decode(ids: list[int]) -> str:
    return TOKENIZER.decode(ids, clean_up_tokenization_spaces=False)


@given(st.text(max_size=40))
def test_text_comes_back_and_characters_stay_whole(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False).input_ids
    stream = Detokeniser(decode)
    pieces = [stream.push(i) for i in ids]
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)
    assert "".join([*pieces, stream.flush()]) == text


@given(st.lists(st.integers(0, 255), max_size=30))
def test_pieces_of_any_bytes_add_up_to_the_whole(ids: list[int]) -> None:
    stream = Detokeniser(decode)
    assert "".join([*(stream.push(i) for i in ids), stream.flush()]) == decode(ids)


def test_ascii_is_not_held_back() -> None:
    stream = Detokeniser(decode)
    assert [stream.push(i) for i in TOKENIZER("ab c").input_ids] == ["a", "b", " ", "c"]


def cut_at_first_complete_stop(text: str, stops: list[str]) -> str:
    for end in range(len(text) + 1):
        hits = [end - len(s) for s in stops if text[:end].endswith(s)]
        if hits:
            return text[: min(hits)]
    return text


@given(
    text=st.text("abc", max_size=25),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_stop_filter_equals_reference_however_the_text_is_cut(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    gate, shown, rest = StopFilter(stops), "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        shown += gate.push(rest[:size])
        rest = rest[size:]
        assert cut_at_first_complete_stop(text, stops).startswith(shown)
    shown += gate.flush()
    assert shown == cut_at_first_complete_stop(text, stops)
    assert gate.stopped == (shown != text)


def test_only_a_possible_beginning_is_held_back() -> None:
    gate = StopFilter(["\nUser:"])
    assert gate.push("Hello\nUs") == "Hello"
    assert gate.push("e it") == "\nUse it"
    assert gate.push(" now\nUser: hi") == " now"
    assert gate.push("more") == "" == gate.flush()
