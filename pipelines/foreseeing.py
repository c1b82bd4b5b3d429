"""`zeuxis rebuild --plan`: a sample of what is due is extracted and thrown away, to tell what all of it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..ingest.extract import Extraction, ExtractionSettings
from ..ingest.plan import DueSource, Plan, Survey
from ..storage.parts import PartEntry
from ..storage.shard import ShardEntry
from .extraction import ShardJob, ShardResult, extract_shard
from .forecast import Forecast, forecast, take_sample
from .indexing import index_shards
from .planning import Work
from .progress import Progress
from .rebuild_options import RebuildOptions


def foresee(work: Work, settings: ExtractionSettings, options: RebuildOptions, progress: Progress) -> Forecast | None:
    """What extracting all that is due will take, and making anew what changed settings touch; None for nothing."""
    parts = zip(work.datasets, work.entries, work.surveys, work.plans, strict=True)
    all_of = {entry.name: (dataset.spec, entry, _to_do(work, survey, plan)) for dataset, entry, survey, plan in parts}
    of = {name: each for name, each in all_of.items() if each[2]}
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


def _to_do(work: Work, survey: Survey, plan: Plan) -> list[DueSource]:
    """What is due, and where settings change all that the bank keeps: it is read and written again."""
    kept = plan.reused if work.changes else ()
    return [*plan.due, *(DueSource(survey.refs[name], survey.stamps[name]) for name in kept)]
