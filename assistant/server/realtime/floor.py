"""Who has the floor: from what is heard to the user's items, and to answers of the assistant."""

import asyncio

from assistant.ear import Listener
from assistant.server.door import Caller
from assistant.server.errors import ApiError
from assistant.server.metrics import Metrics
from assistant.server.realtime import events_out as out
from assistant.server.realtime.bounds import DialogueLimits
from assistant.server.realtime.choices import ServerVad, TurnDetection
from assistant.server.realtime.context import Question
from assistant.server.realtime.conversation import Entry, Speech
from assistant.server.realtime.events_in import ResponseParams
from assistant.server.realtime.faults import error_event
from assistant.server.realtime.formats import (
    AudioIn,
    AudioOut,
    bytes_per_sample,
    milliseconds,
    rate_of,
)
from assistant.server.realtime.items import InputAudio, MessageItem
from assistant.server.realtime.listening import Heard, Listening
from assistant.server.realtime.record import Emit, Record
from assistant.server.realtime.response import ResponseRun
from assistant.server.realtime.responses import Responses
from assistant.server.realtime.seeing import Seeing, Start
from assistant.server.realtime.settings import SessionSettings
from assistant.server.realtime.transcripts import Transcripts, transcript_of
from assistant.server.realtime.utterance import Utterance
from assistant.server.realtime.wire import WireError
from assistant.session import Parts
from audio.pcm import SAMPLE_RATE, Samples
from audio.turn import (
    Backchannel,
    Done,
    Interrupted,
    MaybeDone,
    Resumed,
    SpeechStarted,
    TurnEvent,
)

_MS = SAMPLE_RATE // 1000
#: After so much speech the language model reads what was said before, though no word is sure yet.
_HISTORY_S = 1.5


class Floor:
    """Turns of the user and what follows from them.

    With `server_vad` any speech interrupts the assistant at once, as in the API. With
    `semantic_vad` speech beside the assistant is heard out first: "mm-hmm" leaves no trace, and
    only what is more than that is told to the client and interrupts.
    """

    def __init__(
        self,
        parts: Parts,
        settings: SessionSettings,
        record: Record,
        responses: Responses,
        seeing: Seeing,
        emit: Emit,
        start: Start,
        *,
        limits: DialogueLimits,
        caller: Caller,
        metrics: Metrics,
    ) -> None:
        self._record, self._responses, self._seeing = record, responses, seeing
        self._emit, self._start = emit, start
        self._limits, self._caller, self._metrics = limits, caller, metrics
        self._settings = settings
        self.transcripts = Transcripts(parts, settings, emit, metrics)
        self._sound = AudioIn(settings.audio.input.format)
        self.listening = Listening(
            *(parts.activity, parts.listener, parts.listening),
            limits=limits,
            stage=metrics.stage,
            on_turn=self._follow,
            recognise=self._recognise,
            on_due=self._recognise_beside,
            audible=record.playlist.audible,
        )
        self.listening.configure(settings.audio.input.turn_detection, parts.listener)
        self._hoped: Utterance | None = None  # it may be over
        self._settling: set[asyncio.Task[None]] = set()
        self._idle_since: int | None = None
        responses.on_end = self._assistant_ended

    @property
    def position(self) -> int:
        """How much sound came in, in samples at 16 kHz."""
        return self.listening.position

    def configure(self, settings: SessionSettings, listener: Listener) -> None:
        """Other settings hold from now on."""
        before, self._settings = self._settings, settings
        self.transcripts.settings = settings
        if before.audio.input.format != settings.audio.input.format:
            self._sound = AudioIn(settings.audio.input.format)
        self._hoped = None
        self._responses.drop_draft()
        ended = self.listening.configure(settings.audio.input.turn_detection, listener)
        if ended is not None and ended.announced:  # who was told that it began waits for its end
            self._emit(out.SpeechStopped(audio_end_ms=self.position // _MS, item_id=ended.item_id))

    async def append(self, audio: str) -> None:
        """More sound, in base64; WireError or ApiError if it cannot be taken."""
        samples = self._sound.push(audio)
        self.listening.check_room(len(samples))
        self._caller.spend(audio_s=len(samples) / SAMPLE_RATE)
        await self._hear(samples)
        self._check_idle()

    async def commit(self) -> None:
        """The client ends the turn; WireError if there was hardly any sound."""
        await self._hear(self._sound.finish())
        self._hoped = None
        self._responses.drop_draft()
        self._enter(self.listening.commit())

    def clear(self) -> None:
        """The client takes back what was not committed."""
        self._sound.clear()
        self._hoped = None
        self._responses.drop_draft()
        self.listening.clear()
        self._emit(out.AudioCleared())

    def _assistant_ended(self) -> None:
        """A response of the conversation is complete: from when it was heard, silence counts."""
        self._idle_since = self._record.playlist.ends_at(self.position)

    async def _hear(self, samples: Samples) -> None:
        while len(self._settling) >= self._limits.max_turns_waiting:
            await asyncio.wait(self._settling, return_when=asyncio.FIRST_COMPLETED)
        await self.listening.append(samples)

    # Turns

    @property
    def _detection(self) -> TurnDetection | None:
        return self._settings.audio.input.turn_detection

    def _follow(self, event: TurnEvent, utterance: Utterance, heard: Heard | None) -> None:
        match event:
            case SpeechStarted():
                audible = self._record.playlist.audible(self.position)
                if not (self.listening.overlapping and audible):
                    self._begin(utterance)
            case Interrupted():
                self._begin(utterance)
            case MaybeDone():
                self._announce(utterance)
                if self._answers:
                    self._hoped = utterance
                    self._start(self._prepare(utterance))
            case Resumed():
                self._hoped = None
                self._responses.drop_draft()
            case Backchannel():
                self._hoped = None
            case Done() if heard is not None:
                self._end(heard)

    def _begin(self, utterance: Utterance) -> None:
        """The user takes the turn."""
        self._announce(utterance)
        if self._detection is not None and self._detection.interrupt_response:
            self._responses.interrupt()

    def _announce(self, utterance: Utterance) -> None:
        if utterance.announced:
            return
        utterance.announced = True
        self._idle_since = None
        self._emit(
            out.SpeechStarted(audio_start_ms=utterance.begin // _MS, item_id=utterance.item_id)
        )
        self.transcripts.tell(utterance)
        self.transcripts.hint(utterance)

    def _end(self, heard: Heard) -> None:
        utterance, self._hoped = heard.utterance, None
        self._announce(utterance)
        self._emit(out.SpeechStopped(audio_end_ms=heard.end // _MS, item_id=utterance.item_id))
        entry = self._enter(heard)
        if not self._answers:
            self._responses.drop_draft()
            return
        try:
            run = self._responses.reserve(self._settings)
        except WireError as refusal:
            self._responses.drop_draft()
            self._emit(error_event(refusal, None))
        else:
            self._start(self._release(run, entry))

    @property
    def _answers(self) -> bool:
        """Whether the end of a turn asks for an answer."""
        detection = self._detection
        wanted = detection is not None and detection.create_response
        return wanted and self._settings.type == "realtime"

    def _enter(self, heard: Heard) -> Entry:
        """What was heard becomes an item; its words follow."""
        format, utterance = self._settings.audio.input.format, heard.utterance
        encoder = AudioOut(format, SAMPLE_RATE)
        data = encoder.push(heard.samples) + encoder.finish()
        per_ms = rate_of(format) * bytes_per_sample(format) // 1000
        item = MessageItem(id=utterance.item_id, role="user", content=(InputAudio(),))
        entry = Entry(item, {0: Speech(data, milliseconds(len(data), format), per_ms)})
        if self._settings.type == "realtime":
            entry.frame = self._seeing.take()
        utterance.announced = True
        self._record.commit(entry)
        work = self._start(self.transcripts.settle(entry, utterance))
        entry.work.append(work)
        self._settling.add(work)
        work.add_done_callback(self._settling.discard)
        return entry

    async def _prepare(self, utterance: Utterance) -> None:
        """Begin an answer, for the turn may be over."""
        await self._recognise(utterance)
        await self._seeing.settled()
        if self._hoped is utterance and utterance.text:
            question = Question(utterance.text, self._seeing.newest)
            self._responses.prepare(self._settings, question)

    async def _release(self, run: ResponseRun, entry: Entry) -> None:
        """The turn's words are known: answer them, if there are any."""
        await asyncio.wait(entry.work)
        if self._responses.active is not run:
            return  # the user went on, or asked for something else
        words = transcript_of(entry)
        if entry.fault is not None:
            self._responses.fail(run, entry.fault)
        elif not words or not self._record.conversation.holds(entry):
            self._responses.abandon(run)
        else:
            try:
                self._responses.release(run, self._settings, entry, words)
            except ApiError as refusal:
                self._emit(error_event(refusal, None))

    # Words

    def _recognise_beside(self, utterance: Utterance) -> None:
        self._start(self._recognise(utterance))

    async def _recognise(self, utterance: Utterance) -> None:
        """One pass over an utterance that is not over; a fault in it is told at its end."""
        try:
            await utterance.read()
        except Exception:  # noqa: BLE001 - the border of one call
            self._metrics.error("recognise")
            return
        if utterance.announced:
            self.transcripts.tell(utterance)
        open_now = utterance is self.listening.utterance
        if open_now and (utterance.announced or self._detection is None):
            self.transcripts.hint(utterance)
        self.listening.follow(utterance)
        going_on = utterance is self.listening.utterance and self._hoped is None
        # Reading what was said before takes as long as some words: the first of them come first.
        heard = utterance.sure or utterance.seconds >= _HISTORY_S
        if going_on and heard and self._settings.type == "realtime":
            question = Question(utterance.sure, self._seeing.newest)
            self._responses.prefill(self._settings, question)

    # Silence

    def _check_idle(self) -> None:
        """Nobody has said anything for so long that the assistant speaks unasked."""
        detection, since = self._detection, self._idle_since
        if not isinstance(detection, ServerVad) or detection.idle_timeout_ms is None:
            return
        free = self.listening.utterance is None and self._responses.active is None
        if since is None or not free or self.position - since < detection.idle_timeout_ms * _MS:
            return
        self._idle_since = None
        heard = self.listening.idle_turn()
        self._emit(
            out.TimeoutTriggered(
                audio_start_ms=since // _MS,
                audio_end_ms=self.position // _MS,
                item_id=heard.utterance.item_id,
            )
        )
        self._enter(heard)
        try:
            self._responses.create(
                self._settings, ResponseParams(), list(self._record.conversation)
            )
        except ApiError as refusal:
            self._emit(error_event(refusal, None))
