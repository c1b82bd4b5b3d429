"""The place in other photographs that looks most like what surrounds a region (Hays and Efros 2007, without labels)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from ...storage.codec import Mask
from ...storage.images import Photograph
from ...storage.layouts import Box

COMPARED = 24
"""Pixels of the longer side of the window around the region as it is compared."""
AROUND = 0.5
"""Of a region's box, how much of its surroundings is compared on each side."""


class Place(NamedTuple):
    """A window of one of several photographs: its number, its box there, and the mean squared difference of the known
    pixels, levels of 0..255 squared."""

    number: int
    box: Box
    distance: float


def surroundings(region: Mask, around: float = AROUND) -> Box:
    """The box of a region, enlarged on each side by a share of its own size, at least 2 pixels, within the picture."""
    rows, cols = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    top, left, bottom, right = int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1
    down, aside = (max(2, round(around * side)) for side in (bottom - top, right - left))
    return (
        max(0, top - down), max(0, left - aside), min(region.shape[0], bottom + down),
        min(region.shape[1], right + aside),
    )  # fmt: skip


def nearest_place(image: Photograph, region: Mask, photographs: Iterable[Photograph]) -> Place | None:
    """Where the surroundings of a region are found again; None where no photograph is as large as they are.

    Args:
        image: `(H, W, 3)`; region: `(H, W)` bool, not empty and not everything.
        photographs: each is searched everywhere, at its own scale, on pixels averaged over areas.
    """
    top, left, bottom, right = box = surroundings(region)
    window, hole = image[top:bottom, left:right], region[top:bottom, left:right]
    factor = max(1.0, max(window.shape[:2]) / COMPARED)
    size = tuple(max(1, round(side / factor)) for side in window.shape[1::-1])
    outside = (~hole).astype(np.float32)
    known = cv2.resize(outside, size, interpolation=cv2.INTER_AREA)
    lit = cv2.resize(window * outside[..., None], size, interpolation=cv2.INTER_AREA)
    wanted = (lit / np.maximum(known, 1e-6)[..., None]).astype(np.float32)
    weights = np.sqrt(known)[..., None].repeat(3, axis=2)
    best: Place | None = None
    for number, photograph in enumerate(photographs):
        if photograph.shape[0] < window.shape[0] or photograph.shape[1] < window.shape[1]:
            continue
        rows, cols = (round(side / factor) for side in photograph.shape[:2])
        small = cv2.resize(photograph.astype(np.float32), (cols, rows), interpolation=cv2.INTER_AREA)
        distances = cv2.matchTemplate(small, wanted, cv2.TM_SQDIFF, mask=weights)
        lowest, _, (col, row), _ = cv2.minMaxLoc(distances)
        distance = lowest / (3 * float(known.sum()))
        if best is None or distance < best.distance:
            best = Place(number, _inside(round(row * factor), round(col * factor), box, photograph), distance)
    return best


def _inside(row: int, col: int, box: Box, photograph: Photograph) -> Box:
    """A box of the size of another, at a place, moved into the photograph."""
    rows, cols = box[2] - box[0], box[3] - box[1]
    top, left = min(row, photograph.shape[0] - rows), min(col, photograph.shape[1] - cols)
    return top, left, top + rows, left + cols
