"""Fast search: FAISS nominates, nominees are scored exactly; certified, exact search starts from their scores."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..storage.errors import FilterError, sentence
from ..storage.reader import Reader
from .candidates import INDEX_FILE, TABLE_FILE, Candidates
from .query import Query
from .scoring import TopK
from .search import Allowed, ExactSearch

NOMINEES = 500
"""Nominees a component and part: at a million segments 98 % of the exact five best are among them."""


class FastSearch:
    """Search in one generation of a bank through the candidate indexes of its parts.

    Raises:
        FilterError: on first use, where the bank has none for some of its shards.
    """

    def __init__(self, reader: Reader, exact: ExactSearch) -> None:
        self.reader = reader
        self.exact = exact

    def search(
        self,
        query: Query,
        k: int,
        allowed: Allowed | None = None,
        weights: tuple[float, float] = (1.0, 1.0),
        *,
        certify: bool = False,
    ) -> TopK:
        """The k best of the nominees of every component; certified, the k best of all.

        Args:
            query, k, allowed, weights: as in `ExactSearch.search`.
            certify: search on exactly for whatever reaches the k-th score of the nominees.
        """
        top = self.exact.score(query, k, self._nominees(query, k, allowed, weights), weights)
        if not certify:
            return top
        full = top.found == top.score.shape[1]
        floor = np.where(full, top.score[:, -1], 0.0)
        exact = self.exact.search(query, k, allowed, weights, floor=floor)
        return exact._replace(scored=exact.scored + top.scored)

    def _nominees(
        self, query: Query, k: int, allowed: Allowed | None, weights: tuple[float, float]
    ) -> list[npt.NDArray[np.int64]]:
        found = []
        for candidates, shards in self._indexes:
            rows = None if allowed is None else [allowed[shard] for shard in shards]
            each = candidates.nominate(query, max(NOMINEES, 2 * k), rows, weights)
            found.append([np.column_stack([shards[places[:, 0]], places[:, 1]]) for places in each])
        nothing = np.zeros((0, 2), np.int64)
        return [np.concatenate([nothing, *places]) for places in zip(*found, strict=True)] if found else []

    @cached_property
    def _indexes(self) -> list[tuple[Candidates, npt.NDArray[np.int64]]]:
        """The candidate index of each part with segments, and which shards of the bank it numbers."""
        number_of = {shard.entry.id: number for number, shard in enumerate(self.reader.shards)}
        indexes, covered = [], set[str]()
        for part in self.reader.parts:
            if part.entry.rows and INDEX_FILE not in part.entry.files:
                continue
            covered.update(part.entry.shards)
            if part.entry.rows:
                for name in (TABLE_FILE, INDEX_FILE):
                    part.checked(name)
                shards = np.array([number_of[id] for id in part.entry.shards], np.int64)
                indexes.append((Candidates(part.path, _device()), shards))
        if len(covered) < len(number_of):
            raise FilterError(
                sentence("mode 'fast'", "this bank has no candidate index", fix="run `zeuxis rebuild`, or use 'exact'")
            )
        return indexes


def _device() -> int | None:
    """The first CUDA device, where FAISS was built for one. Written from its documentation, not run so far."""
    import faiss

    return 0 if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() else None
