"""Intervals over photographs, each drawn with all its pictures and all their patches: those of one are alike.

Where every picture is of a photograph of its own, they are `metrics.mean_interval`, `kid` and `kid_gap` to the last
draw. Where all are of a single photograph, there is nothing but pictures to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ...synth.metrics import Features, Interval, kernel

Matrix = npt.NDArray[np.float64]
Sources = Sequence[str]
"""The photograph of each picture."""


def mean_over(
    values: Sequence[float | Sequence[float]], sources: Sources, *, seed: int = 0, rounds: int = 1000
) -> Interval:
    """A mean over all values, and its interval.

    Args:
        values: one a picture, or several, such as one a patch of it; at least one in all.
        sources: as many as pictures; seed: of the bootstrap; rounds: draws.
    """
    member = _members(sources)
    each = [np.atleast_1d(np.asarray(value, np.float64)) for value in values]
    sums, counts = (member.T @ np.array(of) for of in ([one.sum() for one in each], [float(len(one)) for one in each]))
    drawn = np.random.default_rng(seed).integers(0, len(sums), (rounds, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def kid_over(
    real: Features, made: Features, real_sources: Sources, made_sources: Sources, *, seed: int = 0, rounds: int = 500
) -> Interval:
    """KID, times 1,000, in which no two pictures of one photograph are compared on either side.

    They are alike because they are to be, and would count as a lack of variety.

    Args:
        real, made: `(n, d)` and `(m, d)`, at least two rows each; of their sources no one is on both sides, or else
            what shows one photograph is compared with it.
        seed: of the bootstrap; rounds: draws.
    """
    of_real, of_made = _members(real_sources), _members(made_sources)
    across = of_real.T @ kernel(real, made) @ of_made
    within_real, within_made = _Within(kernel(real, real), of_real), _Within(kernel(made, made), of_made)

    def distance(real_times: Matrix, made_times: Matrix) -> float:
        pairs = (real_times @ within_real.counts) * (made_times @ within_made.counts)
        return within_real(real_times) + within_made(made_times) - 2 * float(real_times @ across @ made_times / pairs)

    return _interval(distance, (of_real.shape[1], of_made.shape[1]), seed, rounds)


def gap_over(
    real: Features, made: Features, other: Features, sources: Sources, *, seed: int = 0, rounds: int = 500
) -> Interval:
    """KID of one way to make pictures less that of another one, times 1,000, paired, as `metrics.kid_gap`.

    No picture meets its own photograph, nor what shows or is made of another part of that one.

    Args:
        real, made, other: `(n, d)`, row i made for picture i; sources: of the pictures.
        seed: of the bootstrap; rounds: draws.
    """
    (own, cross), (others_own, others_cross) = ((kernel(x, x), kernel(real, x)) for x in (made, other))
    gaps = _Within((own - cross - cross.T) - (others_own - others_cross - others_cross.T), _members(sources))
    return _interval(gaps, (len(gaps.counts),), seed, rounds)


class _Within:
    """The mean over pairs of pictures of different photographs, where each photograph counts so many times.

    Args:
        values: `(n, n)` of pairs of pictures; member: `(n, G)`, see `_members`.
    """

    def __init__(self, values: Matrix, member: Matrix) -> None:
        self.sums, self.counts = member.T @ values @ member, member.sum(axis=0)

    def __call__(self, times: Matrix) -> float:
        pairs = np.outer(times, times)
        np.fill_diagonal(pairs, 0)  # one that was drawn twice does not meet itself
        return float((pairs * self.sums).sum() / (pairs * np.outer(self.counts, self.counts)).sum())


def _interval(distance: Callable[..., float], sizes: tuple[int, ...], seed: int, rounds: int) -> Interval:
    random = np.random.default_rng(seed)
    drawn = [distance(*(_drawn(random, size) for size in sizes)) for _ in range(rounds)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(1e3 * distance(*map(np.ones, sizes)), float(1e3 * low), float(1e3 * high))


def _drawn(random: np.random.Generator, n: int) -> Matrix:
    """How often each of n is drawn in n draws, of which no less than two are different."""
    while True:
        times = np.bincount(random.integers(0, n, n), minlength=n)
        if np.count_nonzero(times) > 1:
            return times.astype(np.float64)


def _members(sources: Sources) -> Matrix:
    """`(n, G)` of 0 and 1: which picture is of which photograph, as they first appear."""
    places = list(dict.fromkeys(sources))
    if len(places) < 2:
        return np.eye(len(sources))
    return np.eye(len(places))[[places.index(source) for source in sources]]
