"""`zeuxis rebuild`: photographs with label maps in, the next generation of a bank out."""

from __future__ import annotations

import gc
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..ingest.datasets import open_dataset
from ..ingest.datasets.base import Dataset
from ..ingest.extract import Extraction, ExtractionSettings, source_name
from ..storage import files
from ..storage.errors import BankError, InputError, NotABankError, sentence
from ..storage.images import pixel_limit
from ..storage.installation import check_installation
from ..storage.manifest import generations, load_generation, shard_folder
from ..storage.reader import Reader
from ..storage.shard import ShardEntry
from .accounts import RebuildReport, planned, planned_report
from .classmap import load_class_map
from .cluster import cluster, run_tasks
from .collecting import collect_shard, receive
from .events import Events
from .extraction import ShardJob, ShardResult, adopt_shards, due_inputs, extract_shard
from .forecast import check_room, next_bytes
from .foreseeing import foresee
from .planning import Work, plan_all, prepare, resolve_settings, survey_all
from .progress import Progress, silent
from .publishing import Extracted, publish_next
from .rebuild_options import RebuildOptions
from .rederiving import rederive_all


def rebuild(
    dataset: str | Sequence[str], bank: str | Path, *, progress: Progress = silent, **options: Any
) -> RebuildReport:
    """Brings a bank up to date with its data sets, or makes it; unchanged sources are not read again.

    Args:
        dataset: one or several `kind:path`.
        bank: folder of the bank; made where there is none.
        progress: told how many sources are done.
        options: see `RebuildOptions`.

    Raises:
        DatasetError: a data set is unknown, missing, empty or has lost too many sources. BankError: the bank cannot be
        used, or is being written. InputError: other arguments. Nothing is published then.
    """
    chosen = RebuildOptions.of(options)
    path = Path(os.path.expanduser(bank))
    metrics = None if chosen.plan else chosen.metrics  # they tell of the last run that was to change the bank
    with pixel_limit(chosen.max_pixels), Events(chosen.log, metrics, bank=path) as events:
        check_installation()
        return _rebuild(dataset, path, chosen, events, events.following(progress))


def _rebuild(
    dataset: str | Sequence[str], path: Path, options: RebuildOptions, events: Events, progress: Progress
) -> RebuildReport:
    started = time.monotonic()
    with events.stage("list"), _no_collector():
        progress(0, 0, "listing the data sets")
        datasets = open_all(dataset, options.split)
    renamed = load_class_map(options.classes) if options.classes else {}
    check_bank_folder(path)
    if not options.plan:
        make_bank_folder(path)
    with nullcontext() if options.plan else files.writer_lock(path):
        reader = Reader(path) if generations(path) else None
        with events.stage("plan"), _no_collector():
            work = prepare(path, reader, datasets, renamed)
            survey_all(work, reader, options)
            settings = resolve_settings(work, options)
            plan_all(work, options)
        events.tell("planned", **planned(work))
        if options.plan:
            with events.stage("sample"):
                foreseen = foresee(work, settings, options, progress)
            if foreseen and foreseen.refusal:
                events.failed(InputError(foreseen.refusal))
            return planned_report(work, foreseen, started)
        with events.stage("extract"):
            extracted = extract_all(work, settings, options, events, progress)
        return publish_next(work, settings, reader, extracted, options, events, progress, started)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Without the search for reference cycles, which takes a third of the time where a million new objects all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def open_all(dataset: str | Sequence[str], split: Sequence[str]) -> list[Dataset]:
    """The data sets of a run, listed.

    Raises:
        DatasetError, InputError: one of them cannot be used, none is named, or one twice; no source is of the splits.
    """
    specs = [str(dataset)] if isinstance(dataset, (str, os.PathLike)) else [str(spec) for spec in dataset]
    datasets = [open_dataset(spec) for spec in specs]
    splits = {ref.split for each in datasets for ref in each.sources()}
    if not datasets or len({each.spec for each in datasets}) < len(datasets):
        raise InputError(
            sentence("dataset", expected="at least one data set, each once", found=", ".join(specs) or "none")
        )
    if strange := sorted(set(split) - splits):
        raise InputError(sentence("split", expected=f"one of {', '.join(sorted(splits))}", found=", ".join(strange)))
    return datasets


def check_bank_folder(path: Path) -> None:
    """Raises NotABankError where a folder holds something else than a bank."""
    if path.exists() and not path.is_dir():
        raise NotABankError(sentence(path, expected="a folder", found="a file", fix="choose another path for the bank"))
    strange = [p.name for p in path.iterdir() if p.name not in _OWN and p.name[:5] != ".tmp-"] if path.is_dir() else []
    if strange and not generations(path):
        raise NotABankError(
            sentence(
                path, expected="a bank or an empty folder", found=", ".join(sorted(strange)[:3]),
                fix="choose another path for the bank",
            )
        )  # fmt: skip


def make_bank_folder(path: Path) -> None:
    """Makes the folder of a bank where there is none.

    Raises:
        BankError: it cannot be made.
    """
    try:
        files.make_folder(shard_folder(path))
    except OSError as error:
        raise BankError(
            sentence(path, f"cannot be made ({error.strerror})", fix="choose a folder you may write to")
        ) from error


_OWN = {"shards", "index", "stamps", "reports", "WRITER.lock"}


def extract_all(
    work: Work, settings: ExtractionSettings, options: RebuildOptions, events: Events, progress: Progress
) -> Extracted:
    """Makes the new shards: those of an interrupted run that fit, those whose settings change, and what is due."""
    extracted = Extracted([] if options.rehash else _adopt(work, settings))
    jobs = shard_jobs(work, settings, options)
    total = sum(len(plan.due) for plan in work.plans)
    if not total and not work.changes:
        return extracted
    counts: Counter[str] = Counter()

    def report(told: Mapping[str, int]) -> None:
        counts.update(told)
        progress(min(counts["done"], total), total, f"{counts['segments']:,} segments, {counts['rejects']:,} rejects")

    check_room(work.bank, 0)
    progress(0, total, "starting workers")
    with cluster(options.scheduler, options.workers, memory=options.memory) as client:
        run = partial(run_tasks, client, report=report, halves=ShardJob.halves, give_up=ShardJob.given_up)
        ahead = 1 if options.collect else 3  # a shard that was sent here waits in memory
        under_way = ahead * (sum(client.nthreads().values()) if client else 1)
        extracted.rederived = rederive_all(work, settings, None if options.collect else client)
        for row in run(collect_shard if options.collect else extract_shard, jobs, ahead=ahead):
            if options.collect and row["entry"]:
                row["entry"] = receive(work.bank, row["packed"]).to_json()  # one that was there stays, with its hashes
            extracted.add(result := ShardResult.from_json(row))
            if result.entry:
                events.tell("shard", id=result.entry.id, rows=result.entry.rows)
            check_room(work.bank, next_bytes(extracted.largest, extracted.segments, under_way))
    report({"done": total})
    return extracted


def shard_jobs(work: Work, settings: ExtractionSettings, options: RebuildOptions) -> Iterator[ShardJob]:
    """What is due, in batches of even size, one data set each."""
    forgotten = frozenset(work.forgotten.values()) - {""}  # a reject that nobody could read has no hash
    for dataset, entry, plan in zip(work.datasets, work.entries, work.plans, strict=True):
        extraction = Extraction(settings, work.classes, entry)
        count = math.ceil(len(plan.due) / options.shard_size)
        for number in range(count):
            first, last = (len(plan.due) * n // count for n in (number, number + 1))
            batch = plan.due[first:last]
            yield ShardJob(work.bank, dataset.spec, extraction, batch, (), forgotten, options.max_pixels)


def _adopt(work: Work, settings: ExtractionSettings) -> list[ShardEntry]:
    """Finished shards of an interrupted run whose inputs are all still to be read; those leave the plan."""
    named = _named_shards(work.bank) if any(plan.due for plan in work.plans) else set()
    adopted = []
    for entry, plan in zip(work.entries, work.plans, strict=True):
        wanted = due_inputs(entry.name, plan)
        adopted += adopt_shards(work.bank, Extraction(settings, work.classes, entry), wanted, named)
        work.adopted += len(plan.due) - len(wanted)
        plan.due = [due for due in plan.due if source_name(entry.name, due.ref) in wanted]
    return adopted


def _named_shards(bank: Path) -> set[str]:
    """Ids of the shards of all generations: what one of them holds was decided on then, and is not adopted again."""
    named: set[str] = set()
    for number in generations(bank):
        with suppress(BankError):  # of one that cannot be read nothing is known
            named |= {entry.id for entry in load_generation(bank, number).shards}
    return named
