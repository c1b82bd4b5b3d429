"""Filled canvases: what is valid well around stays, the rest takes the colours of its own class."""

import numpy as np
import pytest

from zeuxis.storage.classes import VOID
from zeuxis.synth.elision import Elided
from zeuxis.synth.filling import HIDDEN, MARGIN, filled, shown

SIZE = (37, 50)
SKY, TREE, POLE = 3, 7, 9
COLOURS = {SKY: (250, 240, 230), TREE: (10, 60, 20), POLE: (90, 100, 110)}


def scene(seed, valid_share=0.6):
    """A layout of three classes, each of one colour, and which pixels of the canvas are valid; the others are white."""
    random = np.random.default_rng(seed)
    layout = np.full(SIZE, SKY, np.uint16)
    layout[18:] = TREE
    layout[5:30, 20:23] = POLE
    image = np.full((*SIZE, 3), 255, np.uint8)
    valid = random.random(SIZE) < valid_share
    for class_id, colour in COLOURS.items():
        image[(layout == class_id) & valid] = colour
    return image, valid, layout


def brute(colours, counts):
    """The same means by pull and push, one cell after the other."""
    rows, cols = counts.shape
    if rows == cols == 1:
        return colours.astype(np.float64)
    height, width = -(-rows // 2), -(-cols // 2)
    coarse, share = np.zeros((height, width, 3)), np.zeros((height, width))
    for r, c in np.ndindex(height, width):
        own, own_colours = counts[2 * r : 2 * r + 2, 2 * c : 2 * c + 2], colours[2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
        share[r, c] = own.mean()
        if own.sum():
            coarse[r, c] = (own[..., None] * own_colours).sum((0, 1)) / own.sum()
    coarse = brute(coarse, share)
    found = np.zeros((rows, cols, 3))
    for r, c in np.ndindex(rows, cols):
        around = np.zeros(3)
        for dr, by_row in ((0, 0.75), (2 * (r % 2) - 1, 0.25)):
            for dc, by_col in ((0, 0.75), (2 * (c % 2) - 1, 0.25)):
                at = min(max(r // 2 + dr, 0), height - 1), min(max(c // 2 + dc, 0), width - 1)
                around += by_row * by_col * coarse[at]
        found[r, c] = counts[r, c] * colours[r, c] + (1 - counts[r, c]) * around
    return found


@pytest.mark.parametrize("seed", range(3))
def test_each_class_is_filled_with_its_own_colours_alone(seed):
    image, valid, layout = scene(seed)
    found, same = filled(Elided(image, valid), layout)
    assert same is valid
    for class_id, colour in COLOURS.items():
        assert (found[layout == class_id] == colour).all()


@pytest.mark.parametrize("seed", range(3))
def test_means_are_those_of_pull_and_push(seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*SIZE, 3), np.uint8)
    valid = random.random(SIZE) < 0.3
    valid[10:20, 10:30] = True
    found, _ = filled(Elided(image, valid), np.zeros(SIZE, np.uint16))
    share = shown(valid)[..., None]
    expected = share * image + (1 - share) * brute(image.astype(np.float64), np.maximum(share[..., 0], HIDDEN) * valid)
    assert 0 < (share == 1).sum() < (share > 0).sum()
    assert np.abs(found - expected).max() <= 0.51


def test_what_is_valid_well_around_is_untouched_and_lone_pixels_are_not_shown():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*SIZE, 3), np.uint8)
    valid = np.zeros(SIZE, bool)
    valid[:, 25:] = True
    valid[10, 10] = True  # as elision leaves some
    layout = np.zeros(SIZE, np.uint16)
    found, _ = filled(Elided(image, valid), layout)
    inner = slice(25 + 2 * MARGIN, None)
    assert np.array_equal(found[:, inner], image[:, inner])
    assert shown(valid)[10, 10] == 0
    other = image.copy()
    other[10, 10] = image[10, 10] ^ 128
    assert np.abs(filled(Elided(other, valid), layout).image[10, 10].astype(int) - found[10, 10]).max() < 60


def test_what_invalid_pixels_show_is_not_looked_at():
    image, valid, layout = scene(0)
    other = image.copy()
    other[~valid] = 0
    assert np.array_equal(filled(Elided(image, valid), layout).image, filled(Elided(other, valid), layout).image)


def test_classes_without_a_valid_pixel_take_the_colours_around():
    image, valid, layout = scene(0, 1)
    layout[8:12, 40:44] = VOID
    valid[8:12, 40:44] = False
    found, _ = filled(Elided(image, valid), layout)
    sky = np.array(COLOURS[SKY])
    assert (np.abs(found[8:12, 40:44] - sky) < np.abs(np.array(COLOURS[TREE]) - sky) / 2).all()


def test_a_canvas_that_is_all_there_stays():
    image, _, layout = scene(0)
    canvas = Elided(image, np.ones(SIZE, bool))
    assert filled(canvas, layout) is canvas


def test_a_canvas_of_which_nothing_is_there_has_the_usual_colours():
    image, _, layout = scene(0)
    usual = {SKY: np.array([200.4, 210, 220], np.float32), TREE: np.array([1, 2, 3], np.float32)}
    found, valid = filled(Elided(image, np.zeros(SIZE, bool)), layout, usual)
    assert not valid.any()
    for class_id, colour in ((SKY, (200, 210, 220)), (TREE, (1, 2, 3)), (POLE, (128, 128, 128))):
        assert (found[layout == class_id] == colour).all()
