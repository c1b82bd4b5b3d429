"""What lies behind the objects of a layout: the ground below a line that goes on behind them, other stuff above it."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.uint16]

VERTICAL = 0.5
"""What a class seen above or below counts, beside one as far to the left or right: scenes stretch sideways."""
RARE = 0.02
"""What a class counts where the bank never has it."""
SEEN = 1
"""Rows within which the line between the ground and the rest is seen, not hidden."""


def background(
    classes: Index,
    hidden: npt.NDArray[np.bool_],
    ground: npt.NDArray[np.bool_],
    prior: npt.NDArray[np.float32],
    line: npt.NDArray[np.float64],
) -> Index:
    """The map of stuff alone, `(H, W)` class indices: what is hidden is filled in.

    In every column the ground lies below a line, which is seen where nothing hides it. Between the columns where it is
    seen its distance from the bank's mean line is interpolated. On its own side of the line, a hidden pixel becomes
    the stuff seen nearest in one of four directions, weighed by how often the bank has it at that place.

    Args:
        classes: `(H, W)` class indices, C for void.
        hidden: `(H, W)`, pixels of objects.
        ground: `(C + 1,)`, which classes are ground.
        prior: `(h, w, C + 1)` float32, how often each class lies in each cell of the frame.
        line: `(w,)`, the mean line of the bank in 0..1 of the rows, by cells of the columns.
    """
    if not hidden.any():
        return classes
    rows, cols = classes.shape
    none = np.uint16(len(ground) - 1)
    low, high = _line_bounds(classes, hidden, ground, none)
    at = (np.arange(cols) + 0.5) / cols * len(line) - 0.5
    mean = np.interp(at, np.arange(len(line)), line) * rows
    seen = np.flatnonzero(high - low <= SEEN)
    away = np.interp(np.arange(cols), seen, low[seen] - mean[seen]) if seen.size else np.zeros(cols)
    between = np.clip(np.round(mean + away), low, high).astype(np.int64)
    filled: Index = _fill(classes, hidden, ground, prior, between, none)
    return filled


@nb.njit(cache=True, nogil=True)
def _line_bounds(classes, hidden, ground, none):  # type: ignore[no-untyped-def]
    """By column, the first row that may be ground down to the bottom of what is seen, and the first that must be."""
    rows, cols = classes.shape
    low, high = np.zeros(cols, np.int64), np.full(cols, rows)
    for row in range(rows):
        for col in range(cols):
            if hidden[row, col] or classes[row, col] == none:
                continue
            if not ground[classes[row, col]]:
                low[col], high[col] = row + 1, rows
            elif high[col] == rows:
                high[col] = row
    return low, high


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _fill(classes, hidden, ground, prior, between, none):  # type: ignore[no-untyped-def]
    rows, cols = classes.shape
    filled, scores = classes.copy(), np.zeros(len(ground))
    above, above_at = np.full((rows, cols), none, np.uint16), np.zeros((rows, cols), np.int32)
    last, last_at = np.full((cols, 2), none, np.uint16), np.zeros((cols, 2), np.int32)  # not ground, ground
    for row in range(rows):
        for col in range(cols):
            if hidden[row, col]:
                kind = np.int64(row >= between[col])
                above[row, col], above_at[row, col] = last[col, kind], last_at[col, kind]
            elif classes[row, col] != none:
                kind = np.int64(ground[classes[row, col]])
                last[col, kind], last_at[col, kind] = classes[row, col], row
    last[:] = none
    left, left_at = np.empty(cols, np.uint16), np.empty(cols, np.int32)
    beside, beside_at = np.empty(2, np.uint16), np.zeros(2, np.int64)
    for row in range(rows - 1, -1, -1):
        beside[:] = none
        for col in range(cols):
            if hidden[row, col]:
                kind = np.int64(row >= between[col])
                left[col], left_at[col] = beside[kind], beside_at[kind]
            elif classes[row, col] != none:
                kind = np.int64(ground[classes[row, col]])
                beside[kind], beside_at[kind] = classes[row, col], col
        beside[:] = none
        for col in range(cols - 1, -1, -1):
            if not hidden[row, col]:
                if classes[row, col] != none:
                    kind = np.int64(ground[classes[row, col]])
                    beside[kind], beside_at[kind] = classes[row, col], col
                    last[col, kind], last_at[col, kind] = classes[row, col], row
                continue
            kind = np.int64(row >= between[col])
            cell = prior[row * prior.shape[0] // rows, col * prior.shape[1] // cols]
            seen = (
                (left[col], 1.0 / (col - left_at[col])),
                (beside[kind], 1.0 / (beside_at[kind] - col)),
                (above[row, col], VERTICAL / (row - above_at[row, col])),
                (last[col, kind], VERTICAL / (last_at[col, kind] - row)),
            )
            best, found = none, 0.0
            for index, weight in seen:
                if index != none:
                    scores[index] += weight * (cell[index] + RARE)
                    if scores[index] > found:
                        best, found = index, scores[index]
            for index, _ in seen:
                scores[index] = 0.0
            filled[row, col] = best
    _fill_rest(filled, hidden, none)
    return filled


@nb.njit(cache=True, nogil=True)
def _fill_rest(filled, hidden, none):  # type: ignore[no-untyped-def]
    """Where nothing of the right kind is in sight: what was found beside it, then above, then below."""
    rows, cols = filled.shape
    for backwards in (False, True):
        for row in range(rows):
            for step in range(1, cols):
                col = cols - 1 - step if backwards else step
                if hidden[row, col] and filled[row, col] == none:
                    filled[row, col] = filled[row, col + (1 if backwards else -1)]
    for backwards in (False, True):
        for step in range(1, rows):
            row = rows - 1 - step if backwards else step
            for col in range(cols):
                if hidden[row, col] and filled[row, col] == none:
                    filled[row, col] = filled[row + (1 if backwards else -1), col]


@nb.njit(cache=True, nogil=True)
def bridge(owner, lifted, class_of, box, reach):  # type: ignore[no-untyped-def]
    """Gives lifted pixels to the object that is seen on both sides of them in their row; 0 to the others.

    Args:
        owner: `(H, W)` int32 numbers of objects, changed in place; lifted: the number whose pixels are given away.
        class_of: by number; box: of what is lifted.
        reach: columns that are bridged at most where both sides are one object, a quarter of that where two of one
            class, which then become one.

    Returns:
        `(m, 2)` int64, pairs of numbers that became the first of them.
    """
    top, left, bottom, right = box
    merged, n_merged = np.zeros((bottom - top, 2), np.int64), 0
    for row in range(top, bottom):
        col = left
        while col < right:
            if owner[row, col] != lifted:
                col += 1
                continue
            stop = col
            while stop < right and owner[row, stop] == lifted:
                stop += 1
            one = owner[row, col - 1] if col > 0 else 0
            two = owner[row, stop] if stop < owner.shape[1] else 0
            both = one if one > 0 and one == two and stop - col <= reach else 0
            alike = one > 0 and two > 0 and class_of[one] == class_of[two]
            if both == 0 and alike and 4 * (stop - col) <= reach and n_merged < len(merged):
                for y in range(owner.shape[0]):
                    for x in range(owner.shape[1]):
                        if owner[y, x] == two:
                            owner[y, x] = one
                merged[n_merged, 0], merged[n_merged, 1] = one, two
                n_merged += 1
                both = one
            for x in range(col, stop):
                owner[row, x] = both
            col = stop
    return merged[:n_merged]
