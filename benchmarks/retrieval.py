"""Exact search in a real bank, one component a call, warm, one thread: beside brute force and FAISS, in one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.banks import dataset_of, workers_of
from benchmarks.queries import K, assert_equal, components, framed, held_out, some, timed, timed_warm
from zeuxis.index.query import Query
from zeuxis.index.search import ExactSearch
from zeuxis.storage.reader import Reader

FRAME = (360, 480)
COMPONENTS = 1000
RIVAL = 100
"""Every rival answers this many of the components: some take a thousand times as long."""
GRID = 64
"""Side of the masks that FAISS compares, cells."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a way of answering: CamVid's `train` and `test` splits asked for the components of its `val` split.

    `faiss` is its flat Jaccard index over masks of 64x64 cells, the class's own, for the mask term only. Brute force
    scores every candidate over the same tiles; equal answers are asserted.
    """
    import zeuxis

    with dataset_of(quick, data, "camvid") as (spec, scratch):
        frame, workers = None if quick or data is None else FRAME, workers_of(quick)
        split = ["train", "test"] if frame else None
        zeuxis.rebuild(spec, scratch / "bank", patches=False, split=split or (), frame=frame, workers=workers)
        layouts = held_out(spec, scratch / "queries", "val" if frame else "train", frame, workers)
        search = ExactSearch(Reader(scratch / "bank"))
        asked = components(framed(search, layouts), 40 if quick else COMPONENTS)
        fewer = some(asked, RIVAL)
        for query in fewer:
            assert_equal(search.search(query, K), search.brute_force(query, K))
        faiss_of = jaccard(search)
        for query in fewer[:3]:
            faiss_of(query)
        times = {
            "exact": timed_warm(lambda query: search.search(query, K), asked),
            "brute force over the same tiles": timed(lambda query: search.brute_force(query, K), fewer),
            "faiss: flat Jaccard, mask term only": timed(faiss_of, fewer),
        }
        same = {"exact": np.median(timed_warm(lambda query: search.search(query, K), fewer))}
        pairs = [int(search.search(query, K).scored[0]) for query in asked]
    return [
        {
            "what": name,
            "components": len(seconds),
            "segments": sum(search.class_sizes.values()),
            "median us": float(np.median(seconds)) * 1e6,
            "p99 us": float(np.quantile(seconds, 0.99)) * 1e6,
            "times exact": float(np.median(seconds) / same["exact"]) if name != "exact" else 1.0,
            "pairs scored, median": float(np.median(pairs)) if name == "exact" else "",
        }
        for name, seconds in times.items()
    ]


def jaccard(search: ExactSearch) -> Callable[[Query], Any]:
    """FAISS alone: the k masks of the class that are most alike in a square grid of cells."""
    import faiss

    faiss.omp_set_num_threads(1)
    shards = [shard.footprints for shard in search.reader.shards]
    frame = search.reader.geometry.frame
    indexes = {}
    for class_id in search.class_sizes:
        masks: list[Any] = []
        for shard in shards:
            for row in np.flatnonzero(shard.class_id == class_id):
                masks.append(_cells(stored_mask(shard, int(row), frame)))
        index = faiss.IndexFlat(GRID * GRID, faiss.METRIC_Jaccard)
        index.add(np.stack(masks))
        indexes[class_id] = index

    def nearest(query: Query) -> Any:
        class_id = int(query.class_ids[0])
        if class_id not in indexes:
            return None
        mask = query.framed.labels == query.searched[0] + 1
        return indexes[class_id].search(_cells(mask)[None], K)

    return nearest


def stored_mask(shard: Any, row: int, frame: tuple[int, int]) -> Any:
    """A stored footprint as a whole frame, `(R, C)` bool."""
    from zeuxis.index.leaves import open_source

    rows, cols = shard.tiles.shape[1] * 8, shard.tiles.shape[2] * 8
    regions = np.zeros((rows, cols), np.uint32)
    columns = (shard.tiles, shard.row_start, shard.mixed_start, shard.entry_region, shard.entry_bits)
    open_source(*columns, np.int64(shard.source[row]), regions)
    return regions[: frame[0], : frame[1]] == shard.region[row]


def _cells(mask: Any) -> Any:
    """A mask in a square grid, `(GRID * GRID,)` float32 of 0 and 1; never empty, which FAISS would lose."""
    import cv2

    small = cv2.resize(mask.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
    return (small >= min(0.5, float(small.max()))).astype(np.float32).ravel()
