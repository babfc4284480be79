"""Answers one question: listen, look, think and speak, each stage feeding the next."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from assistant.errors import VoxsightError
from assistant.events import Event, Finished, Heard, Seen, Sighting, SpeechPiece, TextPiece
from assistant.inputs import Question, read_question_image, read_question_sound
from assistant.loading import Models
from assistant.reply import Tongue
from assistant.stages import StageClock
from assistant.workers import TimedWorker, Worker
from audio.asr_types import RecogniseOptions
from audio.pcm import Sound
from audio.spoken_words import SpokenWord
from fusion.adapter import SoftTokens
from fusion.decoder import DecodeOptions

Emit = Callable[[Event], Awaitable[None]]
#: Events that may wait for a slow listener; beyond this many the stages wait.
_WAITING_EVENTS = 64


@dataclass(frozen=True)
class Workers:
    """One thread for each model; on a CPU they take turns (see ``Worker``)."""

    listen: Worker
    look: Worker
    think: Worker
    speak: Worker

    @classmethod
    def start(cls) -> "Workers":
        """Threads for one set of models."""
        turn = threading.Lock()
        return cls(*(Worker(name, turn) for name in ("listen", "look", "think", "speak")))

    def close(self) -> None:
        """Ends the threads once their running calls are done."""
        for worker in (self.listen, self.look, self.think, self.speak):
            worker.close()


async def answer_events(
    models: Models, workers: Workers, question: Question
) -> AsyncIterator[Event]:
    """Events of one question, the last of them ``Finished``; closing the iterator cancels it."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue(_WAITING_EVENTS)

    async def run() -> None:
        try:
            await _Answer(models, workers, question, queue.put).run()
        finally:
            # A full queue is being emptied, or nobody listens any more and the task is cancelled.
            await queue.put(None)

    task = asyncio.create_task(run())
    try:
        while (event := await queue.get()) is not None:
            yield event
        await task
    finally:
        if not task.done():
            task.cancel()
            while not task.done():
                _empty(queue)
                await asyncio.wait([task], timeout=0.05)


def _empty(queue: asyncio.Queue[Event | None]) -> None:
    while not queue.empty():
        queue.get_nowait()


class _Answer:
    """The stages of one answer and what passes between them."""

    def __init__(self, models: Models, workers: Workers, question: Question, emit: Emit) -> None:
        self._models = models
        self._workers = workers
        self._question = question
        self._emit = emit
        self._clock = StageClock()
        self._text = ""

    async def run(self) -> None:
        question = self._question
        settings = self._models.settings
        # Input is read before any model is loaded: a wrong path is told at once.
        with self._clock.stage("read_input"):
            sound = image = None
            if question.audio is not None:
                sound = read_question_sound(question.audio, settings)
            if question.image is not None:
                image = read_question_image(question.image, settings)
        with self._clock.stage("load_models"):
            await asyncio.to_thread(self._models.load_all)
        asked = await self._listen(sound)
        seen = None
        if image is not None:
            with self._clock.stage("look"):
                seen = await self._workers.look.run(
                    lambda: self._models.adapter(self._models.encoder.encode(image))
                )
            await self._emit(_seen(seen))
        await self._reply(asked, seen)
        self._clock.mark("total")
        await self._emit(Finished(asked, self._text.strip(), self._clock.milliseconds()))

    async def _listen(self, sound: Sound | None) -> str:
        """The question in words: what was heard, then what was written."""
        heard = ""
        if sound is not None:
            options = RecogniseOptions(beam_size=self._models.settings.recogniser_beam)
            with self._clock.stage("transcribe"):
                transcript = await self._workers.listen.run(
                    lambda: self._models.recogniser.transcribe(sound, options)
                )
            await self._emit(Heard(transcript))
            heard = transcript.text
        asked = " ".join(
            part.strip() for part in (heard, self._question.text or "") if part.strip()
        )
        if not asked:
            raise VoxsightError(
                "Expected a spoken question, but no speech was heard in the recording; "
                "speak closer to the microphone or give the question with --text."
            )
        return asked

    async def _reply(self, asked: str, seen: SoftTokens | None) -> None:
        """Writes the answer and speaks each clause while the next is being written."""
        try:
            if self._question.speak:
                worker = TimedWorker(self._workers.speak, self._clock, "speak")
                tongue = Tongue(self._models.voice, worker)
                await tongue.speak(self._think(asked, seen), self._wrote, self._spoke)
            else:
                async for piece in self._think(asked, seen):
                    await self._wrote(piece)
        except ExceptionGroup as group_error:  # one stage failed and the other was cancelled
            raise group_error.exceptions[0] from None
        if not self._text.strip():
            raise VoxsightError(
                "The language model gave an empty answer; ask in other words or use a larger model."
            )

    async def _wrote(self, piece: str) -> None:
        self._text += piece
        await self._emit(TextPiece(piece))

    async def _spoke(self, _start: int, sound: Sound, words: tuple[SpokenWord, ...]) -> None:
        self._clock.mark("first_sound")
        await self._emit(SpeechPiece(" ".join(word.text for word in words), sound))

    async def _think(self, asked: str, seen: SoftTokens | None) -> AsyncIterator[str]:
        """The answer's text as the language model writes it."""
        models, worker = self._models, self._workers.think
        prompt = models.prompt_builder.build(models.prompts.ask(asked, seen))
        options = DecodeOptions(max_tokens=models.settings.max_answer_tokens)
        with self._clock.stage("think"):
            async for piece in worker.iterate(
                lambda: models.decoder.stream(prompt, options, models.prompt_cache())
            ):
                self._clock.mark("first_token")
                yield piece


def _seen(tokens: SoftTokens) -> Seen:
    sightings = tuple(Sighting(guess.name, guess.probability) for guess in tokens.guesses)
    return Seen(sightings, tokens.recognised)
