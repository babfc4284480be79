"""`/v1/audio/speech`: text in, sound out, sent while it is being spoken."""

import base64
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from assistant.server.door import Caller, caller
from assistant.server.errors import ApiError, error_responses
from assistant.server.http.names import Role, require_model, require_voice
from assistant.server.http.streaming import PacedResponse, begun, event_stream, steps
from assistant.server.http.wire import Options, Reply, Strict
from assistant.server.state import ServerState, state_of
from audio.encode import SoundFormat, sound_encoder
from audio.errors import AudioError
from audio.speech_text import split_clauses
from audio.tts import SpeakOptions, Voice

router = APIRouter()
#: Sound has no tokens here; usage counts 20 ms as one, as the recogniser does.
SOUND_TOKENS_PER_S = 50


class VoiceId(Strict):
    """A voice by its id, which is its name."""

    id: str


class SpeechRequest(Options):
    """What to say, and how."""

    model: str = Field(description="The voice model's name, or tts-1.")
    input: str = Field(min_length=1, description="The text.")
    voice: str | VoiceId = Field(description="The voice's name; OpenAI's names stand for it.")
    response_format: SoundFormat = SoundFormat.MP3
    speed: float = Field(
        1.0,
        ge=0.25,
        le=4.0,
        description="Times the voice's own pace; at about 2 it speaks as fast as it can.",
    )
    stream_format: Literal["audio", "sse"] = "audio"


class SpeechDelta(Reply):
    """More of the sound, in base64."""

    type: Literal["speech.audio.delta"]
    audio: str


class SpeechUsage(Reply):
    """Tokens of the text; the sound counts 50 a second."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class SpeechDone(Reply):
    """The sound is complete."""

    type: Literal["speech.audio.done"]
    usage: SpeechUsage


_SOUND: dict[str, Any] = {form.media_type.partition(";")[0]: {} for form in SoundFormat}


@router.post(
    "/v1/audio/speech",
    summary="Speak a text",
    response_class=Response,
    responses={
        200: {
            "description": "The sound, sent while it is being made.",
            "content": _SOUND | {"text/event-stream": {}},
        },
        **error_responses(),
    },
)
async def create_speech(
    request: Request, body: SpeechRequest, who: Annotated[Caller, Depends(caller)]
) -> Response:
    """The first of the sound goes out as soon as it is spoken, whatever the text's length."""
    state = state_of(request)
    _check(body, state)
    who.spend(requests=1)
    speech = _Speech(body, state)
    with state.metrics.stage("first_sound"):
        sound = await begun(speech.sound())
    if body.stream_format == "audio":
        return PacedResponse(sound, state, body.response_format.media_type)
    events = event_stream(speech.events(sound), state.metrics)
    return PacedResponse(events, state, "text/event-stream")


def _check(body: SpeechRequest, state: ServerState) -> None:
    body.refuse_others(neutral={"instructions": ("",)})
    settings = state.engine.models.settings
    require_model(body.model, Role.VOICE, settings)
    require_voice(body.voice if isinstance(body.voice, str) else body.voice.id, settings)
    if len(body.input) > state.config.max_text_chars:
        raise ApiError(
            400,
            f"Expected an input of at most {state.config.max_text_chars} characters, got "
            f"{len(body.input)}; send it in parts.",
            param="input",
            code="text_too_long",
        )


class _Speech:
    """One text on its way to a client."""

    def __init__(self, body: SpeechRequest, state: ServerState) -> None:
        self._body, self._engine = body, state.engine
        self._samples = 0

    async def sound(self) -> AsyncGenerator[bytes]:
        """The encoded sound; a step of the voice's thread for each piece."""
        voice, worker = self._engine.models.voice, self._engine.workers.speak
        async with aclosing(steps(worker, lambda: self._pieces(voice))) as pieces:
            async for piece in pieces:
                yield piece

    async def events(self, sound: AsyncGenerator[bytes]) -> AsyncGenerator[Reply]:
        """The sound as events, and what it took."""
        async with aclosing(sound):
            async for piece in sound:
                audio = base64.b64encode(piece).decode()
                yield SpeechDelta(type="speech.audio.delta", audio=audio)
        seconds = self._samples / self._engine.models.voice.sample_rate
        read = self._engine.writer.count(self._body.input)
        spoken = round(seconds * SOUND_TOKENS_PER_S)
        usage = SpeechUsage(input_tokens=read, output_tokens=spoken, total_tokens=read + spoken)
        yield SpeechDone(type="speech.audio.done", usage=usage)

    def _pieces(self, voice: Voice) -> Iterator[bytes]:
        encoder = sound_encoder(self._body.response_format, voice.sample_rate)
        speaking = voice.start(SpeakOptions(rate=self._body.speed))
        for clause in split_clauses(self._body.input):
            for chunk in speaking.stream(clause):
                self._samples += len(chunk.samples)
                if data := encoder.push(chunk.samples):
                    yield data
        if not self._samples:
            raise AudioError(
                "The input holds no word or number; give at least one that can be spoken."
            )
        if data := encoder.finish():
            yield data
