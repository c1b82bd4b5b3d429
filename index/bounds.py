"""Upper bounds of the score that cost a few operations a segment (score, "Bounds that are true").

Every function here is compiled, releases the GIL and works on integers; the one division is that of the score itself,
whose rounding is monotone, so that a bound is never below the score it bounds, to the last bit.
"""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True)
def iou(common, one, other):  # type: ignore[no-untyped-def]
    """Intersection over union from counts, float64; 0 where the union is empty."""
    union = one + other - common
    return common / union if union > 0 else 0.0


@nb.njit(cache=True, nogil=True)
def context_box(box, rows, cols):  # type: ignore[no-untyped-def]
    """The box padded by 12.5 % on each side, rounded half up, clipped to the frame (score, section 5)."""
    top, left, bottom, right = box
    pad_rows, pad_cols = (bottom - top + 4) // 8, (right - left + 4) // 8
    return (
        max(top - pad_rows, 0),
        max(left - pad_cols, 0),
        min(bottom + pad_rows, rows),
        min(right + pad_cols, cols),
    )


@nb.njit(cache=True, nogil=True)
def box_overlap(a, b):  # type: ignore[no-untyped-def]
    """Common pixels of two half-open boxes."""
    rows = min(a[2], b[2]) - max(a[0], b[0])
    cols = min(a[3], b[3]) - max(a[1], b[1])
    return rows * cols if rows > 0 and cols > 0 else 0


@nb.njit(cache=True, nogil=True)
def box_sum(sums, box):  # type: ignore[no-untyped-def]
    """Pixels counted inside a box by a summed-area table, int64."""
    return np.int64(sums[box[2], box[3]] - sums[box[0], box[3]] - sums[box[2], box[1]] + sums[box[0], box[1]])


@nb.njit(cache=True, nogil=True)
def least_common(missing, weight, both):  # type: ignore[no-untyped-def]
    """With fewer common pixels than this, `weight * iou` stays below `missing`; `both` is the sum of the two areas.

    `w * c / (both - c) >= m` needs `c >= m * both / (w + m)`; one pixel is given away for rounding. The caller takes
    the rounding of `missing` itself off, which one large weight beside a small one would magnify.
    """
    return np.int64(missing * both / (weight + missing)) - 1 if missing > 0 else np.int64(0)
