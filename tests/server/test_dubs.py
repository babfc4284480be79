"""Dubbing jobs around a stand-in that dubs as a test says."""

import io
import json
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from assistant.errors import VoxsightError
from assistant.server.app import create_app
from assistant.server.dubs import STAGES, Dubs, Made, Step, Tell
from assistant.server.engine import Engine
from assistant.server.http import dubs as routes
from assistant.server.state import ServerState

PATH = "/v1/voxsight/dubs"


class Dubbing:
    """Goes through the stages; waits in each for as long as the test does not let it go on."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.free = False
        self.fault: Exception | None = None
        self.seen: list[tuple[bytes, str, str]] = []
        self.stopped = threading.Event()

    def __call__(self, engine: Engine, source: Path, out: Path, language: str, told: Tell) -> Made:
        self.seen.append((source.read_bytes()[:4], source.name, language))
        out.mkdir()
        try:
            for stage in STAGES:
                told(Step(stage, 1, 2))
                if not self.free:
                    self.go.acquire()
                if self.fault is not None:
                    raise self.fault
        except BaseException:
            self.stopped.set()
            raise
        made = Made(out / "a.mp4", out / "a.vtt", out / "report.json", out / "lines.png")
        made.film.write_bytes(bytes(range(100)))
        made.captions.write_text("WEBVTT\n")
        made.report.write_text('{"totals": {}}')
        made.picture.write_bytes(b"PNG")
        return made


@pytest.fixture
def dubbing() -> Dubbing:
    return Dubbing()


@pytest.fixture
def serve(
    make_state: Callable[..., ServerState], dubbing: Dubbing
) -> Iterator[Callable[..., TestClient]]:
    started: list[tuple[TestClient, ServerState]] = []

    def make(**chosen: Any) -> TestClient:
        state = make_state(**chosen)
        app = create_app(state)
        app.state.dubs = Dubs(state, dubbing)
        app.include_router(routes.router)
        client = TestClient(app)
        client.__enter__()
        started.append((client, state))
        return client

    yield make
    dubbing.free = True
    for client, state in started:
        state.leaving.close()
        dubbing.go.release(100)
        client.__exit__(None, None, None)


def film(seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8_000)
        out.writeframes(bytes(round(seconds * 16_000)))
    return file.getvalue()


def send(client: TestClient, data: bytes | None = None, **more: Any) -> Any:
    files = {"file": ("../../film.mp4", data if data is not None else film())}
    return client.post(PATH, files=files, **more)


def events(client: TestClient, dub: str) -> list[dict[str, Any]]:
    lines = client.get(f"{PATH}/{dub}/events").text.split("\n\n")
    told = [line.removeprefix("data: ") for line in lines if line]
    assert told.pop() == "[DONE]"
    return [json.loads(line) for line in told]


def until(client: TestClient, dub: str, state: str) -> dict[str, Any]:
    while (told := client.get(f"{PATH}/{dub}").json()).get("state") != state:
        assert told["state"] in ("waiting", "running"), told
    return dict(told)


def test_a_film_is_dubbed_and_its_files_can_be_had(
    serve: Callable[..., TestClient], dubbing: Dubbing
) -> None:
    client = serve()
    begun = send(client, data=None)
    assert begun.status_code == 202
    dub = begun.json()["id"]
    until(client, dub, "running")
    early = client.get(f"{PATH}/{dub}/video")
    assert (early.status_code, early.json()["error"]["code"]) == (404, "dub_not_done")
    dubbing.free = True
    dubbing.go.release(9)
    last = events(client, dub)[-1]
    assert last["state"] == "done"
    assert [stage["state"] for stage in last["stages"]] == ["done"] * len(STAGES)
    assert last["stages"][1] == {"stage": "transcribe", "state": "done", "done": 1, "total": 2}
    assert dubbing.seen == [(b"RIFF", "film.mp4", "en")]
    video = client.get(f"{PATH}/{dub}/video")
    assert (video.headers["content-type"], len(video.content)) == ("video/mp4", 100)
    part = client.get(f"{PATH}/{dub}/video", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert client.get(f"{PATH}/{dub}/captions").headers["content-type"].startswith("text/vtt")
    assert client.get(f"{PATH}/{dub}/report").json() == {"totals": {}}
    assert client.get(f"{PATH}/{dub}/picture").headers["content-type"] == "image/png"
    assert client.delete(f"{PATH}/{dub}").json()["state"] == "done"
    assert client.get(f"{PATH}/{dub}").json()["error"]["code"] == "dub_not_found"


def test_one_runs_the_others_wait_and_too_many_are_refused(
    serve: Callable[..., TestClient], dubbing: Dubbing
) -> None:
    client = serve(max_dubs_waiting=2)
    first = send(client).json()["id"]
    until(client, first, "running")
    second, third = (send(client).json() for _ in range(2))
    assert (second["state"], second["before"], third["before"]) == ("waiting", 1, 2)
    refused = send(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_full")
    assert client.delete(f"{PATH}/{second['id']}").json()["state"] == "cancelled"
    assert client.get(f"{PATH}/{third['id']}").json()["before"] == 1
    dubbing.free = True
    dubbing.go.release(9)
    assert events(client, third["id"])[-1]["state"] == "done"
    assert len(dubbing.seen) == 2


def test_a_running_job_ends_with_its_step_when_it_is_cancelled(
    serve: Callable[..., TestClient], dubbing: Dubbing
) -> None:
    client = serve()
    dub = send(client).json()["id"]
    until(client, dub, "running")
    assert client.delete(f"{PATH}/{dub}").json()["state"] == "cancelled"
    dubbing.go.release()
    assert dubbing.stopped.wait(60)
    while client.get(f"{PATH}/{dub}").status_code != 404:
        pass
    dubbing.free = True
    dubbing.go.release(9)
    assert events(client, send(client).json()["id"])[-1]["state"] == "done"


@pytest.mark.parametrize(
    ("fault", "words"),
    [(VoxsightError("The film is silent."), "The film is silent."), (KeyError("x"), "fault_")],
)
def test_what_fails_is_told_and_the_next_goes_on(
    serve: Callable[..., TestClient], dubbing: Dubbing, fault: Exception, words: str
) -> None:
    client = serve()
    dubbing.fault = fault
    dubbing.free = True
    last = events(client, send(client).json()["id"])[-1]
    assert last["state"] == "failed"
    assert words in last["error"]
    assert last["stages"][0]["state"] == "stopped"
    dubbing.fault = None
    assert events(client, send(client).json()["id"])[-1]["state"] == "done"


def test_files_go_after_their_time_and_when_the_server_ends(
    serve: Callable[..., TestClient], dubbing: Dubbing
) -> None:
    dubbing.free = True
    client = serve(dub_keep_s=0.01)
    dubs: Dubs = client.app.state.dubs  # type: ignore[attr-defined]
    dub = send(client).json()["id"]
    while client.get(f"{PATH}/{dub}").status_code == 200:
        pass
    assert dubs._folder is not None
    root = Path(dubs._folder.name)
    assert list(root.iterdir()) == []
    dubs._state.leaving.close()
    assert not root.exists()


def test_only_so_many_finished_ones_are_kept(
    serve: Callable[..., TestClient], dubbing: Dubbing
) -> None:
    dubbing.free = True
    client = serve()
    made = []
    for _ in range(10):
        made.append(send(client).json()["id"])
        events(client, made[-1])
    found = [client.get(f"{PATH}/{dub}").status_code for dub in made]
    assert found == [404] * 2 + [200] * 8


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"no film", 400, "invalid_media"),
        (film(3.0), 400, "film_too_long"),
        (film(40.0), 413, "file_too_large"),
    ],
)
def test_what_is_no_film_is_refused_and_leaves_no_place_taken(
    serve: Callable[..., TestClient], data: bytes, status: int, code: str
) -> None:
    client = serve(max_film_bytes=500_000, max_audio_s=2.0, max_dubs_waiting=1)
    for _ in range(2):
        refused = send(client, data)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert send(client).status_code == 202


def test_a_film_may_be_larger_than_a_recording(serve: Callable[..., TestClient]) -> None:
    client = serve(max_upload_bytes=10_000)
    assert send(client, film(40.0)).status_code == 202
    refused = client.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", film(40.0))},
        data={"model": "whisper-1"},
    )
    assert refused.status_code == 413


def test_other_languages_and_fields_are_refused(serve: Callable[..., TestClient]) -> None:
    client = serve()
    assert send(client, data=film()).status_code == 202
    files = {"file": ("a.wav", film())}
    assert client.post(PATH, files=files, data={"to": "xx"}).status_code == 400
    assert client.post(PATH, files=files, data={"speed": "2"}).status_code == 400


def test_a_job_is_only_its_owners(serve: Callable[..., TestClient], dubbing: Dubbing) -> None:
    dubbing.free = True
    client = serve(host="0.0.0.0")
    keys = client.app.state.server.keys  # type: ignore[attr-defined]
    ann, bob = ({"Authorization": f"Bearer {keys.create(name)[1]}"} for name in ("ann", "bob"))
    assert send(client).status_code == 401
    dub = send(client, headers=ann).json()["id"]
    assert client.get(f"{PATH}/{dub}", headers=ann).status_code == 200
    for path in (dub, f"{dub}/events", f"{dub}/video"):
        assert client.get(f"{PATH}/{path}", headers=bob).status_code == 404
    assert client.delete(f"{PATH}/{dub}", headers=bob).status_code == 404


def test_the_sound_of_a_film_counts(serve: Callable[..., TestClient], dubbing: Dubbing) -> None:
    client = serve(host="0.0.0.0", key_audio_minutes_per_hour=0.01)
    _, secret = client.app.state.server.keys.create("ann")  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {secret}"}
    assert send(client, film(2.0), headers=headers).status_code == 202
    assert send(client, film(2.0), headers=headers).status_code == 429
