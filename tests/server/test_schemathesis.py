"""No request that the API's page allows, or nearly allows, may end in a 5xx."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from assistant.server.app import create_app
from assistant.server.config import ServerConfig
from assistant.server.state import ServerState
from fusion.adapter import SoftTokens
from tests.server.fakes import FakeEngine
from tests.server.test_http_chat import image_part
from tests.server.test_http_transcriptions import recording
from tests.server.tiny_writer import tiny_writer

_MODELS = {"chat/completions": "gpt-4o", "speech": "tts-1", "tions": "whisper-1"}
_URLS = [image_part()["image_url"]["url"], "file:///etc/passwd", "http://127.0.0.1/", "data:,"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    fakes = FakeEngine.start()
    fakes.fakes.look = lambda image: SoftTokens(torch.zeros(2, 32))
    engine = replace(fakes, writer=tiny_writer())
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    config = ServerConfig(keys_file=keys, allowed_hosts=("testserver",), max_text_chars=1000)
    yield schemathesis.openapi.from_asgi("/openapi.json", create_app(ServerState(config, engine)))
    engine.close()


def known_names(data: st.DataObject, path: str, value: Any) -> Any:
    """The same body with names of things that are here: random ones would all be 404."""
    if isinstance(value, list):
        return [known_names(data, path, item) for item in value]
    if not isinstance(value, dict):
        return value
    body = {key: known_names(data, path, item) for key, item in value.items()}
    if isinstance(body.get("model"), str):
        body["model"] = next(name for end, name in _MODELS.items() if path.endswith(end))
    if "voice" in body:
        body["voice"] = "alloy"
    if isinstance(body.get("url"), str):
        body["url"] = data.draw(st.sampled_from(_URLS))
    if "file" in body:
        body["file"] = data.draw(st.sampled_from([recording(), recording()[:50], body["file"]]))
    if "messages" in body and not {"max_tokens", "max_completion_tokens"} & set(body):
        body["max_tokens"] = 16  # a random model never comes to an end by itself
    if "audio" in body and "messages" in body:
        body["modalities"] = ["text", "audio"] if body["audio"] else None
    return body


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/models", "GET"),
        ("/v1/models/{model}", "GET"),
        ("/v1/audio/speech", "POST"),
        ("/v1/audio/transcriptions", "POST"),
        ("/v1/audio/translations", "POST"),
        ("/v1/chat/completions", "POST"),
        ("/v1/realtime/client_secrets", "POST"),
        ("/healthz", "GET"),
        ("/readyz", "GET"),
        ("/metrics", "GET"),
    ],
)
def test_no_request_ends_in_a_server_error(
    page: schemathesis.BaseSchema, path: str, method: str, mode: GenerationMode
) -> None:
    operation = page[path][method]
    answered: list[int] = []

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        case.body = known_names(data, path, case.body)
        response = case.call(headers={"Host": "testserver"}, timeout=600)
        answered.append(response.status_code)
        assert response.status_code < 500, response.text

    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.path_parameters):
        pytest.skip("nothing in this request can be wrong")
    check()

    if mode is GenerationMode.POSITIVE and path != "/v1/models/{model}":
        assert any(status < 300 for status in answered), set(answered)


def test_every_operation_of_the_page_is_tried(page: schemathesis.BaseSchema) -> None:
    marks = test_no_request_ends_in_a_server_error.pytestmark  # type: ignore[attr-defined]
    tried = next(set(mark.args[1]) for mark in marks if mark.args[0] == ("path", "method"))
    paths = page.raw_schema["paths"]

    assert {(path, m.upper()) for path, item in paths.items() for m in item} == tried
