"""The transformation network's warp is laid where it says, and kept only where the overlap grows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zeuxis.synth import fitting
from zeuxis.synth.fitting import (
    as_matrix,
    learned_fit,
    moved_by,
    proposed,
    sight,
    window_around,
)
from zeuxis.synth.transform import Origin, Piece, Target, Transform, fit, identity, overlap, warp
from zeuxis.synth.transformation import warped

SIZE, SEEN, N_CLASSES = (60, 80), (96, 128), 3
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
LAYOUT = np.zeros(SIZE, np.int64)


def shape_of(rows, cols):
    """An ell, which no flip or turn leaves as it is."""
    mask = np.zeros((rows, cols), bool)
    mask[:, : cols // 2], mask[2 * rows // 3 :] = True, True
    return mask


def piece_at(box, target_box, rows=24, cols=20):
    """An ell of noise at a box of the canvas, which shall cover an ell in another box."""
    random = np.random.default_rng(0)
    top, left, bottom, right = box
    place = (top / SIZE[0], left / SIZE[1], bottom / SIZE[0], right / SIZE[1])
    pixels = random.integers(0, 256, (rows, cols, 3), np.uint8)
    target = Target(target_box, shape_of(target_box[2] - target_box[0], target_box[3] - target_box[1]))
    return Piece(1, 1, "car", pixels, shape_of(rows, cols), place, target, Origin("a", "test", "a.png"))


def as_transform(matrix):
    return Transform("true", tuple(map(tuple, matrix[:2].tolist())))


def window_of(piece):
    return window_around(piece.target.box)


def theta_of(piece, matrix):
    """What a network that knows the map of canvas points answers."""
    unit = window_of(piece).to_unit()
    return (unit @ np.linalg.inv(matrix) @ np.linalg.inv(unit))[:2]


class Knowing:
    """A network that gives the answers it was made with, in turn; the last one to whatever fills a batch."""

    def __init__(self, thetas):
        self.thetas, self.shapes = list(thetas), []

    def __call__(self, segment, target, layout):
        self.shapes.append([tuple(each.shape) for each in (segment, target, layout)])
        answers = [self.thetas.pop(0) if len(self.thetas) > 1 else self.thetas[0] for _ in segment]
        return torch.from_numpy(np.stack(answers)).float()


def shifted(rows, cols):
    return np.array([[1.0, 0, cols], [0, 1, rows], [0, 0, 1]])


def test_a_network_that_knows_the_true_shift_covers_the_component_whole():
    piece = piece_at((10, 12, 34, 32), (16, 8, 40, 28))
    network = Knowing([theta_of(piece, shifted(6, -4))])
    (found,) = proposed([piece], network, LAYOUT, SIZE, N_CLASSES, SEEN)
    assert found.name == "network"
    assert overlap(piece, found, SIZE) == 1
    assert np.allclose(found.matrix, [[1, 0, 8], [0, 1, 16]], atol=1e-4)
    n = fitting.AT_ONCE["cpu"]
    assert network.shapes == [[(n, 3, *SEEN), (n, 1, *SEEN), (n, N_CLASSES + 1, *SEEN)]]


def test_scale_and_rotation_arrive_on_the_canvas_too():
    piece = piece_at((10, 12, 34, 32), (16, 8, 40, 28))
    turn = np.array([[0.9, -0.2, 3.0], [0.1, 1.2, -2.0], [0, 0, 1]])
    (found,) = proposed([piece], Knowing([theta_of(piece, turn)]), LAYOUT, SIZE, N_CLASSES, SEEN)
    assert np.allclose(found.matrix, (turn @ as_matrix(identity(piece, SIZE).matrix))[:2], atol=1e-4)


@pytest.mark.parametrize(
    "theta",
    [IDENTITY, np.full((2, 3), np.nan), IDENTITY * [[-1.0], [1.0]], IDENTITY * 0, IDENTITY * 20, theta_of],
    ids=["in place", "not a number", "mirrored", "flat", "tiny", "away from it"],
)
def test_a_warp_that_does_not_raise_the_overlap_leaves_it_to_the_analytic_fit(theta):
    for target in ((16, 8, 40, 28), (10, 12, 34, 32)):  # where the box fit helps, and where it cannot
        piece = piece_at((10, 12, 34, 32), target)
        answer = theta(piece, shifted(-20, 20)) if theta is theta_of else theta
        (found,) = learned_fit([piece], Knowing([answer]), LAYOUT, SIZE, N_CLASSES, SEEN)
        assert found == fit(piece, SIZE)


def test_a_segment_that_is_turned_out_of_the_picture_overlaps_nothing():
    piece = piece_at((10, 12, 34, 32), (16, 8, 40, 28))
    turned = np.array([[0.9, -0.2, 500.0], [0.1, 1.2, 0.0], [0, 0, 1]])
    (found,) = learned_fit([piece], Knowing([theta_of(piece, turned)]), LAYOUT, SIZE, N_CLASSES, SEEN)
    assert found == fit(piece, SIZE)


def test_a_warp_is_kept_where_it_beats_the_box_fit_too():
    piece = piece_at((10, 12, 34, 32), (16, 8, 40, 28))
    lean = np.array([[1.0, -0.4, 6.0], [0, 1, 5], [0, 0, 1]])
    leant = warp(piece, as_transform(lean @ as_matrix(identity(piece, SIZE).matrix)), SIZE)
    piece = replace(piece, target=Target(leant.box, leant.mask))
    (found,) = learned_fit([piece], Knowing([theta_of(piece, lean)]), LAYOUT, SIZE, N_CLASSES, SEEN)
    assert found.name == "network"
    assert overlap(piece, found, SIZE) > 0.95 > overlap(piece, fit(piece, SIZE), SIZE)


def test_a_warp_that_helps_goes_where_the_box_fit_helps_more():
    piece = piece_at((10, 12, 34, 32), (16, 8, 40, 28))
    (found,) = learned_fit([piece], Knowing([theta_of(piece, shifted(5, -3))]), LAYOUT, SIZE, N_CLASSES, SEEN)
    assert found == fit(piece, SIZE)
    assert found.name == "box"


def test_many_pieces_are_asked_in_batches_and_come_back_in_their_order(monkeypatch):
    monkeypatch.setitem(fitting.AT_ONCE, "cpu", 2)
    pieces = [piece_at((10, 12, 34, 32), (10 + n, 12 + n, 34 + n, 32 + n)) for n in range(1, 6)]
    network = Knowing([theta_of(piece, shifted(n, n)) for n, piece in enumerate(pieces, 1)])
    found = proposed(pieces, network, LAYOUT, SIZE, N_CLASSES, SEEN)
    assert [round(each.matrix[0][2]) for each in found] == [13, 14, 15, 16, 17]
    assert [shapes[0][0] for shapes in network.shapes] == [2, 2, 2]
    assert learned_fit([], network, LAYOUT, SIZE, N_CLASSES) == []


def test_the_network_sees_segment_and_component_where_they_lie():
    piece = piece_at((10, 12, 34, 32), (13, 18, 37, 38))
    window = window_of(piece)
    seen = sight(piece, as_matrix(identity(piece, SIZE).matrix), LAYOUT, window, SEEN, N_CLASSES)
    theta = torch.from_numpy(theta_of(piece, shifted(3, 6)))[None].float()
    laid = warped(seen.segment[None, 3:], theta)[0] > 0.5
    common, union = (laid & (seen.target > 0)).sum(), (laid | (seen.target > 0)).sum()
    assert common / union > 0.9
    assert not seen.segment[:, seen.segment[3] == 0].any()


def test_beyond_the_canvas_the_network_sees_void():
    piece = piece_at((0, 0, 24, 20), (0, 0, 24, 20))
    window = window_of(piece)
    seen = sight(piece, as_matrix(identity(piece, SIZE).matrix), LAYOUT, window, SEEN, N_CLASSES)
    rows = round(-window.top / window.height * SEEN[0])
    assert rows > 0
    assert (seen.layout[:rows] == N_CLASSES).all()
    inside = seen.layout[rows + 1, SEEN[1] // 2]
    assert inside == 0


def test_a_window_holds_the_component_in_its_middle():
    window = window_around((10, 30, 20, 34))
    assert window == (5, 28, 20, 8)
    assert window_around((7, 7, 8, 8)) == (5.5, 5.5, 4, 4)
    assert moved_by(IDENTITY, window) == pytest.approx(np.eye(3))
    assert np.allclose(window.to_unit() @ (28, 5, 1), (-1, -1, 1))
    assert np.allclose(window.to_size(SEEN) @ (36, 25, 1), (128, 96, 1))
