"""An engine whose models are stand-ins, for all that a server does around them."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from assistant.answering import Workers
from assistant.config import Settings
from assistant.models import ModelStore
from assistant.prompts import load_prompts
from assistant.reply import Tongue
from assistant.server.engine import Engine
from assistant.writing import (
    CallBegan,
    CallDelta,
    Message,
    TextDelta,
    Tool,
    WriteOptions,
    WritingEnded,
    Written,
)
from audio.asr_types import RecogniseOptions, Segment, Transcript, Word
from audio.errors import AudioError
from audio.pcm import Samples, Sound
from audio.spoken_words import SpokenWord
from audio.tts import Piece, SpeakOptions, SpokenChunk
from tests.assistant.session_fakes import RATE, REPLY_WORD, Models, words_in


class Trouble:
    """What can go wrong in a model call: it raises, or it hangs until it is released."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.calls = 0

    def visit(self) -> None:
        self.calls += 1
        self.hold.wait()
        if self.fault is not None:
            raise self.fault


class FakeWriter:
    """Answers "You said ..." with the words of the last message; calls a tool if it must."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self.answer: str | None = None
        self.seen: list[tuple[Message, ...]] = []
        self.closed = 0

    def stream(
        self, messages: Sequence[Message], options: WriteOptions, cache: Any = None
    ) -> Iterator[Written]:
        return self._stream(tuple(messages), options)

    def _stream(self, messages: tuple[Message, ...], options: WriteOptions) -> Iterator[Written]:
        self.seen.append(messages)
        prompt, written = self._count(messages), 0
        try:
            self.trouble.visit()
            if options.tools and options.tool_choice not in ("auto", "none"):
                yield from self._call(options)
                yield WritingEnded("tool_calls", prompt, 2, 0)
                return
            for piece in self._words(messages):
                if written == options.max_tokens:
                    yield WritingEnded("length", prompt, written, 0)
                    return
                self.trouble.visit()
                written += 1
                yield TextDelta(piece)
            yield WritingEnded("stop", prompt, written, 0)
        finally:
            self.closed += 1

    def _call(self, options: WriteOptions) -> Iterator[Written]:
        names = [tool.name for tool in options.tools]
        name = options.tool_choice if options.tool_choice in names else names[0]
        yield CallBegan(0, "call_fake", name)
        yield CallDelta(0, "{}")

    def _words(self, messages: tuple[Message, ...]) -> Iterator[str]:
        asked = "".join(part for part in messages[-1].parts if isinstance(part, str))
        answer = self.answer if self.answer is not None else f"You said {asked}."
        for number, word in enumerate(answer.split()):
            yield (" " if number else "") + word

    def _count(self, messages: tuple[Message, ...]) -> int:
        texts = (part for message in messages for part in message.parts)
        return sum(self.count(text) for text in texts if isinstance(text, str))

    def prefill(
        self, messages: Sequence[Message], cache: Any, tools: Sequence[Tool] = ()
    ) -> None: ...

    def prepare(self) -> None: ...

    def new_cache(self) -> Any:
        return None

    def count(self, text: str) -> int:
        return len(text.split())


class FakeRecogniser:
    """Hears the words of ``session_fakes``, in one segment."""

    multilingual = True
    languages = ("en", "de")

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble

    def check(self, options: RecogniseOptions) -> None:
        if options.language is not None and options.language not in self.languages:
            raise AudioError(f"expected the language en or de, got {options.language!r}")

    def segments(self, sound: Sound, options: RecogniseOptions | None = None) -> Any:
        options = options or RecogniseOptions()
        self.check(options)
        return _FakeRecognition(
            self._segments(sound), options.language or "en", 1.0, sound.duration_s
        )

    def _segments(self, sound: Sound) -> Iterator[Segment]:
        self.trouble.visit()
        words = tuple(
            Word(begin / RATE, end / RATE, f" {word}", 1.0)
            for word, begin, end in words_in(sound.samples)
        )
        if words:
            text = "".join(word.text for word in words).strip()
            yield Segment(words[0].start, words[-1].end, text, words)

    def transcribe(
        self, sound: Sound, options: RecogniseOptions | None = None, progress: Any = None
    ) -> Transcript:
        recognition = self.segments(sound, options)
        segments = tuple(recognition)
        for segment in segments if progress else ():
            progress(segment)
        text = " ".join(segment.text for segment in segments)
        return Transcript(text, recognition.language, 1.0, sound.duration_s, segments)

    def detect_language(self, sound: Sound) -> tuple[str, float]:
        return "en", 1.0


@dataclass
class _FakeRecognition:
    found: Iterator[Segment]
    language: str
    language_probability: float
    position_s: float

    def __iter__(self) -> Iterator[Segment]:
        return self.found

    def __next__(self) -> Segment:
        return next(self.found)


class FakeVoice:
    """Each word lasts ``REPLY_WORD`` samples and comes in a chunk of its own."""

    sample_rate = RATE

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble

    def start(self, options: SpeakOptions | None = None) -> Any:
        def read(clause: str) -> Any:
            return SimpleNamespace(chunks=lambda: self._chunks(clause)) if clause.split() else None

        return SimpleNamespace(stream=self._chunks, read=read, say=self._piece)

    def _chunks(self, clause: str) -> Iterator[SpokenChunk]:
        for number, word in enumerate(clause.split()):
            self.trouble.visit()
            at = number * REPLY_WORD
            spoken = SpokenWord(word, at, at + REPLY_WORD)
            yield SpokenChunk(np.full(REPLY_WORD, 0.5, np.float32), at, (spoken,))

    def _piece(self, clause: str) -> Piece | None:
        chunks = list(self._chunks(clause))
        if not chunks:
            return None
        sound = Sound(np.concatenate([chunk.samples for chunk in chunks]), RATE)
        words = tuple(word for chunk in chunks for word in chunk.words)
        return Piece(sound, clause, clause, (), 0, words)

    def pieces(
        self, text: str | Iterable[str], options: SpeakOptions | None = None
    ) -> Iterator[Piece]:
        clauses = [text] if isinstance(text, str) else text
        pieces = [piece for clause in clauses if (piece := self._piece(clause))]
        if not pieces:
            raise AudioError("The text to speak holds no word or number.")
        yield from pieces

    def stream(
        self, text: str | Iterable[str], options: SpeakOptions | None = None
    ) -> Iterator[Sound]:
        for piece in self.pieces(text, options):
            yield piece.sound

    def speak(self, text: str | Iterable[str], options: SpeakOptions | None = None) -> Sound:
        return Sound(np.concatenate([s.samples for s in self.stream(text, options)]), RATE)


def _as_said(samples: Samples) -> Samples:
    """The levels that ``session_fakes`` speaks in, after the sound was resampled on its way."""
    return np.where(samples > 0.05, np.round(samples, 2), 0.0).astype(np.float32)


@dataclass(frozen=True)
class FakeEngine(Engine):
    """The engine, with its fakes at hand."""

    fakes: Models
    thinking: Trouble
    hearing: Trouble
    speaking: Trouble

    @classmethod
    def start(cls) -> "FakeEngine":
        """Fake models in real threads; ``close`` ends them."""
        fakes, workers = Models(), Workers.start()
        thinking, hearing, speaking = Trouble(), Trouble(), Trouble()
        voice, recogniser = FakeVoice(speaking), FakeRecogniser(hearing)
        recognise = fakes.listener.recognise

        def troubled(request: Any) -> Any:
            hearing.visit()
            begin, sound = request
            return recognise((begin, _as_said(sound)))

        fakes.listener.recognise = troubled  # type: ignore[method-assign]
        parts = replace(
            fakes.parts(),
            tongue=Tongue(voice, workers.speak),  # type: ignore[arg-type]
            listening=workers.listen,
            looking=workers.look,
            thinking=workers.think,
        )
        settings = Settings()
        models: Any = SimpleNamespace(
            settings=settings,
            store=ModelStore(settings),
            prompts=load_prompts(),
            recogniser=recogniser,
            voice=voice,
            encoder=SimpleNamespace(name="fake-encoder", encode=lambda image: image),
            adapter=lambda seen: seen,
            decoder=fakes.decoder,
            prompt_builder=parts.prompts,
            prompt_cache=parts.new_cache,
        )
        writer: Any = FakeWriter(thinking)
        return cls(models, workers, parts, writer, fakes, thinking, hearing, speaking)

    def release(self) -> None:
        """Let calls that hang go on, and forget their faults."""
        for trouble in (self.thinking, self.hearing, self.speaking):
            trouble.fault = None
            trouble.hold.set()

    def close(self) -> None:
        self.release()
        super().close()
