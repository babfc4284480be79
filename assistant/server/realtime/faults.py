"""What a client is told of something that went wrong."""

from assistant.server.errors import ApiError, as_api_error
from assistant.server.realtime.events_out import ErrorEvent
from assistant.server.realtime.payloads import ErrorDetails
from assistant.server.realtime.response import Failed
from assistant.server.realtime.wire import WireError


def error_event(error: Exception, event_id: str | None) -> ErrorEvent:
    """The `error` event for an event of the client that could not be taken."""
    if isinstance(error, WireError):
        error.event_id = event_id
        return ErrorEvent.of(error)
    told = as_api_error(error)
    details = ErrorDetails(
        type=_kind(told), code=told.code, message=told.message, param=told.param, event_id=event_id
    )
    return ErrorEvent(error=details)


def failure(error: Exception) -> Failed:
    """Why a response failed."""
    if isinstance(error, WireError):
        return Failed(error.code, error.message, error.type)
    told = as_api_error(error)
    return Failed(told.code or "server_error", told.message, "server_error")


def _kind(error: ApiError) -> str:
    return "rate_limit_error" if error.status == 429 else error.type
