"""Words with their times, as they are found."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import soundfile
from starlette.testclient import TestClient

from assistant.server.app import create_app
from assistant.server.http import timed
from assistant.server.state import ServerState
from tests.assistant.session_fakes import say

PATH = "/v1/voxsight/transcriptions"


@pytest.fixture
def client(make_state: Callable[..., ServerState]) -> Iterator[TestClient]:
    app = create_app(make_state())
    app.include_router(timed.router)
    with TestClient(app) as started:
        yield started


def recording(text: str) -> dict[str, tuple[str, bytes]]:
    file = io.BytesIO()
    soundfile.write(file, say(text), 16_000, format="WAV", subtype="FLOAT")
    return {"file": ("talk.wav", file.getvalue())}


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_words_come_with_their_times_and_then_all_as_subtitles(client: TestClient) -> None:
    begun, segment, done = events(client.post(PATH, files=recording("what is this")).text)
    assert begun["type"] == "voxsight.transcript.begun" and begun["duration"] > 0
    assert [word["word"] for word in segment["words"]] == ["what", "is", "this"]
    assert segment["words"][0]["start"] < segment["words"][1]["start"] <= segment["end"]
    assert done["text"] == "what is this" and done["language"] == "en"
    assert "-->" in done["srt"] and done["vtt"].startswith("WEBVTT")


def test_the_language_may_be_named_or_left_empty(client: TestClient) -> None:
    for language in ("de", ""):
        answer = client.post(PATH, files=recording("what"), data={"language": language})
        assert events(answer.text)[-1]["language"] == (language or "en")


def test_a_language_that_nobody_knows_is_refused(client: TestClient) -> None:
    answer = client.post(PATH, files=recording("what"), data={"language": "xx"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "language"


def test_what_is_no_recording_is_refused(client: TestClient) -> None:
    answer = client.post(PATH, files={"file": ("talk.wav", b"words")})
    assert answer.status_code == 400


def test_other_fields_are_refused(client: TestClient) -> None:
    answer = client.post(PATH, files=recording("what"), data={"model": "whisper-1"})
    assert answer.status_code == 400
