"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020): for few photographs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 1 / 8
"""Share of a side that pictures are shifted by, at most."""


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
    shift = (torch.rand(len(real), 2, device=real.device) * 2 - 1) * SHIFT
    n, _, rows, cols = real.shape
    both = [_lit(each, *light) for each in (real, fake)]
    pixels = (shift * torch.tensor([cols, rows], device=real.device)).round()
    theta = torch.eye(2, 3, device=real.device).repeat(n, 1, 1)
    theta[:, :, 2] = pixels * 2 / torch.tensor([cols, rows], device=real.device)
    grid = functional.affine_grid(theta, [n, 1, rows, cols], align_corners=False)
    moved = functional.grid_sample(torch.cat([*both, region], 1), grid, mode="nearest", align_corners=False)
    return moved[:, :3], moved[:, 3:6], moved[:, 6:].detach()


def _lit(image: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """By up to half brighter, colours times 0 to 2 about each pixel's grey, and all times 0.5 to 1.5 about the mean."""
    image = image + (brightness - 0.5)
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * (saturation * 2)
    mean = image.mean((1, 2, 3), keepdim=True)
    return mean + (image - mean) * (contrast + 0.5)
