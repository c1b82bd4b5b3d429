"""PatchMatch: for each patch of a picture a similar one among those allowed (Barnes et al. 2009).

A patch is named by its upper left pixel. The field starts at random, or from what is given; then good matches pass
from neighbour to neighbour, in raster order and back, and every patch tries random ones in ever smaller windows.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from ...storage.codec import Mask

PATCH = 7
"""Side of a patch, pixels."""
SHRINK = 2
"""Of the window of the random search, from try to try."""

_MIX, _STEP = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x9E3779B97F4A7C15)


class Field(NamedTuple):
    """Where the patches' partners are.

    Attributes:
        partners: `(H - PATCH + 1, W - PATCH + 1, 2)` int32, row and column; meaningless for patches not wanted.
        distances: the same rows and columns, float32: sum of squared differences over pixels and channels, 0 there.
    """

    partners: npt.NDArray[np.int32]
    distances: npt.NDArray[np.float32]


def patches_that_touch(mask: Mask) -> Mask:
    """`(H - PATCH + 1, W - PATCH + 1)` bool: which patches hold a pixel of a `(H, W)` mask.

    Raises:
        ValueError: the mask is smaller than a patch.
    """
    if min(mask.shape) < PATCH:
        raise ValueError(f"smaller than a patch of {PATCH}x{PATCH}: {mask.shape}")
    total = np.pad(mask, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    inside = total[PATCH:, PATCH:] - total[:-PATCH, PATCH:] - total[PATCH:, :-PATCH] + total[:-PATCH, :-PATCH]
    touched: Mask = inside > 0
    return touched


def nearest_field(
    image: npt.NDArray[np.float32], wanted: Mask, allowed: Mask, seed: int, passes: int, start: Field | None = None
) -> Field:
    """A partner for every wanted patch among the allowed ones.

    Args:
        image: `(H, W, C)`.
        wanted, allowed: `(H - PATCH + 1, W - PATCH + 1)` bool; at least one patch is allowed.
        seed: of all that is random; passes: over the whole picture, in turn forwards and backwards.
        start: a field to improve; partners that are not allowed are drawn anew.

    Raises:
        ValueError: no patch is allowed.
    """
    rows, cols = np.nonzero(allowed)
    if not len(rows):
        raise ValueError("no patch is allowed")
    random = np.random.default_rng(seed)
    drawn = random.integers(len(rows), size=wanted.shape)
    partners = np.stack([rows[drawn], cols[drawn]], axis=2).astype(np.int32)
    if start is not None:
        kept = allowed[start.partners[..., 0], start.partners[..., 1]]
        partners[kept] = start.partners[kept]
    distances = np.zeros(wanted.shape, np.float32)
    image = np.ascontiguousarray(image, np.float32)
    _measure(image, wanted, partners, distances)
    _improve(image, wanted, allowed, partners, distances, np.uint64(random.integers(1 << 62)), passes)
    return Field(partners, distances)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _distance(
    image: npt.NDArray[np.float32], row: int, col: int, other_row: int, other_col: int, limit: float
) -> np.float32:
    """Sum of squared differences of two patches; anything of at least `limit` where it is not below that."""
    total = np.float32(0)
    for i in range(PATCH):
        for j in range(PATCH):
            for channel in range(image.shape[2]):
                difference = image[row + i, col + j, channel] - image[other_row + i, other_col + j, channel]
                total += difference * difference
        if total >= limit:
            return total
    return total


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _measure(
    image: npt.NDArray[np.float32], wanted: Mask, partners: npt.NDArray[np.int32], distances: npt.NDArray[np.float32]
) -> None:
    for row in range(wanted.shape[0]):
        for col in range(wanted.shape[1]):
            if wanted[row, col]:
                there = partners[row, col]
                distances[row, col] = _distance(image, row, col, there[0], there[1], np.inf)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _improve(
    image: npt.NDArray[np.float32],
    wanted: Mask,
    allowed: Mask,
    partners: npt.NDArray[np.int32],
    distances: npt.NDArray[np.float32],
    state: np.uint64,
    passes: int,
) -> None:
    rows, cols = wanted.shape
    for number in range(passes):
        step = 1 if number % 2 == 0 else -1
        for i in range(rows):
            row = i if step == 1 else rows - 1 - i
            for j in range(cols):
                col = j if step == 1 else cols - 1 - j
                if wanted[row, col]:
                    _propagate(image, wanted, allowed, partners, distances, row, col, step)
                    state = _search(image, allowed, partners, distances, row, col, state)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _try(
    image: npt.NDArray[np.float32],
    allowed: Mask,
    partners: npt.NDArray[np.int32],
    distances: npt.NDArray[np.float32],
    row: int,
    col: int,
    other_row: int,
    other_col: int,
) -> None:
    """Takes another partner where it is allowed and nearer."""
    if not (0 <= other_row < allowed.shape[0] and 0 <= other_col < allowed.shape[1]):
        return
    if not allowed[other_row, other_col]:
        return
    distance = _distance(image, row, col, other_row, other_col, distances[row, col])
    if distance < distances[row, col]:
        distances[row, col] = distance
        partners[row, col, 0] = other_row
        partners[row, col, 1] = other_col


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _propagate(
    image: npt.NDArray[np.float32],
    wanted: Mask,
    allowed: Mask,
    partners: npt.NDArray[np.int32],
    distances: npt.NDArray[np.float32],
    row: int,
    col: int,
    step: int,
) -> None:
    """The partners of the two neighbours that were visited before, shifted."""
    for down, right in ((step, 0), (0, step)):
        near_row, near_col = row - down, col - right
        if 0 <= near_row < wanted.shape[0] and 0 <= near_col < wanted.shape[1] and wanted[near_row, near_col]:
            there = partners[near_row, near_col]
            _try(image, allowed, partners, distances, row, col, there[0] + down, there[1] + right)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _search(
    image: npt.NDArray[np.float32],
    allowed: Mask,
    partners: npt.NDArray[np.int32],
    distances: npt.NDArray[np.float32],
    row: int,
    col: int,
    state: np.uint64,
) -> np.uint64:
    """Random patches around the partner, the window halved from try to try; the state of the random numbers after."""
    reach = max(allowed.shape)
    while reach >= 1:
        top = max(0, partners[row, col, 0] - reach)
        left = max(0, partners[row, col, 1] - reach)
        bottom = min(allowed.shape[0], partners[row, col, 0] + reach + 1)
        right = min(allowed.shape[1], partners[row, col, 1] + reach + 1)
        state, first = _random(state)
        state, second = _random(state)
        other_row = top + int(first % np.uint64(bottom - top))
        other_col = left + int(second % np.uint64(right - left))
        _try(image, allowed, partners, distances, row, col, other_row, other_col)
        reach //= SHRINK
    return state


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _random(state: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The next state and a number of 32 bits (splitmix64, Steele et al. 2014, with one multiplication)."""
    state = state + _STEP
    mixed = (state ^ (state >> np.uint64(30))) * _MIX
    return state, mixed >> np.uint64(32)
