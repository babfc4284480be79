"""Speech to text: Whisper through CTranslate2, on features that this room computes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from audio.asr_decode import Decoded, attempt, attempt_many, best_of, cut_loop, to_segments
from audio.asr_types import RecogniseOptions, Segment, Task, Transcript, Word
from audio.errors import AudioError
from audio.features.reference import FRAMES_PER_SECOND, HOP, N_FFT
from audio.features.stream import WINDOW_FRAMES, FeatureStream
from audio.pcm import SAMPLE_RATE, Samples, Sound
from audio.whisper_tokens import WhisperTokens
from audio.word_times import add_word_times

__all__ = [
    "RecogniseOptions",
    "Recogniser",
    "Recognition",
    "Segment",
    "Task",
    "Transcript",
    "Window",
    "Word",
]

_LOOKAHEAD = N_FFT // 2 - HOP  # samples that the last frame of a window needs beyond it
_SHORTEST_FRAMES = 20  # of a rest after the last time mark; less is no word
# Below this peak (three steps of 16 bits) a window holds no sound, and Whisper would invent some.
_SILENT_PEAK = 1e-4
_STEADY = 0.5  # text sampled at a higher temperature is no context for the next window


@dataclass(frozen=True)
class Window:
    """One stretch of a stream, encoded."""

    mel: Samples  # (n_mels, 3000), the sound with silence after it
    encoded: Any  # ctranslate2.StorageView (1, steps, d)
    frames: int  # of sound, padding not counted
    padded: bool  # to the full 30 s

    @property
    def seconds(self) -> float:
        """How much sound it holds."""
        return self.frames / FRAMES_PER_SECOND


class Recogniser:
    """A Whisper model. It holds no state of any stream, so sessions and threads share one.

    A sound shorter than a window is encoded with 5 s of silence after it instead of the padding
    to 30 s that Whisper was trained with, and again with the full padding when the text fails
    the checks (a repetition, or unlikely text). Measured on 14 utterances of 1-12 s, int8, one
    thread, word error rate and median time, 5 s of silence against the full window:

    ============  ======================  ======================
    beam          whisper-tiny.en         whisper-base
    ============  ======================  ======================
    1 (default)   1.3 / 1.3 %, 228 / 465  3.0 / 2.6 %, 261 / 804
    5             1.3 / 0.4 %, 212 / 492  3.0 / 1.7 %, 420 / 853
    ============  ======================  ======================

    (times in ms, on a machine busy with other work). A beam of 5 gains nothing on the short
    window; for the best text, at twice to three times the time, take
    ``RecogniseOptions(beam_size=5, tail_s=None)``.
    """

    def __init__(
        self,
        model: Any,
        tokens: WhisperTokens,
        features: Callable[[int], FeatureStream] = FeatureStream,
    ) -> None:
        """Wrap a CTranslate2 model; ``features`` makes a stream's features for so many bands."""
        self._model = model
        self.tokens = tokens
        self._features = features

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        threads: int,
        workers: int = 1,
        compute_type: str = "int8",
        device: str = "cpu",
    ) -> "Recogniser":
        """Load a CTranslate2 Whisper folder (model.bin, tokenizer.json and its companions).

        ``workers`` windows can be recognised at the same time, each by ``threads`` threads.
        """
        if threads < 1 or workers < 1:
            raise AudioError(f"expected 1 or more threads and workers, got {threads} and {workers}")
        for name in ("model.bin", "config.json"):
            if not (Path(folder) / name).is_file():
                raise AudioError(f"the Whisper model folder {folder} lacks {name}")
        try:
            model = ctranslate2.models.Whisper(
                str(folder),
                device=device,
                compute_type=compute_type,
                intra_threads=threads,
                inter_threads=workers,
            )
        except (RuntimeError, ValueError) as error:
            raise AudioError(f"cannot load the Whisper model {folder}: {error}") from None
        return cls(model, WhisperTokens.load(Path(folder), multilingual=model.is_multilingual))

    def with_features(self, features: Callable[[int], FeatureStream]) -> "Recogniser":
        """The same model, listening to other features; to compare them."""
        return Recogniser(self._model, self.tokens, features)

    @property
    def workers(self) -> int:
        """How many windows can be recognised at the same time."""
        return int(self._model.num_workers)

    @property
    def repeatable_in_batches(self) -> bool:
        """Whether a window's text is the same, to the bit, whatever it shares a batch with.

        Products of whole numbers are; floating-point sums depend on the number of rows.
        """
        return bool(self._model.device == "cpu" and self._model.compute_type.startswith("int8"))

    @property
    def multilingual(self) -> bool:
        """Whether the model knows other languages than English, and so can translate."""
        return self.tokens.multilingual

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages that the model knows."""
        return self.tokens.languages

    def segments(self, sound: Sound, options: RecogniseOptions | None = None) -> "Recognition":
        """Recognise window by window: an iterator of segments that also tells the language."""
        options = options or RecogniseOptions()
        if sound.rate != SAMPLE_RATE:
            raise AudioError(f"expected sound at {SAMPLE_RATE} Hz, got {sound.rate}; resample it")
        if not len(sound.samples):
            raise AudioError("expected some sound to recognise, got a length of 0 s")
        self.check(options)
        return Recognition(self, sound, options)

    def transcribe(
        self,
        sound: Sound,
        options: RecogniseOptions | None = None,
        progress: Callable[[Segment], None] | None = None,
    ) -> Transcript:
        """The whole sound's transcript: ``segments`` put together, each told to ``progress``."""
        recognition = self.segments(sound, options)
        segments = []
        for segment in recognition:
            segments.append(segment)
            if progress is not None:
                progress(segment)
        return Transcript(
            text=" ".join(segment.text for segment in segments),
            language=recognition.language,
            language_probability=recognition.language_probability,
            duration_s=sound.duration_s,
            segments=tuple(segments),
        )

    def detect_language(self, sound: Sound) -> tuple[str, float]:
        """The likeliest language in the first 30 s, with its probability."""
        recognition = self.segments(sound, RecogniseOptions())
        return recognition.language, recognition.language_probability

    def check(self, options: RecogniseOptions) -> None:
        """Raise AudioError for what this model cannot do."""
        if options.task == "translate" and not self.multilingual:
            raise AudioError(
                "this Whisper model knows only English and cannot translate; "
                "use a multilingual one, such as whisper-base"
            )
        if options.language is not None and options.language not in self.languages:
            known = ", ".join(self.languages)
            raise AudioError(
                f"this Whisper model does not know the language {options.language!r}; "
                f"expected one of: {known}"
            )

    def features(self) -> FeatureStream:
        """The features of a new stream, as the model wants them."""
        return self._features(self._model.n_mels)

    def encode(self, mel: Samples, frames: int, tail_s: float | None) -> Window:
        """Encode ``frames`` of sound, with ``tail_s`` of silence or the padding to 30 s.

        ``mel`` (n_mels, 3000) holds the sound and silence after it.
        """
        total = WINDOW_FRAMES
        if tail_s is not None:
            total = min(WINDOW_FRAMES, frames + round(tail_s * FRAMES_PER_SECOND))
            total += total % 2  # the encoder takes every second frame
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel[None, :, :total]))
        return Window(mel, self._model.encode(view), frames, total == WINDOW_FRAMES)

    def language_of(self, window: Window) -> tuple[str, float]:
        """The likeliest language of a window, with its probability."""
        languages = self.languages_of(window)
        return max(languages.items(), key=lambda item: item[1])

    def languages_of(self, window: Window) -> dict[str, float]:
        """How likely each language is that the model knows, the likeliest first."""
        if not self.multilingual:
            return {"en": 1.0}
        found = self._model.detect_language(window.encoded)[0]
        return {str(token)[2:-2]: float(likely) for token, likely in found}

    def decode(
        self,
        window: Window,
        prompt: list[int],
        options: RecogniseOptions,
        prefix: Sequence[int] = (),
        *,
        once: bool = False,
    ) -> tuple[Decoded, Window]:
        """The best text for a window, and the encoding that it came from.

        The text begins with the tokens of ``prefix``, whatever the sound says. One that is not good
        is tried again, on the window padded to its whole length and at the other temperatures,
        unless it is to be tried but ``once``.
        """

        def decode(temperature: float) -> Decoded:
            return attempt(
                self._model,
                window.encoded,
                prompt,
                self.tokens,
                options,
                prefix=prefix,
                temperature=temperature,
                seconds=window.seconds,
            )

        if once:
            return cut_loop(decode(options.temperatures[0]), self.tokens), window
        attempts: list[Decoded] = []
        for temperature in options.temperatures:
            attempts.append(decode(temperature))
            if not attempts[-1].is_good(options) and not window.padded:
                window = self.encode(window.mel, window.frames, None)
                attempts = [decode(temperature)]
            if attempts[-1].is_good(options):
                return attempts[-1], window
        return cut_loop(best_of(attempts, options), self.tokens), window

    def decode_many(
        self,
        windows: Sequence[Window],
        prompts: list[list[int]],
        options: RecogniseOptions,
        *,
        max_tokens: int,
    ) -> list[Decoded]:
        """One attempt at the texts of windows of the same padded length, without sampling."""
        return attempt_many(
            self._model,
            [window.encoded for window in windows],
            prompts,
            self.tokens,
            options,
            temperature=0.0,
            max_tokens=max_tokens,
        )

    def add_word_times(
        self,
        window: Window,
        segments: Sequence[Segment],
        *,
        language: str,
        task: Task,
        offset_s: float,
        previous_end_s: float,
    ) -> list[Segment]:
        """The segments of one window, which begins at ``offset_s``, with their words."""
        return add_word_times(
            self._model,
            window.encoded,
            segments,
            self.tokens,
            start=self.tokens.start(language, task),
            language=language,
            offset_s=offset_s,
            frames=window.frames,
            previous_end_s=previous_end_s,
        )


@dataclass
class Recognition(Iterator[Segment]):
    """One sound on its way through a recogniser: segments as they are found, and how far it is."""

    recogniser: Recogniser
    sound: Sound
    options: RecogniseOptions
    language: str = field(init=False)
    language_probability: float = field(init=False)
    #: Feature frames (10 ms) that are done.
    seek: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._ready: list[Segment] = []
        self._features = self.recogniser.features()
        prompt = self.options.prompt
        self._context = self.recogniser.tokens.encode(prompt) if prompt else []
        self._last_end_s = 0.0
        self._first: Window | None = None
        if self.options.language is not None:
            self.language, self.language_probability = self.options.language, 1.0
        elif not self.recogniser.multilingual:
            self.language, self.language_probability = "en", 1.0
        else:
            while self.seek < self._frames and _is_silent(self._samples()):
                self.seek = min(self.seek + WINDOW_FRAMES, self._frames)
            self._first = self._window()
            self.language, self.language_probability = self.recogniser.language_of(self._first)

    @property
    def position_s(self) -> float:
        """How much of the sound is done, in s."""
        return min(self.seek / FRAMES_PER_SECOND, self.sound.duration_s)

    def __next__(self) -> Segment:
        while not self._ready:
            left = self._frames - self.seek
            if left <= 0 or (self.seek and left < _SHORTEST_FRAMES):
                raise StopIteration
            self._ready = self._advance()
        return self._ready.pop(0)

    @property
    def _frames(self) -> int:
        return -(-len(self.sound.samples) // HOP)

    def _samples(self) -> Samples:
        begin = self.seek * HOP
        return self.sound.samples[begin : begin + WINDOW_FRAMES * HOP]

    def _window(self) -> Window:
        """The window at ``seek``, encoded; the sound is pushed just as far as its frames reach."""
        known = (self.seek + WINDOW_FRAMES) * HOP + _LOOKAHEAD
        self._features.push(self.sound.samples[self._features.samples : known])
        frames = min(self._frames - self.seek, WINDOW_FRAMES)
        mel = self._features.window(self.seek, WINDOW_FRAMES)
        return self.recogniser.encode(mel, frames, self.options.tail_s)

    def _advance(self) -> list[Segment]:
        """Recognise the window at ``seek`` and move on."""
        samples = self._samples()
        frames = -(-len(samples) // HOP)
        first, self._first = self._first, None
        if _is_silent(samples):
            self.seek += frames
            return []
        tokens = self.recogniser.tokens
        prompt = tokens.prompt(self.language, self.options.task, self._context)
        decoded, window = self.recogniser.decode(first or self._window(), prompt, self.options)
        if decoded.is_silence(self.options):
            self.seek += frames
            return []
        segments, done_s = to_segments(
            decoded,
            tokens,
            frames / FRAMES_PER_SECOND,
            offset_s=self.seek / FRAMES_PER_SECOND,
            previous_end_s=self._last_end_s,
        )
        if self.options.words:
            segments = self.recogniser.add_word_times(
                window,
                segments,
                language=self.language,
                task=self.options.task,
                offset_s=self.seek / FRAMES_PER_SECOND,
                previous_end_s=self._last_end_s,
            )
        if self.options.condition_on_previous_text and decoded.temperature <= _STEADY:
            self._context += tokens.text_tokens(decoded.tokens)
        if segments:
            self._last_end_s = segments[-1].end
        self.seek += max(1, round(done_s * FRAMES_PER_SECOND))
        return segments


def _is_silent(samples: Samples) -> bool:
    return float(np.abs(samples).max()) < _SILENT_PEAK
