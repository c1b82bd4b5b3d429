"""Exact search: the k best segments of every component, over every shard of a bank."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..storage.footprints import frame_tiles
from ..storage.leaves import SIZES, Leaves
from ..storage.parts import MOST_SHARDS
from ..storage.reader import Reader
from .best_first import search_part
from .leaves import build_leaves, starts_of
from .query import Query
from .scoring import ShardArrays, TopK, score_places, shard_arrays

_ALL = np.zeros(0, bool)
_KEPT_FILTERS = 8  # each takes a byte a segment
Allowed = Sequence[npt.NDArray[np.bool_]]
"""By shard, which rows are candidates: `(N,)` bool in the order of its search columns."""


class LeafArrays(NamedTuple):
    """The fields of `Leaves`, as the kernels take them."""

    class_ids: Any
    class_start: Any
    block_bounds: Any
    leaf_bounds: Any
    trunk_bounds: Any
    leaf_grid: Any
    leaf_classes: Any
    shard: Any
    row: Any
    box: Any
    area: Any
    context_area: Any
    signature: Any
    block_signature: Any


class Part(NamedTuple):
    """The leaves of one index part, and which shards of the bank it covers: `(shards of the part,)` int64."""

    leaves: LeafArrays
    shards: npt.NDArray[np.int64]


class ExactSearch:
    """Exact search in one generation of a bank."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._opening = threading.RLock()  # cached properties have no lock of their own since Python 3.12
        self._filters: deque[tuple[Allowed, list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]]] = deque(
            maxlen=_KEPT_FILTERS
        )

    def search(
        self,
        query: Query,
        k: int,
        allowed: Allowed | None = None,
        weights: tuple[float, float] = (1.0, 1.0),
        *,
        floor: npt.NDArray[np.float64] | float = 0.0,
        threads: int = 1,
    ) -> TopK:
        """The k best of every component, as arrays.

        Args:
            query: of `make_query`.
            k: hits a component, at most.
            allowed: which rows are candidates; None for all.
            weights: of mask and context.
            floor: one score a component, or one for all: less is of no interest.
            threads: how many share the components.
        """
        top = self.empty(query, k)
        count = len(query.class_ids)
        floors = np.full(count, floor, np.float64)
        rows = self._by_part(allowed)

        def run(first: int, last: int) -> None:
            for part, (allowed_rows, allowed_blocks) in zip(self.parts, rows, strict=True):
                search_part(
                    part.leaves, self.shards, query.arrays, first, last, allowed_rows, allowed_blocks,
                    np.array(weights, np.float64), floors, part.shards, top,
                )  # fmt: skip

        if threads == 1:
            run(0, count)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, range(count), range(1, count + 1)))
        return top

    def score(
        self,
        query: Query,
        k: int,
        places: Sequence[npt.NDArray[np.int64]],
        weights: tuple[float, float] = (1.0, 1.0),
        *,
        bounded: bool = True,
    ) -> TopK:
        """The k best of every component among some segments: `(n, 2)` shard and row of each, a component.

        `bounded`: what cannot be among the k best any more is not scored to the end.
        """
        top = self.empty(query, k)
        for q, each in enumerate(places):
            score_places(self.shards, query.arrays, q, each, np.array(weights, np.float64), bounded, top)
        return top

    def brute_force(
        self, query: Query, k: int, allowed: Allowed | None = None, weights: tuple[float, float] = (1.0, 1.0)
    ) -> TopK:
        """The same answers as `search`, by scoring every candidate in full: what it is compared with."""
        places = [self._places(int(id), allowed) for id in query.class_ids]
        return self.score(query, k, places, weights, bounded=False)

    def empty(self, query: Query, k: int) -> TopK:
        """Room for the k best, or for all there are."""
        q = len(query.class_ids)
        k = min(k, max((self.class_sizes.get(int(id), 0) for id in query.class_ids), default=0)) or 1
        return TopK(
            np.zeros(q, np.int64), np.zeros((q, k)), np.zeros((q, k), np.uint64), np.zeros((q, k, 4), np.int64),
            np.zeros((q, k, 2), np.int64), np.zeros(q, np.int64),
        )  # fmt: skip

    @cached_property
    def class_sizes(self) -> dict[int, int]:
        """How many segments of each class there are."""
        sizes: dict[int, int] = {}
        for entry in self.reader.manifest.shards:
            for id, (first, last) in entry.classes.items():
                sizes[id] = sizes.get(id, 0) + last - first
        return sizes

    @property
    def shards(self) -> ShardArrays:
        """The search columns of every shard."""
        with self._opening:
            return self._columns[0]

    @property
    def parts(self) -> list[Part]:
        """The index parts; shards that none covers, as in a bank of an older version, are indexed in memory."""
        with self._opening:
            return self._parts

    @cached_property
    def _columns(self) -> tuple[ShardArrays, Sequence[Any]]:
        """The addresses of the search columns, and the columns, which must live as long."""
        footprints = [shard.footprints for shard in self.reader.shards]
        return shard_arrays(footprints, frame_tiles(self.reader.geometry.frame))

    @cached_property
    def _parts(self) -> list[Part]:
        number_of = {shard.entry.id: number for number, shard in enumerate(self.reader.shards)}
        parts = [
            Part(_arrays(part.leaves), np.array([number_of[id] for id in part.entry.shards], np.int64))
            for part in self.reader.parts
        ]
        covered = {int(number) for part in parts for number in part.shards}
        bare = [number for number in range(len(self.reader.shards)) if number not in covered]
        for first in range(0, len(bare), MOST_SHARDS):
            numbers = bare[first : first + MOST_SHARDS]
            footprints = [self.reader.shards[number].footprints for number in numbers]
            leaves = build_leaves(footprints, self.reader.geometry.frame)
            parts.append(Part(_arrays(leaves), np.array(numbers, np.int64)))
        return parts

    def _by_part(self, allowed: Allowed | None) -> list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
        """Candidates in the order of the leaves of each part; of the last few filters they are kept."""
        if allowed is None:
            return [(_ALL, _ALL)] * len(self.parts)
        for given, rows in tuple(self._filters):  # another thread may add to them meanwhile
            if given is allowed:
                return rows
        rows = [self._allowed_rows(part, allowed) for part in self.parts]
        self._filters.append((allowed, rows))
        return rows

    def _allowed_rows(self, part: Part, allowed: Allowed) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Candidates by row of a part's leaves, and which blocks have any."""
        offsets = np.cumsum([0, *(len(allowed[shard]) for shard in part.shards)])
        joined = np.concatenate([allowed[shard] for shard in part.shards]) if len(part.shards) else _ALL
        rows = joined[offsets[part.leaves.shard] + part.leaves.row]
        if not len(rows):
            return rows, _ALL
        return rows, np.logical_or.reduceat(rows, starts_of(part.leaves.class_start[:, 0], SIZES[1]))

    def _places(self, class_id: int, allowed: Allowed | None) -> npt.NDArray[np.int64]:
        found = [np.zeros((0, 2), np.int64)]
        for number, shard in enumerate(self.reader.shards):
            rows = np.arange(*shard.entry.classes.get(class_id, (0, 0)))
            if allowed is not None:
                rows = rows[allowed[number][rows]]
            found.append(np.stack([np.full(len(rows), number), rows], axis=1))
        return np.concatenate(found)


def _arrays(leaves: Leaves) -> LeafArrays:
    """Read-only, as if they were mapped from a file: kernels are compiled for one of the two."""
    views = [getattr(leaves, name).view() for name in LeafArrays._fields]
    for view in views:
        view.setflags(write=False)
    return LeafArrays(*views)


def is_compiled() -> bool:
    """Whether the kernels of the search were compiled before; else the first search takes some 20 s for it.

    They lie where numba keeps them: beside the code, in the user's cache, or in `NUMBA_CACHE_DIR`.
    """
    kept = getattr(search_part, "_cache", None)  # none where numba is switched off
    return kept is None or any(Path(kept.cache_path).glob(f"best_first.{search_part.__name__}-*.nbi"))
