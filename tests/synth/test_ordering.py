"""Ordering: statistics recover a known order, cycles break at their least certain pair."""

import itertools

import numpy as np
import pytest

from zeuxis.synth.ordering import ENOUGH, ClassOrder, Pair, back_to_front, class_evidence

BOX = (0, 0, 10, 10)


def noisy_statistics(order, rng, seen=200, noise=0.2):
    """Orderings of classes whose true back-to-front order is `order`, each wrong with probability `noise`."""
    front, behind = [], []
    for (i, a), (j, b) in itertools.combinations(enumerate(order), 2):
        assert i < j
        wrong = rng.random(seen) < noise
        front += [a if w else b for w in wrong]
        behind += [b if w else a for w in wrong]
    mixed = rng.permutation(len(front))
    return ClassOrder.from_orderings(np.array(front)[mixed], np.array(behind)[mixed])


def before(order):
    return {(a, b) for i, a in enumerate(order) for b in order[i + 1 :]}


def test_counts_are_those_of_the_orderings():
    rng = np.random.default_rng(0)
    ids = np.array([3, 8, 40, 60000])
    front, behind = rng.choice(ids, 500), rng.choice(ids, 500)
    order = ClassOrder.from_orderings(front.astype(np.uint16), behind.astype(np.uint16))
    for a, b in itertools.permutations(ids.tolist(), 2):
        assert order.count(a, b) == sum((front == a) & (behind == b))
    assert order.count(3, 3) == order.count(3, 4) == 0


def test_probabilities_and_ranks_carry_a_prior():
    order = ClassOrder.from_orderings([1, 1, 1, 2], [2, 2, 2, 1])
    assert order.front_probability(1, 2) == 4 / 6
    assert order.front_probability(2, 1) == 2 / 6
    assert order.front_probability(1, 99) == order.rank(99) == 0.5
    assert order.rank(1) == 2 / 6
    assert order.rank(2) == 4 / 6
    assert ClassOrder().front_probability(1, 2) == 0.5
    assert ClassOrder.from_orderings([], []).ranking() == []


@pytest.mark.parametrize("seed", range(10))
def test_a_total_order_is_recovered_from_noisy_orderings(seed):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(200)[:9].tolist()
    order = noisy_statistics(truth, rng)
    assert order.ranking() == truth
    class_ids = rng.permutation(truth).tolist()
    boxes = [BOX] * 9
    pairs = class_evidence(order, class_ids, boxes, itertools.combinations(range(9), 2))
    found, dropped = back_to_front(class_ids, boxes, pairs, order)
    assert [class_ids[i] for i in found] == truth
    assert dropped == []


def test_direct_statistics_outweigh_the_ranks():
    # class 1 is usually far in front, but behind class 2 whenever the two meet
    order = ClassOrder.from_orderings([1] * 50 + [2] * 10 + [4] * 50, [3] * 50 + [1] * 10 + [2] * 50)
    assert order.rank(1) < order.rank(2)
    (pair,) = class_evidence(order, [1, 2], [BOX, BOX], [(0, 1)])
    assert (pair.front, pair.behind) == (1, 0)
    assert pair.certainty == pytest.approx(10 / 12)


def test_few_or_balanced_orderings_leave_it_to_the_ranks():
    for few in (ENOUGH - 1, 0):
        order = ClassOrder.from_orderings([1] * 50 + [2] * few, [3] * 50 + [1] * few)
        (pair,) = class_evidence(order, [2, 1], [BOX, BOX], [(0, 1)])
        assert (pair.front, pair.behind) == (1, 0)
        assert pair.certainty == pytest.approx((order.rank(2) - order.rank(1)) / 2)
    even = ClassOrder.from_orderings([1] * 9 + [2] * 9 + [1] * 9, [2] * 9 + [1] * 9 + [3] * 9)
    (pair,) = class_evidence(even, [2, 1], [BOX, BOX], [(0, 1)])
    assert (pair.front, pair.behind) == (1, 0)


def test_one_class_and_unknown_classes_follow_the_ground_rule():
    order = ClassOrder.from_orderings([1] * 50, [3] * 50)
    low, high = (10, 0, 30, 10), (5, 0, 25, 10)
    for ids in ([1, 1], [70, 80]):
        assert class_evidence(order, ids, [high, low], [(0, 1)]) == [Pair(1, 0, 0.125)]
        assert class_evidence(order, ids, [low, high], [(0, 1)]) == [Pair(0, 1, 0.125)]
    assert class_evidence(order, [1, 1], [(0, 0, 5, 5), (90, 0, 99, 5)], [(0, 1)])[0].certainty == 0.5


@pytest.mark.parametrize("weakest", range(3))
def test_a_cycle_breaks_at_its_least_certain_pair(weakest):
    certainty = [0.9, 0.8, 0.7]
    certainty[weakest] = 0.1
    cycle = [Pair((i + 1) % 3, i, certainty[i]) for i in range(3)]
    order, dropped = back_to_front([1, 2, 3], [BOX] * 3, cycle, ClassOrder())
    assert dropped == [cycle[weakest]]
    assert all((pair.behind, pair.front) in before(order) for pair in cycle if pair not in dropped)


@pytest.mark.parametrize("seed", range(25))
def test_only_pairs_that_close_a_cycle_are_dropped(seed):
    rng = np.random.default_rng(seed)
    n = 12
    certainties = iter(rng.permutation(200) / 200)
    pairs = [
        Pair(*rng.permutation([a, b]).tolist(), next(certainties))
        for a, b in itertools.combinations(range(n), 2)
        if rng.random() < 0.5
    ]
    order, dropped = back_to_front(rng.integers(0, 5, n).tolist(), [BOX] * n, pairs, ClassOrder())
    assert sorted(order) == list(range(n))
    kept, expected = [], []
    for pair in sorted(pairs, key=lambda pair: -pair.certainty):
        in_front = {pair.front}
        for _ in range(n):
            in_front |= {k.front for k in kept if k.behind in in_front}
        (expected if pair.behind in in_front else kept).append(pair)
    assert dropped == expected
    assert {(pair.behind, pair.front) for pair in kept} <= before(order)


def test_without_pairs_the_class_order_then_the_lower_edge_decide():
    order = ClassOrder.from_orderings([1] * 20 + [2] * 20, [2] * 20 + [3] * 20)
    ids = [1, 3, 2, 3, 77]
    boxes = [BOX, (0, 0, 30, 5), BOX, (0, 0, 20, 5), BOX]
    assert back_to_front(ids, boxes, [], order).back_to_front == [3, 1, 2, 4, 0]
    assert back_to_front([], [], [], order) == ([], [])
