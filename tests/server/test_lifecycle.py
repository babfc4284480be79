"""A server's life, in real processes: it is ready, it drains, it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from assistant.cli.app import run
from assistant.cli.ui import app_with_page
from assistant.errors import ConfigError
from assistant.server import lifecycle
from assistant.server.app import create_app
from assistant.server.config import ServerConfig
from assistant.server.lifecycle import address_of, open_socket
from assistant.server.lifecycle import run as run_server
from assistant.server.state import ServerState
from tests.live import running
from tests.server.fakes import FakeEngine

REPOSITORY = Path(__file__).parents[2]


class Process:
    """A server of fake models in a process of its own."""

    def __init__(self, folder: Path, load_s: float, stderr: Any, chosen: dict[str, Any]) -> None:
        config = {"port": 0, "keys_file": str(folder / "keys.json")} | chosen
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.serve_fake", json.dumps(config), str(load_s)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
        )

    def says(self, key: str) -> Any:
        """The value of the next line on standard output."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())[key]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        return self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    processes = []

    def make(load_s: float = 0.0, stderr: Any = subprocess.DEVNULL, **chosen: Any) -> Process:
        processes.append(Process(tmp_path, load_s, stderr, chosen))
        return processes[-1]

    yield make
    for process in processes:
        process.close()


def wait_for_status(client: httpx.Client, path: str, status: int) -> httpx.Response:
    while (response := client.get(path)).status_code != status:
        time.sleep(0.01)
    return response


def test_what_runs_comes_to_its_end_and_nothing_new_begins(start: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stderr:
        server = start(stderr=stderr)
        assert server.says("loading")
        url = server.says("url")
        with httpx.Client(base_url=url) as client:
            assert client.get("/readyz").json() == {"status": "ready"}
            with client.stream("POST", "/test/count/12?secret=1234") as running:
                pieces = running.iter_text()
                first = next(pieces)
                server.signal()
                refused = wait_for_status(client, "/readyz", 503)
                assert refused.json()["error"]["code"] == "shutting_down"
                assert client.get("/healthz").status_code == 200
                assert client.post("/test/count/1").status_code == 503
                with connect(url.replace("http", "ws") + "/test/echo") as late:
                    with pytest.raises(ConnectionClosed) as closed:
                        late.recv()
                    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
                whole = first + "".join(pieces)
        assert whole.split() == [str(number) for number in range(12)]
        assert server.end() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    events = [line["event"] for line in lines if line["logger"].endswith("lifecycle")]
    assert events == ["listening", "ready", "shutting down", "ended"]
    assert "1234" not in log.read_text()
    assert not [line for line in lines if line["level"] == "error"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_what_does_not_end_is_cut_off_even_if_nothing_can_be_logged(start: Any) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        server = start(stderr=full, drain_s=0.3)
        server.says("loading")
        url = server.says("url")
        with (
            httpx.Client(base_url=url) as client,
            connect(url.replace("http", "ws") + "/test/echo") as websocket,
            client.stream("POST", "/test/count/10000") as endless,
        ):
            websocket.send("hello")
            assert websocket.recv() == "hello"
            server.signal()
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                endless.read()
        assert server.end() == 0


def test_a_model_call_that_never_returns_is_left_behind(start: Any) -> None:
    server = start(drain_s=0)
    server.says("loading")
    with httpx.Client(base_url=server.says("url")) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/test/stuck", timeout=0.2)
        server.signal(signal.SIGINT)
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < 30


def test_while_the_models_load_it_lives_but_is_not_ready(start: Any) -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start(load_s=1000.0, port=port)
    server.says("loading")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=_patient()) as client:
        assert client.get("/healthz").status_code == 200
        refused = client.get("/readyz")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "loading"
        with connect(f"ws://127.0.0.1:{port}/v1/realtime") as websocket:
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
    server.signal()
    assert server.end() == 0


def _patient() -> httpx.HTTPTransport:
    """The server begins to listen and to load at the same time."""
    return httpx.HTTPTransport(retries=10)


def test_an_address_that_is_taken_is_told() -> None:
    config = ServerConfig(port=0)
    with closing(open_socket(config)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="choose another with --host or --port"):
            open_socket(ServerConfig(port=port))
    with pytest.raises(ConfigError, match="Cannot listen on no.such.name.invalid"):
        open_socket(ServerConfig(host="no.such.name.invalid"))


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_that_is_shown(host: str, url: str) -> None:
    config = ServerConfig(host=host, port=0)
    with closing(open_socket(config)) as listener:
        port = listener.getsockname()[1]
        assert address_of(config, listener) == f"http://{url}:{port}"


def test_the_command_refuses_an_open_address_without_a_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'keys_file = "{tmp_path / "keys.json"}"\n')
    assert run(["serve", "--host", "0.0.0.0", "--config", str(file)]) == 2
    assert "voxsight keys create NAME" in capsys.readouterr().err.replace("\n", " ")


def test_a_whole_life_in_this_process(make_config: Any) -> None:
    seen: list[Any] = []

    def ready(url: str, state: ServerState) -> None:
        seen.append((url.rpartition(":")[0], state.ready))
        os.kill(os.getpid(), signal.SIGTERM)

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run_server(make_config(port=0), FakeEngine.start, ready)
    assert seen == [("http://127.0.0.1", True)]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_models_that_cannot_be_loaded_end_the_server(make_config: Any) -> None:
    def load() -> FakeEngine:
        raise ConfigError("There is no such model.")

    def ready(url: str, state: ServerState) -> None:
        raise AssertionError("it never is")

    threads = threading.active_count()
    with pytest.raises(ConfigError, match="no such model"):
        run_server(make_config(port=0), load, ready)
    assert threading.active_count() == threads


def test_a_second_signal_does_not_wait(make_state: Any) -> None:
    with running(make_state(port=0)) as live, live.state.admission.session():
        server = httpx.get(f"{live.base_url}/healthz")
        assert server.status_code == 200
    # ``running`` stops twice: the session that is still counted was not waited for.


@pytest.mark.parametrize("options", [["--json"], [], ["--ui"]])
def test_the_command_tells_where_it_listens(
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_state: Any,
) -> None:
    chosen: list[ServerConfig] = []

    def life(config: ServerConfig, load: Any, ready: Any, make_app: Any) -> None:
        chosen.append(config)
        state = make_state(max_sessions=3)
        assert make_app is (app_with_page if "--ui" in options else create_app)
        ready("http://127.0.0.1:4321", state)

    monkeypatch.setattr(lifecycle, "run", life)
    assert run(["serve", "--port", "4321", *options]) == 0
    assert chosen[0].port == 4321
    told = capsys.readouterr()
    if options == ["--json"]:
        line = json.loads(told.out)
        assert line == {"url": "http://127.0.0.1:4321", "pid": os.getpid(), "sessions": 3}
    else:
        assert "Listening on http://127.0.0.1:4321" in told.err
        assert ("the page is at http://127.0.0.1:4321/ui/" in told.err) == (options == ["--ui"])


def test_what_a_server_leaves_behind_is_cleared_away_at_its_end(
    make_state: Callable[..., ServerState],
) -> None:
    state, cleared = make_state(port=0), list[str]()
    state.leaving.callback(cleared.append, "all")
    with running(state):
        assert cleared == []
    assert cleared == ["all"]
