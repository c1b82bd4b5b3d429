"""KID of pictures in groups: pairs of different photographs alone, and no gain or loss by repeating them."""

from __future__ import annotations

import numpy as np
import pytest

from zeuxis.pipelines.evaluation.region_kid import grouped_kid, grouped_kid_gap
from zeuxis.synth.metrics import kid


def drawn(n: int, seed: int, d: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_groups_of_one_picture_are_kid():
    real, made = drawn(40, 0), drawn(30, 1) + 0.3
    assert grouped_kid(real, made, range(30), rounds=2).value == pytest.approx(kid(real, made, rounds=2).value)


def test_pairs_of_one_photograph_do_not_count():
    """Written as loops over pairs; groups of several sizes."""
    real, made, groups = drawn(6, 0), drawn(7, 1) + 0.5, [2, 2, 5, 5, 5, 9, 9]

    def k(a, b):
        return (float(a @ b) / 5 + 1) ** 3

    own = np.mean([k(real[i], real[j]) for i in range(6) for j in range(6) if i != j])
    pairs = [k(made[i], made[j]) for i in range(7) for j in range(7) if groups[i] != groups[j]]
    across = np.mean([k(one, other) for one in real for other in made])
    assert grouped_kid(real, made, groups, rounds=2).value == pytest.approx(
        1e3 * (own + np.mean(pairs) - 2 * across), rel=1e-4
    )


def test_pictures_that_repeat_within_a_group_change_nothing():
    real, made = drawn(60, 0), drawn(12, 1)
    plain, groups = np.repeat(made, 8, 0), np.repeat(np.arange(12), 8)
    found = grouped_kid(real, plain, groups)
    assert found.value == pytest.approx(grouped_kid(real, made, range(12)).value, rel=1e-6)
    assert found.low < found.value < found.high
    assert kid(real, plain, rounds=2).value > found.value + 50, "which takes them for a lack of variety"


def test_what_is_drawn_together_widens_the_interval_and_does_not_shift_it():
    """Eight rooms of six photographs that are alike: draws that let a room meet itself would all lie above."""
    random = np.random.default_rng(0)
    real = random.standard_normal((200, 5)).astype(np.float32)
    rooms = np.repeat(random.standard_normal((8, 5)), 6, 0)
    made = (0.95 * rooms + 0.3 * random.standard_normal((48, 5))).astype(np.float32)
    drawn = np.repeat(np.arange(8), 6)
    together, apart = (grouped_kid(real, made, range(48), each) for each in (drawn, None))
    assert together.value == apart.value
    assert together.high - together.low > 1.3 * (apart.high - apart.low)
    assert abs((together.low + together.high) / 2 - together.value) < 0.3 * (together.high - together.low)
    same = grouped_kid_gap(real, made, made, range(48), drawn)
    assert same == (0, 0, 0)
    other = random.standard_normal((48, 5)).astype(np.float32)
    gap = grouped_kid_gap(real, made, other, range(48), drawn)
    own = [grouped_kid(real, each, range(48), drawn).value for each in (made, other)]
    assert gap.value == pytest.approx(own[0] - own[1], rel=1e-6)


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="two groups"):
        grouped_kid(drawn(4, 0), drawn(4, 1), [1, 1, 1, 1])
