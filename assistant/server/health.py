"""What an operator asks: is it alive, does it take work, how is it doing."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from assistant.server.admission import unavailable
from assistant.server.errors import error_responses
from assistant.server.state import state_of

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="The process is alive")
async def healthz() -> dict[str, str]:
    """Answers as long as the process can."""
    return {"status": "alive"}


@router.get("/readyz", summary="Work is taken on", responses=error_responses(503))
async def readyz(request: Request) -> dict[str, str]:
    """Answers 200 when the models are loaded and the server is not shutting down, else 503."""
    state = state_of(request)
    if not state.ready:
        state.engine  # noqa: B018 - says that the models are being loaded
        raise unavailable(
            "The server is shutting down", "shutting_down", state.config.retry_after_s
        )
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses=error_responses(401, 403) | {200: {"content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    """Sessions, queues in bytes, time per stage, tokens, errors and memory."""
    return Response(state_of(request).metrics.page(), media_type=CONTENT_TYPE_LATEST)
