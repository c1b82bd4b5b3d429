"""Misalignment: draws stay within the settings, and enough of a segment is left."""

import math

import numpy as np
import pytest

from zeuxis.storage.errors import InputError
from zeuxis.synth.misalignment import LEAST_SHARE, Misalignment, cropped, drawn


@pytest.mark.parametrize("seed", range(20))
def test_draws_stay_within_the_settings(seed):
    settings = Misalignment(0.2, 0.1, 8)
    box = 10.0, 20.0, 40.0, 70.0
    (a, b, x), (c, d, y) = drawn(box, settings, np.random.default_rng(seed))
    assert 0.8 <= math.hypot(a, c) <= 1.2
    assert 0.8 <= math.hypot(b, d) <= 1.2
    assert abs(math.degrees(math.atan2(c, a))) <= 8
    assert abs(a * 45 + b * 25 + x - 45) <= 5 + 1e-9
    assert abs(c * 45 + d * 25 + y - 25) <= 3 + 1e-9


def test_cropping_cuts_at_the_sides_and_enough_is_left():
    mask, settings = np.ones((25, 35), bool), Misalignment(0, 0, 0, 0.3, 1)
    areas = []
    for seed in range(30):
        left = cropped(mask, settings, np.random.default_rng(seed))
        rows, cols = np.flatnonzero(left.any(axis=1)), np.flatnonzero(left.any(axis=0))
        areas.append(len(rows) * len(cols))
        assert left.sum() == areas[-1], "a block"
    assert min(areas) >= LEAST_SHARE * mask.sum()
    assert max(areas) < mask.sum()
    assert len(set(areas)) > 10


def test_what_would_lose_too_much_is_not_cropped():
    corner = np.zeros((20, 20), bool)
    corner[0], corner[:, 0] = True, True
    cuts = [cropped(corner, Misalignment(crop=0.45, crop_share=1), np.random.default_rng(seed)) for seed in range(40)]
    left = [cut.sum() for cut in cuts]
    assert corner.sum() in left
    assert min(left) >= LEAST_SHARE * corner.sum()
    one = np.ones((1, 1), bool)
    assert all(cropped(one, Misalignment(crop_share=1), np.random.default_rng(seed)).all() for seed in range(10))


def test_as_many_are_cropped_as_the_settings_say():
    mask, settings = np.ones((25, 35), bool), Misalignment(crop=0.3, crop_share=0.5)
    whole = sum(cropped(mask, settings, np.random.default_rng(seed)).all() for seed in range(200))
    assert 70 < whole < 130


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="crop"):
        Misalignment(crop=0.6)
