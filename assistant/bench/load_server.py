"""A server in a process of its own, and what it tells of itself."""

import http.client
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assistant.errors import VoxsightError

Settings = Mapping[str, int | float | str]
#: Gives the command line that serves with some settings, which it may write into a folder.
Command = Callable[[Settings, Path], Sequence[str]]
_LONGEST_END_S = 40.0


def serve_command(settings: Settings, folder: Path) -> Sequence[str]:
    """The product's own command."""
    file = folder / "server.toml"
    lines = (f"{name} = {json.dumps(value)}" for name, value in settings.items())
    file.write_text("\n".join(lines), encoding="utf-8")
    return (sys.executable, "-m", "assistant.cli", "serve", "--json", "--config", str(file))


@dataclass(frozen=True)
class Health:
    """How a server is at one moment."""

    resident_bytes: float
    files: int
    tasks: int
    sessions: int


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs; ``url`` is http://..."""

    url: str

    @property
    def realtime_url(self) -> str:
        """Where to talk."""
        return self.url.replace("http://", "ws://") + "/v1/realtime"

    def health(self) -> Health:
        """What it tells of itself."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as response:
            figures = _figures(response.read().decode())
        return Health(
            figures["process_resident_memory_bytes"],
            int(figures["process_open_fds"]),
            int(figures["voxsight_async_tasks"]),
            int(figures["voxsight_running_sessions"]),
        )

    def speech_first_byte_s(self, text: str) -> float:
        """Seconds from a request for speech to the first byte of its sound."""
        wanted = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": "pcm"}
        body = json.dumps(wanted).encode()
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        began = time.perf_counter()
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/audio/speech", body, headers)
            response = connection.getresponse()
            if response.status != 200:
                told = response.read(500).decode(errors="replace")
                raise VoxsightError(f"Expected speech, got status {response.status}: {told}")
            response.read(1)
            return time.perf_counter() - began
        finally:
            connection.close()


def _figures(page: str) -> dict[str, float]:
    """The values of a page of Prometheus that have no labels."""
    pairs = (line.split(" ") for line in page.splitlines() if not line.startswith("#"))
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2 and "{" not in pair[0]}


@contextmanager
def serving(settings: Settings, command: Command = serve_command) -> Iterator[ServerProcess]:
    """Start a server with some settings, wait until it is ready, and end it in the end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        local: dict[str, int | float | str] = {"port": 0, "keys_file": str(folder / "keys.json")}
        process = subprocess.Popen(
            command({**settings, **local}, folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield ServerProcess(_url(process))
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_LONGEST_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _url(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        told: dict[str, Any] = json.loads(line)
        if "url" in told:
            return str(told["url"])
    raise VoxsightError("The server ended before it was ready; run 'voxsight serve' to see why.")
