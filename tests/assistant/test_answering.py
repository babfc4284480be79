"""The stages of an answer with small stand-ins for the models: order, streaming, errors, ends."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assistant.answering import Workers, answer_events
from assistant.config import Settings
from assistant.errors import VoxsightError
from assistant.events import Event, Finished, Heard, Seen, SpeechPiece, TextPiece
from assistant.inputs import Question
from assistant.prompts import Prompts
from audio.asr_types import Transcript
from audio.pcm import Sound
from audio.spoken_words import SpokenWord
from audio.tts import SpokenChunk

PROMPTS = Prompts("system", "{image} {question}", "{question}")
PIECES = ("It is", " a small cat,", " I think. It", " sleeps", " on a", " red sofa. The end.")
QUESTION = Sound(np.full(16_000, 0.1, np.float32), 16_000)


@dataclass
class FakeSpeaking:
    said: list[str]

    def stream(self, clause: str) -> Iterator[SpokenChunk]:
        """Each word in a chunk of its own."""
        self.said.append(clause)
        for number, text in enumerate(clause.split()):
            if any(sign.isalpha() for sign in text):
                word = SpokenWord(text, 10 * number, 10 * number + 10)
                yield SpokenChunk(np.zeros(10, np.float32), 10 * number, (word,))


@dataclass
class FakeModels:
    """What ``answer_events`` uses of ``Models``."""

    pieces: tuple[str, ...] = PIECES
    heard: str = "what is it"
    failure: Exception | None = None
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    prompts: Prompts = PROMPTS
    closed: threading.Event = field(default_factory=threading.Event)

    def load_all(self) -> None: ...

    @property
    def recogniser(self) -> Any:
        transcript = Transcript(self.heard, "en", 1.0, 1.0, ())
        return SimpleNamespace(transcribe=lambda sound, options: transcript)

    @property
    def encoder(self) -> Any:
        return SimpleNamespace(encode=lambda image: image)

    def adapter(self, features: Any) -> Any:
        guess = SimpleNamespace(name="cat", probability=0.9)
        return SimpleNamespace(embeddings="<tokens>", guesses=(guess,), recognised=True)

    @property
    def prompt_builder(self) -> Any:
        return SimpleNamespace(build=lambda turns: turns[-1].parts)

    def prompt_cache(self) -> None: ...

    @property
    def decoder(self) -> Any:
        return SimpleNamespace(stream=self._stream)

    def _stream(self, prompt: Any, options: Any, cache: Any) -> Iterator[str]:
        self.asked.append("".join(map(str, prompt)))
        try:
            for piece in self.pieces:
                if self.failure:
                    raise self.failure
                self.written.append(piece)
                yield piece
        finally:
            self.closed.set()

    @property
    def voice(self) -> Any:
        return SimpleNamespace(start=lambda: FakeSpeaking(self.said), sample_rate=22_050)


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers.start()
    yield made
    made.close()


def collect(models: FakeModels, workers: Workers, question: Question) -> list[Event]:
    async def gather() -> list[Event]:
        return [event async for event in answer_events(models, workers, question)]  # type: ignore[arg-type]

    return asyncio.run(gather())


def picture() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def test_every_stage_in_order(workers: Workers) -> None:
    models = FakeModels()
    question = Question(audio=QUESTION, image=picture(), text="Be short.")
    events = collect(models, workers, question)
    kinds = [type(event) for event in events]
    assert kinds[:3] == [Heard, Seen, TextPiece]
    assert kinds[-1] is Finished
    assert models.asked == ["<tokens> what is it Be short."]
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    assert text == "".join(PIECES)
    spoken = [event.text for event in events if isinstance(event, SpeechPiece)]
    assert " ".join(spoken) == "".join(PIECES)
    assert len(models.said) > 1
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.answer == text.strip()
    assert {"transcribe", "look", "think", "speak", "first_sound"} <= set(finished.stages_ms)


def test_without_picture_or_speech(workers: Workers) -> None:
    models = FakeModels()
    events = collect(models, workers, Question(text="Hello {image}?", speak=False))
    assert {type(event) for event in events} == {TextPiece, Finished}
    assert models.asked == ["Hello {image}?"]
    assert not models.said


def test_clause_without_words_is_not_spoken(workers: Workers) -> None:
    events = collect(FakeModels(pieces=("... ", "Yes.")), workers, Question(text="Well?"))
    spoken = [event for event in events if isinstance(event, SpeechPiece)]
    assert [event.text for event in spoken if "Yes" in event.text]


@pytest.mark.parametrize("pieces", [(), ("  ",)])
def test_empty_answer_is_an_error(workers: Workers, pieces: tuple[str, ...]) -> None:
    with pytest.raises(VoxsightError, match="empty answer"):
        collect(FakeModels(pieces=pieces), workers, Question(text="Well?"))


def test_nothing_heard_is_an_error(workers: Workers) -> None:
    with pytest.raises(VoxsightError, match="no speech was heard"):
        collect(FakeModels(heard=" "), workers, Question(audio=QUESTION))


def test_failure_of_a_model_reaches_the_caller_as_itself(workers: Workers) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        collect(FakeModels(failure=RuntimeError("out of memory")), workers, Question(text="Well?"))
    # the threads go on serving
    assert collect(FakeModels(), workers, Question(text="Well?"))


def test_listener_that_leaves_stops_the_models(workers: Workers) -> None:
    models = FakeModels(pieces=tuple(f"word{i} " for i in range(10_000)))

    async def leave_early() -> None:
        events = answer_events(models, workers, Question(text="Well?"))  # type: ignore[arg-type]
        async for event in events:
            if isinstance(event, TextPiece):
                break
        await events.aclose()  # type: ignore[attr-defined]
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not others

    asyncio.run(leave_early())
    assert len(models.written) < 500
    assert models.closed.wait(1)


def test_two_answers_at_once_stay_apart(workers: Workers) -> None:
    async def both() -> list[list[Event]]:
        async def one(word: str) -> list[Event]:
            models = FakeModels(pieces=tuple(f"{word} " for _ in range(50)))
            question = Question(text=word)
            return [event async for event in answer_events(models, workers, question)]  # type: ignore[arg-type]

        return list(await asyncio.gather(one("left"), one("right")))

    for word, events in zip(("left", "right"), asyncio.run(both()), strict=True):
        assert isinstance(events[-1], Finished)
        assert set(events[-1].answer.split()) == {word}
