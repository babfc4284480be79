"""Speech to text while someone speaks: Whisper on a window that grows, and words that stay."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from audio.asr import RecogniseOptions, Recogniser, Segment, Window
from audio.errors import AudioError
from audio.features.reference import FLOOR, HOP
from audio.features.stream import WINDOW_FRAMES, FeatureStream
from audio.pcm import SAMPLE_RATE, Samples
from audio.transcript import HeardWord, LocalAgreement, TranscriptState, TranscriptUpdate

_PAUSE = SAMPLE_RATE * 9 // 100  # with so much silence after it, speech may be over
_STEP_S = 0.02  # one position of the encoder


@dataclass(frozen=True)
class ListenOptions:
    """How to listen. Raises AudioError for figures that make no sense."""

    recognise: RecogniseOptions = field(default_factory=RecogniseOptions)
    agreement: LocalAgreement = field(default_factory=LocalAgreement)
    #: An update is due after so much more speech.
    step_s: float = 0.6
    #: So much sound after the last speech still belongs to it: speech fades out.
    end_s: float = 0.3
    #: Where no language is given, nothing is committed before so much sound has told it.
    language_s: float = 2.0

    def __post_init__(self) -> None:
        if self.step_s <= 0 or self.end_s < 0 or self.language_s < 0:
            raise AudioError(
                "expected step_s above 0, end_s and language_s of 0 or more, got "
                f"{self.step_s:g}, {self.end_s:g} and {self.language_s:g}"
            )


@dataclass(eq=False)
class ListenState:
    """What belongs to one stream; the caller holds it. Positions are samples of the stream."""

    features: FeatureStream
    transcript: TranscriptState = field(default_factory=TranscriptState)
    #: How far speech has been heard in this utterance, None if there was none; and whether the
    #: caller says so: without a voice detector all sound counts as speech.
    speech_until: int | None = None
    detected: bool = False
    #: The words so far know the sound up to `read_until`, the latest request up to `asked_until`.
    read_until: int = 0
    asked_until: int = 0
    #: The language, once it is settled.
    language: str | None = None
    #: Counts what makes requests useless that are still on their way.
    version: int = 0


@dataclass(frozen=True)
class Request:
    """A stretch of a stream to be recognised: a copy, so that any thread may do it."""

    mel: Samples  # (n_mels, 3000), the sound with silence after it
    begin: int  # its samples in the stream
    end: int
    context: tuple[int, ...]
    prefix: tuple[int, ...]
    language: str | None
    #: Whether the text is worth several attempts and is taken as it is then: the speech has
    #: paused, so that this may be the last of it, or the window is so long that it must move on.
    thorough: bool
    version: int


@dataclass(frozen=True)
class Hypothesis:
    """What was recognised: the words after the prefix, none where they would not be taken."""

    request: Request
    words: tuple[HeardWord, ...]
    language: str
    #: Whether the text passed the checks; else it is only better than nothing.
    sure: bool


class StreamingRecogniser:
    """Recognises streams as they come. It holds no state of any stream, so sessions share one.

    `hear` is cheap and may be called for each chunk. `update` and `finish` call the model, which
    takes a fraction of a second; where that must not hold up `hear`, call `request`, hand
    `recognise` to a thread, and give its result to `accept`.
    """

    def __init__(self, recogniser: Recogniser, options: ListenOptions | None = None) -> None:
        self.options = options or ListenOptions()
        self._recogniser = recogniser
        prompt = self.options.recognise.prompt
        recogniser.check(self.options.recognise)
        self._names = recogniser.tokens.encode(prompt) if prompt else []

    def state(self) -> ListenState:
        """The state of a new stream, in which an utterance begins at once."""
        return ListenState(self._recogniser.features(), language=self._known_language())

    def _known_language(self) -> str | None:
        return self.options.recognise.language or (None if self._recogniser.multilingual else "en")

    def begin(self, state: ListenState, at: int) -> None:
        """An utterance begins at sample `at`, or as near after it as sound is still kept.

        Whatever was not finished of the one before is forgotten.
        """
        frame = max(at // HOP, state.features.first)
        state.transcript = TranscriptState(window_begin=frame * HOP)
        state.speech_until = None
        state.read_until = state.asked_until = frame * HOP
        state.version += 1

    def hear(self, state: ListenState, samples: Samples, speech_until: int | None = None) -> None:
        """Take the next samples (n,) at 16 kHz; no model is called.

        speech_until: the sample up to which a voice detector has heard speech. Where it is never
        given, all sound counts as speech; else only what it covers is recognised.
        """
        state.features.push(samples)
        if speech_until is not None:
            state.detected = True
            state.speech_until = min(speech_until, state.features.samples)
        elif not state.detected:
            state.speech_until = state.features.samples

    def due(self, state: ListenState) -> bool:
        """Whether so much speech is new that an update is worth its cost."""
        if state.speech_until is None:
            return False
        return state.speech_until - state.asked_until >= self.options.step_s * SAMPLE_RATE

    def covered(self, state: ListenState) -> bool:
        """Whether the words so far know all the speech that there was."""
        return state.speech_until is None or state.read_until >= state.speech_until

    def update(self, state: ListenState) -> TranscriptUpdate:
        """Recognise the window as it stands; one call of the model, none if nothing is new."""
        request = self.request(state)
        if request is None:
            return TranscriptUpdate((), state.transcript.tentative)
        return self.accept(state, self.recognise(request))

    def finish(self, state: ListenState) -> TranscriptUpdate:
        """The utterance is over: all its words are final.

        The model is called only if there was speech after the latest update.
        """
        last = self.update(state)
        end = self.options.agreement.close(state.transcript)
        state.version += 1
        return TranscriptUpdate(last.committed_new + end.committed_new)

    def request(self, state: ListenState) -> Request | None:
        """What `update` would have recognised, or None if there is no speech that is not read."""
        if state.speech_until is None or self.covered(state):
            return None
        transcript, known = state.transcript, state.features.samples
        # Never behind what is kept, whatever was heard.
        begin = max(transcript.window_begin, state.features.first * HOP)
        longest = 2 * self.options.agreement.window_s * SAMPLE_RATE
        end = min(known, state.speech_until + round(self.options.end_s * SAMPLE_RATE))
        end = min(end, begin + WINDOW_FRAMES * HOP)
        state.asked_until = end
        mel = state.features.window(begin // HOP)
        frames = -(-(end - begin) // HOP)
        if end < known:
            mel[:, frames:] = _silence(mel)
        return Request(
            mel=mel,
            begin=begin,
            end=end,
            context=_tokens(transcript.context),
            prefix=_tokens(transcript.prefix),
            language=state.language,
            thorough=known - state.speech_until >= _PAUSE or end - begin > longest,
            version=state.version,
        )

    def recognise(self, request: Request) -> Hypothesis:
        """The words of a request; touches no state, so any thread may do it."""
        model, options = self._recogniser, self.options.recognise
        frames = -(-(request.end - request.begin) // HOP)
        window = model.encode(request.mel, frames, options.tail_s)
        language = request.language or model.language_of(window)[0]
        decoded, window = model.decode(
            window,
            model.tokens.prompt(language, options.task, [*self._names, *request.context]),
            options,
            [model.tokens.time_begin, *request.prefix] if request.prefix else (),
            once=not request.thorough,  # not worth more than one attempt: the next update is near
        )
        sure = decoded.is_good(options)
        words: list[HeardWord] = []
        if (sure or request.thorough) and not decoded.is_silence(options):
            rest = model.tokens.text_tokens(decoded.tokens)[len(request.prefix) :]
            words = self._timed(request, window, language, rest)
        return Hypothesis(request, tuple(words), language, sure)

    def _timed(
        self, request: Request, window: Window, language: str, tokens: list[int]
    ) -> list[HeardWord]:
        """The words that `tokens`, which follow the prefix, spell, with their times.

        Words that the alignment finds no sound for lie at its very end: Whisper made them up, to
        complete a sentence that breaks off. They are left out.
        """
        if not tokens:
            return []
        begin_s, end_s = request.begin / SAMPLE_RATE, request.end / SAMPLE_RATE
        parts = (request.prefix, tuple(tokens))
        segments = [Segment(begin_s, end_s, "", tokens=part) for part in parts]
        timed = self._recogniser.add_word_times(
            window,
            segments,
            language=language,
            task=self.options.recognise.task,
            offset_s=begin_s,
            previous_end_s=begin_s,
        )[-1]
        spelled = self._recogniser.tokens.split_words(tokens, language)
        return [
            HeardWord(
                text=word.text,
                begin=round(word.start * SAMPLE_RATE),
                end=round(word.end * SAMPLE_RATE),
                probability=word.probability,
                tokens=spelling.tokens,
            )
            for word, spelling in zip(timed.words, spelled, strict=True)
            if word.start < end_s - _STEP_S
        ]

    def accept(self, state: ListenState, hypothesis: Hypothesis) -> TranscriptUpdate:
        """Take what `recognise` found; nothing changes if its request is out of date."""
        request, transcript = hypothesis.request, state.transcript
        late = request.version != state.version
        if late or not (hypothesis.sure or request.thorough):
            return TranscriptUpdate((), transcript.tentative)
        state.version += 1
        state.read_until = request.end
        if state.language is None:
            if request.end - request.begin < self.options.language_s * SAMPLE_RATE:
                transcript.tentative = hypothesis.words
                return TranscriptUpdate((), hypothesis.words)
            state.language = hypothesis.language
        return self.options.agreement.hear(transcript, hypothesis.words, request.end)


def _tokens(words: Sequence[HeardWord]) -> tuple[int, ...]:
    return tuple(token for word in words for token in word.tokens)


def _silence(mel: Samples) -> np.float32:
    """What silence is in a window that is scaled and clamped already: `log_mel` says how."""
    return np.float32(max((np.log10(FLOOR) + 4) / 4, float(mel.max()) - 2))
