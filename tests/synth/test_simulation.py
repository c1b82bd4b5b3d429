"""Simulated canvases: only the photograph's own pixels, only where a stencil lets them through."""

import numpy as np
import pytest

from zeuxis.storage.errors import InputError
from zeuxis.synth.elision import NO_ELISION, Elision
from zeuxis.synth.simulation import Simulation, Stencil, simulate, stencilled
from zeuxis.synth.transform import Origin, Piece, Target, box_fit, identity, warp, warp_mask

SIZE = (40, 50)


def scene(seed):
    """A photograph, its regions, and a random stencil for all but the last."""
    random = np.random.default_rng(seed)
    image = random.integers(1, 255, (*SIZE, 3), np.uint8)
    regions = np.zeros(SIZE, np.uint16)
    regions[:20], regions[20:], regions[10:30, 10:25], regions[5:12, 30:40] = 1, 2, 3, 4
    regions[:3, :5] = 0
    stencils = {}
    for region in (1, 2, 3):
        top, left = random.integers(0, 15, 2)
        bottom, right = top + random.integers(10, 25), left + random.integers(10, 30)
        stencils[region] = Stencil((top, left, bottom, right), random.random((bottom - top, right - left)) < 0.8)
    return image, regions, stencils


def run(seed, settings, colours=None, things=(False, False, False, True, True)):
    image, regions, stencils = scene(seed)
    return simulate(image, regions, stencils, colours or {}, np.array(things), settings, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_seen_is_the_photograph_through_the_stencil_of_its_own_segment(seed):
    image, regions, stencils = scene(seed)
    canvas, valid = run(seed, Simulation(elision=NO_ELISION))
    expected = np.zeros(SIZE, bool)
    for region, stencil in stencils.items():
        whole = np.zeros(SIZE, bool)
        top, left, bottom, right = stencil.box
        whole[top:bottom, left:right] = stencil.mask
        expected |= whole & (regions == region)
    assert np.array_equal(valid, expected)
    assert np.array_equal(canvas, image * expected[..., None])


@pytest.mark.parametrize("seed", range(6))
def test_invalid_pixels_are_white_or_black_and_valid_ones_the_photographs(seed):
    image, regions, stencils = scene(seed)
    canvas, valid = run(seed, Simulation(elision=Elision(0.8, 0.05, 0.05)))
    seen = stencilled(regions, stencils)
    assert np.array_equal(canvas[valid], image[valid])
    assert (seen[valid] > 0).all()
    assert set(np.unique(canvas[~valid])) == {0, 255}
    assert (canvas[seen == 0] == 0).all()
    assert (canvas[~valid].min(axis=1) == canvas[~valid].max(axis=1)).all()


def test_a_segment_without_a_stencil_is_missing():
    _, regions, _ = scene(0)
    canvas, valid = run(0, Simulation(elision=NO_ELISION))
    assert not valid[regions == 4].any()
    assert (canvas[regions == 4] == 0).all()


@pytest.mark.parametrize("transfer", ["monge-kantorovich", "reinhard"])
def test_colours_change_in_the_chosen_segments_alone_and_towards_the_reference(transfer):
    image, regions, stencils = scene(1)
    reference = np.random.default_rng(2).integers(100, 140, (500, 3), np.uint8)
    canvas, valid = run(1, Simulation(transfer=transfer, elision=NO_ELISION), {2: reference})
    seen = stencilled(regions, stencils)
    kept = valid & (seen != 2)
    assert np.array_equal(canvas[kept], image[kept])
    moved = canvas[seen == 2].astype(float)
    assert np.abs(moved.mean(axis=0) - reference.mean(axis=0)).max() < 8
    assert moved.std() < image[seen == 2].std() / 2


@pytest.mark.parametrize("seed", range(30))
def test_a_mask_placed_alone_lies_where_it_lies_with_its_pixels(seed):
    random = np.random.default_rng(seed)
    rows, cols = random.integers(1, 120, 2)
    mask = random.random((rows, cols)) < (0.6 if seed % 2 else 1)
    top, left = random.uniform(-0.2, 0.8, 2)
    place = top, left, top + random.uniform(0.02, 0.6), left + random.uniform(0.02, 0.6)
    box = (3, 4, 3 + int(random.integers(1, 30)), 4 + int(random.integers(1, 40)))
    target = Target(box, np.ones((box[2] - box[0], box[3] - box[1]), bool))
    piece = Piece(1, 0, "sky", np.zeros((rows, cols, 3), np.uint8), mask, place, target, Origin("a", "b", "c"))
    for transform in (identity(piece, SIZE), box_fit(piece)):
        where, alone = warp_mask(piece, transform, SIZE)
        warped = warp(piece, transform, SIZE)
        assert where == warped.box
        assert np.array_equal(alone, warped.mask)


@pytest.mark.parametrize("wrong", [{"transfer": "magic"}, {"colour_share": 2}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Simulation(**wrong)
