"""What goes wrong around a server costs one client one error, and the next one nothing."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.live import Live
from tests.server.fakes import FakeEngine
from tests.server.proxy import Proxy

GONE = (ConnectionClosed, InvalidHandshake, OSError, EOFError)


@dataclass(frozen=True)
class Counts:
    tasks: int
    threads: int
    files: int
    sessions: int
    queued_bytes: float

    @classmethod
    def of(cls, live: Live) -> "Counts":
        async def tasks() -> int:
            return len(asyncio.all_tasks()) - 1

        registry = live.state.metrics.registry
        return cls(
            asyncio.run_coroutine_threadsafe(tasks(), live.loop).result(),
            threading.active_count(),
            len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names of no files
            live.state.admission.sessions,
            registry.get_sample_value("voxsight_queue_bytes", {"queue": "send"}) or 0.0,
        )


class Faults:
    """A server with fake models, and how it is before anything went wrong."""

    def __init__(self, live: Live, engine: FakeEngine) -> None:
        self.live, self.engine = live, engine

    def run(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Play a scenario; the server is then as it was, and serves the next client."""
        asyncio.run(self._talk())
        before = self._rest()
        asyncio.run(scenario())
        self.engine.release()
        assert self._rest() == before
        asyncio.run(self._talk())
        assert self._rest() == before

    def _rest(self) -> Counts:
        """How things are once nothing changes any more."""
        last, same = Counts.of(self.live), 0
        while last.sessions or same < 5:
            time.sleep(0.03)
            now = Counts.of(self.live)
            last, same = now, same + 1 if now == last else 0
        return last

    async def _talk(self) -> None:
        async with self.client() as client:
            assert await answer(client, "one two", "audio") == "completed"

    @asynccontextmanager
    async def client(self, port: int | None = None) -> AsyncIterator[ClientConnection]:
        url = f"ws://127.0.0.1:{port or self.live.port}/v1/realtime"
        async with connect(url, close_timeout=0.2, ping_interval=None) as client:
            yield client


@pytest.fixture
def faults(
    fake_server: Callable[..., Live], fake_engine: FakeEngine, request: pytest.FixtureRequest
) -> Faults:
    return Faults(fake_server(**getattr(request, "param", {})), fake_engine)


def chosen(**config: Any) -> pytest.MarkDecorator:
    """Settings of the test's server."""
    return pytest.mark.parametrize("faults", [config], indirect=True, ids=["chosen"])


async def ask(client: ClientConnection, text: str, modality: str = "text") -> None:
    """Send a question and let it be answered."""
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    await client.send(json.dumps({"type": "conversation.item.create", "item": item}))
    response = {"output_modalities": [modality]}
    await client.send(json.dumps({"type": "response.create", "response": response}))


async def ended(client: ClientConnection) -> str:
    """The status of the next response that ends."""
    async for message in client:
        event = json.loads(message)
        if event["type"] == "response.done":
            return str(event["response"]["status"])
    return "gone"


async def answer(client: ClientConnection, text: str, modality: str = "text") -> str:
    await ask(client, text, modality)
    return await ended(client)


@pytest.mark.parametrize("after_bytes", [0, 200, 2_000, 10_000])
def test_a_connection_that_is_cut(faults: Faults, after_bytes: int) -> None:
    async def scenario() -> None:
        async with Proxy(faults.live.port) as proxy:
            with suppress(*GONE):
                async with faults.client(proxy.port) as client:
                    await ask(client, "one two three", "audio")
                    while proxy.forwarded < after_bytes:
                        await client.recv()
                    proxy.cut()
                    await ended(client)

    faults.run(scenario)


@pytest.mark.parametrize("server", [False, True])
def test_one_side_that_closes_before_the_other(faults: Faults, server: bool) -> None:
    async def scenario() -> None:
        async with Proxy(faults.live.port) as proxy:
            with suppress(*GONE):
                async with faults.client(proxy.port) as client:
                    await ask(client, "one two three", "audio")
                    await client.recv()
                    proxy.close_one_side(server)
                    await ended(client)

    faults.run(scenario)


def test_a_slow_network_loses_nothing(faults: Faults) -> None:
    async def scenario() -> None:
        async with Proxy(faults.live.port) as proxy:
            proxy.delay_s = 0.02
            async with faults.client(proxy.port) as client:
                assert await answer(client, "one two three", "audio") == "completed"

    faults.run(scenario)


@chosen(ping_interval_s=0.2, ping_timeout_s=0.2)
def test_a_connection_that_falls_silent_is_found(faults: Faults) -> None:
    async def scenario() -> None:
        async with Proxy(faults.live.port) as proxy:
            with suppress(*GONE):
                async with faults.client(proxy.port) as client:
                    await client.recv()
                    proxy.hold()
                    while faults.live.state.admission.sessions:
                        await asyncio.sleep(0.02)

    faults.run(scenario)


@chosen(slow_reader_s=0.2, send_buffer_bytes=100_000)
def test_a_reader_that_is_too_slow_is_closed(faults: Faults) -> None:
    async def scenario() -> None:
        async with Proxy(faults.live.port) as proxy:
            with suppress(*GONE):
                async with faults.client(proxy.port) as client:
                    await client.recv()
                    proxy.bytes_per_s = 1.0
                    long = " ".join(["one two three four five"] * 100)
                    await ask(client, long, "audio")
                    while faults.live.state.admission.sessions:
                        await asyncio.sleep(0.02)

    faults.run(scenario)
    registry = faults.live.state.metrics.registry
    assert registry.get_sample_value("voxsight_errors_total", {"kind": "slow_reader"}) == 1


CLIENT = """
import asyncio, sys
from websockets.asyncio.client import connect
async def main():
    async with connect(sys.argv[1]) as client:
        async for message in client:
            print(len(message), flush=True)
asyncio.run(main())
"""


def test_a_client_that_is_killed(faults: Faults) -> None:
    async def scenario() -> None:
        url = f"{faults.live.ws_url}/v1/realtime"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT, url), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.wait()

    faults.run(scenario)


@pytest.mark.parametrize("stage", ["thinking", "speaking"])
def test_a_model_call_that_raises_ends_one_response(faults: Faults, stage: str) -> None:
    async def scenario() -> None:
        trouble = getattr(faults.engine, stage)
        async with faults.client() as client:
            trouble.fault = RuntimeError("the weights are on fire")
            assert await answer(client, "one two", "audio") == "failed"
            trouble.fault = None
            assert await answer(client, "one two", "audio") == "completed"

    faults.run(scenario)


@pytest.mark.parametrize("stage", ["thinking", "speaking"])
def test_a_model_call_that_hangs_can_be_left(faults: Faults, stage: str) -> None:
    async def scenario() -> None:
        trouble = getattr(faults.engine, stage)
        calls = trouble.calls
        trouble.hold.clear()
        with suppress(*GONE):
            async with faults.client() as client:
                await ask(client, "one two", "audio")
                while trouble.calls == calls:
                    await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=faults.live.base_url) as http:
            assert (await http.get("/healthz")).status_code == 200
        async with faults.client() as next_client:
            assert json.loads(await next_client.recv())["type"] == "session.created"
            trouble.hold.set()
            assert await answer(next_client, "one two", "audio") == "completed"

    faults.run(scenario)


def test_a_voice_that_fails_over_http(faults: Faults) -> None:
    async def scenario() -> None:
        trouble = faults.engine.speaking
        body = {"model": "tts-1", "input": "one two. three four.", "voice": "alloy"}
        async with httpx.AsyncClient(base_url=faults.live.base_url) as http:
            trouble.fault = RuntimeError("the weights are on fire")
            response = await http.post("/v1/audio/speech", json=body)
            assert response.status_code == 500
            assert "fire" not in response.text
            trouble.fault = None
            assert (await http.post("/v1/audio/speech", json=body)).status_code == 200

    faults.run(scenario)


def test_many_who_come_and_go_at_once(faults: Faults) -> None:
    async def come_and_go(number: int) -> None:
        with suppress(*GONE):
            async with faults.client() as client:
                await ask(client, "one two three", "audio")
                for _ in range(number % 7):
                    await client.recv()
                if number % 2:
                    client.transport.abort()

    async def scenario() -> None:
        await asyncio.gather(*(come_and_go(number) for number in range(40)))

    faults.run(scenario)
