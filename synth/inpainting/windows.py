"""Regions of pictures larger than a network: filled in windows around them, at its resolution, scaled, or in tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from ...storage.codec import Mask
from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.layouts import Box
from ..encoding import to_image, to_tensor
from .membrane import corrected

SHARE = 0.75
"""Of a window's side that a region takes up at most, so that enough of its surroundings is seen."""
ENOUGH_KNOWN, LEAST_KNOWN = 1 - SHARE, 0.05
"""Shares of a tile's pixels: with so many known it may be filled first; with fewer than the least, never."""

Fills = Callable[[list[Photograph], Mask], list[Photograph]]
"""Pictures and one region of the network's size, and the pictures with the region filled."""


class Plan(NamedTuple):
    """The windows in which a region is filled, in this order; each fills all that is left of it there.

    Attributes:
        boxes: in pixels of the picture, all of one size.
        factor: by which the windows are larger than what the network sees, 1 at its own resolution.
        size: `(rows, cols)` that the network sees.
    """

    boxes: tuple[Box, ...]
    factor: float
    size: tuple[int, int]

    def __str__(self) -> str:
        top, left, bottom, right = self.boxes[0]
        seen = f"{bottom - top}x{right - left} pixels"
        many = "one window" if len(self.boxes) == 1 else f"{len(self.boxes)} windows, tiled,"
        scaled = "at the network's resolution" if self.factor == 1 else f"scaled by {1 / self.factor:.2f}"
        return f"{many} of {seen} {scaled}"


def plan(region: Mask, size: tuple[int, int]) -> Plan:
    """How a region is filled by a network that sees `(rows, cols)`.

    One window around the region, at the network's resolution where the region takes up at most `SHARE` of its sides,
    else scaled as far as the picture reaches. Where that is not enough the picture is tiled, by windows in which the
    thickest part of the region takes up that share; of those that see enough around it, the one that holds most of it
    comes first.

    Args:
        region: `(H, W)` bool, neither empty nor everything.

    Raises:
        InputError: the picture is smaller than what the network sees, or tiles would see next to nothing but region.
    """
    limit = min(side / own for side, own in zip(region.shape, size, strict=True))
    if limit < 1:
        expected = f"at least {size[0]}x{size[1]} pixels, which the network sees"
        found = f"{region.shape[0]}x{region.shape[1]}"
        raise InputError(sentence("image", expected=expected, found=found, fix="give a larger one"))
    rows, cols = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    spans = [(int(each[0]), int(each[-1]) + 1) for each in (rows, cols)]
    factor = max(1.0, *((end - start) / (SHARE * own) for (start, end), own in zip(spans, size, strict=True)))
    if factor <= limit:
        window = _window(size, factor, region)
        top, left = (
            min(max(0, (start + end - own) // 2), side - own)
            for (start, end), own, side in zip(spans, window, region.shape, strict=True)
        )
        return Plan(((top, left, top + window[0], left + window[1]),), factor, size)
    thickness = 2 * float(cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 5).max())
    factor = min(limit, max(1.0, thickness / (SHARE * min(size))))
    return Plan(_tiles(region, _window(size, factor, region), size), factor, size)


def fill_by_windows(
    images: Sequence[Photograph], region: Mask, how: Plan, fill: Fills, blend: float = 0.0
) -> list[Photograph]:
    """Each picture with its region filled window by window; outside the region every pixel stays.

    Args:
        images: `(H, W, 3)` uint8 RGB each, such as a picture once a variant; later tiles see what filled earlier ones.
        region: `(H, W)` bool, of all of them; how: of `plan` for this region.
        blend: what a window was filled with is corrected at the border of the region in the picture itself, over so
            many sides of the window (see `membrane.corrected`): scaled pictures never meet it by themselves, nor does a
            tile what was filled beyond its edge; 0 for never.
    """
    filled, left_over = [image.copy() for image in images], region.copy()
    for box in how.boxes:
        hole = left_over[_at(box)]
        if not hole.any():
            continue
        made = fill([_shrunk(each[_at(box)], how.size) for each in filled], _covered(hole, how.size))
        for picture, own in zip(filled, made, strict=True):
            window = picture[_at(box)]
            enlarged = cv2.resize(own, window.shape[1::-1], interpolation=cv2.INTER_CUBIC) if how.factor != 1 else own
            if blend:
                enlarged = _joined(picture, left_over, box, enlarged, blend * min(enlarged.shape[:2]))
            window[hole] = enlarged[hole]
        hole[:] = False
    return filled


def _joined(picture: Photograph, left_over: Mask, box: Box, made: Photograph, length: float) -> Photograph:
    """What was made in a window, corrected to the picture around the hole, a pixel beyond the window included.

    Where that pixel is yet to be filled it is part of the hole; where it is known, what was made there is what stands
    at the edge of the window.
    """
    top, left, bottom, right = box
    rows, cols = left_over.shape
    margins = ((min(1, top), min(1, rows - bottom)), (min(1, left), min(1, cols - right)))
    at = _at((top - margins[0][0], left - margins[1][0], bottom + margins[0][1], right + margins[1][1]))
    photograph, hole = picture[at], left_over[at]
    wider: Photograph = np.pad(made, (*margins, (0, 0)), mode="edge")
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    beside = (cv2.dilate(hole.astype(np.uint8), cross) > 0) & ~hole
    if np.array_equal(photograph[beside], wider[beside]):
        return made
    with torch.inference_mode():
        inside = torch.from_numpy(hole)[None, None].float()
        joined = to_image(corrected(to_tensor(photograph)[None], inside, to_tensor(wider)[None], length)[0])
    (above, _), (before, _) = margins
    return joined[above : above + bottom - top, before : before + right - left]


def _window(size: tuple[int, int], factor: float, region: Mask) -> tuple[int, int]:
    """`(rows, cols)` of a window in the picture."""
    rows, cols = (min(round(own * factor), side) for own, side in zip(size, region.shape, strict=True))
    return rows, cols


def _tiles(region: Mask, window: tuple[int, int], size: tuple[int, int]) -> tuple[Box, ...]:
    """Windows half a window apart that cover a region, in the order of `_worth`."""
    tops, lefts = (_starts(side, own) for side, own in zip(region.shape, window, strict=True))
    boxes = [(top, left, top + window[0], left + window[1]) for top in tops for left in lefts]
    left_over, chosen = region.copy(), []
    known = {box: _known(left_over, box, size) for box in boxes if left_over[_at(box)].any()}
    while known:
        best = max(known, key=lambda box: _worth(known[box]))
        if known[best] < LEAST_KNOWN:
            expected = "some of the picture around every part of the region"
            found = f"a part in which a window of {window[0]}x{window[1]} pixels sees next to nothing else"
            raise InputError(sentence("region", expected=expected, found=found, fix="give a smaller one"))
        chosen.append(best)
        left_over[_at(best)] = False
        for box in [box for box in known if _meet(box, best)]:
            if left_over[_at(box)].any():
                known[box] = _known(left_over, box, size)
            else:
                del known[box]
    return tuple(chosen)


def _worth(known: float) -> tuple[bool, float]:
    """By which tiles are chosen, the larger the sooner: of those that see enough the fullest, else what sees most."""
    enough = known >= ENOUGH_KNOWN
    return enough, 1 - known if enough else known


def _starts(side: int, window: int) -> list[int]:
    """Evenly spaced, at most half a window apart, the last one at the end."""
    count = 1 + -(-(side - window) // max(1, window // 2))
    return [round(start) for start in np.linspace(0, side - window, count)]


def _known(region: Mask, box: Box, size: tuple[int, int]) -> float:
    return 1 - float(_covered(region[_at(box)], size).mean())


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _at(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[2]), slice(box[1], box[3])


def _shrunk(picture: Photograph, size: tuple[int, int]) -> Photograph:
    if picture.shape[:2] == size:
        return picture.copy()
    shrunk: Photograph = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    return shrunk


def _covered(hole: Mask, size: tuple[int, int]) -> Mask:
    """A hole at another size: every pixel that it reaches into."""
    share = cv2.resize(hole.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(share > 0)
