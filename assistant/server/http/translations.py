"""`/v1/audio/translations`: a recording in any language in, English words out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response

from assistant.server.door import Caller, caller
from assistant.server.http.recordings import RESPONSES, TranslationForm, answer, recognise_options
from assistant.server.state import state_of

router = APIRouter()


@router.post(
    "/v1/audio/translations",
    summary="Translate a recording into English",
    response_class=Response,
    responses=RESPONSES,
)
async def create_translation(
    request: Request,
    form: Annotated[TranslationForm, Form(media_type="multipart/form-data")],
    who: Annotated[Caller, Depends(caller)],
) -> Response:
    """Needs a multilingual recogniser, such as whisper-base; others answer with 400."""
    form.refuse_others()
    options = recognise_options(form, task="translate")
    return await answer(state_of(request), who, form, options)
