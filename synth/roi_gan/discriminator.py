"""The discriminator of RoI-GAN: one trunk, scores of patches and of the whole, and a head that reads the sliders.

picture, region -> trunk -> local: scores of patches
                         -> global: one score
                         -> head: mean and deviation of each slider, logits of each choice     (section 3.6)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from ..inpainting.directions import FILLS, fills, nearest_known
from ..layers import LEAK, channels, in_precision
from .blocks import MULTIPLE
from .generator import FIRST, RoiConfig, drawn_by_he
from .tints import N_MOMENTS, moments

HALVING, FLAT = (64, 128), (256, 512, 256)
"""Channels behind convolutions of stride 2, the last of them as often as it takes to reach 16x16, and of stride 1."""
FLAT_SIDE = 16
CELLS = FLAT_SIDE - 3 * len(FLAT)
"""Side of the trunk's features: its last convolutions are not padded."""
WHOLE, READ = 128, 128
"""Channels inside the global part and the head."""

BESIDE = {False: ("rows", "columns", "around"), True: (FIRST, "rows", "columns")}
"""By whether a generator adds textures: the copy that its head compares a picture with, then others of which it reads
how they differ from that one, since the generator weighs them as well. Those without textures begin with the rows."""


class Reading(NamedTuple):
    """What the head says of the sliders that made a picture.

    Attributes:
        mean, logvar: `(N, K)` of a Gaussian for each continuous one.
        logits: `(N, choices)` of each categorical one.
    """

    mean: Tensor
    logvar: Tensor
    logits: tuple[Tensor, ...]


class Judged(NamedTuple):
    """What the discriminator says of pictures.

    Attributes:
        scores: `(N, 26)`, high for real: 25 patches, then the whole.
        features: the activations of the trunk, finest first; the head reads them.
    """

    scores: Tensor
    features: list[Tensor]


class RoiDiscriminator(nn.Module):
    """Spectrally normalised 4x4 convolutions; instance normalisation between them, but for the first."""

    def __init__(self, config: RoiConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        halvings = int(math.log2(config.resolution // FLAT_SIDE))
        outputs = [channels(HALVING[min(i, 1)], width, MULTIPLE) for i in range(halvings)]
        outputs += [channels(full, width, MULTIPLE) for full in FLAT]
        self.levels = tuple(outputs)
        self.trunk = nn.ModuleList(
            spectral_norm(nn.Conv2d(own, out, 4, 2 if i < halvings else 1, 1 if i < halvings else 0))
            for i, (own, out) in enumerate(pairwise([4, *outputs]))
        )
        whole = channels(WHOLE, width, MULTIPLE)
        self.local = spectral_norm(nn.Conv2d(outputs[-1], 1, 3))
        self.whole = nn.Sequential(
            spectral_norm(nn.Conv2d(outputs[-1], whole, 4)), nn.LeakyReLU(LEAK), spectral_norm(nn.Conv2d(whole, 1, 4))
        )

    def forward(self, image: Tensor, region: Tensor) -> Judged:
        """Judges pictures, `(N, 3, H, W)` in [-1, 1], with their region, `(N, 1, H, W)` of 0 and 1."""
        x, features = torch.cat([image, region], 1), []
        for i, convolution in enumerate(self.trunk):
            x = convolution(x)
            x = functional.leaky_relu(functional.instance_norm(x) if i else x, LEAK)
            features.append(x)
        return Judged(torch.cat([self.local(x).flatten(1), self.whole(x).flatten(1)], 1), features)


class SliderHead(nn.Module):
    """Q(c | x): what was set, read of completed pictures (equation 3.14).

    It reads the means over the region of the pixels and of all activations of the trunk, by dense layers: of those
    sliders can be told from far fewer pictures than of the trunk's 7x7 cells, which the thesis, and `published` here,
    has two 4x4 convolutions for. Where sliders are tints it also reads in `moments` how the picture differs from the
    copy that the generator begins with, and how some others differ from that: what is around a region is known to
    whoever reads it, and the photograph's own light is no part of what sliders did. The head belongs to the
    discriminator by what it sees, and learns with the generator.

    Args:
        levels: channels of the trunk's activations, finest first.
    """

    def __init__(self, config: RoiConfig, levels: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        out = 2 * config.sliders + sum(config.categories)
        if config.published:
            hidden = channels(READ, config.width, MULTIPLE)
            first = [nn.Conv2d(levels[-1], hidden, 4), nn.BatchNorm2d(hidden)]
            self.layers = nn.Sequential(*first, nn.LeakyReLU(LEAK), nn.Conv2d(hidden, out, 4), nn.Flatten())
            self.apply(drawn_by_he)
        else:
            inputs = 3 + sum(levels) + (len(BESIDE[config.textures]) * N_MOMENTS if config.tints else 0)
            self.layers = nn.Sequential(nn.Linear(inputs, READ), nn.LeakyReLU(LEAK), nn.Linear(READ, out))

    def forward(self, image: Tensor, region: Tensor, features: Sequence[Tensor]) -> Reading:
        """Of completed pictures, `(N, 3, H, W)`, their region, and the trunk's activations of both."""
        if self.config.published:
            found = self.layers(features[-1])
        else:
            seen = _means_inside((image, *features), region)
            if self.config.tints:
                copies = fills(image, region, nearest_known(image, region))
                first, *others = (copies[FILLS.index(name)] for name in BESIDE[self.config.textures])
                seen += [moments(each, first, region) for each in (image, *others)]
            found = self.layers(torch.cat([in_precision(each, image.dtype) for each in seen], 1))
        k = self.config.sliders
        logits = found[:, 2 * k :].split(list(self.config.categories), 1) if self.config.categories else ()
        return Reading(found[:, :k], found[:, k : 2 * k], tuple(logits))


def _means_inside(levels: Sequence[Tensor], region: Tensor) -> list[Tensor]:
    """`(N, C)` of each level: the mean over the region, each cell weighted by its share of it.

    A level has half the cells of the one before on each side, and then its cells lie on pairs of those, or 3 fewer: the
    convolutions that are not padded look at 4x4 cells each.
    """
    found, share = [], region
    for features in levels:
        if 2 * features.shape[-1] == share.shape[-1]:
            share = functional.avg_pool2d(share, 2)
        elif features.shape[-1] != share.shape[-1]:
            share = functional.avg_pool2d(share, 4, 1)
        found.append((features * share).sum((2, 3)) / share.sum((2, 3)).clamp(min=1e-6))
    return found
