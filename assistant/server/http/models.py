"""`/v1/models`: what the server runs."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request

from assistant.server.door import Caller, caller
from assistant.server.errors import error_responses
from assistant.server.http.names import Served, find_model, served
from assistant.server.http.wire import Reply
from assistant.server.state import state_of

router = APIRouter()
_ERRORS = error_responses(401, 403, 404, 429, 503)


class Model(Reply):
    """One model; `owned_by` tells what it is for."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str

    @classmethod
    def of(cls, model: Served) -> "Model":
        """As clients see it. Nobody knows when the weights were made, so `created` is 0."""
        return cls(id=model.id, owned_by=f"voxsight: {model.role}")


class ModelList(Reply):
    """All models."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]


@router.get("/v1/models", summary="The models that are served", responses=_ERRORS)
async def list_models(request: Request, who: Annotated[Caller, Depends(caller)]) -> ModelList:
    """Recogniser, voice and language model; some names of OpenAI's models stand for them, too."""
    who.spend(requests=1)
    settings = state_of(request).engine.models.settings
    return ModelList(data=tuple(Model.of(model) for model in served(settings)))


@router.get("/v1/models/{model:path}", summary="One model", responses=_ERRORS)
async def get_model(request: Request, model: str, who: Annotated[Caller, Depends(caller)]) -> Model:
    """The model of that name, or the one that an alias stands for."""
    who.spend(requests=1)
    return Model.of(find_model(model, state_of(request).engine.models.settings))
