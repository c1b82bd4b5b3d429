"""A million stub sources through the driver and a scheduler: their memory stays flat, however many tasks there are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from zeuxis.pipelines.cluster import cluster, run_tasks, tell

ROOT = Path(__file__).resolve().parents[1]
SOURCES = 1_000_000
FEW = 20_000
SIZES = (1000, 128)
"""Sources a task."""
MARKS = (0.1, 0.5, 1.0)
"""Shares done when memory is measured."""
SHORT_LOGS = {"DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "10"}
"""As in a local cluster: by default the last thousand messages of each connection are kept, and jobs are messages."""

Stub = tuple[str, ...]


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a share done: resident memory of this process and of a scheduler of its own, and tasks a second."""
    sources = FEW if quick else SOURCES
    with _scheduler() as (process, address), cluster(address) as client:
        client.wait_for_workers(2)
        return [row for size in SIZES for row in _rows(client, process, sources, size)]


def entry_of(job: Stub) -> dict[str, Any]:
    """What a task that does nothing returns: about as much as a shard's entry."""
    tell(done=len(job))
    return {"id": f"{hash(job) & (1 << 64) - 1:016x}", "rows": {"sources": len(job)}, "files": {job[0]: [0, "0" * 64]}}


def _rows(client: Any, scheduler: psutil.Process, sources: int, size: int) -> Iterator[dict[str, Any]]:
    marks = [round(share * sources) for share in MARKS]
    done = tasks = told = 0

    def report(counts: Mapping[str, int]) -> None:
        nonlocal told
        told += counts["done"]

    started = time.perf_counter()
    for entry in run_tasks(client, entry_of, _jobs(sources, size), report, halves=_halves, give_up=_same):
        done, tasks = done + entry["rows"]["sources"], tasks + 1
        if done >= marks[0]:
            seconds = time.perf_counter() - started
            yield {
                "sources a task": size,
                "sources": done,
                "driver MB": psutil.Process().memory_info().rss / 1e6,
                "scheduler MB": scheduler.memory_info().rss / 1e6,
                "tasks a second": tasks / seconds,
                "sources a second": done / seconds,
            }
            marks.pop(0)
    assert done == told == sources, "nothing lost, nothing doubled, everything told"


def _jobs(sources: int, size: int) -> Iterator[Stub]:
    """Jobs of names, made as they are needed."""
    for first in range(0, sources, size):
        yield tuple(f"stub/photograph-{number:07d}" for number in range(first, min(first + size, sources)))


def _halves(job: Stub) -> Sequence[Stub]:
    return [job[: len(job) // 2], job[len(job) // 2 :]] if len(job) > 1 else []


def _same(job: Stub) -> Stub:
    return job


@contextmanager
def _scheduler() -> Iterator[tuple[psutil.Process, str]]:
    """A scheduler in a process of its own, with two workers in others, and its address."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/scheduler.json"
        common = ["--scheduler-file", file, "--no-dashboard"]
        environment = os.environ | SHORT_LOGS
        dask = [sys.executable, "-m", "dask"]
        commands = [[*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *common]]
        commands += [[*dask, "worker", "--no-nanny", "--nthreads", "1", *common]] * 2
        processes = [subprocess.Popen(each, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) for each in commands]
        try:
            yield psutil.Process(processes[0].pid), _address(Path(file))
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait()


def _address(file: Path) -> str:
    """What the scheduler has written down, when it has started."""
    for _ in range(600):
        if file.is_file() and (text := file.read_text()):
            return str(json.loads(text)["address"])
        time.sleep(0.05)
    raise RuntimeError("the scheduler does not start")
