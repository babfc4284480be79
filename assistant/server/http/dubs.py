"""`/v1/voxsight/dubs`: films dubbed into another language (an extension)."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import IO, Annotated, Literal

import av
from fastapi import APIRouter, Depends, Form, Request, Response, UploadFile
from pydantic import Field
from starlette.responses import FileResponse

from assistant.server.bodies import DUBS
from assistant.server.door import Caller, caller
from assistant.server.dubs import STAGES, Dub, Dubs, Made, Phase, Step
from assistant.server.errors import ApiError, error_responses
from assistant.server.http.streaming import PacedResponse, event_stream
from assistant.server.http.wire import Reply, Strict
from assistant.server.state import state_of

router = APIRouter(tags=["audio"])
#: So often the progress of a job is looked at.
_LOOK_S = 0.2
_BLOCK = 1 << 20
#: What a dub can be written as. Not every system knows the types of all.
_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".m4a": "audio/mp4",
    ".mka": "audio/x-matroska",
    ".wav": "audio/wav",
}


class DubForm(Strict):
    """A film, and what to make of it."""

    file: UploadFile = Field(description="A film or a recording with speech: MP4, WebM, MKV, WAV.")
    to: Literal["en"] = Field("en", description="The language to dub into.")


StageState = Literal["waiting", "running", "done", "stopped"]


class StageReply(Reply):
    """How far one stage is; `total` is 0 where nothing is counted."""

    stage: str
    state: StageState
    done: int
    total: int


class DubReply(Reply):
    """A job; `before` are those that come first while it waits."""

    object: Literal["voxsight.dub"] = "voxsight.dub"
    id: str
    state: Phase
    to: str
    before: int
    stages: tuple[StageReply, ...]
    error: str | None = Field(description="Why it failed, in a sentence.")


async def dubs_of(request: Request) -> Dubs:
    """The jobs of the server: a dependency of routes."""
    dubs: Dubs = request.app.state.dubs
    return dubs


async def dub_of(
    dub_id: str,
    who: Annotated[Caller, Depends(caller)],
    dubs: Annotated[Dubs, Depends(dubs_of)],
) -> Dub:
    """The job that a path names, if it is the caller's."""
    return dubs.find(dub_id, who.key_id)


_Jobs = Annotated[Dubs, Depends(dubs_of)]
_Job = Annotated[Dub, Depends(dub_of)]
_FAULTS = error_responses(401, 403, 404)


@router.post(
    DUBS,
    summary="Dub a film",
    status_code=202,
    responses=error_responses(400, 401, 403, 413, 429, 503),
)
async def begin(
    request: Request,
    form: Annotated[DubForm, Form(media_type="multipart/form-data")],
    who: Annotated[Caller, Depends(caller)],
    dubs: _Jobs,
) -> DubReply:
    """Extension: a job that goes on by itself; `GET` of its id tells how far it is."""
    who.spend(requests=1)
    dub = dubs.place(who.key_id, form.to, _suffix(form.file.filename))
    try:
        with dub.source.open("wb") as file:
            await _copy(form.file, file, state_of(request).config.max_film_bytes)
        length_s = await asyncio.to_thread(_length_s, dub.source)
        _check_length(length_s, state_of(request).config.max_audio_s)
        who.spend(audio_s=length_s)
    except BaseException:
        dubs.drop(dub)
        raise
    dubs.begin(dub)
    return _reply(dub, dubs)


@router.get(DUBS + "/{dub_id}", summary="How far a dub is", responses=_FAULTS)
async def look(dub: _Job, dubs: _Jobs) -> DubReply:
    """Extension: the job as it is now."""
    return _reply(dub, dubs)


@router.get(
    DUBS + "/{dub_id}/events",
    summary="Follow a dub",
    response_class=Response,
    responses={
        200: {"description": "The job, again and again.", "content": {"text/event-stream": {}}},
        **_FAULTS,
    },
)
async def follow(request: Request, dub: _Job, dubs: _Jobs) -> Response:
    """Extension: the job as events, whenever something changes, until it is over."""
    state = state_of(request)
    events = event_stream(_changes(dub, dubs), state.metrics)
    return PacedResponse(events, state, "text/event-stream")


@router.delete(DUBS + "/{dub_id}", summary="Cancel a dub, or remove it", responses=_FAULTS)
async def cancel(dub: _Job, dubs: _Jobs) -> DubReply:
    """Extension: a job that runs ends with its present step; the files of one that is over go."""
    dubs.drop(dub)
    return _reply(dub, dubs)


@router.get(DUBS + "/{dub_id}/video", response_class=FileResponse, responses=_FAULTS)
async def film(dub: _Job) -> FileResponse:
    """Extension: the dubbed film, or recording; ranges of it can be asked for."""
    path = _made(dub).film
    return _file(path, _TYPES.get(path.suffix, "application/octet-stream"))


@router.get(DUBS + "/{dub_id}/captions", response_class=FileResponse, responses=_FAULTS)
async def captions(dub: _Job) -> FileResponse:
    """Extension: what the dub says, as WebVTT."""
    return _file(_made(dub).captions, "text/vtt")


@router.get(DUBS + "/{dub_id}/report", response_class=FileResponse, responses=_FAULTS)
async def report(dub: _Job) -> FileResponse:
    """Extension: how well each line fits, as JSON."""
    return _file(_made(dub).report, "application/json")


@router.get(DUBS + "/{dub_id}/picture", response_class=FileResponse, responses=_FAULTS)
async def picture(dub: _Job) -> FileResponse:
    """Extension: the lines of original and dub on one time line, as PNG."""
    return _file(_made(dub).picture, "image/png")


def _suffix(name: str | None) -> str:
    """The ending of a film's name, if it is one that is known."""
    suffix = Path(name or "").suffix.lower()
    return suffix if suffix in _TYPES else ""


async def _copy(upload: UploadFile, file: IO[bytes], limit: int) -> None:
    size = 0
    while block := await upload.read(_BLOCK):
        size += len(block)
        if size > limit:
            raise ApiError(
                413,
                f"Expected a film of at most {limit} bytes, but it is larger; send less of it.",
                param="file",
                code="file_too_large",
            )
        await asyncio.to_thread(file.write, block)


def _length_s(path: Path) -> float:
    """How long the sound lasts as the file says, in s; ApiError 400 if nothing can be dubbed."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise _unfit("it has no sound")
            stream = container.streams.audio[0]
            if container.duration is not None:
                return float(container.duration / av.time_base)
            if stream.duration is not None and stream.time_base is not None:
                return float(stream.duration * stream.time_base)
            return 0.0  # what is cut off, or came live, does not say it
    except (av.FFmpegError, OSError, ValueError):
        raise _unfit("it cannot be read as either") from None


def _unfit(why: str) -> ApiError:
    return ApiError(
        400,
        f"Expected a film or a recording with speech, but {why}; send another file.",
        param="file",
        code="invalid_media",
    )


def _check_length(length_s: float, limit_s: float) -> None:
    if length_s > limit_s:
        raise ApiError(
            400,
            f"Expected a film of at most {limit_s:g} s, got {length_s:.0f} s; cut it into parts.",
            param="file",
            code="film_too_long",
        )


async def _changes(dub: Dub, dubs: Dubs) -> AsyncGenerator[DubReply]:
    told = None
    while True:
        over, now = dub.over, _reply(dub, dubs)
        if now != told:
            yield now
            told = now
        if over:
            return
        await asyncio.sleep(_LOOK_S)


def _reply(dub: Dub, dubs: Dubs) -> DubReply:
    return DubReply(
        object="voxsight.dub",
        id=dub.id,
        state=dub.phase,
        to=dub.language,
        before=dubs.before(dub),
        stages=tuple(_stages(dub)),
        error=dub.error,
    )


def _stages(dub: Dub) -> Iterator[StageReply]:
    begun = dub.steps
    last = max((STAGES.index(name) for name in begun), default=-1)
    for place, name in enumerate(STAGES):
        state: StageState = "waiting"
        if dub.phase == "done" or place < last:
            state = "done"
        elif place == last:
            state = "stopped" if dub.over else "running"
        step = begun.get(name, Step(name))
        yield StageReply(stage=name, state=state, done=step.done, total=step.total)


def _made(dub: Dub) -> Made:
    if dub.made is None:
        raise ApiError(
            404,
            f"The dub is not done: it is {dub.phase}; ask for its events to follow it.",
            code="dub_not_done",
        )
    return dub.made


def _file(path: Path, media_type: str) -> FileResponse:
    return FileResponse(
        path, media_type=media_type, filename=path.name, content_disposition_type="inline"
    )
