"""Nights over a bank: nothing changed among many sources, and 1 % of new ones, beside what a full rebuild takes.

`python -m benchmarks.nightly --help` sets the sizes. Every figure is wall time, of the command a median; rival and
figure are taken in the same run. The million is grown (`benchmarks.make_bank`), all of it in one process: there a full
rebuild is what extraction takes a source, times all sources, and indexing all segments anew.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

import zeuxis
from benchmarks.__main__ import as_table
from benchmarks.banks import dataset_of, workers_of
from benchmarks.make_bank import grown_window, make_bank
from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.datasets.base import Dataset, SourceRef
from zeuxis.pipelines.indexing import index_shards
from zeuxis.storage.classes import VOID
from zeuxis.storage.reader import Reader

NEW = 100
"""One source in so many is new."""
FOLDER = 1000
"""Tiny sources in a folder."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        unchanged: tiny sources of the night in which nothing changes; repeats: how often it is timed.
        real: segments of the bank that is built twice, once whole and once by 1 %; grown: segments of the grown one.
    """

    unchanged: int = 100_000
    repeats: int = 5
    real: int = 100_000
    grown: int = 1_000_000


QUICK = Sizes(200, 1, 300, 3_000)


def run(quick: bool, data: Path | None, sizes: Sizes | None = None) -> list[dict[str, Any]]:
    """Rows of `what`, `value`, `unit`."""
    sizes = sizes or (QUICK if quick else Sizes())
    rows: list[dict[str, Any]] = []

    def row(what: str, value: float, unit: str) -> None:
        rows.append({"what": what, "value": round(value, 3), "unit": unit})

    with dataset_of(quick, data, "camvid") as (spec, scratch):
        if sizes.unchanged:
            _unchanged(sizes, scratch / "tiny", workers_of(quick), row)
        if sizes.real:
            _added(sizes.real, spec, scratch / "real", workers_of(quick), row)
        if sizes.grown:
            _added_to_grown(sizes.grown, spec, scratch / "grown", workers_of(quick), row)
    return rows


Row = Callable[[str, float, str], None]


def _unchanged(sizes: Sizes, scratch: Path, workers: int | None, row: Row) -> None:
    """A rebuild as a command, its start included, in which no file changed."""
    tiny_sources(scratch / "data", sizes.unchanged)
    spec, bank = f"folder:{scratch / 'data'}", scratch / "bank"
    built = zeuxis.rebuild(spec, bank, frame=(16, 16), patches=False, workers=workers, report=False)
    command = [sys.executable, "-c", "from zeuxis.cli import main; main()", "rebuild", "--dataset", spec]
    seconds = []
    for _ in range(sizes.repeats):
        start = time.perf_counter()
        subprocess.run([*command, "--bank", str(bank)], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    row("nothing changed: sources", built.n_in, "")
    row("nothing changed: the rebuild that made the bank", built.seconds, "s")
    row("nothing changed: the command", median(seconds), "s")
    row("nothing changed: listing every folder and file alone", _timed(lambda: _stat_all(scratch / "data")), "s")
    shutil.rmtree(scratch)


def _added(segments: int, spec: str, scratch: Path, workers: int | None, row: Row) -> None:
    """A bank of varied real sources built whole, beside the same bank built without 1 % of them and these added."""
    dataset = open_dataset(spec)
    first = varied_sources(dataset, scratch / "data", 0, 8)
    trial = zeuxis.rebuild(first, scratch / "trial", workers=0, patches=False, report=False)
    count = max(2, round(segments * 8 / max(trial.segments, 1)))
    fresh = max(1, count // NEW)
    varied_sources(dataset, scratch / "data", 8, count - fresh)
    zeuxis.rebuild(first, scratch / "bank", workers=workers, report=False)
    varied_sources(dataset, scratch / "data", count - fresh, count)
    night = zeuxis.rebuild(first, scratch / "bank", workers=workers, report=False)
    whole = zeuxis.rebuild(first, scratch / "whole", workers=workers, report=False)
    same = Reader(scratch / "bank").manifest.content == Reader(scratch / "whole").manifest.content
    row("1 % new: sources", whole.n_in, "")
    row("1 % new: segments", whole.segments, "")
    row("1 % new: the same content as the full rebuild", same, "")
    _compare("1 % new", night, whole.seconds, row)
    shutil.rmtree(scratch)


def _added_to_grown(segments: int, spec: str, scratch: Path, workers: int | None, row: Row) -> None:
    """Real sources added to a grown bank, 1 % of its sources."""
    bank = scratch / "bank"
    folder = os.environ.get("ZEUXIS_GROWN_BANKS")
    kept = Path(folder) / f"nightly-{segments}" if folder else bank
    if not kept.exists():
        make_bank(spec, kept, segments=segments, workers=workers or os.cpu_count() or 1)
    if kept != bank:  # shards are never written again, so links to them do
        shutil.copytree(kept, bank, copy_function=os.link, ignore=lambda *_: ["WRITER.lock"])
    before = Reader(bank).manifest
    sources = sum(entry.rows["sources"] for entry in before.shards)
    fresh = varied_sources(open_dataset(spec), scratch / "data", 0, max(1, sources // NEW))
    options = {"workers": 0, "report": False}
    settled = {"frame": before.geometry.frame, "patches": False, "keep_sources": False}
    zeuxis.rebuild(varied_sources(open_dataset(spec), scratch / "warm", 0, 2), scratch / "warmed", **options, **settled)
    alone = zeuxis.rebuild(fresh, scratch / "alone", **options, **settled)
    night = zeuxis.rebuild(fresh, bank, **options)
    index = _timed(lambda: index_shards(_beside(bank, scratch / "index"), before.geometry.frame, before.shards))
    row("1 % new, grown: sources", sources, "")
    row("1 % new, grown: segments", night.segments, "")
    row("1 % new, grown: extraction of the new sources", alone.stages["extract"], "s")
    row("1 % new, grown: indexing all", index, "s")
    _compare("1 % new, grown", night, alone.stages["extract"] / alone.n_in * sources + index, row)
    shutil.rmtree(scratch)


def _compare(what: str, night: Any, full: float, row: Row) -> None:
    row(f"{what}: the full rebuild", full, "s")
    row(f"{what}: adding them", night.seconds, "s")
    for stage, seconds in night.stages.items():
        row(f"{what}: of this, {stage}", seconds, "s")
    row(f"{what}: share", night.seconds / full, "")


def tiny_sources(root: Path, count: int) -> None:
    """Sources of 16x16 pixels, no two alike, in folders of `FOLDER`."""
    labels = [cv2.imencode(".png", np.repeat(np.uint8([[a], [b]]), 8, axis=0).repeat(16, axis=1))[1].tobytes()
              for a, b in ((0, 1), (1, 0))]  # fmt: skip
    for i in range(count):
        folder = f"{i // FOLDER:04d}"
        if i % FOLDER == 0:
            for kind in ("images", "labels"):
                (root / kind / folder).mkdir(parents=True)
        picture = np.full((16, 16, 3), i % 251, np.uint8)
        picture[0, :4].reshape(-1)[:4] = np.frombuffer(np.uint32(i).tobytes(), np.uint8)
        (root / "images" / folder / f"{i:07d}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        (root / "labels" / folder / f"{i:07d}.png").write_bytes(labels[i % 2])


def varied_sources(dataset: Dataset, root: Path, first: int, last: int) -> str:
    """Windows of real sources at their size, some mirrored, as `folder:root`; number `i` is always the same."""
    refs: Sequence[SourceRef] = dataset.sources()
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for i in range(first, last):
        ref = refs[i % len(refs)]
        source = dataset.decode(ref, dataset.read(ref))
        rows, cols, mirrored = grown_window(source.layout, np.random.default_rng(i))
        step = -1 if mirrored else 1
        size = source.layout.shape[1], source.layout.shape[0]
        picture = cv2.resize(source.image[rows, cols][:, ::step], size, interpolation=cv2.INTER_LINEAR)
        layout = cv2.resize(source.layout[rows, cols][:, ::step], size, interpolation=cv2.INTER_NEAREST_EXACT)
        labels = np.where(layout == VOID, 255, layout).astype(np.uint8)
        cv2.imwrite(str(root / "images" / f"{i:06d}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        cv2.imwrite(str(root / "labels" / f"{i:06d}.png"), labels)
    return f"folder:{root}"


def _beside(bank: Path, folder: Path) -> Path:
    """A bank's shards without its index parts."""
    folder.mkdir()
    (folder / "shards").symlink_to(bank / "shards")
    return folder


def _stat_all(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            os.stat(f"{folder}/{name}")


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nightly", description=__doc__)
    parser.add_argument("--data", type=Path, help="the folder that holds camvid/; default generated scenes")
    for name, default in vars(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default:,}; 0 leaves it out")
    given = vars(parser.parse_args(arguments))
    data = given.pop("data")
    print(f"load {os.getloadavg()[0]:.1f}\n\n{as_table(run(False, data, Sizes(**given)))}", flush=True)


if __name__ == "__main__":
    main()
