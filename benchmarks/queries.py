"""Components to ask for, and how long answers take: what the benchmarks of retrieval share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import zeuxis
from zeuxis.index.query import Query, make_query
from zeuxis.index.scoring import TopK
from zeuxis.index.search import ExactSearch
from zeuxis.storage.classes import Layout

K = 5


def held_out(spec: str, scratch: Path, split: str, frame: tuple[int, int] | None, workers: int | None) -> list[Layout]:
    """The layouts of a split, in the class ids of a bank of the same data set."""
    zeuxis.rebuild(spec, scratch, patches=False, split=[split], frame=frame, workers=workers)
    bank = zeuxis.open(scratch)
    return [bank.layout(name) for name in bank.sources(columns=["source"])["source"].to_pylist()]


def framed(search: ExactSearch, layouts: Sequence[Layout]) -> list[Query]:
    """Layouts cut into components."""
    reader = search.reader
    return [make_query(layout, reader.geometry, reader.classes.flags("thin")) for layout in layouts]


def components(queries: Sequence[Query], most: int) -> list[Query]:
    """Queries of one component each, drawn from all there are, in the order of their layouts."""
    pairs = [(query, q) for query in queries for q in range(len(query.class_ids))]
    return some([query.only(q) for query, q in pairs], most)


def some(queries: Sequence[Query], most: int) -> list[Query]:
    """A fair sample, in the same order."""
    drawn = np.random.default_rng(0).permutation(len(queries))[:most]
    return [queries[i] for i in np.sort(drawn)]


def timed_warm(call: Callable[[Query], Any], queries: Sequence[Query], repeats: int = 3) -> npt.NDArray[np.float64]:
    """Seconds of each call, `repeats` times in turn, after a first time that does not count."""
    timed(call, queries)
    return np.concatenate([timed(call, queries) for _ in range(repeats)])


def timed(call: Callable[[Query], Any], queries: Sequence[Query]) -> npt.NDArray[np.float64]:
    """Seconds of each call, by the clock."""
    seconds = []
    for query in queries:
        start = time.perf_counter()
        call(query)
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


def assert_equal(one: TopK, other: TopK) -> None:
    """Raises where two answers differ in a hit, a score or a count."""
    for name in ("found", "score", "segment_id", "counts"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise AssertionError(f"the bounded search and brute force differ in {name}")
