"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020): for few photographs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 1 / 8
"""Share of a side that pictures are shifted by, at most."""


def changed(images: Tensor) -> Tensor:
    """Pictures, each in another light, and shifted: brightness, saturation, contrast and shift as in the paper.

    The paper also cuts squares out, which would hide the seams of what is pasted together.

    Args:
        images: `(N, 3, H, W)` in [-1, 1]; what is shifted in is 0.

    Returns:
        the same, beyond [-1, 1] where they are lit; gradients pass. Numbers are drawn from torch's own.
    """
    light = torch.rand(3, len(images), 1, 1, 1, device=images.device)
    return shifted(lit(images, *light))


def lit(image: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """By up to half brighter, colours times 0 to 2 about each pixel's grey, and all times 0.5 to 1.5 about the mean.

    Args:
        image: `(N, 3, H, W)`; the others: `(N, 1, 1, 1)` in [0, 1].
    """
    image = image + (brightness - 0.5)
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * (saturation * 2)
    mean = image.mean((1, 2, 3), keepdim=True)
    return mean + (image - mean) * (contrast + 0.5)


def shifted(images: Tensor) -> Tensor:
    """`(N, C, H, W)`, each moved by whole pixels, up to `SHIFT` of a side; what comes in is 0."""
    n, _, rows, cols = images.shape
    shift = (torch.rand(n, 2, device=images.device) * 2 - 1) * SHIFT
    pixels = (shift * torch.tensor([cols, rows], device=images.device)).round()
    theta = torch.eye(2, 3, device=images.device).repeat(n, 1, 1)
    theta[:, :, 2] = pixels * 2 / torch.tensor([cols, rows], device=images.device)
    grid = functional.affine_grid(theta, [n, 1, rows, cols], align_corners=False)
    return functional.grid_sample(images, grid.to(images.dtype), mode="nearest", align_corners=False)
