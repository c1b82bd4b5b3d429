"""Completes a region by patches from outside it, coarse to fine (Wexler et al. 2007; Barnes et al. 2009, section 4).

On every level of a pyramid two steps alternate: each patch that touches the region finds a similar one wholly outside
it, and each pixel of the region becomes the weighted mean of what those patches say of it.
"""

from __future__ import annotations

import cv2
import numba as nb
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from ...storage.codec import Mask
from ...storage.images import Photograph
from .patch_field import PATCH, Field, nearest_field, patches_that_touch

ROUNDS = 5
"""Of search and vote on the finest level; `MORE_ROUNDS` on each coarser one."""
MORE_ROUNDS = 4
PASSES = 4
"""Of the search in each round."""
FALL = 1.3
"""A patch counts so much less for every pixel that its middle is farther inside the region (Wexler, section 3.2)."""
PERCENTILE = 75
"""Of the distances; its root is the width of the Gaussian by which patches count (Wexler, section 3.2)."""

Canvas = npt.NDArray[np.float32]


def patchmatch(image: Photograph, region: Mask, seed: int) -> Photograph:
    """A picture whose region is filled by patches from outside it; outside nothing changes.

    Args:
        image: `(H, W, 3)` uint8 RGB; region: `(H, W)` bool, not empty.
        seed: equal seeds, equal bytes.

    Raises:
        ValueError: no patch of the picture lies wholly outside the region.
    """
    levels = _pyramid(image.astype(np.float32), region)
    coarsest, hole = levels[-1]
    _, (rows, cols) = distance_transform_edt(hole, return_indices=True)
    filled = coarsest[rows, cols]
    field: Field | None = None
    for level in reversed(range(len(levels))):
        picture, hole = levels[level]
        wanted = patches_that_touch(hole)
        if field is not None:
            field = _finer(field, wanted.shape)
            filled = _voted(picture, hole, field, wanted)
        for number in range(ROUNDS + MORE_ROUNDS * (level > 0)):
            drawn = int(np.random.default_rng([seed, level, number]).integers(1 << 31))
            field = nearest_field(filled, wanted, ~wanted, drawn, PASSES, field)
            filled = _voted(filled, hole, field, wanted)
    return np.where(region[..., None], _bytes(filled), image)


def _pyramid(image: Canvas, region: Mask) -> list[tuple[Canvas, Mask]]:
    """Pictures and regions, finest first: halved while the region is wider than a patch and patches outside it remain.

    Raises:
        ValueError: there are none outside it to begin with.
    """
    levels = [(image, region)]
    if patches_that_touch(region).all():
        raise ValueError("no patch lies wholly outside the region")
    while _width(levels[-1][1]) > PATCH / 2:
        picture, hole = levels[-1]
        size = (-(-picture.shape[1] // 2), -(-picture.shape[0] // 2))
        known = cv2.resize((~hole).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        smaller: Mask = known == 0
        if min(size) < 2 * PATCH or not smaller.any() or patches_that_touch(smaller).all():
            break
        lit = cv2.resize(picture * ~hole[..., None], size, interpolation=cv2.INTER_AREA)
        levels.append((lit / np.maximum(known, 1e-6)[..., None], smaller))
    return levels


def _width(region: Mask) -> float:
    """How far the deepest pixel of a region is from its outside, pixels."""
    return float(_depth(region).max())


def _depth(region: Mask) -> npt.NDArray[np.float32]:
    """How far each pixel is from the outside of a region, 0 there."""
    depth: npt.NDArray[np.float32] = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 5)
    return depth


def _finer(field: Field, shape: tuple[int, ...]) -> Field:
    """A field at twice the resolution: each patch takes the partner of the coarse one that it lies in."""
    rows, cols = (np.minimum(np.arange(n) // 2, m - 1) for n, m in zip(shape, field.distances.shape, strict=True))
    odd = np.stack(np.meshgrid(np.arange(shape[0]) % 2, np.arange(shape[1]) % 2, indexing="ij"), axis=2)
    partners = 2 * field.partners[np.ix_(rows, cols)] + odd
    last = np.array(shape, np.int32) - 1
    return Field(np.minimum(partners, last).astype(np.int32), field.distances[np.ix_(rows, cols)])


def _voted(picture: Canvas, hole: Mask, field: Field, wanted: Mask) -> Canvas:
    """The picture with each pixel of the hole as the partners of the patches on it say, weighted by their distance."""
    spread = max(float(np.percentile(field.distances[wanted], PERCENTILE)), 1.0)
    middle = PATCH // 2
    inside = _depth(hole)[middle : middle + wanted.shape[0], middle : middle + wanted.shape[1]]
    weights = np.exp(-field.distances / (2 * spread)) * FALL**-inside
    total = _sums(picture, hole, field.partners, wanted, weights.astype(np.float32))
    voted = picture.copy()
    said = hole & (total[..., -1] > 0)
    voted[said] = total[said, :-1] / total[said, -1:]
    return voted


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sums(
    picture: Canvas, hole: Mask, partners: npt.NDArray[np.int32], wanted: Mask, weights: npt.NDArray[np.float32]
) -> Canvas:
    """`(H, W, C + 1)`: weighted colours that the patches give each pixel of the hole, and the sum of the weights."""
    channels = picture.shape[2]
    total = np.zeros((picture.shape[0], picture.shape[1], channels + 1), np.float32)
    for row in range(wanted.shape[0]):
        for col in range(wanted.shape[1]):
            if not wanted[row, col]:
                continue
            other_row, other_col = partners[row, col]
            weight = weights[row, col]
            for i in range(PATCH):
                for j in range(PATCH):
                    if hole[row + i, col + j]:
                        for channel in range(channels):
                            said = picture[other_row + i, other_col + j, channel]
                            total[row + i, col + j, channel] += weight * said
                        total[row + i, col + j, channels] += weight
    return total


def _bytes(picture: Canvas) -> Photograph:
    rounded: Photograph = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return rounded
