import asyncio
import base64
import io
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from assistant.config import Settings
from assistant.server.config import ServerConfig
from assistant.server.errors import ApiError
from assistant.server.media import (
    MediaRules,
    read_base64_sound,
    read_picture,
    read_upload_sound,
    uploaded,
)
from audio.encode import SoundFormat, encode_blocks

RULES = MediaRules.of(ServerConfig(), Settings())


class Upload:
    """An upload of so many bytes that is never whole in memory."""

    def __init__(self, data: bytes, zeros: int = 0) -> None:
        self._data, self._zeros = io.BytesIO(data), zeros

    async def read(self, size: int = -1) -> bytes:
        if data := self._data.read(size):
            return data
        count = min(size, self._zeros)
        self._zeros -= count
        return bytes(count)


def png(size: tuple[int, int] = (8, 6), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 1).save(file, "PNG")
    return file.getvalue()


def wav(seconds: float = 0.5, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(round(seconds * rate), 0.1), rate, format="WAV")
    return file.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture(url: str, rules: MediaRules = RULES) -> Any:
    return asyncio.run(read_picture(url, rules, "messages.0"))


def refused(url: str, rules: MediaRules = RULES) -> ApiError:
    with pytest.raises(ApiError) as refusal:
        picture(url, rules)
    error = refusal.value
    assert (error.status, error.param) == (400, "messages.0")
    assert error.message.count("\n") == 0
    return error


@pytest.mark.parametrize("head", ["data:image/png;base64,", "DATA:image/PNG;name=a.png;base64,"])
def test_a_data_url_is_a_picture(head: str) -> None:
    assert picture(head + base64.b64encode(png()).decode()).size == (8, 6)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "/etc/passwd",
        "../../etc/passwd",
        "ftp://example.org/a.png",
        "http://example.org/a.png",
        "https://127.0.0.1/a.png",
        "gopher://[::1]/",
        "blob:x",
        "",
    ],
)
def test_everything_but_data_is_refused(url: str) -> None:
    assert refused(url).code == "url_not_allowed"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a", "jar:http://x/"])
def test_other_schemes_are_refused_even_where_web_pages_are_not(url: str) -> None:
    rules = MediaRules.of(ServerConfig(allow_remote_urls=True), Settings())

    assert refused(url, rules).code == "url_not_allowed"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:,hello", "invalid_data_url"),
        ("data:image/png,xyz", "invalid_data_url"),
        (data_url(png(), "text/html"), "invalid_data_url"),
        (data_url(wav(), "audio/wav"), "invalid_data_url"),
        ("data:image/png;base64,****", "invalid_base64"),
        ("data:image/png;base64,abc", "invalid_base64"),
        ("data:image/png;base64,é", "invalid_base64"),
        ("data:image/png;base64,", "invalid_media"),
        (data_url(b"no picture"), "invalid_media"),
        (data_url(png()[:-30]), "invalid_media"),
    ],
)
def test_what_is_no_picture_is_refused(url: str, code: str) -> None:
    assert refused(url).code == code


def test_base64_too_long_is_refused_before_it_is_decoded() -> None:
    url = "data:image/png;base64," + "A" * (RULES.images.max_bytes * 4 // 3 + 8)

    tracemalloc.start()
    assert refused(url).code == "file_too_large"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < len(url) + (1 << 20)


def test_a_picture_that_decodes_to_gigabytes_is_refused() -> None:
    bomb = data_url(png((12_000, 12_000), "1"))  # 144 million pixels in some kilobytes

    assert len(bomb) < 100_000
    assert "pixels" in refused(bomb).message


@given(st.binary(max_size=200))
def test_no_data_url_brings_anything_but_a_picture_or_a_refusal(data: bytes) -> None:
    refused(data_url(data))


def test_a_recording_in_base64_is_read() -> None:
    for text in (base64.b64encode(wav()).decode(), data_url(wav(), "audio/wav")):
        sound = asyncio.run(read_base64_sound(text, RULES))
        assert (sound.rate, len(sound.samples)) == (16_000, 8_000)


def test_a_recording_is_refused_without_the_server_s_own_paths() -> None:
    with pytest.raises(ApiError) as refusal:
        asyncio.run(read_base64_sound(base64.b64encode(b"x" * 100).decode(), RULES, "input_audio"))

    assert "voxsight-" not in refusal.value.message
    assert refusal.value.message.startswith("The recording is not a sound file")


def test_an_upload_is_a_file_and_is_removed() -> None:
    async def use() -> Path:
        async with uploaded(Upload(b"abc"), RULES) as path:
            assert path.read_bytes() == b"abc"
        return path

    assert not asyncio.run(use()).exists()


def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    upload = Upload(wav(), zeros=10 * RULES.max_file_bytes)

    tracemalloc.start()
    with pytest.raises(ApiError) as refusal:
        asyncio.run(read_upload_sound(upload, RULES))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert refusal.value.status == 413
    assert list(tmp_path.iterdir()) == []
    assert peak < 8 << 20


def test_a_recording_that_decodes_to_gigabytes_is_refused_with_bounded_memory() -> None:
    rate = 16_000
    minute = np.zeros(60 * rate, np.float32)
    flac = b"".join(encode_blocks((minute for _ in range(30)), SoundFormat.MP3, rate))
    rules = MediaRules.of(ServerConfig(max_audio_s=60), Settings())

    tracemalloc.start()
    with pytest.raises(ApiError) as refusal:
        asyncio.run(read_upload_sound(Upload(flac), rules))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert "longer than 60 s" in refusal.value.message
    assert refusal.value.status == 400
    assert peak < 40 << 20  # half an hour would be 115 MB


def test_a_wrong_sample_rate_is_refused() -> None:
    with pytest.raises(ApiError, match="sample rate of 100 Hz"):
        asyncio.run(read_upload_sound(Upload(wav(rate=100)), RULES))
