"""`/v1/chat/completions`: text, pictures and speech in; text, calls of tools and speech out."""

import secrets
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import JSONResponse

from assistant.server.door import Caller, caller
from assistant.server.errors import ApiError, error_responses
from assistant.server.http.chat_answer import Chunks, collect
from assistant.server.http.chat_messages import MessageReader
from assistant.server.http.chat_reply import ChatCompletion
from assistant.server.http.chat_request import (
    HARMLESS,
    NEUTRAL,
    ChatRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedChoice,
)
from assistant.server.http.chat_sound import Part, spoken_parts
from assistant.server.http.names import Role, require_model, require_voice
from assistant.server.http.streaming import PacedResponse, begun, event_stream, steps
from assistant.server.state import ServerState, state_of
from assistant.writing import Message, Tool, WriteOptions, WritingEnded, Written
from audio.encode import SoundFormat
from fusion.errors import FusionError

router = APIRouter()
#: The budget of an answer whose request names none.
DEFAULT_TOKENS = 1024
_SMALLEST = 1e-9  # of top_p: the likeliest token alone


@router.post(
    "/v1/chat/completions",
    summary="Answer a conversation",
    response_model=ChatCompletion,
    responses={
        200: {"description": "The answer.", "content": {"text/event-stream": {}}},
        **error_responses(),
    },
)
async def create_chat_completion(
    request: Request, body: ChatRequest, who: Annotated[Caller, Depends(caller)]
) -> Response:
    """Whole, or streamed as it is written. Sampling is greedy unless a temperature is given."""
    state = state_of(request)
    model, options = _check(body, state)
    who.spend(requests=1)
    messages = await MessageReader(state, who).read(body)
    parts = _counted(_parts(body, messages, options, state), state, who)
    with state.metrics.stage("first_token"):
        parts = await begun(parts)
    completion = f"chatcmpl-{uuid.uuid4().hex[:24]}", int(time.time()), model
    if not body.stream:
        whole = await collect(parts, *completion, spoken=body.spoken)
        return JSONResponse(whole.model_dump(exclude_unset=True))
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    chunks = Chunks(*completion, spoken=body.spoken, usage=usage)
    return PacedResponse(event_stream(chunks.of(parts), state.metrics), state, "text/event-stream")


def _check(body: ChatRequest, state: ServerState) -> tuple[str, WriteOptions]:
    """The served model's name and what is to be written; ApiError for what cannot be."""
    body.refuse_others(HARMLESS, NEUTRAL)
    settings = state.engine.models.settings
    model = require_model(body.model, Role.LANGUAGE_MODEL, settings)
    if body.spoken != (body.audio is not None):
        raise ApiError(
            400,
            'For a spoken answer, give both modalities ["text", "audio"] and audio '
            '{"voice", "format"}; for a written one, neither.',
            param="audio" if body.spoken else "modalities",
        )
    if body.audio is not None:
        voice = body.audio.voice
        require_voice(voice if isinstance(voice, str) else voice.id, settings)
    if body.stream_options is not None and not body.stream:
        raise ApiError(
            400, "stream_options need stream to be true; leave them out.", param="stream_options"
        )
    return model, _options(body)


def _options(body: ChatRequest) -> WriteOptions:
    form = body.response_format
    schema = form.json_schema.schema_ if isinstance(form, JsonSchemaFormat) else None
    choice = body.tool_choice or "auto"
    top_p = 1.0 if body.top_p is None else max(body.top_p, _SMALLEST)
    return WriteOptions(
        max_tokens=body.max_completion_tokens or body.max_tokens or DEFAULT_TOKENS,
        temperature=body.temperature or 0.0,
        top_p=top_p,
        seed=secrets.randbits(32) if body.seed is None else body.seed,
        stop=body.stop or (),
        tools=tuple(_tools(body)),
        tool_choice=choice.function.name if isinstance(choice, NamedChoice) else choice,
        schema=schema,
        json_object=isinstance(form, JsonObjectFormat | JsonSchemaFormat),
        parallel_calls=body.parallel_tool_calls is not False,
    )


def _tools(body: ChatRequest) -> list[Tool]:
    return [
        Tool(
            tool.function.name,
            tool.function.description or "",
            tool.function.parameters or {"type": "object", "properties": {}},
        )
        for tool in body.tools or ()
    ]


async def _parts(
    body: ChatRequest, messages: tuple[Message, ...], options: WriteOptions, state: ServerState
) -> AsyncGenerator[Part]:
    """What is written and, if it is asked for, spoken."""
    written = _written(messages, options, state)
    if body.audio is None:
        parts: AsyncGenerator[Part] = written
    else:
        form = "pcm" if body.audio.format == "pcm16" else body.audio.format
        parts = spoken_parts(written, state.engine.parts.tongue, SoundFormat(form))
    async with aclosing(parts):
        async for part in parts:
            yield part


async def _written(
    messages: tuple[Message, ...], options: WriteOptions, state: ServerState
) -> AsyncGenerator[Written]:
    engine, worker = state.engine, state.engine.workers.think
    cache = await worker.run(engine.parts.new_cache)
    events = steps(worker, lambda: engine.writer.stream(messages, options, cache))
    async with aclosing(events):
        try:
            async for event in events:
                yield event
        except FusionError as problem:
            message = str(problem)
            raise ApiError(400, message[:1].upper() + message[1:], param=_blamed(options)) from None


def _blamed(options: WriteOptions) -> str:
    """The field that a refusal of the writer is most likely about."""
    if options.schema is not None:
        return "response_format"
    return "tools" if options.tools else "messages"


async def _counted(
    parts: AsyncGenerator[Part], state: ServerState, who: Caller
) -> AsyncGenerator[Part]:
    """The same parts; tokens are counted when the last has come."""
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, WritingEnded):
                who.spend(tokens=part.prompt_tokens + part.completion_tokens)
                state.metrics.tokens("prompt", part.prompt_tokens)
                state.metrics.tokens("cached", part.cached_tokens)
                state.metrics.tokens("completion", part.completion_tokens)
            yield part
