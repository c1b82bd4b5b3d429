"""Vivid targets: details, lightness and colours grow, edges get no halos, greys stay grey."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from zeuxis.synth.vivid import vivid


def lab(image):
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def test_details_lightness_and_colours_grow():
    random = np.random.default_rng(0)
    image = np.full((64, 96, 3), (120, 90, 70), np.uint8)
    texture = random.integers(-6, 7, (64, 96, 1))
    image = (image + texture).astype(np.uint8)
    before, after = lab(image), lab(vivid(image))
    assert after[..., 0].std() > 1.2 * before[..., 0].std()
    assert after[..., 0].mean() > before[..., 0].mean() + 4
    colour = [np.hypot(*each[..., 1:].mean((0, 1))) for each in (before, after)]
    assert colour[1] == pytest.approx(1.1 * colour[0], rel=0.03)


def test_an_edge_gets_no_halo():
    image = np.full((48, 96, 3), 60, np.uint8)
    image[:, 48:] = 190
    made = vivid(image).astype(int)
    for side in (made[:, :48], made[:, 48:]):
        assert np.ptp(side) <= 3


@pytest.mark.parametrize("level", [0, 128, 255])
def test_greys_stay_grey_and_ends_stay_ends(level):
    made = vivid(np.full((8, 9, 3), level, np.uint8))
    assert made.shape == (8, 9, 3)
    assert made.dtype == np.uint8
    assert np.ptp(made.astype(int), axis=2).max() <= 1
    if level in (0, 255):
        assert np.all(made == level)
