"""Whole layouts answered, warm, one thread: the bounded search beside brute force over the same tiles, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from zeuxis.index.query import Query, make_query
from zeuxis.index.retriever import Retriever
from zeuxis.index.scoring import TopK
from zeuxis.storage.reader import Reader

LAYOUTS = 50
REPEATS = 3
K = 5


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a way of answering: milliseconds a layout, layouts of the test split against a bank of the train split.

    `retrieve` is the whole call, from an array of class ids to hits; the others have the layout cut into components
    already. Equal answers are asserted.
    """
    with dataset_of(quick, data) as (spec, scratch):
        zeuxis.rebuild(spec, scratch / "all", patches=False, workers=workers_of(quick))
        zeuxis.rebuild(spec, scratch / "bank", patches=False, split=["train"], workers=workers_of(quick))
        whole, bank = zeuxis.open(scratch / "all"), zeuxis.open(scratch / "bank")
        names = whole.sources({"split": "test"} if not quick else None, ["source"])["source"].to_pylist()
        names = names[:: max(len(names) // (4 if quick else LAYOUTS), 1)]
        layouts = [whole.layout(name) for name in names]
        retriever = Retriever(Reader(scratch / "bank"))
        geometry, thin = retriever.reader.geometry, bank.classes.flags("thin")
        queries = [make_query(layout, geometry, thin) for layout in layouts]
        exact: Callable[[Query], TopK] = lambda query: retriever._exact.search(query, K)  # noqa: E731
        brute: Callable[[Query], TopK] = lambda query: retriever._exact.brute_force(query, K)  # noqa: E731
        for query in queries:
            _assert_equal(exact(query), brute(query))
        components = sum(len(query.class_ids) for query in queries) / len(queries)
        times: dict[str, list[float]] = {"retrieve": [], "cutting a layout": [], "search": [], "brute force": []}
        for _ in range(REPEATS):
            for layout, query in zip(layouts, queries, strict=True):
                times["retrieve"].append(_seconds(lambda layout=layout: bank.retrieve(layout, K)))
                times["cutting a layout"].append(_seconds(lambda layout=layout: make_query(layout, geometry, thin)))
                times["search"].append(_seconds(lambda query=query: exact(query)))
                times["brute force"].append(_seconds(lambda query=query: brute(query)))
        scored = {"search": exact, "brute force": brute}
        rows = []
        for name, seconds in times.items():
            pairs = [int(scored[name](query).scored.sum()) for query in queries] if name in scored else []
            rows.append(
                {
                    "what": name,
                    "median ms": median(seconds) * 1e3,
                    "p90 ms": float(np.quantile(seconds, 0.9)) * 1e3,
                    "brute force over it": median(times["brute force"]) / median(seconds),
                    "pairs scored": round(sum(pairs) / len(pairs)) if pairs else "",
                    "components": round(components, 1),
                    "segments": bank.segments(columns=["class_id"]).num_rows,
                }
            )
    return rows


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _assert_equal(one: TopK, other: TopK) -> None:
    for name in ("found", "score", "segment_id", "counts"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise AssertionError(f"the bounded search and brute force differ in {name}")
