"""Whether FAISS earns its place: recall and time of its candidates, scored exactly, beside exact search; one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.banks import dataset_of, workers_of
from benchmarks.make_bank import make_bank
from benchmarks.queries import K, components, framed, held_out, timed
from benchmarks.scale import FRAME, KEEP, QUICK_SIZES, SIZES
from zeuxis.index.candidates import DIM, Candidates, candidate_files, one_thread
from zeuxis.index.query import Query
from zeuxis.index.scoring import TopK
from zeuxis.index.search import ExactSearch
from zeuxis.storage.reader import Reader

COMPONENTS = 500
COUNTS = (100, 200, 500, 1000)
QUICK_COUNTS = (10, 40)
LINKS = 16
"""Of a node of the HNSW graphs, M in FAISS."""
BUDGET = 256
"""Bytes a segment that the vectors may take: one byte a dimension."""

Places: TypeAlias = npt.NDArray[np.int64]
Answer: TypeAlias = Places | TopK


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a bank and way of answering; single components of the `val` split, warm, one thread.

    Recall is the share of the exact five best that are among the answers. After the candidates an exact search starts
    from the score of the fifth of them, which certifies the answer. The rivals, FAISS alone, answer with the
    five largest inner products: an inverted file, and HNSW over all vectors of a class.
    """
    rows: list[dict[str, Any]] = []
    with dataset_of(quick, data, "camvid") as (spec, scratch):
        frame = None if quick or data is None else FRAME
        layouts = held_out(spec, scratch / "queries", "val" if frame else "train", frame, workers_of(quick))
        for size in QUICK_SIZES if quick else SIZES:
            bank = Path(os.environ.get(KEEP) or scratch) / f"grown-{size}"
            if not list(bank.glob("MANIFEST-*")):
                make_bank(spec, bank, segments=size, split="train" if frame else None, frame=frame)
            search = ExactSearch(Reader(bank))
            queries = components(framed(search, layouts), 40 if quick else COMPONENTS)
            rows += rows_of(search, queries, scratch / f"candidates-{size}", QUICK_COUNTS if quick else COUNTS)
    return rows


def rows_of(
    search: ExactSearch, queries: list[Query], folder: Path, counts: tuple[int, ...] = COUNTS
) -> list[dict[str, Any]]:
    """The rows of one bank, whose candidate index is written to a new folder."""
    footprints = [shard.footprints for shard in search.reader.shards]
    segments = sum(map(len, footprints))
    folder.mkdir()
    start = time.perf_counter()
    files = candidate_files(footprints, search.reader.geometry.frame, BUDGET * segments)
    built = time.perf_counter() - start
    for name, data in files.items():
        (folder / name).write_bytes(data)
    size = sum(map(len, files.values())) / segments
    index = Candidates(folder)
    best = [_ids(search, search.search(query, K)) for query in queries]
    rows = []

    def add(what: str, count: int | str, call: Callable[[Query], Answer], **more: float) -> None:
        found = [_ids(search, call(query)) for query in queries]
        shares = [float(np.isin(ids, each).mean()) for ids, each in zip(best, found, strict=True) if len(ids)]
        seconds = timed(call, queries)
        row = {"segments": f"{segments:,}", "what": what, "candidates": count, "recall": float(np.mean(shares))}
        row |= {"median us": float(np.median(seconds)) * 1e6, "p99 us": float(np.quantile(seconds, 0.99)) * 1e6}
        rows.append({**row, "bytes a segment": "", "built in s": "", **more})

    add("exact search", "", lambda query: search.search(query, K))
    add("FAISS candidates", counts[0], partial(_nominated, index, counts[0]))
    rows[-1] |= {"bytes a segment": size, "built in s": built}
    for count in counts[1:]:
        add("FAISS candidates", count, partial(_nominated, index, count))
    for count in counts:
        add("candidates, scored exactly", count, partial(_scored, search, index, count))
    for count in counts:
        add("candidates, then exact search", count, partial(_certified, search, index, count))
    add("FAISS IVF alone", "", partial(_nominated, index, K))
    start = time.perf_counter()
    graphs, bytes_of_graphs = _graphs(index)
    built = time.perf_counter() - start
    add("FAISS HNSW alone", "", partial(_from_graph, index, graphs))
    rows[-1] |= {"bytes a segment": bytes_of_graphs / segments, "built in s": built}
    return rows


def _nominated(index: Candidates, count: int, query: Query) -> Places:
    return index.nominate(query, count)[0]


def _scored(search: ExactSearch, index: Candidates, count: int, query: Query) -> TopK:
    return search.score(query, K, index.nominate(query, count))


def _certified(search: ExactSearch, index: Candidates, count: int, query: Query) -> TopK:
    """The exact answer, by a search from the score of the K-th candidate on."""
    top = _scored(search, index, count, query)
    return search.search(query, K, floor=float(top.score[0, K - 1]) if top.found[0] == K else 0.0)


def _ids(search: ExactSearch, answer: Answer) -> npt.NDArray[np.uint64]:
    """The ids of the segments of an answer."""
    if isinstance(answer, TopK):
        ids: npt.NDArray[np.uint64] = answer.segment_id[0, : answer.found[0]]
        return ids
    shards = search.reader.shards
    return np.array([shards[shard].footprints.segment_id[row] for shard, row in answer.tolist()], np.uint64)


def _graphs(index: Candidates) -> tuple[dict[int, tuple[Any, npt.NDArray[np.int64]]], int]:
    """By class, HNSW over the vectors that the inverted file stores, with the numbers of its segments; their bytes."""
    import faiss
    from faiss.contrib.inspect_tools import get_invlist

    ivf: Any = faiss.downcast_index(index._index)
    graphs, size = {}, 0
    for k, (first, last) in enumerate(index.table.lists):
        lists = [get_invlist(ivf.invlists, int(number)) for number in range(first, last)]
        numbers = np.concatenate([numbers for numbers, _ in lists])
        vectors = ivf.sq.decode(np.concatenate([codes for _, codes in lists]))
        graph = faiss.IndexHNSWFlat(DIM, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = 80, 200
        with one_thread():
            graph.add(vectors)
        size += faiss.serialize_index(graph).nbytes + numbers.nbytes
        graphs[int(index.table.classes[k])] = graph, numbers
    return graphs, size


def _from_graph(index: Candidates, graphs: dict[int, Any], query: Query) -> Places:
    class_id = int(query.class_ids[0])
    if class_id not in graphs:
        return np.zeros((0, 2), np.int64)
    graph, numbers = graphs[class_id]
    k = int(np.searchsorted(index.table.classes, class_id))
    vector = index._embed(query, np.zeros(1, np.int64), k, (1.0, 1.0))
    with one_thread():
        found = graph.search(vector, K)[1][0]
    return index._places(numbers[found[found >= 0]])
