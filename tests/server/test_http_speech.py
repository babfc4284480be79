import base64
import io
import json
import socket
import time
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from audio.encode import SoundFormat
from tests.assistant.session_fakes import REPLY_WORD
from tests.server.conftest import MakeClient
from tests.server.fakes import FakeEngine
from tests.server.sdk_types import error, events
from tests.server.test_encode import decoded

SAY = {"model": "tts-1", "voice": "alloy", "input": "One two three."}


@pytest.mark.parametrize("form", SoundFormat)
def test_a_text_is_spoken_in_every_format(make_client: MakeClient, form: SoundFormat) -> None:
    response = make_client().post("/v1/audio/speech", json=SAY | {"response_format": form})

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(form.media_type.partition(";")[0])
    heard, rate = decoded(response.content, form)
    assert len(heard) / rate == pytest.approx(3 * REPLY_WORD / 16_000, abs=0.2)


def test_mp3_is_the_default_and_a_voice_may_be_an_id(make_client: MakeClient) -> None:
    response = make_client().post(
        "/v1/audio/speech", json=SAY | {"voice": {"id": "en_US-joe-medium"}}
    )

    assert response.headers["content-type"] == "audio/mpeg"


def test_events_hold_the_same_sound(make_client: MakeClient) -> None:
    client = make_client()
    wav = SAY | {"response_format": "wav"}
    response = client.post("/v1/audio/speech", json=wav | {"stream_format": "sse"})

    *parts, done = [json.loads(event) for event in events(response.text)]
    sound = b"".join(base64.b64decode(part["audio"]) for part in parts)
    assert {part["type"] for part in parts} == {"speech.audio.delta"}
    assert sound == client.post("/v1/audio/speech", json=wav).content
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {"input_tokens": 3, "output_tokens": 30, "total_tokens": 33}


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "whisper-1"}, 404, "model"),
        ({"model": "other"}, 404, "model"),
        ({"voice": "bob"}, 400, "voice"),
        ({"voice": {"id": "bob"}}, 400, "voice"),
        ({"input": ""}, 400, "input"),
        ({"input": "x" * 101}, 400, "input"),
        ({"speed": 0.2}, 400, "speed"),
        ({"speed": 4.1}, 400, "speed"),
        ({"speed": "NaN"}, 400, "speed"),
        ({"response_format": "wma"}, 400, "response_format"),
        ({"stream_format": "morse"}, 400, "stream_format"),
        ({"instructions": "Whisper."}, 400, "instructions"),
        ({"pitch": 1}, 400, "pitch"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    make_client: MakeClient, change: dict[str, Any], status: int, param: str
) -> None:
    client = make_client(max_text_chars=100)

    response = client.post("/v1/audio/speech", json=SAY | change)

    message = error(response, status)
    assert response.json()["error"]["param"].startswith(param)
    assert len(message) < 500


def test_a_text_without_words_is_refused(make_client: MakeClient) -> None:
    response = make_client().post("/v1/audio/speech", json=SAY | {"input": "  \n "})

    assert "no word" in error(response, 400)


def test_a_voice_that_fails_before_the_first_sound_is_one_error(
    make_client: MakeClient, fake_engine: FakeEngine
) -> None:
    client = make_client()
    fake_engine.speaking.fault = RuntimeError("secret detail")

    assert "secret" not in error(client.post("/v1/audio/speech", json=SAY), 500)

    fake_engine.release()
    assert client.post("/v1/audio/speech", json=SAY).status_code == 200


def test_the_first_sound_comes_before_the_last_is_spoken(
    fake_server: Any, fake_engine: Any
) -> None:
    live = fake_server()
    long = SAY | {"input": "One two three four five. " * 40, "response_format": "pcm"}

    with httpx.stream("POST", f"{live.base_url}/v1/audio/speech", json=long) as response:
        next(response.iter_bytes(100))
        assert fake_engine.speaking.calls < 200


def test_a_client_that_leaves_ends_the_work(fake_server: Any, fake_engine: FakeEngine) -> None:
    live = fake_server()
    visit = fake_engine.speaking.visit

    def slow() -> None:
        time.sleep(0.01)
        visit()

    fake_engine.speaking.visit = slow  # type: ignore[method-assign]
    long = SAY | {"input": "One two three four five. " * 400, "response_format": "wav"}
    with httpx.stream("POST", f"{live.base_url}/v1/audio/speech", json=long) as response:
        next(response.iter_bytes(100))

    while live.state.admission.requests:
        time.sleep(0.01)
    # What was being computed ends; nothing more is begun.
    time.sleep(0.1)
    calls = fake_engine.speaking.calls
    time.sleep(0.1)
    assert fake_engine.speaking.calls == calls < 2000


def test_a_client_that_reads_nothing_is_let_go(fake_server: Any, fake_engine: FakeEngine) -> None:
    live = fake_server(slow_reader_s=0.3)
    body = json.dumps(SAY | {"input": "One two three four five. " * 4000, "response_format": "wav"})
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        kind = "Content-Type: application/json\r\n\r\n"
        connection.sendall((head + kind + body).encode())
        while not live.state.admission.requests:
            time.sleep(0.01)
        while live.state.admission.requests:
            time.sleep(0.01)

    # The text was far from spoken, and the next one is served.
    assert fake_engine.speaking.calls < 20_000
    response = httpx.post(f"{live.base_url}/v1/audio/speech", json=SAY)
    assert response.status_code == 200


@pytest.mark.models
def test_the_real_voice_says_the_words(live_server: Any) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{live_server.base_url}/v1", api_key="none", max_retries=0)
    data = client.audio.speech.create(
        model="tts-1", voice="alloy", input="Hello, my friend.", response_format="flac"
    ).read()
    sound, rate = decoded(data, SoundFormat.FLAC)
    assert rate == 22_050
    assert 0.5 < len(sound) / 22_050 < 4
    assert np.abs(sound).max() > 0.05

    heard = client.audio.transcriptions.create(
        model="whisper-1", file=("a.flac", data_as_wav(data))
    )
    assert "friend" in heard.text.lower()


def data_as_wav(flac: bytes) -> bytes:
    samples, rate = decoded(flac, SoundFormat.FLAC)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()
