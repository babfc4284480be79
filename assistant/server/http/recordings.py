"""The forms of `/v1/audio/transcriptions` and `/translations`, and how they are answered."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from fastapi import Response, UploadFile
from pydantic import BeforeValidator, Field
from starlette.responses import JSONResponse

from assistant.server.door import Caller
from assistant.server.errors import ApiError, ErrorBody, error_responses
from assistant.server.http.names import Role, require_model
from assistant.server.http.streaming import PacedResponse, begun, event_stream
from assistant.server.http.transcripts import (
    PLAIN,
    Hearing,
    TextForm,
    TextReply,
    VerboseReply,
    brief,
    plain,
    verbose,
)
from assistant.server.http.wire import Options, Reply
from assistant.server.media import MediaRules, read_upload_sound
from assistant.server.state import ServerState
from audio.asr_types import RecogniseOptions
from audio.errors import AudioError

_AUTOMATIC = RecogniseOptions().temperatures
# An empty field of a form is one that was not filled in.
_Language = Annotated[str | None, BeforeValidator(lambda value: value or None)]
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The text, in the form that was asked for.",
        "content": {
            "application/json": {},
            "text/plain": {},
            "application/x-subrip": {},
            "text/vtt": {},
            "text/event-stream": {},
        },
    },
    **error_responses(),
}
REPLIES = TextReply | VerboseReply | ErrorBody


class TranslationForm(Options):
    """What both forms have."""

    file: UploadFile = Field(description="WAV, FLAC, MP3, Ogg, Opus, M4A, MP4, WebM, AAC or AIFF.")
    model: str = Field(description="The recogniser's name, or whisper-1.")
    prompt: str | None = Field(None, description="Words to expect, such as names.")
    response_format: TextForm = "json"
    temperature: float = Field(0.0, ge=0.0, le=1.0, description="0 rises by itself if it must.")


class TranscriptionForm(TranslationForm):
    """What can be chosen for a transcript."""

    language: _Language = Field(None, description="Such as 'en'; found out if it is left out.")
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default_factory=list,
        alias="timestamp_granularities[]",
        description="For verbose_json: times of words, of segments (the default), or both.",
    )
    stream: bool = False
    chunking_strategy: Literal["auto", "server_vad"] | None = Field(
        None, description="Taken and not needed: recordings of any length are cut by themselves."
    )


async def answer(
    state: ServerState,
    who: Caller,
    form: TranslationForm,
    options: RecogniseOptions,
    *,
    times: Collection[str] = (),
    stream: bool = False,
) -> Response:
    """Recognise the form's file; what is wrong with the form is told before the file is read."""
    engine = state.engine
    require_model(form.model, Role.RECOGNISER, engine.models.settings)
    _check(engine.models.recogniser, options)
    if form.prompt is not None and len(form.prompt) > state.config.max_text_chars:
        raise ApiError(
            400, "The prompt is too long; give only the words to expect.", param="prompt"
        )
    who.spend(requests=1)
    sound = await read_upload_sound(form.file, MediaRules.of(state.config, engine.models.settings))
    who.spend(audio_s=sound.duration_s)
    hearing = Hearing(engine, sound, options)
    if stream:
        with state.metrics.stage("first_transcript"):
            events = await begun(hearing.events())
        return PacedResponse(event_stream(events, state.metrics), state, "text/event-stream")
    with state.metrics.stage("transcribe"):
        transcript = await hearing.transcript()
    if form.response_format in PLAIN:
        text = plain(transcript, form.response_format)
        return Response(text, media_type=PLAIN[form.response_format])
    if form.response_format == "json":
        return _json(brief(transcript))
    return _json(await verbose(transcript, options, set(times) or {"segment"}))


def recognise_options(form: TranslationForm, **chosen: Any) -> RecogniseOptions:
    """The recogniser's options for a form."""
    temperatures = (form.temperature,) if form.temperature else _AUTOMATIC
    return RecogniseOptions(prompt=form.prompt or None, temperatures=temperatures, **chosen)


def _check(recogniser: Any, options: RecogniseOptions) -> None:
    if options.task == "translate" and not recogniser.multilingual:
        raise ApiError(
            400,
            "The model of this server knows only English and cannot translate; start the server "
            "with VOXSIGHT_RECOGNISER=whisper-base, or another multilingual model.",
            param="model",
            code="model_cannot_translate",
        )
    try:
        recogniser.check(options)
    except AudioError as error:
        message = str(error)
        raise ApiError(
            400, message[:1].upper() + message[1:], param="language", code="unknown_language"
        ) from None


def _json(reply: Reply) -> Response:
    return JSONResponse(reply.model_dump(exclude_unset=True))
