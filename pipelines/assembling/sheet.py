"""The contact sheet of assembled pictures: the patches, and each variant with its mask outlined and its boxes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from ...storage.images import Photograph
from ...storage.layouts import Box
from .network import CUT

if TYPE_CHECKING:
    from ..assemble import Assembled

CELL = 192
"""Pixels of a picture in the sheet, at least; small ones are enlarged by whole pixels."""
GAP = 8
OUTLINE = (255, 255, 255)
_TURN = 0.6180339887
"""Of hue from one patch to the next."""


def colour(number: int) -> tuple[int, int, int]:
    """RGB of a patch's frame and of its box."""
    red, green, blue = colorsys.hsv_to_rgb((number * _TURN) % 1, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def sheet(made: Sequence[Assembled], pictures: Sequence[Photograph] = ()) -> Photograph:
    """Rows of pictures: the patches, what they are of, the variants, and these with outline and boxes.

    Args:
        made: variants of one set of patches; pictures: that the patches are of, where they are known.
    """
    side = len(made[0].image)
    patches = [framed(enlarged(each, side), colour(number)) for number, each in enumerate(made[0].patches)]
    variants = [enlarged(each.image, side) for each in made]
    drawn = [
        annotated(each.image, each.mask, [place.box for place in each.places], cut=each.report.mask_cut)
        for each in made
    ]
    rows = [patches, [enlarged(each, side) for each in pictures], variants, drawn]
    return tiled([row for row in rows if row])


def annotated(
    image: Photograph, mask: npt.NDArray[np.float32], boxes: Sequence[Box], scale: int | None = None, *,
    cut: float = CUT,
) -> Photograph:  # fmt: skip
    """A picture, enlarged, with the outline of a mask above its cut, and a box for each patch in its colour."""
    times = scale or _times(len(image))
    shown = np.ascontiguousarray(image.repeat(times, axis=0).repeat(times, axis=1))
    inside = (mask > cut).astype(np.uint8).repeat(times, axis=0).repeat(times, axis=1)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, outlines, -1, OUTLINE, 1)
    for number, (top, left, bottom, right) in enumerate(boxes):
        corners = (left * times, top * times), (right * times - 1, bottom * times - 1)
        cv2.rectangle(shown, *corners, colour(number), 2)
    return shown


def enlarged(image: Photograph, side: int | None = None) -> Photograph:
    """A picture as large as those of the sheet, by whole pixels; of another size than `side` it is stretched first."""
    if side is not None and image.shape[:2] != (side, side):
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    times = _times(len(image))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def framed(image: Photograph, colour: tuple[int, int, int]) -> Photograph:
    """A picture with a frame of a colour drawn on it."""
    shown = image.copy()
    cv2.rectangle(shown, (0, 0), (shown.shape[1] - 1, shown.shape[0] - 1), colour, 5)
    return shown


def tiled(rows: Sequence[Sequence[Photograph]]) -> Photograph:
    """Rows of equally large pictures on white."""
    height, width = rows[0][0].shape[:2]
    most = max(map(len, rows))
    size = (len(rows) * (height + GAP) + GAP, most * (width + GAP) + GAP, 3)
    found = np.full(size, 255, np.uint8)
    for i, row in enumerate(rows):
        for j, each in enumerate(row):
            top, left = GAP + i * (height + GAP), GAP + j * (width + GAP)
            found[top : top + height, left : left + width] = each
    return found


def _times(side: int) -> int:
    return max(1, -(-CELL // side))
