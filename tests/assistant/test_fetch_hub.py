"""The hub source against a small local server that speaks the hub's download protocol."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub.constants
import pytest

from assistant.catalogue import HubSource
from assistant.fetch import SourceError, drop_downloads, fetch

CONTENT = b"weights " * 40_000
COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers HEAD and GET of one file, with ranges, as the hub does."""

    requests: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.requests.append(f"{self.command} {self.path}")
        if self.path != f"/owner/model/resolve/{COMMIT}/model.bin":
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    Hub.requests.clear()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def source(path: str = "model.bin") -> HubSource:
    return HubSource(kind="hub", repository="owner/model", revision=COMMIT, path=path)


@pytest.mark.usefixtures("hub")
def test_file_comes_whole_and_only_once(tmp_path: Path) -> None:
    counts: list[int] = []
    assert b"".join(fetch(source(), tmp_path, counts.append)) == CONTENT
    assert sum(counts) == len(CONTENT)
    gets = [request for request in Hub.requests if request.startswith("GET")]
    assert b"".join(fetch(source(), tmp_path, counts.append)) == CONTENT
    assert [request for request in Hub.requests if request.startswith("GET")] == gets
    drop_downloads(source(), tmp_path)
    assert not list(tmp_path.rglob("model.bin"))


@pytest.mark.usefixtures("hub")
def test_missing_file_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="hub did not give owner/model") as error:
        list(fetch(source("other.bin"), tmp_path, lambda count: None))
    assert "\n" not in str(error.value)


def test_no_hub_at_all_is_a_source_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    template = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(SourceError, match="hub did not give"):
        list(fetch(source(), tmp_path, lambda count: None))
