"""A full server: refuses at once, and what runs is not touched."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from starlette.websockets import WebSocketDisconnect

from assistant.server.admission import Admission
from assistant.server.errors import ApiError
from assistant.server.memory import session_bytes
from assistant.server.state import ServerState
from fusion.decoder import KVCache


def test_a_session_too_many_is_closed_with_1013(make_client: Any) -> None:
    client = make_client(max_sessions=1)
    state: ServerState = client.app.state.server
    with (
        state.admission.session(),
        client.websocket_connect("/v1/realtime") as websocket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        websocket.receive_text()
    assert closed.value.code == 1013
    assert "holds 1 sessions" in closed.value.reason
    assert state.admission.sessions == 0


def test_a_request_too_many_is_told_when_to_return(make_client: Any) -> None:
    client = make_client(max_requests=1, max_waiting_requests=0, retry_after_s=7)
    state: ServerState = client.app.state.server
    with state.admission.request():
        refused = client.post("/v1/realtime/client_secrets", json={})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "7"
        assert refused.json()["error"]["code"] == "server_full"
        assert client.get("/readyz").status_code == 200
    assert client.post("/v1/realtime/client_secrets", json={}).status_code == 200
    assert state.admission.idle


def test_places_are_given_in_order(make_config: Any) -> None:
    async def scenario() -> list[str]:
        admission = Admission(make_config(max_requests=2))
        log, gate = [], asyncio.Event()

        async def work(name: str) -> None:
            async with admission.place():
                log.append(name)
                assert admission.running <= 2
                await gate.wait()

        tasks = [asyncio.create_task(work(name)) for name in "abcd"]
        await asyncio.sleep(0)
        assert log == ["a", "b"]
        tasks[2].cancel()  # its client left while it waited
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert admission.running == 0
        return log

    assert asyncio.run(scenario()) == ["a", "b", "d"]


def test_nothing_new_when_draining(make_config: Any) -> None:
    admission = Admission(make_config())
    with admission.session():
        admission.draining = True
        assert not admission.idle
    for begin in (admission.session, admission.request):
        with pytest.raises(ApiError) as refused, begin():
            pass
        assert refused.value.code == "shutting_down"
    assert admission.idle


def cache(positions: int, bytes_each: int) -> KVCache:
    layers: Any = SimpleNamespace(
        keys=[torch.zeros(positions, bytes_each // 2, dtype=torch.uint8)],
        values={"all": torch.zeros(positions, bytes_each // 2, dtype=torch.uint8)},
    )
    return KVCache(layers, torch.zeros(positions, dtype=torch.long), torch.zeros(positions, 0))


def test_only_as_many_sessions_as_their_memory_allows(make_config: Any) -> None:
    config = make_config(max_sessions=8, max_conversation_tokens=1000, send_buffer_bytes=2**20)
    engine: Any = SimpleNamespace(parts=SimpleNamespace(new_cache=lambda: cache(10, 1016)))
    size = session_bytes(engine, config)
    # 1,016 bytes of keys and values and 8 of the token id, twice for room to grow
    assert size == 33 * 2**20 + 2 * 1000 * 1024
    for fitting, limit in ((1, 1), (3, 3), (100, 8)):
        admission = Admission(make_config(max_session_memory_bytes=fitting * size + 5))
        admission.fit(size)
        assert admission.session_limit == limit


def test_a_session_that_fits_nowhere_is_refused(make_config: Any) -> None:
    admission = Admission(make_config(max_session_memory_bytes=1000))
    admission.fit(1001)
    with pytest.raises(ApiError), admission.session():
        pass


@pytest.mark.models
def test_the_real_models_fit_into_the_default_memory(live_engine: Any, make_config: Any) -> None:
    config = make_config()
    size = session_bytes(live_engine, config)
    assert config.max_sessions * size < config.max_session_memory_bytes
    # a 0.5B model takes at least 6 KB for each position
    assert size > config.max_conversation_tokens * 6_000
