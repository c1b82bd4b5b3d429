"""KID of pictures that come in groups: several of each of a few photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ...synth.metrics import Features, Interval, kernel

Vector = npt.NDArray[np.float64]


def grouped_kid(
    real: Features,
    made: Features,
    groups: Sequence[int],
    drawn: Sequence[int] | None = None,
    *,
    seed: int = 0,
    rounds: int = 500,
) -> Interval:
    """`metrics.kid` where no two pictures of one photograph are compared with each other.

    Pictures of one photograph are alike because they are to be, and KID, which takes pictures to be independent, counts
    that as a lack of variety. Without these pairs the estimate is unbiased for pictures of photographs that are drawn,
    and the interval, a bootstrap over photographs, says how far a few of them can tell.

    Args:
        real: `(m, d)`, at least two; made: `(n, d)`; groups: `(n,)`: the photograph of each, at least two different.
        drawn: `(n,)`: what the bootstrap draws as one, such as the photographs of one room; default each photograph.
        seed: of the bootstrap; rounds: draws.

    Raises:
        ValueError: too few.
    """
    distance = _Distance(real, made, groups, drawn)
    own = kernel(real, real)
    of_real = (own.sum() - np.trace(own)) / (len(real) * (len(real) - 1))
    return _interval(lambda times: of_real + distance(times), distance, seed, rounds)


def grouped_kid_gap(
    real: Features,
    made: Features,
    other: Features,
    groups: Sequence[int],
    drawn: Sequence[int] | None = None,
    *,
    seed: int = 0,
    rounds: int = 500,
) -> Interval:
    """The KID of `made` less that of `other`, pictures of the same photographs in the same order; see `grouped_kid`.

    Each draw takes the same photographs of both, so that what is peculiar about them cancels.
    """
    first, second = (_Distance(real, each, groups, drawn) for each in (made, other))
    return _interval(lambda times: first(times) - second(times), first, seed, rounds)


class _Distance:
    """Squared distance of made pictures to real ones but for what is of the real ones alone, by draws of photographs.

    Attributes:
        drawn: `(g,)`, by photograph, what is drawn as one; n_drawn: how many of these there are.
    """

    def __init__(self, real: Features, made: Features, groups: Sequence[int], drawn: Sequence[int] | None) -> None:
        names, first, places = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
        if len(real) < 2 or len(names) < 2:
            raise ValueError("at least two pictures, and two groups")
        member = np.eye(len(names))[places]
        self._sums, self._counts = member.T @ kernel(made, made) @ member, member.sum(0)
        self._across = kernel(real, made).mean(0) @ member
        together = np.arange(len(names)) if drawn is None else np.asarray(drawn)[first]
        self.drawn = np.unique(together, return_inverse=True)[1]
        self.n_drawn = int(self.drawn.max()) + 1
        self._together = self.drawn[:, None] == self.drawn

    def __call__(self, times: Vector) -> float:
        """Pairs of different photographs alone; what was drawn twice does not meet itself.

        So photographs that are drawn together meet each other once a draw, and those of others as often as both are.
        """
        pairs = np.where(self._together, times[:, None], np.outer(times, times))
        np.fill_diagonal(pairs, 0)
        within = (pairs * self._sums).sum() / (pairs * np.outer(self._counts, self._counts)).sum()
        return float(within - 2 * (times @ self._across) / (times @ self._counts))


def _interval(figure: Callable[[Vector], float], distance: _Distance, seed: int, rounds: int) -> Interval:
    random, n = np.random.default_rng(seed), distance.n_drawn
    draws = (np.bincount(random.integers(0, n, n), minlength=n).astype(np.float64) for _ in range(rounds))
    found = [figure(times) for times in (draw[distance.drawn] for draw in draws) if (times > 0).sum() > 1]
    low, high = np.percentile(found, [2.5, 97.5]) if found else (np.nan, np.nan)
    return Interval(1e3 * figure(np.ones(len(distance.drawn))), float(1e3 * low), float(1e3 * high))
