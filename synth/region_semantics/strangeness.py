"""Whether a reference is of the domain of a generator: how far it lies from the generator's own pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..features import Features

LAYERS = ("conv1_2", "conv2_2")
"""Whose statistics tell domains apart. Deeper ones do not: what photographs show varies within a domain too."""
FEWEST = 6
"""Of the generator's pictures."""
FITTED = 2 / 3
"""Share of the generator's pictures that say what is usual; the others, how far its own pictures lie from that."""
FARTHEST = 5.0
"""Deviations that a single statistic may count for."""
SHRINKAGE = 0.2
"""Of the covariance, towards independent statistics of equal spread."""
NORMAL = 1.4826
"""Median absolute deviations in a standard deviation of a normal distribution."""

Vectors = npt.NDArray[np.float64]


@torch.no_grad()
def strangeness(features: Features, reference: Tensor, samples: Tensor) -> float | None:
    """How many standard deviations farther from the usual a reference lies than a generator's own pictures do.

    Of a whole picture, means and standard deviations of the channels of `LAYERS` are taken, standardised by the
    generator's medians and quantiles, cut off at `FARTHEST`, and measured by their covariance (Mahalanobis). The scale
    of these distances is median and median absolute deviation of pictures that were not used for it, so that a few odd
    samples change little.

    Args:
        features: frozen; reference: `(3, H, W)` in [-1, 1]; samples: `(N, 3, H, W)` of the generator.

    Returns:
        None where fewer than `FEWEST` of the samples are numbers throughout; the others do not count.
    """
    samples = whole(samples)
    if len(samples) < FEWEST:
        return None
    vectors = np.concatenate([_statistics(features, part) for part in torch.split(samples, 64)])
    fitted, held = np.split(vectors, [round(FITTED * len(vectors))])
    middle = np.median(fitted, axis=0)
    low, high = np.quantile(fitted, (0.16, 0.84), axis=0)
    varies = high - low > 1e-6
    if not varies.any():
        return 0.0

    def standardised(given: Vectors) -> Vectors:
        apart = 2 * (given - middle)[:, varies] / (high - low)[varies]
        return np.asarray(np.clip(apart, -FARTHEST, FARTHEST))

    spread = np.atleast_2d(np.cov(standardised(fitted).T))
    size = len(spread)
    precise = np.linalg.inv((1 - SHRINKAGE) * spread + SHRINKAGE * np.trace(spread) / size * np.eye(size))

    def distances(given: Vectors) -> Vectors:
        x = standardised(given)
        return np.asarray(np.sqrt(np.einsum("ij,jk,ik->i", x, precise, x)))

    own = distances(held)
    scale = NORMAL * np.median(np.abs(own - np.median(own)))
    (found,) = distances(_statistics(features, reference[None]))
    return float((found - np.median(own)) / max(scale, 1e-12))


def whole(images: Tensor) -> Tensor:
    """Those of `(N, 3, H, W)` that hold nothing but numbers."""
    return images[images.isfinite().all((1, 2, 3))]


def _statistics(features: Features, images: Tensor) -> Vectors:
    """`(N, D)` float64."""
    found = features(images, LAYERS).values()
    both = torch.cat([each for one in found for each in (one.mean((2, 3)), one.std((2, 3)))], 1)
    return np.asarray(both.double().cpu().numpy())
