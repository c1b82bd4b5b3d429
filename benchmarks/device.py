"""Many components at once on a CUDA device, beside the exact search and FAISS flat over the same bounds' embedding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.banks import dataset_of
from benchmarks.make_bank import grown_layout, make_bank
from zeuxis.index.device import DeviceSearch
from zeuxis.index.device_kernels import Side
from zeuxis.index.query import Query, make_query
from zeuxis.index.scoring import TopK
from zeuxis.index.search import ExactSearch
from zeuxis.ingest.datasets import open_dataset
from zeuxis.storage.reader import Reader

K = 5
SEGMENTS = 1_000_000
COMPONENTS = 10_000
SMALL = (20_000, 300)
"""Segments and components where there is no CUDA device."""
QUICK = (300, 20)
REPEATS = 3
EXACT_LAYOUTS = 20
SEED = 1
"""Of the windows that are asked for; those of the bank are drawn from another one."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a way of searching: components a second over many layouts, cut into components already.

    The bank is grown from CamVid's `train` split, the layouts from the rest of it. Equal answers of device and exact
    search are asserted on some of the layouts; FAISS says which share of the exact best it finds.
    """
    gpu = torch.cuda.is_available()
    segments, components = QUICK if quick else (SEGMENTS, COMPONENTS) if gpu else SMALL
    with dataset_of(quick, data, "camvid") as (spec, scratch):
        make_bank(spec, scratch / "bank", segments=segments, split="train", workers=1 if quick else 2)
        reader = Reader(scratch / "bank")
        queries = _queries(spec, reader, components)
        search = DeviceSearch(reader)
        some = queries[:EXACT_LAYOUTS]
        exact = ExactSearch(reader)
        loading = _seconds(lambda: search.search(queries[:1], K), 1)
        answers = search.search(queries, K)
        exact_answers = [exact.search(query, K) for query in some]
        _assert_equal(answers, exact_answers)
        name = torch.cuda.get_device_name(search.device) if gpu else "CPU: no CUDA device, small size"
        total = sum(len(query.class_ids) for query in queries)
        rows = [
            _row("device search", name, _seconds(lambda: search.search(queries, K), REPEATS), total, answers),
            _row(
                "exact search, one thread", "CPU",
                _seconds(lambda: [exact.search(query, K) for query in some], REPEATS),
                sum(len(query.class_ids) for query in some), exact_answers,
            ),
            *_flat(search, queries, answers, name),
        ]  # fmt: skip
    common = {"segments": sum(len(shard.footprints) for shard in reader.shards), "device search loads, s": loading}
    return [row | common for row in rows]


def _queries(spec: str, reader: Reader, components: int) -> list[Query]:
    """Windows of the layouts that are not in the bank, or of all if it holds all, until there are components enough."""
    dataset, thin, (entry,) = open_dataset(spec), reader.classes.flags("thin"), reader.manifest.datasets
    listed = dataset.sources()
    refs = [ref for ref in listed if ref.split != "train"] or listed
    rng, found, total = np.random.default_rng(SEED), [], 0
    while total < components:
        native = dataset.survey(refs[int(rng.integers(len(refs)))])
        found.append(make_query(grown_layout(entry.to_bank(native), rng), reader.geometry, thin))
        total += len(found[-1].class_ids)
    return found


def _flat(search: DeviceSearch, queries: Sequence[Query], answers: Sequence[TopK], name: str) -> list[dict[str, Any]]:
    """FAISS flat over the rooted, normalised cells that the bounds use, one index a class, candidates only."""
    blocks = list(search._bank.blocks())
    gpus = getattr(faiss, "get_num_gpus", lambda: 0)()
    if len(blocks) > 1 or (search.device.type == "cuda" and not gpus):
        return []
    (block,), components = blocks, search._bank.components(queries)
    classes = np.concatenate([query.class_ids for query in queries])
    vectors, wanted = _vectors(block.side), np.concatenate([_ids(top) for top in answers])
    indexes, resources = {}, faiss.StandardGpuResources() if gpus else None
    for class_id, (start, stop) in block.class_rows.items():
        index = faiss.IndexFlatIP(vectors.shape[1])
        if gpus:
            index = faiss.index_cpu_to_gpu(resources, 0, index)
        index.add(vectors[start:stop])
        indexes[class_id] = index, start
    asked, ids = _vectors(components), block.segment_id.cpu().numpy()
    found = np.full((len(classes), K), -1)

    def search_all() -> None:
        for class_id in np.unique(classes):
            if class_id in indexes:
                index, start = indexes[class_id]
                rows = classes == class_id
                at = index.search(asked[rows], K)[1]
                found[rows] = np.where(at >= 0, ids[np.maximum(at, 0) + start], -1)

    seconds = _seconds(search_all, REPEATS)
    shared = sum(len(np.intersect1d(f, w[w >= 0])) for f, w in zip(found, wanted, strict=True)) / (wanted >= 0).sum()
    where = name if gpus else "CPU"
    row = _row("FAISS flat, embedding of the bounds", where, seconds, len(classes), [])
    return [row | {"share of the exact best": float(shared)}]


def _vectors(side: Side) -> np.ndarray:
    """`(n, d)` float32, `d` that of the bounds; the inner product of two is at least the score's two terms."""
    parts = [roots.float() for roots in (side.mask_roots, side.context_roots)]
    parts = [part / part.norm(dim=1, keepdim=True).clamp(min=1e-9) for part in parts]
    vectors: np.ndarray = torch.cat(parts, 1).cpu().numpy()
    return vectors


def _ids(top: TopK) -> np.ndarray:
    """`(q, K)` int64 ids of the hits, -1 where there are fewer."""
    ids = np.full((len(top.found), K), -1)
    width = min(K, top.segment_id.shape[1])
    ids[:, :width] = np.where(np.arange(width) < top.found[:, None], top.segment_id[:, :width].astype(np.int64), -1)
    return ids


def _row(what: str, device: str, seconds: float, components: int, answers: Sequence[TopK]) -> dict[str, Any]:
    scored = sum(int(top.scored.sum()) for top in answers)
    return {
        "what": what,
        "device": device,
        "components a second": components / seconds,
        "components": components,
        "scored a component": scored / components if answers else "",
        "share of the exact best": 1.0,
    }


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    """The least of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _assert_equal(one: Sequence[TopK], other: Sequence[TopK]) -> None:
    for got, want in zip(one, other, strict=False):
        for name in ("found", "score", "segment_id", "counts", "place"):
            if not np.array_equal(getattr(got, name), getattr(want, name)):
                raise AssertionError(f"device search and exact search differ in {name}")
