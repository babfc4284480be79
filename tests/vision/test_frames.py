"""Which frames of a camera are kept, on drawn scenes and on photos."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from vision.errors import VisionError
from vision.frames import FrameOptions, FrameSelector, FrameState, difference, small_copy

STEP = 8_000  # two frames a second
SIZE = (320, 180)


def wide(seed: int, width: int = 1400) -> Image.Image:
    """A landscape of coloured blocks, wider than a frame, as something to turn a camera over."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, 220), tuple(rng.integers(40, 200, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(width // 12):
        left, top = int(rng.integers(0, width)), int(rng.integers(0, 200))
        box = (left, top, left + int(rng.integers(20, 90)), top + int(rng.integers(15, 70)))
        draw.rectangle(box, tuple(rng.integers(0, 256, 3).tolist()))
    return image


def view(seed: int, left: int = 20, top: int = 20) -> Image.Image:
    return wide(seed).crop((left, top, left + SIZE[0], top + SIZE[1]))


def noisy(image: Image.Image, seed: int, sigma: float = 12.0) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, sigma, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def exposed(image: Image.Image, *gains: float) -> Image.Image:
    pixels = np.asarray(image, np.float64) * np.array(gains)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def kept(frames: Iterable[Image.Image], options: FrameOptions | None = None) -> list[int]:
    """The numbers of the frames that are kept, two a second."""
    selector, state = FrameSelector(options or FrameOptions()), FrameState()
    return [
        number
        for number, frame in enumerate(frames)
        if selector.see(state, frame, number * STEP) is not None
    ]


def differs(first: Image.Image, second: Image.Image) -> float:
    options = FrameOptions()
    return difference(
        small_copy(first), small_copy(second), levels=options.cell_levels, max_gain=options.max_gain
    )


def test_the_first_frame_is_kept_at_once_and_is_what_the_camera_shows() -> None:
    selector, state = FrameSelector(), FrameState()
    assert state.current is None
    first = view(1)
    frame = selector.see(state, first, 160)
    assert frame is state.current
    assert frame is not None and (frame.image, frame.at) == (first, 160)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_a_trembling_hand_keep_nothing_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [
        noisy(view(seed, *(20 + rng.integers(-3, 4, 2)).tolist()), number) for number in range(12)
    ]
    assert kept(frames) == [0]


@pytest.mark.parametrize("seed", range(5))
def test_exposure_and_white_balance_may_drift(seed: int) -> None:
    scene = exposed(view(seed), 0.7, 0.7, 0.7)  # nothing burnt out
    drift = [exposed(scene, gain, gain, gain) for gain in np.linspace(1, 1.45, 10)]
    warm = [exposed(scene, 1.2, 1.0, 1 / share) for share in np.linspace(1, 1.3, 10)]
    assert kept([*drift, *reversed(drift), *warm]) == [0]


@pytest.mark.parametrize("seed", range(5))
def test_light_that_flickers_is_no_change(seed: int) -> None:
    scene = exposed(view(seed), 0.7, 0.7, 0.7)
    assert kept([exposed(scene, *[(1.3, 0.8)[i % 2]] * 3) for i in range(12)]) == [0]


def test_a_flash_of_another_scene_is_not_kept_however_often() -> None:
    home, away = view(1), view(2)
    assert kept([home, away] * 12) == [0]


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_is_kept_when_it_has_settled(seed: int) -> None:
    scenes = [noisy(view(seed + number // 5 * 10), number) for number in range(15)]
    assert kept(scenes) == [0, 6, 11]


def test_the_blurred_frames_of_a_quick_turn_are_not_kept() -> None:
    home, away = view(1), view(2)
    turning = [
        Image.blend(home, away, share).filter(ImageFilter.BoxBlur(12)) for share in (0.3, 0.7)
    ]
    frames = [home, home, *turning, away, away, away]
    assert kept(frames) == [0, 5]


def test_a_slow_pan_keeps_a_frame_now_and_then_and_the_last_scene_is_seen() -> None:
    lefts = [*range(0, 1000, 8), *[1000] * 8]
    chosen = kept([view(3, left) for left in lefts])
    assert chosen[0] == 0
    # No frame kept resembles the one kept before it, and the pan does not keep every frame.
    for a, b in pairwise(chosen):
        assert differs(view(3, lefts[a]), view(3, lefts[b])) >= 0.06
    assert 4 <= len(chosen) <= len(lefts) // 2
    assert differs(view(3, lefts[chosen[-1]]), view(3, 1000)) < 0.06


def test_a_scene_that_never_settles_is_kept_after_a_while() -> None:
    frames = [view(0), *[view(seed) for seed in range(1, 20)]]
    options = FrameOptions(max_wait_ms=3000)
    assert kept(frames, options) == [0, 7, 14]  # different since 1 and 8, three seconds each


def test_a_scene_that_comes_back_before_it_settled_is_still_the_same() -> None:
    home = view(1)
    frames = [home, *[view(2), view(3), view(4)], *[home] * 5]
    assert kept(frames) == [0]
    assert kept([*frames, *[view(2), view(3), view(4), view(5), view(6)]]) == [0]


def test_a_thing_held_up_is_a_change_and_taking_it_away_too() -> None:
    home = view(1)
    held = home.copy()
    ImageDraw.Draw(held).ellipse((110, 50, 220, 150), (250, 30, 140))
    assert kept([home, home, held, held, held, home, home]) == [0, 3, 6]


def test_another_colour_of_the_same_brightness_is_a_change() -> None:
    red, blue = Image.new("RGB", SIZE, (220, 60, 60)), Image.new("RGB", SIZE, (60, 60, 220))
    assert kept([red, blue, blue]) == [0, 2]


def test_frames_that_come_too_often_are_not_looked_at() -> None:
    selector, state = FrameSelector(), FrameState()
    assert selector.see(state, view(1), 0) is not None
    # Thirty a second: one in fourteen is looked at, so a turn of the camera is still a movement.
    looks = []
    for number in range(1, 43):
        selector.see(state, view(1), number * 500)
        looks.append(state.looked)
    assert sorted(set(looks)) == [0, 6_500, 13_000, 19_500]
    assert state.arrived == 21_000


def test_only_the_newest_kept_frames_stay_in_memory() -> None:
    selector, state = FrameSelector(FrameOptions(max_kept=2)), FrameState()
    for number in range(12):
        selector.see(state, view(number // 3), number * STEP)
    assert [frame.at for frame in state.kept] == [7 * STEP, 10 * STEP]
    assert state.current is state.kept[-1]


def test_two_streams_do_not_touch_each_other() -> None:
    selector = FrameSelector()
    alone = [kept([view(seed + n // 4) for n in range(12)]) for seed in (1, 50)]
    states = FrameState(), FrameState()
    together: list[list[int]] = [[], []]
    for number in range(12):
        for index, seed in enumerate((1, 50)):
            frame = view(seed + number // 4)
            if selector.see(states[index], frame, number * STEP):
                together[index].append(number)
    assert together == alone


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0.7, 1.4))
@settings(max_examples=25, deadline=None)
def test_the_difference_is_symmetric_and_none_to_itself(a: int, b: int, gain: float) -> None:
    first, second = view(a), exposed(view(b), gain, gain, gain)
    assert differs(first, second) == pytest.approx(differs(second, first), abs=0.02)
    assert differs(second, second) == 0


def test_any_size_and_shape_is_read() -> None:
    for size in ((1, 1), (3, 200), (4000, 10), (1280, 720)):
        assert small_copy(Image.new("RGB", size, (9, 8, 7))).shape == (24, 32, 3)


def test_what_is_no_frame_is_refused() -> None:
    selector, state = FrameSelector(), FrameState()
    with pytest.raises(VisionError, match="an RGB frame with pixels, but got L of 4 x 4"):
        selector.see(state, Image.new("L", (4, 4)), 0)
    with pytest.raises(VisionError, match="an RGB frame with pixels, but got RGB of 0 x 4"):
        selector.see(state, Image.new("RGB", (0, 4)), 0)
    selector.see(state, view(1), 100)
    with pytest.raises(VisionError, match="one at sample 99 came after 100"):
        selector.see(state, view(1), 99)
    assert len(state.kept) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_interval_ms": -1},
        {"changed_share": 0.0},
        {"settled_share": 0.5},
        {"max_wait_ms": -1},
        {"cell_levels": 0.0},
        {"max_gain": 0.9},
        {"max_kept": 0},
    ],
)
def test_options_without_meaning_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(VisionError, match=f"expected {name} .*change that option"):
        FrameOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.models
def test_photos(model_folder: Callable[[str], Path]) -> None:
    folder = model_folder("sample-photos")
    photos = [
        Image.open(path).convert("RGB").resize((1400, 840))
        for path in sorted(folder.glob("*.[jp][pn]g"))
    ]
    assert len(photos) >= 3
    frames = []
    for number, photo in enumerate(photos):
        for step in range(4):
            hand = 60 + 6 * step
            frame = photo.crop((hand, hand, hand + 1280, hand + 720))
            frame = ImageEnhance.Brightness(frame).enhance(1 - 0.1 * step)
            frames.append(noisy(frame, number, 10))
    assert kept(frames) == [0, *range(5, 4 * len(photos), 4)]
