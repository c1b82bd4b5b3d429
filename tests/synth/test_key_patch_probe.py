"""The linear probe: it finds what is linear, nothing where there is nothing, and weighs classes alike."""

from __future__ import annotations

import numpy as np

from zeuxis.synth.key_patches.probe import balanced, balanced_interval, ridge_probe


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
