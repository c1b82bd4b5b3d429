"""Whether a generator makes anything like a reference region: how far it lies from the generator's own pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..features import Features
from ..layers import averaged

NORMAL = 1.4826
"""Median absolute deviations in a standard deviation of a normal distribution."""


@torch.no_grad()
def strangeness(features: Features, layers: Sequence[str], reference: Tensor, region: Tensor, samples: Tensor) -> float:
    """How many standard deviations farther a reference lies from a generator's pictures than these from each other.

    Of every picture the mean features inside the region are taken, weighed as the objective weighs them; how far one
    lies out is its median distance to the generator's pictures. Median and median absolute deviation of what these have
    stand for mean and standard deviation, so that a few odd samples change nothing.

    Args:
        features, layers: as in `FeatureObjective`.
        reference: `(3, H, W)` in [-1, 1]; region: `(1, H, W)` of 0 and 1, not empty.
        samples: `(N, 3, H, W)` of the generator, N at least 3.
    """
    found = features(torch.cat([reference[None], samples]), layers)
    means = []
    for each in found.values():
        share = averaged(region[None], (each.shape[-2], each.shape[-1]))
        means.append((each * share).sum((2, 3)) / share.sum())
    vectors = torch.cat(means, 1).double().cpu()
    apart = torch.cdist(vectors, vectors[1:]).numpy()
    out = np.median(apart[0])
    others = apart[1:][~np.eye(len(samples), dtype=bool)].reshape(len(samples), -1)
    own = np.median(others, axis=1)
    spread = NORMAL * np.median(np.abs(own - np.median(own)))
    return float((out - np.median(own)) / max(spread, 1e-12))
