"""What a segment looks like, in 64 bytes: statistics of its colours and of its texture.

The squared Euclidean distance of two descriptors is the metric. Colours are OpenCV's 8-bit CIELAB; every pixel counts
alike, so size and place do not matter. Texture is seen at three octaves of the grey photograph: the distribution of
gradient magnitudes and of gradient orientations, the latter folded at the vertical axis, so that a mirrored segment has
nearly the same descriptor. Nothing outside the mask has any part in it.

All segments of a photograph are described at once, along the runs of its label map. Of a large one evenly spaced
pixels are looked at: as many as tell its distributions.

| entries | what |
|---|---|
| 0..2 | mean of L, a, b; a and b stretched threefold around grey |
| 3..5 | standard deviation of L, a, b; doubled, of a and b sixfold |
| 6..8 | mean L, a, b of the box's lower half less that of its upper one, a and b threefold; 128 is no difference |
| 9..32 | square roots of the shares of 8 bins of L, of a, of b (Hellinger distance; bins overlap linearly) |
| 33..62 | by octave: square roots of the shares of 6 bins of gradient magnitude, 4 of orientation, by magnitude |
| 63 | the share of pixels whose eight neighbours belong to the segment: thin or solid |

Histograms of overlapping bins: Dalal and Triggs, "Histograms of Oriented Gradients" (CVPR 2005), section 6.3; their
square roots: Arandjelovic and Zisserman, "Three things everyone should know" (CVPR 2012), section 3.
"""

from __future__ import annotations

import cv2
import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.codec import Mask
from ..storage.cutting import find_runs
from ..storage.images import Photograph
from ..storage.layouts import Runs

DESCRIPTOR = "colour-texture-2"
"""Name of these numbers; another one whenever the same pixels would give others."""
LENGTH = 64
"""Bytes of a descriptor."""
MOST_PIXELS = 1 << 12
"""Of a segment of more, every second row and column is looked at, of four times as many every fourth, and so on."""
OCTAVES = 3
_GRID = 1 << OCTAVES - 1  # pixels of a photograph in a pixel of its coarsest octave, on each axis

Vectors = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

_WEIGHT = 255 * 0.5  # of a bin that holds everything: histograms would drown the moments otherwise
_MIDDLE = 128.0  # grey, in a and b
_LEVELS = 16  # to which a gradient's components are quantised, evenly in log2(1 + quarter of it)
_PER_OCTAVE = (_LEVELS - 1) / 8


def _overlapping(values: Vectors, centres: list[float]) -> Vectors:
    """`(len(values), len(centres))`: the part of each value in the bins left and right of it; rows add up to 1."""
    return np.stack([np.interp(values, centres, row) for row in np.eye(len(centres))], axis=1)


_VALUES = np.arange(256, dtype=np.float64)
_LIGHT_BINS = _overlapping(_VALUES, [16, 48, 80, 112, 144, 176, 208, 240])
_CHROMA_BINS = _overlapping(_VALUES - _MIDDLE, [-48, -24, -12, -4, 4, 12, 24, 48])
_COLOUR_SUMS = np.stack(  # by channel, what its histogram is multiplied with: values, squares, bins
    [
        np.concatenate([_VALUES[:, None], _VALUES[:, None] ** 2, bins], axis=1)
        for bins in (_LIGHT_BINS, _CHROMA_BINS, _CHROMA_BINS)
    ]
)
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


def describe(pixels: Photograph, mask: Mask, corner: tuple[int, int] = (0, 0)) -> Bytes:
    """The appearance of one segment.

    Args:
        pixels: `(h, w, 3)` uint8 RGB crop at its source's own resolution; what lies outside the mask does not matter.
        mask: `(h, w)` bool, with at least one pixel.
        corner: top and left of the crop in its photograph. Coarser octaves are those of the photograph; elsewhere the
            same crop has slightly other ones.

    Returns:
        `(64,)` uint8, see the table above; never all zero.
    """
    top, left = corner[0] % _GRID, corner[1] % _GRID
    size = top + mask.shape[0], left + mask.shape[1]
    image, labels = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint32)
    image[top:, left:], labels[top:, left:] = pixels, mask
    first, starts, stops, values = find_runs(labels, np.uint32(0))
    area, box = np.array([np.count_nonzero(mask)]), np.array([[top, left, *size]])
    found: Bytes = describe_all(image, (first, starts, stops, values), np.zeros(1, np.int64), box, area)[0]
    return found


def describe_all(
    image: Photograph,
    runs: Runs,
    stored: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.integer],
    areas: npt.NDArray[np.int64],
) -> Bytes:
    """The appearance of many segments of a photograph, `(n, 64)` uint8: as `describe`, and faster than one by one.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        runs: of its label map, component `i` marked `i + 1`; none of those that are described may be without.
        stored: `(n,)`, the components to describe; boxes: `(n, 4)` tight boxes and areas: `(n,)`, in its pixels.
    """
    if not len(stored):
        return np.zeros((0, LENGTH), np.uint8)
    numbers = np.full(int(runs[3].max(initial=0)) + 1, -1)
    numbers[stored + 1] = np.arange(len(stored))
    sampling, grey = _sampling(boxes, areas), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    pixels, owners = _looked_at(image, *runs, numbers, sampling)
    lab = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2LAB)[0]  # the slowest step, so of these pixels alone
    colours, halves = _count_colours(lab, owners, len(stored))
    gradients, counts, solid = _count_gradients(grey, *runs, numbers, sampling, _LEVEL_OF)
    sums = np.stack([colours[:, channel] @ _COLOUR_SUMS[channel] for channel in range(3)], axis=1)
    texture = (gradients.reshape(-1, _LEVELS * _LEVELS) @ _TEXTURE_BINS).reshape(*gradients.shape[:2], -1)
    found: Bytes = _numbers(sums, halves, texture, counts, solid)
    return found


def _sampling(boxes: npt.NDArray[np.integer], areas: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`(n, 3)`: the first row that is looked at, one in how many rows and pixels is, twice the box's middle row."""
    step = 1 << np.ceil(np.log2(np.maximum(areas / MOST_PIXELS, 1)) / 2).astype(np.int64)
    return np.stack([boxes[:, 0], step, boxes[:, 0] + boxes[:, 2]], axis=1)


@nb.njit(cache=True, nogil=True)
def _numbers(colours, halves, textures, gradients, solid):  # type: ignore[no-untyped-def]
    """The numbers of the table, `(n, 64)` uint8, rounded half to even.

    Args:
        colours: `(n, 3, 10)`, by channel the sums of values, of squares, and of the parts in each bin.
        halves: `(n, 2, 4)`, as `_count_colours` gives them.
        textures: `(n, OCTAVES, 10)`, sums of the parts in each bin of magnitude and, by magnitude, of orientation.
        gradients, solid: as `_count_gradients` gives them.
    """
    found = np.empty((len(colours), LENGTH))
    for i in range(len(colours)):
        size = halves[i, 0, 3] + halves[i, 1, 3]
        for channel in range(3):
            stretch = 1.0 if channel == 0 else 3.0
            mean, square = colours[i, channel, 0] / size, colours[i, channel, 1] / size
            found[i, channel] = _MIDDLE + stretch * (mean - _MIDDLE)
            found[i, 3 + channel] = 2 * stretch * np.sqrt(max(square - mean * mean, 0.0))
            found[i, 6 + channel] = _MIDDLE
            if halves[i, 0, 3] > 0 and halves[i, 1, 3] > 0:
                upper, lower = halves[i, 0, channel] / halves[i, 0, 3], halves[i, 1, channel] / halves[i, 1, 3]
                found[i, 6 + channel] += stretch * (lower - upper)
            for bin in range(8):
                found[i, 9 + 8 * channel + bin] = _WEIGHT * np.sqrt(colours[i, channel, 2 + bin] / size)
        for octave in range(OCTAVES):
            first, sums = 33 + 10 * octave, textures[i, octave]
            energy = sums[6] + sums[7] + sums[8] + sums[9]
            for bin in range(6):
                found[i, first + bin] = _WEIGHT * np.sqrt(sums[bin] / gradients[i, octave])
            for bin in range(6, 10):
                found[i, first + bin] = _WEIGHT * np.sqrt(sums[bin] / max(energy, 1e-9) if energy > 0 else 0.25)
        found[i, 63] = 255 * solid[i] / size
    return np.minimum(np.maximum(np.rint(found), 0), 255).astype(np.uint8)


@nb.njit(cache=True, nogil=True)
def _looked_at(image, first, starts, stops, values, numbers, sampling):  # type: ignore[no-untyped-def]
    """The pixels that are looked at, `(m, 3)` uint8, and whose they are, `(m,)` int64.

    Args:
        image: `(H, W, 3)` uint8; first, starts, stops, values: the runs of its labels.
        numbers: by label, which segment it is, or -1; sampling: by segment, see `_sampling`.

    Returns:
        Twice the number of the segment, and one more in the lower half of its box, is whose a pixel is.
    """
    found, owners, n = np.empty((image.shape[0] * image.shape[1], 3), np.uint8), np.empty(image.size // 3, np.int64), 0
    passed_over = np.zeros(len(sampling), np.int64)  # how many pixels to the next one, from run to run
    for row in range(len(first) - 1):
        for run in range(first[row], first[row + 1]):
            number = numbers[values[run]]
            if number < 0 or (row - sampling[number, 0]) & (sampling[number, 1] - 1):
                continue
            col = starts[run] + passed_over[number]
            while col < stops[run]:
                found[n, 0], found[n, 1], found[n, 2] = image[row, col, 0], image[row, col, 1], image[row, col, 2]
                owners[n] = 2 * number + (2 * row + 1 > sampling[number, 2])
                n += 1
                col += sampling[number, 1]
            passed_over[number] = col - stops[run]
    return found[:n], owners[:n]


@nb.njit(cache=True, nogil=True)
def _count_colours(lab, owners, n):  # type: ignore[no-untyped-def]
    """The histograms of L, a, b of `n` segments, `(n, 3, 256)`, and sums of L, a, b, 1 by half, `(n, 2, 4)`; float64.

    Args:
        lab: `(m, 3)` uint8; owners: `(m,)`, as `_looked_at` gives them.
    """
    histograms, halves = np.zeros((n, 3, 256), np.int32), np.zeros((2 * n, 4), np.int64)
    for i in range(len(lab)):
        histogram, half = histograms[owners[i] >> 1], halves[owners[i]]
        for channel in range(3):
            histogram[channel, lab[i, channel]] += 1
            half[channel] += lab[i, channel]
        half[3] += 1
    return histograms.astype(np.float64), halves.reshape(n, 2, 4).astype(np.float64)


@nb.njit(cache=True, nogil=True)
def _count_gradients(light, first, starts, stops, values, numbers, sampling, level_of):  # type: ignore[no-untyped-def]
    """By octave the gradients of each segment, `(n, OCTAVES, 256)` float64, by the levels of both components.

    An octave too coarse for a segment repeats the one before; where there is none at all, a segment counts as smooth.

    Args:
        light: `(H, W)` uint8, grey; the others as of `_looked_at`.

    Returns:
        Besides, how many gradients these are, `(n, OCTAVES)`, and how many pixels of the first octave have one, `(n,)`.
    """
    joint = np.zeros((len(sampling), OCTAVES, _LEVELS * _LEVELS), np.int32)
    for octave in range(OCTAVES):
        first, starts, stops, values = _common(first, starts, stops, values)  # to each row and the next one
        inner = _common(first, starts, stops, values)
        _add_gradients(light, *inner, numbers, sampling >> octave, level_of, joint[:, octave])
        light = _halved(light)
        first, starts, stops, values = _halved_runs(first, starts, stops, values)
    counts = joint.sum(axis=2)
    solid = counts[:, 0].copy()
    for i in range(len(joint)):
        for octave in range(OCTAVES):
            if counts[i, octave] == 0 and octave > 0:
                joint[i, octave], counts[i, octave] = joint[i, octave - 1], counts[i, octave - 1]
            elif counts[i, octave] == 0:
                joint[i, octave, 0] = counts[i, octave] = 1  # smooth
    return joint.astype(np.float64), counts, solid


@nb.njit(cache=True, nogil=True)
def _add_gradients(light, first, starts, stops, values, numbers, sampling, level_of, joint):  # type: ignore[no-untyped-def]
    """Adds the Sobel gradients, by the levels of both components, of pixels with all neighbours that are looked at.

    Args:
        light: `(h, w)` uint8.
        first, starts, stops, values: what each row has in common with the next two; the middle one is counted.
        joint: `(n, 256)`.
    """
    passed_over = np.zeros(len(sampling), np.int64)
    for before in range(len(first) - 1):
        above, own, below = light[before], light[before + 1], light[before + 2]
        for run in range(first[before], first[before + 1]):
            number = numbers[values[run]]
            if number < 0 or stops[run] - starts[run] < 3:
                continue
            step, col = max(sampling[number, 1], 1), starts[run] + 1 + passed_over[number]
            if (before + 1 - sampling[number, 0]) & (step - 1):
                continue
            while col < stops[run] - 1:
                left = np.int32(above[col - 1]) + 2 * np.int32(own[col - 1]) + np.int32(below[col - 1])
                right = np.int32(above[col + 1]) + 2 * np.int32(own[col + 1]) + np.int32(below[col + 1])
                upper = np.int32(above[col - 1]) + 2 * np.int32(above[col]) + np.int32(above[col + 1])
                lower = np.int32(below[col - 1]) + 2 * np.int32(below[col]) + np.int32(below[col + 1])
                across, down = level_of[abs(right - left)], level_of[abs(lower - upper)]
                joint[number, _LEVELS * across + down] += 1
                col += step
            passed_over[number] = col - (stops[run] - 1)


@nb.njit(cache=True, nogil=True)
def _common(first, starts, stops, values):  # type: ignore[no-untyped-def]
    """The runs that each row has in common with the next one: of all rows but the last."""
    rows = max(len(first) - 2, 0)
    heads, n = np.zeros(rows + 1, np.int32), 0
    begins, ends = np.empty(2 * len(starts), np.int32), np.empty(2 * len(starts), np.int32)
    labels = np.empty(2 * len(starts), np.uint32)
    for row in range(rows):
        one, other = first[row], first[row + 1]
        while one < first[row + 1] and other < first[row + 2]:
            begin, end = max(starts[one], starts[other]), min(stops[one], stops[other])
            if begin < end and values[one] == values[other]:
                begins[n], ends[n], labels[n] = begin, end, values[one]
                n += 1
            if stops[one] < stops[other]:
                one += 1
            else:
                other += 1
        heads[row + 1] = n
    return heads, begins[:n], ends[:n], labels[:n]


@nb.njit(cache=True, nogil=True)
def _halved_runs(first, starts, stops, values):  # type: ignore[no-untyped-def]
    """The runs of cells of 2x2 pixels of one label, of what each row has in common with the next one."""
    rows = len(first) // 2
    heads, n = np.zeros(rows + 1, np.int32), 0
    begins, ends = np.empty(len(starts), np.int32), np.empty(len(starts), np.int32)
    labels = np.empty(len(starts), np.uint32)
    for row in range(rows):
        for run in range(first[2 * row], first[2 * row + 1]):
            begins[n], ends[n], labels[n] = (starts[run] + 1) // 2, stops[run] // 2, values[run]
            n += begins[n] < ends[n]
        heads[row + 1] = n
    return heads, begins[:n], ends[:n], labels[:n]


@nb.njit(cache=True, nogil=True)
def _halved(light):  # type: ignore[no-untyped-def]
    """Means of 2x2 pixels."""
    half = np.empty((light.shape[0] // 2, light.shape[1] // 2), np.uint8)
    for row in range(half.shape[0]):
        above, below = light[2 * row], light[2 * row + 1]
        for col in range(half.shape[1]):
            total = np.int32(above[2 * col]) + above[2 * col + 1] + below[2 * col] + below[2 * col + 1]
            half[row, col] = (total + 2) >> 2
    return half
