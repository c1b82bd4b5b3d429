"""What segments and their neighbours look like where they meet: mean colours along the borders of a photograph."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.appearance import BorderColours
from ..storage.images import Photograph
from ..storage.layouts import Labels, border_reach, nearest_exact


def border_colours(
    image: Photograph, labels: Labels, class_ids: npt.NDArray[np.uint16], stored: npt.NDArray[np.int64]
) -> BorderColours:
    """The colours along the borders of a photograph's segments, by the class of what lies beside.

    A pixel of a segment lies along its border with a class where, `border_reach` of the frame's pixels further along
    its row or its column, there is another component of that class; that pixel is the class's own. Only every
    `border_reach // 2`-th row is gone along, and column, which may miss a border as short as that. Photographs are
    sampled as their layouts are.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        labels: `(R, C)` uint32, its components in the frame, `i + 1` each, 0 for void.
        class_ids: `(n,)`, of the components; stored: `(s,)`, those that are segments.
    """
    present, slots = np.unique(class_ids, return_inverse=True)
    numbers = np.full(len(class_ids) + 1, -1)
    numbers[stored + 1] = np.arange(len(stored))
    places = np.append(-1, slots)
    rows, cols = (nearest_exact(*sides) for sides in zip(image.shape[:2], labels.shape, strict=True))
    sums, counts = _summed(
        image, labels, rows, cols, numbers, places, (len(stored), len(present)), border_reach(labels.shape[0])
    )
    own, beside = np.nonzero(counts)
    colours = np.rint(sums[own, beside] / counts[own, beside, None, None]).astype(np.uint8)
    neighbours = np.bincount(own, minlength=len(stored)).astype(np.uint16)
    return BorderColours(neighbours, present[beside], colours)


@nb.njit(cache=True, nogil=True)
def _summed(image, labels, rows, cols, numbers, places, shape, reach):  # type: ignore[no-untyped-def]
    """By segment and class, `(s, c, 2, 3)` sums of RGB on both sides of their borders, and `(s, c)` numbers of pixels.

    Args:
        image: `(H, W, 3)` uint8; labels: `(R, C)`; rows: `(R,)` and cols: `(C,)`, the pixels that these are taken from.
        numbers: by label, which segment it is, -1 for none; places: which class it has.
        shape: `(s, c)`; reach: pixels.
    """
    sums, counts = np.zeros((*shape, 2, 3), np.int64), np.zeros(shape, np.int64)
    height, width = labels.shape
    every = max(reach // 2, 1)
    for down, right in ((0, reach), (reach, 0)):
        for row in range(0, height - down, 1 if down else every):
            for col in range(0, width - right, 1 if right else every):
                one, other = labels[row, col], labels[row + down, col + right]
                if one == other or one == 0 or other == 0:
                    continue
                near, far = image[rows[row], cols[col]], image[rows[row + down], cols[col + right]]
                if numbers[one] >= 0:
                    counts[numbers[one], places[other]] += 1
                    for channel in range(3):
                        sums[numbers[one], places[other], 0, channel] += near[channel]
                        sums[numbers[one], places[other], 1, channel] += far[channel]
                if numbers[other] >= 0:
                    counts[numbers[other], places[one]] += 1
                    for channel in range(3):
                        sums[numbers[other], places[one], 0, channel] += far[channel]
                        sums[numbers[other], places[one], 1, channel] += near[channel]
    return sums, counts
