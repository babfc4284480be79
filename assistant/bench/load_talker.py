"""A simulated person at the realtime API: speaks a recording, hears the reply out, goes on."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from assistant.errors import VoxsightError
from audio.pcm import SAMPLE_RATE, Samples, to_pcm16
from audio.resample import resample

_RATE = 24_000
_CHUNK_S = 0.04
_CHUNK = round(_RATE * _CHUNK_S)
#: Much quieter than the loudest moment is no speech any more.
_QUIET = 0.02
#: Somebody who has heard nothing for so long gives up.
_PATIENCE_S = 30.0
#: Between the end of a reply and the next question.
_THINK_S = 0.5
_TRY_LATER = 1013


class RefusedError(VoxsightError):
    """The server is full and said so."""


@dataclass(frozen=True)
class Utterance:
    """A recording as it is sent: PCM16 at 24 kHz; speech is from ``begin`` to ``end``, samples."""

    pcm: bytes
    begin: int
    end: int

    @classmethod
    def of(cls, samples: Samples) -> "Utterance":
        """From sound at 16 kHz; leading and trailing silence is found by level."""
        heard = resample(samples, SAMPLE_RATE, _RATE)
        frame = _RATE // 100
        count = len(heard) // frame
        levels = np.abs(heard[: count * frame].reshape(count, frame)).max(axis=1)
        loud = np.flatnonzero(levels > _QUIET * levels.max()) if count else np.empty(0, int)
        if not len(loud):
            raise VoxsightError("Expected a recording of speech, but it is silent; take another.")
        return cls(to_pcm16(heard).tobytes(), int(loud[0]) * frame, (int(loud[-1]) + 1) * frame)


@dataclass
class Turn:
    """What one turn took, in s: from the begin of speech to the first words, from its end to the
    first sound; infinite if it never came."""

    first_partial_s: float = float("inf")
    first_sound_s: float = float("inf")


class Microphone:
    """Sends sound at the speed of sound: an utterance when there is one, else silence."""

    def __init__(self, client: ClientConnection, now: Callable[[], float]) -> None:
        self._client, self._now = client, now
        self._utterance: Utterance | None = None
        self._sent = 0
        self.began_at = self.ended_at = float("inf")

    def say(self, utterance: Utterance) -> None:
        """Begin to speak."""
        self._utterance, self._sent = utterance, 0
        self.began_at = self.ended_at = float("inf")

    async def run(self) -> None:
        """Send until cancelled."""
        due = self._now()
        while True:
            sound = base64.b64encode(self._chunk()).decode()
            await self._client.send(
                json.dumps({"type": "input_audio_buffer.append", "audio": sound})
            )
            due += _CHUNK_S
            await asyncio.sleep(max(0.0, due - self._now()))

    def _chunk(self) -> bytes:
        said = self._utterance
        if said is None:
            return bytes(2 * _CHUNK)
        begin, self._sent = self._sent, self._sent + _CHUNK
        if begin <= said.begin < self._sent:
            self.began_at = self._now() - (begin - said.begin) / _RATE
        if begin < said.end <= self._sent:
            self.ended_at = self._now() + (said.end - begin) / _RATE - _CHUNK_S
        if 2 * self._sent >= len(said.pcm):
            self._utterance = None
        return said.pcm[2 * begin : 2 * self._sent].ljust(2 * _CHUNK, b"\0")


class Talker:
    """A person who talks with the server.

    Args:
        url: of the realtime API, ws://...
        utterances: what the person says, over and over.
        now: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        url: str,
        utterances: Sequence[Utterance],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._utterances, self._now = url, cycle(utterances), now

    async def converse(self, turns: int, *, hang_up_after_s: float | None = None) -> list[Turn]:
        """Talk for so many turns.

        Args:
            turns: how many.
            hang_up_after_s: cut the connection then, in the middle of whatever happens.

        Raises RefusedError if the server is full.
        """
        async with connect(self._url, max_size=None, compression=None) as client:
            await self._expect_session(client)
            microphone = Microphone(client, self._now)
            sending = asyncio.create_task(microphone.run())
            told: list[Turn] = []
            try:
                async with asyncio.timeout(hang_up_after_s):
                    for _ in range(turns):
                        told.append(await self._turn(client, microphone))
            except TimeoutError:
                client.transport.abort()
            except ConnectionClosed:
                told.append(Turn())
            finally:
                sending.cancel()
                with suppress(asyncio.CancelledError, ConnectionClosed):
                    await sending
            return told

    async def _expect_session(self, client: ClientConnection) -> None:
        try:
            first = json.loads(await client.recv())
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code == _TRY_LATER:
                raise RefusedError(closed.rcvd.reason) from None
            raise
        session = {"type": "realtime", "audio": {"input": {"transcription": {}}}}
        assert first["type"] == "session.created"
        await client.send(json.dumps({"type": "session.update", "session": session}))

    async def _turn(self, client: ClientConnection, microphone: Microphone) -> Turn:
        microphone.say(next(self._utterances))
        turn, heard_s, first_sound_at = Turn(), 0.0, float("inf")
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    event = json.loads(await client.recv())
                    now = self._now()
                    match event["type"]:
                        case "conversation.item.input_audio_transcription.delta":
                            took = now - microphone.began_at
                            turn.first_partial_s = min(turn.first_partial_s, took)
                        case "response.output_audio.delta" if now >= microphone.ended_at:
                            first_sound_at = min(first_sound_at, now)
                            heard_s += len(event["delta"]) * 0.75 / 2 / _RATE
                        case "response.done" if heard_s:
                            break
        if heard_s:
            turn.first_sound_s = first_sound_at - microphone.ended_at
            rest_s = first_sound_at + heard_s + _THINK_S - self._now()
            await self._listen(client, rest_s)
        return turn

    async def _listen(self, client: ClientConnection, seconds: float) -> None:
        """Hear the rest of the reply, reading whatever else comes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                while True:
                    await client.recv()
