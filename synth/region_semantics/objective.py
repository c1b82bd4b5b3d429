"""How far pictures are from the meaning of reference regions (equation 1), and from their pixels (iGAN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..features import Features
from ..layers import averaged


class FeatureObjective(nn.Module):
    """The masked one-norm between features of pictures and of reference regions, for each picture alone.

        sum over references m and layers i of
            mean over the elements of layer i, weighted by the region's share in them, of |phi_i(x) - phi_i(x_m)|

    Features are those after the ReLU (micro-alignment, section 3.1). Read literally, a unit counts whose receptive
    field meets the region; at a deep layer that is nearly every one of a small picture. As in the released code for
    bedrooms a unit counts by the share of the region in its cell instead, and the pictures themselves are not masked.

    Args:
        features: frozen, on its device.
        references: `(M, 3, H, W)` in [-1, 1], one or more; regions: `(M, 1, H, W)` of 0 and 1, none of them empty.
        layers: names of layers of the features.
    """

    def __init__(self, features: Features, references: Tensor, regions: Tensor, layers: Sequence[str]) -> None:
        super().__init__()
        self.features, self.layers = features, tuple(layers)
        with torch.no_grad():
            wanted = features(references, self.layers)
        for name, each in wanted.items():
            share = averaged(regions, (each.shape[-2], each.shape[-1]))
            weight = share / (each.shape[1] * share.sum((1, 2, 3), keepdim=True))
            self.register_buffer(f"wanted_{name}", each, persistent=False)
            self.register_buffer(f"weight_{name}", weight, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] to `(N,)` losses of 0 or more."""
        total = images.new_zeros(len(images))
        for name, found in self.features(images, self.layers).items():
            wanted, weight = getattr(self, f"wanted_{name}"), getattr(self, f"weight_{name}")
            for one, share in zip(wanted, weight, strict=True):
                total = total + ((found - one).abs() * share).sum((1, 2, 3))
        return total


class PixelObjective(nn.Module):
    """Mean squared difference of the pixels inside reference regions, summed over references (iGAN's data term).

    Args:
        references, regions: as in `FeatureObjective`.
    """

    references: Tensor
    weights: Tensor

    def __init__(self, references: Tensor, regions: Tensor) -> None:
        super().__init__()
        self.register_buffer("references", references, persistent=False)
        weights = regions / (references.shape[1] * regions.sum((1, 2, 3), keepdim=True))
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] to `(N,)` losses of 0 or more."""
        total = images.new_zeros(len(images))
        for one, weight in zip(self.references, self.weights, strict=True):
            total = total + ((images - one).square() * weight).sum((1, 2, 3))
        return total
