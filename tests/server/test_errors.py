"""Errors as clients see them, over HTTP and WebSocket."""

from typing import Any

import openai
import pytest
from fastapi import WebSocket
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from assistant.errors import VoxsightError
from assistant.server.app import create_app
from assistant.server.errors import ApiError, error_responses, short_reason
from assistant.server.state import ServerState
from audio.errors import AudioError

FAULTS: dict[str, Exception] = {
    "api": ApiError(418, "No coffee.", code="teapot", param="drink", headers={"X-Tea": "1"}),
    "user": VoxsightError("Expected tea."),
    "room": AudioError("Expected sound."),
    "bug": KeyError("a secret detail"),
    "full": ApiError(503, "Full.", type="server_error", code="server_full"),
}


@pytest.fixture
def state(make_state: Any) -> ServerState:
    made: ServerState = make_state()
    return made


@pytest.fixture
def client(state: ServerState) -> TestClient:
    app = create_app(state)

    @app.get("/fault/{name}")
    async def fault(name: str) -> None:
        raise FAULTS[name]

    @app.get("/number/{number}")
    async def number(number: int) -> int:
        return number

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> Any:
            yield b"half"
            raise KeyError("inner")

        return StreamingResponse(pieces())

    @app.websocket("/early/{name}")
    async def early(websocket: WebSocket, name: str) -> None:
        raise FAULTS[name]

    @app.websocket("/late/{name}")
    async def late(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        raise FAULTS[name]

    return TestClient(app)


def test_all_that_an_api_error_holds(client: TestClient) -> None:
    response = client.get("/fault/api")
    assert response.status_code == 418
    assert response.headers["x-tea"] == "1"
    assert response.headers["x-request-id"].startswith("req_")
    assert response.json() == {
        "error": {
            "message": "No coffee.",
            "type": "invalid_request_error",
            "param": "drink",
            "code": "teapot",
        }
    }


@pytest.mark.parametrize("name", ["user", "room"])
def test_what_a_user_did_wrong_is_told(client: TestClient, name: str) -> None:
    response = client.get(f"/fault/{name}")
    assert response.status_code == 400
    assert response.json()["error"]["message"] == str(FAULTS[name])


def test_a_bug_is_told_by_an_id_only(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    response = client.get("/fault/bug")
    assert response.status_code == 500
    assert "secret" not in response.text and "KeyError" not in response.text
    code = response.json()["error"]["code"]
    assert [getattr(record, "fault_id", None) for record in caplog.records if record.exc_info] == [
        code
    ]
    assert client.get("/healthz").status_code == 200


def test_invalid_values_and_unknown_places(client: TestClient) -> None:
    wrong = client.get("/number/one")
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "number"
    assert client.get("/nowhere").status_code == 404
    assert client.post("/number/1").status_code == 405
    assert client.post("/number/1").headers["allow"] == "GET"
    broken = client.post(
        "/v1/realtime/client_secrets",
        content=b"{",
        headers={"Content-Type": "application/json"},
    )
    assert broken.status_code == 400


def test_half_an_answer_is_not_made_to_look_whole(client: TestClient) -> None:
    with pytest.raises(ApiError, match="fault_"):
        client.get("/half")


def test_the_sdk_reads_our_errors(client: TestClient) -> None:
    sdk = openai.OpenAI(
        api_key="none", base_url="http://testserver/fault", http_client=client, max_retries=0
    )
    with pytest.raises(openai.APIStatusError) as refused:
        sdk.get("/api", cast_to=object)
    error = refused.value
    assert (error.status_code, error.code, error.param) == (418, "teapot", "drink")
    assert error.request_id is not None


@pytest.mark.parametrize(("name", "status"), [("api", 418), ("user", 400), ("bug", 500)])
def test_before_the_handshake_a_websocket_is_told_by_its_status(
    client: TestClient, name: str, status: int
) -> None:
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect(f"/early/{name}"),
    ):
        pass
    assert refused.value.status_code == status
    assert "error" in refused.value.json()


def test_a_full_server_is_told_by_a_close_code(client: TestClient) -> None:
    with client.websocket_connect("/early/full", subprotocols=["realtime"]) as websocket:
        assert websocket.accepted_subprotocol == "realtime"
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert (closed.value.code, closed.value.reason) == (1013, "Full.")


@pytest.mark.parametrize(("name", "code"), [("api", 1008), ("bug", 1011), ("full", 1013)])
def test_after_the_handshake_by_a_close_code(client: TestClient, name: str, code: int) -> None:
    with (
        client.websocket_connect(f"/late/{name}") as websocket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        websocket.receive_text()
    assert closed.value.code == code


def test_errors_are_counted_by_kind(client: TestClient, state: ServerState) -> None:
    for name in ("api", "bug", "bug", "user"):
        client.get(f"/fault/{name}")
    registry = state.metrics.registry
    counted = {
        kind: registry.get_sample_value("voxsight_errors_total", {"kind": kind})
        for kind in ("teapot", "server_error", "invalid_request_error")
    }
    assert counted == {"teapot": 1, "server_error": 2, "invalid_request_error": 1}


@given(st.text())
def test_a_reason_fits_into_a_close_frame(message: str) -> None:
    reason = short_reason(message)
    assert len(reason.encode()) <= 123
    assert message.startswith(reason)


def test_every_route_can_declare_its_errors() -> None:
    assert set(error_responses(400, 503)) == {400, 503}
    assert set(error_responses()) >= {400, 401, 403, 429, 500, 503}
