"""The ordering network decides between overlapping pieces where it is sure, statistics where it is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zeuxis.storage.classes import SemanticClass
from zeuxis.synth.canvas import Placement
from zeuxis.synth.encoding import class_indices
from zeuxis.synth.ordering import ClassOrder, Pair, back_to_front, class_evidence
from zeuxis.synth.ordering_evidence import network_evidence, prior
from zeuxis.synth.transform import Origin, Piece, Target, identity

SIZE = (32, 32)
CLASSES = [SemanticClass(id, name, (id, 0, 0)) for id, name in ((4, "sky"), (6, "car"), (9, "road"))]
CHANNELS = class_indices(CLASSES)
LAYOUT = np.zeros(SIZE, np.int64)
EVEN = ClassOrder()
SKY_BEHIND = ClassOrder.from_orderings([6] * 9, [4] * 9)


def placed(class_id, box):
    """A placement whose component is its box; its own mask is another one."""
    mask = np.ones((box[2] - box[0], box[3] - box[1]), bool)
    pixels = np.zeros((*mask.shape, 3), np.uint8)
    place = tuple(np.array(box) / 32)
    piece = Piece(1, class_id, "", pixels, mask, place, Target(box, mask), Origin("", "", ""))
    return Placement(piece, identity(piece, SIZE), (0, 0, *mask.shape), pixels, mask, 1.0)


class Saying:
    """A network with logits by class channel, which remembers what it was shown."""

    def __init__(self, *logits):
        self.logits, self.pairs, self.layouts = torch.tensor(logits), [], []

    def __call__(self, pair, layout):
        self.pairs += list(pair)
        self.layouts += list(layout)
        return self.logits.expand(len(pair), -1)


def evidence(network, placements, overlaps, statistics, unsure=0.1):
    return network_evidence(network, LAYOUT, placements, overlaps, CHANNELS, statistics, unsure)


def test_a_sure_network_overrules_the_statistics():
    placements = [placed(4, (0, 0, 16, 32)), placed(6, (8, 8, 24, 24))]
    network = Saying(8.0, 0.0, 20.0)  # road is not in question
    (pair,) = evidence(network, placements, [(0, 1)], SKY_BEHIND)
    assert (pair.front, pair.behind) == (0, 1)
    odds = 8 - np.log(10)
    assert pair.certainty == pytest.approx(2 / (1 + np.exp(-odds)) - 1, abs=1e-5)


def test_a_network_that_has_learned_nothing_says_what_the_statistics_say():
    placements = [placed(4, (0, 0, 16, 32)), placed(6, (8, 8, 24, 24))]
    for overlap in ((0, 1), (1, 0)):
        found = evidence(Saying(0.0, 0.0, 0.0), placements, [overlap], SKY_BEHIND)
        expected = class_evidence(SKY_BEHIND, [4, 6], [each.box for each in placements], [overlap])
        assert found[0][:2] == expected[0][:2] == (1, 0)
        assert found[0].certainty == pytest.approx(expected[0].certainty, abs=1e-6)


def test_an_unsure_network_leaves_it_to_statistics_and_the_ground_rule():
    placements = [placed(4, (0, 0, 16, 32)), placed(6, (8, 8, 24, 24))]
    boxes = [each.box for each in placements]
    found = evidence(Saying(0.1, 0.0, 0.0), placements, [(0, 1)], EVEN)
    assert found == class_evidence(EVEN, [4, 6], boxes, [(0, 1)])
    assert evidence(Saying(0.1, 0.0, 0.0), placements, [(0, 1)], EVEN, unsure=0.0)[0].front == 0


def test_pairs_of_one_class_or_of_a_class_it_does_not_know_are_not_asked():
    placements = [placed(6, (0, 0, 16, 32)), placed(6, (8, 8, 24, 24)), placed(77, (0, 0, 8, 8))]
    network = Saying(9.0, -9.0, 9.0)
    overlaps = [(0, 1), (0, 2)]
    found = evidence(network, placements, overlaps, SKY_BEHIND)
    assert found == class_evidence(SKY_BEHIND, [6, 6, 77], [each.box for each in placements], overlaps)
    assert network.pairs == []


def test_a_component_of_which_nothing_is_left_at_its_size_is_not_asked_about():
    gone = placed(6, (8, 8, 24, 24))
    gone = replace(gone, piece=replace(gone.piece, target=Target((0, 0, 32, 32), np.zeros(SIZE, bool))))
    placements, network = [placed(4, (0, 0, 16, 32)), gone], Saying(9.0, -9.0, 9.0)
    found = evidence(network, placements, [(0, 1)], SKY_BEHIND)
    assert found == class_evidence(SKY_BEHIND, [4, 6], [each.box for each in placements], [(0, 1)])
    assert network.pairs == []


def test_the_network_sees_the_components_and_the_layout():
    placements = [placed(9, (20, 0, 32, 32)), placed(6, (8, 8, 24, 24)), placed(6, (0, 0, 4, 4))]
    network = Saying(0.0, 5.0, 0.0)
    found = evidence(network, placements, [(1, 2), (0, 1)], EVEN)
    assert found[1][:2] == (1, 0)
    pair, *same = network.pairs
    assert all(torch.equal(pair, each) for each in same)  # which fill the batch
    assert pair.shape == (3, *SIZE)
    assert not pair[0].any()
    assert pair[1, 8:24, 8:24].all()
    assert pair[1].sum() == 16 * 16
    assert pair[2, 24:].all()
    assert network.layouts[0].shape == (4, *SIZE)
    assert network.layouts[0][0].all()


def test_a_cycle_of_answers_is_broken_at_its_least_certain_pair():
    placements = [placed(id, (4, 4, 28, 28)) for id in (4, 6, 9)]

    def network(pair, layout):
        answers = {(0, 1): [5.0, 0, 0], (1, 2): [0, 2.0, 0], (0, 2): [0, 0, 4.0]}
        seen = [tuple(np.flatnonzero(each.sum((1, 2)) > 0)) for each in pair.numpy()]
        return torch.tensor([answers[each] for each in seen])

    # each of another place, so that both classes of a pair are seen
    boxes = [(0, 0, 8, 8), (8, 8, 16, 16), (16, 16, 24, 24)]
    placements = [placed(id, box) for id, box in zip((4, 6, 9), boxes, strict=True)]
    pairs = evidence(network, placements, [(0, 1), (1, 2), (0, 2)], EVEN)
    assert [each[:2] for each in pairs] == [(0, 1), (1, 2), (2, 0)]
    order = back_to_front([4, 6, 9], boxes, pairs, EVEN)
    assert order.dropped == [pairs[1]]
    assert order.back_to_front == [1, 0, 2]


def test_a_pair_is_left_out_of_its_own_prior():
    once = ClassOrder.from_orderings([6], [4])
    assert prior(once, 6, 4) == pytest.approx(np.log(2)) == -prior(once, 4, 6)
    assert prior(once, 6, 4, (6, 4)) == prior(once, 4, 6, (6, 4)) == 0
    assert prior(once, 6, 4, (4, 9)) == pytest.approx(np.log(2))
    assert isinstance(Pair(0, 1, prior(EVEN, 1, 2)).certainty, float)
