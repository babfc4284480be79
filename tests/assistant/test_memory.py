"""What a conversation remembers: prompts that only grow, pictures by name, answers as heard."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.errors import ConfigError
from assistant.memory import Memory
from assistant.prompts import Prompts, load_prompts
from audio.spoken_words import SpokenWord, words_heard
from fusion.adapter import SoftTokens
from fusion.decoder import DecodeOptions
from fusion.prompt import PromptBuilder, Turn
from tests.fusion.tiny import HIDDEN, tiny_decoder

PROMPTS = load_prompts()


def words_in(text: str) -> int:
    return len(text.split())


def memory(limit: int = 1000, prompts: Prompts = PROMPTS, max_pictures: int = 32) -> Memory:
    return Memory(prompts, limit_tokens=limit, count=words_in, max_pictures=max_pictures)


def picture(seed: int, tokens: int = 3) -> SoftTokens:
    rows = torch.randn(tokens, HIDDEN, generator=torch.Generator().manual_seed(seed))
    return SoftTokens(rows)


def written(turn: Turn, *pictures: SoftTokens) -> str:
    """The turn's text, with the number of the picture in `pictures` where it is shown."""
    marks = {id(seen.embeddings): f"<{number}>" for number, seen in enumerate(pictures, 1)}
    return "".join(part if isinstance(part, str) else marks[id(part)] for part in turn.parts)


def exchange(memory: Memory, question: str, answer: str, *, interrupted: bool = False) -> Turn:
    asked = memory.question(question)[-1]
    memory.remember(asked, answer, interrupted=interrupted)
    return asked


@pytest.mark.parametrize("seen", [None, picture(1)])
def test_a_first_question_is_worded_as_it_was_measured(seen: SoftTokens | None) -> None:
    fresh = memory()
    if seen is not None:
        assert fresh.see(seen, 160).number == 1
    asked, expected = fresh.question("What is this?"), PROMPTS.ask("What is this?", seen)
    assert [turn.role for turn in asked] == ["system", "user"]
    assert [turn.parts for turn in asked] == [turn.parts for turn in expected]


def test_a_picture_is_shown_once_and_a_later_one_with_its_number() -> None:
    talk, first, second = memory(), picture(1), picture(2)
    talk.see(first, 0)
    exchange(talk, "What is this?", "A cat.")
    again = talk.question("And what colour is it?")
    assert written(again[-1]) == "And what colour is it?"
    assert [turn.role for turn in again] == ["system", "user", "assistant", "user"]
    assert written(again[1], first) == "The picture shows:<1>.\nWhat is this?"
    seen = talk.see(second, 16_000)
    assert talk.current is seen
    assert (seen.number, seen.at) == (2, 16_000)
    now = talk.question("And this?")[-1]
    assert written(now, first, second) == "Picture 2 shows:<2>.\nAnd this?"


def test_of_several_new_pictures_the_newest_is_meant_and_others_are_shown_when_named() -> None:
    talk, seen = memory(), [picture(seed) for seed in (1, 2, 3)]
    for number, each in enumerate(seen):
        talk.see(each, number)
    assert written(talk.question("What is this?")[-1], *seen) == (
        "Picture 3 shows:<3>.\nWhat is this?"
    )
    asked = exchange(talk, "Was the first picture brighter?", "Yes.")
    assert written(asked, *seen) == (
        "Picture 3 shows:<3>.\nWas the first picture brighter?\nPicture 1 shows:<1>."
    )
    assert written(talk.question("Is it the first picture?")[-1]) == "Is it the first picture?"


def test_a_picture_that_is_named_is_shown_again_where_a_nearer_one_would_be_taken_for_it() -> None:
    talk, seen = memory(), [picture(seed) for seed in (1, 2, 3)]
    talk.see(seen[0], 0)
    exchange(talk, "What is this?", "A cat.")
    # One picture alone cannot be taken for another.
    assert written(talk.question("What is in the picture now?")[-1]) == (
        "What is in the picture now?"
    )
    talk.see(seen[1], 1)
    exchange(talk, "And this?", "A dog.")
    for words, again in (
        ("What was in the first picture?", ""),
        ("What is in the picture now?", "\nPicture 2 shows:<2>."),
        ("Is picture 1 like picture 2?", "\nPicture 1 shows:<1>.\nPicture 2 shows:<2>."),
    ):
        assert written(talk.question(words)[-1], *seen) == words + again
    talk.see(seen[2], 2)
    assert written(talk.question("What was in picture 1?")[-1], *seen) == (
        "Picture 3 shows:<3>.\nWhat was in picture 1?\nPicture 1 shows:<1>."
    )
    assert written(talk.question("What is in picture 3?")[-1], *seen) == (
        "Picture 3 shows:<3>.\nWhat is in picture 3?"
    )


def test_a_picture_that_was_forgotten_is_shown_again_when_it_is_named() -> None:
    talk, first, second = memory(limit=64), picture(1), picture(2)
    talk.see(first, 0)
    exchange(talk, "What is this?", "A cat.")
    talk.see(second, 1)
    exchange(talk, "And this?", "word " * 40)
    exchange(talk, "Tell me more!", "word " * 40)
    assert [turn.role for turn in talk.history] == ["user", "assistant"]
    named = talk.question("What was in the first picture?")[-1]
    assert written(named, first, second) == (
        "Picture 2 shows:<2>.\nWhat was in the first picture?\nPicture 1 shows:<1>."
    )
    assert written(talk.question("And now?")[-1], first, second) == (
        "Picture 2 shows:<2>.\nAnd now?"
    )


def test_only_the_newest_pictures_can_be_named() -> None:
    talk = memory(max_pictures=2)
    for seed in range(5):
        talk.see(picture(seed), seed)
    assert talk.current is not None and talk.current.number == 5
    assert talk.named_pictures("pictures 1, 2, 3, 4 and 5, or picture 6") == (4, 5)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("What is in picture 2?", (2,)),
        ("what's in Picture two, and in photo number three", (2, 3)),
        ("the FIRST picture", (1,)),
        ("the 2nd  photo and the fourth image", (2, 4)),
        ("compare the first and the third picture", (1, 3)),
        ("pictures 1, 3 and 2", (1, 3, 2)),
        ("the one before", (5,)),
        ("What about the previous picture?", (5,)),
        ("the photo before that", (5,)),
        ("the last picture", (6,)),
        ("What is in the picture right now?", (6,)),
        ("two pictures ago", (4,)),
        ("both pictures", (5, 6)),
        ("What changed between these two photos?", (5, 6)),
        ("the first two pictures", (1, 2)),
        ("the last three images", (4, 5, 6)),
        ("the first one", (1,)),
        ("picture #4 or frame no. 5", (4, 5)),
        ("picture 2 and again picture 2", (2,)),
        ("picture 9, picture 0, the twelfth photo, 7 pictures ago", ()),
        ("picture 2.5 is none, nor is the picturesque 3", (2,)),
        ("Is there a first aid kit in the picture? Two cats before noon?", ()),
        ("What is this?", ()),
        ("", ()),
    ],
)
def test_pictures_are_named_in_many_ways(text: str, numbers: tuple[int, ...]) -> None:
    talk = memory()
    assert talk.named_pictures(text) == ()
    for seed in range(6):
        talk.see(picture(seed), seed)
    assert talk.named_pictures(text) == numbers


@given(st.text(max_size=80))
def test_no_text_breaks_the_search_for_pictures(text: str) -> None:
    talk = memory()
    talk.see(picture(1), 0)
    assert set(talk.named_pictures(text)) <= {1}


WORDS = st.sampled_from(
    str.split("what is in the first picture and 2 pictures ago or before, {image} {number} one")
)


BUILDER = PromptBuilder(tiny_decoder())
# What follows the words in the template of the tiny model, in tokens of a byte.
CLOSING = len(["<|im_end|>", "\n", "<|im_start|>", *"assistant\n"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(WORDS, min_size=1, max_size=25),
    st.integers(0, 3),
    st.lists(st.sampled_from(["", "It is a cat.", "word " * 30]), max_size=4),
)
def test_more_words_only_extend_the_end(words: list[str], pictures: int, past: list[str]) -> None:
    talk = memory(limit=64)
    for number, answer in enumerate(past):
        talk.see(picture(number), number)
        exchange(talk, "What is this?", answer, interrupted=number % 2 == 0)
    for number in range(pictures):
        talk.see(picture(50 + number), 100 + number)
    whole = BUILDER.build(talk.question(" ".join(words)))
    begin = len(BUILDER.build(talk.question(""))) - CLOSING
    for count in range(len(words)):
        text = " ".join(words[:count])
        part, known = BUILDER.build(talk.question(text)), begin + len(text)
        assert part.input_ids[:known].tolist() == whole.input_ids[:known].tolist()
        assert torch.equal(part.embeddings[:known], whole.embeddings[:known])


def test_the_cache_keeps_all_earlier_turns() -> None:
    decoder, talk = tiny_decoder(), memory()
    builder, cache = PromptBuilder(decoder), decoder.new_cache()
    talk.see(picture(1), 0)
    for question in ("What is this?", "Why?"):
        prompt = builder.build(asked := talk.question(question))
        list(decoder.stream(prompt, DecodeOptions(max_tokens=4), cache))
        talk.remember(asked[-1], "Because.")
        talk.see(picture(2), 1)
        assert cache.shared_length(builder.build(talk.question(""))) >= len(prompt)


def test_an_interrupted_answer_ends_in_a_mark_that_is_no_word() -> None:
    talk = memory()
    for heard, said in (
        ("It is a cat", "It is a cat…"),
        ("It is a cat, ", "It is a cat…"),
        ("Wait —", "Wait…"),
        ("It is a cat. Is it?", "It is a cat. Is it?"),
    ):
        exchange(talk, "What is this?", heard, interrupted=True)
        assert talk.history[-1] == Turn("assistant", (said,))
    exchange(talk, "What is this?", " It is a cat. ")
    assert talk.history[-1] == Turn("assistant", ("It is a cat.",))


def test_a_question_that_got_no_answer_is_answered_with_the_next() -> None:
    talk, first, second = memory(), picture(1), picture(2)
    talk.see(first, 0)
    exchange(talk, "What is this?", "", interrupted=True)
    assert talk.history == []
    talk.see(second, 1)
    exchange(talk, "I mean this one.", "  ", interrupted=True)
    asked = exchange(talk, "Well?", "A dog.")
    assert written(asked, first, second) == (
        "The picture shows:<1>.\nWhat is this?\nPicture 2 shows:<2>.\nI mean this one.\nWell?"
    )
    assert [turn.role for turn in talk.history] == ["user", "assistant"]
    assert written(talk.question("And now?")[-1]) == "And now?"


def test_questions_without_any_answer_do_not_pile_up() -> None:
    talk = memory(limit=100)
    for number in range(200):
        asked = exchange(talk, f"Question number {number}?", "", interrupted=True)
        assert words_in(written(asked)) <= 60


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 200), st.booleans(), st.booleans()),
        max_size=30,
    ),
    st.integers(64, 300),
)
def test_memory_is_bounded_and_forgets_the_oldest_several_at_a_time(
    turns: list[tuple[int, int, bool, bool]], limit: int
) -> None:
    talk, asked = memory(limit), []
    for number, (question, answer, interrupted, looks) in enumerate(turns):
        if looks:
            talk.see(picture(number), number)
        before, tokens = talk.history, talk.tokens
        asked.append(exchange(talk, "q " * question, "a " * answer, interrupted=interrupted))
        after = talk.history
        assert talk.tokens <= limit
        # What is left is the end of what was, whole exchanges; and if anything went, then much.
        if answer:
            assert after == [*before, asked[-1], *after[-1:]][-len(after) :] or not after
            dropped = (len(before) + 2 - len(after)) // 2
            assert not dropped or len(after) == 2 or talk.tokens <= limit // 2
        else:
            assert (after, talk.tokens) == (before, tokens)


def test_of_a_huge_question_the_end_is_kept_and_its_beginning_rarely_moves() -> None:
    talk, words = memory(limit=100), [f"w{number}" for number in range(400)]
    begins = []
    for count in range(1, len(words) + 1):
        text = written(talk.question(" ".join(words[:count]))[-1])
        kept = text.split()
        assert kept == words[count - len(kept) : count]
        assert len(kept) == count if count <= 50 else 25 <= len(kept) <= 50
        begins.append(kept[0])
    assert len(set(begins)) <= 1 + (400 - 50) // 25 + 1
    unspaced = written(talk.question("字" * 5_000)[-1])
    assert len(unspaced) <= 50 * 24 and set(unspaced) == {"字"}


@given(
    st.lists(st.tuples(st.integers(1, 20_000), st.integers(0, 9_000)), min_size=1, max_size=30),
    st.integers(0, 400_000),
)
def test_words_in_the_history_are_those_that_were_played(
    lengths: list[tuple[int, int]], offset: int
) -> None:
    reply, at = [], offset
    for number, (length, pause) in enumerate(lengths):
        reply.append(SpokenWord(f"word{number},", at, at + length))
        at += length + pause
    for played in range(0, at + 2_205, 2_205):  # 100 ms of a voice's sound
        heard = reply[: words_heard(reply, played)]
        talk = memory(limit=5_000)
        text = " ".join(word.text for word in heard)
        exchange(talk, "Tell me.", text, interrupted=True)
        known = words_in(str(talk.history[-1].parts[0])) if talk.history else 0
        begun = sum(word.start < played for word in reply)
        ended = sum(word.end <= played for word in reply)
        assert begun - 1 <= known <= begun
        assert ended <= known <= ended + 1


def test_two_conversations_do_not_share_anything() -> None:
    one, other = memory(), memory()
    one.see(picture(1), 0)
    exchange(one, "Secret?", "Yes.")
    assert other.current is None
    assert other.history == []
    assert other.question("Hello?") == PROMPTS.ask("Hello?")


@pytest.mark.parametrize("limits", [(63, 1), (64, 0)])
def test_limits_without_room_are_refused(limits: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="Expected a memory of 64 tokens and 1 picture or more"):
        memory(limits[0], max_pictures=limits[1])


def test_the_shipped_wording_is_the_default_one() -> None:
    assert Prompts(PROMPTS.system, PROMPTS.with_picture, PROMPTS.without_picture) == PROMPTS


@pytest.mark.parametrize(
    ("name", "text", "marks"),
    [
        ("numbered_picture", "{image}{question}", r"\{number\} and \{image\} and \{question\}"),
        ("picture_again", "{image}", r"\{number\} and \{image\}"),
        ("interrupted", "...", r"\{answer\}"),
    ],
)
def test_wording_without_its_marks_is_refused(name: str, text: str, marks: str) -> None:
    with pytest.raises(ConfigError, match=f"Expected {marks} once each in the prompt {name}"):
        Prompts("s", "{image}{question}", "{question}", **{name: text})


def test_a_file_of_prompts_must_be_complete(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text('system = "s"\nwith_picture = "{image}{question}"\n')
    with pytest.raises(ConfigError, match="without_picture, numbered_picture, .* missing"):
        load_prompts(path)


def test_what_a_person_says_is_not_taken_for_a_mark() -> None:
    talk = memory()
    talk.see(picture(1), 0)
    talk.see(picture(2), 1)
    asked = exchange(talk, "{image} {number} {question}?", "{answer} {answer}", interrupted=True)
    assert written(asked, picture(1), talk.current.seen if talk.current else picture(1)) == (
        "Picture 2 shows:<2>.\n{image} {number} {question}?"
    )
    assert talk.history[-1].parts == ("{answer} {answer}…",)


@pytest.mark.models
def test_with_the_real_tokenizer_more_words_only_extend_the_end(
    model_folder: Callable[[str], Path],
) -> None:
    from assistant.config import load_settings
    from assistant.loading import Models

    model_folder("qwen2.5-coder-0.5b-instruct")
    decoder = Models(load_settings()).decoder
    builder = PromptBuilder(decoder)
    talk = Memory(PROMPTS, limit_tokens=500, count=lambda text: len(decoder.token_ids(text)))
    for seed in (1, 2):
        talk.see(SoftTokens(torch.full((3, decoder.hidden_size), float(seed))), seed)
    question = "So, what's in the first picture, and why isn't it 12.5 pounds any more?"
    words = question.split()
    whole = builder.build(talk.question(question))
    for count in range(1, len(words)):
        text = " ".join(words[:count])
        ids = builder.build(talk.question(text)).input_ids.tolist()
        known = len(builder.build(talk.question("")).input_ids) + len(decoder.token_ids(text))
        closing = len(decoder.token_ids("<|im_end|>\n<|im_start|>assistant\n"))
        cut = known - closing - 1  # up to the last word's last token
        assert ids[:cut] == whole.input_ids[:cut].tolist()
