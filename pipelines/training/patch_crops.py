"""Squares that are drawn out of pictures in training: of another scale and place than the picture, with its boxes."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ...storage.images import Photograph
from ...storage.layouts import Box
from .made_pictures import Boxes

WIDE = 1.5
"""Side of what is kept of an object, as a multiple of its window's side, as far as the photograph goes."""
SMALLEST, LARGEST = 0.75, 1.25
"""Sides of what is drawn, as multiples of the picture's; none is larger than what is kept."""
SHIFT = 0.2
"""How far the middle of what is drawn may lie from the picture's, as a share of the picture's side."""
INSIDE = 0.5
"""Share of a box that must lie in what is drawn."""
GREY = 128
"""Level of what is kept about a window where there is no photograph; nothing is drawn there."""


class Square(NamedTuple):
    """A square in pixels of a kept picture."""

    top: int
    left: int
    side: int

    def of(self, pixels: Photograph) -> Photograph:
        """What it shows."""
        found: Photograph = pixels[self.top : self.top + self.side, self.left : self.left + self.side]
        return found


def with_room(photograph: Photograph, window: Box, side: int) -> tuple[Photograph, Box]:
    """A square window of a photograph at so many pixels a side, in the middle of what is about it.

    Returns:
        `(S, S, 3)` uint8, S being `WIDE` times the side, and where in it the photograph is; beyond it is grey.
    """
    top, left, bottom, right = window
    room, scale, whole = round((WIDE - 1) / 2 * (bottom - top)), side / (bottom - top), round(WIDE * side)
    middle, (rows, cols) = (whole - side) // 2, photograph.shape[:2]
    outer = max(0, top - room), max(0, left - room), min(rows, bottom + room), min(cols, right + room)
    ends = []
    for first, last, start in ((outer[0], outer[2], top), (outer[1], outer[3], left)):
        begin = max(0, middle - round((start - first) * scale))
        ends.append((begin, min(whole, max(middle + side, begin + round((last - first) * scale)))))
    (row, last_row), (col, last_col) = ends
    found = np.full((whole, whole, 3), GREY, np.uint8)
    shown = np.ascontiguousarray(photograph[outer[0] : outer[2], outer[1] : outer[3]])
    method = cv2.INTER_AREA if scale <= 1 else cv2.INTER_LINEAR
    found[row:last_row, col:last_col] = cv2.resize(shown, (last_col - col, last_row - row), interpolation=method)
    return found, (row, col, last_row, last_col)


def drawn_square(whole: Box, picture: Square, spread: float, random: np.random.Generator) -> Square:
    """A square about as large as the picture and about where it is, inside of what is kept.

    Args:
        whole: what is kept; picture: in it; spread: 0 for the picture itself, 1 for squares as different as can be.
    """
    top, left, bottom, right = whole
    most = min(bottom - top, right - left)
    scale = 1 + spread * (random.uniform(SMALLEST, min(LARGEST, most / picture.side)) - 1)
    side = min(round(scale * picture.side), most)
    corners = []
    for first, least, last in ((picture.top, top, bottom), (picture.left, left, right)):
        middle, far = first + (picture.side - side) / 2, spread * SHIFT * picture.side
        low, high = max(least, middle - far), min(last - side, middle + far)
        corners.append(min(max(least, round(random.uniform(min(low, high), high))), last - side))
    return Square(corners[0], corners[1], side)


def boxes_inside(boxes: Boxes, square: Square, resolution: int) -> Boxes:
    """Those of which more than half is in a square, cut off at its sides, in pixels of it at the resolution.

    Args:
        boxes: `(n, 4)` in pixels of the kept picture.
    """
    corner = np.array([square.top, square.left] * 2)
    inside = (boxes - corner).clip(0, square.side)
    shown = (inside[:, 2:] - inside[:, :2]).prod(1) > INSIDE * (boxes[:, 2:] - boxes[:, :2]).prod(1)
    found: Boxes = np.rint(inside[shown] * (resolution / square.side)).astype(np.int32)
    found[:, :2] = found[:, :2].clip(0, resolution - 1)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    return found
