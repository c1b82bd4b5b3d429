"""How far two pictures are apart inside a region, in the features of a network (Zhang et al. 2018, without weights)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers import averaged


def masked_distance(first: Sequence[Tensor], second: Sequence[Tensor], region: Tensor) -> Tensor:
    """`(N,)` distances: features of unit length, squared differences, mean over the region, mean over layers.

    Args:
        first, second: of each layer `(N, C, h, w)`; region: `(N, 1, H, W)` of 0 and 1, none of them empty. A layer's
            pixels count by the share of the region in them.
    """
    total = torch.zeros(len(region), device=region.device)
    for one, other in zip(first, second, strict=True):
        share = averaged(region, (one.shape[-2], one.shape[-1]))
        difference = (_unit(one) - _unit(other)).square().sum(1, keepdim=True)
        total += (difference * share).sum((1, 2, 3)) / share.sum((1, 2, 3))
    return total / len(first)


def _unit(features: Tensor) -> Tensor:
    """Each pixel's features at length 1; no features stay none."""
    long: Tensor = features.norm(dim=1, keepdim=True)
    return features / long.clamp_min(1e-6)
