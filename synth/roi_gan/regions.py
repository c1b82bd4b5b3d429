"""Regions of interest: drawn as the thesis draws them (section 3.2), or taken from what users have.

A region is an `(H, W)` bool array, True inside. None is ever empty, and none is everything: there would be nothing to
make, or nothing to go by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ...storage.errors import InputError, sentence
from ...storage.layouts import Box, sample_to_frame

Region = npt.NDArray[np.bool_]
Kind = Literal["rectangle", "ellipse", "level-set", "mixed"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ELLIPSE_SIGMAS, ELLIPSE_CORRELATION = (1 / 5, 1 / 3), 0.8
"""Standard deviations in sides of the picture, and the largest correlation (equation 3.3)."""
GAUSSIANS, MIXTURE_SIGMAS, MIXTURE_CORRELATION = 15, (1 / 10, 1 / 6), 0.9
"""Of a mixture (the released code; the thesis gives no numbers)."""
LEVEL = 1 / 2
"""Share of the highest density at which it is cut (equations 3.5 and 3.7)."""


def sample_region(kind: Kind, size: tuple[int, int], random: np.random.Generator) -> Region:
    """A region drawn at random; one that would be empty or everything is drawn again.

    Args:
        kind: `rectangle` (equation 3.1), `ellipse` (3.2 to 3.5), `level-set` of a mixture of Gaussians (3.6 and 3.7),
            or `mixed`: one of these three, each as likely.
        size: `(rows, cols)`, each at least 2.

    Raises:
        ValueError: there is no such kind, or no region fits into the size.
    """
    if kind not in KINDS or min(size) < 2:
        raise ValueError(f"{kind} region of {size[0]}x{size[1]}")
    while True:
        drawn = kind if kind != "mixed" else KINDS[random.integers(len(_SAMPLERS))]
        region = _SAMPLERS[drawn](size, random)
        if region.any() and not region.all():
            return region


def from_mask(mask: npt.NDArray[Any], size: tuple[int, int] | None = None, what: object = "region") -> Region:
    """A region from a mask.

    Args:
        mask: `(H, W)` bool or numbers, anything but 0 is inside; size: `(rows, cols)` that it is sampled at, its own by
            default; what: it is, for the sentence.

    Raises:
        InputError: it has other than two dimensions, or at that size nothing or everything is inside.
    """
    if mask.ndim != 2:
        raise InputError(sentence(what, expected="a mask of rows and columns", found=f"{mask.ndim} dimensions"))
    inside = mask != 0
    region: Region = np.array(inside if size is None else sample_to_frame(inside, size), bool)
    if not region.any() or region.all():
        found = "none inside" if not region.any() else "all of them inside"
        expected = f"some of the {region.shape[0]}x{region.shape[1]} pixels inside and some outside"
        raise InputError(sentence(what, expected=expected, found=found))
    return region


def from_box(box: Box, size: tuple[int, int]) -> Region:
    """The region of a box `(top, left, bottom, right)`, half-open, in pixels of a picture of `(rows, cols)`.

    Raises:
        InputError: the box is empty, reaches outside, or is the whole picture.
    """
    top, left, bottom, right = box
    if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
        expected = f"top,left,bottom,right inside {size[0]}x{size[1]} pixels, half-open"
        raise InputError(sentence("box", expected=expected, found=",".join(map(str, box))))
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return from_mask(mask, what="box")


def _rectangle(size: tuple[int, int], random: np.random.Generator) -> Region:
    """Between two opposite corners, each uniform over the picture's."""
    top, bottom = np.sort(random.integers(0, size[0] + 1, 2))
    left, right = np.sort(random.integers(0, size[1] + 1, 2))
    region = np.zeros(size, bool)
    region[top:bottom, left:right] = True
    return region


def _ellipse(size: tuple[int, int], random: np.random.Generator) -> Region:
    density = _gaussian(size, random, ELLIPSE_SIGMAS, ELLIPSE_CORRELATION)
    return np.asarray(density > density.max() * LEVEL)


def _level_set(size: tuple[int, int], random: np.random.Generator) -> Region:
    weights = np.exp(random.uniform(-1, 1, GAUSSIANS))
    weights /= weights.sum()
    density = sum(weight * _gaussian(size, random, MIXTURE_SIGMAS, MIXTURE_CORRELATION) for weight in weights)
    return np.asarray(density > np.max(density) * LEVEL)


def _gaussian(
    size: tuple[int, int], random: np.random.Generator, sigmas: tuple[float, float], correlation: float
) -> npt.NDArray[np.float64]:
    """`(rows, cols)` density at pixel centres (equation 3.4).

    The mean is normal about the centre, its variance a side; equation 3.3 prints the covariance as its inverse.
    """
    sides = np.array(size, np.float64)
    mean = random.normal(sides / 2, np.sqrt(sides))
    rho = random.uniform(-correlation, correlation)
    sigma = random.uniform(sides * sigmas[0], sides * sigmas[1])
    y = ((np.arange(size[0]) + 0.5 - mean[0]) / sigma[0])[:, None]
    x = ((np.arange(size[1]) + 0.5 - mean[1]) / sigma[1])[None]
    rest = 1 - rho * rho
    distance = (x * x - 2 * rho * x * y + y * y) / rest
    density: npt.NDArray[np.float64] = np.exp(-distance / 2) / (2 * np.pi * sigma[0] * sigma[1] * np.sqrt(rest))
    return density


_SAMPLERS: dict[Kind, Callable[[tuple[int, int], np.random.Generator], Region]] = {
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "level-set": _level_set,
}
