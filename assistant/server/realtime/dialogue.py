"""One realtime dialogue: takes a client's events in order and sends the server's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from typing import Any

from assistant.ear import Listener
from assistant.server.door import Caller
from assistant.server.engine import Engine
from assistant.server.metrics import Metrics
from assistant.server.realtime import events_in as incoming
from assistant.server.realtime import events_out as out
from assistant.server.realtime.answering import Answering
from assistant.server.realtime.bounds import DialogueLimits
from assistant.server.realtime.choices import Transcription
from assistant.server.realtime.client_items import ClientItems
from assistant.server.realtime.context import Context
from assistant.server.realtime.conversation import Conversation, Entry
from assistant.server.realtime.events_in import ClientEvent
from assistant.server.realtime.events_out import ServerEvent
from assistant.server.realtime.extensions import Extension, is_for
from assistant.server.realtime.faults import error_event
from assistant.server.realtime.floor import Floor
from assistant.server.realtime.items import ItemReference, MessageItem
from assistant.server.realtime.payloads import Conversation as ConversationResource
from assistant.server.realtime.record import Record
from assistant.server.realtime.responses import Responses, Shop
from assistant.server.realtime.seeing import Seeing
from assistant.server.realtime.settings import Offer, SessionSettings
from assistant.server.realtime.transcripts import Transcripts
from assistant.server.realtime.wire import WireError, new_id
from audio.asr_stream import ListenOptions, StreamingRecogniser
from audio.asr_types import RecogniseOptions
from audio.errors import AudioError

__all__ = ["Dialogue", "DialogueLimits"]


class Dialogue:
    """One conversation of one client; shares the engine's models with others, nothing else.

    Args:
        engine: the models.
        settings: what holds at first.
        send: takes an event at once; if it raises, the client is gone and `run` ends with that.
        offer: what this server has to choose from.
        limits: of what a client may take.
        caller: whose use is counted.
        metrics: figures of the server.
        name: of the session, for logs.
        extensions: those that the client asked for.
    """

    def __init__(
        self,
        engine: Engine,
        settings: SessionSettings,
        send: Callable[[ServerEvent], None],
        *,
        offer: Offer,
        limits: DialogueLimits,
        caller: Caller,
        metrics: Metrics,
        name: str,
        extensions: Collection[Extension] = (),
    ) -> None:
        self._engine, self._settings, self._send = engine, settings, send
        self._offer, self._limits, self._caller = offer, limits, caller
        self._metrics, self._name, self._extensions = metrics, name, extensions
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = self._ending = False
        parts, writer = engine.parts, engine.writer
        self._conversation_id = new_id("conv")
        self._conversation = Conversation(limits)
        self._record = Record(self._conversation, self._emit, self._now)
        self._seeing = Seeing(parts, limits, self._emit, self._start, self._now)
        prompts = engine.models.prompts
        self._responses = Responses(
            Shop(
                writer,
                Answering(writer, parts.thinking, parts.tongue),
                Context(prompts, writer.count, limits.context_tokens),
                self._record,
                prompts.system,
            ),
            self._emit,
            self._start,
            limits=limits,
            caller=caller,
            metrics=metrics,
            conversation_id=self._conversation_id,
        )
        self._floor = Floor(
            *(parts, settings, self._record, self._responses, self._seeing),
            *(self._emit, self._start),
            limits=limits,
            caller=caller,
            metrics=metrics,
        )
        self._items = ClientItems(
            self._seeing, self._start, parts.listening, metrics, limits.max_buffer_s
        )
        # For sound that belongs to no item of the conversation.
        self._silent = Transcripts(parts, settings, lambda _: None, metrics)
        self._listener: Listener = parts.listener
        self._heard_as: tuple[str | None, str | None] = (None, None)
        self._hear_as(settings)
        self._floor.configure(settings, self._listener)

    async def run(self, events: AsyncIterator[ClientEvent]) -> None:
        """Take events until they end; `session.created` is sent first.

        An event that cannot be taken is answered by an `error` event. What fails in a model ends
        one response or one transcript. Raises what `send` raised, if it did; no task is left
        behind. A model call that hangs keeps its thread, which cannot be ended, and with it every
        dialogue that waits for the same model; but this one ends.
        """
        fault: BaseException | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as self._group:
                self._start(self._notice_gone())
                self._open()
                async for event in events:
                    await self._take(event)
                self._ending = True
                self._responses.close()
                for task in self._tasks:
                    task.cancel()
        except* Exception as faults:  # noqa: BLE001 - taken out of its group and raised again
            fault = _first(faults)
        finally:
            self._ending = True
            self._responses.close()
            self._gone.cancel()
        if fault is not None:
            raise fault

    def _open(self) -> None:
        self._emit(out.SessionCreated(session=self._settings))
        if self._settings.type == "realtime":
            resource = ConversationResource(id=self._conversation_id)
            self._emit(out.ConversationCreated(conversation=resource))

    def _emit(self, event: ServerEvent) -> None:
        """The one way out: events go in the order in which they are emitted."""
        if self._gone.done() or not is_for(event, self._extensions):
            return
        try:
            self._send(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is gone
            if self._ending:
                self._gone.cancel()
            else:
                self._gone.set_exception(error)

    async def _notice_gone(self) -> None:
        await self._gone

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = self._group.create_task(work, name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _now(self) -> int:
        return self._floor.position

    async def _take(self, event: ClientEvent) -> None:
        try:
            await self._handle(event)
        except Exception as error:  # noqa: BLE001 - the border of one event
            self._metrics.error("event")
            self._emit(error_event(error, event.event_id))

    async def _handle(self, event: ClientEvent) -> None:
        match event:
            case incoming.AudioAppend():
                self._started = True
                await self._floor.append(event.audio)
            case incoming.AudioCommit():
                await self._floor.commit()
            case incoming.AudioClear():
                self._floor.clear()
            case incoming.SessionUpdate():
                self._update(event)
            case incoming.ItemCreate():
                await self._create(event)
            case incoming.ItemDelete():
                self._delete(event)
            case incoming.ItemRetrieve():
                self._record.retrieve(self._find(event.item_id, "retriev"))
            case incoming.ItemTruncate():
                self._truncate(event)
            case incoming.ResponseCreate():
                await self._respond(event)
            case incoming.ResponseCancel():
                self._responses.cancel(event.response_id)
            case incoming.PlaybackUpdate():
                self._record.played(event.item_id, event.content_index, event.audio_played_ms)
            case incoming.CameraFrame():
                self._only_realtime("sees nothing")
                self._seeing.show(event)

    # The session

    def _update(self, event: incoming.SessionUpdate) -> None:
        new = self._settings.updated(
            event.session, self._offer, spoken=self._responses.spoken, started=self._started
        )
        self._hear_as(new)
        self._settings = self._silent.settings = new
        self._floor.configure(new, self._listener)
        self._emit(out.SessionUpdated(session=new))

    def _hear_as(self, new: SessionSettings) -> None:
        """Have a recogniser for the settings; WireError if there is none."""
        wanted = new.audio.input.transcription or Transcription()
        heard_as = (wanted.language, wanted.prompt)
        if heard_as == self._heard_as:
            return
        if heard_as == (None, None):
            self._listener, self._heard_as = self._engine.parts.listener, heard_as
            return
        models = self._engine.models
        options = RecogniseOptions(
            language=wanted.language,
            prompt=wanted.prompt or "",
            beam_size=models.settings.recogniser_beam,
        )
        try:
            self._listener = StreamingRecogniser(models.recogniser, ListenOptions(options))
            self._heard_as = heard_as
        except AudioError as error:
            raise WireError(str(error), param="session.audio.input.transcription") from None

    def _only_realtime(self, what: str) -> None:
        if self._settings.type != "realtime":
            raise WireError(
                f"A transcription session {what}; open a session of the type 'realtime'.",
                "invalid_session_type",
                "type",
            )

    # Items

    def _find(self, item_id: str, doing: str) -> Entry:
        verb = doing if doing.endswith("e") else f"{doing}e"
        return self._conversation.find(item_id, f"{doing}ing", f"item_{verb}_invalid_item_id")

    async def _create(self, event: incoming.ItemCreate) -> None:
        self._conversation.check(event.item)
        self._conversation.place(event.previous_item_id)
        entry, work = await self._items.entry(
            *(event.item, self._settings.audio.input.format, self._listener),
            *(self._floor.transcripts, "item"),
        )
        if isinstance(entry.item, MessageItem) and entry.item.role == "user":
            await self._seeing.settled()
            entry.frame = self._seeing.take()
        self._started = True
        self._record.create(entry, self._conversation.place(event.previous_item_id))
        work()

    def _delete(self, event: incoming.ItemDelete) -> None:
        entry = self._find(event.item_id, "delet")
        self._responses.stop_item(entry.id)
        self._record.delete(entry)

    def _truncate(self, event: incoming.ItemTruncate) -> None:
        entry = self._find(event.item_id, "truncat")
        self._responses.stop_item(entry.id)
        self._record.truncate(entry, event.content_index, event.audio_end_ms)

    # Responses

    async def _respond(self, event: incoming.ResponseCreate) -> None:
        self._only_realtime("gives no responses")
        params = event.response
        settings = self._settings.for_response(
            params.overrides(), self._offer, spoken=self._responses.spoken
        )
        if params.conversation == "auto":
            self._responses.refuse_second()
        entries = await self._given(params)
        self._started = True
        self._responses.create(settings, params, entries)

    async def _given(self, params: incoming.ResponseParams) -> list[Entry]:
        """What a response is to answer: the conversation, or what the client gives instead."""
        if params.input is None:
            await self._seeing.settled()
            return list(self._conversation)
        if len(params.input) > self._limits.max_items:
            raise WireError(
                f"Expected at most {self._limits.max_items} items, got {len(params.input)}; send "
                "less.",
                "array_above_max_length",
                "response.input",
            )
        entries = []
        for index, item in enumerate(params.input):
            if isinstance(item, ItemReference):
                code = "item_reference_invalid_item_id"
                entries.append(self._conversation.find(item.id, "referencing", code))
                continue
            self._conversation.check_size(item)
            entry, work = await self._items.entry(
                *(item, self._settings.audio.input.format, self._listener),
                *(self._silent, f"response.input.{index}"),
            )
            work()
            entries.append(entry)
        return entries


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    """The fault that ended the others."""
    first = faults.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
