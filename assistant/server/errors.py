"""Errors as clients of the API see them: an HTTP status and OpenAI's body."""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketState

from assistant.errors import USER_ERRORS, VoxsightError

_log = logging.getLogger(__name__)
#: A close frame holds 125 bytes, two of them the code (RFC 6455, section 5.5).
_LONGEST_REASON = 123
_ERROR = "voxsight.error"
_TRY_LATER, _POLICY, _INTERNAL = 1013, 1008, 1011
#: Of the codes that applications may choose (RFC 6455, section 7.4.2): this and the status.
_REFUSED = 4000
#: Pages of others learn nothing of the server.
_NOT_FOR_PAGES = frozenset(("host_not_allowed", "origin_not_allowed"))


class ApiError(VoxsightError):
    """A refusal, or a fault, with all that the client is told.

    Args:
        status: HTTP status.
        message: one sentence: what was expected, what came, what to do.
        type: OpenAI's kind of error, such as ``invalid_request_error`` or ``server_error``.
        code: a short name for programs.
        param: the field of the request that is wrong.
        headers: of the response, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.type, self.code, self.param = type, code, param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's error body."""
        fields = {"message": self.message, "type": self.type, "param": self.param}
        return {"error": fields | {"code": self.code}}


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of ``error``; of one that nobody foresaw, an id and no inner detail."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, USER_ERRORS):
        return ApiError(400, str(error))
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        return ApiError(error.status_code, _sentence(error), headers=headers)
    fault = f"fault_{uuid4().hex[:16]}"
    _log.error("unforeseen fault", exc_info=error, extra={"fault_id": fault})
    return ApiError(
        500,
        f"The server failed to do this; try again, and tell its operator the id {fault}.",
        type="server_error",
        code=fault,
    )


def _invalid(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    # The first part of the place says body, query or path; the rest is the field.
    where = ".".join(str(part) for part in first["loc"][1:]) or None
    message = str(first["msg"])
    return ApiError(
        400,
        f"Expected a valid value of '{where}': {message}." if where else f"{message}.",
        param=where,
        code=str(first["type"]),
    )


def _sentence(error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "There is nothing at this address; /docs lists what there is."
        case 405:
            return "This address does not take this method; /docs lists what there is."
    return str(error.detail)


async def answer_error(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    """The HTTP response that tells of ``error``; a WebSocket is told by itself."""
    told = as_api_error(error)
    connection.scope[_ERROR] = told.type if told.status >= 500 else told.code or told.type
    if isinstance(connection, WebSocket):
        await _refuse(connection, told)
        return None
    return JSONResponse(told.body(), told.status, told.headers)


def kind_of_error(scope: Scope) -> str | None:
    """What a connection was told had gone wrong, by a name of which there are few."""
    kind: str | None = scope.get(_ERROR)
    return kind


async def _refuse(websocket: WebSocket, told: ApiError) -> None:
    """Tell a WebSocket by the status of its handshake or a close code.

    A page's script is told nothing of a handshake that failed. So a page that may call is let in
    and told by the close frame: 4000 and the status, such as 4401 for a wrong key. A server that
    cannot now closes with 1013, whoever asks.
    """
    code, waiting = close_code(told.status), WebSocketState.CONNECTING
    if websocket.application_state is waiting and told.status != 503:
        if "origin" not in websocket.headers or told.code in _NOT_FOR_PAGES:
            body = JSONResponse(told.body(), told.status, told.headers)
            await websocket.send_denial_response(body)
            return
        code = _REFUSED + told.status
    if websocket.application_state is waiting:
        await websocket.accept(subprotocol=offered_subprotocol(websocket))
    if websocket.application_state is WebSocketState.CONNECTED:
        await websocket.close(code, short_reason(told.message))


def offered_subprotocol(connection: HTTPConnection) -> str | None:
    """The subprotocol to answer with: "realtime" if the client offered it."""
    return "realtime" if "realtime" in connection.scope.get("subprotocols", ()) else None


def close_code(status: int) -> int:
    """The close code of a WebSocket for an HTTP status."""
    if status in (429, 503):
        return _TRY_LATER
    return _INTERNAL if status >= 500 else _POLICY


def short_reason(message: str) -> str:
    """As much of ``message`` as a close frame can hold."""
    return message.encode()[:_LONGEST_REASON].decode(errors="ignore")


def add_error_handlers(app: FastAPI) -> None:
    """Let ``app`` answer every error with OpenAI's body."""
    for kind in (*USER_ERRORS, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer_error)  # type: ignore[arg-type]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="One sentence: what was expected, what came, what to do.")
    type: str
    param: str | None = Field(description="The field of the request that is wrong.")
    code: str | None = Field(description="A short name, for programs.")


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorDetail


_MEANINGS = {
    400: "The request is not valid.",
    401: "The key is missing, unknown or revoked.",
    403: "The Host or the Origin of the request is not allowed.",
    404: "There is no such thing.",
    408: "The body of the request did not come.",
    413: "The body is larger than allowed.",
    415: "This kind of file is not supported.",
    429: "A limit of the key is used up; Retry-After says when to come back.",
    500: "The server failed; the code is an id for its operator.",
    503: "The server is full, loading or shutting down; Retry-After says when to come back.",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declares the error responses of a route, for the API's page; all that are usual if none."""
    return {
        status: {"model": ErrorBody, "description": _MEANINGS[status]}
        for status in statuses or _MEANINGS
    }
