"""KID of pictures in groups: pairs of different groups alone, and no gain or loss by repeating pictures in them."""

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


def test_pairs_of_one_group_do_not_count():
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


def rooms(n: int, each: int, alike: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of standard normal features, of which those of one room share a part; and their rooms."""
    random = np.random.default_rng(seed)
    names = np.repeat(np.arange(n), each)
    shared, own = random.standard_normal((n, 5)), random.standard_normal((n * each, 5))
    return (alike**0.5 * shared[names] + (1 - alike) ** 0.5 * own).astype(np.float32), names


def test_rooms_whose_photographs_are_alike_are_no_farther_than_others():
    """Over many draws of eight rooms, of the very distribution that they are compared with."""
    real = drawn(400, 99)
    by_room, by_photograph = [], []
    for seed in range(60):
        made, names = rooms(8, 6, 0.6, seed)
        by_room.append(grouped_kid(real, made, names, rounds=2).value)
        by_photograph.append(grouped_kid(real, made, range(48), rounds=2).value)
    error = np.std(by_room) / 60**0.5
    assert abs(np.mean(by_room)) < 3 * error
    assert np.mean(by_photograph) > 6 * error


def test_intervals_are_over_what_is_drawn_and_not_shifted():
    """Rooms are what differs by chance: draws of their photographs, as if these were independent, tell too much."""
    real, (made, names) = drawn(400, 99), rooms(12, 6, 0.8, 0)
    together, apart = (grouped_kid(real, made, names, each) for each in (None, range(72)))
    assert together.value == pytest.approx(apart.value, rel=1e-6)
    assert together.high - together.low > 1.3 * (apart.high - apart.low)
    for found in (together, apart):
        assert abs((found.low + found.high) / 2 - found.value) < 0.3 * (found.high - found.low)


def test_a_gap_is_the_difference_of_two_kids_by_the_same_draws():
    real, (made, names), other = drawn(200, 9), rooms(8, 6, 0.8, 0), drawn(48, 1)
    assert grouped_kid_gap(real, made, made, names) == (0, 0, 0)
    gap = grouped_kid_gap(real, made, other, names)
    own = [grouped_kid(real, each, names).value for each in (made, other)]
    assert gap.value == pytest.approx(own[0] - own[1], rel=1e-6)
    near = (made + 0.01 * drawn(48, 2)).astype(np.float32)
    gap, alone = grouped_kid_gap(real, made, near, names), grouped_kid(real, made, names)
    assert gap.high - gap.low < 0.2 * (alone.high - alone.low)


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="two groups"):
        grouped_kid(drawn(4, 0), drawn(4, 1), [1, 1, 1, 1])
    with pytest.raises(ValueError, match="two groups"):
        grouped_kid(drawn(4, 0), drawn(4, 1), [1, 1, 1, 1], [1, 1, 2, 2])
