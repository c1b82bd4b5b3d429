"""What a canvas does not show, filled by the colours of the same class around it: where synthesis begins.

Black and white for what is missing look like shadows and skies, and whatever shrinks the canvas mixes them into the
tones of what is there. Filled, every pixel has a likely colour, and classes meet where the layout says.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.classes import Layout
from .elision import Elided
from .transform import Mask

MARGIN = 2
"""Pixels from what is not valid within which a canvas's pixel is not shown, and over which it fades in."""
HIDDEN = 0.1
"""What a valid pixel that is not shown counts in means, beside one that is: few at a segment's edge fit their place."""
GREY = 128
"""Level of all colours of a class of which none is known."""

Colours = npt.NDArray[np.float32]


def filled(canvas: Elided, layout: Layout, usual: Mapping[int, Colours] | None = None) -> Elided:
    """A canvas on which every pixel has a colour.

    Pixels that are valid well around show; towards the others they fade into means of valid pixels of their class, the
    nearest counting most, and those that show: pull and push (Gortler et al. 1996, The Lumigraph, section 3.4). Where
    nothing of a class is valid they are means of all classes.

    Args:
        canvas: what it shows where it is not valid is not looked at.
        layout: `(H, W)` class ids.
        usual: by class id, `(3,)` the colour of a canvas without a valid pixel; other classes are mid-grey then.

    Returns:
        the picture, with `valid` as it was.
    """
    image, valid = canvas
    if valid.all():
        return canvas
    if not valid.any():
        bare = np.full_like(image, GREY)
        for class_id, colour in (usual or {}).items():
            bare[layout == class_id] = colour.round()
        return Elided(bare, valid)
    share = shown(valid)
    colours, counts = image.astype(np.float32), np.maximum(share, np.float32(HIDDEN)) * valid
    around = np.empty_like(colours)
    of_all: Colours | None = None
    for class_id in np.unique(layout[share < 1]).tolist():
        own = layout == class_id
        counted = counts * own
        if counted.any():
            box = _box(own)
            around[box][own[box]] = _spread_in(colours[box], counted[box])[own[box]]
        else:
            of_all = _spread_in(colours, counts) if of_all is None else of_all
            around[own] = of_all[own]
    mixed = np.where(share[..., None] < 1, around + share[..., None] * (colours - around), colours)
    return Elided(mixed.round().astype(np.uint8), valid)


def shown(valid: Mask) -> npt.NDArray[np.float32]:
    """`(H, W)` shares, 0..1, in which a canvas's own pixels show: all where it is valid well around, none near holes.

    Lone pixels that elision has left are not shown: in training they are the photograph's own, in use a segment's.
    """
    side = 2 * MARGIN + 1
    inner = cv2.erode(valid.astype(np.uint8), np.ones((side, side), np.uint8))
    share: npt.NDArray[np.float32] = cv2.blur(inner.astype(np.float32), (side, side), borderType=cv2.BORDER_REPLICATE)
    return share


def _box(mask: Mask) -> tuple[slice, slice]:
    rows, cols = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def _spread_in(colours: Colours, counts: npt.NDArray[np.float32]) -> Colours:
    found = colours.copy()
    _spread(found, np.ascontiguousarray(counts))
    return found


@nb.njit(cache=True, nogil=True)
def _spread(colours, counts):  # type: ignore[no-untyped-def]
    """Colours of cells, of which each counts for a share of it; the rest becomes the mean around, in place."""
    rows, cols = counts.shape
    if rows * cols == 1:
        return
    coarse = np.zeros(((rows + 1) // 2, (cols + 1) // 2, 3), np.float32)
    share = np.zeros(coarse.shape[:2], np.float32)
    for row in range(rows):
        for col in range(cols):
            count = counts[row, col]
            if count > 0:
                share[row // 2, col // 2] += count
                for k in range(3):
                    coarse[row // 2, col // 2, k] += count * colours[row, col, k]
    for row in range(share.shape[0]):
        for col in range(share.shape[1]):
            if share[row, col] > 0:
                for k in range(3):
                    coarse[row, col, k] /= share[row, col]
                share[row, col] /= min(2, rows - 2 * row) * min(2, cols - 2 * col)
    _spread(coarse, share)
    for row in range(rows):
        near_row = row // 2
        far_row = min(max(near_row + 2 * (row % 2) - 1, 0), share.shape[0] - 1)
        for col in range(cols):
            left = 1 - counts[row, col]
            if left > 0:
                near_col = col // 2
                far_col = min(max(near_col + 2 * (col % 2) - 1, 0), share.shape[1] - 1)
                for k in range(3):
                    near = 0.75 * coarse[near_row, near_col, k] + 0.25 * coarse[near_row, far_col, k]
                    far = 0.75 * coarse[far_row, near_col, k] + 0.25 * coarse[far_row, far_col, k]
                    colours[row, col, k] += left * (0.75 * near + 0.25 * far - colours[row, col, k])
