"""Coarse layouts hold nothing but what the dense one had, and are filled again."""

import numpy as np
import pytest
import torch

from zeuxis import VOID
from zeuxis.storage.errors import InputError
from zeuxis.synth.coarsening import Coarsening, coarsen, densified, nearest_filled

AS_IT_IS = Coarsening(drop=0, small=0, smooth=0, polygon=0, gap=0)


def street(random):
    """`(48, 64)`: sky, road, three boxes of two classes, one of them within another, a patch of void."""
    layout = np.full((48, 64), 7, np.uint16)
    layout[random.integers(20, 28) :] = 3
    for class_id, row, col in ((5, 2, 4), (9, 4, 30), (5, 26, 34), (VOID, 30, 4)):
        layout[row : row + random.integers(10, 16), col : col + random.integers(12, 24)] = class_id
    layout[8:11, 34:38] = 5
    return layout


def test_a_coarse_layout_never_holds_a_class_that_the_dense_one_has_not():
    for seed in range(30):
        random = np.random.default_rng(seed)
        layout = street(random)
        coarse = coarsen(layout, Coarsening(), random)
        assert set(np.unique(coarse)) <= set(np.unique(layout)) | {VOID}
        assert coarse.shape == layout.shape
        assert coarse.dtype == np.uint16


def test_most_of_what_is_drawn_is_right_and_void_lies_between():
    shares, between = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        layout = street(random)
        coarse = coarsen(layout, Coarsening(), random)
        drawn = (coarse != VOID) & (layout != VOID)
        shares.append(((coarse == layout)[drawn].mean(), drawn.sum() / (layout != VOID).sum()))
        edge = coarse[:, :-1] != coarse[:, 1:]
        between.append(((coarse[:, :-1] == VOID) | (coarse[:, 1:] == VOID))[edge].mean())
    right, drawn = np.mean(shares, axis=0)
    assert np.mean(between) > 0.7
    assert right > 0.9
    assert 0.5 < drawn < 0.95


def test_nothing_changes_where_nothing_is_to_be_coarse():
    layout = street(np.random.default_rng(3))
    layout[layout == VOID] = 3
    assert np.array_equal(coarsen(layout, AS_IT_IS, np.random.default_rng(0)), layout)


def test_what_encloses_more_than_its_own_area_does_not_hide_it():
    layout = np.full((20, 20), 1, np.uint16)
    layout[4:16, 4:16] = 2
    layout[5:15, 5:15] = 3
    assert np.array_equal(coarsen(layout, AS_IT_IS, np.random.default_rng(0)), layout)


def test_components_are_dropped_as_often_as_told_and_small_ones_more():
    layout = np.full((40, 40), 1, np.uint16)
    layout[20:22, 20:22] = 2
    assert (coarsen(layout, Coarsening(drop=1), np.random.default_rng(0)) == VOID).all()
    small = Coarsening(drop=0, small=0.004, smooth=0, polygon=0, gap=0)
    kept = [2 in coarsen(layout, small, np.random.default_rng(seed)) for seed in range(200)]
    assert 0.5 < np.mean(kept) < 0.75  # 4 of the 6.4 pixels at which it would be kept always


def test_a_gap_is_taken_off_inside_but_not_at_the_edge_of_the_picture():
    layout = np.full((40, 40), 1, np.uint16)
    layout[:, 20:] = 2
    coarse = coarsen(layout, Coarsening(drop=0, small=0, smooth=0, polygon=0, gap=0.2), np.random.default_rng(1))
    assert (coarse[:, 19:21] == VOID).all()
    assert (coarse[:, :5] == 1).all()
    assert (coarse[:, -5:] == 2).all()


def test_equal_states_draw_equal_layouts():
    layout = street(np.random.default_rng(0))
    first, again, other = (coarsen(layout, Coarsening(), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_void_takes_the_nearest_class():
    layout = np.full((15, 21), VOID, np.uint16)
    layout[2:4, 3:5], layout[10:14, 15:18] = 4, 8
    known = np.argwhere(layout != VOID)
    filled = nearest_filled(layout)
    for row, col in np.ndindex(layout.shape):
        distances = np.hypot(*(known - (row, col)).T)
        near = {layout[tuple(at)] for at in known[distances < distances.min() + 0.5]}  # the mask of 5 is not exact
        assert filled[row, col] in near
    assert (nearest_filled(np.full((3, 3), VOID, np.uint16)) == VOID).all()


def test_a_dense_layout_is_the_networks_where_the_coarse_one_has_a_class_too():
    def network(coarse):
        assert coarse.shape == (1, 4, 4, 6)
        return torch.nn.functional.one_hot(torch.full((1, 4, 6), 2), 3).movedim(-1, 1).float()

    coarse = np.full((4, 6), 3, np.int64)
    coarse[0] = 1
    assert (densified(network, coarse, 3) == 2).all()


def test_a_share_beyond_one_is_refused():
    with pytest.raises(InputError, match=r"gap.*0..1"):
        Coarsening(gap=1.5)
