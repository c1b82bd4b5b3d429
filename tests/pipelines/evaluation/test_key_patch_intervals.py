"""Intervals over photographs: those of metrics where pictures are independent, and pair by pair where they are not."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from zeuxis.pipelines.evaluation.key_patches_intervals import gap_over, kid_over, mean_over
from zeuxis.synth.metrics import kid, kid_gap, mean_interval

ALONE = [f"photograph {k}" for k in range(12)]
SEVERAL = ["a", "a", "a", "b", "b", "c", "d", "d", "d", "d", "e", "f"]


def features(seed: int, n: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (n, 6)).astype(np.float32)


def kernel(x: np.ndarray, y: np.ndarray) -> float:
    return float((x.astype(np.float64) @ y.astype(np.float64) / len(x) + 1) ** 3)


def test_pictures_of_photographs_of_their_own_have_the_usual_intervals():
    values = np.random.default_rng(0).random(12).tolist()
    assert mean_over(values, ALONE) == pytest.approx(mean_interval(values))
    real, made, other = (features(seed) for seed in range(3))
    assert kid_over(real, made[:7], ALONE, ALONE[:7]) == pytest.approx(kid(real, made[:7]))
    assert gap_over(real, made, other, ALONE) == pytest.approx(kid_gap(real, [made], [other]))
    # all of a single photograph: there are pictures alone to draw
    assert mean_over(values, ["a"] * 12) == pytest.approx(mean_interval(values))
    assert kid_over(real, made, ["a"] * 12, ["b"] * 12) == pytest.approx(kid(real, made))


def test_no_two_pictures_of_one_photograph_are_compared():
    real, made, other = (features(seed) for seed in range(3))
    apart = [(i, j) for i, j in product(range(12), repeat=2) if SEVERAL[i] != SEVERAL[j]]
    within = [np.mean([kernel(each[i], each[j]) for i, j in apart]) for each in (real, made)]
    across = np.mean([kernel(x, y) for x, y in product(real, made)])
    found = kid_over(real, made, SEVERAL, SEVERAL)
    assert found.value == pytest.approx(1e3 * (sum(within) - 2 * across))
    gaps = []
    for each in (made, other):
        pairs = [kernel(each[i], each[j]) - kernel(real[i], each[j]) - kernel(real[j], each[i]) for i, j in apart]
        gaps.append(1e3 * np.mean(pairs))
    gap = gap_over(real, made, other, SEVERAL)
    assert gap.value == pytest.approx(gaps[0] - gaps[1])
    assert found.low < found.value < found.high
    assert gap.low < gap.value < gap.high


def test_a_picture_that_shows_another_part_of_the_photograph_does_not_count():
    """Each picture is made to look like the other window of its photograph."""
    windows = [f"{k // 2}" for k in range(40)]
    real, noise = features(0, 40), 0.01 * features(1, 40)
    copied = real[[k ^ 1 for k in range(40)]] + noise
    assert kid_gap(real, [copied], [features(2, 40)]).value < gap_over(real, copied, features(2, 40), windows).value


def test_a_photograph_is_drawn_with_all_its_pictures_and_all_their_patches():
    values = [[float(k // 10)] * (1 + k % 3) for k in range(40)]
    of = [f"{k // 10}" for k in range(40)]
    found, alone = mean_over(values, of), mean_over(values, [f"{k}" for k in range(40)])
    assert found.value == alone.value == pytest.approx(np.mean(np.concatenate(values)))
    assert found.high - found.low > 2 * (alone.high - alone.low)
    assert mean_over([1.0, 1.0, 4.0], ["a", "a", "b"])[1:] == (1.0, 4.0)
    assert mean_over([[1.0, 1.0], [4.0]], ["a", "b"]).value == 2
