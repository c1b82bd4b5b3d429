"""Compiled passes over label maps: numbering components, and sampling them to the frame with their areas and boxes."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True)
def number_in_raster_order(labels, numbers, first_pixels):  # type: ignore[no-untyped-def]
    """Renumbers regions 1..n by their first pixel in raster order, in place.

    Args:
        labels: `(N,)` uint32, 0 for none; changed.
        numbers: `(max + 1,)` uint32 zeros, scratch.
        first_pixels: `(max,)` int64, filled up to n.

    Returns:
        n.
    """
    n = np.uint32(0)
    for pixel in range(len(labels)):
        label = labels[pixel]
        if label > 0:
            if numbers[label] == 0:
                first_pixels[n] = pixel
                n += np.uint32(1)
                numbers[label] = n
            labels[pixel] = numbers[label]
    return n


@nb.njit(cache=True, nogil=True)
def sample_labels(labels, rows, cols, sampled, areas, boxes):  # type: ignore[no-untyped-def]
    """Samples a label map and measures what is left of each region.

    Args:
        labels: `(H, W)` uint32; rows, cols: `(R,)`, `(C,)` intp, where each pixel of the frame is taken from.
        sampled: `(R, C)` uint32, filled.
        areas: `(n,)` int64 zeros, filled; boxes: `(n, 4)` int32 zeros, filled, `(top, left, bottom, right)`.
    """
    for row in range(len(rows)):
        for col in range(len(cols)):
            label = labels[rows[row], cols[col]]
            sampled[row, col] = label
            if label > 0:
                i = np.int64(label) - 1
                if areas[i] == 0:
                    boxes[i, 0], boxes[i, 1], boxes[i, 3] = row, col, col
                areas[i] += 1
                boxes[i, 1] = min(boxes[i, 1], col)
                boxes[i, 2] = row + 1
                boxes[i, 3] = max(boxes[i, 3], col + 1)
