"""References as a generator sees them: a square of a picture at its resolution, with the region."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.layouts import Box
from ...storage.reader import Reader
from ...synth.encoding import to_tensor
from ...synth.roi_gan.regions import Region
from ..inpaint import ImageLike, image_of
from ..inpainting.regions import RegionLike, region_of
from ..training.sources import resized_image

INSIDE = 0.5
"""Share of a pixel that the region must cover for it to count as inside."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A picture whose region is kept in what it means.

    Attributes:
        name: for files and readers.
        image: `(R, R, 3)` uint8 RGB; region: `(R, R)` bool, neither empty nor everything.
        square: of the picture, `(top, left, bottom, right)` in its pixels; cut: share of its region that lies outside.
    """

    name: str
    image: Photograph
    region: Region
    square: Box
    cut: float

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """`(3, R, R)` in [-1, 1] and `(1, R, R)` of 0 and 1."""
        return to_tensor(self.image).to(device), torch.from_numpy(self.region)[None].float().to(device)


def reference_of(image: ImageLike, region: RegionLike, resolution: int, reader: Reader | None = None) -> Reference:
    """A reference at a generator's resolution.

    Args:
        image: a picture of any size; region: of it; resolution: R; reader: of the bank, for sources and segments.

    Raises:
        InputError: either cannot be used, or the region is all that the generator would see.
    """
    picture, name, source = image_of(image, reader)
    inside = region_of(region, picture, source, reader)
    top, left, bottom, right = square = square_around(inside)
    window = inside[top:bottom, left:right]
    size = (resolution, resolution)
    covered = resized_image((window * np.uint8(255))[..., None].repeat(3, 2), size)[..., 0] / 255
    found = covered >= INSIDE
    if not found.any():  # a region thinner than the generator's pixels
        found = covered >= covered.max()
    if found.all():
        expected = "some pixels outside of it in the square that the generator sees"
        said = f"{top},{left},{bottom},{right}, all of it inside"
        raise InputError(sentence("region", expected=expected, found=said, fix="give a smaller region"))
    shown = resized_image(picture[top:bottom, left:right], size)
    return Reference(name, shown, found, square, 1 - float(window.sum() / inside.sum()))


def square_around(region: Region) -> Box:
    """The largest square of a picture, moved from its middle only as far as the region's box needs.

    Of a region that is longer than the square, the middle is inside.
    """
    rows, cols = region.shape
    side = min(rows, cols)
    starts = []
    for axis, length in ((1, rows), (0, cols)):
        there = np.flatnonzero(region.any(axis))
        first, end = int(there[0]), int(there[-1]) + 1
        least, most = end - side, first
        start = (length - side) // 2 if least <= most else (first + end - side) // 2
        start = min(max(start, least), most) if least <= most else start
        starts.append(min(max(start, 0), length - side))
    return starts[0], starts[1], starts[0] + side, starts[1] + side


def outlined(image: Photograph, region: Region, times: int = 1) -> Photograph:
    """A picture enlarged without smoothing, its region outlined in yellow."""
    large = image.repeat(times, axis=0).repeat(times, axis=1)
    mask = region.repeat(times, axis=0).repeat(times, axis=1).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(large, contours, -1, (255, 255, 0), 1)
    return large
