"""Many sounds through one recogniser: windows cut at pauses, decoded together by length."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from audio.asr import Recogniser, Window
from audio.asr_decode import Decoded, best_of, cut_loop, text_room, to_segments
from audio.asr_types import RecogniseOptions, Segment, Transcript
from audio.asr_windows import Cutting, Map, Span, cut_windows, speech_likelihood, speech_seconds
from audio.errors import AudioError
from audio.features.reference import FRAMES_PER_SECOND, HOP
from audio.features.stream import WINDOW_FRAMES
from audio.pcm import SAMPLE_RATE, Sound
from audio.vad import SileroVad
from audio.whisper_tokens import SECONDS_PER_TIME_TOKEN

#: Told how many more seconds of sound are done.
Progress = Callable[[float], object]

_STEP = 100  # frames: windows are padded to whole seconds, so that many are of one length
_RETRY_BEAM = 5
_LANGUAGE_S = 30.0  # of a sound's first speech, by which its language is told
_SURE = 0.5  # a window's language that is less likely counts for nothing
_SHORTEST_REST_S = 0.5  # of a window that is heard again from where its text ends
_SKIPPED_S = 1.0  # of speech after the text's end: less is a breath, or a word's end


@dataclass(frozen=True)
class BatchOptions(RecogniseOptions):
    """How to recognise many sounds: without sampling, whose chance depends on what was before."""

    words: bool = True
    temperatures: tuple[float, ...] = (0.0,)
    tail_s: float | None = 2.0
    #: Detect the language of each window, where a sound may hold several.
    language_per_window: bool = False
    #: Windows that are decoded together at most.
    together: int = 8
    cutting: Cutting = field(default_factory=Cutting)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperatures != (0.0,):
            raise AudioError(
                f"expected the temperature 0 alone in a batch, got {self.temperatures}; "
                "recognise one sound at a time to have texts sampled"
            )
        if self.condition_on_previous_text:
            raise AudioError(
                "windows of a batch are recognised out of order, so none can be given the text "
                "before it; recognise one sound at a time for that"
            )
        if self.language_per_window and self.language is not None:
            raise AudioError(
                f"expected either the language {self.language!r} or its detection for each "
                "window, got both"
            )
        if self.together < 1:
            raise AudioError(f"expected 1 or more windows together, got {self.together}")


@dataclass(frozen=True, order=True)
class _Piece:
    """A window of the sound with this number."""

    sound: int
    span: Span


@dataclass(frozen=True)
class _Heard:
    """What was said in a piece, and the rest of it if speech goes on after the text's end."""

    piece: _Piece
    segments: list[Segment]
    rest: _Piece | None = None


def transcribe_many(
    recogniser: Recogniser,
    sounds: Sequence[Sound],
    options: BatchOptions | None = None,
    *,
    vad: SileroVad | None = None,
    progress: Progress | None = None,
) -> list[Transcript]:
    """Recognise sounds together; as many windows at once as the recogniser has workers.

    Windows are cut at pauses that ``vad`` hears, of ``options.cutting.longest_s`` at most, padded
    with ``tail_s`` of silence to whole seconds, encoded one by one (a CPU's cache holds one), and
    decoded with others of their length. A text that fails the checks is decoded once more from
    the window padded to 30 s, with a beam of 5 or more; the surest text stays. Nothing is sampled.
    Words are aligned one window at a time: CTranslate2 shifts the words of a batch whose texts
    differ in length.

    A sound's transcript is the same to the bit, whatever it is recognised with and by however many
    workers: windows of several sounds share a batch only where that changes nothing
    (``Recogniser.repeatable_in_batches``).

    Raises AudioError for a sound not at 16 kHz or what the model cannot do. A sound without
    speech, or of no length, has no segments.
    """
    options = options or BatchOptions()
    recogniser.check(options)
    for sound in sounds:
        if sound.rate != SAMPLE_RATE:
            raise AudioError(f"expected sound at {SAMPLE_RATE} Hz, got {sound.rate}; resample it")
    with _pool(recogniser.workers) as run:
        batch = _Batch(recogniser, sounds, options, run, progress or (lambda _: None))
        return batch.transcribe(vad or SileroVad.load())


def transcribe_fast(
    recogniser: Recogniser,
    sound: Sound,
    options: BatchOptions | None = None,
    *,
    vad: SileroVad | None = None,
    progress: Progress | None = None,
) -> Transcript:
    """``transcribe_many`` for one sound, whose own windows are decoded together."""
    return transcribe_many(recogniser, [sound], options, vad=vad, progress=progress)[0]


@dataclass
class _Batch:
    """Sounds on their way through a recogniser."""

    recogniser: Recogniser
    sounds: Sequence[Sound]
    options: BatchOptions
    run: Map
    progress: Progress
    _likelihoods: list[NDArray[np.float32]] = field(default_factory=list)
    _languages: list[tuple[str, float]] = field(default_factory=list)
    #: Windows that were encoded to tell the language, until they are decoded.
    _encoded: dict[_Piece, Window] = field(default_factory=dict)

    def transcribe(self, vad: SileroVad) -> list[Transcript]:
        """All transcripts, in the order of the sounds."""
        pieces = [self._pieces(number, vad) for number in range(len(self.sounds))]
        self._languages = [self._language(own) for own in pieces]
        heard: list[_Heard] = []
        waiting = [piece for own in pieces for piece in own]
        while waiting:
            found: list[_Heard] = []
            for done in self.run(self._recognise, self._batches(waiting)):
                found += done
                self.progress(sum(_seconds(one.piece, one.rest) for one in done))
            heard += found
            waiting = [one.rest for one in found if one.rest]
        return [self._transcript(number, heard) for number in range(len(self.sounds))]

    def _pieces(self, number: int, vad: SileroVad) -> list[_Piece]:
        samples = self.sounds[number].samples
        self._likelihoods.append(speech_likelihood(vad, samples, self.run))
        spans = cut_windows(self._likelihoods[number], len(samples), self.options.cutting)
        silent = self.sounds[number].duration_s - sum(span.seconds for span in spans)
        self.progress(silent)
        return [_Piece(number, span) for span in spans]

    def _batches(self, pieces: Iterable[_Piece]) -> list[list[_Piece]]:
        """Pieces that may be decoded together, the longest first: the last to end is short."""
        mix = self.recogniser.repeatable_in_batches

        def kind(piece: _Piece) -> tuple[int, int]:
            return -self._length(piece), 0 if mix else piece.sound

        batches = []
        for _, same in groupby(sorted(pieces, key=lambda p: (*kind(p), p)), key=kind):
            run, size = list(same), self.options.together
            batches += [run[at : at + size] for at in range(0, len(run), size)]
        return batches

    def _length(self, piece: _Piece) -> int:
        """Frames of a piece with the silence after it."""
        if self.options.tail_s is None:
            return WINDOW_FRAMES
        wanted = _frames(piece) + round(self.options.tail_s * FRAMES_PER_SECOND)
        return min(WINDOW_FRAMES, -(-wanted // _STEP) * _STEP)

    def _encode(self, piece: _Piece) -> Window:
        known = self._encoded.pop(piece, None)
        if known is not None:
            return known
        stream = self.recogniser.features()
        stream.push(self.sounds[piece.sound].samples[piece.span.begin : piece.span.end])
        frames = _frames(piece)
        tail_s = (self._length(piece) - frames) / FRAMES_PER_SECOND
        return self.recogniser.encode(stream.window(0, WINDOW_FRAMES), frames, tail_s)

    def _language(self, pieces: Sequence[_Piece]) -> tuple[str, float]:
        """The likeliest language of the first speech, each window weighed by its length."""
        if self.options.language is not None:
            return self.options.language, 1.0
        if not self.recogniser.multilingual:
            return "en", 1.0
        first: list[_Piece] = []
        seconds = 0.0
        for piece in pieces:
            if first and seconds + piece.span.seconds > _LANGUAGE_S:
                break
            first.append(piece)
            seconds += piece.span.seconds
        votes: dict[str, float] = {}
        for piece, window in zip(first, self.run(self._encode, first), strict=True):
            self._encoded[piece] = window
            for language, probability in self.recogniser.languages_of(window).items():
                votes[language] = votes.get(language, 0.0) + probability * piece.span.seconds
        if not votes:
            return "en", 0.0
        best = max(votes, key=lambda language: votes[language])
        return best, votes[best] / seconds

    def _recognise(self, pieces: Sequence[_Piece]) -> list[_Heard]:
        """One batch, of pieces of one length."""
        windows = [self._encode(piece) for piece in pieces]
        languages = [self._window_language(*both) for both in zip(pieces, windows, strict=True)]
        prompts = [self._prompt(language) for language in languages]
        room = text_room(self._length(pieces[0]) / FRAMES_PER_SECOND)
        texts = self.recogniser.decode_many(windows, prompts, self.options, max_tokens=room)
        return [
            self._heard(*one)
            for one in zip(pieces, windows, languages, prompts, texts, strict=True)
        ]

    def _window_language(self, piece: _Piece, window: Window) -> str:
        language, _ = self._languages[piece.sound]
        if self.options.language_per_window and self.recogniser.multilingual:
            own, probability = self.recogniser.language_of(window)
            return own if probability >= _SURE else language
        return language

    def _prompt(self, language: str) -> list[int]:
        tokens = self.recogniser.tokens
        context = tokens.encode(self.options.prompt) if self.options.prompt else []
        return tokens.prompt(language, self.options.task, context)

    def _heard(
        self, piece: _Piece, window: Window, language: str, prompt: list[int], decoded: Decoded
    ) -> _Heard:
        """The segments of a window whose first text is ``decoded``."""
        if not decoded.is_good(self.options):
            decoded, window = self._again(window, prompt, decoded)
        if decoded.is_silence(self.options):
            return _Heard(piece, [])
        offset_s, end_s = (at / SAMPLE_RATE for at in (piece.span.begin, piece.span.end))
        segments, done_s = to_segments(
            decoded,
            self.recogniser.tokens,
            piece.span.seconds,
            offset_s=offset_s,
            previous_end_s=offset_s,
        )
        rest = self._rest(piece, min(offset_s + done_s, segments[-1].end) if segments else end_s)
        # A text that begins with the silence after the window was made up, or said before.
        segments = [one for one in segments if one.start < end_s - SECONDS_PER_TIME_TOKEN]
        if self.options.words:
            segments = self.recogniser.add_word_times(
                window,
                segments,
                language=language,
                task=self.options.task,
                offset_s=offset_s,
                previous_end_s=offset_s,
            )
        if self.options.language_per_window:
            segments = [replace(segment, language=language) for segment in segments]
        return _Heard(piece, segments, rest)

    def _rest(self, piece: _Piece, done_s: float) -> _Piece | None:
        """What of a piece comes after its text's end, if there is speech in it."""
        rest = Span(round(done_s * SAMPLE_RATE), piece.span.end)
        if min(rest.seconds, piece.span.seconds - rest.seconds) < _SHORTEST_REST_S:
            return None
        skipped = speech_seconds(self._likelihoods[piece.sound], rest)
        return _Piece(piece.sound, rest) if skipped >= _SKIPPED_S else None

    def _again(self, window: Window, prompt: list[int], first: Decoded) -> tuple[Decoded, Window]:
        """A second attempt, and the window that the better text came from."""
        padded = self.recogniser.encode(window.mel, window.frames, None)
        careful = replace(self.options, beam_size=max(_RETRY_BEAM, self.options.beam_size))
        room = text_room(window.seconds)
        (second,) = self.recogniser.decode_many([padded], [prompt], careful, max_tokens=room)
        best = second if second.is_good(self.options) else best_of([first, second], self.options)
        return cut_loop(best, self.recogniser.tokens), window if best is first else padded

    def _transcript(self, number: int, heard: Sequence[_Heard]) -> Transcript:
        own = sorted((one for one in heard if one.piece.sound == number), key=lambda h: h.piece)
        segments = tuple(segment for one in own for segment in one.segments)
        language, probability = self._languages[number]
        return Transcript(
            text=" ".join(segment.text for segment in segments),
            language=language,
            language_probability=probability,
            duration_s=self.sounds[number].duration_s,
            segments=segments,
        )


def _frames(piece: _Piece) -> int:
    return -(-(piece.span.end - piece.span.begin) // HOP)


def _seconds(piece: _Piece, rest: _Piece | None) -> float:
    return piece.span.seconds - (rest.span.seconds if rest else 0.0)


@contextmanager
def _pool(workers: int) -> Iterator[Map]:
    """Something like ``map``, with so many threads; the order of results is that of the tasks."""
    if workers == 1:
        yield map
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
