"""KID of pictures that come in groups: several of each of a few photographs, and these from a few rooms."""

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
    """`metrics.kid` where no two pictures of one group are compared with each other.

    Pictures of one photograph are alike because they are to be, as photographs of one room are, and so are pictures
    that keep what these show. KID, which takes pictures to be independent, counts that as a lack of variety. Without
    these pairs the estimate is unbiased for pictures of groups that are drawn (a U-statistic between clusters), and the
    interval, a bootstrap over groups, says how far a few of them can tell.

    Args:
        real: `(m, d)`, at least two; made: `(n, d)`; groups: `(n,)`: the room, or else the photograph, of each, at
            least two different.
        drawn: `(n,)`: what the bootstrap draws as one, all of it of one group: the photographs of groups that are too
            few to be drawn; default each group.
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
    """The KID of `made` less that of `other`, pictures of the same groups in the same order; see `grouped_kid`.

    Each draw takes the same groups of both, so that what is peculiar about them cancels.
    """
    first, second = (_Distance(real, each, groups, drawn) for each in (made, other))
    return _interval(lambda times: first(times) - second(times), first, seed, rounds)


class _Distance:
    """Squared distance of made pictures to real ones but for what is of the real ones alone, by draws of groups.

    Attributes:
        groups: `(g,)`, of each of what is drawn.
    """

    def __init__(self, real: Features, made: Features, groups: Sequence[int], drawn: Sequence[int] | None) -> None:
        drawn = groups if drawn is None else drawn
        names, first, places = np.unique(np.asarray(drawn), return_index=True, return_inverse=True)
        self.groups = np.asarray(groups)[first]
        if len(real) < 2 or len(set(self.groups.tolist())) < 2:
            raise ValueError("at least two pictures, and two groups")
        member = np.eye(len(names))[places]
        apart = self.groups[:, None] != self.groups
        self._sums, self._across = apart * (member.T @ kernel(made, made) @ member), kernel(real, made).mean(0) @ member
        self._counts, self._pairs = member.sum(0), apart * np.outer(member.sum(0), member.sum(0))

    def __call__(self, times: Vector) -> float:
        """Pairs of different groups alone: what was drawn twice does not meet itself."""
        within = (times @ self._sums @ times) / (times @ self._pairs @ times)
        return float(within - 2 * (times @ self._across) / (times @ self._counts))


def _interval(figure: Callable[[Vector], float], distance: _Distance, seed: int, rounds: int) -> Interval:
    random, n = np.random.default_rng(seed), len(distance.groups)
    draws = (np.bincount(random.integers(0, n, n), minlength=n).astype(np.float64) for _ in range(rounds))
    found = [figure(times) for times in draws if len(set(distance.groups[times > 0].tolist())) > 1]
    low, high = np.percentile(found, [2.5, 97.5]) if found else (np.nan, np.nan)
    return Interval(1e3 * figure(np.ones(n)), float(1e3 * low), float(1e3 * high))
