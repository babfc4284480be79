"""A recording on its way to words, and the words in the forms that clients ask for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import ceil
from typing import Any, Literal

from assistant.server.engine import Engine
from assistant.server.http.speech import SOUND_TOKENS_PER_S
from assistant.server.http.streaming import steps
from assistant.server.http.wire import Reply
from audio.asr import Recognition
from audio.asr_types import RecogniseOptions, Segment, Transcript
from audio.pcm import Sound
from audio.subtitles import to_srt, to_vtt

TextForm = Literal["json", "text", "srt", "verbose_json", "vtt"]
#: The forms that are no JSON, with their MIME types.
PLAIN = {
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


class DurationUsage(Reply):
    """How much sound was recognised."""

    type: Literal["duration"]
    seconds: float


class TokenUsage(Reply):
    """How much sound was recognised, 50 tokens a second, and tokens of the text."""

    type: Literal["tokens"]
    input_tokens: int
    output_tokens: int
    total_tokens: int


class TextReply(Reply):
    """The text alone."""

    text: str
    usage: DurationUsage


class WordTime(Reply):
    """A word and its times in s."""

    word: str
    start: float
    end: float


class SegmentReply(Reply):
    """A stretch of speech; times in s, `seek` in hundredths of a second."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class VerboseReply(Reply):
    """The text with its times."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    segments: tuple[SegmentReply, ...] | None = None
    words: tuple[WordTime, ...] | None = None
    usage: DurationUsage


class TextDelta(Reply):
    """More of the text."""

    type: Literal["transcript.text.delta"]
    delta: str


class TextDone(Reply):
    """The whole text."""

    type: Literal["transcript.text.done"]
    text: str
    usage: TokenUsage


class Hearing:
    """One recording, recognised window by window in the recogniser's thread."""

    def __init__(self, engine: Engine, sound: Sound, options: RecogniseOptions) -> None:
        self._engine, self._sound, self._options = engine, sound, options
        self._recognition: Recognition | None = None
        self._found: list[Segment] = []

    async def segments(self) -> AsyncGenerator[Segment]:
        """Segments as they are found."""
        recogniser, worker = self._engine.models.recogniser, self._engine.workers.listen
        recognition = self._recognition = await worker.run(
            lambda: recogniser.segments(self._sound, self._options)
        )
        async with aclosing(steps(worker, lambda: recognition)) as found:
            async for segment in found:
                self._found.append(segment)
                yield segment

    async def transcript(self) -> Transcript:
        """All of it: what `segments` gives, put together."""
        async for _ in self.segments():
            pass
        assert self._recognition is not None  # `segments` has made it
        return Transcript(
            text=" ".join(segment.text for segment in self._found),
            language=self._recognition.language,
            language_probability=self._recognition.language_probability,
            duration_s=self._sound.duration_s,
            segments=tuple(self._found),
        )

    async def events(self) -> AsyncGenerator[Reply]:
        """The text as events; the deltas joined are the text."""
        text = ""
        async with aclosing(self.segments()) as segments:
            async for segment in segments:
                delta = f" {segment.text}" if text else segment.text
                text += delta
                yield TextDelta(type="transcript.text.delta", delta=delta)
        heard = ceil(self._sound.duration_s * SOUND_TOKENS_PER_S)
        written = sum(len(segment.tokens) for segment in self._found)
        usage = TokenUsage(
            type="tokens",
            input_tokens=heard,
            output_tokens=written,
            total_tokens=heard + written,
        )
        yield TextDone(type="transcript.text.done", text=text, usage=usage)


def plain(transcript: Transcript, form: TextForm) -> str:
    """The transcript as text or subtitles."""
    match form:
        case "srt":
            return to_srt(transcript)
        case "vtt":
            return to_vtt(transcript)
        case _:
            return transcript.text + "\n"


def brief(transcript: Transcript) -> TextReply:
    """The transcript's text."""
    return TextReply(text=transcript.text, usage=_usage(transcript))


async def verbose(transcript: Transcript, options: RecogniseOptions, times: set[str]) -> Reply:
    """The transcript with the times of segments or words, or both."""
    shown: dict[str, Any] = {}
    if "segment" in times:
        segments = enumerate(transcript.segments)
        shown["segments"] = tuple(_segment(i, segment) for i, segment in segments)
    if "word" in times:
        words = (word for segment in transcript.segments for word in segment.words)
        shown["words"] = tuple(
            WordTime(word=w.text.strip(), start=round(w.start, 3), end=round(w.end, 3))
            for w in words
        )
    translated = options.task == "translate"
    return VerboseReply(
        task=options.task,
        language=await _language_name("en" if translated else transcript.language),
        duration=round(transcript.duration_s, 3),
        text=transcript.text,
        usage=_usage(transcript),
        **shown,
    )


def _usage(transcript: Transcript) -> DurationUsage:
    return DurationUsage(type="duration", seconds=round(transcript.duration_s, 3))


def _segment(number: int, segment: Segment) -> SegmentReply:
    return SegmentReply(
        id=number,
        seek=round(segment.start * 100),
        start=segment.start,
        end=segment.end,
        text=segment.text,
        tokens=segment.tokens,
        temperature=segment.temperature,
        avg_logprob=segment.avg_logprob,
        compression_ratio=segment.compression_ratio,
        no_speech_prob=segment.no_speech_prob,
    )


async def _language_name(code: str) -> str:
    """The English name that OpenAI's API gives a language, such as "english"."""
    if code == "en":
        return "english"

    def names() -> dict[str, str]:
        # Imported where it is needed: it takes a second.
        from transformers.models.whisper.tokenization_whisper import LANGUAGES

        known: dict[str, str] = LANGUAGES
        return known

    return (await asyncio.to_thread(names)).get(code, code)
