"""What sliders add to a region whatever is made there: light, colours, how they rise across it, and contrast.

    added = fade sum over k of s_k (sum over j of B_kj P_j(region) + B_kc (picture - its mean inside))

P are patterns over the region (1, how far right, how far down, ...), B is learned and begins as one pattern of one
colour for each slider, so that every slider can be read from the picture from the first step on. The fade is short and
ends at the border: nothing outside changes, and no seam appears.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..layers import in_precision

PATTERNS = 6
"""1, x, y, x y, x^2, y^2 of `patterns`; contrast comes on top."""
N_MOMENTS = 3 * (PATTERNS + 1)
"""Numbers of `moments`."""
LEVELS = 12 / 127.5
"""Root of the mean square over the colours of what a slider adds at first, in [-1, 1]: 12 levels of 255."""
CONTRAST = 0.3
"""By what share the last of them changes contrast at first."""
STRONGEST = 2.0
"""How many times what a slider begins with it can come to: a likelihood gains by ever stronger ones, pictures lose."""
FADE = 4.0
"""Pixels from the border over which what is added grows to its full size."""
LIGHT, WARMTH, GREEN = (1.0, 1.0, 1.0), (1.5**0.5, 0.0, -(1.5**0.5)), (0.5**0.5, -(2**0.5), 0.5**0.5)
"""Directions of colour, red, green and blue, at right angles, each of mean square 1."""


class Tints(nn.Module):
    """What continuous sliders add.

    Args:
        sliders: how many; of these the first nine begin as light, warmth and green of the first three patterns, the
            tenth as contrast, others as the further patterns, and those beyond as nothing.
    """

    def __init__(self, sliders: int) -> None:
        super().__init__()
        self.modes = nn.Parameter(begun(sliders).flatten(1))

    def forward(self, picture: Tensor, region: Tensor, sliders: Tensor, depth: Tensor) -> Tensor:
        """The picture with what the sliders add inside the region.

        Args:
            picture: `(N, 3, H, W)` float32 in [-1, 1]; region: `(N, 1, H, W)` of 0 and 1; sliders: `(N, K)`.
            depth: `(N, 1, H, W)` of `directions.depth`.

        Returns:
            `(N, 3, H, W)` in [-1, 1]; outside the region it is the picture.
        """
        sizes = in_precision(sliders, torch.float32) @ self._bounded()
        sizes = sizes.reshape(-1, PATTERNS + 1, 3)
        region = in_precision(region, torch.float32)  # whose pixels are counted
        shapes = patterns(region)
        added = sizes[:, PATTERNS, :, None, None] * apart(picture, region)
        for number in range(PATTERNS):
            added = added + sizes[:, number, :, None, None] * shapes[:, number : number + 1]
        fade = (depth / FADE).clamp(max=1)
        return torch.where(region > 0.5, (picture + fade * added).clamp(-1, 1), picture)

    def _bounded(self) -> Tensor:
        """`(K, 3 (PATTERNS + 1))`: the modes, those beyond `STRONGEST` scaled down to it."""
        modes = in_precision(self.modes, torch.float32)
        levels, contrast = modes[:, : 3 * PATTERNS] / LEVELS, modes[:, 3 * PATTERNS :] / CONTRAST
        square = levels.square().sum(1, keepdim=True) + contrast.square().sum(1, keepdim=True)
        return modes * (STRONGEST * math.sqrt(3) / square.clamp(min=1e-9).sqrt()).clamp(max=1)


def begun(sliders: int) -> Tensor:
    """`(K, PATTERNS + 1, 3)`: what each slider adds at first, a pattern and a colour each."""
    colours = torch.tensor([LIGHT, WARMTH, GREEN])
    found = torch.zeros(sliders, PATTERNS + 1, 3)
    places = [(pattern, colour) for pattern in range(3) for colour in range(3)]
    places += [(PATTERNS, 0), *((pattern, colour) for pattern in range(3, PATTERNS) for colour in range(3))]
    for slider, (pattern, colour) in zip(range(sliders), places, strict=False):
        found[slider, pattern] = colours[colour] * (CONTRAST if pattern == PATTERNS else LEVELS)
    return found


def patterns(region: Tensor) -> Tensor:
    """`(N, PATTERNS, H, W)`: 1, x, y, x y, and the squares of x and y less 1/3, of about -1 to 1 over each region.

    x and y are 0 at the mean of the region's pixels and have the deviation that they have over a box of -1 to 1; they
    are cut at -2 and 2.

    Args:
        region: `(N, 1, H, W)` of 0 and 1.
    """
    region = in_precision(region, torch.float32)
    rows, cols = (torch.arange(side, device=region.device, dtype=torch.float32) for side in region.shape[-2:])
    x = _spread(cols[None, None, None, :].expand_as(region), region)
    y = _spread(rows[None, None, :, None].expand_as(region), region)
    return torch.cat([0 * x + 1, x, y, x * y, x * x - 1 / 3, y * y - 1 / 3], 1)


def apart(picture: Tensor, region: Tensor) -> Tensor:
    """`(N, 3, H, W)`: how far each pixel is from the mean colour inside the region."""
    mean = (picture * region).sum((2, 3), keepdim=True) / region.sum((2, 3), keepdim=True).clamp(min=1)
    return picture - mean


def moments(done: Tensor, base: Tensor, region: Tensor) -> Tensor:
    """How much of each pattern, and of contrast, a picture has that another one has not: `(N, N_MOMENTS)`.

    Each is the coefficient of the least squares by that pattern alone, in units of `LEVELS`, that of contrast in those
    of `CONTRAST`; by pattern, red, green and blue.

    Args:
        done, base: `(N, 3, H, W)` in [-1, 1]; region: `(N, 1, H, W)` of 0 and 1.
    """
    region = in_precision(region, torch.float32)
    shapes = patterns(region)
    done, base = in_precision(done, torch.float32), in_precision(base, torch.float32)
    difference = (done - base) * region
    found = []
    for number in range(PATTERNS):
        shape = shapes[:, number : number + 1]
        size = (shape.square() * region).sum((2, 3)).clamp(min=1)
        found.append((difference * shape).sum((2, 3)) / size / LEVELS)
    contrast = apart(base, region) * region
    size = contrast.square().sum((2, 3)) + 1e-3 * region.sum((2, 3)).clamp(min=1)
    found.append((difference * contrast).sum((2, 3)) / size / CONTRAST)
    return torch.cat(found, 1)


def _spread(place: Tensor, region: Tensor) -> Tensor:
    """Places, `(N, 1, H, W)`, with mean 0 over the region and the deviation of a box of -1 to 1, cut at -2 and 2."""
    count = region.sum((2, 3), keepdim=True).clamp(min=1)
    centred = place - (place * region).sum((2, 3), keepdim=True) / count
    deviation = ((centred.square() * region).sum((2, 3), keepdim=True) / count).clamp(min=1 / 12).sqrt()
    return (centred / (math.sqrt(3) * deviation)).clamp(-2, 2)
