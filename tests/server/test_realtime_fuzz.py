"""Whatever a client sends, in whatever order: the session answers or ends, and nothing is left.

The suite plays some cases; ``python -m tests.server.test_realtime_fuzz 10000`` plays many.
"""

import asyncio
import json
import sys
import typing
from base64 import b64encode
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from assistant.server.app import create_app
from assistant.server.config import ServerConfig
from assistant.server.realtime.events_in import ClientEvent
from assistant.server.state import ServerState
from tests.assistant.session_fakes import VOCABULARY
from tests.server import wire_strategies
from tests.server.fakes import FakeEngine
from tests.server.peer import Peer

SDK: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
KINDS = typing.get_args(ClientEvent)
Frame = str | bytes
# The fakes hear a word in each of these.
LEVELS = [round((0.1 + 0.01 * word) * 32768) for word in range(len(VOCABULARY))]

SOUND = st.builds(
    lambda level, ms, cut: b64encode(
        np.full(24 * ms, level, "<i2").tobytes()[: -cut or None]
    ).decode(),
    st.sampled_from([0, *LEVELS]),
    st.sampled_from([0, 20, 100, 700]),
    st.sampled_from([0, 0, 0, 1]),
)
TURNS = st.sampled_from([None, {"type": "server_vad"}, {"type": "semantic_vad"}])
COMMON = (
    st.builds(lambda audio: {"type": "input_audio_buffer.append", "audio": audio}, SOUND)
    | st.sampled_from([{"type": "input_audio_buffer.commit"}, {"type": "response.create"}])
    | st.builds(
        lambda turns, kind: {
            "type": "session.update",
            "session": {"type": kind, "audio": {"input": {"turn_detection": turns}}},
        },
        TURNS,
        st.sampled_from(["realtime", "realtime", "transcription"]),
    )
    | st.builds(
        lambda item, end: {
            "type": "conversation.item.truncate",
            "item_id": item,
            "content_index": 0,
            "audio_end_ms": end,
        },
        st.sampled_from("abc"),
        st.integers(0, 2000),
    )
    | st.builds(
        lambda item, text: {
            "type": "conversation.item.create",
            "item": {
                "id": item,
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": text}],
            },
        },
        st.sampled_from("abc"),
        wire_strategies.TEXT,
    )
)
VALID = st.sampled_from(KINDS).flatmap(wire_strategies.model)
EVENTS = (COMMON | VALID).map(json.dumps)


@st.composite
def broken(draw: st.DrawFn) -> Frame:
    """A frame with something cut out, put in or doubled."""
    text = draw(EVENTS)
    at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 9))
    middle = draw(
        wire_strategies.TEXT | st.just(text) | st.sampled_from(['"', "{", "null", "1e999"])
    )
    return text[:at] + middle + text[at + length :]


HUGE = st.builds(
    lambda name, size, start: start + f'"{name}":"' + "A" * size + '"}',
    st.sampled_from(["audio", "type", "event_id", "item_id", "image", "response_id"]),
    st.sampled_from([1000, 100_000, 1_000_000]),
    st.sampled_from(['{"type":"input_audio_buffer.append",', '{"type":"response.cancel",', "{"]),
)
DEEP = st.integers(1, 5000).map(
    lambda n: '{"type":"session.update","session":{"type":"realtime","tools":'
    + "[" * n
    + "]" * n
    + "}}"
)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    *(EVENTS, EVENTS, EVENTS), broken(), st.binary(max_size=30), st.text(max_size=30), HUGE, DEEP
)
CASES = st.tuples(
    st.sampled_from(["model=gpt-realtime", "intent=transcription"]),
    st.lists(FRAMES, max_size=25),
    st.sampled_from(["leave", "leave", "break", "stall", "read"]),
)

MANY = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


class World:
    """One server with fake models, and one event loop for all cases."""

    def __init__(self, folder: Path) -> None:
        self.engine = FakeEngine.start()
        config = ServerConfig(
            keys_file=folder / "keys.json", allowed_hosts=("testserver",), slow_reader_s=0.1
        )
        self.state = ServerState(config, self.engine)
        self.app = create_app(self.state)
        self.runner = asyncio.Runner()
        self.seen: Counter[str] = Counter()

    def close(self) -> None:
        self.runner.close()
        self.engine.close()

    def play(self, query: str, frames: list[Frame], how: str) -> None:
        self.runner.run(self._play(query, frames, how))

    async def _play(self, query: str, frames: list[Frame], how: str) -> None:
        async with asyncio.timeout(60):
            peer = Peer(self.app, query)
            async with peer:
                for number, frame in enumerate(frames):
                    peer.send(frame)
                    if how == "stall" and number == len(frames) // 2:
                        peer.taking.clear()
                    if number % 3 == 0:
                        await asyncio.sleep(0)
                if how == "read":
                    await asyncio.sleep(0.02)
                peer.broken = how == "break"
            self._check(peer)
            await self._check_another()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left: {left}"
        assert self.state.admission.idle

    def _check(self, peer: Peer) -> None:
        """Every frame is an event as the SDK has it, and nothing broke within."""
        first = True
        for message in peer.rest():
            if message["type"] == "websocket.close":
                self.seen[f"close {message['code']}"] += 1
                assert message["code"] in (1000, 1008, 1013)
                continue
            event = json.loads(message["text"])
            self.seen[event["type"]] += 1
            assert (event["type"] == "session.created") is first
            first = False
            if not event["type"].startswith("voxsight."):
                SDK.validate_json(message["text"], strict=True)
            if event["type"] == "error":
                self.seen[f"error {event['error']['code']}"] += 1
                assert event["error"]["type"] != "server_error", event
            if event["type"] == "response.done":
                assert event["response"]["status"] != "failed", event

    async def _check_another(self) -> None:
        async with Peer(self.app) as peer:
            assert (await peer.event())["type"] == "session.created"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> typing.Iterator[World]:
    made = World(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


@settings(MANY, max_examples=30)
@example(
    (
        "model=gpt-realtime",
        ['{"type": "response.create", "response": {"tool_choice": "required"}}'],
        "leave",
    )
)
@given(CASES)
def test_no_client_breaks_the_server(world: World, case: tuple[str, list[Frame], str]) -> None:
    world.play(*case)


def main(count: int) -> None:
    """Play so many cases and print what the server answered."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder))

        @settings(
            max_examples=count,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(CASES)
        def play(case: tuple[str, list[Frame], str]) -> None:
            world.seen["cases"] += 1
            world.play(*case)
            if world.seen["cases"] % 500 == 0:
                print(f"{world.seen['cases']} cases", file=sys.stderr, flush=True)

        try:
            play()
        finally:
            world.close()
            print(json.dumps(dict(world.seen.most_common()), indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]))
