"""``Assistant``: the same as the commands, in a few lines of Python."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from assistant.answering import Workers, answer_events
from assistant.config import Settings, load_settings
from assistant.errors import VoxsightError
from assistant.events import Event, Finished, Heard, Seen, Sighting, SpeechPiece
from assistant.inputs import Question, media_limits
from assistant.loading import Models
from assistant.models import PullProgress
from audio.asr_types import RecogniseOptions, Transcript
from audio.media import read_sound, write_wav
from audio.pcm import Sound, join
from audio.tts import SpeakOptions


@dataclass(frozen=True)
class Reply:
    """A whole answer.

    Attributes:
        question: the question in words.
        transcript: what was heard; None if the question was written.
        sightings: what the picture seems to show, the likeliest first.
        answer: the answer's text.
        sound: the answer, spoken; None if no speech was asked for.
        stages_ms: what each stage took, in milliseconds.
    """

    question: str
    transcript: Transcript | None
    sightings: tuple[Sighting, ...]
    answer: str
    sound: Sound | None
    stages_ms: dict[str, float]

    def save(self, path: Path | str) -> Path:
        """Writes the spoken answer as a WAV file.

        Raises:
            VoxsightError: the answer was not spoken.
        """
        if self.sound is None:
            raise VoxsightError("Expected a spoken answer to save, but no speech was asked for.")
        write_wav(Path(path), self.sound)
        return Path(path)


class Assistant:
    """Listens, looks and speaks. Models are loaded on first use and shared by all questions.

    Example:
        >>> from assistant import Assistant
        >>> reply = Assistant().ask(audio="question.wav", image="photo.jpg")
        >>> print(reply.answer)
        >>> reply.save("answer.wav")

    Args:
        settings: which models and limits; by default from the environment.
        progress: told of downloads.
        remark: told in words of work that takes more than a moment.
        overrides: single settings by name, such as ``voice="en_US-joe-medium"``.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        progress: PullProgress | None = None,
        remark: Callable[[str], None] | None = None,
        **overrides: Any,
    ) -> None:
        if settings is not None and overrides:
            raise VoxsightError(
                f"Expected settings or single overrides, but got both ({', '.join(overrides)})."
            )
        self.models = Models(settings or load_settings(**overrides), progress, remark)
        self._workers = Workers.start()

    def ask(
        self,
        audio: Path | str | Sound | None = None,
        image: Path | str | bytes | None = None,
        text: str | None = None,
        *,
        speak: bool = True,
        on_event: Callable[[Event], None] | None = None,
    ) -> Reply:
        """Answers a spoken or written question, about a picture or not.

        Args:
            audio: a sound or video file, or sound.
            image: a picture file, or its bytes.
            text: the question in writing; with ``audio``, it follows what was heard.
            speak: whether the answer is spoken.
            on_event: called with every event as it happens.

        Raises:
            VoxsightError, AudioError, VisionError, FusionError: input that cannot be used.
        """
        question = Question(
            audio=Path(audio) if isinstance(audio, str) else audio,
            image=Path(image) if isinstance(image, str) else image,
            text=text,
            speak=speak,
        )
        return asyncio.run(self._fold(question, on_event))

    def events(self, question: Question) -> AsyncIterator[Event]:
        """The answer as it comes about, for a caller that is asynchronous itself."""
        return answer_events(self.models, self._workers, question)

    def transcribe(
        self, audio: Path | str | Sound, options: RecogniseOptions | None = None
    ) -> Transcript:
        """What is said in a file or sound."""
        if not isinstance(audio, Sound):
            audio = read_sound(Path(audio), limits=media_limits(self.models.settings))
        return self.models.recogniser.transcribe(audio, options)

    def speak(self, text: str, options: SpeakOptions | None = None) -> Sound:
        """A text as sound, at the voice's rate."""
        return self.models.voice.speak(text, options)

    def close(self) -> None:
        """Ends the threads; the models go with the object."""
        self._workers.close()

    def __enter__(self) -> "Assistant":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def _fold(self, question: Question, on_event: Callable[[Event], None] | None) -> Reply:
        """A whole answer is its events, put together."""
        transcript, sightings, finished = None, tuple[Sighting, ...](), None
        sounds: list[Sound] = []
        async for event in self.events(question):
            if isinstance(event, Heard):
                transcript = event.transcript
            elif isinstance(event, Seen):
                sightings = event.sightings
            elif isinstance(event, SpeechPiece):
                sounds.append(event.sound)
            elif isinstance(event, Finished):
                finished = event
            if on_event:
                on_event(event)
        if finished is None:  # the iterator raises otherwise; this guards the fold itself
            raise VoxsightError("The answer ended before it was finished.")
        return Reply(
            question=finished.question,
            transcript=transcript,
            sightings=sightings,
            answer=finished.answer,
            sound=join(sounds) if sounds else None,
            stages_ms=finished.stages_ms,
        )
