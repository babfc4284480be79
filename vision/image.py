"""Reading pictures from strangers: all end as an upright RGB image or as one VisionError."""

from __future__ import annotations

import io
import stat
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vision.errors import VisionError

# TIFF, SVG, PSD, ICNS and the other fifty formats of Pillow stay out: cameras, browsers and
# screenshots do not need them, and each one is another parser of hostile bytes.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

# Pillow itself refuses twice its warning threshold, so a larger cap of ours could not hold.
_PILLOW_CEILING = 2 * 89_478_485

# What Pillow's decoders and the C libraries below them are known to raise on broken bytes.
_DECODER_ERRORS = (
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
)

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# `warnings.catch_warnings` swaps process-wide state: two decoding threads must not interleave.
# One decode at a time also bounds the memory that a crowd of large pictures can take.
_decoding = threading.Lock()


@dataclass(frozen=True)
class ImageLimits:
    """How large a picture may be: width times height, bytes of the file, long side by short side.

    The ratio matters because encoders scale the *short* side to a fixed length.
    """

    max_pixels: int = 50_000_000
    max_bytes: int = 40 * 1024 * 1024
    max_ratio: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.max_pixels <= _PILLOW_CEILING:
            raise VisionError(
                f"max_pixels must lie between 1 and {_PILLOW_CEILING:,}, not {self.max_pixels:,}."
            )
        if self.max_bytes <= 0 or self.max_ratio < 1:
            raise VisionError(
                "max_bytes must be positive and max_ratio at least 1, "
                f"not {self.max_bytes:,} and {self.max_ratio:g}."
            )


def read_image(source: Path | bytes, limits: ImageLimits | None = None) -> Image.Image:
    """Decode one picture to RGB, upright by its EXIF tag, transparency laid on white.

    `source` is a file or the encoded bytes; the content decides the format, the name does not.
    Of an animation the first frame is read. Size limits are checked from the header, before any
    pixel is decoded. Raises VisionError for everything that is not such a picture.
    """
    limits = limits or ImageLimits()
    label, data = _read_bytes(source, limits.max_bytes)
    _check_webp_header(data, label, limits)
    with _decoding, warnings.catch_warnings():
        # Pillow warns about large or slightly odd files; large ones are refused here anyway.
        warnings.simplefilter("ignore")
        return _decode(data, label, limits)


def _read_bytes(source: Path | bytes, max_bytes: int) -> tuple[str, bytes]:
    """Return (a label for messages, the encoded bytes), reading at most the limit plus one."""
    if isinstance(source, bytes):
        label, data = "The picture", source
    else:
        label, data = f"The picture {source}", _read_file(source, max_bytes)
    if not data:
        raise VisionError(f"{label} is empty; give a JPEG, PNG, WebP, GIF or BMP file.")
    if len(data) > max_bytes:
        raise VisionError(f"{label} is larger than {max_bytes:,} bytes; make it smaller.")
    return label, data


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        # A pipe or a device would block or never end, so only plain files are opened.
        if not stat.S_ISREG(path.stat().st_mode):
            raise VisionError(f"Expected a picture file, but {path} is not a file; name a file.")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        if isinstance(error, VisionError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise VisionError(
            f"Cannot read the picture {path}: {reason}; check the path and its permissions."
        ) from error


def _check_webp_header(data: bytes, label: str, limits: ImageLimits) -> None:
    """Check a WebP's canvas before Pillow opens it, because opening already allocates it.

    Layout: RFC 9649, sections 2.5 (VP8), 2.6 (VP8L) and 2.7 (VP8X).
    """
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        height = int.from_bytes(data[28:30], "little") & 0x3FFF
    _check_size((width, height), label, limits)


def _check_size(size: tuple[int, int], label: str, limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise VisionError(
            f"{label} has {width:,} x {height:,} pixels, more than the {limits.max_pixels:,} "
            "allowed; make it smaller."
        )
    if max(size) > limits.max_ratio * min(size):
        raise VisionError(
            f"{label} has {width:,} x {height:,} pixels, longer than {limits.max_ratio:g} times "
            "its short side; crop it."
        )


def _decode(data: bytes, label: str, limits: ImageLimits) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, label, limits)
            image.load()
            _check_size(image.size, label, limits)
            return _upright(_to_rgb(image), _orientation(image))
    except VisionError:
        raise
    except UnidentifiedImageError as error:
        raise VisionError(
            f"{label} is not a readable JPEG, PNG, WebP, GIF or BMP; convert it to one of these."
        ) from error
    except Image.DecompressionBombError as error:
        raise VisionError(
            f"{label} has more than the {limits.max_pixels:,} pixels allowed; make it smaller."
        ) from error
    except _DECODER_ERRORS as error:
        raise VisionError(
            f"{label} is damaged or cut short ({error or type(error).__name__}); "
            "save or download it again."
        ) from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1-8; broken EXIF counts as upright, the pixels are still good."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any decoded mode to RGB without metadata."""
    if image.mode.startswith("I"):
        # 16-bit grey; Pillow's own conversion clips at 255 instead of scaling.
        grey = np.asarray(image).clip(0, 65_535) // 257
        result = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        result = Image.alpha_composite(white, rgba).convert("RGB")
    else:
        result = image.convert("RGB")
    result.info.clear()
    return result
