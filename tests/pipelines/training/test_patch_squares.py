"""Patches as squares: stretched, or with their shapes and sizes beside one another."""

from __future__ import annotations

import cv2
import numpy as np

from zeuxis.pipelines.training.patch_squares import GREY, aspects_of, in_squares

R = 64


def white(rows: int, cols: int) -> np.ndarray:
    return np.full((rows, cols, 3), 255, np.uint8)


def shown(square: np.ndarray) -> tuple[int, int, int, int]:
    """The box of what is not grey."""
    rows, cols = (np.flatnonzero((square != GREY).any(axis=(axis, 2))) for axis in (1, 0))
    return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1


def test_patches_that_keep_their_shapes_are_enlarged_alike_in_the_middle_of_grey():
    found = in_squares([white(20, 40), white(10, 10), white(40, 8)], R, "kept")
    assert [shown(each) for each in found] == [(16, 0, 48, 64), (24, 24, 40, 40), (0, 25, 64, 38)]
    for square, (top, left, bottom, right) in zip(found, map(shown, found), strict=True):
        assert (square[top:bottom, left:right] == 255).all()
        assert (square == 255).sum() == 3 * (bottom - top) * (right - left)
    again = in_squares([white(60, 120), white(30, 30)], R, "kept")
    assert [shown(each) for each in again] == [shown(each) for each in found[:2]], "whatever their common scale"
    assert shown(in_squares([white(10, 10)], R, "kept")[0]) == (0, 0, R, R), "a patch alone fills its square"
    sliver = in_squares([white(1, 400), white(300, 2)], R, "kept")
    assert [shown(each)[2] - shown(each)[0] for each in sliver] == [1, 48]


def test_stretched_patches_fill_their_squares_and_their_shapes_are_lost():
    patch = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    found = in_squares([patch, white(10, 10)], R, "stretched")
    np.testing.assert_array_equal(found[0], cv2.resize(patch, (R, R), interpolation=cv2.INTER_CUBIC))
    assert (found[1] == 255).all()
    assert aspects_of([patch], "stretched") is None
    assert aspects_of([patch, white(30, 10)], "kept") == [0.5, 3.0]
    assert in_squares([], R, "kept").shape == (0, R, R, 3)
