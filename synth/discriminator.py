"""A discriminator of patches: whether each stands in a photograph of the layout (pix2pix; spectral normalisation)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .layers import LEAK, channels

CHANNELS = (64, 128, 256, 512)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """How a discriminator is built: `n_classes` of the layout (void is one more channel), `width` of its channels."""

    n_classes: int
    width: float = 1.0


class PatchDiscriminator(nn.Module):
    """4x4 convolutions of stride 2, 2, 2, 1 and 1: each score sees 70x70 pixels."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        outputs = [channels(full, config.width) for full in CHANNELS]
        before = [3 + config.n_classes + 1, *outputs]
        layers: list[nn.Module] = []
        for inputs, out, stride in zip(before, outputs, (2, 2, 2, 1), strict=False):
            layers += [spectral_norm(nn.Conv2d(inputs, out, 4, stride, padding=1)), nn.LeakyReLU(LEAK)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(outputs[-1], 1, 4, padding=1)))

    def forward(self, image: Tensor, layout: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] and `(N, C + 1, H, W)` to `(N, 1, H / 8 - 2, W / 8 - 2)` scores, high for real."""
        scores: Tensor = self.layers(torch.cat([image, layout], 1))
        return scores
