"""What generators are trained against: BEGAN's auto-encoder, and WGAN-GP's critic with layer normalisation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import BeganBlock, DownBlock, initialised
from .generator import DOUBLINGS, GeneratorConfig, began_channels, began_decoder, last_scaled, wgan_channels

NARROW = 1 / 2
"""Width below which a critic halves the picture in its first convolution, instead of with its finest block: that block
takes two thirds of the time of a narrow critic, most of it in passing few channels of many pixels on."""


class BeganCritic(nn.Module):
    """An auto-encoder of pictures, whose error on a picture is what is compared (BEGAN, Berthelot et al. 2017).

    The encoder mirrors the generator, the decoder is built as it.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        features, self.side = began_channels(config.width), config.resolution >> DOUBLINGS
        narrow = config.width < NARROW
        down: list[nn.Module] = [stem(features, narrow)]
        for number in range(int(narrow), DOUBLINGS + 1):
            down.append(BeganBlock(features))
            if number < DOUBLINGS:
                down.append(nn.AvgPool2d(2))
        self.encoder = nn.Sequential(*down, nn.ELU(), nn.Flatten(), nn.Linear(features * self.side**2, config.latent))
        self.first = nn.Linear(config.latent, features * self.side**2)
        self.decoder = began_decoder(features)
        initialised(self)
        last_scaled(self.decoder)

    def forward(self, image: Tensor) -> Tensor:
        """`(B, 3, R, R)` in [-1, 1] to what is left of it after the narrow middle, the same shape and range."""
        hidden = self.first(self.encoder(image)).unflatten(1, (-1, self.side, self.side))
        found: Tensor = torch.tanh(self.decoder(hidden))
        return found


class WganCritic(nn.Module):
    """A score of a picture without a bound, and no statistic of a batch (WGAN-GP, Gulrajani et al. 2017).

    Its features are those of the generator from fine to coarse.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        sizes, narrow = wgan_channels(config.width)[::-1], config.width < NARROW
        self.first = stem(sizes[int(narrow)], narrow)
        self.blocks = nn.ModuleList(DownBlock(own, out) for own, out in pairwise(sizes[int(narrow) :]))
        self.norm = nn.GroupNorm(1, sizes[-1])
        self.score = nn.Linear(sizes[-1] * (config.resolution >> len(sizes) - 1) ** 2, 1)
        initialised(self)

    def forward(self, image: Tensor) -> Tensor:
        """`(B, 3, R, R)` in [-1, 1] to `(B,)` scores, larger for what looks real."""
        x = self.first(image)
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.score(functional.relu(self.norm(x)).flatten(1))[:, 0]
        return found


def stem(features: int, narrow: bool) -> nn.Conv2d:
    """The first convolution: 3x3; of a narrow critic 4x4 of stride 2."""
    return nn.Conv2d(3, features, 4, 2, 1) if narrow else nn.Conv2d(3, features, 3, padding=1)
