import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from PIL import Image
from starlette.testclient import TestClient

from assistant.server.state import ServerState
from audio.encode import SoundFormat
from fusion.adapter import SoftTokens
from tests.assistant.session_fakes import REPLY_WORD
from tests.server.conftest import MakeClient
from tests.server.fakes import FakeEngine
from tests.server.sdk_types import checked, error, events
from tests.server.test_encode import decoded
from tests.server.test_http_transcriptions import recording
from tests.server.tiny_writer import tiny_writer

URL = "/v1/chat/completions"
HELLO: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "one two three"}],
}
AUDIO = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "count",
            "parameters": {
                "type": "object",
                "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }
]


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return HELLO | {"messages": [{"role": "user", "content": list(parts)}]}


def image_part(data: bytes | None = None) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data or file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def whole(client: TestClient, request: dict[str, Any]) -> ChatCompletion:
    response = client.post(URL, json=request)
    assert response.status_code == 200, response.text
    answer: ChatCompletion = checked(ChatCompletion, response.text)
    return answer


def streamed(client: TestClient, request: dict[str, Any]) -> list[ChatCompletionChunk]:
    response = client.post(URL, json=request | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    return [checked(ChatCompletionChunk, event) for event in events(response.text)]


def test_an_answer_is_whole_with_its_usage(make_client: MakeClient) -> None:
    answer = whole(make_client(), HELLO)

    (choice,) = answer.choices
    assert choice.message.content == "You said one two three."
    assert (choice.finish_reason, answer.model) == ("stop", "qwen2.5-coder-0.5b-instruct")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens == 5


def test_chunks_make_the_same_answer(make_client: MakeClient) -> None:
    first, *others = streamed(make_client(), HELLO)

    assert first.choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in others]
    assert "".join(texts) == "You said one two three."
    reasons = [chunk.choices[0].finish_reason for chunk in others]
    assert (set(reasons[:-1]), reasons[-1]) == ({None}, "stop")
    assert {chunk.id for chunk in others} == {first.id}
    assert all("usage" not in chunk.model_fields_set for chunk in others)


def test_usage_is_the_last_chunk_where_it_is_asked_for(make_client: MakeClient) -> None:
    request = HELLO | {"stream_options": {"include_usage": True}}
    *chunks, last = streamed(make_client(), request)

    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 5
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)


def test_a_budget_ends_the_answer(make_client: MakeClient) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        choice = whole(make_client(), HELLO | {name: 2}).choices[0]
        assert (choice.message.content, choice.finish_reason) == ("You said", "length")


def test_the_shipped_system_prompt_stands_in_for_one_that_is_missing(
    make_client: MakeClient, fake_engine: FakeEngine
) -> None:
    client = make_client()
    whole(client, HELLO)
    own = [{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}]
    whole(client, HELLO | {"messages": own + HELLO["messages"]})

    shipped, given = fake_engine.writer.seen  # type: ignore[attr-defined]
    assert shipped[0].parts == (fake_engine.models.prompts.system,)
    assert [(m.role, m.parts) for m in given] == [
        ("system", ("Be brief.",)),
        ("user", ("one two three",)),
    ]


def test_pictures_are_looked_at_in_the_words_that_the_adapter_knows(
    make_client: MakeClient, fake_engine: FakeEngine
) -> None:
    seen = torch.ones(4, 3)
    fake_engine.fakes.look = lambda image: SoftTokens(seen * image.width)
    client = make_client()
    text = {"type": "text", "text": "What is this?"}
    whole(client, user(text, image_part()))
    whole(client, user(image_part(), text, image_part()))

    one, two = (messages[-1].parts for messages in fake_engine.writer.seen)  # type: ignore[attr-defined]
    assert [part if isinstance(part, str) else "*" for part in one] == [
        "The picture shows:",
        "*",
        ".\n",
        "What is this?",
    ]
    assert torch.equal(one[1], seen * 8)
    assert [part for part in two if part in ("Picture 1 shows:", "Picture 2 shows:")]
    assert sum(not isinstance(part, str) for part in two) == 2


def test_speech_is_recognised(make_client: MakeClient) -> None:
    data = base64.b64encode(recording("how are you")).decode()
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}

    answer = whole(make_client(), user(part, {"type": "text", "text": "today"}))

    assert answer.choices[0].message.content == "You said how are you today."


def test_an_answer_is_spoken(make_client: MakeClient) -> None:
    message = whole(make_client(), HELLO | AUDIO).choices[0].message

    assert message.content is None
    assert message.audio is not None
    assert message.audio.transcript == "You said one two three."
    heard, rate = decoded(base64.b64decode(message.audio.data), SoundFormat.WAV)
    assert (len(heard), rate) == (5 * REPLY_WORD, 16_000)


@pytest.mark.parametrize("form", ["pcm16", "wav", "mp3", "opus", "flac", "aac"])
def test_a_spoken_answer_is_streamed(make_client: MakeClient, form: str) -> None:
    request = HELLO | AUDIO | {"audio": {"voice": {"id": "alloy"}, "format": form}}

    deltas = [chunk.choices[0].delta for chunk in streamed(make_client(), request)]
    audio = [delta.audio for delta in deltas if delta.audio is not None]

    assert "".join(a.transcript or "" for a in audio) == "You said one two three."
    sound = b"".join(base64.b64decode(a.data) for a in audio if a.data)
    heard, rate = decoded(sound, SoundFormat("pcm" if form == "pcm16" else form))
    assert len(heard) / rate == pytest.approx(1.0, abs=0.2)
    assert audio[-1].expires_at is not None
    assert len({a.id for a in audio}) == 1
    assert not any(delta.content for delta in deltas)


def test_a_voice_that_fails_in_a_stream_is_its_last_event(
    make_client: MakeClient, fake_engine: FakeEngine
) -> None:
    fake_engine.speaking.fault = RuntimeError("secret detail")

    response = make_client().post(URL, json=HELLO | AUDIO | {"stream": True})

    last = json.loads(list(events(response.text))[-1])
    assert last["error"]["type"] == "server_error"
    assert "secret" not in response.text


def test_tools_are_called(make_client: MakeClient) -> None:
    request = HELLO | {"tools": TOOLS, "tool_choice": "required"}
    choice = whole(make_client(), request).choices[0]

    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert (call.type, call.function.name, call.function.arguments) == ("function", "count", "{}")

    chunks = streamed(make_client(), request)
    calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
    assert (calls[0].function.name, calls[0].id) == ("count", "call_fake")
    assert "".join(c.function.arguments or "" for c in calls if c.function) == "{}"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_message_of_the_sdk_can_be_sent_back(
    make_client: MakeClient, fake_engine: FakeEngine
) -> None:
    client = make_client()
    named = {"type": "function", "function": {"name": "count"}}
    message = whole(client, HELLO | {"tools": TOOLS, "tool_choice": named}).choices[0].message
    call = (message.tool_calls or [])[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "three"}

    for sent in (message.model_dump(), message.model_dump(exclude_none=True)):
        history = [*HELLO["messages"], sent, result]
        answer = whole(client, HELLO | {"tools": TOOLS, "messages": history})
        assert answer.choices[0].message.content == "You said three."
    asked, told = fake_engine.writer.seen[-1][-2:]  # type: ignore[attr-defined]
    assert [(c.id, c.name, c.arguments) for c in asked.calls] == [(call.id, "count", "{}")]
    assert (told.role, told.call_id) == ("tool", call.id)


def test_a_spoken_message_is_sent_back_with_its_transcript(make_client: MakeClient) -> None:
    client = make_client()
    message = whole(client, HELLO | AUDIO).choices[0].message.model_dump()

    whole(client, HELLO | {"messages": [*HELLO["messages"], message, *HELLO["messages"]]})

    message["audio"] = {"id": message["audio"]["id"]}
    again = client.post(URL, json=HELLO | {"messages": [message]})
    assert "transcript" in error(again, 400, param="messages.0.audio")


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"n": 1, "logprobs": False, "logit_bias": None, "frequency_penalty": 0},
        {"prompt_cache_key": "k", "safety_identifier": "s", "tools": [], "stop": None},
        {"response_format": {"type": "text"}, "modalities": ["text"], "top_p": 0, "seed": -1},
        {"stop": "x"},
        {"stop": ["x", "y"]},
    ],
)
def test_options_that_change_nothing_are_taken(
    make_client: MakeClient, harmless: dict[str, Any]
) -> None:
    assert whole(make_client(), HELLO | harmless).choices


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "gpt-17"}, "model"),
        ({"model": "tts-1"}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 101}]}, "messages"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"store": True}, "store"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": []}, "functions"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"made_up": 1}, "made_up"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"modalities": ["audio"]}, "audio"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
        (AUDIO | {"audio": {"voice": "bob", "format": "wav"}}, "voice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    make_client: MakeClient, change: dict[str, Any], param: str
) -> None:
    response = make_client(max_text_chars=100).post(URL, json=HELLO | change)

    error(response, 404 if param == "model" else 400)
    assert response.json()["error"]["param"].startswith(param)


@pytest.mark.parametrize(
    "change",
    [
        {"tool_choice": "required"},
        {"tools": TOOLS * 2},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}},
    ],
)
def test_tools_that_do_not_fit_each_other_are_refused(
    make_client: MakeClient, change: dict[str, Any]
) -> None:
    error(make_client().post(URL, json=HELLO | change), 400)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://127.0.0.1:1/a.png", "data:text/html;base64,AAAA", "x"]
)
def test_a_picture_from_elsewhere_is_refused(make_client: MakeClient, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}

    error(make_client().post(URL, json=user(part)), 400, param="messages.0.content.0.image_url")


def test_private_addresses_are_refused_even_where_urls_are_allowed(make_client: MakeClient) -> None:
    client = make_client(allow_remote_urls=True)
    for url in ("http://127.0.0.1:1/", "http://[::1]/", "http://localhost/", "http://10.0.0.1/"):
        part = {"type": "image_url", "image_url": {"url": url}}
        assert "public" in error(client.post(URL, json=user(part)), 400)


def test_broken_media_are_refused(make_client: MakeClient) -> None:
    client = make_client()
    error(client.post(URL, json=user(image_part(b"no picture"))), 400, code="invalid_media")
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    error(client.post(URL, json=user(part)), 400, param="messages.0.content.0.input_audio")


@pytest.fixture
def tiny_client(
    make_client: MakeClient, make_state: Callable[..., ServerState], fake_engine: FakeEngine
) -> TestClient:
    """A client of a server whose language model is a real one, though a random one."""
    return make_client(make_state(replace(fake_engine, writer=tiny_writer())))


def test_json_of_a_schema_and_of_any_kind(tiny_client: TestClient) -> None:
    schema = TOOLS[0]["function"]["parameters"]  # type: ignore[index]
    form = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema}}
    content = whole(tiny_client, HELLO | {"response_format": form}).choices[0].message.content
    assert set(json.loads(content or "")) == {"n"}

    form = {"type": "json_object"}
    answer = whole(tiny_client, HELLO | {"response_format": form, "max_tokens": 9}).choices[0]
    assert (answer.message.content or "").startswith("{")


def test_a_schema_that_cannot_be_enforced_is_a_400_even_in_a_stream(
    tiny_client: TestClient,
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    for stream in (True, False):
        request = HELLO | {"response_format": form, "stream": stream}
        assert "not" in error(tiny_client.post(URL, json=request), 400, param="response_format")


def test_messages_beyond_the_context_are_a_400(tiny_client: TestClient) -> None:
    long = [{"role": "user", "content": "x" * 600}]

    assert "512 tokens" in error(tiny_client.post(URL, json=HELLO | {"messages": long}), 400)


def test_a_named_tool_is_called_with_arguments_of_its_schema(tiny_client: TestClient) -> None:
    named = {"type": "function", "function": {"name": "count"}}
    choice = whole(tiny_client, HELLO | {"tools": TOOLS, "tool_choice": named}).choices[0]

    (call,) = choice.message.tool_calls or []
    assert json.loads(call.function.arguments)["n"] in range(10)


@pytest.mark.models
def test_the_sdk_drives_the_real_models(live_server: Any) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{live_server.base_url}/v1", api_key="none", max_retries=0)
    hello: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}]}
    answer = client.chat.completions.create(**hello)
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens_details.cached_tokens > 10
    pieces = client.chat.completions.create(**hello, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    assert text == answer.choices[0].message.content
