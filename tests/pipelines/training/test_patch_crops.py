"""Squares drawn about pictures: what is kept, where they lie, and which boxes are in them."""

from __future__ import annotations

import numpy as np
import pytest

from zeuxis.pipelines.training.patch_crops import (
    GREY,
    LARGEST,
    SHIFT,
    SMALLEST,
    Square,
    boxes_inside,
    drawn_square,
    with_room,
)
from zeuxis.pipelines.training.patch_pictures import squeezed


def test_what_is_about_a_window_is_kept_as_far_as_the_photograph_goes():
    photograph = np.random.default_rng(0).integers(0, 100, (120, 100, 3), np.uint8)
    pixels, whole = with_room(photograph, (40, 10, 80, 50), 40)  # pixel by pixel: room of 10 about it
    assert (pixels.shape, whole) == ((60, 60, 3), (0, 0, 60, 60))
    assert np.array_equal(pixels, photograph[30:90, 0:60])
    pixels, whole = with_room(photograph, (0, 58, 40, 98), 40)
    assert whole == (10, 0, 60, 52)
    assert np.array_equal(pixels[10:, :52], photograph[:50, 48:])
    assert (pixels[:10] == GREY).all()
    assert (pixels[:, 52:] == GREY).all()
    pixels, whole = with_room(photograph, (40, 10, 80, 50), 20)
    assert np.array_equal(pixels[5:25, 5:25], squeezed(photograph[40:80, 10:50], 20)), "the window is in the middle"


def test_squares_differ_in_scale_and_place_and_stay_in_what_is_kept():
    random, picture = np.random.default_rng(0), Square(32, 32, 128)
    wholes = ((0, 0, 192, 192), (0, 10, 160, 192), (32, 32, 160, 160))
    for whole in wholes:
        assert drawn_square(whole, picture, 0.0, random) == picture
        drawn = [drawn_square(whole, picture, 1.0, random) for _ in range(300)]
        for each in drawn:
            assert whole[0] <= each.top <= each.top + each.side <= whole[2]
            assert whole[1] <= each.left <= each.left + each.side <= whole[3]
        sides = np.array([each.side for each in drawn]) / 128
        largest = min(LARGEST, min(whole[2] - whole[0], whole[3] - whole[1]) / 128)
        assert sides.min() == pytest.approx(SMALLEST, abs=0.02)
        assert sides.max() == pytest.approx(largest, abs=0.02)
    middles = [drawn_square(wholes[0], picture, 1.0, random) for _ in range(300)]
    shifts = np.array([(each.top + each.side / 2 - 96) / 128 for each in middles])
    assert shifts.max() == pytest.approx(SHIFT, abs=0.02)
    assert shifts.min() == pytest.approx(-SHIFT, abs=0.02)
    half = np.array([drawn_square(wholes[0], picture, 0.5, random).side / 128 for _ in range(300)])
    assert half.min() == pytest.approx((1 + SMALLEST) / 2, abs=0.02)


def test_boxes_that_are_more_than_half_in_a_square_are_cut_off_and_scaled():
    square = Square(20, 40, 80)
    boxes = np.array([[20, 40, 60, 120], [10, 60, 40, 80], [0, 60, 40, 80], [90, 110, 110, 124], [0, 0, 10, 10]])
    found = boxes_inside(boxes.astype(np.int32), square, 40)
    assert found.tolist() == [[0, 0, 20, 40], [0, 10, 10, 20]], "half of the third is outside, and more of the rest"
    assert found.dtype == np.int32
    assert boxes_inside(np.array([[20, 40, 21, 41]], np.int32), square, 8).tolist() == [[0, 0, 1, 1]], "never empty"
