"""How much a filled region shows at its border: jumps of brightness that its surroundings do not explain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...storage.codec import Mask
from ...storage.images import Photograph


def seam(image: Photograph, region: Mask) -> float:
    """Mean jump along a region's border, in levels of 0..255; what photographs have there is what to compare with.

    Of each pair of neighbours a step apart across the border, the difference of their values less the mean of the
    differences just inside and just outside, in the same direction: a picture that rises evenly has none. Pairs whose
    next pixels inside or outside belong to the other side, or lie beyond the picture, do not count.

    Args:
        image: `(H, W, 3)` uint8 RGB; region: `(H, W)` bool.

    Returns:
        the mean over pairs and channels of its absolute value; 0 where no pair counts.
    """
    jumps = [_jumps(image, region), _jumps(image.swapaxes(0, 1), region.T)]
    found = np.concatenate(jumps)
    return float(found.mean()) if found.size else 0.0


def _jumps(image: Photograph, region: Mask) -> npt.NDArray[np.float64]:
    """`(n, 3)` of the pairs one above the other."""
    values = image.astype(np.float64)
    steps = np.diff(values, axis=0)
    jump = np.abs(steps[1:-1] - (steps[:-2] + steps[2:]) / 2)
    crosses = (region[1:-2] != region[2:-1]) & (region[:-3] == region[1:-2]) & (region[2:-1] == region[3:])
    found: npt.NDArray[np.float64] = jump[crosses]
    return found
