"""What the client is told of the user's words."""

from assistant.server.errors import as_api_error
from assistant.server.metrics import Metrics
from assistant.server.realtime.conversation import Entry
from assistant.server.realtime.events_out import (
    TranscriptionCompleted,
    TranscriptionDelta,
    TranscriptionFailed,
)
from assistant.server.realtime.extensions import Tentative
from assistant.server.realtime.items import InputAudio, MessageItem
from assistant.server.realtime.payloads import DurationUsage, LogProb, TranscriptionError
from assistant.server.realtime.record import Emit
from assistant.server.realtime.settings import SessionSettings
from assistant.server.realtime.utterance import Utterance, log_probabilities
from assistant.session import Parts
from audio.pcm import SAMPLE_RATE, Samples
from audio.transcript import HeardWord
from audio.vad import BLOCK, VadState

_PIECE = 8 * SAMPLE_RATE  # of a recording: far less than the recogniser's window


class Transcripts:
    """Tells the words of the user's turns, if the settings ask for them.

    Words are told once they are final, so every delta extends the text before it. Those that may
    still change are hinted at.
    """

    def __init__(
        self, parts: Parts, settings: SessionSettings, emit: Emit, metrics: Metrics
    ) -> None:
        self._parts, self._emit, self._metrics = parts, emit, metrics
        self.settings = settings

    def tell(self, utterance: Utterance, index: int = 0) -> None:
        """Words of an utterance that became final since."""
        first = utterance.told == 0
        words = utterance.untold()
        text = "".join(word.text for word in words)
        text = text.lstrip() if first else text
        if text and self._wanted:
            self._emit(
                TranscriptionDelta(
                    item_id=utterance.item_id,
                    content_index=index,
                    delta=text,
                    logprobs=self._log_probabilities(words),
                )
            )
            utterance.hinted = ""

    def hint(self, utterance: Utterance) -> None:
        """Words of an utterance that may still change, if they are others than before."""
        unsure = utterance.unsure
        if unsure != utterance.hinted and self._wanted:
            utterance.hinted = unsure
            self._emit(Tentative(item_id=utterance.item_id, text=unsure))

    async def settle(self, entry: Entry, utterance: Utterance, index: int = 0) -> None:
        """The utterance is over: its words become those of the item."""
        try:
            words = await utterance.finish()
        except Exception as fault:  # noqa: BLE001 - the border: it costs one item its words
            self._failed(entry, index, fault)
            return
        entry.say(index, words)
        self.tell(utterance, index)
        if self._wanted:
            self._emit(
                TranscriptionCompleted(
                    item_id=entry.id,
                    content_index=index,
                    transcript=words,
                    usage=DurationUsage(seconds=round(utterance.seconds, 3)),
                    logprobs=self._log_probabilities(utterance.committed),
                )
            )

    async def settle_recording(
        self, entry: Entry, utterance: Utterance, samples: Samples, index: int
    ) -> None:
        """As `settle`, for sound (n,) at 16 kHz that came as a whole."""
        voice = VadState()
        try:
            for start in range(0, len(samples), _PIECE):
                piece = samples[start : start + _PIECE]
                first = voice.blocks
                spoken = (self._parts.activity.push(voice, piece) >= 0.5).nonzero()[0]
                until = (first + int(spoken[-1]) + 1) * BLOCK if spoken.size else 0
                utterance.hear(piece, max(until, utterance.speech_until))
                await utterance.read()
                self.tell(utterance, index)
        except Exception as fault:  # noqa: BLE001 - the border: it costs one item its words
            self._failed(entry, index, fault)
            return
        await self.settle(entry, utterance, index)

    @property
    def _wanted(self) -> bool:
        return self.settings.audio.input.transcription is not None

    def _log_probabilities(self, words: tuple[HeardWord, ...]) -> tuple[LogProb, ...] | None:
        return log_probabilities(words) if self.settings.include else None

    def _failed(self, entry: Entry, index: int, fault: Exception) -> None:
        self._metrics.error("transcription")
        entry.fault = told = as_api_error(fault)
        if self._wanted:
            error = TranscriptionError(type="server_error", code=told.code, message=told.message)
            self._emit(TranscriptionFailed(item_id=entry.id, content_index=index, error=error))


def transcript_of(entry: Entry) -> str:
    """All that was said in an item."""
    if not isinstance(entry.item, MessageItem):
        return ""
    spoken = [part for part in entry.item.content if isinstance(part, InputAudio)]
    return " ".join(part.transcript or "" for part in spoken).strip()
