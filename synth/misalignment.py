"""Segments moved, turned and cropped at random, for the transformation network to put them back (SIMS, 4.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..storage.errors import InputError, sentence
from .transform import Affine, Mask

LEAST_SHARE = 0.25
"""Of a segment's pixels that cropping leaves; what would lose more is not cropped."""


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


def drawn(box: tuple[float, float, float, float], settings: Misalignment, random: np.random.Generator) -> Affine:
    """Random scale, rotation and shift about the middle of a box `(top, left, bottom, right)`.

    Returns:
        From its own place to the new one, `(x, y, 1)` to `(x, y)`, in pixels as `synth.transform` counts them.
    """
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


def cropped(mask: Mask, settings: Misalignment, random: np.random.Generator) -> Mask:
    """A mask, tight in its array, without random strips at its sides; most often, or where it lost too much, whole."""
    shares = random.uniform(0, settings.crop, 4)
    if random.random() >= settings.crop_share:
        return mask
    height, width = mask.shape
    inside = np.zeros(mask.shape, bool)
    inside[
        int(shares[0] * height) : height - int(shares[2] * height),
        int(shares[1] * width) : width - int(shares[3] * width),
    ] = True
    left = mask & inside
    return left if np.count_nonzero(left) >= LEAST_SHARE * np.count_nonzero(mask) else mask
