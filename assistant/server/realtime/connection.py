"""One client's WebSocket: frames to events and back, and how a session ends."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from assistant.server.door import Caller
from assistant.server.errors import as_api_error, short_reason
from assistant.server.media import MediaRules
from assistant.server.realtime.dialogue import Dialogue, DialogueLimits
from assistant.server.realtime.events_in import ClientEvent, parse
from assistant.server.realtime.events_out import (
    ErrorEvent,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    to_json,
)
from assistant.server.realtime.extensions import Extension
from assistant.server.realtime.outbox import ClientGoneError, Outbox, SlowReaderError
from assistant.server.realtime.payloads import ErrorDetails
from assistant.server.realtime.settings import Offer, SessionSettings
from assistant.server.realtime.wire import WireError
from assistant.server.state import ServerState
from assistant.server.tidying import tidy

_log = logging.getLogger(__name__)

#: Frames in a row that are no events; a client that sends so many does not speak this protocol.
MAX_BAD_FRAMES = 20
_TICK_S = 0.25
#: A session without a response and without news for so long has nothing to lose by being closed.
_QUIET_S = 2.0
#: For the last events to be taken by a client that reads.
_FLUSH_S = 5.0
_CLOSE_S = 1.0


@dataclass(frozen=True)
class Ending:
    """Why a session ends: a close code (RFC 6455) and what the client is told with it."""

    code: int
    reason: str = ""
    error: ErrorDetails | None = None


LEFT = Ending(1000)
TOO_SLOW = Ending(1013, "The client reads too slowly; connect again and read what comes.")
RESTARTING = Ending(1012, "The server is shutting down; connect again in a moment.")
NO_EVENTS = Ending(1008, f"{MAX_BAD_FRAMES} frames in a row were no events of this protocol.")


def _too_long(limit_s: float) -> Ending:
    message = f"The session reached its longest duration of {limit_s:g} s; open a new one."
    return Ending(1000, message, ErrorDetails(code="session_expired", message=message))


class Connection:
    """A WebSocket that was let in, from the handshake to the close frame.

    ``serve`` runs three tasks: the dialogue, the sender, and a watch over time and shutdown. The
    first to end ends the session, and none outlives it.
    """

    def __init__(
        self,
        websocket: WebSocket,
        state: ServerState,
        caller: Caller,
        settings: SessionSettings,
        offer: Offer,
        extensions: Collection[Extension] = (),
    ) -> None:
        self._websocket, self._state, self._caller = websocket, state, caller
        self._config, self._metrics = state.config, state.metrics
        self._settings, self._offer, self._extensions = settings, offer, extensions
        self._outbox = Outbox(
            self._config.send_buffer_bytes,
            self._config.slow_reader_s,
            lambda size: self._metrics.queue("send", size),
        )
        self._ending: Ending | None = None
        self._responses: set[str] = set()
        self._now = asyncio.get_running_loop().time
        self._began = self._spoke = self._now()
        self._events_in = self._events_out = 0

    async def serve(self) -> None:
        """Accept, talk and close. ApiError, and nothing accepted, if there is no room."""
        with self._caller.session(), self._metrics.session(self._settings.type):
            await self._websocket.accept(subprotocol=self._caller.subprotocol)
            self._tell("realtime session began", type=self._settings.type)
            try:
                await self._talk()
            finally:
                ending = self._ending or LEFT
                self._tell(
                    "realtime session ended",
                    code=ending.code,
                    seconds=round(self._now() - self._began, 1),
                    events_in=self._events_in,
                    events_out=self._events_out,
                )
            await self._close(ending)
        tidy()

    def _tell(self, event: str, **extra: Any) -> None:
        _log.info(event, extra={"session": self._settings.id, **extra})

    async def _talk(self) -> None:
        sending = asyncio.create_task(self._outbox.deliver(self._websocket.send_text))
        tasks = [asyncio.create_task(self._converse()), asyncio.create_task(self._watch())]
        try:
            await asyncio.wait([sending, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _ended(tasks)
            await self._flush(sending)
            await _ended([sending])
        if isinstance(self._outbox.fault, SlowReaderError):
            self._ending = TOO_SLOW
            self._metrics.error("slow_reader")

    async def _flush(self, sending: "asyncio.Task[None]") -> None:
        """Let the last events out, an error that ended the session behind them."""
        with suppress(ClientGoneError):
            if self._ending is not None and self._ending.error is not None:
                self._send(ErrorEvent(error=self._ending.error))
        self._outbox.close()
        if self._outbox.fault is None:
            await asyncio.wait([sending], timeout=_FLUSH_S)

    async def _converse(self) -> None:
        dialogue = Dialogue(
            self._state.engine,
            self._settings,
            self._send,
            offer=self._offer,
            limits=self._limits(),
            caller=self._caller,
            metrics=self._metrics,
            name=self._settings.id,
            extensions=self._extensions,
        )
        try:
            async with aclosing(self._events()) as events:  # also when the dialogue breaks off
                await dialogue.run(events)
        except* ClientGoneError:
            pass
        except* Exception as faults:  # noqa: BLE001 - the border: a fault ends one session only
            self._ending = self._fault(faults)

    def _limits(self) -> DialogueLimits:
        return DialogueLimits(
            max_item_chars=self._config.max_text_chars,
            context_tokens=self._config.max_conversation_tokens,
            images=MediaRules.of(self._config, self._state.engine.models.settings).images,
        )

    def _fault(self, faults: "BaseExceptionGroup[Exception]") -> Ending:
        self._metrics.error("session")
        fault: BaseException = faults
        while isinstance(fault, BaseExceptionGroup):
            fault = fault.exceptions[0]
        assert isinstance(fault, Exception)
        told = as_api_error(fault)
        kind = "server_error" if told.status >= 500 else told.type
        error = ErrorDetails(type=kind, code=told.code, message=told.message, param=told.param)
        return Ending(1011, told.message, error)

    async def _events(self) -> AsyncGenerator[ClientEvent, None]:
        """The client's events until it leaves; what is none is answered here."""
        bad = 0
        while (frame := await self._receive()) is not None:
            self._events_in += 1
            try:
                event = _parsed(frame)
            except WireError as error:
                self._metrics.error("bad_event")
                self._send(ErrorEvent.of(error))
                bad += 1
                if bad >= MAX_BAD_FRAMES:
                    self._ending = NO_EVENTS
                    return
            else:
                bad = 0
                yield event

    async def _receive(self) -> str | bytes | None:
        # A client that does not read what it asked for may not ask for more.
        await self._outbox.room()
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        text: str | None = message.get("text")
        frame: str | bytes = message.get("bytes") or b"" if text is None else text
        return frame

    def _send(self, event: ServerEvent) -> None:
        match event:
            case ResponseCreated(response=response):
                self._responses.add(response.id)
            case ResponseDone(response=response):
                self._responses.discard(response.id)
        self._outbox.put(to_json(event))
        self._events_out += 1
        self._spoke = self._now()

    async def _watch(self) -> None:
        """End the session when its time is over, or when the server stops and nothing is lost."""
        limit_s = self._config.max_session_s
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._now()
            if now - self._began >= limit_s:
                self._ending = _too_long(limit_s)
                return
            quiet = not self._responses and now - self._spoke >= _QUIET_S
            if quiet and self._state.admission.draining:
                self._ending = RESTARTING
                return

    async def _close(self, ending: Ending) -> None:
        if self._websocket.client_state is not WebSocketState.CONNECTED:
            return
        # A connection that takes nothing takes no close frame either: it is left behind, and the
        # system drops it.
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_CLOSE_S):
                await self._websocket.close(ending.code, short_reason(ending.reason))


def _parsed(frame: str | bytes) -> ClientEvent:
    if isinstance(frame, bytes):
        raise WireError(
            "Expected events as text frames of JSON, got a binary frame; send sound as base64 in "
            "'input_audio_buffer.append'.",
            "binary_frame",
        )
    return parse(frame)


async def _ended(tasks: "list[asyncio.Task[None]]") -> None:
    """Cancel the tasks that run, and wait until all are over."""
    for task in tasks:
        task.cancel()
    # Not ``gather``: cancelled meanwhile, it would raise a task's cancellation in place of its own,
    # which nobody who cancelled us would know again.
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("a realtime task failed", exc_info=fault)
