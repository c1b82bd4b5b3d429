"""Fitting and warping: the overlap never falls, masks follow area coverage, colours stay inside the mask."""

import math

import numpy as np
import pytest
from PIL import Image

from zeuxis.synth.transform import (
    Origin,
    Piece,
    Target,
    Transform,
    box_fit,
    fit,
    fit_and_overlap,
    identity,
    mask_iou,
    warp,
)


def make_piece(mask, place=(0.0, 0.0, 1.0, 1.0), target=None, pixels=None, seed=0):
    if pixels is None:
        pixels = np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3), np.uint8)
    target = target or Target((0, 0, 1, 1), np.ones((1, 1), bool))
    return Piece(7, 3, "car", pixels, mask, place, target, Origin("a", "scenes", "a.png"))


def blob(rng, rows, cols):
    """A random union of rectangles that touches every side of its box."""
    mask = np.zeros((rows, cols), bool)
    mask[rows // 2, :] = mask[:, cols // 2] = True
    for _ in range(6):
        top, left = rng.integers(0, rows), rng.integers(0, cols)
        mask[top : top + rng.integers(1, rows + 1), left : left + rng.integers(1, cols + 1)] = True
    return mask


def random_target(rng, size):
    rows, cols = rng.integers(3, 20, 2)
    top, left = rng.integers(0, size[0] - rows + 1), rng.integers(0, size[1] - cols + 1)
    return Target((top, left, top + rows, left + cols), blob(rng, rows, cols))


def scaled(scale_y, scale_x, y, x):
    return Transform("test", ((scale_x, 0.0, x), (0.0, scale_y, y)))


def covered_area(mask, transform, size):
    """Share of each canvas pixel under the mask, and mean colour weights, one source pixel after the other."""
    (sx, _, x), (_, sy, y) = transform.matrix
    shares = np.zeros((*size, *mask.shape))
    for row in range(size[0]):
        for col in range(size[1]):
            for i in range(mask.shape[0]):
                for j in range(mask.shape[1]):
                    tall = min(row + 1, y + (i + 1) * sy) - max(row, y + i * sy)
                    wide = min(col + 1, x + (j + 1) * sx) - max(col, x + j * sx)
                    shares[row, col, i, j] = max(tall, 0) * max(wide, 0) * mask[i, j]
    return shares


def on_canvas(warped, size):
    pixels, mask = np.zeros((*size, 3), np.uint8), np.zeros(size, bool)
    top, left, bottom, right = warped.box
    pixels[top:bottom, left:right], mask[top:bottom, left:right] = warped.pixels, warped.mask
    return pixels, mask


@pytest.mark.parametrize("seed", range(20))
def test_identity_at_the_same_resolution_returns_the_bytes(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(30, 700, 2))
    rows, cols = rng.integers(1, 30, 2)
    top, left = rng.integers(0, size[0] - rows + 1), rng.integers(0, size[1] - cols + 1)
    mask = rng.random((rows, cols)) < 0.7
    place = (top / size[0], left / size[1], (top + rows) / size[0], (left + cols) / size[1])
    piece = make_piece(mask, place)
    warped = warp(piece, identity(piece, size), size)
    assert warped.box == (top, left, top + rows, left + cols)
    np.testing.assert_array_equal(warped.mask, mask)
    np.testing.assert_array_equal(warped.pixels[mask], piece.pixels[mask])
    assert not warped.pixels[~mask].any()


@pytest.mark.parametrize("seed", range(40))
def test_fit_takes_the_larger_overlap_and_identity_when_even(seed):
    rng = np.random.default_rng(seed)
    size = (40, 50)
    place = np.sort(rng.random((2, 2)), axis=0).ravel()
    piece = make_piece(blob(rng, *rng.integers(2, 40, 2)), tuple(place), random_target(rng, size))
    overlap = {}
    for transform in (identity(piece, size), box_fit(piece)):
        _, mask = on_canvas(warp(piece, transform, size), size)
        wanted = np.zeros(size, bool)
        top, left, bottom, right = piece.target.box
        wanted[top:bottom, left:right] = piece.target.mask
        overlap[transform.name] = (mask & wanted).sum() / max((mask | wanted).sum(), 1)
    chosen, covered = fit_and_overlap(piece, size)
    assert chosen == fit(piece, size)
    assert chosen.name == ("box" if overlap["box"] > overlap["identity"] else "identity")
    warped = warp(piece, chosen, size)
    assert covered == mask_iou(piece, warped.box, warped.mask) == max(overlap.values())


def test_fit_chooses_either():
    square, size = np.ones((10, 10), bool), (40, 40)
    target = Target((5, 5, 15, 15), square)
    assert fit(make_piece(square, (0.125, 0.125, 0.375, 0.375), target), size).name == "identity"
    assert fit(make_piece(square, (0.5, 0.5, 0.75, 0.75), target), size).name == "box"


def test_box_fit_covers_the_target_box_exactly():
    for shape in ((30, 50), (4, 5), (8, 12)):
        piece = make_piece(np.ones(shape, bool), target=Target((3, 4, 11, 16), np.ones((8, 12), bool)))
        warped = warp(piece, box_fit(piece), (20, 20))
        assert warped.box == (3, 4, 11, 16)
        assert warped.mask.all()


@pytest.mark.parametrize("seed", range(8))
def test_shrinking_averages_over_the_area_of_each_pixel(seed):
    rng = np.random.default_rng(seed)
    size, mask = (9, 10), blob(rng, 13, 11)
    transform = scaled(*rng.uniform(0.15, 0.99, 2), *rng.uniform(-2, 4, 2))
    piece = make_piece(mask, seed=seed)
    shares = covered_area(mask, transform, size)
    area = shares.sum(axis=(2, 3))
    pixels, found = on_canvas(warp(piece, transform, size), size)
    clear = np.abs(area - 0.5) > 1e-4
    np.testing.assert_array_equal(found[clear], area[clear] >= 0.5)
    mean = np.einsum("rcij,ijk->rck", shares, piece.pixels) / np.maximum(area, 1e-9)[..., None]
    assert np.abs(mean - pixels)[found].max() <= 0.51


def test_a_mask_owns_a_pixel_that_it_covers_by_half():
    piece = make_piece(np.ones((2, 4), bool))
    mask = on_canvas(warp(piece, scaled(0.5, 0.5, 0.5, 1.5), (4, 6)), (4, 6))[1]
    expected = covered_area(piece.mask, scaled(0.5, 0.5, 0.5, 1.5), (4, 6)).sum(axis=(2, 3)) >= 0.5
    np.testing.assert_array_equal(mask, expected)
    half = on_canvas(warp(piece, scaled(0.5, 0.5, 0.0, 1.5), (4, 6)), (4, 6))[1]
    np.testing.assert_array_equal(np.argwhere(half), [[0, 1], [0, 2], [0, 3]])


def test_enlarging_interpolates_as_pillow_does():
    rng = np.random.default_rng(1)
    pixels = rng.integers(60, 200, (12, 9, 3), np.uint8)
    piece = make_piece(np.ones((12, 9), bool), pixels=pixels)
    warped = warp(piece, identity(piece, (30, 40)), (30, 40))
    channels = [Image.fromarray(pixels[..., k].astype(np.float32)) for k in range(3)]
    expected = np.stack([np.array(c.resize((40, 30), Image.Resampling.BICUBIC)) for c in channels], axis=2)
    assert warped.mask.all()
    inner = np.s_[8:-8, 12:-12]  # Pillow treats the border differently
    assert np.abs(expected[inner] - warped.pixels[inner]).max() <= 0.51


def test_enlarged_masks_keep_their_shape():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 1:7] = True
    warped = warp(make_piece(mask), scaled(5, 5, 0, 0), (40, 40))
    expected = np.kron(mask, np.ones((5, 5), bool))
    assert (warped.mask != expected).sum() <= 4 * 3  # rounded corners, straight edges
    assert warped.mask[10, 20]
    assert not warped.mask[9, 20]


def test_an_enlarged_rectangle_owns_the_pixels_centred_in_it():
    piece = make_piece(np.ones((4, 5), bool))
    for shift in (0.2, 0.49, 0.51, 0.9):
        _, mask = on_canvas(warp(piece, scaled(2.3, 1.6, 3 + shift, 2 - shift), (20, 20)), (20, 20))
        centres = np.arange(20) + 0.5
        rows = (centres > 3 + shift) & (centres < 3 + shift + 4 * 2.3)
        cols = (centres > 2 - shift) & (centres < 2 - shift + 5 * 1.6)
        np.testing.assert_array_equal(mask, rows[:, None] & cols)


TURNED = Transform(
    "turned",
    (
        (0.6 * math.cos(0.4), -0.6 * math.sin(0.4), 14.3),
        (0.6 * math.sin(0.4), 0.6 * math.cos(0.4), 3.2),
    ),
)
MOVES = [scaled(0.37, 0.81, 2.2, 3.7), scaled(2.3, 1.4, 1.1, -4.4), scaled(1, 1, 0.4, 0.6), TURNED]


@pytest.mark.parametrize("transform", MOVES)
def test_colours_do_not_darken_where_the_mask_ends(transform):
    rng = np.random.default_rng(3)
    mask = blob(rng, 31, 37)
    pixels = np.where(mask[..., None], np.uint8([200, 90, 255]), np.uint8(0))
    warped = warp(make_piece(mask, pixels=pixels), transform, (60, 60))
    assert warped.mask.sum() > 50
    assert (warped.pixels[warped.mask] == [200, 90, 255]).all()
    assert not warped.pixels[~warped.mask].any()


@pytest.mark.parametrize("transform", [*MOVES, scaled(1, 1, 2, 3)])
def test_what_lies_outside_the_mask_is_never_used(transform):
    mask = blob(np.random.default_rng(4), 31, 37)
    noisy = make_piece(mask)
    clean = make_piece(mask, pixels=noisy.pixels * mask[..., None])
    for one, other in zip(warp(noisy, transform, (60, 60)), warp(clean, transform, (60, 60)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_quarter_turn_moves_pixels_whole():
    mask = blob(np.random.default_rng(5), 9, 14)
    piece = make_piece(mask)
    warped = warp(piece, Transform("turn", ((0.0, -1.0, 12.0), (1.0, 0.0, 5.0))), (30, 30))
    assert warped.box == (5, 3, 19, 12)
    np.testing.assert_array_equal(warped.mask, np.rot90(mask, -1))
    np.testing.assert_array_equal(warped.pixels, np.rot90(piece.pixels * mask[..., None], -1))


def test_turning_and_shrinking_keeps_the_area():
    mask = blob(np.random.default_rng(6), 80, 90)
    (a, b, _), (c, d, _) = TURNED.matrix
    warped = warp(make_piece(mask), Transform("turn", ((a, b, 40.0), (c, d, 1.0))), (120, 120))
    assert warped.mask.sum() == pytest.approx(0.36 * mask.sum(), rel=0.03)


def test_turning_and_shrinking_skips_no_pixel():
    stripes = np.zeros((120, 120, 3), np.uint8)
    stripes[:, ::2] = 200
    (a, b, _), (c, d, _) = np.array(TURNED.matrix) / 3
    piece = make_piece(np.ones((120, 120), bool), pixels=stripes)
    warped = warp(piece, Transform("turn", ((a, b, 20.0), (c, d, 1.0))), (60, 60))
    assert warped.mask.sum() > 400
    assert np.abs(warped.pixels[warped.mask].astype(int) - 100).max() < 40  # not 0, not 200


@pytest.mark.parametrize("transform", [*MOVES, scaled(1, 1, 2, 3)])
def test_the_canvas_clips(transform):
    piece = make_piece(blob(np.random.default_rng(7), 31, 37))
    (a, b, x), (c, d, y) = transform.matrix
    free = Transform("free", ((a, b, x + 100), (c, d, y + 100)))
    pixels, mask = on_canvas(warp(piece, free, (300, 300)), (300, 300))
    clipped = on_canvas(warp(piece, transform, (12, 17)), (12, 17))
    np.testing.assert_array_equal(clipped[1], mask[100:112, 100:117])
    # far from the origin, rounding may move a colour by one level
    assert np.abs(clipped[0].astype(int) - pixels[100:112, 100:117]).max() <= 1


def test_a_piece_off_the_canvas_is_empty():
    piece = make_piece(np.ones((5, 5), bool))
    for transform in (scaled(1, 1, 50, 0), scaled(0.7, 0.7, 0, -50), scaled(1, 1, -5, 0)):
        warped = warp(piece, transform, (20, 20))
        assert warped.mask.size == 0
        assert mask_iou(piece, warped.box, warped.mask) == 0
