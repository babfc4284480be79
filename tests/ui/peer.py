"""A server that does what a test says: refuses, closes, waits, and tells what it was sent."""

import base64
import json
import math
import queue
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

RATE = 24_000
DETECTION = {"type": "server_vad", "create_response": True, "interrupt_response": True}
SESSION = {
    "type": "realtime",
    "id": "sess_1",
    "audio": {"input": {"turn_detection": DETECTION}, "output": {"voice": "test"}},
}


def tone(seconds: float, hertz: float = 440.0) -> bytes:
    """PCM16 at 24 kHz."""
    count = int(RATE * seconds)
    values = (int(8_000 * math.sin(2 * math.pi * hertz * k / RATE)) for k in range(count))
    return struct.pack(f"<{count}h", *values)


class Session:
    """One connection: events that came in order, and what a test sends."""

    def __init__(self, connection: ServerConnection, subprotocols: str) -> None:
        self.connection, self.subprotocols = connection, subprotocols
        self.query = connection.request.path.partition("?")[2] if connection.request else ""
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        #: All but the microphone's sound.
        self.got: list[dict[str, Any]] = []
        self.sound = b""
        self.refuse: dict[str, str] = {}

    def send(self, kind: str, **fields: Any) -> None:
        with suppress(ConnectionClosed):
            self.connection.send(json.dumps({"type": kind, **fields}))

    def close(self, code: int, reason: str = "") -> None:
        self.connection.close(code, reason)

    def vanish(self) -> None:
        """As if the network were cut: no close frame."""
        self.connection.socket.close()

    def until(self, kind: str) -> dict[str, Any]:
        """The next event of this kind; others before it are dropped."""
        while (event := self._events.get(timeout=60))["type"] != kind:
            pass
        return event

    def take(self, event: dict[str, Any]) -> None:
        if event["type"] == "input_audio_buffer.append":
            self.sound += base64.b64decode(event["audio"])
            return
        self.got.append(event)
        self._answer(event)
        self._events.put(event)

    def _answer(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if message := self.refuse.get(kind):
            error = {"message": message, "code": "bad", "event_id": event.get("event_id")}
            self.send("error", error=error)
        elif kind == "session.update":
            given = event["session"].get("audio", {}).get("input", {})
            heard = {"turn_detection": given.get("turn_detection", DETECTION)}
            self.send("session.updated", session=SESSION | {"audio": {"input": heard}})
        elif kind == "conversation.item.create":
            item = {"status": "completed", **event["item"]}
            self.send("conversation.item.added", item=item, previous_item_id=None)
            self.send("conversation.item.done", item=item, previous_item_id=None)

    # What a server of ours does, in short

    def begin(self, item: str = "item_a", response: str = "resp_1", text: str = "") -> None:
        """An answer begins."""
        self.send("response.created", response=self.response(response, "in_progress"))
        message = {"id": item, "type": "message", "role": "assistant", "content": []}
        message["status"] = "in_progress"
        self.send("response.output_item.added", response_id=response, item=message)
        self.send("conversation.item.added", item=message, previous_item_id=None)
        self.write(text, item, response)

    def write(self, text: str, item: str = "item_a", response: str = "resp_1") -> None:
        if text:
            self._part("response.output_audio_transcript.delta", item, response, delta=text)

    def say(self, pcm: bytes, item: str = "item_a", response: str = "resp_1") -> None:
        for at in range(0, len(pcm), 9_600):
            delta = base64.b64encode(pcm[at : at + 9_600]).decode()
            self._part("response.output_audio.delta", item, response, delta=delta)

    def end(
        self, text: str, item: str = "item_a", response: str = "resp_1", status: str = "completed"
    ) -> None:
        """The answer is complete, or was broken off."""
        self._part("response.output_audio.done", item, response)
        self._part("response.output_audio_transcript.done", item, response, transcript=text)
        whole: dict[str, Any] = {
            "id": item,
            "type": "message",
            "role": "assistant",
            "status": status,
        }
        whole["content"] = [{"type": "output_audio", "transcript": text}]
        self.send("response.output_item.done", response_id=response, item=whole)
        self.send("conversation.item.done", item=whole, previous_item_id=None)
        self.send("response.done", response=self.response(response, status, [whole]))

    def response(self, name: str, status: str, output: list[Any] | None = None) -> dict[str, Any]:
        return {"id": name, "status": status, "output": output or [], "conversation_id": "conv_1"}

    def _part(self, kind: str, item: str, response: str, **fields: Any) -> None:
        place = {"item_id": item, "response_id": response, "output_index": 0, "content_index": 0}
        self.send(kind, **place, **fields)


class Peer:
    """The server; ``sessions`` takes each session once it has begun."""

    def __init__(self) -> None:
        self.sessions: queue.Queue[Session] = queue.Queue()
        self.port = 0
        #: The status of handshakes, or None to accept them; and of the models' list.
        self.refusal: HTTPStatus | None = None
        self.models_status = HTTPStatus.OK
        self.ready_status = HTTPStatus.OK
        #: Called with each session before anything is sent; may close it.
        self.on_open: Callable[[Session], None] | None = None
        self.opened = 0

    @property
    def url(self) -> str:
        return f"ws://localhost:{self.port}/v1/realtime"

    def session(self) -> Session:
        return self.sessions.get(timeout=60)

    def talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        offered = connection.request.headers.get("Sec-WebSocket-Protocol", "")
        session = Session(connection, offered)
        self.opened += 1
        with suppress(ConnectionClosed, OSError):
            if self.on_open is not None:
                self.on_open(session)
            session.send("session.created", session=SESSION)
            self.sessions.put(session)
            for frame in connection:
                session.take(json.loads(frame))

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """HTTP, or a handshake that is refused."""
        path = request.path.partition("?")[0]
        if path == "/readyz":
            return _json(self.ready_status, "The server is shutting down; try again in 5 s.")
        if path == "/v1/models":
            return _json(self.models_status, "The key is unknown or revoked; ask for a new one.")
        return None if self.refusal is None else _json(self.refusal, "refused")


def _json(status: HTTPStatus, message: str) -> Response:
    body = json.dumps({"error": {"message": message}} if status >= 400 else {}).encode()
    headers = Headers()
    headers["Content-Type"] = "application/json"
    headers["Content-Length"] = str(len(body))
    headers["Access-Control-Allow-Origin"] = "*"
    return Response(status.value, status.phrase, headers, body)


@contextmanager
def peering() -> Iterator[Peer]:
    """A peer on a free port."""
    peer = Peer()
    with serve(
        peer.talk,
        "127.0.0.1",
        0,
        process_request=peer.answer,
        subprotocols=["realtime"],  # type: ignore[list-item]
        max_size=2**24,
        ping_interval=None,
        close_timeout=1,
    ) as server:
        peer.port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, name="peer")
        thread.start()
        try:
            yield peer
        finally:
            server.shutdown()
            thread.join()
