"""What is placed keeps its foot, and is cut by the frame where it was cut before and nowhere else."""

import numpy as np
import pytest

from zeuxis.synth.placing import Layer, placed_at, resized_mask

SIZE = (100, 200)


def layer(top, left, bottom, right, index=0):
    return Layer(
        index, (top, left, bottom, right), np.ones((round(100 * (bottom - top)), round(200 * (right - left))), bool)
    )


@pytest.mark.parametrize(
    ("scale", "box"), [(1.0, (60, 90, 80, 110)), (0.5, (70, 95, 80, 105)), (2.0, (40, 80, 80, 120))]
)
def test_sizes_follow_the_scale_and_the_foot_stays(scale, box):
    placed = placed_at([layer(0.2, 0.1, 0.4, 0.2)], SIZE, foot=0.8, middle=0.5, scale=scale)
    assert placed.layers[0][1] == box
    assert placed.foot == 80


def test_what_is_carried_keeps_its_place_beside_its_carrier():
    pole, sign = layer(0.2, 0.1, 0.6, 0.12), layer(0.1, 0.09, 0.2, 0.15)
    here = placed_at([pole, sign], SIZE, foot=0.6, middle=0.5, mirrored=False)
    there = placed_at([pole, sign], SIZE, foot=0.6, middle=0.5, mirrored=True)
    assert [box for _, box, _ in here.layers] == [(20, 98, 60, 102), (10, 96, 20, 108)]
    assert [box for _, box, _ in there.layers] == [(20, 98, 60, 102), (10, 92, 20, 104)]


@pytest.mark.parametrize(
    "where", [{"foot": 0.15, "middle": 0.5}, {"foot": 0.5, "middle": 0.02}, {"foot": 1.0, "middle": 0.5}]
)
def test_the_frame_cuts_nothing_that_was_whole(where):
    assert placed_at([layer(0.2, 0.1, 0.4, 0.2)], SIZE, **where) is None


def test_what_a_side_cuts_stays_at_that_side_or_the_other_mirrored():
    cut = [layer(0.3, 0.0, 0.7, 0.1)]
    assert placed_at(cut, SIZE, foot=0.6, middle=0.5).layers[0][1][1] == 0
    assert placed_at(cut, SIZE, foot=0.6, middle=0.5, mirrored=True).layers[0][1][3] == 200


def test_what_the_lower_edge_cuts_keeps_foot_and_size():
    placed = placed_at([layer(0.7, 0.4, 1.0, 0.5)], SIZE, foot=0.6, middle=0.3, scale=0.5)
    assert placed.layers[0][1] == (70, 50, 100, 70)


def test_what_the_upper_edge_cuts_must_still_reach_it():
    tall = [layer(0.0, 0.4, 0.7, 0.42)]
    assert placed_at(tall, SIZE, foot=0.8, middle=0.3) is None
    assert placed_at(tall, SIZE, foot=0.6, middle=0.3).layers[0][1][0] == 0


def test_thin_masks_do_not_vanish():
    pole = np.zeros((40, 5), bool)
    pole[:, 2] = True
    assert resized_mask(pole, (20, 2), thin=True).any(axis=1).all()
