"""The same conversation without a browser, for what the browser adds to be told."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from audio.pcm import Samples, to_pcm16
from audio.resample import resample
from tests.live import Live
from tests.ui.voices import RATE

WIRE_RATE = 24_000
PIECE = 768  # as the page's microphone sends it
_LONGEST_WAIT_S = 30.0


def waits_without_a_browser(
    live: Live, recordings: Sequence[Samples], session: Mapping[str, Any]
) -> list[int]:
    """ms from the end of each recording, sent as it is spoken, to the answer's first sound."""
    with connect(f"{live.ws_url}/v1/realtime", max_size=None) as socket:
        send(socket, {"type": "session.update", "session": {"type": "realtime", **session}})
        return [_wait_ms(socket, recording) for recording in recordings]


def _wait_ms(socket: ClientConnection, recording: Samples) -> int:
    """Ask, and hear the answer to its end; ``recording`` is (n,) at ``RATE``."""
    quiet = np.zeros(int(_LONGEST_WAIT_S * WIRE_RATE), np.float32)
    sound = np.concatenate([quiet[:WIRE_RATE], resample(recording, RATE, WIRE_RATE), quiet])
    ends = WIRE_RATE / WIRE_RATE + len(recording) / RATE
    began, first, done = time.monotonic(), 0.0, False
    for at in range(0, len(sound), PIECE):
        due = began + (at + PIECE) / WIRE_RATE
        while (left := due - time.monotonic()) > 0 and not done:
            first, done = _listen(socket, left, first)
        if done:
            return round((first - began - ends) * 1000)
        data = to_pcm16(sound[at : at + PIECE]).astype("<i2").tobytes()
        audio = base64.b64encode(data).decode()
        send(socket, {"type": "input_audio_buffer.append", "audio": audio})
    raise AssertionError("No answer came.")


def _listen(socket: ClientConnection, seconds: float, first: float) -> tuple[float, bool]:
    """When the first sound came, 0 for not yet; and whether the answer is done."""
    try:
        event = json.loads(socket.recv(timeout=seconds))
    except TimeoutError:
        return first, False
    if event["type"] == "response.output_audio.delta" and not first:
        first = time.monotonic()
    return first, event["type"] == "response.done"


def send(socket: ClientConnection, event: dict[str, Any]) -> None:
    socket.send(json.dumps(event))
