"""A bank from scratch and again: time, peak memory of a worker, size by kind."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import zeuxis
from benchmarks.banks import dataset_of
from zeuxis.ingest.datasets import open_dataset
from zeuxis.pipelines.info import bytes_by_kind
from zeuxis.storage.reader import Reader


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """Rows of `what`, `value`, `unit`; every time is wall time of the whole call, workers started and stopped."""
    rows: list[dict[str, Any]] = []

    def row(what: str, value: float, unit: str) -> None:
        rows.append({"what": what, "value": round(value, 3), "unit": unit})

    with dataset_of(quick, data) as (spec, scratch):
        dataset = open_dataset(spec)
        refs = dataset.sources()
        row("images", len(refs), "")
        for name, patches in (("without key patches", False), ("with key patches", True)):
            shutil.rmtree(scratch / "bank", ignore_errors=True)
            with _peak_memory() as peak:
                report = zeuxis.rebuild(spec, scratch / "bank", patches=patches, workers=1 if quick else None)
            row(f"rebuild {name}", report.seconds, "s")
            row(f"rebuild {name}, peak memory of a worker", max(peak.values(), default=0) / 1e6, "MB")
        row("rebuild, nothing changed", zeuxis.rebuild(spec, scratch / "bank").seconds, "s")
        reader = Reader(scratch / "bank")
        row("segments", report.segments, "")
        sources = sum(
            (dataset.root / p).stat().st_size for ref in refs for p in (ref.image, ref.layout, ref.depth) if p
        )
        row("sources on disk", sources / 1e6, "MB")
        kinds = {**_blob_bytes(reader), **{k: n for k, n in bytes_by_kind(reader).items() if k != "blobs"}}
        for kind, size in kinds.items():
            row(f"bank: {kind}", size / 1e6, "MB")
        row("bank over sources", sum(bytes_by_kind(reader).values()) / sources, "")
        row("search columns and index a segment", (kinds["search columns"] + kinds["index"]) / report.segments, "bytes")
    return rows


def _blob_bytes(reader: Reader) -> dict[str, float]:
    """Bytes of the values by kind, and what LMDB's pages add."""
    names = {b"i": "images kept", b"l": "label maps kept", b"d": "depth maps kept", b"s": "crops and masks"}
    kinds: dict[str, float] = dict.fromkeys(names.values(), 0)
    for shard in reader.shards:
        for key, value in shard.blobs():
            kinds[names[key[:1]]] += len(value)
    kinds["page overhead"] = bytes_by_kind(reader)["blobs"] - sum(kinds.values())
    return kinds


@contextmanager
def _peak_memory() -> Iterator[dict[int, int]]:
    """The largest resident set of every process this one has started, by process, bytes."""
    peak: dict[int, int] = {}
    stop = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not stop.wait(0.05):
            for child in me.children(recursive=True):
                try:
                    peak[child.pid] = max(peak.get(child.pid, 0), child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
