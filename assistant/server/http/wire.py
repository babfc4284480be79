"""What requests and responses have in common."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from assistant.server.errors import ApiError


class Strict(BaseModel):
    """A part of a request: what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(BaseModel):
    """The options of a request; those it does not know are kept for `refuse_others`."""

    model_config = ConfigDict(
        extra="allow", frozen=True, json_schema_extra={"additionalProperties": False}
    )

    def refuse_others(
        self, harmless: Collection[str] = (), neutral: Mapping[str, Collection[Any]] | None = None
    ) -> None:
        """Refuses options that would be ignored; ApiError 400 with the name of the first.

        Args:
            harmless: options that change nothing about the answer.
            neutral: values of other options that ask for nothing.
        """
        for name, value in (self.model_extra or {}).items():
            fine = value is None or name in harmless
            if fine or _among(value, (neutral or {}).get(name, ())):
                continue
            raise ApiError(
                400,
                f"This server does not support '{name[:100]}'; leave it out.",
                code="unsupported_parameter",
                param=name[:100],
            )


class Reply(BaseModel):
    """A part of a response. What was not set is not sent; what was set to None is, as null."""

    model_config = ConfigDict(frozen=True)

    def json_text(self) -> str:
        """As it is sent."""
        return self.model_dump_json(exclude_unset=True)


def _among(value: Any, values: Collection[Any]) -> bool:
    # Values of JSON may be lists, which have no hash; and 0 is not false here.
    return any(value == it and isinstance(value, bool) == isinstance(it, bool) for it in values)
