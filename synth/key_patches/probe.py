"""A linear probe: how well classes can be told from features by a linear map, fitted in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..metrics import Interval

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
"""`(n,)` numbers of classes from 0, all of which occur."""
Groups = Sequence[str]
"""What each row is of, such as its photograph: rows of one group are alike, and are left out or drawn together."""

PENALTIES = tuple(float(10.0**power) for power in range(-3, 5))
"""Of the ridge, relative to the number of rows; that which classifies left-out parts best is taken."""
FOLDS = 5


def ridge_probe(features: npt.ArrayLike, labels: Labels, unseen: npt.ArrayLike, groups: Groups | None = None) -> Labels:
    """Classes of `(m, d)` unseen rows by ridge regression on the classes of `(n, d)` rows.

    Features are centred and scaled by those that are fitted; every class weighs the same, however many rows it has.

    Args:
        groups: of the rows that are fitted, for `folds_of`.
    """
    rows, others = (np.asarray(each, np.float64) for each in (features, unseen))
    middle, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 1e-8, spread, 1)
    rows, others = (rows - middle) / spread, (others - middle) / spread
    folds = folds_of(labels, groups)
    scores = []
    for penalty in PENALTIES:
        right = np.zeros(len(rows), bool)
        for fold in range(FOLDS):
            fitted, left = folds != fold, folds == fold
            if fitted.any() and left.any():
                right[left] = _fit(rows[fitted], labels[fitted], penalty)(rows[left]) == labels[left]
        scores.append(balanced(right, labels))
    return _fit(rows, labels, PENALTIES[int(np.argmax(scores))])(others)


def folds_of(labels: Labels, groups: Groups | None = None) -> Labels:
    """`(n,)` numbers below `FOLDS`: no group is in two folds, and every fold has about as many rows of each class.

    Groups are dealt one after the other, the largest first, each to the fold that has least of its classes.

    Args:
        groups: `(n,)`; None, or a single one, for every row by itself.
    """
    places = _places(groups, len(labels))
    shares = np.zeros((places.max() + 1, labels.max() + 1))
    np.add.at(shares, (places, labels), 1 / np.bincount(labels)[labels])
    fold_of, held = np.zeros(len(shares), np.int64), np.zeros((FOLDS, shares.shape[1]))
    for group in np.argsort(-shares.sum(axis=1), kind="stable").tolist():
        fold_of[group] = np.lexsort((held.sum(axis=1), held @ shares[group]))[0]
        held[fold_of[group]] += shares[group]
    return fold_of[places]


def balanced(right: npt.NDArray[np.bool_], labels: Labels) -> float:
    """The share of right answers, mean over classes, so that a common class does not decide it."""
    return float(np.mean([right[labels == each].mean() for each in np.unique(labels)]))


def balanced_interval(
    right: npt.NDArray[np.bool_], labels: Labels, groups: Groups | None = None, *, seed: int = 0, rounds: int = 1000
) -> Interval:
    """`balanced` with its bootstrap interval: groups are drawn anew, each with all its rows.

    Of a draw that misses a class, the mean is that of the others.

    Args:
        groups: as in `folds_of`; seed: of the bootstrap; rounds: draws.
    """
    places = _places(groups, len(labels))
    n = places.max() + 1
    counts, hits = np.zeros((2, n, labels.max() + 1))
    np.add.at(counts, (places, labels), 1)
    np.add.at(hits, (places, labels), right)
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), rounds)
    drawn = times @ counts
    means = (times @ hits / np.maximum(drawn, 1)).sum(axis=1) / (drawn > 0).sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(balanced(right, labels), float(low), float(high))


def _places(groups: Groups | None, n: int) -> Labels:
    """`(n,)`: the number of each row's group, or of the row where there is but one group."""
    places = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    return places if len(places) and places.max() else np.arange(n)


def _fit(rows: Matrix, labels: Labels, penalty: float) -> Callable[[Matrix], Labels]:
    """Ridge regression to one number a class, 1 for a row's own, of rows that are weighted by class."""
    counts = np.bincount(labels)
    weight = 1 / counts[labels]
    weight = weight * len(rows) / weight.sum()
    ones = np.column_stack([rows, np.ones(len(rows))])
    weighted = (ones * weight[:, None]).T
    held = np.eye(ones.shape[1]) * penalty * len(rows)
    held[-1, -1] = 1e-9  # the offset is free
    linear = np.linalg.solve(weighted @ ones + held, weighted @ np.eye(len(counts))[labels])

    def told(others: Matrix) -> Labels:
        found: Labels = (np.column_stack([others, np.ones(len(others))]) @ linear).argmax(axis=1)
        return found

    return told
