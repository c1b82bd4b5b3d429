"""What a segment looks like, in 64 bytes: statistics of its colours and of its texture.

The squared Euclidean distance of two descriptors is the metric. Colours are OpenCV's 8-bit CIELAB; every pixel counts
alike, so size and place do not matter. Texture is seen at three octaves: the distribution of gradient magnitudes and
of gradient orientations, the latter folded at the vertical axis, so that a mirrored segment has the same descriptor (up
to the last column where a side is odd). Nothing outside the mask has any part in it.

| entries | what |
|---|---|
| 0..2 | mean of L, a, b; a and b stretched threefold around grey |
| 3..5 | standard deviation of L, a, b; doubled, of a and b sixfold |
| 6..8 | mean L, a, b of the crop's lower half less that of its upper one, a and b threefold; 128 is no difference |
| 9..32 | square roots of the shares of 8 bins of L, of a, of b (Hellinger distance; bins overlap linearly) |
| 33..62 | by octave: square roots of the shares of 6 bins of gradient magnitude, 4 of orientation, by magnitude |
| 63 | the share of pixels whose eight neighbours belong to the segment: thin or solid |

Histograms of overlapping bins: Dalal and Triggs, "Histograms of Oriented Gradients" (CVPR 2005), section 6.3; their
square roots: Arandjelovic and Zisserman, "Three things everyone should know" (CVPR 2012), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import cv2
import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.codec import Mask
from ..storage.images import Photograph

DESCRIPTOR = "colour-texture-1"
"""Name of these numbers; another one whenever the same pixels would give others."""
LENGTH = 64
"""Bytes of a descriptor."""
MOST_PIXELS = 1 << 14
"""Of a larger crop, evenly spaced blocks are looked at, of about as many pixels in all."""
BLOCK = 32
"""Side of such a block, pixels."""
OCTAVES = 3

Vectors = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
T = TypeVar("T", bound=np.generic)


_BIN_WEIGHT = 0.5  # of 255 for a bin that holds everything: histograms would drown the moments otherwise
_MIDDLE = 128.0  # grey, in a and b
_STRETCH = np.array([1.0, 3.0, 3.0])
_LEVELS = 16  # to which a gradient's components are quantised, evenly in log2(1 + quarter of it)
_PER_OCTAVE = (_LEVELS - 1) / 8
_COLOURS = 3 * 256  # where, in what is counted of a segment, the next part begins
_HALVES = _COLOURS + 2 * 4
_GRADIENTS = _HALVES + OCTAVES * _LEVELS * _LEVELS
_ENTRIES = _GRADIENTS + 1


def _overlapping(values: Vectors, centres: list[float]) -> Vectors:
    """`(len(values), len(centres))`: the part of each value in the bins left and right of it; rows add up to 1."""
    return np.stack([np.interp(values, centres, row) for row in np.eye(len(centres))], axis=1)


_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)
_VALUES = np.arange(256, dtype=np.float64)
_LIGHT_BINS = _overlapping(_VALUES, [16, 48, 80, 112, 144, 176, 208, 240])
_CHROMA_BINS = _overlapping(_VALUES - _MIDDLE, [-48, -24, -12, -4, 4, 12, 24, 48])
_LEVEL_OF = np.rint(np.log2(1 + np.arange(1021) / 4) * _PER_OCTAVE).astype(np.uint8)
_ACROSS, _DOWN = np.meshgrid(*[2 ** (np.arange(_LEVELS) / _PER_OCTAVE) - 1] * 2, indexing="ij")
_MAGNITUDE = np.hypot(_ACROSS, _DOWN).ravel()
_ANGLE = np.degrees(np.arctan2(_DOWN, _ACROSS)).ravel()
_TEXTURE_BINS = np.concatenate(
    [
        _overlapping(np.log2(1 + _MAGNITUDE), [0, 1, 2, 3, 4.5, 6]),
        _overlapping(_ANGLE, [0, 30, 60, 90]) * _MAGNITUDE[:, None],
    ],
    axis=1,
)
_SMOOTH = np.eye(_LEVELS * _LEVELS)[0]


def describe(pixels: Photograph, mask: Mask) -> Bytes:
    """The appearance of one segment.

    Args:
        pixels: `(h, w, 3)` uint8 RGB crop at its source's own resolution; what lies outside the mask does not matter.
        mask: `(h, w)` bool, with at least one pixel.

    Returns:
        `(64,)` uint8, see the table above; never all zero.
    """
    found: Bytes = describe_all([(pixels, mask)])[0]
    return found


def describe_all(crops: Iterable[tuple[Photograph, Mask]]) -> Bytes:
    """The appearance of many segments, `(n, 64)` uint8: as `describe`, and faster than one by one."""
    counted = [_counted(*crop) for crop in crops]
    n = len(counted)
    rows = np.stack(counted) if counted else np.zeros((0, _ENTRIES))
    colours, halves = rows[:, :_COLOURS].reshape(n, 3, 256), rows[:, _COLOURS:_HALVES].reshape(n, 2, 4)
    gradients, solid = rows[:, _HALVES:-1].reshape(n, OCTAVES, _LEVELS * _LEVELS), rows[:, -1:]
    area = halves[..., 3].sum(axis=1)[:, None]
    shares = colours / area[..., None]
    entries = np.concatenate(
        [*_moments(shares), _lower_less_upper(halves), _colours(shares), _texture(gradients), solid], axis=1
    )
    found: Bytes = np.rint(entries).clip(0, 255).astype(np.uint8)
    return found


def _counted(pixels: Photograph, mask: Mask) -> Vectors:
    """What is counted of one segment: colours `(3, 256)`, halves `(2, 4)`, gradients `(OCTAVES, 256)`, solid."""
    part, own = _sampled(pixels, mask)
    inside, upper = _inside(part, own)
    lab = cv2.cvtColor(inside, cv2.COLOR_RGB2LAB)  # the slowest step, so of the segment alone
    found = np.zeros(_ENTRIES)
    inner = _count(lab[0], upper, own, _LEVEL_OF, found)
    found[-1] = 255 * (inner / lab.shape[1] if own.shape == mask.shape else _solid(mask))
    return found


def _sampled(pixels: Photograph, mask: Mask) -> tuple[Photograph, Mask]:
    """A crop as it is, or evenly spaced blocks of a large one, with a row or column that is nobody's between them."""
    step = math.sqrt(mask.size / MOST_PIXELS)
    if step > 1:
        rows, cols = (_evenly(side, step) for side in mask.shape)
        blocks = _joined(mask, rows, cols)
        if len(rows) > 1:
            blocks[BLOCK - 1 :: BLOCK] = False
        if len(cols) > 1:
            blocks[:, BLOCK - 1 :: BLOCK] = False
        if np.count_nonzero(blocks) >= MOST_PIXELS // 8:  # a thin segment could fall between them
            return _joined(pixels, rows, cols), blocks
    return pixels, np.ascontiguousarray(mask)


def _evenly(length: int, step: float) -> list[slice]:
    """Which rows or columns are looked at: runs of `BLOCK`, one in `step`, or all where that would spare little."""
    runs = math.ceil(length / (BLOCK * step))
    if runs * BLOCK > 0.8 * length:
        return [slice(0, length)]
    starts = [round((run + 0.5) * length / runs - BLOCK / 2) for run in range(runs)]
    return [slice(start, start + BLOCK) for start in starts]


def _joined(picture: npt.NDArray[T], rows: Sequence[slice], cols: Sequence[slice]) -> npt.NDArray[T]:
    return np.concatenate([np.concatenate([picture[row, col] for col in cols], axis=1) for row in rows])


def _solid(mask: Mask) -> float:
    """The share of pixels whose eight neighbours belong to the segment, of all of it: cheap even where it is large."""
    own = mask.view(np.uint8)
    inner = cv2.erode(own, _NEIGHBOURHOOD, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return float(cv2.countNonZero(inner)) / cv2.countNonZero(own)


def _moments(shares: Vectors) -> tuple[Vectors, Vectors]:
    """Means and standard deviations of the three channels, `(n, 3)` each, from `(n, 3, 256)` histograms."""
    mean, square = shares @ _VALUES, shares @ _VALUES**2
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return _MIDDLE + _STRETCH * (mean - _MIDDLE), 2 * _STRETCH * deviation


def _lower_less_upper(halves: Vectors) -> Vectors:
    """How the lower half differs from the upper one, `(n, 3)`; no difference where one of them is empty."""
    mean = halves[..., :3] / np.maximum(halves[..., 3:], 1)
    return _MIDDLE + _STRETCH * (mean[:, 1] - mean[:, 0]) * (halves[..., 3:] > 0).all(axis=1)


def _colours(shares: Vectors) -> Vectors:
    """Rooted shares, `(n, 24)`, of the bins of L, a and b."""
    parts = [shares[:, 0] @ _LIGHT_BINS, shares[:, 1] @ _CHROMA_BINS, shares[:, 2] @ _CHROMA_BINS]
    return _rooted(np.concatenate(parts, axis=1))


def _texture(gradients: Vectors) -> Vectors:
    """Rooted shares, `(n, 30)`: by octave six of magnitudes, four of orientations.

    An octave too coarse for a segment repeats the one before; where there is none at all, a segment counts as smooth.
    """
    for octave in range(OCTAVES):
        empty = ~gradients[:, octave].any(axis=1)
        gradients[empty, octave] = gradients[empty, octave - 1] if octave else _SMOOTH
    shares = gradients @ _TEXTURE_BINS
    shares[..., :6] /= gradients.sum(axis=2, keepdims=True)
    energy = shares[..., 6:].sum(axis=2, keepdims=True)
    shares[..., 6:] = np.where(energy > 0, shares[..., 6:] / np.maximum(energy, 1e-9), 0.25)
    return _rooted(shares.reshape(len(shares), OCTAVES * shares.shape[2]))


def _rooted(shares: Vectors) -> Vectors:
    return 255 * _BIN_WEIGHT * np.sqrt(shares)


@nb.njit(cache=True, nogil=True)
def _inside(pixels, mask):  # type: ignore[no-untyped-def]
    """The pixels of a segment, row by row, `(1, n, 3)` uint8, and how many of them lie in the upper half."""
    rows, cols = mask.shape
    found, n, upper = np.empty((mask.size, 3), np.uint8), 0, 0
    for row in range(rows):
        if 2 * row >= rows and 2 * row - 2 < rows:
            upper = n
        for col in range(cols):
            if mask[row, col]:
                found[n, 0], found[n, 1], found[n, 2] = pixels[row, col, 0], pixels[row, col, 1], pixels[row, col, 2]
                n += 1
    return found[:n].reshape(1, n, 3), upper if rows > 1 else n


@nb.njit(cache=True, nogil=True)
def _count_colours(lab, upper, histograms, halves):  # type: ignore[no-untyped-def]
    """Adds a segment's pixels to the histograms of L, a, b, `(3, 256)`, and to the sums of L, a, b and 1, `(2, 4)`.

    Args:
        lab: `(n, 3)` uint8; upper: how many of the first of these are the upper half.
    """
    counts = np.zeros((2, 3, 256), np.int32)  # neighbours are alike: they take turns, and need not wait for each other
    for half, begin, end in ((0, 0, upper), (1, upper, len(lab))):
        counts[:] = 0
        for i in range(begin, end):
            for channel in range(3):
                counts[i & 1, channel, lab[i, channel]] += 1
        halves[half, 3] += end - begin
        for channel in range(3):
            for value in range(256):
                count = counts[0, channel, value] + counts[1, channel, value]
                histograms[channel, value] += count
                halves[half, channel] += count * value


@nb.njit(cache=True, nogil=True)
def _count(lab, upper, mask, level_of, found):  # type: ignore[no-untyped-def]
    """Counts the colours of a segment, and the gradients of its L at every octave; `lab`, `upper` as above.

    Returns:
        How many pixels have all their neighbours.
    """
    _count_colours(lab, upper, found[:_COLOURS].reshape(3, 256), found[_COLOURS:_HALVES].reshape(2, 4))
    light, n = np.zeros(mask.shape, np.uint8), 0
    for row in range(mask.shape[0]):
        for col in range(mask.shape[1]):
            if mask[row, col]:
                light[row, col] = lab[n, 0]
                n += 1
    gradients = found[_HALVES:_GRADIENTS].reshape(OCTAVES, _LEVELS * _LEVELS)
    _count_gradients(light, mask, level_of, gradients[0])
    for octave in range(1, OCTAVES):
        light, mask = _halved(light, mask)
        _count_gradients(light, mask, level_of, gradients[octave])
    return gradients[0].sum()


@nb.njit(cache=True, nogil=True)
def _count_gradients(light, mask, level_of, joint):  # type: ignore[no-untyped-def]
    """Adds the Sobel gradients, by the levels of both components, of pixels with all neighbours."""
    rows, cols = light.shape
    if rows < 3 or cols < 3:
        return
    whole = np.empty(cols, np.bool_)
    sums, differences = np.empty(cols, np.int16), np.empty(cols, np.int16)  # of three rows, by column
    counts = np.zeros((2, _LEVELS * _LEVELS), np.int32)  # which take turns, see `_count_colours`
    for row in range(1, rows - 1):
        above, middle, below = light[row - 1], light[row], light[row + 1]
        first, second, third = mask[row - 1], mask[row], mask[row + 1]
        for col in range(cols):
            whole[col] = first[col] & second[col] & third[col]
            sums[col] = np.int16(above[col]) + 2 * np.int16(middle[col]) + np.int16(below[col])
            differences[col] = np.int16(below[col]) - np.int16(above[col])
        for col in range(1, cols - 1):
            if whole[col - 1] & whole[col] & whole[col + 1]:
                across = abs(sums[col + 1] - sums[col - 1])
                down = abs(differences[col - 1] + 2 * differences[col] + differences[col + 1])
                counts[col & 1, _LEVELS * level_of[across] + level_of[down]] += 1
    for i in range(len(joint)):
        joint[i] += counts[0, i] + counts[1, i]


@nb.njit(cache=True, nogil=True)
def _halved(light, mask):  # type: ignore[no-untyped-def]
    """Means of 2x2 pixels, and where all four are the segment's."""
    rows, cols = light.shape[0] // 2, light.shape[1] // 2
    half, inside = np.empty((rows, cols), np.uint8), np.empty((rows, cols), np.bool_)
    for row in range(rows):
        above, below, one, two = light[2 * row], light[2 * row + 1], mask[2 * row], mask[2 * row + 1]
        for col in range(cols):
            x = 2 * col
            inside[row, col] = one[x] & one[x + 1] & two[x] & two[x + 1]
            total = np.int32(above[x]) + above[x + 1] + below[x] + below[x + 1]
            half[row, col] = (total + 2) >> 2
    return half, inside
