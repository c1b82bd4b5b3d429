"""One hit for each component, chosen jointly: those that fit, and in whose photographs the same light falls.

The best segment of each component alone comes from photographs taken in unlike light. Sky and road never have one
colour, so neighbours are not compared with each other, but with what the other's photograph shows: a road segment
beside a sky from photograph S should have, along its border with sky, the colour of the road along that sky in S, and
that sky the colour of the sky along the road in the road's photograph. Where a photograph shows no such border, the
colours of whole segments and of classes stand in. A pair from one photograph agrees by definition.

    maximise  sum over components of score  +  weight * sum over borders of share * agreement
    agreement = 1 - min(distance / UNLIKE, 1), the distance in CIELAB, truncated as usual for such energies
    share     = the part of its border that a component has with the other, averaged over both

so that all the borders of a layout weigh half as much as its components, however many there are. The maximum is
sought by iterated conditional modes (Besag, "On the statistical analysis of dirty pictures", JRSS B 48, 1986) from
each component's best; then, photograph by photograph, from the best choice so far with all that the photograph has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.errors import sentence
from ..storage.layouts import border_reach
from .borders import find_borders
from .lights import Lights, Numbers
from .request import POOL
from .result import Component, Hit, Retrieval

UNLIKE = 30.0
"""CIELAB distance from which on two colours count as nothing alike; photographs of one class are 16 (a town's streets)
to 27 (rooms) apart in the median."""
STARTS = 64
"""Photographs that the search starts from, at most."""
_SWEEPS = 100  # over all components, in one climb; about five are needed, none ever lowers the sum

Floats = npt.NDArray[np.float64]


class Choice(NamedTuple):
    """A joint choice to be made among the first K hits of each of n components.

    Attributes:
        scores: `(n, K)`, -inf where a component has fewer hits.
        photographs: `(n, K)` int64, equal where hits come from one photograph, -1 where there is none.
        pairs: `(e, 2)` int64, components side by side; shares: `(e,)`, see above.
        agreements: `(e, K, K)` in 0..1, of each hit of the first component with each of the second.
        known: whether the appearance of any two hits of a pair from two photographs could be compared.
    """

    scores: Floats
    photographs: Numbers
    pairs: Numbers
    shares: Floats
    agreements: Floats
    known: bool

    def worth(self, chosen: Numbers, weight: float) -> float:
        """The sum that is maximised, of `(n,)` ranks."""
        a, b = self.pairs.T
        agreements = self.agreements[np.arange(len(a)), chosen[a], chosen[b]]
        scores = self.scores[np.arange(len(chosen)), chosen]
        return float(scores.sum() + weight * (self.shares * agreements).sum())


def coherent(retrieval: Retrieval, lights: Lights) -> Retrieval:
    """A retrieval with the jointly chosen hit of each component first, the others behind it as they were.

    Args:
        retrieval: with at least `POOL` hits a component, where there are so many; the first `POOL` are chosen among.
            `retrieval.options.coherent` is the weight in the sum above; 0 changes nothing.
        lights: of its bank.

    Returns:
        At most `retrieval.options.k` hits a component, their scores as they were. `warnings` say where the choice had
        nothing to go by.
    """
    k, weight = retrieval.options.k, float(retrieval.options.coherent)
    having = [number for number, component in enumerate(retrieval) if component.hits]
    hits: list[Sequence[Hit]] = [component.hits for component in retrieval]
    warnings = list(retrieval.warnings)
    if weight > 0 and len(having) > 1:
        choice = choice_of([retrieval[number] for number in having], lights, retrieval.frame, retrieval.options.weights)
        for number, rank in zip(having, choose(choice, weight).tolist(), strict=True):
            hits[number] = [hits[number][rank], *hits[number][:rank], *hits[number][rank + 1 :]]
        warnings += _warnings(retrieval, choice)
    components = [replace(each, hits=own[:k]) for each, own in zip(retrieval, hits, strict=True)]
    return replace(retrieval, components=components, warnings=warnings)


def choice_of(
    components: Sequence[Component], lights: Lights, frame: tuple[int, int], weights: tuple[float, float] = (1.0, 1.0)
) -> Choice:
    """What there is to choose for the components of one layout, all of which have hits.

    Args:
        weights: of the two terms in the hits' scores, which here count as if these added up to 2.
    """
    n, most = len(components), min(POOL, max(len(component.hits) for component in components))
    shards, rows, sources = (np.full((n, most), -1) for _ in range(3))
    scores = np.full((n, most), -np.inf)
    for number, component in enumerate(components):
        for rank, hit in enumerate(component.hits[:most]):
            shards[number, rank], rows[number, rank] = hit._shard, hit._row
            sources[number, rank] = hit._reader.shards[hit._shard].footprints.source[hit._row]
            scores[number, rank] = hit.score * 2 / sum(weights)
    there = shards >= 0
    places, photographs = np.unique(np.stack([shards[there], sources[there]], axis=1), axis=0, return_inverse=True)
    photograph = np.full((n, most), -1)
    photograph[there] = photographs.ravel()
    own = np.full((n, most, 3), np.nan)
    own[there] = lights.of_segments(shards[there], rows[there])
    of_class = np.array([component.class_id for component in components])
    class_ids, slots = np.unique(of_class, return_inverse=True)
    seen = lights.of_classes(places[:, 0], places[:, 1], class_ids.astype(np.int64))
    pairs, shares = _borders(components, frame)
    sides = []
    for a, b in (pairs.T, pairs.T[::-1]):
        along = np.full((len(a), most, 2, 3), np.nan)
        asked, classes = there[a], np.broadcast_to(of_class[b, None], (len(a), most))
        along[asked] = lights.of_borders(shards[a][asked], rows[a][asked], classes[asked])
        whole = np.stack([own[a], seen[photograph[a], slots[b, None]]], axis=2)
        sides.append(Side(photograph[a], *np.moveaxis(np.where(np.isnan(along), whole, along), 2, 0)))
    agreements, known = _agreements(*sides)
    return Choice(scores, photograph, pairs, shares, agreements, known)


def choose(choice: Choice, weight: float) -> Numbers:
    """The rank of each component's hit in the best joint choice that was found, `(n,)`; never worse than all zeros."""
    count = len(choice.scores)
    a, b = choice.pairs.T
    heads, tails = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.argsort(heads, kind="stable")
    tables = np.concatenate([choice.agreements, choice.agreements.transpose(0, 2, 1)])[order]
    tables *= weight * np.concatenate([choice.shares, choice.shares])[order, None, None]
    first = np.searchsorted(heads[order], np.arange(count + 1))
    best, most = np.zeros(count, np.int64), -np.inf
    for served in [np.zeros_like(choice.photographs, bool), *_served(choice)]:
        ranks = np.where(served.any(axis=1), served.argmax(axis=1), best)
        _climb(choice.scores, first, tails[order], tables, ranks)
        if (worth := choice.worth(ranks, weight)) > most:
            best, most = ranks, worth
    return best


def _borders(components: Sequence[Component], frame: tuple[int, int]) -> tuple[Numbers, Floats]:
    """Pairs of components side by side, and the share of their borders that they have with each other."""
    labels = components[0]._framed.labels
    numbers = np.zeros(int(labels.max()) + 1, np.uint32)
    numbers[[component._number + 1 for component in components]] = np.arange(1, len(components) + 1)
    pairs, lengths = find_borders(numbers[labels], len(components), border_reach(frame[0]))
    whole = np.bincount(pairs.ravel(), lengths.repeat(2), len(components))
    return pairs, (lengths[:, None] / whole[pairs]).mean(axis=1)


class Side(NamedTuple):
    """The hits of one component of each of e pairs.

    Attributes:
        photographs: `(e, K)`, -1 where there is no hit.
        own: `(e, K, 3)`, the colour of each hit, along its border with the other's class where it has one.
        shown: `(e, K, 3)`, that of the other's class in the hit's photograph, along that border where there is one.
    """

    photographs: Numbers
    own: Floats
    shown: Floats


def _agreements(a: Side, b: Side) -> tuple[Floats, bool]:
    """`(e, K, K)` in 0..1 of each hit of the first component with each of the second; whether any could be compared.

    What cannot be, because neither photograph shows the other's class, counts as what else the pair has does on
    average.
    """
    there = (a.photographs >= 0)[:, :, None] & (b.photographs >= 0)[:, None]
    same = (a.photographs[:, :, None] == b.photographs[:, None]) & there
    distances = np.stack(
        [
            np.linalg.norm(a.own[:, :, None] - b.shown[:, None], axis=-1),
            np.linalg.norm(b.own[:, None] - a.shown[:, :, None], axis=-1),
        ]
    )
    some = ~np.isnan(distances)
    compared = some.any(axis=0) & there & ~same
    distance = np.where(some, distances, 0).sum(axis=0) / np.maximum(some.sum(axis=0), 1)
    agreement = np.where(compared, 1 - np.minimum(distance / UNLIKE, 1), 0)
    usual = agreement.sum(axis=(1, 2)) / np.maximum(compared.sum(axis=(1, 2)), 1)
    agreement = np.where(compared, agreement, usual[:, None, None])
    agreement[same] = 1
    return agreement, bool(compared.any())


def _served(choice: Choice) -> Iterator[npt.NDArray[np.bool_]]:
    """`(n, K)`, the hits from one photograph, for those that have hits of two or more components; the most first."""
    there = choice.photographs >= 0
    component = np.broadcast_to(np.arange(len(there))[:, None], there.shape)
    once = np.unique(np.stack([component[there], choice.photographs[there]], axis=1), axis=0)
    components = np.bincount(once[:, 1])
    for photograph in np.argsort(-components, kind="stable")[:STARTS]:
        if components[photograph] > 1:
            yield choice.photographs == photograph


def _warnings(retrieval: Retrieval, choice: Choice) -> list[str]:
    if choice.scores.shape[1] == 1 and retrieval.options.sample is not None:
        said = "one hit a component is drawn, so there is nothing to choose"
        return [sentence("coherent with sample", said, fix="ask for a larger k")]
    if len(choice.pairs) and not choice.known:
        said = "the bank does not say what its segments look like, so only a common photograph counts"
        return [sentence("coherent", said, fix="make a new bank with this zeuxis")]
    return []


@nb.njit(cache=True, nogil=True)
def _climb(scores, first, others, tables, ranks):  # type: ignore[no-untyped-def]
    """Iterated conditional modes: each component in turn takes its best hit, given the others', until none changes.

    Args:
        scores: `(n, K)`; ranks: `(n,)` int64, the start, which becomes the answer.
        first: `(n + 1,)`, where a component's borders begin; others: what is beyond them; tables: `(2e, K, K)`, what
            own hit and the other's are worth together.
    """
    count, most = scores.shape
    worth = np.empty(most)
    for _ in range(_SWEEPS):
        changed = False
        for i in range(count):
            worth[:] = scores[i]
            for border in range(first[i], first[i + 1]):
                for rank in range(most):
                    worth[rank] += tables[border, rank, ranks[others[border]]]
            best = ranks[i]
            for rank in range(most):
                if worth[rank] > worth[best]:
                    best = rank
            if best != ranks[i]:
                ranks[i] = best
                changed = True
        if not changed:
            return
