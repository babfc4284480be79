"""Whose turn it is: from speech probabilities and words to typed events, with no model inside.

One utterance, as events (time goes to the right, `|` is a choice):

    SpeechStarted, MaybeDone, (Resumed, MaybeDone)*, Done      the assistant is silent
    SpeechStarted, Backchannel | Interrupted                   the assistant is speaking

After `Interrupted` the utterance goes on as any other. If the assistant falls silent before it is
known what the utterance is, then it is an ordinary one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE
from audio.turn_words import Completeness, completeness, remark, words_of
from audio.vad import BLOCK

_SAMPLES_PER_MS = SAMPLE_RATE // 1000


@dataclass(frozen=True)
class Patience:
    """How much silence to wait for, by what the words so far say, in ms."""

    finished_ms: int
    open_ms: int
    hanging_ms: int

    def __post_init__(self) -> None:
        if not 0 < self.finished_ms <= self.open_ms <= self.hanging_ms:
            raise AudioError(
                "expected 0 < finished_ms <= open_ms <= hanging_ms, got "
                f"{self.finished_ms}, {self.open_ms} and {self.hanging_ms}"
            )

    def samples(self, words: Completeness) -> int:
        """The silence to wait for, in samples."""
        waits = {"finished": self.finished_ms, "open": self.open_ms, "hanging": self.hanging_ms}
        return waits[words] * _SAMPLES_PER_MS


@dataclass(frozen=True)
class TurnConfig:
    """All thresholds of turn taking; times in ms. Raises AudioError if they contradict."""

    #: Speech begins at this probability and lasts until it falls below the second one.
    speech_on: float = 0.5
    speech_off: float = 0.35
    #: Anything shorter is a click: it neither starts an utterance nor resumes one.
    min_speech_ms: int = 64
    #: How far before the first sure block an utterance begins: soft onsets are detected late.
    pre_roll_ms: int = 300
    maybe_done: Patience = Patience(finished_ms=160, open_ms=200, hanging_ms=480)
    done: Patience = Patience(finished_ms=480, open_ms=640, hanging_ms=1200)
    #: While the assistant speaks, words that a recogniser may have made out of a hum interrupt it
    #: only with so much speech.
    doubtful_ms: int = 400
    #: So much speech that no words explain is an interruption,
    interrupting_ms: int = 704
    #: and so much already when it has ended, and no words came within `words_wait_ms` after it.
    short_ms: int = 576
    words_wait_ms: int = 1000
    #: An utterance of backchannels is over when recognition has heard so much silence after it:
    #: speech fades below the threshold before its last sounds are out.
    backchannel_gap_ms: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.speech_off <= self.speech_on < 1:
            raise AudioError(
                "expected probabilities 0 < speech_off <= speech_on < 1, got "
                f"{self.speech_off} and {self.speech_on}"
            )
        if self.min_speech_ms < 1 or self.pre_roll_ms < 0 or self.backchannel_gap_ms < 1:
            raise AudioError(
                "expected min_speech_ms and backchannel_gap_ms above 0 and pre_roll_ms of 0 or "
                f"more, got {self.min_speech_ms}, {self.backchannel_gap_ms}, {self.pre_roll_ms}"
            )
        if not self.min_speech_ms <= self.short_ms <= self.interrupting_ms:
            raise AudioError(
                "expected min_speech_ms <= short_ms <= interrupting_ms, got "
                f"{self.min_speech_ms}, {self.short_ms} and {self.interrupting_ms}"
            )
        if not self.min_speech_ms <= self.doubtful_ms <= self.interrupting_ms:
            raise AudioError(
                "expected min_speech_ms <= doubtful_ms <= interrupting_ms, got "
                f"{self.min_speech_ms}, {self.doubtful_ms} and {self.interrupting_ms}"
            )
        if self.words_wait_ms < self.backchannel_gap_ms:
            raise AudioError(
                "expected words_wait_ms of backchannel_gap_ms or more, got "
                f"{self.words_wait_ms} and {self.backchannel_gap_ms}"
            )
        for kind in ("finished_ms", "open_ms", "hanging_ms"):
            if getattr(self.maybe_done, kind) > getattr(self.done, kind):
                raise AudioError(f"expected maybe_done.{kind} of at most done.{kind}")


@dataclass(frozen=True)
class SpeechStarted:
    """Someone speaks, since sample `begin` (pre-roll included); recognition may start there."""

    at: int
    begin: int


@dataclass(frozen=True)
class MaybeDone:
    """Speech ended at sample `end`, perhaps for good: time to prepare an answer."""

    at: int
    end: int


@dataclass(frozen=True)
class Resumed:
    """It was not the end: forget the prepared answer."""

    at: int


@dataclass(frozen=True)
class Done:
    """The turn is over; its speech ended at sample `end`."""

    at: int
    end: int


@dataclass(frozen=True)
class Backchannel:
    """The person only showed that they listen (or coughed): the assistant goes on."""

    at: int
    begin: int
    end: int


@dataclass(frozen=True)
class Interrupted:
    """The person takes the turn while the assistant speaks: the assistant stops."""

    at: int
    begin: int


TurnEvent = SpeechStarted | MaybeDone | Resumed | Done | Backchannel | Interrupted


class TurnState(Enum):
    """Where the person's turn stands; after a backchannel it is silent again."""

    SILENT = "silent"
    SPEAKING = "speaking"
    MAYBE_DONE = "maybe done"
    DONE = "done"


_MOVES = {
    TurnState.SILENT: {TurnState.SPEAKING},
    TurnState.SPEAKING: {TurnState.MAYBE_DONE, TurnState.SILENT},
    TurnState.MAYBE_DONE: {TurnState.SPEAKING, TurnState.DONE},
    TurnState.DONE: {TurnState.SPEAKING},
}


@dataclass
class _Ear:
    """Hysteresis: since which sample the voice has lasted, None while there is none."""

    config: TurnConfig
    position: int = 0
    since: int | None = None

    def hear(self, probability: float) -> None:
        if not 0 <= probability <= 1:
            raise AudioError(f"expected probabilities of speech from 0 to 1, got {probability}")
        begun = self.position
        self.position += BLOCK
        if self.since is None:
            self.since = begun if probability >= self.config.speech_on else None
        elif probability < self.config.speech_off:
            self.since = None

    @property
    def lasted(self) -> int:
        """Samples of voice without a break until now."""
        return 0 if self.since is None else self.position - self.since


@dataclass
class _Utterance:
    """What is known of the speech since the last turn."""

    begin: int
    end: int
    overlaps: bool  # the assistant speaks too, and it is not known yet what this is
    text: str = ""
    read_until: int = 0  # the words cover the sound up to here
    spoken: int = 0  # samples of speech in it
    #: While it overlaps: the voiced blocks, by their ends, that no words explain.
    unexplained: list[int] = field(default_factory=list)

    @property
    def words_known(self) -> bool:
        """Whether recognition has heard all that was said."""
        return self.read_until >= self.end

    @property
    def completeness(self) -> Completeness:
        """What the words say about an end here; words that lag behind say nothing."""
        return completeness(self.text) if self.words_known else "open"

    def voiced(self, position: int, samples: int) -> None:
        """The last `samples` before `position` are speech."""
        self.end = position
        self.spoken += samples
        if self.overlaps:
            self.unexplained.extend(range(position - samples + BLOCK, position + 1, BLOCK))

    def read(self, text: str, until: int) -> None:
        self.text, self.read_until = text, max(until, self.read_until)
        if words_of(text):  # a recogniser that has found nothing yet has explained nothing
            self.unexplained = [end for end in self.unexplained if end > until]


class TurnTaker:
    """Follows the turns of one stream; one of these belongs to one stream.

    All times are samples at 16 kHz since its start. `hear` moves the time, `read` and `assistant`
    tell what is known at that time; each returns the events that follow from it, in order.
    """

    def __init__(self, config: TurnConfig | None = None) -> None:
        self.config = config or TurnConfig()
        self.state = TurnState.SILENT
        self._ear = _Ear(self.config)
        self._utterance: _Utterance | None = None
        self._assistant_speaks = False
        self._last_end = 0

    @property
    def position(self) -> int:
        """Samples heard so far."""
        return self._ear.position

    def hear(self, probabilities: Iterable[float]) -> list[TurnEvent]:
        """The next blocks of 512 samples, each with its probability of speech.

        However the blocks are grouped into calls, the events are the same. Raises AudioError for
        a probability outside 0 to 1.
        """
        events: list[TurnEvent] = []
        for probability in probabilities:
            self._ear.hear(float(probability))
            events += self._follow_voice()
            events += self._judge()
        return events

    def read(self, text: str, until: int | None = None) -> list[TurnEvent]:
        """What has been recognised of this utterance, the tentative rest included.

        text: all of its words so far, "" if none were found; until: the sample up to which the
        recogniser has heard, by default all. Between utterances words are ignored.
        """
        if self._utterance is None:
            return []
        self._utterance.read(text, self.position if until is None else until)
        return self._judge()

    def assistant(self, speaking: bool) -> list[TurnEvent]:
        """Whether the assistant can be heard from now on.

        Only speech that begins while it can be heard is judged as an interruption or not.
        """
        self._assistant_speaks = speaking
        if self._utterance is None or speaking:
            return []
        self._utterance.overlaps = False
        return self._judge()

    def _follow_voice(self) -> list[TurnEvent]:
        """Begin, go on with or resume an utterance, once the voice has lasted long enough."""
        lasted = self._ear.lasted
        shortest = self.config.min_speech_ms * _SAMPLES_PER_MS
        if lasted < shortest:
            return []
        sure_since_now = lasted - BLOCK < shortest
        events: list[TurnEvent] = []
        utterance = self._utterance
        if utterance is None:
            self._move(TurnState.SPEAKING)
            utterance = self._utterance = self._begin(self.position - lasted)
            events.append(SpeechStarted(self.position, utterance.begin))
        elif self.state is TurnState.MAYBE_DONE:
            self._move(TurnState.SPEAKING)
            events.append(Resumed(self.position))
        utterance.voiced(self.position, lasted if sure_since_now else BLOCK)
        return events

    def _begin(self, since: int) -> _Utterance:
        begin = max(since - self.config.pre_roll_ms * _SAMPLES_PER_MS, self._last_end)
        return _Utterance(begin, end=since, overlaps=self._assistant_speaks)

    def _judge(self) -> list[TurnEvent]:
        events: list[TurnEvent] = []
        if self._utterance is not None and self._utterance.overlaps:
            events += self._judge_overlap(self._utterance)
        if self._utterance is not None and not self._utterance.overlaps:
            events += self._judge_silence(self._utterance)
        return events

    def _judge_overlap(self, utterance: _Utterance) -> list[TurnEvent]:
        """Speech while the assistant speaks: an interruption, a backchannel, or too early to say.

        A wrong interruption cuts the reply off, so it takes evidence: words that are more than a
        backchannel, or more speech than a backchannel has.
        """
        config, unexplained = self.config, len(utterance.unexplained) * BLOCK
        heard = remark(utterance.text)
        if (
            heard == "interrupting"
            or (heard == "doubtful" and utterance.spoken >= config.doubtful_ms * _SAMPLES_PER_MS)
            or unexplained >= config.interrupting_ms * _SAMPLES_PER_MS
        ):
            return self._interrupt(utterance)
        if self._ear.since is not None:
            return []
        if utterance.read_until - utterance.end >= config.backchannel_gap_ms * _SAMPLES_PER_MS:
            return self._dismiss(utterance)
        if self.position - utterance.end < config.words_wait_ms * _SAMPLES_PER_MS:
            return []
        if unexplained > config.short_ms * _SAMPLES_PER_MS:
            return self._interrupt(utterance)
        return self._dismiss(utterance)

    def _interrupt(self, utterance: _Utterance) -> list[TurnEvent]:
        utterance.overlaps = False
        return [Interrupted(self.position, utterance.begin)]

    def _dismiss(self, utterance: _Utterance) -> list[TurnEvent]:
        self._move(TurnState.SILENT)
        self._close(utterance)
        return [Backchannel(self.position, utterance.begin, utterance.end)]

    def _judge_silence(self, utterance: _Utterance) -> list[TurnEvent]:
        if self._ear.since is not None:  # a voice, though perhaps a click: wait for more of it
            return []
        events: list[TurnEvent] = []
        silence = self.position - utterance.end
        words = utterance.completeness
        if self.state is TurnState.SPEAKING and silence >= self.config.maybe_done.samples(words):
            self._move(TurnState.MAYBE_DONE)
            events.append(MaybeDone(self.position, utterance.end))
        if self.state is TurnState.MAYBE_DONE and silence >= self.config.done.samples(words):
            self._move(TurnState.DONE)
            self._close(utterance)
            events.append(Done(self.position, utterance.end))
        return events

    def _close(self, utterance: _Utterance) -> None:
        self._last_end, self._utterance = utterance.end, None

    def _move(self, to: TurnState) -> None:
        if to not in _MOVES[self.state]:
            allowed = ", ".join(sorted(state.value for state in _MOVES[self.state]))
            raise RuntimeError(f"from {self.state.value} a turn goes to {allowed}, not {to.value}")
        self.state = to
