"""A client's messages as the writer reads them: pictures looked at, recordings recognised."""

from typing import Any

from torch import Tensor

from assistant.prompts import Prompts
from assistant.server.door import Caller
from assistant.server.errors import ApiError
from assistant.server.http.chat_request import (
    AssistantMessage,
    AudioPart,
    ChatMessage,
    ChatRequest,
    ImagePart,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from assistant.server.media import MediaRules, read_base64_sound, read_picture
from assistant.server.state import ServerState
from assistant.writing import Message, ToolCall
from audio.asr_types import RecogniseOptions
from fusion.adapter import SoftTokens


class MessageReader:
    """Reads the messages of one request."""

    def __init__(self, state: ServerState, who: Caller) -> None:
        self._state, self._who, self._engine = state, who, state.engine
        self._rules = MediaRules.of(state.config, self._engine.models.settings)
        self._prompts: Prompts = self._engine.models.prompts

    async def read(self, request: ChatRequest) -> tuple[Message, ...]:
        """The messages, after the shipped system prompt if they begin with none of their own.

        ApiError for a picture or a recording that cannot be read, and for too much text.
        """
        self._check_length(request)
        shown = [part for part in _parts(request) if isinstance(part, ImagePart)]
        # The pictures of a conversation are numbered where there are several.
        self._number = 1 if len(shown) > 1 else None
        messages = [
            await self._message(message, f"messages.{i}")
            for i, message in enumerate(request.messages)
        ]
        if messages[0].role != "system":
            messages.insert(0, Message("system", (self._prompts.system,)))
        return tuple(messages)

    def _check_length(self, request: ChatRequest) -> None:
        limit = self._state.config.max_text_chars
        length = sum(len(part.text) for part in _parts(request) if isinstance(part, TextPart))
        if length > limit:
            raise ApiError(
                400,
                f"Expected messages of at most {limit} characters, got {length}; shorten them.",
                param="messages",
                code="text_too_long",
            )

    async def _message(self, message: ChatMessage, where: str) -> Message:
        match message:
            case SystemMessage():
                return Message("system", (_joined(message.content),))
            case ToolMessage():
                return Message("tool", (_joined(message.content),), call_id=message.tool_call_id)
            case AssistantMessage():
                return _assistant(message, where)
            case UserMessage():
                return Message("user", await self._user(message, where))

    async def _user(self, message: UserMessage, where: str) -> tuple[str | Tensor, ...]:
        """The pictures, in the words around them that the adapter was made for; then the text."""
        pictures: list[str | Tensor] = []
        said: list[str] = []
        for i, part in enumerate(message.content):
            match part:
                case TextPart():
                    said.append(part.text)
                case ImagePart():
                    seen = await self._look(part.image_url.url, f"{where}.content.{i}.image_url")
                    pictures += self._prompts.user("", seen, self._number)
                    self._number = self._number + 1 if self._number is not None else None
                case AudioPart():
                    param = f"{where}.content.{i}.input_audio"
                    said.append(await self._listen(part.input_audio.data, param))
        return (*pictures, "\n".join(said))

    async def _look(self, url: str, param: str) -> SoftTokens:
        picture = await read_picture(url, self._rules, param)
        with self._state.metrics.stage("look"):
            return await self._engine.workers.look.run(lambda: self._engine.parts.look(picture))

    async def _listen(self, data: str, param: str) -> str:
        sound = await read_base64_sound(data, self._rules, param)
        self._who.spend(audio_s=sound.duration_s)
        recogniser = self._engine.models.recogniser
        options = RecogniseOptions(beam_size=self._engine.models.settings.recogniser_beam)
        with self._state.metrics.stage("transcribe"):
            transcript = await self._engine.workers.listen.run(
                lambda: recogniser.transcribe(sound, options)
            )
        return transcript.text.strip()


def _parts(request: ChatRequest) -> list[Any]:
    return [part for message in request.messages for part in message.content or ()]


def _joined(parts: tuple[TextPart, ...]) -> str:
    return "\n".join(part.text for part in parts)


def _assistant(message: AssistantMessage, where: str) -> Message:
    said = [
        part.refusal if isinstance(part, RefusalPart) else part.text
        for part in message.content or ()
    ]
    if message.refusal:
        said.append(message.refusal)
    if message.audio is not None:
        transcript = message.audio.get("transcript")
        if not isinstance(transcript, str):
            raise ApiError(
                400,
                "Spoken answers are not kept by their id; send the transcript as the message's "
                "content.",
                param=f"{where}.audio",
                code="audio_not_kept",
            )
        said.append(transcript)
    calls = tuple(
        ToolCall(call.id, call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
    )
    return Message("assistant", ("\n".join(said),), calls)
