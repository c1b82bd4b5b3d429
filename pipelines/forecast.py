"""What a rebuild will take, told from a small sample: time, disk and memory; and whether there is room for it."""

from __future__ import annotations

import math
import os
import random
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..storage import files
from ..storage.errors import InputError, NoRoomError, sentence
from ..storage.manifest import Manifest
from ..storage.parts import PartEntry, live_sources, mostly_live
from ..storage.shard import ShardEntry
from .events import bank_bytes
from .progress import Progress, silent
from .units import duration, size

if TYPE_CHECKING:
    from rich.console import Group

Job = TypeVar("Job")

SHARE, LEAST, MOST = 0.01, 20, 200
"""The sample: this share of the sources, and how many at least and at most."""
BATCH = 10
"""Sources of the sample that are measured together; the spread is told from batch to batch."""
MARGIN = 0.15
"""What a forecast may be off by besides: other sources, other load, other disks."""
RESERVE = 1 << 20
"""Bytes of disk left alone: for manifests, logs, and what others write meanwhile."""
SHARDS_IN_MEMORY = 1.25
"""What a worker holds of the shard it is making, of its bytes: blobs, records, and copies of some."""
INDEX_BYTES_A_SEGMENT = 400
"""Search structures and candidates on disk; measured 367 in NYU and CamVid, beside what any index part has."""
INDEX_MEMORY_A_SEGMENT = 1024
"""Bytes of memory while they are made; measured 400 to 900."""
INDEX_SECONDS_A_SEGMENT = 2.5e-4
"""Measured 1.5 to 4.5 times 10^-4: training of the candidates costs much in small parts and little in large ones."""


@dataclass(frozen=True)
class Batch:
    """What the extraction of a few sources took, in one process.

    Attributes:
        sources, segments: how many; rejected sources count as sources.
        seconds: wall time, writing included.
        bytes: of the files it made.
        memory: bytes above what the process had before the sample, at the peak.
    """

    sources: int
    segments: int
    seconds: float
    bytes: int
    memory: int


@dataclass(frozen=True)
class Sample:
    """What was measured.

    Attributes:
        batches: of the extraction, at least one.
        start: seconds for the first source, loading of libraries included: once a worker.
        index: the same for the index over all of them: what any index part takes, mostly.
        process: bytes of memory of this process before any of it.
    """

    batches: Sequence[Batch]
    start: float
    index: Batch
    process: int


@dataclass(frozen=True)
class Room:
    """What there is: bytes of free disk where the bank lies, bytes of memory that this machine lets processes have."""

    disk: int
    memory: int
    cores: int


@dataclass(frozen=True)
class Estimate:
    """A number with its spread: it is likely between `low` and `high`."""

    low: float
    likely: float
    high: float

    def of(self, factor: float, more: float = 0.0) -> Estimate:
        """It times a factor, and a fixed number more."""
        return Estimate(self.low * factor + more, self.likely * factor + more, self.high * factor + more)

    def loosened(self, by: float) -> Estimate:
        """It with a wider spread: by this share to either side."""
        return Estimate(self.low * (1 - by), self.likely, self.high * (1 + by))

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.low + other.low, self.likely + other.likely, self.high + other.high)


@dataclass(frozen=True)
class Forecast:
    """What a rebuild will take.

    Attributes:
        bank: where; sampled, total: sources measured, and to do.
        workers: worker processes it is asked for; seconds: their number to the wall time.
        now: bytes of the bank as it is; shards, index: of the new shards, and of the index parts that will be made.
        peak: bytes of disk taken at the most, above what the bank has now.
        worker, driver: bytes of memory of one worker process, and of the process that leads.
        segments: that will be made.
        room: what there is.
    """

    bank: Path
    sampled: int
    total: int
    workers: int
    seconds: Mapping[int, Estimate]
    now: int
    shards: Estimate
    index: Estimate
    peak: Estimate
    worker: Estimate
    driver: Estimate
    segments: Estimate
    room: Room

    @property
    def refusal(self) -> str:
        """Why this will not fit, in one sentence; empty where it will."""
        disk, memory = self.peak.high + RESERVE, self.worker.high * self.workers + self.driver.high
        if disk > self.room.disk:
            return sentence(
                self.bank, expected=f"{size(disk)} of free disk space for {self.total:,} sources",
                found=size(self.room.disk), fix="free some, or put the bank on a larger disk",
            )  # fmt: skip
        if memory > self.room.memory:
            fitting = int((self.room.memory - self.driver.high) // self.worker.high)
            fix = f"ask for --workers {fitting}" if fitting >= 1 else "ask for a smaller --shard-size"
            return sentence(
                self.bank, expected=f"{size(memory)} of memory for {self.workers} workers",
                found=size(self.room.memory), fix=fix,
            )  # fmt: skip
        return ""

    def check(self) -> None:
        """Raises InputError, of which `refusal` is the sentence, where this will not fit."""
        if self.refusal:
            raise InputError(self.refusal)

    def render(self) -> Group:
        """The forecast for a terminal, as a rich renderable."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("", "likely", "between", "there is", box=None, pad_edge=False)
        rows = [
            *(
                (f"time, {n} worker{'s' * (n > 1)}", each, duration, f"{self.room.cores} cores" * (n == self.workers))
                for n, each in self.seconds.items()
            ),
            ("disk, new shards", self.shards, size, ""),
            ("disk, index made anew", self.index, size, ""),
            ("disk, at the most, above now", self.peak, size, size(self.room.disk)),
            ("disk, the bank as a whole", (self.shards + self.index).of(1, self.now), size, ""),
            ("memory, a worker", self.worker, size, ""),
            ("memory, the driver", self.driver, size, ""),
            ("memory, together", self.worker.of(self.workers) + self.driver, size, size(self.room.memory)),
            ("segments", self.segments, lambda value: f"{value:,.0f}", ""),
        ]
        for name, each, said, there in rows:
            table.add_row(name, said(each.likely), f"{said(each.low)} and {said(each.high)}", there)
        head = f"{self.bank}: {self.total:,} sources to extract; forecast from {self.sampled:,} of them"
        return Group(Text(head), table, Text(self.refusal or "this will fit; nothing was written"))


def choose_sample(sources: Mapping[str, Sequence[Job]], seed: int = 0) -> dict[str, list[Job]]:
    """A hundredth of the sources, at least 20 and at most 200, spread evenly over data sets and within them.

    Args:
        sources: data set to what is to be done of it, in order.
        seed: of the draw; equal seeds, equal samples.
    """
    total = sum(map(len, sources.values()))
    wanted = min(max(math.ceil(total * SHARE), LEAST), MOST, total)
    draw = random.Random(seed)
    everything = [(name, job) for name in sorted(sources) for job in sources[name]]
    chosen: dict[str, list[Job]] = {}
    for n in range(wanted):  # one from each of as many equal stretches
        first, last = n * total // wanted, (n + 1) * total // wanted
        name, job = everything[draw.randrange(first, last)]
        chosen.setdefault(name, []).append(job)
    return chosen


def take_sample(
    bank: Path,
    sources: Mapping[str, Sequence[Job]],
    extract: Callable[[str, Sequence[Job], Path], ShardEntry],
    index: Callable[[Path, Sequence[ShardEntry]], Sequence[PartEntry]],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Sample:
    """Extracts a sample beside the bank, in this process, measures it, and removes it again.

    Args:
        bank: the bank; the sample is made in a folder in it or, where there is no bank yet, where it will be.
        sources: data set to what is to be done of it, at least one in all.
        extract: makes one shard of some sources of one data set in a folder that stands for a bank.
        index: makes the index parts over such shards.
        progress: told how many sources of the sample are done.

    Raises:
        InputError: the folder cannot be written. Whatever `extract` raises.
    """
    chosen = choose_sample(sources, seed)
    total = sum(map(len, chosen.values()))
    process = resident()
    with _folder_beside(bank) as folder:
        name, jobs = next(iter(chosen.items()))
        began = time.monotonic()
        extract(name, jobs[:1], folder / "first")
        start = time.monotonic() - began
        batches: list[Batch] = []
        entries: list[ShardEntry] = []
        for name, jobs in chosen.items():
            for first in range(0, len(jobs), BATCH):
                progress(sum(batch.sources for batch in batches), total, "extracting a sample")
                with _measured(process) as measured:
                    entry = extract(name, jobs[first : first + BATCH], folder)
                entries.append(entry)
                batches.append(measured.batch(len(jobs[first : first + BATCH]), entry))
        progress(total, total, "indexing a sample")
        with _measured(process) as measured:
            parts = index(folder, entries)
        segments = sum(batch.segments for batch in batches)
        written = sum(file.size for part in parts for file in part.files.values())
        indexed = Batch(total, segments, measured.seconds, written, measured.memory)
    return Sample(batches, start, indexed, process)


def forecast(
    sample: Sample,
    total: int,
    *,
    bank: Path,
    current: Manifest | None,
    workers: int,
    shard_size: int,
    room: Room | None = None,
) -> Forecast:
    """What the extraction of all sources will take.

    Args:
        sample: measured by `take_sample`.
        total: sources to do.
        bank: where; current: what is there, if anything.
        workers: processes that will extract; 0 for the driver alone.
        shard_size: sources a shard, at most.
        room: default: what this machine has.
    """
    room = room or room_for(bank)
    each = [batch.sources for batch in sample.batches]
    seconds = _mean([batch.seconds for batch in sample.batches], each)
    made = _mean([batch.bytes for batch in sample.batches], each).of(total)
    merging = _merged_bytes(current, shard_size) if current else 0
    segments = _mean([batch.segments for batch in sample.batches], each).of(total)
    old = sum(part.rows for part in current.index) if current else 0
    merged = 4 * segments.likely >= old  # a small night's part stands for itself
    indexed = segments.of(1, old if merged else 0)
    index = indexed.of(INDEX_BYTES_A_SEGMENT, sample.index.bytes)
    asked = max(workers, 1)
    counts = sorted({1, asked, max(room.cores, 1)})
    indexing = indexed.of(INDEX_SECONDS_A_SEGMENT, sample.index.seconds)
    indexing = Estimate(indexing.low / 2, indexing.likely, indexing.high * 2)
    transient = max(max(batch.memory - batch.bytes, 0) for batch in sample.batches)
    shard = min(shard_size, math.ceil(total / asked))
    worker = made.of(shard / max(total, 1) * SHARDS_IN_MEMORY, sample.process + transient).loosened(MARGIN)
    driver = indexed.of(INDEX_MEMORY_A_SEGMENT, sample.process + sample.index.memory).loosened(MARGIN)
    now = bank_bytes(current) if current else 0
    return Forecast(
        bank, sum(each), total, asked,
        {n: seconds.of(total / min(n, room.cores, total), sample.start) + indexing for n in counts},
        now, made, index, (made + index).of(1, merging if merged else 0), worker if workers else worker.of(0),
        driver if workers else Estimate(*map(max, astuple(worker), astuple(driver))),
        segments, room,
    )  # fmt: skip


def _merged_bytes(current: Manifest, shard_size: int) -> int:
    """What may be written again because shards are small or hold much that is gone; the old ones stay meanwhile."""
    live = [(entry, live_sources(entry)) for entry in current.shards]
    again = [entry for entry, n in live if n < shard_size / 2 or not mostly_live([entry])]
    return sum(file.size for entry in again for file in entry.files.values())


def room_for(bank: Path) -> Room:
    """What this machine has for a bank there, limits of its container included."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    return Room(free_bytes(bank), int(MEMORY_LIMIT), int(CPU_COUNT))


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that a folder lies on or will lie on, as far as this user may fill it."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def check_room(folder: Path, needed: int) -> None:
    """Stops the work while what is done can still be kept; cheap enough to be asked before every shard.

    Args:
        folder: of the bank; needed: bytes that will be written before this is asked again.

    Raises:
        NoRoomError: the disk has less.
    """
    free = free_bytes(folder)
    if free < needed + RESERVE:
        raise NoRoomError(
            sentence(
                folder, expected=f"{size(needed + RESERVE)} of free disk space to go on", found=size(free),
                fix="free some and run this again; what is done is kept",
            )
        )  # fmt: skip


def next_bytes(largest: int, segments: int, running: int) -> int:
    """Bytes that shards which are being made, and the index over all, will yet take: for `check_room`.

    Args:
        largest: bytes of the largest shard of this run so far; segments: of all of them.
        running: how many more are being made, or about to be.
    """
    return largest * running + segments * INDEX_BYTES_A_SEGMENT


def resident() -> int:
    """Bytes of memory that this process has at the moment."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class _Measured:
    seconds: float = 0.0
    memory: int = 0

    def batch(self, sources: int, entry: ShardEntry) -> Batch:
        return Batch(
            sources, entry.rows["segments"], self.seconds, sum(f.size for f in entry.files.values()), self.memory
        )


@contextmanager
def _measured(process: int) -> Iterator[_Measured]:
    """Time, and the peak of memory above `process` bytes: looked at a hundred times a second."""
    found, over = _Measured(), threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            found.memory = max(found.memory, resident() - process)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.monotonic()
    try:
        yield found
    finally:
        found.seconds = time.monotonic() - began
        over.set()
        watcher.join()
        found.memory = max(found.memory, resident() - process)


def _mean(values: Sequence[float], weights: Sequence[int]) -> Estimate:
    """The mean a source, and two standard errors of it, with `MARGIN`, to either side."""
    mean = sum(values) / sum(weights)
    rates = [value / weight for value, weight in zip(values, weights, strict=True)]
    error = 2 * statistics.stdev(rates) / math.sqrt(len(rates)) if len(rates) > 1 else mean
    return Estimate(max(mean - error, 0) * (1 - MARGIN), mean, (mean + error) * (1 + MARGIN))


@contextmanager
def _folder_beside(bank: Path) -> Iterator[Path]:
    """A temporary folder on the bank's disk; in the bank where there is one, so that a killed run leaves garbage.

    It is held meanwhile: who collects garbage leaves it alone.
    """
    bank = bank.absolute()
    there = next(path for path in (bank, *bank.parents) if path.is_dir())
    folder = there / f".tmp-plan-{os.getpid()}-{time.monotonic_ns():x}"
    try:
        files.make_folder(folder)
        hold = files.Hold(folder)
    except OSError as error:
        raise InputError(
            sentence(there, f"cannot be written ({error.strerror})", fix="choose another place for the bank")
        ) from error
    try:
        yield folder
    finally:
        hold.release()
        with suppress(OSError):
            files.remove_tree(folder)
