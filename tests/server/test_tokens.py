"""Client secrets: once, for a short time, and for nothing else."""

from pathlib import Path
from typing import Any

import pytest
from openai.types.realtime import ClientSecretCreateResponse
from starlette.testclient import WebSocketDenialResponse

from assistant.server.config import ServerConfig
from assistant.server.errors import ApiError
from assistant.server.tokens import Tokens

URL = "/v1/realtime/client_secrets"


class Wall:
    def __init__(self) -> None:
        self.at = 1_000_000.5

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def wall() -> Wall:
    return Wall()


def make_tokens(wall: Wall, tmp_path: Path, **chosen: Any) -> Tokens:
    return Tokens(ServerConfig(keys_file=tmp_path / "keys.json", **chosen), wall)


def test_a_token_is_good_once(wall: Wall, tmp_path: Path) -> None:
    tokens = make_tokens(wall, tmp_path)
    secret, token = tokens.create("key_1", {"type": "realtime"})
    assert secret.startswith("ek_") and len(secret) == 3 + 43
    assert tokens.redeem(secret) == token
    with pytest.raises(ApiError) as refused:
        tokens.redeem(secret)
    assert refused.value.status == 401


def test_a_token_lives_as_long_as_asked_within_bounds(wall: Wall, tmp_path: Path) -> None:
    tokens = make_tokens(wall, tmp_path, token_s=60, max_token_s=600)
    lives = {None: 60, 10: 10, 599: 599, 7200: 600}
    for asked, life_s in lives.items():
        secret, token = tokens.create(None, {}, asked)
        assert token.expires_at == 1_000_000 + life_s
    wall.at += 599
    tokens.redeem(secret)
    late, _ = tokens.create(None, {}, 10)
    wall.at += 10
    with pytest.raises(ApiError):
        tokens.redeem(late)


def test_only_so_many_wait(wall: Wall, tmp_path: Path) -> None:
    tokens = make_tokens(wall, tmp_path, max_tokens_waiting=2)
    tokens.create(None, {})
    tokens.create(None, {})
    with pytest.raises(ApiError) as refused:
        tokens.create(None, {})
    assert refused.value.status == 429
    wall.at += 60
    tokens.create(None, {})


@pytest.mark.parametrize("kind", ["realtime", "transcription"])
def test_the_answer_is_what_the_sdk_reads(make_client: Any, kind: str) -> None:
    response = make_client().post(URL, json={"session": {"type": kind}})
    assert response.status_code == 200
    read = ClientSecretCreateResponse.model_validate_json(response.content, strict=True)
    assert read.session.type == kind and read.value.startswith("ek_")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"anchor": "created_at", "seconds": 9}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "expires_after.anchor"),
        ({"sesion": {}}, "sesion"),
        ({"session": {"type": "realtime", "colour": "red"}}, "session.colour"),
        ({"session": []}, "session"),
    ],
)
def test_a_wrong_request_is_told(make_client: Any, body: Any, param: str) -> None:
    response = make_client().post(URL, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("way", ["subprotocol", "header"])
def test_a_browser_connects_once_with_its_settings(make_client: Any, way: str) -> None:
    client = make_client()
    body = {"session": {"type": "realtime", "instructions": "Speak like a pirate."}}
    secret = client.post(URL, json=body).json()["value"]
    chosen: dict[str, Any] = {"subprotocols": ["realtime"]}
    if way == "subprotocol":
        chosen["subprotocols"].append(f"openai-insecure-api-key.{secret}")
    else:
        chosen["headers"] = {"Authorization": f"Bearer {secret}"}
    with client.websocket_connect("/v1/realtime", **chosen) as websocket:
        assert websocket.accepted_subprotocol == "realtime"
        created = websocket.receive_json()
        assert created["session"]["instructions"] == "Speak like a pirate."
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/v1/realtime", **chosen),
    ):
        pass
    assert refused.value.status_code == 401


def test_a_client_secret_opens_nothing_else(make_client: Any) -> None:
    client = make_client()
    secret = client.post(URL, json={}).json()["value"]
    response = client.post(URL, json={}, headers={"Authorization": f"Bearer {secret}"})
    assert response.status_code == 401
    assert "opens only /v1/realtime" in response.json()["error"]["message"]


def test_a_revoked_key_takes_its_client_secrets_along(make_client: Any) -> None:
    client = make_client(host="0.0.0.0")
    keys = client.app.state.server.keys
    _, key = keys.create("ann")
    headers = {"Authorization": f"Bearer {key}"}
    secret = client.post(URL, json={}, headers=headers).json()["value"]
    keys.revoke("ann")
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/v1/realtime", headers={"Authorization": f"Bearer {secret}"}),
    ):
        pass
    assert refused.value.status_code == 401
    assert "revoked" in refused.value.json()["error"]["message"]
