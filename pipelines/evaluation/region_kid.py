"""KID of pictures that come in groups: several of each of a few photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...synth.metrics import Features, Interval, kernel

Vector = npt.NDArray[np.float64]


def grouped_kid(real: Features, made: Features, groups: Sequence[int], *, seed: int = 0, rounds: int = 500) -> Interval:
    """`metrics.kid` where no two pictures of one photograph are compared with each other.

    Pictures of one photograph are alike because they are to be, and KID, which takes pictures to be independent, counts
    that as a lack of variety. Without these pairs the estimate is unbiased for pictures of photographs that are drawn,
    and the interval, a bootstrap over photographs, says how far a few of them can tell.

    Args:
        real: `(m, d)`, at least two; made: `(n, d)`; groups: `(n,)`: the photograph of each, at least two different.
        seed: of the bootstrap; rounds: draws.

    Raises:
        ValueError: too few.
    """
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    if len(real) < 2 or len(names) < 2:
        raise ValueError("at least two pictures, and two groups")
    member = np.eye(len(names))[places]
    sums, counts = member.T @ kernel(made, made) @ member, member.sum(0)
    own = kernel(real, real)
    of_real = (own.sum() - np.trace(own)) / (len(real) * (len(real) - 1))
    across = kernel(real, made).mean(0) @ member

    def distance(times: Vector) -> float:
        """Pairs of different photographs alone; a photograph that was drawn twice does not meet itself."""
        pairs = np.outer(times, times)
        np.fill_diagonal(pairs, 0)
        within = (pairs * sums).sum() / (pairs * np.outer(counts, counts)).sum()
        return float(of_real + within - 2 * (times @ across) / (times @ counts))

    random, n = np.random.default_rng(seed), len(names)
    draws = (np.bincount(random.integers(0, n, n), minlength=n).astype(np.float64) for _ in range(rounds))
    found = [distance(times) for times in draws if (times > 0).sum() > 1]
    low, high = np.percentile(found, [2.5, 97.5]) if found else (np.nan, np.nan)
    return Interval(1e3 * distance(np.ones(n)), float(1e3 * low), float(1e3 * high))
