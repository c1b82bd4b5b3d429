"""The linear probe: it finds what is linear, nothing where there is nothing, and weighs classes alike; its folds."""

from __future__ import annotations

import numpy as np

from zeuxis.synth.key_patches.probe import FOLDS, balanced, balanced_interval, folds_of, ridge_probe


def test_what_is_linear_is_found_and_noise_is_not():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    middles = random.normal(0, 1, (3, 12))
    rows = middles[labels] + random.normal(0, 0.6, (300, 12))
    found = ridge_probe(rows[:200], labels[:200], rows[200:])
    assert balanced(found == labels[200:], labels[200:]) > 0.9
    noise = random.normal(0, 1, (300, 12))
    guessed = ridge_probe(noise[:200], labels[:200], noise[200:])
    assert balanced(guessed == labels[200:], labels[200:]) < 0.5


def test_scale_and_offset_of_features_do_not_matter():
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 80)
    rows = random.normal(0, 1, (80, 5)) + labels[:, None]
    moved = rows * [1, 10, 100, 1e-3, 5] + [3, -8, 0, 1, 2]
    one, other = (ridge_probe(each[:60], labels[:60], each[60:]) for each in (rows, moved))
    np.testing.assert_array_equal(one, other)


def test_a_common_class_does_not_decide():
    labels = np.array([0] * 90 + [1] * 10)
    right = labels == 0  # always the common one
    assert balanced(right, labels) == 0.5
    held = balanced_interval(np.arange(100) % 2 == 0, labels)
    assert held.value == 0.5
    assert 0.2 < held.low < 0.45 < 0.55 < held.high < 0.8
    random = np.random.default_rng(2)
    rows = random.normal(0, 1, (100, 3)) + 1.5 * labels[:, None]
    found = ridge_probe(rows, labels, rows)
    assert (found[labels == 1] == 1).mean() > 0.7


def test_folds_hold_every_class_in_whatever_order_rows_come_and_never_part_of_a_photograph():
    random = np.random.default_rng(3)
    for labels in (np.arange(100) % 5, np.repeat(np.arange(5), 20), random.integers(0, 3, 100)):
        folds = folds_of(labels)
        counts = np.array([np.bincount(labels[folds == fold], minlength=5) for fold in range(FOLDS)])
        assert np.ptp(counts, axis=0).max() <= 1
    labels = random.permutation(np.repeat(np.arange(4), 60))
    groups = [f"photograph {number}" for number in np.sort(random.integers(0, 40, 240))]
    folds = folds_of(labels, groups)
    assert len(set(zip(groups, folds.tolist(), strict=True))) == len(set(groups)) == 40
    counts = np.array([np.bincount(labels[folds == fold], minlength=4) for fold in range(FOLDS)])
    assert counts.min() >= 9
    assert counts.max() <= 16
    assert sorted(np.bincount(folds_of(labels, ["one"] * 240))) == [48] * FOLDS, "nothing to keep together"


def test_the_ridge_is_chosen_by_folds_with_all_classes():
    """Rows that alternate by as many classes as there are folds: left out one class each, nothing would be right."""
    random = np.random.default_rng(4)
    labels, unseen = np.arange(60) % FOLDS, np.arange(400) % FOLDS
    middles = np.zeros((FOLDS, 58))
    middles[:, :FOLDS] = 2 * np.eye(FOLDS)
    rows, others = (middles[each] + random.normal(0, 1, (len(each), 58)) for each in (labels, unseen))
    assert balanced(ridge_probe(rows, labels, others) == unseen, unseen) > 0.4, "0.2 to 0.33 with next to no ridge"


def test_the_interval_knows_that_rows_of_a_photograph_are_alike():
    random = np.random.default_rng(5)
    of = np.repeat(np.arange(30), 10)
    labels = np.repeat(np.arange(300) % 2, 1)
    right = (random.random(30) < 0.5)[of]
    alone = balanced_interval(right, labels)
    together = balanced_interval(right, labels, [f"{each}" for each in of])
    assert together.value == alone.value == balanced(right, labels)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    few = balanced_interval(np.array([True, False, True]), np.array([0, 1, 1]), ["a", "b", "b"])
    assert (few.low, few.high) == (0.5, 1.0), "of draws without a class, the mean of the other"
