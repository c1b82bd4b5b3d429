"""Boundary elision: what lies near the edges of segments leaves the canvas, alike in training and use (SIMS, 5.2).

The paper says that 80 % of the pixels within 0.05 h inside a boundary become white and all within 0.05 h outside one
black. Here the outside of a *thing* (something countable) is meant, and only pixels that belong to no thing: to the
letter, a pedestrian 9 pixels from a car would be wiped out by it at 192 rows, and two things that touch would wipe out
each other. What of a thing is near the edge is already elided from the inside. The widths are half of the paper's:
of a street of many things at 96 rows, 0.05 h leaves less than half. Its code takes 0.0125 to 0.025 h inside, and 0.04 h
outside, in use alone; trainings at full width take the paper's 0.05 h for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.errors import InputError, sentence
from ..storage.images import Photograph
from .transform import Mask

WHITE, BLACK = 255, 0
"""What elided pixels show until they are filled: inside a segment white, outside a thing black, as what is missing."""


@dataclass(frozen=True)
class Elision:
    """How much of a canvas is elided.

    Attributes:
        interior: probability, 0..1, with which each pixel of a segment near its visible boundary becomes white.
        interior_width, exterior_width: how near, as a share of the canvas's rows; 0 elides nothing.
    """

    interior: float = 0.8
    interior_width: float = 0.025
    exterior_width: float = 0.025

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise InputError(sentence(f"elision: {name}", expected="a number in 0..1", found=repr(value)))


NO_ELISION = Elision(0.0, 0.0, 0.0)


class Elided(NamedTuple):
    """`image`: `(H, W, 3)` uint8 RGB; `valid`: `(H, W)` bool, pixels that still show a segment."""

    image: Photograph
    valid: Mask


def elide(
    image: Photograph,
    provenance: npt.NDArray[np.integer],
    things: npt.NDArray[np.bool_],
    settings: Elision,
    random: np.random.Generator,
) -> Elided:
    """A canvas without the pixels near the boundaries of its segments.

    Args:
        image: `(H, W, 3)` uint8 RGB; what it holds where nothing painted is not looked at.
        provenance: `(H, W)`, which segment each pixel shows, 0 where none.
        things: `(n + 1,)` bool, by that number, whether a segment is a thing; 0 is none.
        settings: how much.
        random: drawn from once a pixel of the canvas whatever is on it, so that equal seeds elide equal places.

    Returns:
        Black and invalid: missing pixels, and those outside every thing whose centre is within the width of one.
        White and invalid: the drawn among the other pixels whose centre is within the width of the visible boundary
        of their segment; to what is missing counts as a boundary, the canvas's edge does not.
    """
    rows = provenance.shape[0]
    drawn = random.random(provenance.shape, dtype=np.float32) < settings.interior
    white = drawn & _near(_inner_boundary(provenance), settings.interior_width * rows - 0.5)
    is_thing = things[provenance] & (provenance > 0)
    black = ~is_thing & _near(is_thing, settings.exterior_width * rows + 0.5)
    missing = (provenance == 0) | black
    elided = image.copy()
    elided[white] = WHITE
    elided[missing] = BLACK
    return Elided(elided, ~(white | missing))


def _inner_boundary(provenance: npt.NDArray[np.integer]) -> Mask:
    """The pixels of segments beside, above or below which another or none is seen.

    Of all such pixels, the nearest to a segment's pixel is always one of its own: on the way to any pixel of another
    segment there is one of its own beside another.
    """
    boundary = np.zeros(provenance.shape, bool)
    down, across = provenance[1:] != provenance[:-1], provenance[:, 1:] != provenance[:, :-1]
    boundary[1:] |= down
    boundary[:-1] |= down
    boundary[:, 1:] |= across
    boundary[:, :-1] |= across
    return boundary & (provenance > 0)


def _near(mask: Mask, distance: float) -> Mask:
    """The pixels at most `distance` pixels, centre to centre, from one of the mask, itself included."""
    if distance < 0 or not mask.any():
        return np.zeros(mask.shape, bool)
    far: npt.NDArray[np.float32] = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: Mask = far <= distance + 1e-3
    return near
