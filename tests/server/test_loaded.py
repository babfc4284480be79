"""What is loaded, and its exchange, around models that are stand-ins."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from assistant.config import Settings
from assistant.errors import ModelStoreError
from assistant.models import ModelStore
from assistant.server.app import create_app
from assistant.server.engine import Engine
from assistant.server.exchange import Exchange, ExchangedModels, Step, Tell
from assistant.server.http import loaded
from assistant.server.state import ServerState
from tests.server.fakes import FakeEngine

PATH = "/v1/voxsight/models"


class Loading:
    """Makes engines for an exchange as a test says."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.fault: Exception | None = None
        self.asked: list[dict[str, str]] = []

    def __call__(self, old: Engine, chosen: Mapping[str, str], tell: Tell) -> Engine:
        self.asked.append(dict(chosen))
        tell(Step("fetching", chosen["recogniser"], 5, 10))
        self.go.wait()
        if self.fault is not None:
            raise self.fault
        models = SimpleNamespace(**vars(old.models))
        models.settings = old.models.settings.model_copy(update=dict(chosen))
        return replace(old, models=models)  # type: ignore[arg-type]


@pytest.fixture
def loading() -> Loading:
    return Loading()


@pytest.fixture
def client(
    fake_engine: FakeEngine,
    make_state: Callable[..., ServerState],
    loading: Loading,
    tmp_path: Path,
) -> Iterator[TestClient]:
    fake_engine.models.store = ModelStore(Settings(cache_dir=tmp_path))  # type: ignore[misc]
    state = make_state()
    app = create_app(state)
    app.state.exchange = Exchange(state, loading)
    app.include_router(loaded.router)
    with TestClient(app) as started:
        yield started


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_it_tells_what_is_loaded(client: TestClient) -> None:
    told = client.get(PATH).json()
    roles = {role["role"]: role for role in told["roles"]}
    assert list(roles) == ["recogniser", "language_model", "voice", "image_encoder"]
    assert roles["recogniser"]["loaded"] == "whisper-tiny.en"
    choices = {choice["name"]: choice for choice in roles["recogniser"]["choices"]}
    assert choices["whisper-base"]["state"] == "absent"
    assert choices["whisper-base"]["bytes"] > 140e6
    assert told["memory"]["process_bytes"] > 0
    assert told["sessions"] == {"running": 0, "limit": 8}
    assert told["exchange"] is None
    assert told["voices"] == ["en_US-joe-medium"]


def test_an_exchange_tells_its_progress_and_counts_for_the_next(
    client: TestClient, loading: Loading
) -> None:
    answer = client.post(PATH, json={"recogniser": "whisper-base"})
    told = events(answer.text)
    assert told[-1] == {"type": "voxsight.models.done"}
    assert told[0]["model"] == "whisper-base"
    assert loading.asked == [{"recogniser": "whisper-base"}]
    names = {role["role"]: role["loaded"] for role in client.get(PATH).json()["roles"]}
    assert names["recogniser"] == "whisper-base"
    assert "whisper-base" in [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_a_model_that_cannot_be_loaded_changes_nothing(
    client: TestClient, loading: Loading
) -> None:
    loading.fault = ModelStoreError("No source gave model.bin.")
    told = events(client.post(PATH, json={"recogniser": "whisper-base"}).text)
    assert told[-1]["error"]["message"] == "No source gave model.bin."
    assert client.get(PATH).json()["names"]["recogniser"] == "whisper-tiny.en"
    loading.fault = None
    told = events(client.post(PATH, json={"recogniser": "whisper-base"}).text)
    assert told[-1]["type"] == "voxsight.models.done"


def test_one_exchange_at_a_time(client: TestClient, loading: Loading) -> None:
    loading.go.clear()
    body = {"recogniser": "whisper-base"}
    first = threading.Thread(target=lambda: client.post(PATH, json=body))
    first.start()
    while not loading.asked:
        pass
    second = client.post(PATH, json=body)
    loading.go.set()
    first.join()
    assert second.status_code == 409
    assert second.json()["error"]["code"] == "exchange_running"


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"recogniser": "en_US-joe-medium"}, "recogniser"),
        ({"voice": "/etc"}, "voice"),
        ({"language_model": "hub:someone/something"}, "language_model"),
        ({"recogniser": "whisper-tiny.en"}, None),
        ({}, None),
        ({"adapter": "dictionary"}, "adapter"),
    ],
)
def test_only_other_models_of_the_catalogue_are_taken(
    client: TestClient, wanted: dict[str, str], param: str | None
) -> None:
    answer = client.post(PATH, json=wanted)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_who_comes_with_a_key_may_look_but_not_change(
    client: TestClient, fake_engine: FakeEngine
) -> None:
    _, secret = client.app.state.server.keys.create("guest")  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {secret}"}
    assert "operator" in client.get(PATH, headers=headers).json()["exchange"]
    answer = client.post(PATH, json={"recogniser": "whisper-base"}, headers=headers)
    assert answer.status_code == 403


def test_what_is_not_exchanged_is_kept_and_the_rest_is_let_go(tmp_path: Path) -> None:
    class Thing:
        pass

    old = SimpleNamespace(
        settings=Settings(cache_dir=tmp_path),
        **{name: Thing() for name in ("recogniser", "voice", "encoder", "decoder")},
    )
    new = ExchangedModels(old, {"voice": "other"}, None)  # type: ignore[arg-type]
    assert new.settings.voice == "other"
    assert new.recogniser is old.recogniser
    assert new.encoder is old.encoder
    assert new.decoder is old.decoder
    assert old.voice not in vars(new).values()
    assert old not in vars(new).values()
