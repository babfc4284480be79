"""`/v1/voxsight/transcriptions`: words with their times as they are found (an extension)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Request, Response, UploadFile
from pydantic import BeforeValidator, Field

from assistant.server.door import Caller, caller
from assistant.server.engine import Engine
from assistant.server.errors import ApiError, error_responses
from assistant.server.http.streaming import PacedResponse, event_stream, steps
from assistant.server.http.transcripts import WordTime
from assistant.server.http.wire import Reply, Strict
from assistant.server.media import MediaRules, read_upload_sound
from assistant.server.state import state_of
from audio.asr_types import RecogniseOptions, Segment, Transcript
from audio.errors import AudioError
from audio.pcm import Sound
from audio.subtitles import to_srt, to_vtt

router = APIRouter(tags=["audio"])


class TimedForm(Strict):
    """A recording, and its language."""

    file: UploadFile = Field(description="WAV, FLAC, MP3, Ogg, Opus, M4A, MP4, WebM, AAC or AIFF.")
    language: Annotated[str | None, BeforeValidator(lambda value: value or None)] = Field(
        None, description="Such as 'en'; found out if it is left out."
    )


class TimedBegun(Reply):
    """The recording was read."""

    type: Literal["voxsight.transcript.begun"] = "voxsight.transcript.begun"
    duration: float


class TimedSegment(Reply):
    """A stretch of speech; all before its `end` is done. Times in s."""

    type: Literal["voxsight.transcript.segment"] = "voxsight.transcript.segment"
    start: float
    end: float
    text: str
    words: tuple[WordTime, ...]


class TimedDone(Reply):
    """All of it, and as subtitles."""

    type: Literal["voxsight.transcript.done"] = "voxsight.transcript.done"
    text: str
    language: str
    srt: str
    vtt: str


@router.post(
    "/v1/voxsight/transcriptions",
    summary="Write down a recording, word by word",
    response_class=Response,
    responses={
        200: {"description": "Stretches, as events.", "content": {"text/event-stream": {}}},
        **error_responses(),
    },
)
async def create_timed_transcription(
    request: Request,
    form: Annotated[TimedForm, Form(media_type="multipart/form-data")],
    who: Annotated[Caller, Depends(caller)],
) -> Response:
    """Extension: what `/v1/audio/transcriptions` gives only at the end, sent as it is found."""
    state = state_of(request)
    engine = state.engine
    options = RecogniseOptions(language=form.language, words=True)
    try:
        engine.models.recogniser.check(options)
    except AudioError as error:
        message = str(error)
        raise ApiError(400, message[:1].upper() + message[1:], param="language") from None
    who.spend(requests=1)
    sound = await read_upload_sound(form.file, MediaRules.of(state.config, engine.models.settings))
    who.spend(audio_s=sound.duration_s)
    events = _events(engine, sound, options)
    return PacedResponse(event_stream(events, state.metrics), state, "text/event-stream")


async def _events(
    engine: Engine, sound: Sound, options: RecogniseOptions
) -> AsyncGenerator[TimedBegun | TimedSegment | TimedDone]:
    yield TimedBegun(type="voxsight.transcript.begun", duration=round(sound.duration_s, 3))
    worker, found = engine.workers.listen, list[Segment]()
    recognition = await worker.run(lambda: engine.models.recogniser.segments(sound, options))
    async with aclosing(steps(worker, lambda: recognition)) as segments:
        async for segment in segments:
            found.append(segment)
            yield _segment(segment)
    whole = Transcript(
        text=" ".join(segment.text for segment in found),
        language=recognition.language,
        language_probability=recognition.language_probability,
        duration_s=sound.duration_s,
        segments=tuple(found),
    )
    yield TimedDone(
        type="voxsight.transcript.done",
        text=whole.text,
        language=whole.language,
        srt=to_srt(whole),
        vtt=to_vtt(whole),
    )


def _segment(segment: Segment) -> TimedSegment:
    words = tuple(
        WordTime(word=word.text.strip(), start=round(word.start, 3), end=round(word.end, 3))
        for word in segment.words
    )
    return TimedSegment(
        type="voxsight.transcript.segment",
        start=round(segment.start, 3),
        end=round(segment.end, 3),
        text=segment.text,
        words=words,
    )
