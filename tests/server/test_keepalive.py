"""Half-open connections are found; slow uploads, big messages and killed clients do no harm."""

import base64
import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import websockets.sync.client as client
from websockets.exceptions import ConnectionClosed

from assistant.server.realtime.keepalive import PatientWebSocket
from tests.live import Live

QUICK = {"ping_interval_s": 0.2, "ping_timeout_s": 0.2}


class Raw:
    """A client on a bare socket, which answers nothing by itself."""

    def __init__(self, live: Live) -> None:
        self.socket = socket.create_connection(("127.0.0.1", live.port))
        key = base64.b64encode(bytes(16)).decode()
        self.socket.sendall(
            f"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "\r\n".encode()
        )
        assert self.socket.recv(12) == b"HTTP/1.1 101"

    def send_frame(self, payload: bytes, opcode: int = 1, length: int | None = None) -> None:
        size = len(payload) if length is None else length
        head = bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2, "big")
        self.socket.sendall(head + bytes(4) + payload)  # a mask of zeros

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        parts = []
        while part := self.socket.recv(65536):
            parts.append(part)
        return b"".join(parts)


def sessions_end(live: Live) -> None:
    while live.state.admission.sessions:
        time.sleep(0.01)


def test_a_client_that_answers_no_ping_is_found(fake_server: Callable[..., Live]) -> None:
    live = fake_server(**QUICK)
    with Raw(live) as raw:
        began = time.monotonic()
        assert b"keepalive ping timeout" in raw.rest()
        assert time.monotonic() - began >= 0.35
        sessions_end(live)


def test_a_client_that_sends_is_alive(fake_server: Callable[..., Live]) -> None:
    live = fake_server(**QUICK)
    with Raw(live) as raw:
        for _ in range(15):
            raw.send_frame(b'{"type":"input_audio_buffer.clear"}')
            time.sleep(0.1)
        assert live.state.admission.sessions == 1
        assert b"keepalive ping timeout" in raw.rest()
        sessions_end(live)


def test_a_client_that_nobody_reads_from_is_not_blamed() -> None:
    made = PatientWebSocket.__new__(PatientWebSocket)
    pings = []
    made.read_paused, made.close_sent, made.pong_timer = True, False, None
    made.ping_sent_at = 5.0
    made.send_keepalive_ping = lambda: pings.append(1)  # type: ignore[method-assign]
    transport: Any = type("Transport", (), {"is_closing": lambda self: False})()
    made.transport = transport
    made.keepalive_timeout()
    assert pings == [1]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda raw: raw.socket.close(), id="closed"),
        pytest.param(lambda raw: raw.send_frame(b"\x03\xe8", opcode=8), id="close frame"),
        pytest.param(lambda raw: raw.send_frame(b"half", length=60_000), id="half a message"),
        pytest.param(lambda raw: raw.send_frame(b"\xff\xfe"), id="no utf-8"),
        pytest.param(lambda raw: raw.socket.sendall(b"\x00" * 99), id="no frame"),
    ],
)
def test_however_a_client_ends_the_session_does_too(
    fake_server: Callable[..., Live], end: Callable[[Raw], None]
) -> None:
    live = fake_server(**QUICK)
    with Raw(live) as raw:
        raw.send_frame(b'{"type":"response.create"}')
        end(raw)
        raw.socket.close()
        sessions_end(live)
        with client.connect(f"{live.ws_url}/v1/realtime") as other:
            assert "session.created" in str(other.recv())


def test_a_message_that_is_too_large_is_refused(fake_server: Callable[..., Live]) -> None:
    live = fake_server(max_message_bytes=10_000)
    with client.connect(f"{live.ws_url}/v1/realtime") as socket_:
        socket_.send("x" * 10_001)
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                socket_.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
    sessions_end(live)


def test_a_reader_that_stands_still_is_closed(fake_server: Callable[..., Live]) -> None:
    live = fake_server(slow_reader_s=0.3, send_buffer_bytes=100_000)
    with Raw(live) as raw:
        text = {"type": "input_text", "text": "x" * 50_000}
        item = {"id": "a", "type": "message", "role": "user", "content": [text]}
        raw.send_frame(json.dumps({"type": "conversation.item.create", "item": item}).encode())
        raw.socket.settimeout(10)
        with contextlib.suppress(OSError):  # nobody reads from us at the end
            for _ in range(1000):  # answers of 50 MB: more than the system buffers
                raw.send_frame(b'{"type":"conversation.item.retrieve","item_id":"a"}')
        sessions_end(live)
        assert (
            'voxsight_errors_total{kind="slow_reader"} 1.0'
            in httpx.get(f"{live.base_url}/metrics").text
        )
        raw.socket.close()
