"""Signatures: a few bytes a segment that bound how much of a mask and of a context can be common (score, "Bounds").

The segments of a leaf share one grid over their masks and one over their contexts. A signature counts a segment's
pixels in the cells of the first, and the pixels of the leaf's commonest classes (and of all the rest together) in the
cells of the second: one byte a cell, in units that are rounded up on both sides, so that the sum of the smaller bytes
is never below the common pixels.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from ..storage.footprints import TILE

MASK_CELLS = 8
"""The mask grid has MASK_CELLS x MASK_CELLS cells."""
CONTEXT_CELLS = 4
"""The context grid has CONTEXT_CELLS x CONTEXT_CELLS cells a class."""
CLASSES = 8
"""Slots of classes: the commonest of the leaf, and last the rest."""
ALIGNED = 4
"""Context grids begin and end at multiples of this many pixels, so that queries need no finer tables of classes."""
MASK_BYTES = MASK_CELLS * MASK_CELLS
SLOT_BYTES = CONTEXT_CELLS * CONTEXT_CELLS
SIGNATURE_BYTES = MASK_BYTES + CLASSES * SLOT_BYTES


@nb.njit(cache=True, nogil=True)
def unit_of(cell_rows, cell_cols):  # type: ignore[no-untyped-def]
    """How many pixels one step of a byte counts: a full cell must fit."""
    return (cell_rows * cell_cols + 254) // 255


@nb.njit(cache=True, nogil=True)
def least_common_bytes(signatures, row, query):  # type: ignore[no-untyped-def]
    """The sums of the smaller of two bytes: over the mask's cells, and over the context's.

    Args:
        signatures: `(N, SIGNATURE_BYTES)` uint8; row: which one.
        query: `(SIGNATURE_BYTES,)` uint8.
    """
    mask, context = np.uint32(0), np.uint32(0)
    for i in range(MASK_BYTES):
        mask += min(np.uint32(signatures[row, i]), np.uint32(query[i]))
    for i in range(MASK_BYTES, SIGNATURE_BYTES):
        context += min(np.uint32(signatures[row, i]), np.uint32(query[i]))
    return np.int64(mask), np.int64(context)


@nb.njit(cache=True, nogil=True)
def query_signature(  # type: ignore[no-untyped-def]
    mask_grid, context_grid, classes, box, mask_sums, start, around, plane_of, class_sums, all_sums, out
):
    """A component's side of a leaf's signatures, into `out`: `(SIGNATURE_BYTES,)` uint8.

    Args:
        mask_grid, context_grid: `(4,)` of the leaf: top, left, rows and columns of a cell.
        classes: `(CLASSES - 1,)` uint16, the leaf's commonest classes.
        box: of the component; mask_sums, start: its summed-area table and where that begins (`QueryArrays`).
        around: the component's context box.
        plane_of, class_sums, all_sums: of `QueryArrays`.
    """
    top, left, bottom, right = box
    stride = right - left + 1
    unit = unit_of(mask_grid[2], mask_grid[3])
    for row in range(MASK_CELLS):
        upper = min(max(mask_grid[0] + row * mask_grid[2] - top, 0), bottom - top)
        lower = min(max(mask_grid[0] + (row + 1) * mask_grid[2] - top, 0), bottom - top)
        for col in range(MASK_CELLS):
            first = min(max(mask_grid[1] + col * mask_grid[3] - left, 0), right - left)
            last = min(max(mask_grid[1] + (col + 1) * mask_grid[3] - left, 0), right - left)
            count = np.int64(0)
            if upper < lower and first < last:
                above, below = start + upper * stride, start + lower * stride
                count = np.int64(mask_sums[below + last]) - mask_sums[above + last]
                count += np.int64(mask_sums[above + first]) - mask_sums[below + first]
            out[MASK_CELLS * row + col] = (count + unit - 1) // unit
    # Rounded outwards to the coarser tables: counts only grow.
    top, left = around[0] // ALIGNED, around[1] // ALIGNED
    bottom, right = (around[2] + ALIGNED - 1) // ALIGNED, (around[3] + ALIGNED - 1) // ALIGNED
    unit = unit_of(context_grid[2], context_grid[3])
    tall, wide = context_grid[2] // ALIGNED, context_grid[3] // ALIGNED
    for row in range(CONTEXT_CELLS):
        upper = min(max(context_grid[0] // ALIGNED + row * tall, top), bottom)
        lower = min(max(context_grid[0] // ALIGNED + (row + 1) * tall, top), bottom)
        for col in range(CONTEXT_CELLS):
            first = min(max(context_grid[1] // ALIGNED + col * wide, left), right)
            last = min(max(context_grid[1] // ALIGNED + (col + 1) * wide, left), right)
            at = MASK_BYTES + CONTEXT_CELLS * row + col
            if upper == lower or first == last:
                for slot in range(CLASSES):
                    out[at + SLOT_BYTES * slot] = 0
                continue
            rest = np.int64(all_sums[lower, last]) - all_sums[upper, last]
            rest += np.int64(all_sums[upper, first]) - all_sums[lower, first]
            for slot in range(CLASSES - 1):
                plane = plane_of[classes[slot]]
                count = np.int64(0)
                if plane >= 0:
                    count = np.int64(class_sums[plane, lower, last]) - class_sums[plane, upper, last]
                    count += np.int64(class_sums[plane, upper, first]) - class_sums[plane, lower, first]
                rest -= count
                out[at + SLOT_BYTES * slot] = (count + unit - 1) // unit
            out[at + SLOT_BYTES * (CLASSES - 1)] = (rest + unit - 1) // unit


@nb.njit(cache=True, nogil=True)
def sign_segment(regions, classes, own, box, around, mask_grid, context_grid, leaf_classes, counts, out):  # type: ignore[no-untyped-def]
    """A stored segment's signature, into `out`: `(SIGNATURE_BYTES,)` uint8.

    Args:
        regions: `(R, C)` uint32, the source's region map; classes: `(G,)` uint16 by region; own: the segment's region.
        box, around: its box and context box.
        mask_grid, context_grid, leaf_classes: of its leaf.
        counts: `(SIGNATURE_BYTES,)` int64, scratch.
    """
    counts[:] = 0
    for row in range(box[0], box[2]):
        at = (row - mask_grid[0]) // mask_grid[2] * MASK_CELLS
        for col in range(box[1], box[3]):
            if regions[row, col] == own:
                counts[at + (col - mask_grid[1]) // mask_grid[3]] += 1
    slot_of = np.full(len(classes), CLASSES - 1, np.int64)
    for region in range(len(classes)):
        for slot in range(CLASSES - 1):
            if classes[region] == leaf_classes[slot]:
                slot_of[region] = slot
                break
    for row in range(around[0], around[2]):
        at = MASK_BYTES + (row - context_grid[0]) // context_grid[2] * CONTEXT_CELLS
        for col in range(around[1], around[3]):
            region = regions[row, col]
            if region > 0:
                cell = (col - context_grid[1]) // context_grid[3]
                counts[at + cell + SLOT_BYTES * slot_of[region]] += 1
    mask_unit, context_unit = unit_of(mask_grid[2], mask_grid[3]), unit_of(context_grid[2], context_grid[3])
    for i in range(SIGNATURE_BYTES):
        unit = mask_unit if i < MASK_BYTES else context_unit
        out[i] = (counts[i] + unit - 1) // unit


@nb.njit(cache=True, nogil=True)
def coarse_sums(planes, sums):  # type: ignore[no-untyped-def]
    """Summed-area tables over squares of ALIGNED pixels from planes of 8x8 tiles.

    Args:
        planes: `(L, TR, TC)` uint64, bit planes of classes.
        sums: `(L, 2 * TR + 1, 2 * TC + 1)` int32, zeros; filled.
    """
    half = np.uint64(0x0F0F0F0F)
    for plane in range(planes.shape[0]):
        for row in range(planes.shape[1]):
            upper = lower = np.int32(0)
            for col in range(planes.shape[2]):
                word = planes[plane, row, col]
                for side in range(TILE // ALIGNED):
                    shifted = word >> np.uint64(ALIGNED * side)
                    upper += _ones(shifted & half)
                    lower += _ones(shifted >> np.uint64(32) & half)
                    at = TILE // ALIGNED * col + side + 1
                    sums[plane, 2 * row + 1, at] = sums[plane, 2 * row, at] + upper
                    sums[plane, 2 * row + 2, at] = sums[plane, 2 * row + 1, at] + lower


@nb.njit(cache=True, nogil=True)
def _ones(word):  # type: ignore[no-untyped-def]
    """Set bits of a word of nibbles in 32 bits."""
    word = word - (word >> np.uint64(1) & np.uint64(0x55555555))
    word = (word & np.uint64(0x33333333)) + (word >> np.uint64(2) & np.uint64(0x33333333))
    word = word + (word >> np.uint64(4)) & np.uint64(0x0F0F0F0F)
    return np.int32(word * np.uint64(0x01010101) >> np.uint64(24) & np.uint64(0xFF))
