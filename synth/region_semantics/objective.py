"""How far pictures are from the meaning of reference regions (equation 1), and from their pixels (iGAN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..features import Features
from ..layers import averaged

APART = 0.8
"""What the distance to other pictures counts for, beside that to the references, see `FeatureObjective`."""


class FeatureObjective(nn.Module):
    """The masked one-norm between features of pictures and of reference regions, for each picture alone.

        sum over references m and layers i of
            mean over the elements of layer i, weighted by the region's share in them, of |phi_i(x) - phi_i(x_m)|

    Features are those after the ReLU (micro-alignment, section 3.1). Read literally, a unit counts whose receptive
    field meets the region; at a deep layer that is nearly every one of a small picture. As in the released code for
    bedrooms a unit counts by the share of the region in its cell instead, and the pictures themselves are not masked.

    That is equation 1, written d(x, x_m). In many dimensions some pictures are near to everything, those with features
    about the middle of all (hubs), and d alone ends at them. With `others`, pictures o that mean anything, as many of
    the generator's own do, the loss is

        sum over m of  d(x, x_m) - apart * (mean over o of d(x, o) - mean over o of d(x_m, o))

    so that being near to everything gains nothing. By the triangle inequality it is at least (1 - apart) d(x, x_m):
    below 1 it is 0 where nothing is left of equation 1, and nowhere else, however strange a picture becomes.

    Args:
        features: frozen, on its device.
        references: `(M, 3, H, W)` in [-1, 1], one or more; regions: `(M, 1, H, W)` of 0 and 1, none of them empty.
        layers: names of layers of the features.
        others: `(K, 3, H, W)` in [-1, 1]; without them the loss is equation 1.
        apart: see above, from 0 to below 1.
    """

    def __init__(
        self,
        features: Features,
        references: Tensor,
        regions: Tensor,
        layers: Sequence[str],
        others: Tensor | None = None,
        apart: float = APART,
    ) -> None:
        super().__init__()
        self.features, self.layers = features, tuple(layers)
        self.apart = 0.0 if others is None else apart
        self._boxes: dict[str, tuple[slice, slice]] = {}
        with torch.no_grad():
            wanted = features(references, self.layers)
            theirs = {} if others is None or not apart else features(others, self.layers)
        for name, each in wanted.items():
            share = averaged(regions, (each.shape[-2], each.shape[-1]))
            weight = share / (each.shape[1] * share.sum((1, 2, 3), keepdim=True))
            self.register_buffer(f"wanted_{name}", each, persistent=False)
            self.register_buffer(f"weight_{name}", weight, persistent=False)
            if name in theirs:
                rows, cols = self._boxes[name] = _box(share.amax((0, 1)) > 0)
                self.register_buffer(f"others_{name}", theirs[name][..., rows, cols].contiguous(), persistent=False)
                usual = (self._to_others(name, each) * weight[..., rows, cols]).sum((1, 2, 3))
                self.register_buffer(f"usual_{name}", usual, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] to `(N,)` losses of 0 or more."""
        total = images.new_zeros(len(images))
        for name, found in self.features(images, self.layers).items():
            wanted, weight = getattr(self, f"wanted_{name}"), getattr(self, f"weight_{name}")
            for one, share in zip(wanted, weight, strict=True):
                total = total + ((found - one).abs() * share).sum((1, 2, 3))
            if self.apart:
                rows, cols = self._boxes[name]
                far, inside = self._to_others(name, found), weight[..., rows, cols]
                for usual, share in zip(getattr(self, f"usual_{name}"), inside, strict=True):
                    total = total - self.apart * ((far * share).sum((1, 2, 3)) - usual)
        return total

    def _to_others(self, name: str, found: Tensor) -> Tensor:
        """`(N, C, h, w)`: how far each element about the regions is from that of other pictures, on the mean."""
        rows, cols = self._boxes[name]
        about, others = found[..., rows, cols], getattr(self, f"others_{name}")
        far = torch.zeros_like(about)
        for other in others:
            far = far + (about - other).abs()
        return far / len(others)


def _box(inside: Tensor) -> tuple[slice, slice]:
    """Of what is true in `(h, w)`."""
    rows, cols = (inside.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


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
