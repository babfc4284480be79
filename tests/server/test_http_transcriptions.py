import io
import json
from typing import Any

import pytest
import soundfile
from openai.types.audio import (
    Transcription,
    TranscriptionStreamEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)

from tests.assistant.session_fakes import say
from tests.server.conftest import MakeClient
from tests.server.fakes import FakeEngine
from tests.server.sdk_types import checked, error, events

URL, TRANSLATE = "/v1/audio/transcriptions", "/v1/audio/translations"


def recording(text: str = "what is this") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, say(text), 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


WAV = {"file": ("question.wav", recording())}
WHISPER = {"model": "whisper-1"}


def test_json_is_the_default(make_client: MakeClient) -> None:
    response = make_client().post(URL, files=WAV, data=WHISPER)

    heard = checked(Transcription, response.text)
    assert heard.text == "what is this"
    assert heard.usage.seconds == pytest.approx(0.93)


@pytest.mark.parametrize(
    ("form", "kind", "text"),
    [
        ("text", "text/plain", "what is this\n"),
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> 00:00:00,920\nwhat is this\n\n"),
        ("vtt", "text/vtt", "WEBVTT\n\n1\n00:00:00.000 --> 00:00:00.920\nwhat is this\n\n"),
    ],
)
def test_text_and_subtitles(make_client: MakeClient, form: str, kind: str, text: str) -> None:
    response = make_client().post(URL, files=WAV, data=WHISPER | {"response_format": form})

    assert response.headers["content-type"].startswith(kind)
    assert response.text == text


@pytest.mark.parametrize("times", [[], ["segment"], ["word"], ["word", "segment"]])
def test_verbose_json_has_the_times_that_are_asked_for(
    make_client: MakeClient, times: list[str]
) -> None:
    data = WHISPER | {"response_format": "verbose_json", "timestamp_granularities[]": times}
    response = make_client().post(URL, files=WAV, data=data)

    heard = checked(TranscriptionVerbose, response.text, beside={"task"})
    assert (heard.language, heard.duration) == ("english", pytest.approx(0.93))
    assert (heard.segments is None) == (times == ["word"])
    assert (heard.words is None) == ("word" not in times)
    if heard.words:
        assert [word.word for word in heard.words] == ["what", "is", "this"]
        assert heard.words[1].start == pytest.approx(0.31)


def test_other_languages_have_their_english_names(make_client: MakeClient) -> None:
    data = WHISPER | {"response_format": "verbose_json", "language": "de"}

    assert make_client().post(URL, files=WAV, data=data).json()["language"] == "german"


def test_a_stream_is_the_same_text_in_pieces(make_client: MakeClient) -> None:
    response = make_client().post(URL, files=WAV, data=WHISPER | {"stream": "true"})

    assert response.headers["content-type"].startswith("text/event-stream")
    *deltas, done = [checked(TranscriptionStreamEvent, event) for event in events(response.text)]
    assert "".join(delta.delta for delta in deltas) == done.text == "what is this"
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens


def test_silence_is_an_empty_text(make_client: MakeClient) -> None:
    files = {"file": ("a.wav", _silence())}

    assert make_client().post(URL, files=files, data=WHISPER).json()["text"] == ""


def _silence() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, [0.0] * 16_000, 16_000, format="WAV")
    return file.getvalue()


def test_chunking_is_taken_as_the_sdk_sends_it(make_client: MakeClient) -> None:
    client = make_client()
    for chunking in (
        {"chunking_strategy": "auto"},
        {"chunking_strategy[type]": "server_vad", "chunking_strategy[threshold]": "0.5"},
    ):
        assert client.post(URL, files=WAV, data=WHISPER | chunking).status_code == 200


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/dev/zero", "a\\b.wav", "x" * 1000, "..", "é\n"]
)
def test_the_name_of_a_file_means_nothing(make_client: MakeClient, name: str) -> None:
    response = make_client().post(URL, files={"file": (name, recording())}, data=WHISPER)

    assert response.json()["text"] == "what is this"


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "tts-1"}, 404, "model"),
        ({"model": "whisper-9"}, 404, "model"),
        ({"language": "tlh"}, 400, "language"),
        ({"temperature": "1.5"}, 400, "temperature"),
        ({"response_format": "docx"}, 400, "response_format"),
        ({"timestamp_granularities[]": "word"}, 400, "timestamp_granularities"),
        ({"stream": "true", "response_format": "srt"}, 400, "response_format"),
        ({"stream": "perhaps"}, 400, "stream"),
        ({"include[]": "logprobs"}, 400, "include[]"),
        ({"keywords[]": "Voxsight"}, 400, "keywords[]"),
        ({"known_speaker_names[]": "me"}, 400, "known_speaker_names[]"),
        ({"prompt": "x" * 101}, 400, "prompt"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    make_client: MakeClient, change: dict[str, str], status: int, param: str
) -> None:
    client = make_client(max_text_chars=100)

    error(client.post(URL, files=WAV, data=WHISPER | change), status, param=param)


def test_missing_fields_are_named(make_client: MakeClient) -> None:
    client = make_client()
    error(client.post(URL, files=WAV), 400, param="model")
    error(client.post(URL, data=WHISPER), 400, param="file")
    error(client.post(URL, data=WHISPER | {"file": "a.wav"}), 400, param="file")
    error(client.post(URL, json=WHISPER), 400)


def test_what_is_no_recording_is_refused(make_client: MakeClient) -> None:
    client = make_client()
    for content in (
        b"",
        b"hello",
        recording()[:100],
        b"RIFF" + bytes(100),
        b"#EXTM3U\nfile:///etc",
    ):
        message = error(
            client.post(URL, files={"file": ("a.wav", content)}, data=WHISPER), 400, param="file"
        )
        assert "/tmp" not in message


def test_a_file_that_is_too_large_is_refused(make_client: MakeClient) -> None:
    client = make_client(max_upload_bytes=1000)

    error(client.post(URL, files=WAV, data=WHISPER), 413)
    error(client.post(URL, files={"file": ("a", bytes(10**6))}, data=WHISPER), 413)


def test_a_recording_that_is_too_long_is_refused(make_client: MakeClient) -> None:
    client = make_client(max_audio_s=0.5)

    assert "longer than 0.5 s" in error(
        client.post(URL, files=WAV, data=WHISPER), 400, param="file"
    )


def test_a_recogniser_that_fails_is_one_error(
    make_client: MakeClient, fake_engine: FakeEngine
) -> None:
    client = make_client()
    fake_engine.hearing.fault = RuntimeError("secret detail")
    for stream in ("false", "true"):
        response = client.post(URL, files=WAV, data=WHISPER | {"stream": stream})
        assert "secret" not in error(response, 500)

    fake_engine.release()
    assert client.post(URL, files=WAV, data=WHISPER).status_code == 200


def test_a_fault_in_a_stream_that_has_begun_is_its_last_event(
    make_client: MakeClient, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser: Any = fake_engine.models.recogniser
    segments = recogniser._segments

    def broken(sound: Any) -> Any:
        yield from segments(sound)
        raise RuntimeError("secret detail")

    monkeypatch.setattr(recogniser, "_segments", broken)

    response = make_client().post(URL, files=WAV, data=WHISPER | {"stream": "true"})

    first, last = [json.loads(event) for event in events(response.text)]
    assert first["delta"] == "what is this"
    assert last["error"]["type"] == "server_error"
    assert "secret" not in response.text


def test_translations(make_client: MakeClient) -> None:
    client = make_client()
    assert checked(
        Translation, client.post(TRANSLATE, files=WAV, data=WHISPER).text, beside={"usage"}
    ).text
    data = WHISPER | {"response_format": "verbose_json"}
    verbose = client.post(TRANSLATE, files=WAV, data=data)
    told = checked(TranslationVerbose, verbose.text, beside={"task", "usage"})
    assert told.language == "english"
    error(
        client.post(TRANSLATE, files=WAV, data=WHISPER | {"language": "de"}), 400, param="language"
    )


def test_a_model_of_one_language_says_what_to_do(
    make_client: MakeClient, fake_engine: FakeEngine
) -> None:
    fake_engine.models.recogniser.multilingual = False  # type: ignore[misc]

    message = error(make_client().post(TRANSLATE, files=WAV, data=WHISPER), 400, param="model")

    assert "whisper-base" in message
