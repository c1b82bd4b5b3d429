"""Which of two overlapping pieces is in front, and the back-to-front order that follows (SIMS, section 4.4).

The evidence here is statistics of a bank's orderings by class; a network that answers pairs replaces
`class_evidence` and leaves `back_to_front` as it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..storage.layouts import Box

ENOUGH = 5
"""Orderings between two classes from which on their own statistics decide."""

RULE_CERTAINTY = 0.5
"""Most that global ranks or the ground rule are trusted, where the statistics of a pair of classes reach 1."""


class Pair(NamedTuple):
    """`front` stands in front of `behind` (both indices of pieces), with a certainty of 0..1."""

    front: int
    behind: int
    certainty: float


class Order(NamedTuple):
    """`back_to_front`: indices of all pieces in the order of painting; `dropped`: the pairs it contradicts."""

    back_to_front: list[int]
    dropped: list[Pair]


class ClassOrder:
    """How often each class stood in front of each other one in a bank's orderings.

    Attributes:
        classes: `(n,)` sorted class ids.
        counts: `(n, n)` int64, `counts[i, j]` = times `classes[i]` stood in front of `classes[j]`.
        behind_share: `(n,)` float64 in 0..1, the share of a class's pairs in which it lies behind, with one
            imagined pair each way; the global back-to-front class order of the SIMS code is this, descending.
    """

    def __init__(self, classes: npt.ArrayLike = (), counts: npt.ArrayLike | None = None) -> None:
        self.classes = np.asarray(classes, np.int64).reshape(-1)
        n = len(self.classes)
        self.counts = np.zeros((n, n), np.int64) if counts is None else np.asarray(counts, np.int64)
        behind, front = self.counts.sum(axis=0), self.counts.sum(axis=1)
        self.behind_share: npt.NDArray[np.float64] = (behind + 1) / (behind + front + 2)
        self._row = {int(id): row for row, id in enumerate(self.classes)}

    @classmethod
    def from_orderings(cls, front_class: npt.ArrayLike, behind_class: npt.ArrayLike) -> ClassOrder:
        """From two equally long arrays of class ids, one entry an ordering; pairs of one class say nothing."""
        front, behind = np.asarray(front_class, np.int64), np.asarray(behind_class, np.int64)
        apart = front != behind
        classes, rows = np.unique(np.concatenate([front[apart], behind[apart]]), return_inverse=True)
        n, pairs = len(classes), np.count_nonzero(apart)
        cells = rows[:pairs] * n + rows[pairs:]
        return cls(classes, np.bincount(cells, minlength=n * n).reshape(n, n))

    def count(self, a: int, b: int) -> int:
        """Times class `a` stood in front of class `b`; 0 for classes never seen."""
        row, column = self._row.get(a), self._row.get(b)
        return 0 if row is None or column is None else int(self.counts[row, column])

    def front_probability(self, a: int, b: int) -> float:
        """Probability that class `a` stands in front of class `b`, with Laplace's prior of one pair each way."""
        ahead, behind = self.count(a, b), self.count(b, a)
        return (ahead + 1) / (ahead + behind + 2)

    def rank(self, id: int) -> float:
        """A class's share of pairs in which it lies behind: 1 far back, 0 in front, a half where never seen."""
        row = self._row.get(id)
        return 0.5 if row is None else float(self.behind_share[row])

    def ranking(self) -> list[int]:
        """The class ids in the global back-to-front order."""
        return [int(id) for id in self.classes[np.argsort(-self.behind_share, kind="stable")]]


def class_evidence(
    statistics: ClassOrder, class_ids: Sequence[int], boxes: Sequence[Box], overlaps: Iterable[tuple[int, int]]
) -> list[Pair]:
    """Which piece of each overlapping pair is in front.

    Two pieces of different classes follow the statistics of their pair of classes where the bank has at least
    `ENOUGH` orderings between them that do not balance, with certainty `|2 p - 1|`; otherwise the global ranks,
    certainty half their difference. Two pieces of one class follow the ground rule, as do classes without any
    evidence: what reaches lower stands in front, certainty half the difference relative to the taller box.

    Args:
        statistics: of the bank.
        class_ids, boxes: one a piece; boxes on the canvas.
        overlaps: pairs of indices of pieces.
    """
    return [_judged(statistics, class_ids, boxes, a, b) for a, b in overlaps]


def back_to_front(
    class_ids: Sequence[int], boxes: Sequence[Box], pairs: Iterable[Pair], statistics: ClassOrder
) -> Order:
    """The order in which to paint all pieces, so that every pair's front piece comes after the one behind.

    Pairs are taken by certainty, descending; a pair that would close a cycle with those taken before is dropped, so
    that a cycle breaks at its least certain pair. What the pairs leave open is decided by the global class order
    (farthest back first), then by the lower edge of the box (higher first), then by index.
    """
    n = len(class_ids)
    reaches = np.eye(n, dtype=bool)  # reaches[i, j]: j is known to be in front of i, or is i
    fronts: list[list[int]] = [[] for _ in range(n)]
    waiting, dropped = [0] * n, []
    for pair in sorted(pairs, key=lambda pair: -pair.certainty):
        if reaches[pair.front, pair.behind]:
            dropped.append(pair)
            continue
        fronts[pair.behind].append(pair.front)
        waiting[pair.front] += 1
        if not reaches[pair.behind, pair.front]:
            reaches[reaches[:, pair.behind]] |= reaches[pair.front]
    keys = [(-statistics.rank(id), box[2], i) for i, (id, box) in enumerate(zip(class_ids, boxes, strict=True))]
    ready = [key for key in keys if not waiting[key[2]]]
    heapq.heapify(ready)
    order = []
    while ready:
        behind = heapq.heappop(ready)[2]
        order.append(behind)
        for front in fronts[behind]:
            waiting[front] -= 1
            if not waiting[front]:
                heapq.heappush(ready, keys[front])
    return Order(order, dropped)


def _judged(statistics: ClassOrder, class_ids: Sequence[int], boxes: Sequence[Box], a: int, b: int) -> Pair:
    first, second = class_ids[a], class_ids[b]
    ahead, behind = statistics.count(first, second), statistics.count(second, first)
    if ahead + behind >= ENOUGH and ahead != behind:
        lead = 2 * statistics.front_probability(first, second) - 1
        return _pair(a, b, lead)
    nearer = statistics.rank(second) - statistics.rank(first)
    if first != second and nearer:
        return _pair(a, b, RULE_CERTAINTY * nearer)
    taller = max(boxes[a][2] - boxes[a][0], boxes[b][2] - boxes[b][0], 1)
    lower = (boxes[a][2] - boxes[b][2]) / taller
    return _pair(a, b, RULE_CERTAINTY * min(max(lower, -1.0), 1.0))


def _pair(a: int, b: int, lead: float) -> Pair:
    """The pair whose front is `a` where `lead` is positive; an even one puts the later piece in front."""
    return Pair(a, b, lead) if lead > 0 else Pair(b, a, -lead)
