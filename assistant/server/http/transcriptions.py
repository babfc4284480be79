"""`/v1/audio/transcriptions`: a recording in, its words out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response

from assistant.server.door import Caller, caller
from assistant.server.errors import ApiError
from assistant.server.http.recordings import (
    RESPONSES,
    TranscriptionForm,
    answer,
    recognise_options,
)
from assistant.server.state import state_of

router = APIRouter()


@router.post(
    "/v1/audio/transcriptions",
    summary="Write down a recording",
    response_class=Response,
    responses=RESPONSES,
)
async def create_transcription(
    request: Request,
    form: Annotated[TranscriptionForm, Form(media_type="multipart/form-data")],
    who: Annotated[Caller, Depends(caller)],
) -> Response:
    """Streamed (`stream`), each piece goes out when its stretch of the recording is recognised."""
    # The SDK flattens the object of chunking_strategy into fields of this form.
    named = (form.model_extra or {}).keys()
    form.refuse_others(harmless=[key for key in named if key.startswith("chunking_strategy[")])
    words = "word" in form.timestamp_granularities
    if form.timestamp_granularities and form.response_format != "verbose_json":
        raise ApiError(
            400,
            "Times are only in verbose_json; choose that response_format, or leave out "
            "timestamp_granularities.",
            param="timestamp_granularities",
        )
    if form.stream and form.response_format not in ("json", "text"):
        raise ApiError(
            400,
            f"A stream is of text, not of {form.response_format}; leave out response_format.",
            param="response_format",
        )
    return await answer(
        state_of(request),
        who,
        form,
        recognise_options(form, language=form.language, words=words),
        times=form.timestamp_granularities,
        stream=form.stream,
    )
