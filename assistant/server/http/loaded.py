"""`/v1/voxsight/models`: what is loaded, what it takes, and its exchange (an extension)."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from assistant.server.door import Caller, caller
from assistant.server.errors import ApiError, error_responses
from assistant.server.exchange import ROLES, Exchange
from assistant.server.http.names import served
from assistant.server.http.streaming import PacedResponse, event_stream
from assistant.server.http.wire import Reply, Strict
from assistant.server.metrics import resident_bytes
from assistant.server.state import ServerState, state_of

router = APIRouter(tags=["models"])
#: So often the progress of an exchange is looked at.
_LOOK_S = 0.2


class Choice(Reply):
    """A model of the catalogue."""

    name: str
    summary: str
    licence: str
    bytes: int = Field(description="Size of its files.")
    state: Literal["ready", "incomplete", "absent", "damaged", "unverified"] = Field(
        description="What the store holds of it; all but `ready` and `unverified` are fetched "
        "when chosen."
    )


class RoleReply(Reply):
    """What one kind of model is set to, and what else there is."""

    role: str
    task: str
    loaded: str
    choices: tuple[Choice, ...]


class DeviceMemory(Reply):
    """Memory of an accelerator."""

    name: str
    used_bytes: int
    total_bytes: int


class MemoryReply(Reply):
    """What the server's process takes, of what the machine has."""

    process_bytes: int
    machine_bytes: int
    devices: tuple[DeviceMemory, ...]


class SessionsReply(Reply):
    """Realtime sessions."""

    running: int
    limit: int


class Loaded(Reply):
    """All that a page needs to know of a server's models."""

    object: Literal["voxsight.models"] = "voxsight.models"
    roles: tuple[RoleReply, ...]
    names: dict[str, str] = Field(description="What clients call the models, by their roles.")
    voices: tuple[str, ...]
    languages: tuple[str, ...] = Field(description="That the recogniser knows.")
    instructions: str = Field(description="The system prompt of a session that sets none.")
    memory: MemoryReply
    sessions: SessionsReply
    exchange: str | None = Field(description="Why models cannot be exchanged; null if they can.")


class ExchangeRequest(Strict):
    """The models to change to, by names of the catalogue."""

    recogniser: str | None = None
    language_model: str | None = None
    voice: str | None = None
    image_encoder: str | None = None


class ExchangeProgress(Reply):
    """How far it is; `total` is 0 while there is nothing to count."""

    type: Literal["voxsight.models.progress"] = "voxsight.models.progress"
    stage: str
    model: str
    done: int
    total: int


class ExchangeDone(Reply):
    """New sessions get the new models."""

    type: Literal["voxsight.models.done"] = "voxsight.models.done"


@router.get(
    "/v1/voxsight/models",
    summary="What is loaded",
    responses=error_responses(401, 403, 429, 503),
)
async def loaded(request: Request, who: Annotated[Caller, Depends(caller)]) -> Loaded:
    """Extension: the models of every role, their memory, and what else there is to change to."""
    who.spend(requests=1)
    state = state_of(request)
    models = state.engine.models
    names = {str(model.role): model.id for model in served(models.settings)}
    return Loaded(
        object="voxsight.models",
        roles=await asyncio.to_thread(_roles, state),
        names=names,
        voices=(names["voice"],),
        languages=tuple(models.recogniser.languages),
        instructions=models.prompts.system,
        memory=_memory(),
        sessions=SessionsReply(
            running=state.admission.sessions, limit=state.admission.session_limit
        ),
        exchange=_why_not(who),
    )


@router.post(
    "/v1/voxsight/models",
    summary="Exchange models",
    response_class=Response,
    responses={
        200: {"description": "Progress, as events.", "content": {"text/event-stream": {}}},
        **error_responses(400, 401, 403, 429, 503),
    },
)
async def exchange(
    request: Request, body: ExchangeRequest, who: Annotated[Caller, Depends(caller)]
) -> Response:
    """Extension: load other models for all sessions to come; sessions that run keep theirs.

    Only a client on the server's own machine may, and one at a time.
    """
    who.spend(requests=1)
    state = state_of(request)
    if (reason := _why_not(who)) is not None:
        raise ApiError(403, reason, type="permission_error", code="exchange_not_allowed")
    chosen = _checked(body, state)
    exchanging: Exchange = request.app.state.exchange
    task = exchanging.start(chosen)
    events = event_stream(_progress(exchanging, task), state.metrics)
    return PacedResponse(events, state, "text/event-stream")


async def _progress(
    exchanging: Exchange, task: "asyncio.Task[None]"
) -> AsyncGenerator[ExchangeProgress | ExchangeDone]:
    told = None
    while not task.done():
        if (step := exchanging.step) != told:
            told = step
            yield ExchangeProgress(
                type="voxsight.models.progress",
                stage=step.stage,
                model=step.model,
                done=step.done,
                total=step.total,
            )
        await asyncio.wait([task], timeout=_LOOK_S)
    task.result()  # a fault becomes the last event
    yield ExchangeDone(type="voxsight.models.done")


def _why_not(who: Caller) -> str | None:
    if who.key_id is None:
        return None
    return (
        "The models of a server that others use, too, are chosen by its operator; set "
        "VOXSIGHT_RECOGNISER, VOXSIGHT_LANGUAGE_MODEL or VOXSIGHT_VOICE and start it again."
    )


def _checked(body: ExchangeRequest, state: ServerState) -> dict[str, str]:
    """What is to change; ApiError 400 for what the catalogue does not have for that role."""
    models = state.engine.models
    wanted = body.model_dump(exclude_none=True)
    for role, name in wanted.items():
        known = [spec.name for spec in models.store.catalogue.values() if spec.task == ROLES[role]]
        if name not in known:
            raise ApiError(
                400,
                f"There is no {ROLES[role]} model '{name[:100]}' in the catalogue; choose "
                f"{', '.join(known)}.",
                param=role,
                code="model_not_found",
            )
    settings = models.settings
    chosen = {role: name for role, name in wanted.items() if getattr(settings, role) != name}
    if not chosen:
        raise ApiError(400, "These models are loaded already; name another.", code="no_change")
    return chosen


def _roles(state: ServerState) -> tuple[RoleReply, ...]:
    models = state.engine.models
    found = []
    for role, task in ROLES.items():
        choices = tuple(
            Choice(
                name=spec.name,
                summary=spec.summary,
                licence=spec.licence,
                bytes=spec.size,
                state=models.store.state(spec.name).value,
            )
            for spec in models.store.catalogue.values()
            if spec.task == task
        )
        name = getattr(models.settings, role)
        found.append(RoleReply(role=role, task=task, loaded=name, choices=choices))
    return tuple(found)


def _memory() -> MemoryReply:
    machine = 0
    with suppress(ValueError, OSError, AttributeError):  # not every system tells
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return MemoryReply(
        process_bytes=int(resident_bytes()), machine_bytes=machine, devices=tuple(_devices())
    )


def _devices() -> list[DeviceMemory]:
    torch = sys.modules.get("torch")  # it is there if a model uses it
    if torch is None or not torch.cuda.is_available():
        return []
    devices = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        devices.append(DeviceMemory(name=name, used_bytes=total - free, total_bytes=total))
    return devices
