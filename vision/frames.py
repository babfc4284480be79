"""Which camera frames are worth a look: one per scene, once the picture has settled."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from vision.errors import VisionError

#: Positions count samples of the session's sound, 16 kHz.
_SAMPLES_PER_MS = 16

#: Columns and rows of the small copy that frames are compared by. A cell of a 1280 x 720 frame
#: averages 1,200 pixels, so noise is gone, and is 3 % of the width, so is a trembling hand.
_GRID = (32, 24)

# Keeps the ratio of two dark cells tame, in grey levels.
_DARK = 8.0

_Cells = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FrameOptions:
    """When a frame is kept; shares are of the frame's area, checked once."""

    #: Frames sooner than this after the one looked at before are not looked at.
    min_interval_ms: int = 400
    #: So much of the frame must differ from the one kept last,
    changed_share: float = 0.06
    #: and at most so much from the frame before, or it is still moving.
    settled_share: float = 0.03
    #: A scene that never settles is kept after this time, as it is.
    max_wait_ms: int = 3000
    #: A cell differs from so many grey levels (of 255) on, in any colour,
    cell_levels: float = 20.0
    #: after up to this factor of brightness, in each colour, is put down to the camera's exposure.
    max_gain: float = 1.7
    #: How many of the kept frames a stream holds on to.
    max_kept: int = 8

    def __post_init__(self) -> None:
        checks = (
            (self.min_interval_ms >= 0, "min_interval_ms of 0 or more", self.min_interval_ms),
            (0 < self.changed_share < 1, "changed_share between 0 and 1", self.changed_share),
            (
                0 < self.settled_share <= self.changed_share,
                "settled_share above 0 and at most changed_share",
                self.settled_share,
            ),
            (self.max_wait_ms >= 0, "max_wait_ms of 0 or more", self.max_wait_ms),
            (0 < self.cell_levels < 255, "cell_levels between 0 and 255", self.cell_levels),
            (self.max_gain >= 1, "max_gain of 1 or more", self.max_gain),
            (self.max_kept >= 1, "max_kept of 1 or more", self.max_kept),
        )
        for fine, expected, came in checks:
            if not fine:
                raise VisionError(f"expected {expected}, but got {came}; change that option")


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture of the camera and when it came, in samples at 16 kHz since the stream began."""

    image: Image.Image
    at: int


@dataclass
class FrameState:
    """What is known of one camera's stream; the caller holds it."""

    #: The newest kept frames, the newest last.
    kept: deque[Frame] = field(default_factory=deque)
    #: When the newest frame came, whatever became of it, and the newest that was looked at.
    arrived: int | None = None
    looked: int | None = None
    #: Since when, without a break, frames differ from the one kept last.
    changed: int | None = None
    #: Small copies of the frame kept last and of the frame before.
    scene: _Cells | None = None
    before: _Cells | None = None

    @property
    def current(self) -> Frame | None:
        """The frame kept last: what the camera shows."""
        return self.kept[-1] if self.kept else None


@dataclass(frozen=True)
class FrameSelector:
    """Keeps a frame when the scene has changed and settled; the same for all streams.

    The first frame is kept at once. Noise, exposure, white balance and small movements are no
    change: see `difference`.
    """

    options: FrameOptions = field(default_factory=FrameOptions)

    def see(self, state: FrameState, image: Image.Image, at: int) -> Frame | None:
        """The next frame of a stream, RGB; returned if it is kept.

        `at`: samples at 16 kHz since the stream began. VisionError if it goes back, or if the
        frame is not RGB or has no pixel.
        """
        _check(image, at, state)
        state.arrived = at
        options = self.options
        interval = options.min_interval_ms * _SAMPLES_PER_MS
        if state.looked is not None and at - state.looked < interval:
            return None
        state.looked = at
        before, state.before = state.before, small_copy(image)
        if state.scene is None or before is None:
            return self._keep(state, image, at)
        if self._differs(state.scene, state.before) < options.changed_share:
            state.changed = None
            return None
        if state.changed is None:
            state.changed = at
        settled = self._differs(before, state.before) <= options.settled_share
        if settled or at - state.changed >= options.max_wait_ms * _SAMPLES_PER_MS:
            return self._keep(state, image, at)
        return None

    def _differs(self, first: _Cells, second: _Cells) -> float:
        options = self.options
        return difference(first, second, levels=options.cell_levels, max_gain=options.max_gain)

    def _keep(self, state: FrameState, image: Image.Image, at: int) -> Frame:
        frame = Frame(image, at)
        state.kept.append(frame)
        while len(state.kept) > self.options.max_kept:
            state.kept.popleft()
        state.scene, state.changed = state.before, None
        return frame


def small_copy(image: Image.Image) -> _Cells:
    """Mean colour of each cell, (24, 32, 3) float32 from 0 to 255; 0.4 ms for 1280 x 720."""
    cells = image.resize(_GRID, Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(cells, np.float32)


def difference(first: _Cells, second: _Cells, *, levels: float, max_gain: float) -> float:
    """Which share of the cells (rows, columns, 3) show something else, from 0 to 1.

    A cell shows the same as long as it is within `levels` of what the other frame has there or in
    a neighbouring cell, so that a shift by up to a cell is no difference. Each colour's brightness
    is made equal before, by a factor of up to `max_gain` either way.
    """
    first, second = _same_exposure(first, second, max_gain)
    outside = np.maximum(_outside(first, second), _outside(second, first))
    return float((outside.max(-1) > levels).mean())


def _same_exposure(first: _Cells, second: _Cells, max_gain: float) -> tuple[_Cells, _Cells]:
    """Brighten the darker of the two, colour by colour; what is white stays white.

    The median over the cells is the camera's doing, as long as most of them show the same.
    """
    ratios = (second + _DARK) / (first + _DARK)
    gain = np.median(ratios, axis=(0, 1)).clip(1 / max_gain, max_gain).astype(np.float32)
    return _brightened(first, np.maximum(gain, 1)), _brightened(second, np.maximum(1 / gain, 1))


def _brightened(cells: _Cells, gain: _Cells) -> _Cells:
    brighter: _Cells = np.minimum((cells + _DARK) * gain - _DARK, 255)
    return brighter


def _outside(cells: _Cells, others: _Cells) -> _Cells:
    """How far each cell lies outside of the range of the other's 3 x 3 cells around it."""
    around = np.pad(others, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns = cells.shape[:2]
    shifted = [around[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    low, high = np.minimum.reduce(shifted), np.maximum.reduce(shifted)
    far: _Cells = np.maximum(low - cells, cells - high)
    return far


def _check(image: Image.Image, at: int, state: FrameState) -> None:
    if image.mode != "RGB" or 0 in image.size:
        raise VisionError(
            f"expected an RGB frame with pixels, but got {image.mode} of "
            f"{image.width} x {image.height}; read it with read_image"
        )
    if at < 0 or (state.arrived is not None and at < state.arrived):
        raise VisionError(
            f"expected frames in the order of time, but one at sample {at} came after "
            f"{state.arrived or 0}; use one FrameState for each camera"
        )
