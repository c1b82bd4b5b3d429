"""What generators are trained against: BEGAN's auto-encoder, and WGAN-GP's critic with layer normalisation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import BeganBlock, DownBlock, initialised
from .generator import DOUBLINGS, GeneratorConfig, began_channels, began_decoder, last_scaled, wgan_channels


class BeganCritic(nn.Module):
    """An auto-encoder of pictures, whose error on a picture is what is compared (BEGAN, Berthelot et al. 2017).

    The encoder mirrors the generator, the decoder is built as it.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        features, self.side = began_channels(config.width), config.resolution >> DOUBLINGS
        down: list[nn.Module] = [nn.Conv2d(3, features, 3, padding=1)]
        for number in range(DOUBLINGS + 1):
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
        sizes = wgan_channels(config.width)[::-1]
        self.first = nn.Conv2d(3, sizes[0], 3, padding=1)
        self.blocks = nn.ModuleList(DownBlock(own, out) for own, out in pairwise(sizes))
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
