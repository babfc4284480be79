import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from assistant.call_text import CallArguments, CallEnded, CallName, CallText, Part, PlainText

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_CALLS = st.lists(
    st.tuples(st.sampled_from(["look", "go_on"]), st.dictionaries(st.text(), _VALUES, max_size=3)),
    max_size=3,
)


def _json(name: str, arguments: object) -> str:
    return f'{{"name": "{name}", "arguments": {json.dumps(arguments)}}}'


def _pieces(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(edges)]


def _read(text: str, cuts: list[int], names: tuple[str, ...] = ()) -> tuple[str, list[Part]]:
    reader = CallText(names)
    parts = [part for piece in _pieces(text, cuts) for part in reader.push(piece)]
    said = "".join(part for part in parts if isinstance(part, str)) + reader.flush()
    return said, [part for part in parts if not isinstance(part, str)]


def _calls(parts: list[Part]) -> list[tuple[str, object]]:
    names = [part for part in parts if isinstance(part, CallName)]
    ended = [part.index for part in parts if isinstance(part, CallEnded)]
    assert ended == [part.index for part in names]
    assert len({part.id for part in names}) == len(names)
    texts = {part.index: "" for part in names}
    for part in parts:
        if isinstance(part, CallArguments):
            texts[part.index] += part.text
    return [(part.name, json.loads(texts[part.index])) for part in names]


@given(
    st.text(alphabet="ab <tol_c\n", max_size=20), _CALLS, st.lists(st.integers(0, 500), max_size=20)
)
def test_calls_after_text_are_found_wherever_the_text_is_cut(
    said: str, calls: list[tuple[str, dict[str, object]]], cuts: list[int]
) -> None:
    text = said + "\n".join(f"<tool_call>\n{_json(*call)}\n</tool_call>" for call in calls)

    read, parts = _read(text, cuts)

    assert _calls(parts) == calls
    assert read == (said.rstrip() if calls else said)


@given(_CALLS.filter(bool), st.lists(st.integers(0, 500), max_size=20))
def test_a_call_without_marks_at_the_beginning_is_a_call(
    calls: list[tuple[str, dict[str, object]]], cuts: list[int]
) -> None:
    text = "\n".join(_json(*call) for call in calls)

    said, parts = _read(text, cuts, ("look", "go_on"))

    assert (said, _calls(parts)) == ("", calls)


def test_json_that_names_no_tool_is_text() -> None:
    text = '{"name": "lookout", "arguments": {}}'

    assert _read(text, [3, 10, 20], ("look",)) == (text, [])
    assert _read(text[:9], [3], ("look",)) == (text[:9], [])


def test_arguments_come_as_they_are_written() -> None:
    reader = CallText()
    list(reader.push('<tool_call>\n{"name": "look", "arguments": {"a'))

    assert [p.text for p in reader.push('t": "}') if isinstance(p, CallArguments)] == ['t": "}']


def test_text_that_may_not_call_is_left_as_it_is() -> None:
    reader = PlainText()

    assert [*reader.push("<tool_call>"), reader.flush()] == ["<tool_call>", ""]
