"""What a conversation consists of: messages, function calls and their outputs, and their parts."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from assistant.server.realtime.wire import Many, Wire, new_id

#: Ids are chosen by the client or by us; the API allows up to 64 characters.
Id = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
Status = Literal["completed", "incomplete", "in_progress"]
Role = Literal["system", "user", "assistant"]


def _data_url(url: str) -> str:
    if not url[:5].lower() == "data:":
        raise PydanticCustomError(
            "refused", "this server opens no addresses; send the picture as a data URL."
        )
    return url


def _one_size(detail: str) -> str:
    if detail == "high":
        raise PydanticCustomError(
            "refused", "pictures are seen at one level of detail; send 'auto' or 'low'."
        )
    return detail


#: A picture in the message itself; what it holds is checked when it is opened.
DataUrl = Annotated[str, AfterValidator(_data_url)]


class InputText(Wire):
    """Text of the user or the system."""

    type: Literal["input_text"] = "input_text"
    text: str


class InputAudio(Wire):
    """Sound of the user, base64 in the session's input format; or words known to be its own."""

    type: Literal["input_audio"] = "input_audio"
    audio: str | None = None
    transcript: str | None = None


class InputImage(Wire):
    """A picture. The encoder sees all of them at one size, so "high" detail cannot be had."""

    type: Literal["input_image"] = "input_image"
    image_url: DataUrl
    detail: Annotated[Literal["auto", "low", "high"], AfterValidator(_one_size)] = "auto"


class OutputText(Wire):
    """Text that the assistant wrote."""

    type: Literal["output_text"] = "output_text"
    text: str


class OutputAudio(Wire):
    """What the assistant said: base64 sound (only when retrieved) and its words."""

    type: Literal["output_audio"] = "output_audio"
    audio: str | None = None
    transcript: str | None = None


Content = Annotated[
    InputText | InputAudio | InputImage | OutputText | OutputAudio, Field(discriminator="type")
]

_PARTS_OF: dict[Role, tuple[str, ...]] = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text", "output_audio"),
}


class _Item(Wire):
    id: Id = Field(default_factory=lambda: new_id("item"))
    object: Literal["realtime.item"] = "realtime.item"
    #: No meaning in a client's item, as in the API.
    status: Status = "completed"


class MessageItem(_Item):
    """Something said or shown by the user, the assistant or the system."""

    type: Literal["message"] = "message"
    role: Role
    content: Many[Content]

    @model_validator(mode="after")
    def _parts_fit_role(self) -> "MessageItem":
        fitting = _PARTS_OF[self.role]
        for part in self.content:
            if part.type not in fitting:
                raise PydanticCustomError(
                    "refused",
                    "a message of the role '{role}' holds {fitting}, got '{part}'.",
                    {"role": self.role, "fitting": " or ".join(fitting), "part": part.type},
                )
        return self


class FunctionCallItem(_Item):
    """The assistant asks for a function to be called; ``arguments`` is JSON text."""

    type: Literal["function_call"] = "function_call"
    call_id: Id = Field(default_factory=lambda: new_id("call"))
    name: str = Field(min_length=1, max_length=64)
    arguments: str


class FunctionCallOutputItem(_Item):
    """What the called function gave."""

    type: Literal["function_call_output"] = "function_call_output"
    call_id: Id
    output: str


class ItemReference(Wire):
    """An item of the conversation, as input of a response that stands outside it."""

    type: Literal["item_reference"] = "item_reference"
    id: Id


Item = Annotated[
    MessageItem | FunctionCallItem | FunctionCallOutputItem, Field(discriminator="type")
]
ItemOrReference = Annotated[
    MessageItem | FunctionCallItem | FunctionCallOutputItem | ItemReference,
    Field(discriminator="type"),
]
