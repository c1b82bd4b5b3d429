"""What the nearest known pixels of a picture say of a region: copied by rows, by columns, and weighted by distance.

From each pixel of the region one looks left, right, up and down to the first pixel outside it. Of these four, fills are
made that need no learning: each row interpolated between its two ends, each column likewise, the four weighted by their
distance (as Telea 2004 weighs what fast marching has reached), and each of the four as it is. They are found by
doublings of shifts, which are exported like any other layer, for batches and on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..layers import in_precision

FILLS = ("rows", "columns", "around", "nearest", "left", "right", "above", "below")
"""What `fills` makes, in this order: between the ends of the row, of the column, the four weighted by one over their
distance, the same by its cube, and each of the four alone."""
CUBE = 3
"""Power of the distance in `nearest`."""
DETAIL = 7
"""Pixels of a side of the square whose mean details differ from."""


class Found(NamedTuple):
    """The first known pixel in one direction from each pixel, which is the pixel itself where it is known.

    Attributes:
        colour: `(N, 3, H, W)`, 0 where there is none.
        distance: `(N, 1, H, W)` in pixels; of no meaning where there is none.
        known: `(N, 1, H, W)`, 1 where there is one, else 0.
    """

    colour: Tensor
    distance: Tensor
    known: Tensor


def nearest_known(image: Tensor, region: Tensor) -> tuple[Found, Found, Found, Found]:
    """Of each pixel the first known one to the left, to the right, above and below.

    Args:
        image: `(N, 3, H, W)`; nothing inside the region is looked at. region: `(N, 1, H, W)` of 0 and 1.
    """
    known = torch.where(region > 0.5, 0.0, 1.0)
    shown = torch.where(known > 0.5, in_precision(image, torch.float32), 0.0)
    start = torch.cat([shown, 0 * known, known], 1)
    left, right, above, below = (
        Found(state[:, :3], state[:, 3:4], state[:, 4:])
        for state in (_carried(start, *way) for way in ((-1, 1), (-1, -1), (-2, 1), (-2, -1)))
    )
    return left, right, above, below


def fills(image: Tensor, region: Tensor, found: Sequence[Found]) -> list[Tensor]:
    """The fills of `FILLS`, `(N, 3, H, W)` float32 each; outside the region all are the picture.

    Where a fill has nothing to go by, as where a whole row lies inside, the four weighted by distance stand in, and
    where none of these has, the mean of what is known.

    Args:
        image, region: as in `nearest_known`, and found: what that returned of them.
    """
    known = torch.where(region > 0.5, 0.0, 1.0)
    shown = torch.where(known > 0.5, in_precision(image, torch.float32), 0.0)
    mean = shown.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)
    around = _weighed(found, 1, mean)
    left, right, above, below = found
    pairs = [_weighed(each, 1, around) for each in ((left, right), (above, below))]
    single = [torch.where(each.known > 0.5, each.colour, around) for each in found]
    made = [*pairs, around, _weighed(found, CUBE, mean), *single]
    return [torch.where(known > 0.5, shown, each) for each in made]


def textures(image: Tensor, region: Tensor, found: Sequence[Found]) -> list[Tensor]:
    """Details of what is around, mirrored across the region's border, `(N, 3, H, W)` float32 for each of two ways.

    The first is mirrored along rows, at the nearer of the two ends, the second along columns. A detail is what a known
    pixel has beyond the mean of the known ones about it. Outside the region both are 0, and where nothing is known at
    the mirrored place.

    Args:
        image, region: as in `nearest_known`, and found: what that returned of them.
    """
    known = torch.where(region > 0.5, 0.0, 1.0)
    shown = torch.where(known > 0.5, in_precision(image, torch.float32), 0.0)
    mean = _smoothed(shown) / _smoothed(known).clamp(min=1e-6)
    detail = torch.where(known > 0.5, shown - mean, 0.0)
    left, right, above, below = found
    mirrored = [_mirrored(detail, left, right, -1), _mirrored(detail, above, below, -2)]
    return [torch.where(known > 0.5, 0.0, each) for each in mirrored]


def depth(found: Sequence[Found]) -> Tensor:
    """`(N, 1, H, W)`: steps in the rows and columns to the nearest known pixel; 0 outside, 1 beside the border."""
    far = float(2 * max(found[0].distance.shape[-2:]))
    each = [torch.where(one.known > 0.5, one.distance, far) for one in found]
    return torch.minimum(torch.minimum(each[0], each[1]), torch.minimum(each[2], each[3]))


def nearness(found: Sequence[Found]) -> Tensor:
    """`(N, 4, H, W)`: one over the distance in each direction, 1 outside, 0 where nothing is known there."""
    return torch.cat([each.known / each.distance.clamp(min=1) for each in found], 1)


def _weighed(found: Sequence[Found], power: int, instead: Tensor) -> Tensor:
    """The mean of the colours that there are, weighted by one over the distance to a power; else what is given."""
    weights = [each.known / each.distance.clamp(min=1) ** power for each in found]
    total, colour = weights[0], weights[0] * found[0].colour
    for weight, each in zip(weights[1:], found[1:], strict=True):
        total, colour = total + weight, colour + weight * each.colour
    # of distances up to 256 the cubes are above 1e-8
    return torch.where(total > 1e-9, colour / total.clamp(min=1e-9), instead)


def _smoothed(values: Tensor) -> Tensor:
    return functional.avg_pool2d(values, DETAIL, 1, DETAIL // 2)


def _mirrored(values: Tensor, before: Found, after: Found, dim: int) -> Tensor:
    """What lies as far beyond the nearer end of the row, or column, as a pixel is before it; 0 where there is none."""
    side = values.shape[dim]
    back, ahead = (torch.where(each.known > 0.5, each.distance, 2.0 * side) for each in (before, after))
    offset = torch.where(back <= ahead, 1 - 2 * back, 2 * ahead - 1)[:, 0]
    rows, cols = (
        torch.arange(n, device=values.device, dtype=offset.dtype).reshape(shape)
        for n, shape in zip(values.shape[-2:], ((-1, 1), (1, -1)), strict=True)
    )
    places = ((cols, values.shape[-1]), (rows, values.shape[-2]))
    moved = -1 - dim  # which of the two is mirrored; the other one stays
    grid = [
        (2 * (place + (offset if number == moved else 0 * offset)) + 1) / n - 1
        for number, (place, n) in enumerate(places)
    ]
    return functional.grid_sample(values, torch.stack(grid, -1), "nearest", "zeros", align_corners=False)


def _carried(state: Tensor, dim: int, way: int) -> Tensor:
    """Colour, distance and whether they are known, `(N, 5, H, W)`, taken along a dimension over all that is unknown.

    After shifts of 1, 2, 4, ... pixels, each pixel has seen twice as far as before, the nearest first.
    """
    step, side = 1, int(state.shape[dim])
    while step < side:
        moved = _moved(state, dim, way * step)
        moved = torch.cat([moved[:, :3], moved[:, 3:4] + step, moved[:, 4:]], 1)
        state = torch.where(state[:, 4:] > 0.5, state, moved)
        step *= 2
    return state


def _moved(state: Tensor, dim: int, by: int) -> Tensor:
    """Shifted by some pixels to the right or down, or back where that is below 0; what comes in is 0."""
    side = int(state.shape[dim])
    kept = state.narrow(dim, 0, side - by) if by > 0 else state.narrow(dim, -by, side + by)
    before, after = (by, 0) if by > 0 else (0, -by)
    return functional.pad(kept, (before, after) if dim == -1 else (0, 0, before, after))
