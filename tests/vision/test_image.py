"""Decoding pictures: every mode ends as RGB, everything else as one VisionError."""

import io
import os
import random
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vision.errors import VisionError
from vision.image import ImageLimits, read_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def picture(seed: int = 0, size: tuple[int, int] = (31, 17)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, size: tuple[int, int] = (2, 2)) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *chunks])


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_give_the_same_pixels(format: str) -> None:
    original = picture()
    options = {"lossless": True} if format == "WEBP" else {}
    decoded = read_image(encoded(original, format, **options))
    assert decoded.mode == "RGB"
    assert decoded.tobytes() == original.tobytes()


def test_jpeg_in_grey_colour_and_cmyk(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), RED)
    for image in (red, red.convert("L").convert("RGB"), red.convert("CMYK")):
        path = tmp_path / "any.txt"  # the content decides, not the name
        path.write_bytes(encoded(image, "JPEG", quality=95))
        expected = np.asarray(image.convert("RGB"), dtype=int)
        assert np.abs(np.asarray(read_image(path), dtype=int) - expected).max() <= 3


def test_transparency_lies_on_white() -> None:
    rgba = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    rgba.putpixel((1, 0), (255, 0, 0, 255))
    rgba.putpixel((2, 0), (0, 0, 0, 128))
    pixels = list(np.asarray(read_image(encoded(rgba)))[0].tolist())
    assert pixels == [[255, 255, 255], [255, 0, 0], [127, 127, 127]]


def test_palette_with_transparent_entry_and_grey_with_alpha() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    decoded = read_image(encoded(palette, "GIF", transparency=0))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [WHITE, RED]
    assert read_image(encoded(Image.new("LA", (1, 1), (0, 0)))).getpixel((0, 0)) == WHITE
    assert read_image(encoded(Image.new("1", (1, 1), 1))).getpixel((0, 0)) == WHITE


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert np.asarray(read_image(encoded(grey)))[0, :, 0].tolist() == [0, 100, 255]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), "blue")]
    for format, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert read_image(data).getpixel((0, 0)) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(orientation)
    with Image.open(io.BytesIO(encoded(stored, exif=exif))) as image:
        from PIL import ImageOps

        expected = ImageOps.exif_transpose(image)
    decoded = read_image(encoded(stored, exif=exif))
    assert decoded.size == expected.size
    assert decoded.tobytes() == expected.tobytes()
    assert not decoded.info


def test_broken_exif_leaves_the_picture_as_it_is() -> None:
    original = picture()
    data = encoded(original, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\xff" * 40)
    assert read_image(data).tobytes() == original.tobytes()


def test_huge_png_is_refused_from_its_header() -> None:
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    with pytest.raises(VisionError, match="50,000,000 pixels"):
        read_image(png(body, size=(30_000, 30_000)))
    with pytest.raises(VisionError, match=r"9,000 x 11,000 pixels, more than the 50,000,000"):
        read_image(png(body, size=(9_000, 11_000)))  # where Pillow would only warn


def test_huge_webp_is_refused_before_its_canvas_is_allocated() -> None:
    size = (15_999).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + size
    lossless = b"VP8L" + struct.pack("<I", 20) + b"\x2f"
    lossless += (15_999 | 15_999 << 14).to_bytes(4, "little") + b"\0" * 20
    lossy = b"VP8 " + struct.pack("<I", 20) + b"\0\0\0\x9d\x01\x2a"
    lossy += struct.pack("<HH", 16_000, 16_000) + b"\0" * 20
    for body in (extended, lossless, lossy):
        with pytest.raises(VisionError, match="16,000 x 16,000 pixels"):
            read_image(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)


def test_limits_on_bytes_and_shape() -> None:
    data = encoded(picture())
    assert read_image(data, ImageLimits(max_bytes=len(data), max_pixels=31 * 17)).size == (31, 17)
    with pytest.raises(VisionError, match="larger than"):
        read_image(data, ImageLimits(max_bytes=len(data) - 1))
    with pytest.raises(VisionError, match="more than the 526 allowed"):
        read_image(data, ImageLimits(max_pixels=31 * 17 - 1))
    with pytest.raises(VisionError, match="short side"):
        read_image(encoded(Image.new("L", (1001, 10))))


@pytest.mark.parametrize(
    "options", [{"max_pixels": 0}, {"max_pixels": 10**9}, {"max_bytes": 0}, {"max_ratio": 0.5}]
)
def test_senseless_limits_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(VisionError):
        ImageLimits(**options)


def test_compressed_text_bomb_is_refused() -> None:
    bomb = b"Comment\0\0" + zlib.compress(b"a" * 50_000_000, 9)
    with pytest.raises(VisionError, match="damaged"):
        read_image(png(chunk(b"zTXt", bomb)))


def test_things_that_are_not_pictures(tmp_path: Path) -> None:
    folder, missing, empty, text = (tmp_path / name for name in ("d", "m", "e.png", "t.jpg"))
    folder.mkdir()
    empty.touch()
    text.write_text("I am no picture")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    tiff = tmp_path / "scan.png"
    picture().save(tiff, "TIFF")
    cases = {
        folder: "not a file",
        missing: "No such file",
        empty: "is empty",
        text: "is not a readable",
        pipe: "not a file",
        tiff: "is not a readable",
        Path("\0"): "null",
    }
    for path, message in cases.items():
        with pytest.raises(VisionError, match=message) as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_truncated_picture_is_refused(format: str) -> None:
    data = encoded(picture(size=(200, 200)), format)
    with pytest.raises(VisionError):
        read_image(data[: len(data) // 2])


FILES = [
    encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    encoded(picture(), "PNG"),
    encoded(picture().convert("P"), "PNG", transparency=3),
    encoded(picture(), "WEBP"),
    encoded(picture().convert("RGBA"), "WEBP", lossless=True),
    encoded(picture(), "GIF"),
    encoded(picture(), "BMP"),
]


def is_refused_or_rgb(data: bytes) -> None:
    try:
        image = read_image(data, ImageLimits(max_pixels=1_000_000))
    except VisionError:
        return
    assert image.mode == "RGB"
    assert image.width * image.height <= 1_000_000


@given(st.binary(max_size=200))
@example(b"\x89PNG\r\n\x1a\n")
@example(b"RIFF\x10\0\0\0WEBPVP8 ")
def test_random_bytes(data: bytes) -> None:
    is_refused_or_rgb(data)
    for file in FILES:
        is_refused_or_rgb(file[:40] + data)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(FILES),
    st.integers(0, 2**32),
    st.integers(0, 12),
    st.floats(0, 1),
)
def test_flipped_and_truncated_files(file: bytes, seed: int, flips: int, keep: float) -> None:
    rng = random.Random(seed)
    broken = bytearray(file[: max(1, round(len(file) * keep))])
    for _ in range(flips):
        # Headers steer the decoders, so half of the damage goes there.
        end = min(len(broken), 64) if rng.random() < 0.5 else len(broken)
        broken[rng.randrange(end)] = rng.randrange(256)
    is_refused_or_rgb(bytes(broken))


def test_threads_do_not_disturb_each_other() -> None:
    results: list[bytes] = []

    def work() -> None:
        for file in FILES * 3:
            results.append(read_image(file).tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 * 3 * len(FILES)
    assert len(set(results)) == len({read_image(file).tobytes() for file in FILES})
