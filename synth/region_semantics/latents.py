"""Latents that a generator was trained to make pictures of: whose draws they are, and how they are kept such."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .generator import Prior

FARTHEST = 4.0
"""A number of a normal latent goes no farther from 0; one in 16,000 is drawn beyond."""
SHELL = 3.0
"""Standard deviations by which the length of a normal latent may differ from the usual one."""


def random_of(seed: int, number: int) -> torch.Generator:
    """The draws of latent `number` of a seed, whatever others there are."""
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, number]).integers(1 << 63)))


def plausible(prior: Prior, latents: Tensor) -> Tensor:
    """The nearest latents that could have been drawn.

    Uniform ones are cut off at -1 and 1. Normal ones of many numbers all have about the same length, root of their
    number: they are cut off at `FARTHEST`, and scaled to within `SHELL` standard deviations of it.

    Args:
        prior: of the generator; latents: `(N, Z)`.
    """
    if prior == "uniform":
        return latents.clamp(-1, 1)
    size = latents.shape[1]
    usual, apart = max(size - 0.5, 0.0) ** 0.5, SHELL * 0.5**0.5  # of the chi distribution
    cut = latents.clamp(-FARTHEST, FARTHEST)
    long = cut.norm(dim=1, keepdim=True)
    scaled: Tensor = cut * (long.clamp(max(usual - apart, 0.0), usual + apart) / long.clamp_min(1e-12))
    return scaled
