"""Segments moved, turned and cropped at random, for the transformation network to put them back (SIMS, 4.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.errors import InputError, sentence
from ..storage.images import Photograph
from .transform import Affine, Mask

LEAST_SHARE = 0.25
"""Of a segment's pixels that stay in the picture; what would lose more is drawn anew, at last left in its place."""


@dataclass(frozen=True)
class Misalignment:
    """How far segments are moved; every draw is uniform. The first two are those of the SIMS code.

    Attributes:
        scale: of each axis, most by which it differs from 1.
        shift: of each axis, most, as a share of the segment's own height or width.
        rotation: either way, most, degrees.
        crop: most that is cut off at each of the four sides, as a share of the segment's own height or width.
        crop_share: how many segments are cropped at all.
    """

    scale: float = 0.1
    shift: float = 0.031
    rotation: float = 2.5
    crop: float = 0.15
    crop_share: float = 0.5

    def __post_init__(self) -> None:
        for name, most in (("scale", 0.9), ("shift", 10), ("rotation", 180), ("crop", 0.45), ("crop_share", 1)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise InputError(
                    sentence(f"misalignment: {name}", expected=f"a number in 0..{most}", found=repr(value))
                )


class Misaligned(NamedTuple):
    """A segment out of its place.

    Attributes:
        image: `(H, W, 3)` uint8 RGB, black outside the mask.
        mask: `(H, W)` bool.
        matrix: from its own place to this one, `(x, y, 1)` to `(x, y)` in pixels, of which the one in row i and
            column j covers `[j, j + 1) x [i, i + 1)`, as in `synth.transform`.
    """

    image: Photograph
    mask: Mask
    matrix: Affine


def misaligned(image: Photograph, mask: Mask, settings: Misalignment, random: np.random.Generator) -> Misaligned:
    """A segment of a photograph, moved at random.

    Args:
        image: `(H, W, 3)` uint8 RGB, the photograph.
        mask: `(H, W)` bool, the segment, at least one pixel.
        settings: how far.
        random: its draws.

    Returns:
        The segment, at least one pixel of it; colours are interpolated within the mask only.
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1)
    area = np.count_nonzero(mask)
    for _ in range(8):
        matrix = drawn(box, settings, random)
        whole = cropped(mask, box, settings, random)
        moved = _warped(image, whole, matrix)
        if np.count_nonzero(moved.mask) >= LEAST_SHARE * area * abs(np.linalg.det(np.array(matrix)[:, :2])):
            return moved
    return _warped(image, mask, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))


def drawn(box: tuple[float, float, float, float], settings: Misalignment, random: np.random.Generator) -> Affine:
    """Random scale, rotation and shift about the middle of a box `(top, left, bottom, right)`; a matrix on (x, y)."""
    top, left, bottom, right = box
    scale = 1 + random.uniform(-settings.scale, settings.scale, 2)
    angle = math.radians(random.uniform(-settings.rotation, settings.rotation))
    shift = random.uniform(-settings.shift, settings.shift, 2) * (right - left, bottom - top)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn * scale
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    (a, b), (c, d) = linear.tolist()
    x, y = (middle + shift - linear @ middle).tolist()
    return (a, b, x), (c, d, y)


def cropped(mask: Mask, box: tuple[int, int, int, int], settings: Misalignment, random: np.random.Generator) -> Mask:
    """A mask, tight in `box`, without random strips at its sides; most often as it is."""
    shares = random.uniform(0, settings.crop, 4)
    if random.random() >= settings.crop_share:
        return mask
    top, left, bottom, right = box
    height, width = bottom - top, right - left
    inside = np.zeros(mask.shape, bool)
    inside[
        top + int(shares[0] * height) : bottom - int(shares[2] * height),
        left + int(shares[1] * width) : right - int(shares[3] * width),
    ] = True
    return mask & inside


def _warped(image: Photograph, mask: Mask, matrix: Affine) -> Misaligned:
    """The masked pixels at their new places, bilinear, weighted by the mask: no colour enters from outside it."""
    (a, b, x), (c, d, y) = matrix
    linear = np.array([[a, b], [c, d]])
    offset = linear @ (0.5, 0.5) + (x - 0.5, y - 0.5)  # OpenCV puts whole coordinates at pixel centres
    stack: npt.NDArray[np.float32] = np.dstack([image * mask[..., None], mask]).astype(np.float32)
    size = mask.shape[1], mask.shape[0]
    moved = cv2.warpAffine(stack, np.column_stack([linear, offset]), size, flags=cv2.INTER_LINEAR)
    covered: Mask = moved[..., 3] >= 0.5
    weight = np.where(covered, moved[..., 3], np.float32(np.inf))
    colours = np.clip(np.rint(moved[..., :3] / weight[..., None]), 0, 255).astype(np.uint8)
    return Misaligned(colours, covered, matrix)
