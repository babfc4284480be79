"""Who comes in: keys, pages of others, names of others, and limits of a key."""

from typing import Any

import pytest
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from assistant.errors import ConfigError
from assistant.server.door import check_exposure
from assistant.server.keys import KeyFile
from assistant.server.limits import Limits

SECRETS = "/v1/realtime/client_secrets"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_on_this_machine_no_key_is_needed(make_client: Any) -> None:
    client = make_client()
    assert client.get("/metrics").status_code == 200
    # Programs written for a hosted service always send some key.
    assert client.get("/metrics", headers=bearer("sk-whatever")).status_code == 200
    # One that looks like ours has to be ours.
    assert client.get("/metrics", headers=bearer("vx-unknown")).status_code == 401


def test_elsewhere_a_key_is_needed(make_client: Any) -> None:
    client = make_client(host="0.0.0.0")
    refused = client.get("/metrics")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"] == {
        "message": "Expected a key in the header 'Authorization: Bearer vx-...', got none.",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }
    keys: KeyFile = client.app.state.server.keys
    _, secret = keys.create("ann")
    assert client.get("/metrics", headers=bearer(secret)).status_code == 200
    keys.revoke("ann")
    assert client.get("/metrics", headers=bearer(secret)).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
def test_probes_and_the_page_need_no_key(make_client: Any, path: str) -> None:
    assert make_client(host="0.0.0.0").get(path).status_code == 200


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic vx-1", "vx-1", "Bearer  \x00", "Bearer \xff"]
)
def test_strange_headers_are_no_keys(make_client: Any, value: str) -> None:
    client = make_client(host="0.0.0.0")
    response = client.get("/metrics", headers=[(b"authorization", value.encode("latin-1"))])
    assert response.status_code == 401


def test_a_websocket_is_refused_by_its_handshake(make_client: Any) -> None:
    client = make_client(host="0.0.0.0")
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/v1/realtime", subprotocols=["realtime"]),
    ):
        pass
    assert refused.value.status_code == 401
    assert refused.value.json()["error"]["code"] == "invalid_api_key"


def test_a_key_may_come_as_a_subprotocol(make_client: Any) -> None:
    client = make_client(host="0.0.0.0")
    _, secret = client.app.state.server.keys.create("ann")
    offered = ["realtime", f"openai-insecure-api-key.{secret}"]
    with client.websocket_connect("/v1/realtime", subprotocols=offered) as websocket:
        assert websocket.accepted_subprotocol == "realtime"
        assert websocket.receive_json()["type"] == "session.created"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://testserver.evil.example",
        "http://testserver:81",
        "testserver",
        "",
    ],
)
def test_pages_of_others_are_refused(make_client: Any, origin: str) -> None:
    client = make_client()
    for path in ("/healthz", "/metrics"):
        response = client.get(path, headers={"Origin": origin})
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in response.headers
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/v1/realtime", headers={"Origin": origin}),
    ):
        pass
    assert refused.value.status_code == 403


def test_own_and_allowed_pages_come_in(make_client: Any) -> None:
    client = make_client(allowed_origins=("https://app.example",))
    assert client.get("/metrics", headers={"Origin": "http://testserver"}).status_code == 200
    allowed = client.get("/metrics", headers={"Origin": "https://app.example"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    asked = {"Access-Control-Request-Method": "POST", "Origin": "https://app.example"}
    assert client.options("/v1/models", headers=asked).status_code == 200
    asked["Origin"] = "https://evil.example"
    assert "access-control-allow-origin" not in client.options("/x", headers=asked).headers
    with client.websocket_connect("/v1/realtime", headers={"Origin": "https://app.example"}):
        pass


def test_an_allowed_page_can_read_a_refusal(make_client: Any) -> None:
    client = make_client(host="0.0.0.0", allowed_origins=("https://app.example",))
    response = client.get("/metrics", headers={"Origin": "https://app.example"})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_a_name_that_points_here_is_refused(make_client: Any, host: str, status: int) -> None:
    """DNS rebinding: a page's own name resolves to 127.0.0.1, so its Origin is its Host."""
    response = make_client().get("/healthz", headers={"Host": host})
    assert response.status_code == status


def test_elsewhere_any_name_will_do_unless_names_are_given(make_client: Any) -> None:
    headers = {"Host": "voice.example"}
    assert make_client(host="0.0.0.0", allowed_hosts=()).get("/healthz", headers=headers).is_success
    client = make_client(host="0.0.0.0", allowed_hosts=("other.example",))
    assert client.get("/healthz", headers=headers).status_code == 403


def test_an_address_open_to_others_needs_a_key(make_config: Any) -> None:
    config = make_config(host="0.0.0.0")
    keys = KeyFile(config.keys_file)
    with pytest.raises(ConfigError, match="voxsight keys create NAME"):
        check_exposure(config, keys)
    check_exposure(make_config(), keys)
    keys.create("ann")
    check_exposure(config, keys)
    keys.revoke("ann")
    with pytest.raises(ConfigError):
        check_exposure(config, keys)


def test_keys_that_cannot_be_read_let_nobody_in(make_client: Any) -> None:
    client = make_client(host="0.0.0.0")
    keys: KeyFile = client.app.state.server.keys
    _, secret = keys.create("ann")
    keys.path.write_text("{")
    response = client.get("/metrics", headers=bearer(secret))
    assert response.status_code == 503
    assert str(keys.path) not in response.text


def test_limits_of_a_key(make_client: Any) -> None:
    client = make_client(key_requests_per_minute=50)
    keys: KeyFile = client.app.state.server.keys
    _, few = keys.create("few", Limits(requests_per_minute=2))
    _, usual = keys.create("usual")
    first = client.post(SECRETS, json={}, headers=bearer(few))
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert client.post(SECRETS, json={}, headers=bearer(few)).status_code == 200
    refused = client.post(SECRETS, json={}, headers=bearer(few))
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers.get_list("x-ratelimit-remaining-requests") == ["0"]
    other = client.post(SECRETS, json={}, headers=bearer(usual))
    assert other.headers["x-ratelimit-limit-requests"] == "50"
    assert "x-ratelimit-limit-requests" not in client.post(SECRETS, json={}).headers


def test_sessions_of_a_key(make_client: Any) -> None:
    client = make_client()
    _, secret = client.app.state.server.keys.create("ann", Limits(sessions=1))
    with client.websocket_connect("/v1/realtime", headers=bearer(secret)) as websocket:
        websocket.receive_json()
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            client.websocket_connect("/v1/realtime", headers=bearer(secret)),
        ):
            pass
        assert refused.value.status_code == 429
    with client.websocket_connect("/v1/realtime", headers=bearer(secret)) as websocket:
        assert websocket.receive_json()["type"] == "session.created"


def test_a_page_is_told_by_the_close_code_why_it_may_not(make_client: Any) -> None:
    """A browser shows its scripts nothing of a handshake that failed."""
    client = make_client(host="0.0.0.0", key_sessions=1)
    _, secret = client.app.state.server.keys.create("ann")
    origin = "http://testserver"

    def talk(key: str, path: str = "/v1/realtime") -> Any:
        offered = ["realtime", f"openai-insecure-api-key.{key}"]
        return client.websocket_connect(path, subprotocols=offered, headers={"Origin": origin})

    def told(websocket: Any) -> tuple[int, str]:
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
        return closed.value.code, closed.value.reason

    with talk("vx-wrong") as websocket:
        code, reason = told(websocket)
        assert code == 4401
        assert "unknown or revoked" in reason
    with talk(secret, "/v1/realtime?model=other") as websocket:
        assert told(websocket)[0] == 4404
    with talk(secret, "/v1/realtime?extensions=telepathy") as websocket:
        assert told(websocket)[0] == 4400
    with talk(secret) as running, talk(secret) as websocket:
        assert running.receive_json()["type"] == "session.created"
        code, reason = told(websocket)
        assert code == 4429
        assert "1 sessions open" in reason
