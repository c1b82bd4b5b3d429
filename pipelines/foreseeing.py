"""`zeuxis rebuild --plan`: a sample of what is due is extracted and thrown away, to tell what all of it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..ingest.extract import Extraction, ExtractionSettings
from ..ingest.plan import DueSource
from ..storage.parts import PartEntry
from ..storage.shard import ShardEntry
from .extraction import ShardJob, ShardResult, extract_shard
from .forecast import Forecast, forecast, take_sample
from .indexing import index_shards
from .planning import Work
from .progress import Progress
from .rebuild_options import RebuildOptions


def foresee(work: Work, settings: ExtractionSettings, options: RebuildOptions, progress: Progress) -> Forecast | None:
    """What the extraction of everything that is due will take; None where nothing is."""
    parts = zip(work.datasets, work.entries, work.plans, strict=True)
    of = {entry.name: (dataset.spec, entry, plan.due) for dataset, entry, plan in parts if plan.due}
    if not of:
        return None

    def extract(name: str, due: Sequence[DueSource], folder: Path) -> ShardEntry:
        spec, entry, _ = of[name]
        sources = [replace(each, held="") for each in due]  # what turns out to be the same costs no more than this
        extraction = Extraction(settings, work.classes, entry)
        job = ShardJob(folder, spec, extraction, sources, max_pixels=options.max_pixels)
        entry_made = ShardResult.from_json(extract_shard(job)).entry
        assert entry_made is not None  # every source is in it, as a reject if need be
        return entry_made

    def index(folder: Path, shards: Sequence[ShardEntry]) -> Sequence[PartEntry]:
        return index_shards(folder, settings.geometry.frame, shards)

    sample = take_sample(work.bank, {name: due for name, (_, _, due) in of.items()}, extract, index, progress=progress)
    from dask.system import CPU_COUNT

    total = sum(len(due) for _, _, due in of.values())
    workers = CPU_COUNT if options.workers is None else options.workers
    return forecast(sample, total, bank=work.bank, current=work.current, workers=workers, shard_size=options.shard_size)
