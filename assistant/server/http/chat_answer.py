"""Puts what is written and spoken into the forms of OpenAI's answers."""

import base64
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from assistant.server.http.chat_reply import (
    AnswerMessage,
    Call,
    CallDelta,
    CalledFunction,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    Finish,
    FunctionDelta,
    SoundDelta,
    SpokenAnswer,
    Usage,
)
from assistant.server.http.chat_sound import Part, SoundPiece
from assistant.server.http.wire import Reply
from assistant.writing import CallBegan, TextDelta, WritingEnded
from assistant.writing import CallDelta as WrittenCallDelta


async def collect(
    parts: AsyncGenerator[Part], id: str, created: int, model: str, *, spoken: bool
) -> ChatCompletion:
    """The whole answer."""
    text, sound = "", b""
    calls: list[tuple[CallBegan, list[str]]] = []
    ended = None
    async with aclosing(parts):
        async for part in parts:
            match part:
                case TextDelta():
                    text += part.text
                case SoundPiece():
                    sound += part.data
                case CallBegan():
                    calls.append((part, []))
                case WrittenCallDelta():
                    calls[part.index][1].append(part.arguments)
                case WritingEnded():
                    ended = part
    assert ended is not None  # the writer's last event
    fields: dict[str, object] = {"content": text or (None if calls else "")}
    if spoken and text:
        data = base64.b64encode(sound).decode()
        audio = SpokenAnswer(id=_sound_id(), data=data, expires_at=created, transcript=text)
        fields = {"content": None, "audio": audio}
    if calls:
        fields["tool_calls"] = tuple(_call(began, "".join(pieces)) for began, pieces in calls)
    message = AnswerMessage.model_validate({"role": "assistant", "refusal": None, **fields})
    choice = Choice(index=0, message=message, logprobs=None, finish_reason=ended.finish)
    return ChatCompletion(
        id=id,
        object="chat.completion",
        created=created,
        model=model,
        choices=(choice,),
        usage=Usage.of(ended),
    )


class Chunks:
    """One answer in chunks."""

    def __init__(self, id: str, created: int, model: str, *, spoken: bool, usage: bool) -> None:
        self._id, self._created, self._model = id, created, model
        self._spoken, self._usage = spoken, usage
        self._sound_id = _sound_id()

    async def of(self, parts: AsyncGenerator[Part]) -> AsyncGenerator[Reply]:
        """A chunk with the role, one for each part, and one with why it ended."""
        begin = Delta(role="assistant") if self._spoken else Delta(role="assistant", content="")
        yield self._chunk(begin)
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, WritingEnded):
                    for chunk in self._end(part):
                        yield chunk
                else:
                    yield self._chunk(self._delta(part))

    def _delta(self, part: Part) -> Delta:
        match part:
            case TextDelta() if self._spoken:
                return Delta(audio=SoundDelta(id=self._sound_id, transcript=part.text))
            case TextDelta():
                return Delta(content=part.text)
            case SoundPiece():
                data = base64.b64encode(part.data).decode()
                return Delta(audio=SoundDelta(id=self._sound_id, data=data))
            case CallBegan():
                function = FunctionDelta(name=part.name, arguments="")
                call = CallDelta(index=part.index, id=part.id, type="function", function=function)
                return Delta(tool_calls=(call,))
            case WrittenCallDelta():
                more = FunctionDelta(arguments=part.arguments)
                return Delta(tool_calls=(CallDelta(index=part.index, function=more),))
            case _:
                return Delta()

    def _end(self, ended: WritingEnded) -> list[ChatChunk]:
        chunks = []
        if self._spoken:
            audio = SoundDelta(id=self._sound_id, expires_at=self._created)
            chunks.append(self._chunk(Delta(audio=audio)))
        chunks.append(self._chunk(Delta(), ended.finish))
        if self._usage:
            chunks.append(self._of_choices((), Usage.of(ended)))
        return chunks

    def _chunk(self, delta: Delta, finish: Finish | None = None) -> ChatChunk:
        choice = ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=finish)
        return self._of_choices((choice,), None)

    def _of_choices(self, choices: tuple[ChunkChoice, ...], usage: Usage | None) -> ChatChunk:
        # With usage asked for, every chunk has the field, and all but the last as null.
        fields = {"usage": usage} if self._usage else {}
        return ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
            **fields,
        )


def _call(began: CallBegan, arguments: str) -> Call:
    function = CalledFunction(name=began.name, arguments=arguments)
    return Call(id=began.id, type="function", function=function)


def _sound_id() -> str:
    return f"audio_{uuid.uuid4().hex[:24]}"
