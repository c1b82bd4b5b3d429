"""What carries what, and what bites what, on maps drawn by hand."""

import numpy as np
import pytest

from zeuxis.synth.anatomy import anatomy, loose_roots

GROUND = np.array([False, True, False, False])  # wall, ground, thing; the last is void
CLASSES = {0: 3, 1: 0, 2: 1}  # components 1 and 2 are the wall and the ground, further ones things


def examined(*boxes, size=(40, 60), line=20):
    labels = np.ones(size, np.uint32)
    labels[line:] = 2
    for number, (top, left, bottom, right) in enumerate(boxes, start=3):
        labels[top:bottom, left:right] = number
    index = np.array([CLASSES.get(n, 2) for n in range(3 + len(boxes))], np.int64)
    return anatomy(labels, index, index == 2, GROUND)


def test_what_stands_on_ground_is_carried_by_nothing():
    found = examined((10, 10, 30, 20))
    assert found.carrier[3] == 0
    assert found.root[3] == 3
    assert found.contact[3].tolist() == [0, 10, 0, 0]
    assert found.root[:3].tolist() == [0, 0, 0]


def test_a_sign_is_carried_by_a_pole_narrower_than_itself():
    found = examined((12, 20, 30, 22), (4, 15, 12, 27))
    assert found.carrier[4] == 3
    assert found.root[4] == 3
    assert found.contact[4].tolist() == [10, 0, 2, 0]


def test_what_hides_a_foot_carries_it():
    found = examined((18, 10, 34, 30), (8, 15, 18, 20))
    assert found.root[4] == 3


def test_what_rests_on_nothing_holds_on_to_what_it_touches():
    found = examined((4, 20, 30, 22), (4, 22, 7, 32), (2, 45, 6, 50))
    assert found.root[4] == 3
    assert found.root[5] == 5


def test_chains_end_at_the_ground():
    found = examined((20, 10, 36, 30), (12, 12, 20, 28), (6, 14, 12, 26))
    assert found.root[3:].tolist() == [3, 3, 3]


def test_the_nearer_one_bites():
    found = examined((10, 10, 26, 40), (14, 20, 32, 24))
    assert found.bitten[3] > 0.2
    assert found.bites[4] > 0.4
    assert found.bitten[4] == found.bites[3] == 0


def test_an_object_at_the_lower_edge_rests_on_nothing_that_is_seen():
    found = examined((30, 10, 40, 20))
    assert found.contact[3].sum() == 0
    assert found.root[3] == 3


@pytest.mark.parametrize(
    ("boxes", "loose"),
    [
        ([(10, 10, 26, 20)], [3]),
        ([(2, 2, 38, 58)], []),  # too large
        ([(16, 10, 24, 36), (16, 18, 28, 23)], [3]),  # the one in front bites
        ([(16, 10, 24, 36), (16, 18, 28, 20)], [3, 4]),  # it does, but is narrow
    ],
)
def test_what_is_too_large_or_bites_stays(boxes, loose):
    assert loose_roots(examined(*boxes), (40, 60)).tolist() == loose
