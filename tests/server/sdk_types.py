"""Validates what a server sends by the openai SDK's own types, strictly."""

import json
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

T = TypeVar("T")


def checked(kind: type[T] | Any, text: str | bytes, *, beside: Collection[str] = ()) -> Any:
    """`text` as the SDK's type `kind`; every field is known to it, but those in `beside`."""
    value = TypeAdapter(kind).validate_json(text, strict=True)
    assert not _unknown(value) - set(beside)
    return value


def _unknown(value: Any) -> set[str]:
    """Names of fields, at any depth, that the types do not know."""
    if isinstance(value, BaseModel):
        names = set(value.model_extra or {})
        return names.union(*(_unknown(getattr(value, name)) for name in type(value).model_fields))
    if isinstance(value, list | tuple):
        return set().union(*map(_unknown, value))
    return set()


def events(text: str) -> Iterator[str]:
    """The data of a stream's events; the stream must be whole."""
    lines = [line for line in text.split("\n\n") if line]
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    assert lines[-1] == "data: [DONE]"
    yield from (line.removeprefix("data: ") for line in lines[:-1])


def error(response: Any, status: int, *, param: str | None = None, code: str | None = None) -> str:
    """The sentence of an error in OpenAI's shape."""
    assert response.status_code == status, response.text
    body = json.loads(response.text)["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert param is None or body["param"] == param, body
    assert code is None or body["code"] == code, body
    assert "\n" not in body["message"]
    return str(body["message"])
