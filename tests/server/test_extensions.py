"""Events of our own: only for who asked, and what they tell of words."""

from typing import Any

import pytest

from assistant.server.realtime.extensions import Tentative, asked_for, is_for
from assistant.server.realtime.wire import Event, WireError
from tests.assistant.session_fakes import RATE, REPLY_WORD, say, silence
from tests.server.conftest import MakeClient
from tests.server.dialogue_fakes import Client, kinds, of, run

TENTATIVE = "voxsight.input_audio_transcription.tentative"
TRANSCRIPTION = "conversation.item.input_audio_transcription."
WORDS = "voxsight.output_audio.words"
WORD_MS = 1000 * REPLY_WORD / RATE
BOTH = frozenset(("tentative", "words"))
TOLD: dict[str, Any] = {"audio": {"input": {"transcription": {}}}}
MANUAL: dict[str, Any] = {"audio": {"input": {"transcription": {}, "turn_detection": None}}}
SEMANTIC: dict[str, Any] = {
    "audio": {"input": {"transcription": {}, "turn_detection": {"type": "semantic_vad"}}}
}


def test_words_that_may_change_follow_those_that_are_sure() -> None:
    async def script(client: Client) -> None:
        await client.update(**TOLD)
        events = await client.hear(silence(0.5), say("what is this"), silence(2))
        sure, shown = "", []
        for event in events:
            if event.type == f"{TRANSCRIPTION}delta":
                sure += event.delta
            elif event.type == TENTATIVE:
                shown.append(f"{sure} {event.text}".strip())
        assert len(shown) >= 3
        assert shown[-1] == "what is this"
        assert all("what is this".startswith(text) for text in shown)
        (started,) = of(events, "input_audio_buffer.speech_started")
        assert {event.item_id for event in of(events, TENTATIVE)} == {started.item_id}
        completed = [event.type for event in events].index(f"{TRANSCRIPTION}completed")
        assert TENTATIVE not in kinds(events[completed:])

    run(script, extensions=BOTH)


def test_words_appear_before_a_turn_is_committed_by_hand() -> None:
    async def script(client: Client) -> None:
        await client.update(**MANUAL)
        events = await client.hear(say("one two three"), silence(0.5))
        assert set(kinds(events)) == {TENTATIVE}
        assert [event.text for event in events][-1:] == ["one two three"]
        (committed, *_) = await client.send("input_audio_buffer.commit")
        assert committed.item_id == events[0].item_id
        await client.hear(say("four"), silence(0.5))
        assert await client.send("input_audio_buffer.clear")
        events = await client.hear(say("five"), silence(0.5))
        assert {event.text for event in of(events, TENTATIVE)} == {"five"}

    run(script, extensions=BOTH)


def test_what_leaves_no_trace_is_not_hinted_at() -> None:
    async def script(client: Client) -> None:
        await client.update(**SEMANTIC)
        client.world.writer.answer = "word " * 60
        await client.hear(say("what is this"), silence(2))
        assert not of(await client.hear(say("yeah"), silence(1)), TENTATIVE)
        assert of(await client.hear(say("stop tell me about cats"), silence(1)), TENTATIVE)

    run(script, extensions=BOTH)


def test_without_transcription_nothing_is_hinted_at() -> None:
    async def script(client: Client) -> None:
        assert not of(await client.hear(say("what is this"), silence(1)), TENTATIVE)

    run(script, extensions=BOTH)


def test_the_times_of_spoken_words_come_before_their_sound() -> None:
    async def script(client: Client) -> None:
        await client.say("hello you")
        events = await client.send("response.create")
        told = of(events, WORDS)
        words = [word for event in told for word in event.words]
        assert " ".join(word.text for word in words) == "You said hello you."
        for number, word in enumerate(words):
            assert word.start_ms == pytest.approx(number * WORD_MS, abs=1)
            assert word.end_ms == pytest.approx((number + 1) * WORD_MS, abs=1)
        types = [event.type for event in events]
        assert types.index(WORDS) < types.index("response.output_audio.delta")
        (added,) = of(events, "response.output_item.added")
        (begun,) = of(events, "response.created")
        place = {(e.item_id, e.response_id, e.content_index) for e in told}
        assert place == {(added.item.id, begun.response.id, 0)}

    run(script, extensions=BOTH)


@pytest.mark.parametrize("asked", [(), ("tentative",), ("words",)])
def test_only_what_was_asked_for_is_sent(asked: tuple[str, ...]) -> None:
    async def script(client: Client) -> None:
        await client.update(**TOLD)
        await client.hear(silence(0.5), say("what is this"), silence(2))
        assert bool(client.of(TENTATIVE)) == ("tentative" in asked)
        assert bool(client.of(WORDS)) == ("words" in asked)

    run(script, extensions=frozenset(asked))


def test_they_are_named_in_the_query(make_client: MakeClient) -> None:
    client = make_client()
    with client.websocket_connect("/v1/realtime?extensions=tentative,words") as websocket:
        assert websocket.receive_json()["type"] == "session.created"
    assert asked_for("words,tentative,words") == BOTH
    assert asked_for("") == frozenset()
    with pytest.raises(WireError, match=r"no extension 'telepathy'; ask for tentative or words"):
        asked_for("words,telepathy")


def test_everybody_gets_the_other_events() -> None:
    assert is_for(Event(), ())
    assert not is_for(Tentative(item_id="item_1", text="a"), ("words",))
