"""The border of a filled region corrected: a smooth membrane takes what is made to the photograph around it.

To what was made inside the region u is added, which is the difference between photograph and picture on the pixels
around it and as smooth as can be inside (Poisson image editing, Perez et al. 2003, as a membrane; Iizuka et al. 2017
blend what they complete in the same way, section 3.5):

    (sum over the neighbours q of p of u(p) - u(q)) + u(p) / length^2 = 0  inside,   u = photograph - picture  around it

Neighbours are the four of a pixel that lie in the picture. The last term lets u fade over a length, so that the middle
of a large region keeps the colours it was given; without it u is harmonic. The equations are solved by a fixed number
of multigrid steps, which are sums of neighbours and means: a gradient passes, and networks with them are exported.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

BLEND = 1 / 8
"""Length over which the correction fades, in sides of the picture, that networks are trained with."""
CYCLES = 2
"""On the finest grid; coarser ones, from which it starts, have one. More of them come nearer to the exact solution: of
levels of 0..255 two are a fifth away on average, where the difference is noise of 13 levels upon a smooth one; three
where the region is full of single pixels that do not belong to it."""
STEPS = (0.56, 1.4)
"""Of the damped Jacobi sweeps before and after each correction: Chebyshev's two for the upper half of the spectrum."""
FARTHEST = 16.0
"""Sides of the picture that the correction may fade over: beyond, it does not fade."""


def check_blend(blend: float) -> None:
    """Refuses lengths, in sides of the picture, that cannot be.

    Raises:
        ValueError: neither 0 nor a length up to `FARTHEST` and of more than a thousandth.
    """
    if not (blend == 0 or 1e-3 < blend <= FARTHEST):
        raise ValueError(f"expected 0 or a length of 0.001 to {FARTHEST:g} sides of the picture, found {blend}")


def corrected(image: Tensor, region: Tensor, raw: Tensor, length: float) -> Tensor:
    """A raw picture whose region goes on where the photograph around it ends; outside the region it stays.

    Args:
        image, raw: `(N, 3, H, W)` in [-1, 1]; of the image nothing inside the region is looked at. region:
            `(N, 1, H, W)` of 0 and 1. length: over which the correction fades, in pixels, above 0; infinite for none.

    Returns:
        `(N, 3, H, W)` float32 in [-1, 1].
    """
    image, region, raw = (each if each.dtype == torch.float32 else each.float() for each in (image, region, raw))
    return torch.where(region > 0.5, (raw + membrane(image - raw, region, length)).clamp(-1, 1), raw)


def membrane(values: Tensor, region: Tensor, length: float = math.inf) -> Tensor:
    """Values outside a region continued into it by the equation above.

    Full multigrid: the values next to the region are averaged down to a single cell, and from grid to grid the
    continuation on the coarser one begins that on the finer. A coarse cell is inside where all of its pixels are.

    Args:
        values: `(N, C, H, W)` float32, those inside do not count; region: `(N, 1, H, W)` of 0 and 1, float32, which
            leaves something outside. length: in pixels.

    Returns:
        `(N, C, H, W)`: the values outside, their continuation inside.
    """
    grids = [_Grid(region, 0.0 if math.isinf(length) else 1 / length**2)]
    while max(grids[-1].size) > 1:
        grids.append(grids[-1].coarser())
    beside = torch.where(_around(region) > 0, 1 - region, 0.0)
    weight, sums = beside, values * beside
    known = [values]
    for _ in grids[1:]:
        weight, sums = _halved(weight), _halved(sums)
        known.append(sums / weight.clamp(min=1e-12))
    found = known[-1]
    for level in reversed(range(len(grids) - 1)):
        inside = grids[level].region
        found = torch.where(inside > 0, _doubled(found, grids[level].size), known[level])
        for _ in range(1 if level else CYCLES):
            found = _cycle(grids, level, found, None)
    return found


class _Grid:
    """One grid: its region, and how a sweep changes it.

    Attributes:
        region: `(N, 1, h, w)`; fade: what the length adds to the diagonal; size: `(h, w)`.
        diagonal: `(1, 1, h, w)`; share: `(N, 1, h, w)`, one over the diagonal inside, 0 outside.
    """

    def __init__(self, region: Tensor, fade: float) -> None:
        self.region, self.fade, self.size = region, fade, (region.shape[-2], region.shape[-1])
        self.diagonal = _around(torch.ones(1, 1, *self.size, device=region.device)) + fade
        self.share = region / self.diagonal.clamp(min=1e-12)

    def coarser(self) -> _Grid:
        """The next one, with cells of twice the side."""
        return _Grid(torch.where(_halved(self.region) > 1 - 1e-3, 1.0, 0.0), 4 * self.fade)

    def left(self, found: Tensor, right: Tensor | None) -> Tensor:
        """What is missing from the equations, at all pixels; `right`, their right side, is 0 by default."""
        rest = _around(found) - self.diagonal * found
        return rest if right is None else rest + right

    def swept(self, found: Tensor | None, right: Tensor | None) -> Tensor:
        """After a sweep of each of `STEPS`; None is 0, and one of the two is given."""
        for step in STEPS:
            if found is None:
                assert right is not None
                found = step * self.share * right
            else:
                found = found + step * self.share * self.left(found, right)
        assert found is not None
        return found


def _cycle(grids: list[_Grid], level: int, found: Tensor | None, right: Tensor | None) -> Tensor:
    """Sweeps, what is left corrected on the coarser grids, where it is 0 outside, and sweeps."""
    grid = grids[level]
    found = grid.swept(found, right)
    if level + 2 < len(grids):  # the last grid is one cell, which lies outside
        left = 4 * _halved(grid.region * grid.left(found, right))
        apart = _cycle(grids, level + 1, None, left)
        found = found + grid.region * _doubled(apart, grid.size)
    return grid.swept(found, right)


def _around(values: Tensor) -> Tensor:
    """The sum of the four neighbours of each pixel; there are none beyond the border."""
    tall, wide = functional.pad(values, (0, 0, 1, 1)), functional.pad(values, (1, 1))
    return tall[..., :-2, :] + tall[..., 2:, :] + wide[..., :-2] + wide[..., 2:]


def _halved(values: Tensor) -> Tensor:
    """Means of two by two; of what there is of them at an odd border."""
    return functional.avg_pool2d(values, 2, ceil_mode=bool(values.shape[-2] % 2 or values.shape[-1] % 2))


def _doubled(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, each cell in the middle of its four."""
    found = functional.interpolate(values, scale_factor=2.0, mode="bilinear")
    return found if (found.shape[-2], found.shape[-1]) == size else found[..., : size[0], : size[1]]
