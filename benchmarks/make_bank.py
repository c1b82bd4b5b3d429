"""`python -m benchmarks.make_bank SPEC BANK --segments N`: a large bank of real bits, grown from a small data set."""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import math
import multiprocessing
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.datasets.base import Dataset, SourceRef
from zeuxis.ingest.extract import Extraction, ExtractionSettings, layout_bundle, source_name, with_content
from zeuxis.ingest.segments import find_segments
from zeuxis.pipelines.extraction import shard_settings
from zeuxis.pipelines.indexing import index_shards
from zeuxis.pipelines.planning import default_frame, prepare
from zeuxis.pipelines.progress import Progress, silent
from zeuxis.storage import files
from zeuxis.storage.classes import VOID, Layout
from zeuxis.storage.errors import BankError, DatasetError, InputError, ZeuxisError, sentence
from zeuxis.storage.layouts import Geometry, sample_to_frame
from zeuxis.storage.manifest import Manifest, collect_garbage, generations, publish, shard_folder
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.shard import Shard, ShardEntry, finished_shard
from zeuxis.storage.shard_writer import ShardWriter, SourceBundle

ZOOM = (1.02, 1.5)
"""A grown source shows a window of a real layout, enlarged by this much."""
ASPECT = 0.08
"""The window's aspect ratio differs from the layout's by up to this share."""
RECIPE = 1
"""Raised whenever the same data set and seed would grow other layouts."""


def make_bank(
    spec: str,
    bank: str | Path,
    *,
    segments: int,
    seed: int = 0,
    workers: int = 2,
    shard_size: int = 512,
    split: str | None = None,
    frame: tuple[int, int] | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Grows a bank from a data set until it holds a number of segments.

    Every real source comes in once, with the search columns and segment ids that `rebuild` gives it. Grown sources
    follow: random windows of the real layouts, taken in turn, with the split and group of the source they come from.
    The bank is for search alone: it holds no photographs, crops, orderings and key patches. The same arguments give
    the same bank, whatever `workers` is. An interrupted run is taken up again: finished shards are not made anew.

    Args:
        spec: the data set, `kind:path`, every source of which can be read.
        bank: a folder that holds no bank yet.
        segments: at least so many; the source that reaches the number is the last.
        seed: of all that is random.
        workers: processes.
        shard_size: sources a shard.
        split: only real sources of this split.
        frame: `(rows, cols)`; default: as `rebuild` chooses it.
        progress: told how many segments are in finished shards.

    Raises:
        InputError: an argument. BankError: there is a bank already. DatasetError, SourceError: the data set.
    """
    least = {"segments": (segments, 1), "workers": (workers, 1), "shard_size": (shard_size, 1), "seed": (seed, 0)}
    for name, (value, low) in least.items():
        if value < low:
            raise InputError(sentence(name, expected=f"at least {low}", found=str(value)))
    if frame is not None and not all(8 <= side <= 65535 for side in frame):
        raise InputError(sentence("frame", expected="rows x cols, each in 8..65535", found=str(frame)))
    path = Path(bank).expanduser()
    if generations(path):
        raise BankError(sentence(path, expected="no bank", found="one", fix="choose another folder, or remove it"))
    dataset, refs = _opened(spec, split)
    frame = frame or default_frame([_real(dataset.spec, ref)[0].shape for ref in refs])
    work = prepare(path, None, [dataset], {})
    settings = ExtractionSettings(Geometry(frame), keep_sources=False, patches=None)
    growth = Growth(path, spec, split, Extraction(settings, work.classes, work.entries[0]), seed)
    files.make_folder(shard_folder(path))
    spawn = multiprocessing.get_context("spawn")
    with files.writer_lock(path):
        with ProcessPoolExecutor(workers, spawn, cv2.setNumThreads, (1,)) as pool:
            shards = _grow(growth, segments, shard_size, pool, workers + 1, progress)
        manifest = _publish(growth, shards)
        collect_garbage(path)  # shards that were begun ahead
    return manifest


@dataclass(frozen=True)
class Growth:
    """What a bank grows from, and how; its sources are numbered, first the real ones, then the grown ones.

    Attributes:
        bank: its folder.
        spec: the data set, `kind:path`; split: only real sources of this one, or None for all.
        extraction: settings, classes, data set.
        seed: of the order of the real layouts and of the windows.
    """

    bank: Path
    spec: str
    split: str | None
    extraction: Extraction
    seed: int

    def place(self, number: int) -> tuple[SourceRef, str, str]:
        """The real source that a source comes from, its own name, and its stamp, which says how it was made."""
        dataset, refs = _opened(self.spec, self.split)
        grown = number >= len(refs)
        ref = refs[_order(self.seed, len(refs))[number % len(refs)] if grown else number]
        name, stamp = source_name(self.extraction.dataset.name, ref), _stamp(dataset, ref)
        return (ref, f"{name}~{number:06d}", f"{stamp} grown {RECIPE} {self.seed}") if grown else (ref, name, stamp)

    def layout(self, number: int) -> tuple[Layout, str]:
        """The layout of a source, `(H, W)` uint16 of native ids, and the hash that its segments' ids derive from."""
        dataset, refs = _opened(self.spec, self.split)
        ref, _, _ = self.place(number)
        layout, source_id = _real(dataset.spec, ref)
        if number < len(refs):
            return layout, source_id
        layout = grown_layout(layout, np.random.default_rng([self.seed, number]))
        return layout, hashlib.blake2b(layout.tobytes(), digest_size=16).hexdigest()


def _grow(growth: Growth, wanted: int, size: int, pool: Executor, ahead: int, progress: Progress) -> list[ShardEntry]:
    """Shards in the order of their sources until there are segments enough; the last is cut where there are."""
    finished = _finished(growth)
    waiting: deque[tuple[int, ShardEntry | Future[ShardEntry]]] = deque()
    firsts = count(0, size)
    shards: list[ShardEntry] = []
    total = 0
    while True:
        while len(waiting) < ahead:
            first = next(firsts)
            done = finished.get(tuple(growth.place(number)[1:] for number in range(first, first + size)))
            waiting.append((first, done or pool.submit(make_shard, growth, first, size)))
        first, made = waiting.popleft()
        entry = made.result() if isinstance(made, Future) else made
        if total + entry.rows["segments"] >= wanted:
            break
        shards.append(entry)
        total += entry.rows["segments"]
        progress(total, wanted, f"{first + size:,} sources")
        if not total and first + size >= len(_opened(growth.spec, growth.split)[1]):
            raise DatasetError(sentence(growth.spec, "holds no component large enough to be a segment"))
    for _, made in waiting:
        if isinstance(made, Future):
            made.cancel()
    last = pool.submit(make_shard, growth, first, size, wanted - total).result()
    progress(total + last.rows["segments"], wanted, f"{first + last.rows['sources']:,} sources")
    return [*shards, last]


def _finished(growth: Growth) -> dict[tuple[tuple[str, str], ...], ShardEntry]:
    """Whole shards of an interrupted run that were extracted as now, by the names and stamps of their sources."""
    found = {}
    for path in shard_folder(growth.bank).iterdir():
        entry = finished_shard(path)
        if entry and (entry.id, entry.settings) == (path.name, shard_settings(growth.extraction)):
            rows = Shard(path, entry).table("sources", ["source", "stamp"]).to_pylist()
            found[tuple((row["source"], row["stamp"]) for row in rows)] = entry
    return found


def _publish(growth: Growth, shards: Sequence[ShardEntry]) -> Manifest:
    """Makes the shards the first generation of the bank."""
    extraction = growth.extraction
    settings = extraction.settings
    made = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "zeuxis": importlib.metadata.version("zeuxis")}
    manifest = Manifest(
        1, settings.geometry, settings.to_json(), extraction.classes, (extraction.dataset,), tuple(shards), "", made
    )
    reader = Reader(growth.bank, manifest)
    ids = reader.table("segments", columns=["segment_id"])["segment_id"].to_numpy()
    if len(np.unique(ids)) < len(ids):
        raise BankError(
            sentence(growth.bank, "two grown layouts are equal", fix="take another seed, or larger layouts")
        )
    parts = index_shards(growth.bank, settings.geometry.frame, shards)
    manifest = replace(manifest, content=content_of(reader), index=parts)
    publish(growth.bank, manifest)
    return manifest


def make_shard(growth: Growth, first: int, sources: int, wanted: int | None = None) -> ShardEntry:
    """Writes a shard of the sources from `first` on; with `wanted`, ends at the one that reaches so many segments."""
    extraction = growth.extraction
    frame = extraction.settings.geometry.frame
    with ShardWriter(shard_folder(growth.bank), shard_settings(extraction), frame) as writer:
        segments = 0
        for number in range(first, first + sources):
            made = bundle(growth, number)
            writer.add(made)
            segments += len(made.segments)
            if wanted is not None and segments >= wanted:
                break
        return writer.publish()


def bundle(growth: Growth, number: int) -> SourceBundle:
    """Source `number` of a bank as it is stored, without photograph, crops, orderings and key patches."""
    extraction = growth.extraction
    ref, name, stamp = growth.place(number)
    native, source_id = growth.layout(number)
    layout = extraction.dataset.to_bank(native)
    segments = find_segments(layout, source_id, extraction.classes, extraction.settings.geometry)
    return with_content(layout_bundle(name, ref, layout, segments, source_id, extraction, stamp))


def grown_layout(layout: Layout, rng: np.random.Generator) -> Layout:
    """A random window of a layout at the layout's size, `(H, W)` uint16, nearest neighbour, half of them mirrored.

    A window of nothing but void is drawn again.
    """
    while True:
        rows, cols, mirrored = grown_window(layout, rng)
        window = layout[rows, cols][:, ::-1] if mirrored else layout[rows, cols]
        if (window != VOID).any():
            return np.ascontiguousarray(sample_to_frame(window, (layout.shape[0], layout.shape[1])))


def grown_window(layout: Layout, rng: np.random.Generator) -> tuple[slice, slice, bool]:
    """Rows and columns of a random window of a layout, and whether it is to be mirrored."""
    height, width = layout.shape
    zoom, stretch = rng.uniform(*ZOOM), math.sqrt(1 + rng.uniform(-ASPECT, ASPECT))
    rows, cols = min(round(height / zoom * stretch), height), min(round(width / zoom / stretch), width)
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - cols + 1))
    return slice(top, top + rows), slice(left, left + cols), bool(rng.random() < 0.5)


@lru_cache(maxsize=1)
def _opened(spec: str, split: str | None) -> tuple[Dataset, Sequence[SourceRef]]:
    dataset = open_dataset(spec)
    listed = dataset.sources()
    refs = [ref for ref in listed if split in (None, ref.split)]
    if not refs:
        splits = ", ".join(sorted({ref.split for ref in listed}))
        raise InputError(sentence("split", expected=f"one of {splits}", found=str(split)))
    return dataset, refs


@lru_cache(maxsize=1)
def _order(seed: int, sources: int) -> list[int]:
    order: list[int] = np.random.default_rng(seed).permutation(sources).tolist()
    return order


@cache
def _stamp(dataset: Dataset, ref: SourceRef) -> str:
    return dataset.stamp(ref)


@lru_cache(maxsize=2048)
def _real(spec: str, ref: SourceRef) -> tuple[Layout, str]:
    """A real source's layout, decoded once a process, and its id."""
    dataset = open_dataset(spec)
    return dataset.survey(ref), dataset.read(ref).source_id


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.make_bank", description=__doc__)
    parser.add_argument("spec", metavar="SPEC", help="the data set, such as camvid:PATH")
    parser.add_argument("bank", metavar="BANK", type=Path, help="a folder that holds no bank yet")
    parser.add_argument("--segments", type=int, required=True, help="how many, at least")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random; default %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="processes; default %(default)s")
    parser.add_argument("--shard-size", type=int, default=512, help="sources a shard; default %(default)s")
    parser.add_argument("--split", help="only real sources of this split; default all")
    parser.add_argument("--frame", type=_frame, metavar="ROWSxCOLS", help="default: as zeuxis rebuild chooses it")
    given = vars(parser.parse_args(arguments))
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("segments, {task.description}"), TimeElapsedColumn()
    try:
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("starting", total=given["segments"])

            def show(done: int, total: int, note: str = "") -> None:
                bar.update(task, completed=done, total=total, description=note)

            make_bank(**given, progress=show)
    except ZeuxisError as error:
        sys.exit(str(error))


def _frame(text: str) -> tuple[int, int]:
    rows, cols = map(int, text.split("x"))
    return rows, cols


if __name__ == "__main__":
    main()
