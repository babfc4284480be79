"""A dialogue on the real models: speech in, speech out, understood on both sides."""

import asyncio
import base64
import re

import numpy as np
import pytest

from assistant.server.engine import Engine
from audio.pcm import Samples, Sound, from_pcm16
from audio.resample import resample
from tests.assistant.session_fakes import silence
from tests.server.dialogue_fakes import Client, World, of, pcm

pytestmark = pytest.mark.models

TOLD = {"input": {"transcription": {}}}


class Real(World):
    """The real models, behind the same client."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    def engine(self) -> Engine:
        return self._engine


async def until(client: Client, kind: str, count: int = 1) -> None:
    while len(client.of(kind)) < count:
        await asyncio.sleep(0.01)


async def speak(client: Client, sound: Sound, pause_s: float = 0.0) -> None:
    """Send a recording in the session's format, 100 ms at once and a pause after each.

    Without the pause it comes faster than it was spoken.
    """
    samples = resample(sound.samples, sound.rate, 24_000)
    for start in range(0, len(samples), 2_400):
        await client.send("input_audio_buffer.append", audio=pcm(samples[start : start + 2_400]))
        await asyncio.sleep(pause_s)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def sound_of(client: Client) -> Samples:
    deltas = client.of("response.output_audio.delta")
    data = b"".join(base64.b64decode(event.delta) for event in deltas)
    return resample(from_pcm16(np.frombuffer(data, "<i2")), 24_000, 16_000)


def test_a_spoken_question_is_answered_aloud(live_engine: Engine) -> None:
    asked = live_engine.models.voice.speak("What is the capital of France?")

    async def play() -> Client:
        async with Client(Real(live_engine)) as client:
            await client.update(audio=TOLD, instructions="Answer in one short sentence.")
            await speak(client, asked, 0.1)  # words are read while others are spoken
            await speak(client, Sound(silence(1.0)), 0.1)
            await until(client, "response.done")
        return client

    client = asyncio.run(play())
    (completed,) = client.of("conversation.item.input_audio_transcription.completed")
    assert "capital of france" in completed.transcript.lower()
    (done,) = client.of("response.done")
    assert done.response.status == "completed"
    answer = done.response.output[0].content[0].transcript
    assert "paris" in answer.lower()
    heard = live_engine.models.recogniser.transcribe(Sound(sound_of(client))).text
    right = sum(word in words(heard) for word in words(answer))
    assert right >= 0.5 * len(words(answer))  # "Paris is" may be heard as "parishes"
    usage = done.response.usage
    assert usage.input_tokens > usage.input_token_details.cached_tokens > 0  # it was prefilled


def test_a_tool_is_called(live_engine: Engine) -> None:
    tool = {
        "type": "function",
        "name": "set_light",
        "description": "Switch the light of a room.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"enum": ["kitchen", "bath"]}, "on": {"type": "boolean"}},
            "required": ["room", "on"],
        },
    }

    async def play() -> Client:
        async with Client(Real(live_engine)) as client:
            await client.update(tools=[tool], tool_choice="required")
            await client.say("Please switch on the light in the kitchen.")
            await client.send("response.create")
            await until(client, "response.done")
            (call,) = client.of("response.function_call_arguments.done")
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
            await client.send("conversation.item.create", item=output)
            short = {"tool_choice": "none", "output_modalities": ["text"], "max_output_tokens": 12}
            await client.send("response.create", response=short)
            await until(client, "response.done", 2)
        return client

    client = asyncio.run(play())
    (call,) = client.of("response.function_call_arguments.done")
    assert call.name == "set_light"
    assert '"kitchen"' in call.arguments
    assert of(client.events, "response.done")[-1].response.output[0].type == "message"
    assert not client.of("error")


def test_a_language_and_names_for_the_recogniser(live_engine: Engine) -> None:
    asked = live_engine.models.voice.speak("Ask Voxsight about the weather.")

    async def play() -> Client:
        async with Client(Real(live_engine)) as client:
            manual = {"turn_detection": None, "transcription": {"prompt": "Voxsight"}}
            await client.update(audio={"input": manual})
            await speak(client, asked)
            await client.send("input_audio_buffer.commit")
            await until(client, "conversation.item.input_audio_transcription.completed")
            if not live_engine.models.recogniser.multilingual:
                german = {"input": {"transcription": {"language": "de"}}}
                (error,) = await client.update(audio=german)
                assert error.error.param == "session.audio.input.transcription"  # type: ignore[union-attr]
                (updated,) = await client.update(instructions="Go on.")
                assert updated.session.audio.input.transcription.language is None  # type: ignore[union-attr]
        return client

    client = asyncio.run(play())
    (completed,) = client.of("conversation.item.input_audio_transcription.completed")
    assert "ask vox" in completed.transcript.lower()
