"""Elision: pixel for pixel what a naive reading of the definition says, drawn at the stated rate."""

import itertools

import numpy as np
import pytest

from zeuxis.storage.errors import InputError
from zeuxis.synth.elision import NO_ELISION, Elision, elide


def scene(seed, size=(14, 17), pieces=5):
    """Random blocks of pieces over each other, some of nothing, and which of them are things."""
    random = np.random.default_rng(seed)
    provenance = np.zeros(size, np.uint16)
    for _ in range(7):
        top, left = random.integers(0, size[0] - 1), random.integers(0, size[1] - 1)
        bottom, right = top + random.integers(1, 9), left + random.integers(1, 9)
        provenance[top:bottom, left:right] = random.integers(0, pieces + 1)
    things = np.append(False, random.random(pieces) < 0.4)
    return random.integers(1, 255, (*size, 3), np.uint8), provenance, things


def naive_bands(provenance, things, inside, outside):
    """Pixels near their own segment's visible boundary, and those outside every thing and near one, by all pairs."""
    rows, cols = provenance.shape
    pixels = list(itertools.product(range(rows), range(cols)))
    boundary = [
        (i, j)
        for i, j in pixels
        for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
        if 0 <= k < rows and 0 <= m < cols and provenance[k, m] != provenance[i, j]
    ]
    white, black = np.zeros((rows, cols), bool), np.zeros((rows, cols), bool)
    for i, j in pixels:
        near = [np.hypot(i - k, j - m) for k, m in boundary if provenance[k, m] == provenance[i, j]]
        white[i, j] = provenance[i, j] > 0 and bool(near) and min(near) + 0.5 <= inside + 1e-6
        to_thing = [np.hypot(i - k, j - m) for k, m in pixels if things[provenance[k, m]]]
        is_thing = things[provenance[i, j]]
        black[i, j] = not is_thing and bool(to_thing) and min(to_thing) - 0.5 <= outside + 1e-6
    return white, black


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("inside", "outside"), [(2.6, 1.9), (0.4, 0.0), (5.0, 3.2)])
def test_bands_are_those_of_a_naive_reading(seed, inside, outside):
    image, provenance, things = scene(seed)
    rows = len(image)
    settings = Elision(1.0, inside / rows, outside / rows)
    elided, valid = elide(image, provenance, things, settings, np.random.default_rng(0))
    white, black = naive_bands(provenance, things, inside, outside)
    black |= provenance == 0
    assert np.array_equal(valid, ~(white | black))
    assert (elided[black] == 0).all()
    assert (elided[white & ~black] == 255).all()
    assert np.array_equal(elided[valid], image[valid])


def test_interior_pixels_are_drawn_singly_at_the_stated_rate():
    image, provenance, things = np.full((200, 200, 3), 9, np.uint8), np.ones((200, 200), int), np.array([False, False])
    provenance[:, 100:] = 2
    settings = Elision(0.8, 0.05, 0.05)
    things = np.array([False, False, False])
    _, valid = elide(image, provenance, things, settings, np.random.default_rng(1))
    band = ~valid[:, 90:110]
    assert valid[:, :90].all()
    assert valid[:, 110:].all()
    assert 0.77 < band.mean() < 0.83
    assert 0.6 < (band[1:] == band[:-1]).mean() < 0.76  # 0.8 * 0.8 + 0.2 * 0.2 where pixels know nothing of each other


def test_a_thing_beside_a_thing_stays():
    provenance = np.ones((40, 40), int)
    provenance[10:30, 10:20] = 2
    provenance[10:30, 20:30] = 3
    things = np.array([False, False, True, True])
    image = np.full((40, 40, 3), 7, np.uint8)
    _, valid = elide(image, provenance, things, Elision(0.0, 0.05, 0.1), np.random.default_rng(0))
    assert valid[10:30, 10:30].all()
    assert not valid[6:10, 10:30].any()
    assert not valid[10:30, 30:34].any()


def test_the_edge_of_the_canvas_is_no_boundary():
    image, provenance = np.full((20, 20, 3), 7, np.uint8), np.ones((20, 20), int)
    _, valid = elide(image, provenance, np.array([False, True]), Elision(1.0, 0.2, 0.2), np.random.default_rng(0))
    assert valid.all()


def test_equal_seeds_elide_equal_places_whatever_else_is_on_the_canvas():
    image, provenance, things = scene(3, (40, 40))
    other = provenance.copy()
    other[:10, :10] = 0
    settings = Elision(0.5, 0.3, 0.0)
    _, one = elide(image, provenance, things, settings, np.random.default_rng(5))
    _, two = elide(image, other, things, settings, np.random.default_rng(5))
    far = np.s_[25:, 25:]
    assert np.array_equal(one[far], two[far])


def test_nothing_is_elided_where_it_is_off():
    image, provenance, things = scene(1)
    elided, valid = elide(image, provenance, things, NO_ELISION, np.random.default_rng(0))
    assert np.array_equal(valid, provenance > 0)
    assert np.array_equal(elided, image * valid[..., None])


@pytest.mark.parametrize("wrong", [{"interior": 1.2}, {"interior_width": -0.1}, {"exterior_width": float("nan")}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Elision(**wrong)
