"""The resampler that runs in the audio thread, against SciPy's and its own promises."""

import base64
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from tests.ui.browsers import watched
from tests.ui.site import Site

Floats = NDArray[np.float32]
RATES = [(48_000, 24_000), (44_100, 24_000), (16_000, 24_000), (24_000, 48_000), (24_000, 44_100)]

RUN = """async ([data, from, to, pieces]) => {
  const { Resampler } = await import("/worklets.js");
  const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
  const sound = new Float32Array(bytes.buffer);
  const resampler = new Resampler(from, to);
  const out = [];
  let at = 0;
  for (const count of pieces) {
    out.push(...resampler.push(sound.subarray(at, at + count)));
    at += count;
  }
  out.push(...resampler.push(sound.subarray(at)), ...resampler.finish());
  const told = new Uint8Array(Float32Array.from(out).buffer);
  let text = "";
  for (const byte of told) text += String.fromCharCode(byte);
  return btoa(text);
}"""


@pytest.fixture(scope="module")
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with watched(browser) as opened:
        opened.goto(site.origin)
        yield opened


@pytest.fixture(scope="module")
def resampled(page: Page) -> Callable[..., Floats]:
    def run(sound: Floats, source: int, goal: int, pieces: tuple[int, ...] = ()) -> Floats:
        data = base64.b64encode(sound.astype("<f4").tobytes()).decode()
        told: Any = page.evaluate(RUN, [data, source, goal, list(pieces)])
        return np.frombuffer(base64.b64decode(told), "<f4")

    return run


def tone(hertz: float, rate: int, seconds: float = 0.5) -> Floats:
    time = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * math.pi * hertz * time)).astype(np.float32)


@pytest.mark.parametrize(("source", "goal"), RATES)
def test_a_tone_keeps_its_pitch_place_and_loudness(
    resampled: Callable[..., Floats], source: int, goal: int
) -> None:
    made = resampled(tone(1_000, source), source, goal)
    ideal = tone(1_000, goal)
    assert len(made) == len(ideal)
    middle = slice(goal // 20, -goal // 20)
    assert np.abs(made[middle] - ideal[middle]).max() < 1e-3


@pytest.mark.parametrize(("source", "goal"), [(48_000, 24_000), (44_100, 24_000)])
def test_what_the_lower_rate_cannot_hold_is_gone(
    resampled: Callable[..., Floats], source: int, goal: int
) -> None:
    made = resampled(tone(13_000, source), source, goal)
    middle = made[goal // 20 : -goal // 20]
    assert 20 * math.log10(float(np.sqrt(np.mean(middle**2))) / 0.3535) < -70


@pytest.mark.parametrize(("source", "goal"), [(24_000, 48_000), (24_000, 44_100)])
def test_a_higher_rate_brings_no_mirror_images(
    resampled: Callable[..., Floats], source: int, goal: int
) -> None:
    made = resampled(tone(9_000, source), source, goal)
    middle = made[goal // 20 : -goal // 20]
    spectrum = np.abs(np.fft.rfft(middle * np.blackman(len(middle))))
    hertz = np.fft.rfftfreq(len(middle), 1 / goal)
    mirrors = spectrum[np.abs(hertz - (24_000 - 9_000)) < 300].max()
    assert 20 * math.log10(mirrors / spectrum.max()) < -70


@pytest.mark.parametrize(("source", "goal"), RATES)
def test_the_pieces_make_no_difference(
    resampled: Callable[..., Floats], source: int, goal: int
) -> None:
    random = np.random.default_rng(source + goal)
    sound = random.uniform(-1, 1, 5_000).astype(np.float32)
    pieces = tuple(int(count) for count in random.integers(0, 300, 25))
    whole, cut = resampled(sound, source, goal), resampled(sound, source, goal, pieces)
    assert np.array_equal(whole, cut)
    assert len(whole) == round(len(sound) * goal / source)


def test_the_same_rate_changes_nothing(resampled: Callable[..., Floats]) -> None:
    sound = tone(440, 24_000, 0.1)
    assert np.array_equal(resampled(sound, 24_000, 24_000), sound)
