"""The responses of one dialogue: who may begin when, and the models' work for each."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from assistant.reply import Gate
from assistant.server.door import Caller
from assistant.server.errors import ApiError
from assistant.server.metrics import Metrics
from assistant.server.realtime.answering import Answering
from assistant.server.realtime.bounds import DialogueLimits
from assistant.server.realtime.choices import NamedTool
from assistant.server.realtime.context import Context, Question
from assistant.server.realtime.conversation import Entry
from assistant.server.realtime.events_in import ResponseParams
from assistant.server.realtime.faults import failure
from assistant.server.realtime.payloads import RateLimit
from assistant.server.realtime.record import Emit, Record
from assistant.server.realtime.response import Cancelled, ResponseRun, Surroundings
from assistant.server.realtime.seeing import Start
from assistant.server.realtime.settings import SessionSettings
from assistant.server.realtime.wire import WireError
from assistant.writing import Tool, WriteOptions, Writer


@dataclass(frozen=True)
class Shop:
    """What the responses of a dialogue work with.

    system: the instructions where a session has none.
    """

    writer: Writer
    answering: Answering
    context: Context
    record: Record
    system: str


class Responses:
    """At most one response belongs to the conversation at a time; others may run beside it.

    The conversation's cache is used by one stream of tokens at a time: a response is closed, and
    with it the stream, before the next one is begun.
    """

    def __init__(
        self,
        shop: Shop,
        emit: Emit,
        start: Start,
        *,
        limits: DialogueLimits,
        caller: Caller,
        metrics: Metrics,
        conversation_id: str,
    ) -> None:
        self._shop, self._start = shop, start
        self._limits, self._caller, self._metrics = limits, caller, metrics
        self._beside = Surroundings(
            emit=emit,
            record=None,
            conversation_id=None,
            voice_rate=shop.answering.voice_rate,
            count=shop.writer.count,
            limits=self._rate_limits,
            took=metrics.took,
            ended=self._ended,
        )
        self._within = replace(self._beside, record=shop.record, conversation_id=conversation_id)
        self._cache = shop.writer.new_cache()
        self._prefilling: asyncio.Task[None] | None = None
        self._prefilled: Question | None = None
        self._side: list[ResponseRun] = []
        self._draft: ResponseRun | None = None
        self._basis: tuple[int, SessionSettings] | None = None
        #: The response of the conversation, from when it is certain that there will be one.
        self.active: ResponseRun | None = None
        #: Whether the assistant was ever heard.
        self.spoken = False
        #: Told when a response of the conversation is done.
        self.on_end: Callable[[], None] = lambda: None

    # Asked for by the client

    def create(
        self, settings: SessionSettings, params: ResponseParams, entries: list[Entry]
    ) -> None:
        """Answer now. WireError if that cannot be, ApiError if it may not be.

        Args:
            settings: what holds for it.
            params: what else the client said of it.
            entries: what it is to answer, oldest first.
        """
        if params.conversation == "none":
            if len(self._side) >= self._limits.max_side_responses:
                raise WireError(
                    f"Expected at most {self._limits.max_side_responses} responses beside the "
                    "conversation at a time; wait for one to be done.",
                    "too_many_responses",
                )
            self._caller.spend(requests=1)
            run = ResponseRun(self._beside, settings, params.metadata)
            self._side.append(run)
        else:
            self.refuse_second()
            self._caller.spend(requests=1)
            self.drop_draft()
            run = self.active = ResponseRun(self._within, settings, params.metadata)
        self._go(run, entries)
        run.open()

    def refuse_second(self) -> None:
        """WireError if the conversation has a response already."""
        if self.active is not None:
            raise WireError(
                f"Conversation already has an active response in progress: {self.active.id}. Wait "
                "until the response is finished before creating a new one.",
                "conversation_already_has_active_response",
            )

    def cancel(self, response_id: str | None) -> None:
        """Stop one response, by default that of the conversation; WireError if there is none."""
        runs = [run for run in (self.active, *self._side) if run is not None]
        chosen = next((run for run in runs if run.id == response_id), None)
        run = self.active if response_id is None else chosen
        if run is None:
            raise WireError(
                "Cancellation failed: no active response found.", "response_cancel_not_active"
            )
        if run.gate is Gate.HELD:
            run.open()  # the client cannot know it, but it is what would have come
        run.cancel("client_cancelled")
        if run.in_conversation:
            self._shop.record.interrupt()

    # Begun by the end of a turn

    def prepare(self, settings: SessionSettings, question: Question) -> None:
        """Begin to answer what may be the whole question; nothing of it goes out yet."""
        self.drop_draft()
        if self.active is None:
            self._basis = self._now(settings)
            self._draft = ResponseRun(self._within, settings, question=question)
            self._go(self._draft, list(self._shop.record.conversation), question)

    def drop_draft(self) -> None:
        """The question goes on: forget what was prepared."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.cancel("turn_detected")

    def reserve(self, settings: SessionSettings) -> ResponseRun:
        """The turn is over: what was prepared, or an empty response, is the conversation's now.

        It is `release`d when the turn's words are known. WireError if there is one already.
        """
        self.refuse_second()
        self.active = self._draft or ResponseRun(self._within, settings)
        self._draft = None
        return self.active

    def release(
        self, run: ResponseRun, settings: SessionSettings, entry: Entry, words: str
    ) -> None:
        """Let a reserved response out, if it answers what was asked; if not, begin another."""
        asked, before = Question(words, entry.frame), self._basis
        at, now = self._now(settings)
        fits = run.question is not None and run.question.same(asked)
        if not fits or before is None or before[0] + 1 != at or before[1] is not now:
            self.abandon(run)
            run = self.active = ResponseRun(self._within, settings)
            self._go(run, list(self._shop.record.conversation))
        try:
            self._caller.spend(requests=1)
        except ApiError:
            self.abandon(run)
            raise
        run.open()

    def abandon(self, run: ResponseRun) -> None:
        """A reserved response is not wanted; the client never knew of it."""
        run.cancel("turn_detected")

    def fail(self, run: ResponseRun, fault: Exception) -> None:
        """A reserved response cannot be given."""
        run.open()
        run.take(failure(fault))

    def interrupt(self) -> None:
        """The user takes the turn: the assistant falls silent."""
        if self.active is not None:
            self.active.cancel("turn_detected")
        self._shop.record.interrupt()

    def stop_item(self, item_id: str) -> None:
        """An item is to be changed: if it is being given, its response ends first."""
        if self.active is not None and self.active.open_item_id == item_id:
            self.active.cancel("client_cancelled")

    def close(self, reason: Cancelled = "client_cancelled") -> None:
        """The dialogue is over."""
        self.drop_draft()
        for run in [self.active, *self._side]:
            if run is not None:
                run.cancel(reason)

    # The models' work

    def prefill(self, settings: SessionSettings, question: Question) -> None:
        """Run the words that are sure through the model while the user still speaks."""
        busy = self._prefilling is not None and not self._prefilling.done()
        known = self._prefilled is not None and self._prefilled.same(question)
        if busy or known or self.active is not None or self._draft is not None:
            return
        self._prefilled = question
        self._prefilling = self._start(self._prefill(settings, question))

    async def _prefill(self, settings: SessionSettings, question: Question) -> None:
        try:
            prompt = self._shop.context.prompt(
                self._instructions(settings),
                self._shop.record.conversation,
                question,
                settings.truncation,
            )
            if prompt.messages:
                options = self._options(settings)
                await self._shop.answering.prefill(prompt.messages, self._cache, options)
        except Exception:  # noqa: BLE001 - only haste: the response itself will tell
            self._metrics.error("prefill")

    def _go(self, run: ResponseRun, entries: list[Entry], question: Question | None = None) -> None:
        run.task = self._start(self._produce(run, entries, question))

    async def _produce(
        self, run: ResponseRun, entries: list[Entry], question: Question | None
    ) -> None:
        try:
            await _known(entries)
            if question is None and entries and entries[-1].fault is not None:
                raise entries[-1].fault  # what was asked was not understood
            settings = run.settings
            run.prompt = self._shop.context.prompt(
                self._instructions(settings), entries, question, settings.truncation
            )
            options = self._options(settings)
            cache = self._cache if run.in_conversation else None
            answering, output = self._shop.answering, settings.audio.output
            if run.spoken and output is not None:
                await answering.speak(run.prompt.messages, options, cache, run, output.speed)
            else:
                await answering.write(run.prompt.messages, options, cache, run)
        except Exception as fault:  # noqa: BLE001 - the border: it ends one response only
            self._metrics.error("response")
            run.take(failure(fault))

    def _instructions(self, settings: SessionSettings) -> str:
        return settings.instructions or self._shop.system

    def _options(self, settings: SessionSettings) -> WriteOptions:
        limit, choice = settings.max_output_tokens, settings.tool_choice
        most = self._limits.max_output_tokens
        return WriteOptions(
            max_tokens=most if limit == "inf" else min(int(limit), most),
            tools=tuple(Tool(t.name, t.description, t.parameters) for t in settings.tools),
            tool_choice=choice.name if isinstance(choice, NamedTool) else choice,
            parallel_calls=False,  # as in the API: words, and perhaps one call
        )

    def _ended(self, run: ResponseRun) -> None:
        if run is self.active:
            self.active = None
        if run in self._side:
            self._side.remove(run)
        if run.usage is None:
            return  # nobody knew of it
        self.spoken = self.spoken or run.spoken
        usage = run.usage
        self._metrics.tokens("prompt", usage.input_tokens)
        self._metrics.tokens("cached", usage.input_token_details.cached_tokens)
        self._metrics.tokens("completion", usage.output_tokens)
        self._caller.spend(tokens=usage.total_tokens)
        if run.in_conversation:
            self.on_end()

    def _rate_limits(self) -> tuple[RateLimit, ...]:
        return tuple(
            RateLimit.model_validate(limit._asdict())
            for limit in self._caller.rate_limits()
            if limit.name in ("requests", "tokens")
        )

    def _now(self, settings: SessionSettings) -> tuple[int, SessionSettings]:
        return self._shop.record.conversation.version, settings


async def _known(entries: Iterable[Entry]) -> None:
    """Wait for the words and pictures of items."""
    work = [task for entry in entries for task in entry.work]
    if work:
        await asyncio.wait(work)
