"""Makes pictures with known answers out of photos: nothing, two things, a thing somewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SIDE = 224


def central_square(image: Image.Image, side: int = SIDE) -> Image.Image:
    """The picture's central square at `side` pixels."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


def nothing_picture(random: np.random.Generator) -> Image.Image:
    """A picture without a thing in it: a colour, noise, a gradient, stripes, soft or hard blots."""
    makers = (_colour, _noise, _grey_noise, _gradient, _stripes, _blots, _tiles)
    values = makers[int(random.integers(len(makers)))](random)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def blurred(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A photo so far out of focus that nobody could tell what it shows."""
    square = central_square(image)
    return square.filter(ImageFilter.GaussianBlur(float(random.uniform(20, 40))))


def side_by_side(first: Image.Image, second: Image.Image, upright: bool) -> Image.Image:
    """The middle halves of two photos: left and right, or (`upright`) above and below."""
    half = SIDE // 2
    cut = (
        (0, half // 2, SIDE, half // 2 + half)
        if upright
        else (half // 2, 0, half // 2 + half, SIDE)
    )
    canvas = Image.new("RGB", (SIDE, SIDE))
    canvas.paste(central_square(first).crop(cut), (0, 0))
    canvas.paste(central_square(second).crop(cut), (0, half) if upright else (half, 0))
    return canvas


def placed(
    image: Image.Image, ground: Image.Image, random: np.random.Generator
) -> tuple[Image.Image, tuple[float, float]]:
    """A photo, made small, somewhere on a blurred one; with its centre (x, y) in 0..1."""
    side = int(random.integers(100, 150))
    left, top = (int(random.integers(SIDE - side + 1)) for _ in range(2))
    canvas = central_square(ground).filter(ImageFilter.GaussianBlur(30))
    canvas.paste(central_square(image, side), (left, top))
    return canvas, ((left + side / 2) / SIDE, (top + side / 2) / SIDE)


def _rgb(random: np.random.Generator) -> NDArray[np.float64]:
    return random.uniform(0, 255, 3)


def _colour(random: np.random.Generator) -> NDArray[np.float64]:
    return np.zeros((SIDE, SIDE, 3)) + _rgb(random)


def _noise(random: np.random.Generator) -> NDArray[np.float64]:
    return random.normal(_rgb(random), random.uniform(5, 90), (SIDE, SIDE, 3))


def _grey_noise(random: np.random.Generator) -> NDArray[np.float64]:
    grey = random.normal(random.uniform(0, 255), random.uniform(3, 90), (SIDE, SIDE, 1))
    return np.repeat(grey, 3, 2)


def _gradient(random: np.random.Generator) -> NDArray[np.float64]:
    line = np.linspace(0, 1, SIDE)
    share = line[:, None] * random.random() + line[None] * random.random()
    share = (share / share.max())[..., None]
    values: NDArray[np.float64] = share * _rgb(random) + (1 - share) * _rgb(random)
    return values


def _stripes(random: np.random.Generator) -> NDArray[np.float64]:
    band = (np.arange(SIDE) // int(random.integers(2, 60)) % 2)[:, None, None]
    pattern: NDArray[np.float64] = (
        band * _rgb(random) + (1 - band) * _rgb(random) + np.zeros((SIDE, SIDE, 3))
    )
    return pattern if random.random() < 0.5 else pattern.transpose(1, 0, 2)


def _enlarged(random: np.random.Generator, how: Image.Resampling) -> NDArray[np.float64]:
    cells = int(random.integers(2, 28))
    small = Image.fromarray(random.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
    return np.asarray(small.resize((SIDE, SIDE), how), np.float64)


def _blots(random: np.random.Generator) -> NDArray[np.float64]:
    return _enlarged(random, Image.Resampling.BICUBIC)


def _tiles(random: np.random.Generator) -> NDArray[np.float64]:
    return _enlarged(random, Image.Resampling.NEAREST)
