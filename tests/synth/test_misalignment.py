"""Misalignment: the matrix says where pixels went, draws stay within the settings, nothing is lost or let in."""

import math

import numpy as np
import pytest

from zeuxis.storage.errors import InputError
from zeuxis.synth.misalignment import LEAST_SHARE, Misalignment, drawn, misaligned


def segment(size=(60, 80), box=(20, 25, 45, 60)):
    """A smooth photograph and a block in it."""
    rows, cols = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows * 3, cols * 3, rows + cols], axis=2).astype(np.uint8)
    mask = np.zeros(size, bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    return image, mask


@pytest.mark.parametrize("seed", range(10))
def test_the_matrix_says_where_each_pixel_went(seed):
    image, mask = segment()
    moved = misaligned(image, mask, Misalignment(0.3, 0.3, 20, 0, 0), np.random.default_rng(seed))
    linear, shift = np.array(moved.matrix)[:, :2], np.array(moved.matrix)[:, 2]
    i, j = np.nonzero(moved.mask)
    before = np.linalg.solve(linear, (np.stack([j, i]) + 0.5) - shift[:, None]) - 0.5
    inner = (before > [[26], [21]]).all(axis=0) & (before < [[58], [43]]).all(axis=0)
    assert inner.sum() > 200
    x, y = before[:, inner]
    expected = np.stack([y * 3, x * 3, x + y], axis=1)
    assert np.abs(moved.image[i[inner], j[inner]] - expected).max() <= 1
    assert (moved.image[~moved.mask] == 0).all()


def test_no_colour_enters_from_outside_the_segment():
    image, mask = segment()
    image[mask], image[~mask] = 100, 255
    moved = misaligned(image, mask, Misalignment(0.3, 0.3, 20, 0.2, 1), np.random.default_rng(0))
    assert (moved.image[moved.mask] == 100).all()


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


def test_cropping_cuts_and_enough_is_left():
    image, mask = segment()
    settings = Misalignment(0, 0, 0, 0.3, 1)
    areas = [misaligned(image, mask, settings, np.random.default_rng(seed)).mask.sum() for seed in range(30)]
    assert min(areas) >= LEAST_SHARE * mask.sum()
    assert max(areas) < mask.sum()
    assert len(set(areas)) > 10


def test_a_segment_of_one_pixel_stays_one():
    image, mask = segment(box=(0, 0, 1, 1))
    for seed in range(10):
        assert misaligned(image, mask, Misalignment(), np.random.default_rng(seed)).mask.any()


def test_what_would_leave_the_picture_stays_in_it():
    image, mask = segment(box=(0, 0, 5, 5))
    for seed in range(20):
        assert misaligned(image, mask, Misalignment(0, 3, 0), np.random.default_rng(seed)).mask.any()


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="crop"):
        Misalignment(crop=0.6)
