"""What is behind objects: the line of the ground goes on, and each side of it is filled with its own kind."""

import numpy as np
import pytest

from tests.streets import PATH, ROAD, SIZE, SKY, THINGS, WALL, street
from zeuxis.synth.background import background, bridge
from zeuxis.synth.grounding import CELLS, learn_terrain

VOID = len(THINGS)
"""Index of void."""
EMPTY = [street(np.random.default_rng(seed), objects=False).astype(np.uint16) for seed in range(6)]


def cells(layouts):
    rows, cols = ((np.arange(n) * 2 + 1) * side // (2 * n) for n, side in zip(CELLS, SIZE, strict=True))
    return np.array([layout[np.ix_(rows, cols)] for layout in layouts], np.uint16)


TERRAIN = learn_terrain(cells(EMPTY), THINGS)


def filled(layout, hidden):
    shown = np.where(hidden, 4, layout).astype(np.uint16)
    return background(shown, hidden, TERRAIN.ground, TERRAIN.prior, TERRAIN.line)


def test_ground_and_what_is_open_are_told_from_the_rest():
    assert np.flatnonzero(TERRAIN.ground).tolist() == [ROAD, PATH]
    assert np.flatnonzero(TERRAIN.open).tolist() == [SKY]


@pytest.mark.parametrize("seed", range(6))
def test_boxes_over_straight_edges_are_filled_as_it_was(seed):
    random, layout = np.random.default_rng(seed), EMPTY[seed]
    hidden = np.zeros(SIZE, bool)
    top, left = random.integers(20, 60), random.integers(5, 90)
    hidden[top : top + 25, left : left + 20] = True
    hidden[:, 120] = False
    found = filled(layout, hidden)
    assert np.array_equal(found[~hidden], layout[~hidden])
    assert (found == layout)[hidden].mean() > 0.9
    stands = np.isin(found, (SKY, WALL))
    assert np.array_equal(stands, np.isin(layout, (SKY, WALL)))  # the line of the ground, exactly


def test_a_line_that_nobody_sees_is_the_banks():
    hidden = np.ones(SIZE, bool)
    hidden[:10], hidden[-4:] = False, False
    found = filled(EMPTY[0], hidden)
    line = np.isin(found, (ROAD, PATH)).argmax(axis=0)
    assert np.abs(line - 46).max() <= 1


def test_void_is_not_spread_and_nothing_is_left_unfilled():
    layout = EMPTY[0].copy()
    layout[:, :20] = VOID
    hidden = np.zeros(SIZE, bool)
    hidden[30:70, 15:40] = True
    assert (filled(layout, hidden)[hidden] < 4).all()


def test_without_any_stuff_all_is_void():
    layout, hidden = np.full(SIZE, VOID, np.uint16), np.zeros(SIZE, bool)
    hidden[5:9, 5:9] = True
    assert (filled(layout, hidden) == VOID).all()


def test_an_object_closes_behind_what_was_in_front_of_it():
    owner = np.zeros((10, 30), np.int32)
    owner[2:8, 3:15], owner[2:8, 17:25], owner[1:9, 15:17] = 7, 8, -1
    class_of = np.array([-1] * 7 + [1, 1, -1])
    assert bridge(owner, -1, class_of, (1, 15, 9, 17), 8).tolist() == [[7, 8]]
    assert (owner[2:8, 3:25] == 7).all()
    assert not owner[1].any()


def test_two_far_from_each_other_do_not_become_one():
    owner = np.zeros((10, 30), np.int32)
    owner[2:8, 3:12], owner[2:8, 17:25], owner[1:9, 12:17] = 7, 8, -1
    assert not len(bridge(owner, -1, np.array([-1] * 7 + [1, 1, -1]), (1, 12, 9, 17), 8))
    assert not owner[:, 12:17].any()
