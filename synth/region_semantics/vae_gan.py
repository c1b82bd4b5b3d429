"""VAE-GAN (Larsen et al. 2016), extended: its generator is a Ladder-VAE (Liu et al. 2018, section 3).

Pictures are compared in the features of a discriminator, instead of their pixels; the encoder takes no part in fooling
it (algorithm 1 of Larsen et al.).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import DownBlock, initialised
from .critics import NARROW, stem
from .generator import GeneratorConfig, wgan_channels
from .ladder_vae import SHARPEST, Encoded, LadderVae

COMPARED = 1
"""Blocks of the discriminator that do not take part in comparing but the last of them: its features are compared."""


class Seen(NamedTuple):
    """What a discriminator makes of pictures.

    Attributes:
        scores: `(N,)` logits, larger for what looks real.
        features: `(N, C, h, w)` that pictures are compared in.
    """

    scores: Tensor
    features: Tensor


class VaeGan(LadderVae):
    """A Ladder-VAE that is trained against a discriminator."""

    def forward(self, image: Tensor, noise: Tensor, *, full: bool = False) -> Tensor | Encoded:
        """As that of `LadderVae`; `full` has others as well, `(2 N, 3, R, R)`: reconstructions, then new pictures.

        No gradient of those reaches the encoder.
        """
        z1, kl1, kl2 = self.encoded(image, noise)
        if not full:
            return self.decoded(z1)
        noise1, noise2 = self.split(noise)
        new = self.decoding1(noise2.flip(0)).at(noise1.flip(0))
        others = self.decoded(torch.cat([z1.detach(), new]))
        return Encoded(self.decoded(z1), kl1, kl2, self.log_scale.clamp(min=SHARPEST), others)


class VaeGanDiscriminator(nn.Module):
    """Tells photographs from made pictures; its features are those of WGAN-GP's critic."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        sizes, narrow = wgan_channels(config.width)[::-1], config.width < NARROW
        self.first = stem(sizes[int(narrow)], narrow)
        self.blocks = nn.ModuleList(DownBlock(own, out) for own, out in pairwise(sizes[int(narrow) :]))
        self.norm = nn.GroupNorm(1, sizes[-1])
        self.score = nn.Linear(sizes[-1] * (config.resolution >> len(sizes) - 1) ** 2, 1)
        initialised(self)

    def forward(self, image: Tensor) -> Seen:
        """Of `(N, 3, R, R)` in [-1, 1]."""
        x, compared = self.first(image), image
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == COMPARED - 1:
                compared = functional.relu(x)
        return Seen(self.score(functional.relu(self.norm(x)).flatten(1))[:, 0], compared)
