"""A session's beginning, what it survives, and every way it ends; the dialogue is a stand-in."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from assistant.server.app import create_app
from assistant.server.realtime import connection
from assistant.server.realtime.connection import MAX_BAD_FRAMES
from assistant.server.realtime.events_in import AudioClear, ClientEvent, ItemDelete, ResponseCreate
from assistant.server.realtime.events_out import (
    AudioCleared,
    ItemDeleted,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    SessionCreated,
)
from assistant.server.realtime.payloads import Response
from assistant.server.realtime.settings import SessionSettings
from assistant.server.state import ServerState
from tests.server.peer import ClosedError, Event, Peer

CLEAR = {"type": "input_audio_buffer.clear"}


class Script:
    """A dialogue that does what the item to delete is called."""

    ended = 0

    def __init__(
        self,
        engine: Any,
        settings: SessionSettings,
        send: Callable[[ServerEvent], None],
        **others: Any,
    ) -> None:
        self._settings, self._send = settings, send
        self.others = others

    async def run(self, events: AsyncIterator[ClientEvent]) -> None:
        try:
            self._send(SessionCreated(session=self._settings))
            async for event in events:
                match event:
                    case AudioClear():
                        self._send(AudioCleared())
                    case ResponseCreate():
                        self._send(ResponseCreated(response=Response(id="resp_1")))
                    case ItemDelete(item_id="end"):
                        done = Response(id="resp_1", status="completed")
                        self._send(ResponseDone(response=done))
                    case ItemDelete(item_id="fault"):
                        raise RuntimeError("the secret detail")
                    case ItemDelete(item_id="faults"):
                        raise ExceptionGroup("two", [ExceptionGroup("one", [KeyError("x")])])
                    case ItemDelete(item_id="return"):
                        return
                    case ItemDelete(item_id="much"):
                        self._send(ItemDeleted(item_id="x" * 10_000))
                    case ItemDelete(item_id="flood"):
                        for _ in range(100):  # at once, faster than any reader
                            self._send(ItemDeleted(item_id="x" * 1000))
        finally:
            Script.ended += 1


@pytest.fixture(autouse=True)
def script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "Dialogue", Script)
    monkeypatch.setattr(Script, "ended", 0)
    monkeypatch.setattr(connection, "_TICK_S", 0.01)
    monkeypatch.setattr(connection, "_QUIET_S", 0.05)
    monkeypatch.setattr(connection, "_FLUSH_S", 0.2)
    monkeypatch.setattr(connection, "_CLOSE_S", 0.05)


def talk(state: ServerState, scene: Callable[[Any], Awaitable[None]]) -> str:
    """Play a scene, then see that nothing of it is left: no session, task or waiting byte.

    Gives the page of metrics.
    """

    async def play() -> str:
        await scene(create_app(state))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return state.metrics.page().decode()

    page = asyncio.run(play())
    assert state.admission.idle
    for line in page.splitlines():
        if line.startswith(("voxsight_sessions{", "voxsight_queue_bytes{")):
            assert float(line.split()[-1]) == 0, line
    return page


def delete(name: str) -> Event:
    return {"type": "conversation.item.delete", "item_id": name}


def test_a_session_opens_and_the_client_leaves(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            created = await peer.event()
            assert created["type"] == "session.created"
            assert created["session"]["id"].startswith("sess_")
            assert created["session"]["model"] == "voxsight"
            peer.send(CLEAR)
            assert (await peer.event())["type"] == "input_audio_buffer.cleared"
        assert Script.ended == 1

    talk(make_state(), scene)


def test_the_subprotocol_of_browsers_is_answered(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        offered = {"sec-websocket-protocol": "realtime, openai-insecure-api-key.x"}
        async with Peer(app, **offered) as peer:
            assert peer.accepted is not None
            assert peer.accepted["subprotocol"] == "realtime"

    talk(make_state(), scene)


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("model=gpt-4o-realtime-preview", "realtime"),
        ("", "realtime"),
        ("intent=transcription", "transcription"),
    ],
)
def test_the_address_says_what_session(make_state: Any, query: str, kind: str) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app, query) as peer:
            assert (await peer.event())["session"]["type"] == kind

    talk(make_state(), scene)


def test_an_unknown_model_is_not_found(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        with pytest.raises(ClosedError) as caught:
            async with Peer(app, "model=llama"):
                pass
        assert caught.value.code == 404

    talk(make_state(), scene)


BAD: list[Any] = [
    ("{", "invalid_json", None),
    (b"\x00\xff", "binary_frame", None),
    (b"", "binary_frame", None),
    ("", "invalid_json", None),
    ({"type": "nonsense", "event_id": "e1"}, "invalid_value", "e1"),
    ({"type": "response.cancel", "event_id": "e2", "x": 0}, "unknown_parameter", "e2"),
]


@pytest.mark.parametrize(("frame", "code", "event_id"), BAD)
def test_what_is_no_event_is_answered_and_the_session_goes_on(
    make_state: Any, frame: Any, code: str, event_id: str | None
) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            await peer.event()
            peer.send(frame)
            error = await peer.event()
            assert error["type"] == "error"
            assert error["error"]["code"] == code
            assert error["error"]["event_id"] == event_id
            peer.send(CLEAR)
            assert (await peer.event())["type"] == "input_audio_buffer.cleared"

    talk(make_state(), scene)


def test_a_client_of_another_protocol_is_closed(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            await peer.event()
            for _ in range(MAX_BAD_FRAMES - 1):
                peer.send("hello")
            peer.send(CLEAR)  # one event, and the count begins anew
            events = await peer.until("input_audio_buffer.cleared")
            assert len(events) == MAX_BAD_FRAMES
            for _ in range(MAX_BAD_FRAMES):
                peer.send("hello")
            events, end = await peer.closed()
            assert [event["type"] for event in events] == ["error"] * MAX_BAD_FRAMES
            assert end.code == 1008
            assert str(MAX_BAD_FRAMES) in end.reason

    talk(make_state(), scene)


@pytest.mark.parametrize("name", ["fault", "faults"])
def test_a_fault_is_told_without_detail_and_ends_one_session(make_state: Any, name: str) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as other, Peer(app) as peer:
            await other.event()
            await peer.event()
            peer.send(delete(name))
            (error,), end = await peer.closed()
            assert error["error"]["type"] == "server_error"
            assert "secret" not in json.dumps(error) + end.reason
            assert end.code == 1011
            other.send(CLEAR)
            assert (await other.event())["type"] == "input_audio_buffer.cleared"

    state = make_state()
    assert 'voxsight_errors_total{kind="session"} 1.0' in talk(state, scene)


def test_a_dialogue_that_ends_closes_the_session(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            peer.send(delete("return"))
            _, end = await peer.closed()
            assert end.code == 1000

    talk(make_state(), scene)


def test_a_session_has_its_time(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            peer.send({"type": "response.create"})
            events, end = await peer.closed()
            assert events[-1]["error"]["code"] == "session_expired"
            assert end.code == 1000

    talk(make_state(max_session_s=0.1), scene)


def test_a_server_that_stops_closes_quiet_sessions_and_waits_for_answers(make_state: Any) -> None:
    state = make_state()

    async def scene(app: Any) -> None:
        async with Peer(app) as busy, Peer(app) as quiet:
            busy.send({"type": "response.create"})
            await busy.until("response.created")
            state.admission.draining = True
            _, end = await quiet.closed()
            assert end.code == 1012
            await asyncio.sleep(0.15)
            busy.send(delete("end"))
            events, end = await busy.closed()
            assert events[-1]["type"] == "response.done"
            assert end.code == 1012

    talk(state, scene)


def test_a_full_server_says_so(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app), Peer(app) as second:
            _, end = await second.closed()
            assert end.code == 1013

    talk(make_state(max_sessions=1), scene)


def test_a_reader_that_takes_nothing_is_given_up(make_state: Any) -> None:
    state = make_state(slow_reader_s=0.1)

    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            await peer.event()
            peer.taking.clear()
            peer.send(CLEAR)
            peer.send(CLEAR)
            await asyncio.wait([peer.task], timeout=5)
            assert peer.task.done()

    assert 'voxsight_errors_total{kind="slow_reader"} 1.0' in talk(state, scene)


def test_what_waits_for_a_slow_reader_is_bounded(make_state: Any) -> None:
    state = make_state(send_buffer_bytes=20_000)

    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            await peer.event()
            peer.taking.clear()
            peer.send(delete("flood"))
            await asyncio.wait([peer.task], timeout=5)
            assert peer.task.done()

    talk(state, scene)


def test_a_slow_reader_that_comes_back_is_told(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            await peer.event()
            peer.send(delete("flood"))
            _, end = await peer.closed()
            assert end.code == 1013

    talk(make_state(send_buffer_bytes=20_000), scene)


def test_a_client_that_asks_for_much_is_read_from_as_it_reads(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            await peer.event()
            for _ in range(50):
                peer.send(delete("much"))
            for _ in range(50):
                assert (await peer.event())["item_id"] == "x" * 10_000

    talk(make_state(send_buffer_bytes=20_000), scene)


def test_a_broken_connection_ends_the_session(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            await peer.event()
            peer.broken = True
            peer.send(CLEAR)
            await asyncio.wait([peer.task], timeout=5)
            assert peer.task.done()
            assert Script.ended == 1

    talk(make_state(), scene)


def test_the_server_may_break_off(make_state: Any) -> None:
    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            await peer.event()
            peer.task.cancel()
            await asyncio.wait([peer.task])
            assert Script.ended == 1
            peer.task = asyncio.create_task(asyncio.sleep(0))

    talk(make_state(), scene)


def test_the_log_has_sessions_and_no_words(
    make_state: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def scene(app: Any) -> None:
        async with Peer(app) as peer:
            name = (await peer.event())["session"]["id"]
            peer.send(delete("private words"))
            peer.send(CLEAR)
            await peer.until("input_audio_buffer.cleared")
        began, ended = (r for r in caplog.records if "realtime session" in r.message)
        assert began.session == ended.session == name  # type: ignore[attr-defined]
        assert (ended.code, ended.events_in, ended.events_out) == (1000, 2, 3)  # type: ignore[attr-defined]

    talk(make_state(), scene)
    assert not any("private" in str(vars(record)) for record in caplog.records)
