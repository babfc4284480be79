"""What all wire models share: strictness, ids, and errors that name the field."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from assistant.errors import VoxsightError

T = TypeVar("T")

#: Several of something: a JSON array on the wire, a tuple here.
Many = Annotated[tuple[T, ...], Strict(False)]

IdKind = Literal["event", "item", "resp", "call", "sess", "conv"]

#: Where pydantic speaks of Python; all of these are values of a wrong type.
_PLAIN = {
    "string_type": "it should be a string",
    "int_type": "it should be a whole number",
    "int_from_float": "it should be a whole number",
    "float_type": "it should be a number",
    "bool_type": "it should be true or false",
    "dict_type": "it should be a JSON object",
    "model_type": "it should be a JSON object",
    "model_attributes_type": "it should be a JSON object",
    "tuple_type": "it should be a JSON array",
    "finite_number": "it should be a finite number",
}
_ABSENT = object()
_SHOWN = 60  # characters of a refused value that an error repeats


class Wire(BaseModel):
    """A strict JSON object: no unknown keys, no guessed types; frozen, so copied to be changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Event(Wire):
    """What the server sends; it has its ``event_id`` from the moment it is made."""

    event_id: str = Field(default_factory=lambda: new_id("event"))


class WireError(VoxsightError):
    """A client event that cannot be taken; the session goes on.

    Attributes are those of the ``error`` event: ``code`` and ``param`` (the field's path) say what
    is wrong, ``event_id`` is the offending event's own id if it had one.
    """

    def __init__(
        self,
        message: str,
        code: str = "invalid_value",
        param: str | None = None,
        event_id: str | None = None,
        *,
        type: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.message, self.code, self.param, self.event_id = message, code, param, event_id
        self.type = type


def new_id(kind: IdKind) -> str:
    """A fresh id with the prefix of its kind, at most 30 characters: ``item_5f0c...``."""
    return f"{kind}_{secrets.token_hex(12)}"


def checked(adapter: TypeAdapter[T], data: object, inside: str = "") -> T:
    """The parsed JSON ``data`` as what the adapter describes.

    Raises WireError, with one sentence about the first thing that is wrong; ``inside`` is the path
    of ``data`` within its event.
    """
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _refusal(first, ".".join([*filter(None, [inside]), *_path(first, data)])) from None


def _refusal(error: ErrorDetails, path: str) -> WireError:
    kind, where = error["type"], f"'{path}'" if path else "the event"
    match kind:
        case "extra_forbidden":
            return WireError(
                f"Unknown parameter: {where}. Leave it out.", "unknown_parameter", path
            )
        case "missing" | "union_tag_not_found":
            if kind != "missing":
                tag = error["ctx"]["discriminator"].strip("'")
                path = f"{path}.{tag}" if path else tag
            return WireError(
                f"Missing required parameter: '{path}'. Add it.", "missing_required_parameter", path
            )
        case "union_tag_invalid":
            tag = error["ctx"]["discriminator"].strip("'")
            path = f"{path}.{tag}" if path else tag
            message = f"one of {error['ctx']['expected_tags']}, got '{error['ctx']['tag']}'"
            return WireError(
                f"Invalid value for '{path}': expected {_short(message, 600)}.", param=path
            )
        case "refused":
            return WireError(f"Invalid value for {where}: {error['msg']}", param=path or None)
    message = _PLAIN.get(kind) or error["msg"].replace("Input should", "it should", 1)
    code = "invalid_type" if kind in _PLAIN else "invalid_value"
    return WireError(
        f"Invalid value for {where}: {message}, got {_short(repr(error['input']))}.",
        code,
        path or None,
    )


def _path(error: ErrorDetails, data: object) -> Iterator[str]:
    """The keys and indices that lead to the fault; pydantic's own names of unions left out."""
    loc = error["loc"]
    for part in loc:
        inner = _entry(data, part)
        if inner is not _ABSENT:
            yield str(part)
            data = inner
        elif part is loc[-1] and error["type"] == "missing":
            yield str(part)


def _entry(data: Any, part: int | str) -> Any:
    if isinstance(data, Mapping):
        return data.get(part, _ABSENT)
    if isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
        return data[part]
    return _ABSENT


def _short(text: str, length: int = _SHOWN) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
