"""Sound and pictures from strangers: data URLs, base64, uploads and, if allowed, other URLs.

Sizes are checked before anything is decoded, and what is decoded is bounded again by the rooms'
own limits. Names of files are never used.
"""

import asyncio
import base64
import binascii
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, TypeVar

from assistant.config import Settings
from assistant.server.config import ServerConfig
from assistant.server.errors import ApiError
from assistant.server.remote import RemoteLimits, fetch
from audio.errors import AudioError
from audio.media import MediaLimits, read_sound
from audio.pcm import Sound
from vision.errors import VisionError
from vision.image import ImageLimits, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
_BLOCK = 1 << 20
_DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)(;[\w.+-]+=[^;,]{0,100}){0,4};base64,", re.A | re.I
)
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,30}:")


class Upload(Protocol):
    """A file of a form, as starlette gives it."""

    async def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        ...


@dataclass(frozen=True)
class MediaRules:
    """What may come in: sizes of files, of what they decode to, and whether URLs are fetched."""

    images: ImageLimits
    sounds: MediaLimits
    max_file_bytes: int
    remote: RemoteLimits | None = None

    @classmethod
    def of(cls, config: ServerConfig, settings: Settings) -> "MediaRules":
        """The rules that the settings of the server and of the models name."""
        max_image_bytes = min(settings.max_image_bytes, config.max_json_bytes)
        return cls(
            ImageLimits(max_pixels=settings.max_image_pixels, max_bytes=max_image_bytes),
            MediaLimits(
                max_duration_s=min(config.max_audio_s, settings.max_audio_s),
                max_decoded_bytes=settings.max_decoded_audio_bytes,
            ),
            config.max_upload_bytes,
            RemoteLimits(max_image_bytes) if config.allow_remote_urls else None,
        )


async def read_picture(url: str, rules: MediaRules, param: str | None = None) -> "Image":
    """The picture of a data URL, or of a public http(s) URL where the rules allow that.

    ApiError 400 for anything else: another scheme, a private address, a file too large or broken.
    """
    if url[:5].lower() == "data:":
        data = await asyncio.to_thread(_from_data_url, url, "image", rules.images.max_bytes, param)
    else:
        data = await fetch(url, _remote(url, rules, param), param)
    return await _decoded(lambda: read_image(data, rules.images), param)


async def read_base64_sound(text: str, rules: MediaRules, param: str | None = None) -> Sound:
    """The sound of a file in base64, alone or as a data URL, as 16 kHz mono; ApiError 400."""
    if text[:5].lower() == "data:":
        data = await asyncio.to_thread(_from_data_url, text, "audio", rules.max_file_bytes, param)
    else:
        data = await asyncio.to_thread(_from_base64, text, rules.max_file_bytes, param)
    with _temporary() as file:
        await asyncio.to_thread(_write, file, data)
        return await _sound(Path(file.name), rules, param)


@asynccontextmanager
async def uploaded(upload: Upload, rules: MediaRules) -> AsyncIterator[Path]:
    """The upload as a file of its own, which is removed afterwards; ApiError 413 if too large."""
    with _temporary() as file:
        size = 0
        while block := await upload.read(_BLOCK):
            size += len(block)
            if size > rules.max_file_bytes:
                raise _too_large("file", rules.max_file_bytes, 413)
            await asyncio.to_thread(_write, file, block)
        yield Path(file.name)


async def read_upload_sound(upload: Upload, rules: MediaRules) -> Sound:
    """The sound of an uploaded file as 16 kHz mono; ApiError 400 or 413."""
    async with uploaded(upload, rules) as path:
        return await _sound(path, rules, "file")


async def _sound(path: Path, rules: MediaRules, param: str | None) -> Sound:
    def read() -> Sound:
        try:
            return read_sound(path, limits=rules.sounds)
        except AudioError as error:
            # The file has a name that only this server knows.
            raise AudioError(str(error).replace(str(path), "the recording")) from None

    return await _decoded(read, param)


async def _decoded(decode: Callable[[], T], param: str | None) -> T:
    """What `decode` gives, computed in another thread; its errors name the field."""
    try:
        return await asyncio.to_thread(decode)
    except (AudioError, VisionError) as error:
        message = str(error)
        raise ApiError(
            400, message[:1].upper() + message[1:], param=param, code="invalid_media"
        ) from None


def _from_data_url(url: str, kind: str, max_bytes: int, param: str | None) -> bytes:
    head = _DATA_URL.match(url)
    if head is None or not head["type"].lower().startswith(f"{kind}/"):
        raise ApiError(
            400,
            f"Expected a data URL such as 'data:{kind}/...;base64,...', got '{_shown(url)}'; "
            f"encode the {kind} in base64.",
            param=param,
            code="invalid_data_url",
        )
    return _from_base64(url[head.end() :], max_bytes, param)


def _from_base64(text: str, max_bytes: int, param: str | None) -> bytes:
    if len(text) > (max_bytes + 2) // 3 * 4:
        raise _too_large(param, max_bytes, 400)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(
            400,
            "Expected base64 without line breaks, but it has other characters or is cut short; "
            "encode the whole file again.",
            param=param,
            code="invalid_base64",
        ) from None


def _remote(url: str, rules: MediaRules, param: str | None) -> RemoteLimits:
    scheme = _SCHEME.match(url)
    web = scheme is not None and scheme[0].lower() in ("http:", "https:")
    if web and rules.remote is not None:
        return rules.remote
    what = "other URLs are not fetched" if web else "nothing else is opened"
    raise ApiError(
        400,
        f"Expected a data URL such as 'data:image/png;base64,...', got '{_shown(url)}', and {what} "
        "here; send the data itself.",
        param=param,
        code="url_not_allowed",
    )


def _too_large(param: str | None, max_bytes: int, status: int) -> ApiError:
    return ApiError(
        status,
        f"Expected a file of at most {max_bytes} bytes, but it is larger; send less of it.",
        param=param,
        code="file_too_large",
    )


def _shown(url: str) -> str:
    return url[:60] + ("..." if len(url) > 60 else "")


def _temporary() -> "tempfile._TemporaryFileWrapper[bytes]":
    return tempfile.NamedTemporaryFile(prefix="voxsight-")


def _write(file: "IO[bytes] | tempfile._TemporaryFileWrapper[bytes]", data: bytes) -> None:
    file.write(data)
    file.flush()
