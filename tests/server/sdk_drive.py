"""Drives a server with the unmodified ``openai`` SDK, in the SDK's own environment.

    python sdk_drive.py SCENARIO BASE_URL FOLDER

FOLDER holds ``speech.pcm`` (PCM16, 24 kHz), ``speech.wav`` and ``photo.jpg``. Every frame of a
realtime session is validated strictly by the SDK's types. Prints what came, as JSON; a scenario
that fails ends with a traceback.
"""

import base64
import io
import json
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openai import OpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
CHUNK = 4800  # bytes: 100 ms of PCM16 at 24 kHz


class Talk:
    """One realtime session; every event that comes is validated and kept."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[Any] = []

    def next(self) -> Any:
        data = self.connection.recv_bytes()
        event = SERVER_EVENT.validate_json(data, strict=True)
        assert self.connection.parse_event(data).type == event.type
        self.events.append(event)
        if event.type == "error":
            raise AssertionError(event.error)
        return event

    def until(self, kind: str) -> Any:
        while (event := self.next()).type != kind:
            pass
        return event

    def update(self, **session: Any) -> Any:
        self.connection.session.update(session={"type": "realtime", **session})
        return self.until("session.updated").session

    def say(self, *content: dict[str, Any]) -> None:
        item = {"type": "message", "role": "user", "content": list(content)}
        self.connection.conversation.item.create(item=item)
        self.until("conversation.item.done")

    def write(self, text: str) -> None:
        self.say({"type": "input_text", "text": text})

    def answer(self, **response: Any) -> Any:
        self.connection.response.create(response=response)
        return self.until("response.done").response

    def append(self, pcm: bytes) -> None:
        for at in range(0, len(pcm), CHUNK):
            audio = base64.b64encode(pcm[at : at + CHUNK]).decode()
            self.connection.input_audio_buffer.append(audio=audio)

    def sound(self) -> bytes:
        deltas = (e.delta for e in self.events if e.type == "response.output_audio.delta")
        return b"".join(map(base64.b64decode, deltas))

    def joined(self, kind: str) -> str:
        return "".join(e.delta for e in self.events if e.type == kind)


class Scene:
    """A client of one server, and the files to send."""

    def __init__(self, base_url: str, folder: Path) -> None:
        self.client = OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0, timeout=300)
        self.folder = folder
        self.pcm = (folder / "speech.pcm").read_bytes()

    def talk(self, play: Callable[[Talk], Any], **session: Any) -> Any:
        with self.client.realtime.connect(model="gpt-realtime") as connection:
            talk = Talk(connection)
            assert talk.next().type == "session.created"
            if session:
                talk.update(**session)
            return play(talk)

    @property
    def photo(self) -> str:
        data = base64.b64encode((self.folder / "photo.jpg").read_bytes()).decode()
        return f"data:image/jpeg;base64,{data}"

    # Realtime

    def text(self) -> Any:
        def play(talk: Talk) -> Any:
            talk.write("Say hello.")
            response = talk.answer(metadata={"topic": "greeting"}, max_output_tokens=20)
            done = next(e for e in talk.events if e.type == "response.output_text.done")
            assert done.text and done.text == talk.joined("response.output_text.delta")
            assert response.status in ("completed", "incomplete")
            assert response.metadata == {"topic": "greeting"}
            assert response.output[0].content[0].text == done.text
            assert 0 < response.usage.output_tokens <= 20
            return {"text": done.text, "events": [e.type for e in talk.events]}

        return self.talk(play, output_modalities=["text"], instructions="Be very brief.")

    def audio_out(self) -> Any:
        def play(talk: Talk) -> Any:
            talk.write("Say hello.")
            response = talk.answer(max_output_tokens=12)
            sound, words = talk.sound(), talk.joined("response.output_audio_transcript.delta")
            done = next(e for e in talk.events if e.type == "response.output_audio_transcript.done")
            assert done.transcript == words == response.output[0].content[0].transcript
            assert len(sound) > 24_000 and len(sound) % 2 == 0
            assert any(sound)
            return {"transcript": words, "seconds": len(sound) / 48_000}

        return self.talk(play)

    def audio_out_mulaw(self) -> Any:
        def play(talk: Talk) -> Any:
            talk.write("Say hello.")
            talk.answer(max_output_tokens=12)
            assert len(talk.sound()) > 4_000
            return {"seconds": len(talk.sound()) / 8_000}

        return self.talk(play, audio={"output": {"format": {"type": "audio/pcmu"}}})

    def audio_in(self) -> Any:
        def play(talk: Talk) -> Any:
            talk.append(self.pcm + bytes(2 * CHUNK * 10))
            said = talk.until("conversation.item.input_audio_transcription.completed")
            if not any(e.type == "response.done" for e in talk.events):
                talk.until("response.done")
            kinds = [e.type for e in talk.events]
            began = kinds.index("input_audio_buffer.speech_started")
            stopped = kinds.index("input_audio_buffer.speech_stopped")
            committed = kinds.index("input_audio_buffer.committed")
            assert began < stopped < committed < kinds.index("response.created")
            assert said.usage.seconds > 0.5
            assert talk.joined("conversation.item.input_audio_transcription.delta").strip()
            return {"transcript": said.transcript}

        listening = {"transcription": {"model": "whisper-1", "language": "en"}}
        return self.talk(play, audio={"input": listening}, output_modalities=["text"])

    def manual_turn(self) -> Any:
        def play(talk: Talk) -> Any:
            talk.append(self.pcm)
            talk.connection.input_audio_buffer.commit()
            item = talk.until("conversation.item.done").item
            assert item.content[0].type == "input_audio"
            response = talk.answer(max_output_tokens=12)
            assert response.status in ("completed", "incomplete")
            said = [e for e in talk.events if e.type.endswith("transcription.completed")]
            if not said:
                said = [talk.until("conversation.item.input_audio_transcription.completed")]
            assert said[0].item_id == item.id
            return {"transcript": said[0].transcript}

        listening = {"turn_detection": None, "transcription": {"model": "whisper-1"}}
        return self.talk(play, audio={"input": listening}, output_modalities=["text"])

    def transcription_session(self) -> Any:
        with self.client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            talk = Talk(connection)
            assert talk.next().session.type == "transcription"
            session = {
                "type": "transcription",
                "include": ["item.input_audio_transcription.logprobs"],
                "audio": {"input": {"transcription": {"model": "whisper-1"}}},
            }
            connection.session.update(session=session)
            talk.until("session.updated")
            talk.append(self.pcm + bytes(2 * CHUNK * 10))
            said = talk.until("conversation.item.input_audio_transcription.completed")
            assert said.logprobs and all(each.logprob <= 0 for each in said.logprobs)
            assert not any(e.type.startswith("response.") for e in talk.events)
            return {"transcript": said.transcript}

    def image(self) -> Any:
        def play(talk: Talk) -> Any:
            question = {"type": "input_text", "text": "What is in this picture?"}
            talk.say({"type": "input_image", "image_url": self.photo}, question)
            response = talk.answer(max_output_tokens=24)
            assert response.usage.input_token_details.image_tokens > 0
            return {"text": response.output[0].content[0].text}

        return self.talk(play, output_modalities=["text"])

    def tool_call(self) -> Any:
        def play(talk: Talk) -> Any:
            talk.write("How is the weather in Paris?")
            response = talk.answer()
            call = next(item for item in response.output if item.type == "function_call")
            done = next(e for e in talk.events if e.type == "response.function_call_arguments.done")
            assert (done.name, done.call_id) == (call.name, call.call_id)
            assert done.arguments == call.arguments
            assert done.arguments == talk.joined("response.function_call_arguments.delta")
            arguments = json.loads(call.arguments)
            assert isinstance(arguments["city"], str)
            output = {"call_id": call.call_id, "output": '{"sky": "clear", "celsius": 21}'}
            talk.connection.conversation.item.create(
                item={"type": "function_call_output", **output}
            )
            answer = talk.answer(tool_choice="none", max_output_tokens=30)
            return {"arguments": arguments, "text": answer.output[0].content[0].text}

        return self.talk(play, output_modalities=["text"], tools=[WEATHER], tool_choice="required")

    def cancel(self) -> Any:
        def play(talk: Talk) -> Any:
            talk.write("Count from one to one hundred in words.")
            talk.connection.response.create()
            talk.until("response.output_audio.delta")
            talk.connection.response.cancel()
            response = talk.until("response.done").response
            assert response.status == "cancelled"
            assert response.status_details.reason == "client_cancelled"
            assert response.output[0].status == "incomplete"
            talk.write("Say yes.")
            assert talk.answer(max_output_tokens=8).status in ("completed", "incomplete")
            return {"cancelled": response.output[0].content[0].transcript}

        return self.talk(play)

    def truncate(self) -> Any:
        def play(talk: Talk) -> Any:
            talk.write("Name the seven days of the week.")
            item = talk.answer(max_output_tokens=40).output[0]
            whole = item.content[0].transcript
            talk.connection.conversation.item.truncate(
                item_id=item.id, content_index=0, audio_end_ms=700
            )
            assert talk.until("conversation.item.truncated").audio_end_ms == 700
            talk.connection.conversation.item.retrieve(item_id=item.id)
            part = talk.until("conversation.item.retrieved").item.content[0]
            assert len(part.transcript or "") < len(whole)
            assert len(base64.b64decode(part.audio)) == 2 * 24 * 700
            talk.connection.conversation.item.delete(item_id=item.id)
            assert talk.until("conversation.item.deleted").item_id == item.id
            return {"whole": whole, "heard": part.transcript}

        return self.talk(play)

    def out_of_band(self) -> Any:
        def play(talk: Talk) -> Any:
            question = {"type": "input_text", "text": "Say one colour."}
            message = {"type": "message", "role": "user", "content": [question]}
            response = talk.answer(
                conversation="none",
                metadata={"side": "1"},
                output_modalities=["text"],
                input=[message],
                max_output_tokens=8,
            )
            assert response.conversation_id is None
            assert response.metadata == {"side": "1"}
            assert not any(e.type == "conversation.item.added" for e in talk.events)
            return {"text": response.output[0].content[0].text}

        return self.talk(play)

    def errors(self) -> Any:
        with self.client.realtime.connect(model="gpt-realtime") as connection:
            talk = Talk(connection)
            talk.next()
            connection.conversation.item.delete(item_id="nothing", event_id="mine_1")
            while True:
                event = SERVER_EVENT.validate_json(connection.recv_bytes(), strict=True)
                if event.type == "error":
                    break
            assert event.error.event_id == "mine_1"
            assert talk.update(instructions="Go on.").instructions == "Go on."
            return {"message": event.error.message}

    # HTTP

    def transcriptions(self) -> Any:
        create = self.client.audio.transcriptions.create
        got: dict[str, Any] = {}
        for name in ("json", "text", "srt", "vtt", "verbose_json"):
            with (self.folder / "speech.wav").open("rb") as file:
                got[name] = create(model="whisper-1", file=file, response_format=name)
        text = got["json"].text
        assert text.strip() and got["text"].strip() == text.strip()
        assert " --> " in got["srt"] and got["vtt"].startswith("WEBVTT")
        assert got["verbose_json"].duration > 0.5 and got["verbose_json"].segments
        with (self.folder / "speech.wav").open("rb") as file:
            words = create(
                model="whisper-1",
                file=file,
                response_format="verbose_json",
                timestamp_granularities=["word", "segment"],
            ).words
        assert words and all(word.start <= word.end for word in words)
        with (self.folder / "speech.wav").open("rb") as file:
            events = list(create(model="whisper-1", file=file, stream=True))
        assert events[-1].type == "transcript.text.done"
        deltas = "".join(e.delta for e in events if e.type == "transcript.text.delta")
        assert deltas.strip() == events[-1].text.strip()
        return {"transcript": text, "words": len(words), "events": len(events)}

    def speech(self) -> Any:
        sizes = {}
        for name in ("wav", "pcm", "flac", "mp3", "opus", "aac"):
            streaming = self.client.audio.speech.with_streaming_response.create(
                model="tts-1", voice="alloy", input="Hello there, my friend.", response_format=name
            )
            with streaming as response:
                pieces = list(response.iter_bytes(1024))
            sizes[name] = sum(map(len, pieces))
            assert sizes[name] > 1000
            if name == "wav":
                with wave.open(io.BytesIO(b"".join(pieces))) as file:
                    assert file.getframerate() >= 22_050
        return sizes

    def chat_image(self) -> Any:
        content = [
            {"type": "text", "text": "What is in this picture?"},
            {"type": "image_url", "image_url": {"url": self.photo}},
        ]
        answer = self.client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": content}], max_tokens=24
        )
        assert answer.choices[0].message.content
        assert answer.usage and answer.usage.completion_tokens > 0
        return {"text": answer.choices[0].message.content}

    def chat_stream(self) -> Any:
        stream = self.client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "Say hello."}],
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text and chunks[-1].usage.total_tokens > 0
        return {"text": text}

    def models(self) -> Any:
        names = [model.id for model in self.client.models.list()]
        assert names and self.client.models.retrieve(names[0]).id == names[0]
        return {"models": names}


if __name__ == "__main__":
    scene = Scene(sys.argv[2], Path(sys.argv[3]))
    print(json.dumps(getattr(scene, sys.argv[1])()))
