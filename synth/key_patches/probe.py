"""A linear probe: how well classes can be told from features by a linear map, fitted in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..metrics import Interval

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
"""`(n,)` numbers of classes from 0, all of which occur."""

PENALTIES = tuple(float(10.0**power) for power in range(-3, 5))
"""Of the ridge, relative to the number of rows; that which classifies left-out parts best is taken."""
FOLDS = 5


def ridge_probe(features: npt.ArrayLike, labels: Labels, unseen: npt.ArrayLike) -> Labels:
    """Classes of `(m, d)` unseen rows by ridge regression on the classes of `(n, d)` rows.

    Features are centred and scaled by those that are fitted; every class weighs the same, however many rows it has.
    """
    rows, others = (np.asarray(each, np.float64) for each in (features, unseen))
    middle, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 1e-8, spread, 1)
    rows, others = (rows - middle) / spread, (others - middle) / spread
    folds = np.arange(len(rows)) % FOLDS
    scores = []
    for penalty in PENALTIES:
        right = np.zeros(len(rows), bool)
        for fold in range(FOLDS):
            fitted, left = folds != fold, folds == fold
            if fitted.any() and left.any():
                right[left] = _fit(rows[fitted], labels[fitted], penalty)(rows[left]) == labels[left]
        scores.append(balanced(right, labels))
    return _fit(rows, labels, PENALTIES[int(np.argmax(scores))])(others)


def balanced(right: npt.NDArray[np.bool_], labels: Labels) -> float:
    """The share of right answers, mean over classes, so that a common class does not decide it."""
    return float(np.mean([right[labels == each].mean() for each in np.unique(labels)]))


def balanced_interval(right: npt.NDArray[np.bool_], labels: Labels, *, seed: int = 0, rounds: int = 1000) -> Interval:
    """`balanced` with its bootstrap interval: rows are drawn anew within each class."""
    random = np.random.default_rng(seed)
    means = []
    for each in np.unique(labels):
        own = right[labels == each].astype(np.float64)
        means.append(own[random.integers(0, len(own), (rounds, len(own)))].mean(axis=1))
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return Interval(balanced(right, labels), float(low), float(high))


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
