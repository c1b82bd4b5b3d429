"""Extraction beside its floor.

The floor is decoding the same photographs and label maps, encoding the same crops, one by one as `encode_segment` does,
and writing the same bytes, in the same run, shard by shard in turn, in one process and thread. Extraction encodes them
along the runs of the label map, which is faster: a second floor has that encoding instead. Depth maps, which some data
sets have besides, are no part of either; a third adds their decoding to the first, and such a data set is extracted
once more as if it had none. On a machine that others use, processor time is the steadier of the two clocks; it leaves
out waiting for the disk.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2

from benchmarks.banks import dataset_of
from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.datasets.base import Dataset, SourceRef
from zeuxis.ingest.extract import Extraction, ExtractionSettings
from zeuxis.ingest.plan import DueSource
from zeuxis.ingest.segments import find_segments
from zeuxis.pipelines.extraction import ShardJob, extract_shard
from zeuxis.pipelines.planning import default_frame, prepare
from zeuxis.pipelines.rebuild_options import RebuildOptions
from zeuxis.pipelines.synthesis.memory import kept_memory
from zeuxis.storage import files
from zeuxis.storage.codec import encode_segment, encode_segments
from zeuxis.storage.images import decode_labels, decode_photograph
from zeuxis.storage.layouts import Geometry
from zeuxis.storage.manifest import shard_folder


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a figure of each data set."""
    rows = []
    for kind in ("camvid", "nyu") if data is not None and not quick else ("scenes",):
        with dataset_of(quick, data, kind) as (spec, scratch):
            dataset = open_dataset(spec)
            refs = dataset.sources()[:: max(1, len(dataset.sources()) // COST_IMAGES)][:COST_IMAGES]
            named = {kind: refs}
            if any(ref.depth for ref in refs):
                named[f"{kind}, no depth maps"] = [replace(ref, depth=None) for ref in refs]
            for name, those in named.items():
                found = extraction_cost(dataset, those, scratch / name, quick)
                rows += [{"data set": name, "what": what, "value": value, "unit": unit} for what, value, unit in found]
    return rows


def extraction_cost(
    dataset: Dataset, refs: Sequence[SourceRef], scratch: Path, quick: bool
) -> Iterator[tuple[str, float, str]]:
    """What extraction of some sources without key patches takes an image, its floor by parts; medians over repeats."""
    (scratch / "shards").mkdir(parents=True)
    work = prepare(scratch, None, [dataset], {})
    shape = dataset.survey(refs[0]).shape
    settings = ExtractionSettings(Geometry(default_frame([shape])), patches=None)
    extraction = Extraction(settings, work.classes, work.entries[0])
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with kept_memory():  # as workers keep it
            _measured(dataset, refs[:2], extraction, scratch)  # compiles
            runs = [_measured(dataset, refs, extraction, scratch) for _ in range(1 if quick else COST_REPEATS)]
    finally:
        cv2.setNumThreads(threads)
    for part in runs[0]:
        yield f"{part}, an image", median(1e3 * run[part][1] / len(refs) for run in runs), "ms of processor"
    floors = {
        "its floor": FLOOR,
        "the same with its own encoding": ("reading", "decoding", OWN, "writing"),
        "its floor and decoding depth": (*FLOOR, DEPTH),
    }
    for name, parts in list(floors.items())[: 2 + (DEPTH in runs[0])]:
        for number, clock in enumerate(("wall", "processor")):
            ratios = [run["extraction"][number] / sum(run[part][number] for part in parts) for run in runs]
            yield f"extraction over {name}, {clock} time", median(ratios), ""


FLOOR = ("reading", "decoding", "encoding crops", "writing")
DEPTH, OWN = "decoding depth", "encoding crops along runs"
COST_IMAGES, COST_REPEATS, COST_SHARD = 128, 5, RebuildOptions.shard_size

Spent = dict[str, tuple[float, float]]
"""Part to seconds of wall and of processor time."""


def _measured(dataset: Dataset, refs: Sequence[SourceRef], extraction: Extraction, bank: Path) -> Spent:
    """The floor's parts and the extraction of some sources, a shard of each in turn."""
    spent: Spent = {}
    for first in range(0, len(refs), COST_SHARD):
        part = refs[first : first + COST_SHARD]
        for ref in part:
            _floor(dataset, ref, extraction, spent)
        due = [DueSource(ref, dataset.stamp(ref)) for ref in part]
        with _clocked(spent, "extraction"):
            result = extract_shard(ShardJob(bank, dataset.spec, extraction, due))
        folder = shard_folder(bank) / result["entry"]["id"]
        made = {name: (folder / name).read_bytes() for name in result["entry"]["files"]}
        shutil.rmtree(folder)
        with _clocked(spent, "writing"):
            for number, data in enumerate(made.values()):
                files.write_bytes(bank / f"bare-{number}", data)
        for path in bank.glob("bare-*"):
            path.unlink()
    return spent


def _floor(dataset: Dataset, ref: SourceRef, extraction: Extraction, spent: Spent) -> None:
    """Reads, decodes and encodes for a source."""
    with _clocked(spent, "reading"):
        encoded = dataset.read(ref)
    with _clocked(spent, "decoding"):
        decode_photograph(encoded.image, ref.name)
        decode_labels(encoded.layout or b"", ref.name)
    if encoded.depth is not None:
        with _clocked(spent, DEPTH):
            dataset.decoding.depth(encoded.depth, str(ref.depth))
    source = dataset.decode(ref, encoded)
    layout = extraction.dataset.to_bank(source.layout)
    found = find_segments(layout, encoded.source_id, extraction.classes, extraction.settings.geometry)
    crops = list(found.crops(source.image))
    with _clocked(spent, "encoding crops"):
        for pixels, mask in crops:
            encode_segment(pixels, mask)
    with _clocked(spent, OWN):
        list(encode_segments(source.image, found.framed.components.runs, found.stored + 1, found.crop_boxes))


@contextmanager
def _clocked(spent: Spent, part: str) -> Iterator[None]:
    wall, own = time.perf_counter(), time.process_time()
    yield
    before = spent.get(part, (0.0, 0.0))
    spent[part] = before[0] + time.perf_counter() - wall, before[1] + time.process_time() - own
