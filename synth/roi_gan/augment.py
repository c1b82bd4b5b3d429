"""Differentiable augmentation of what the discriminator of RoI-GAN sees: photograph and picture are changed alike."""

from __future__ import annotations

import torch
from torch import Tensor

from ..augment import lit, shifted


def augmented(real: Tensor, fake: Tensor, region: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Photographs, completed pictures and their regions, each pair with another light, and shifted.

    Brightness, saturation, contrast and shift as in the paper, which also cuts pieces out: here the region is one. Both
    of a pair are changed alike, so that their features can be compared.

    Args:
        real, fake: `(N, 3, H, W)` in [-1, 1]; region: `(N, 1, H, W)` of 0 and 1; what is shifted in is 0.

    Returns:
        the same three; gradients pass to the pictures. Numbers are drawn from torch's own.
    """
    light = torch.rand(3, len(real), 1, 1, 1, device=real.device)
    moved = shifted(torch.cat([*(lit(each, *light) for each in (real, fake)), region], 1))
    return moved[:, :3], moved[:, 3:6], moved[:, 6:].detach()
