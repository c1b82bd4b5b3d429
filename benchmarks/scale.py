"""How exact search grows: banks of real bits of a hundred thousand and of a million segments, one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import zeuxis
from benchmarks.banks import dataset_of, workers_of
from benchmarks.make_bank import make_bank
from benchmarks.queries import K, assert_equal, components, framed, held_out, some, timed, timed_warm
from zeuxis.index.batch import usable_cores
from zeuxis.index.search import ExactSearch
from zeuxis.storage.reader import Reader

FRAME = (360, 480)
SIZES = (12_000, 100_000, 1_000_000)
QUICK_SIZES = (200, 400)
COMPONENTS = 1000
BRUTE = 20
"""Brute force answers this many of the components."""
KEEP = "ZEUXIS_GROWN_BANKS"
"""Environment variable: a folder where grown banks are kept from run to run and taken from."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a bank, grown from CamVid's training split; the components asked for are those of its `val` split.

    `layout ms` is the whole of `bank.retrieve`, from class ids to hits, with all cores. Opening, the first answer and
    memory are those of a fresh process that then asks for a thousand components; memory is what it shares with nobody,
    above what it held before the bank was opened. Equal answers are asserted.
    """
    rows: list[dict[str, Any]] = []
    with dataset_of(quick, data, "camvid") as (spec, scratch):
        frame = None if quick or data is None else FRAME
        layouts = held_out(spec, scratch / "queries", "val" if frame else "train", frame, workers_of(quick))
        np.savez(scratch / "layouts.npz", *layouts)
        for size in QUICK_SIZES if quick else SIZES:
            bank = Path(os.environ.get(KEEP) or scratch) / f"grown-{size}"
            start, made = time.perf_counter(), float("nan")  # where it was kept from another run
            if not list(bank.glob("MANIFEST-*")):
                make_bank(spec, bank, segments=size, split="train" if frame else None, frame=frame)
                made = time.perf_counter() - start
            fresh = json.loads(_in_a_fresh_process(bank, scratch / "layouts.npz"))
            rows.append({**_row(bank, layouts, quick), **fresh, "made and indexed in s": made})
    first = next((row for row in rows if row["segments"] >= SIZES[1]), rows[0])
    for row in rows:
        row["median over that of 100 thousand"] = row["median us"] / first["median us"]
    return [{"what": name, **{f"{row['segments']:,}": row[name] for row in rows}} for name in rows[0]]


def _row(bank: Path, layouts: list[Any], quick: bool) -> dict[str, Any]:
    reader = Reader(bank)
    search = ExactSearch(reader)
    asked = components(framed(search, layouts), 40 if quick else COMPONENTS)
    fewer = some(asked, BRUTE)
    for query in fewer:
        assert_equal(search.search(query, K), search.brute_force(query, K))
    exact = timed_warm(lambda query: search.search(query, K), asked)
    brute = timed(lambda query: search.brute_force(query, K), fewer)
    beside = timed_warm(lambda query: search.search(query, K), fewer)
    opened = zeuxis.open(bank)
    whole = []
    for layout in layouts[: 4 if quick else 101]:
        start = time.perf_counter()
        opened.retrieve(layout, K)
        whole.append(time.perf_counter() - start)
    many = {}
    for workers in (1, usable_cores()):
        start = time.perf_counter()
        asked_for = sum(1 for _ in opened.retrieve_many(layouts, K, workers=workers, progress=False))
        many[workers] = asked_for / (time.perf_counter() - start)
    columns = sum(
        entry.size
        for shard in reader.manifest.shards
        for name, entry in shard.files.items()
        if name == "footprints.safetensors"
    )
    leaves = sum(part.files["leaves.safetensors"].size for part in reader.manifest.index)
    segments = sum(search.class_sizes.values())
    return {
        "segments": segments,
        "median us": float(np.median(exact)) * 1e6,
        "p99 us": float(np.quantile(exact, 0.99)) * 1e6,
        "brute force, median us": float(np.median(brute)) * 1e6,
        "brute force over exact": float(np.median(brute) / np.median(beside)),
        "layout ms": float(np.median(whole)) * 1e3,
        "layouts a second, one thread": many[1],
        "layouts a second, all cores": many[usable_cores()],
        "components a layout": sum(len(query.class_ids) for query in framed(search, layouts)) / len(layouts),
        "search structures, bytes a segment": (columns + leaves) / segments,
    }


def _in_a_fresh_process(bank: Path, layouts: Path) -> str:
    code = "from benchmarks.scale import fresh; import sys; fresh(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", code, str(bank), str(layouts)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def fresh(bank: str, layouts: str) -> None:
    """Prints as JSON how long opening and a first answer take, and the private memory after a thousand components."""
    with np.load(layouts) as stored:
        asked = [stored[name] for name in stored.files]
    import zeuxis.index.retriever  # imports are not what is measured

    before = _private_megabytes()
    start = time.perf_counter()
    opened = zeuxis.open(bank)
    opening = time.perf_counter() - start
    opened.retrieve(asked[0], K)
    first, answered = time.perf_counter() - start, 0
    for layout in asked:
        if answered < COMPONENTS:
            answered += len(opened.retrieve(layout, K))
    memory = _private_megabytes() - before
    print(json.dumps({"open s": opening, "first answer s": first, "private MB": memory}))


def _private_megabytes() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1e3
