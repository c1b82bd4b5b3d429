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
    n, before, number = np.uint32(0), np.uint32(0), np.uint32(0)
    for pixel in range(len(labels)):
        label = labels[pixel]
        if label != before:  # the next run
            if label > 0 and numbers[label] == 0:
                first_pixels[n] = pixel
                n += np.uint32(1)
                numbers[label] = n
            before, number = label, numbers[label]
        labels[pixel] = number
    return n


@nb.njit(cache=True, nogil=True)
def sample_labels(labels, rows, cols, sampled, areas, boxes):  # type: ignore[no-untyped-def]
    """Samples a label map and measures what is left of each region.

    Args:
        labels: `(H, W)` uint32; rows, cols: `(R,)`, `(C,)` intp, where each pixel of the frame is taken from.
        sampled: `(R, C)` uint32, filled.
        areas: `(n,)` int64 zeros, filled; boxes: `(n, 4)` int32 zeros, filled, `(top, left, bottom, right)`.
    """
    last = len(cols)
    for row in range(len(rows)):
        source, target = labels[rows[row]], sampled[row]
        for col in range(last):
            target[col] = source[cols[col]]
        begin = 0
        for col in range(1, last + 1):
            label = target[begin]
            if col == last or target[col] != label:  # the end of a run
                if label > 0:
                    i = np.int64(label) - 1
                    if areas[i] == 0:
                        boxes[i, 0], boxes[i, 1] = row, begin
                    areas[i] += col - begin
                    boxes[i, 1] = min(boxes[i, 1], begin)
                    boxes[i, 2] = row + 1
                    boxes[i, 3] = max(boxes[i, 3], col)
                begin = col


@nb.njit(cache=True, nogil=True)
def count_values(values, counts):  # type: ignore[no-untyped-def]
    """Adds to `counts` how often each of `(N,)` values occurs, run by run; no value may be beyond its end."""
    begin = 0
    for i in range(1, len(values) + 1):
        if i == len(values) or values[i] != values[begin]:
            counts[values[begin]] += i - begin
            begin = i
