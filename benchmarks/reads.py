"""Random reads of segments with pixels and mask, beside decoding their original photograph and cropping."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from zeuxis.ingest.datasets import open_dataset
from zeuxis.storage.reader import Reader

READS = 1000
REPEATS = 3


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a way of reading the same segments in the same random order: milliseconds a segment, in turn."""
    with dataset_of(quick, data) as (spec, scratch):
        zeuxis.rebuild(spec, scratch / "bank", patches=False, workers=workers_of(quick))
        reader, root = Reader(scratch / "bank"), open_dataset(spec).root
        files = dict(zip(*(reader.table("sources")[name].to_pylist() for name in ("source", "image")), strict=True))
        rng = np.random.default_rng(0)
        columns = ["segment_id", "source", "crop_top", "crop_left", "crop_bottom", "crop_right"]
        segments = reader.table("segments", columns=columns)
        chosen = rng.choice(segments.num_rows, min(READS, segments.num_rows), replace=False)
        rows = segments.take(chosen).to_pylist()
        places = [reader.find_segment(row["segment_id"])[0] for row in rows]

        def from_bank() -> None:
            for shard, row in zip(places, rows, strict=True):
                reader.segment_mask(shard, row["segment_id"])
                reader.segment_pixels(shard, row["segment_id"])

        def from_photograph() -> None:
            for row in rows:
                data = np.fromfile(root / files[row["source"]], np.uint8)
                image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
                image[row["crop_top"] : row["crop_bottom"], row["crop_left"] : row["crop_right"]].copy()

        from_bank()  # both warm: files in the page cache, hashes of the shards checked
        from_photograph()
        times: dict[str, list[float]] = {"the bank: pixels and mask": [], "the photograph: decode and crop": []}
        for _ in range(REPEATS):
            for name, read in zip(times, (from_bank, from_photograph), strict=True):
                start = time.perf_counter()
                read()
                times[name].append(time.perf_counter() - start)
        slowest = median(times["the photograph: decode and crop"])
        return [
            {
                "from": name,
                "segments": len(rows),
                "ms a segment": median(seconds) / len(rows) * 1e3,
                "times faster": slowest / median(seconds),
            }
            for name, seconds in times.items()
        ]
