"""`zeuxis rebuild`: photographs with label maps in, the next generation of a bank out."""

from __future__ import annotations

import importlib.metadata
import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from operator import index
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..ingest.datasets import open_dataset
from ..ingest.extract import Extraction, ExtractionSettings, source_name
from ..ingest.ordering import Rule
from ..storage import files
from ..storage.environments import LMDB_ENGINE
from ..storage.errors import BankError, InputError, NotABankError, sentence
from ..storage.installation import check_installation
from ..storage.manifest import Manifest, collect_garbage, generations, publish, shard_folder
from ..storage.parts import plan_parts, sound_parts
from ..storage.reader import Reader, content_of
from ..storage.shard import ShardEntry
from .classmap import load_class_map
from .cluster import cluster, run_tasks
from .extraction import ShardJob, adopt_shards, extract_shard, planned_inputs
from .indexing import index_shards
from .planning import MAX_BROKEN, Work, nothing_usable, plan_all, prepare, refuse_losses, resolve_settings, survey_all
from .progress import Progress, silent


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild did; `n_in = n_new + n_reused + n_rejected`.

    Attributes:
        bank: where; generation: the current one now; published: whether this run made it.
        n_in, n_new, n_reused, n_rejected: sources listed, extracted now, kept as they were, not usable.
        n_vanished: sources that left the bank because their files are gone.
        segments: in the bank now; live segments only.
        reasons: reject reason to count, of all that are not usable now.
        rejects: up to 20 sentences.
        ignored: files that belong to no source.
        seconds: wall time.
    """

    bank: Path
    generation: int
    published: bool
    n_in: int
    n_new: int
    n_reused: int
    n_rejected: int
    n_vanished: int
    segments: int
    reasons: Mapping[str, int]
    rejects: Sequence[str]
    ignored: int
    seconds: float


def rebuild(
    dataset: str | Sequence[str],
    bank: str | Path,
    *,
    frame: tuple[int, int] | None = None,
    min_area: int | None = None,
    join_thin: bool | None = None,
    patches: bool | None = None,
    edge_model: str | Path | None = None,
    depth_rule: Rule | None = None,
    keep_sources: bool | None = None,
    classes: str | Path | None = None,
    split: Sequence[str] = (),
    shard_size: int = 128,
    scheduler: str | None = None,
    workers: int | None = None,
    rehash: bool = False,
    allow_shrink: bool = False,
    progress: Progress = silent,
) -> RebuildReport:
    """Brings a bank up to date with its data sets, or makes it; unchanged sources are not read again.

    Args:
        dataset: one or several `kind:path`.
        bank: folder of the bank; made where there is none.
        frame: `(rows, cols)` of the frame; default: the commonest source size, scaled to a longer side of 512.
        min_area: components under this many frame pixels are counted, not stored; default 64.
        join_thin: thin structures do not cut the region behind them (SIMS); default off.
        patches: find key patches; default on.
        edge_model: a structured-edge model file for the key patches; default: gradient edges.
        depth_rule: `ground` orders touching segments where there is no depth; default `none`.
        keep_sources: keep the sources' files in the bank as they came; default on.
        classes: YAML file that renames classes (`load_class_map`).
        split: take only sources of these splits, and leave those of others as they are; default all.
        shard_size: sources a shard, at most.
        scheduler: address of a Dask scheduler; default: a local cluster on 127.0.0.1.
        workers: processes of the local cluster; default one a core.
        rehash: read every file instead of trusting sizes and modification times.
        allow_shrink: accept that more than 10 % of a data set's sources vanished, or lost their image or label map.
        progress: told how many sources are done.

    Frame, minimum area, thin option, key patches, depth rule and kept sources are fixed when a bank is made; `None`
    means what the bank has.

    Raises:
        DatasetError: a data set is unknown, missing, empty or has lost too many sources. BankError: the bank cannot be
        used, or is being written. InputError: other arguments. Nothing is published then.
    """
    check_installation()
    started = time.monotonic()
    frame, min_area = _whole("frame", frame), _whole("min_area", min_area)
    _check_arguments(frame, min_area, shard_size, workers, depth_rule)
    specs = [str(dataset)] if isinstance(dataset, (str, os.PathLike)) else [str(spec) for spec in dataset]
    datasets = [open_dataset(spec) for spec in specs]
    listed = sum(len(each.sources()) for each in datasets)
    if not datasets or len({each.spec for each in datasets}) < len(datasets):
        raise InputError(
            sentence("dataset", expected="at least one data set, each once", found=", ".join(specs) or "none")
        )
    splits = {ref.split for each in datasets for ref in each.sources()}
    if strange := sorted(set(split) - splits):
        raise InputError(sentence("split", expected=f"one of {', '.join(sorted(splits))}", found=", ".join(strange)))
    renamed = load_class_map(classes) if classes else {}
    path = Path(os.path.expanduser(bank))
    _check_bank_folder(path)
    _make_bank_folder(path)
    wishes = {
        "frame": frame, "min_area": min_area, "join_thin": join_thin, "depth_rule": depth_rule,
        "keep_sources": keep_sources, "patches": patches,
        "edge_model": edge_model and str(Path(os.path.expanduser(edge_model)).resolve()),
    }  # fmt: skip
    with files.writer_lock(path):
        reader = Reader(path) if generations(path) else None
        work = prepare(path, reader, datasets, renamed)
        survey_all(work, reader, split, rehash, progress, listed)
        plan_all(work, reader, allow_shrink)
        settings = resolve_settings(work.current, wishes, work.plans)
        n_in = sum(plan.n_in for plan in work.plans)
        shards = _adopt(work, settings)
        shards += _run(_jobs(work, settings, shard_size), scheduler, workers, progress)
        manifest = _next_manifest(work, settings, (*_masked(work), *shards))
        return _publish(work, reader, manifest, shards, n_in, allow_shrink, started, progress)


def _whole(name: str, value: Any) -> Any:
    """A whole number, or a pair of them as a tuple, whatever kind of number they are; None stays None."""
    try:
        return value if value is None else tuple(map(index, value)) if name == "frame" else index(value)
    except TypeError as error:
        raise InputError(sentence(name, expected="whole numbers", found=repr(value))) from error


def _check_arguments(
    frame: tuple[int, int] | None, min_area: int | None, shard_size: int, workers: int | None, depth_rule: str | None
) -> None:
    if frame is not None and not (len(frame) == 2 and all(8 <= side <= 65535 for side in frame)):
        raise InputError(sentence("frame", expected="rows x cols, each in 8..65535", found=str(frame)))
    for name, value in (("min_area", min_area), ("shard_size", shard_size), ("workers", workers)):
        if value is not None and value < 1:
            raise InputError(sentence(name, expected="at least 1", found=str(value)))
    if depth_rule not in (None, *get_args(Rule)):
        raise InputError(sentence("depth_rule", expected=" or ".join(get_args(Rule)), found=repr(depth_rule)))


def _check_bank_folder(path: Path) -> None:
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


_OWN = {"shards", "index", "WRITER.lock"}


def _make_bank_folder(path: Path) -> None:
    try:
        files.make_folder(shard_folder(path))
    except OSError as error:
        raise BankError(
            sentence(path, f"cannot be made ({error.strerror})", fix="choose a folder you may write to")
        ) from error


def _adopt(work: Work, settings: ExtractionSettings) -> list[ShardEntry]:
    """Finished shards of an interrupted run whose inputs are all still to be done; those leave the plan."""
    named = {entry.id for entry in work.current.shards} if work.current else set()
    adopted = []
    for entry, plan in zip(work.entries, work.plans, strict=True):
        wanted = planned_inputs(entry.name, plan)
        adopted += adopt_shards(work.bank, Extraction(settings, work.classes, entry), wanted, named)
        plan.new = [new for new in plan.new if source_name(entry.name, new.ref) in wanted]
        plan.rejects = [record for record in plan.rejects if record.source in wanted]
    return adopted


def _jobs(work: Work, settings: ExtractionSettings, shard_size: int) -> list[ShardJob]:
    """What is left, in batches of even size, one data set each."""
    jobs = []
    for dataset, entry, plan in zip(work.datasets, work.entries, work.plans, strict=True):
        extraction = Extraction(settings, work.classes, entry)
        count = max(math.ceil(len(plan.new) / shard_size), 1 if plan.rejects else 0)
        for number in range(count):
            first, last = (len(plan.new) * n // count for n in (number, number + 1))
            rejects = plan.rejects if number == 0 else []
            jobs.append(ShardJob(work.bank, dataset.spec, extraction, plan.new[first:last], rejects))
    return jobs


def _run(jobs: Sequence[ShardJob], scheduler: str | None, workers: int | None, progress: Progress) -> list[ShardEntry]:
    """Extracts the shards on a Dask cluster."""
    if not jobs:
        return []
    total = sum(len(job.sources) + len(job.rejects) for job in jobs)
    counts: Counter[str] = Counter()

    def report(told: Mapping[str, int]) -> None:
        counts.update(told)
        progress(min(counts["done"], total), total, f"{counts['segments']:,} segments, {counts['rejects']:,} rejects")

    progress(0, total, "starting workers")
    with cluster(scheduler, workers) as client:
        entries = [ShardEntry.from_json(row) for row in run_tasks(client, extract_shard, jobs, report)]
    segments, rejects = (sum(entry.rows[table] for entry in entries) for table in ("segments", "rejects"))
    report({"done": total, "segments": segments - counts["segments"], "rejects": rejects - counts["rejects"]})
    return entries


def _publish(
    work: Work,
    reader: Reader | None,
    manifest: Manifest,
    new: Sequence[ShardEntry],
    n_in: int,
    allow_shrink: bool,
    started: float,
    progress: Progress,
) -> RebuildReport:
    """Accounts for every input, makes the next generation the current one if anything changed, and cleans up."""
    counts = {
        "n_in": n_in,
        "n_new": sum(entry.rows["sources"] for entry in new),
        "n_reused": sum(len(plan.reused) for plan in work.plans),
        "n_rejected": sum(entry.rows["rejects"] for entry in new) + sum(len(p.still_rejected) for p in work.plans),
    }
    if counts["n_in"] != counts["n_new"] + counts["n_reused"] + counts["n_rejected"]:
        raise BankError(
            sentence(work.bank, f"not every input is accounted for ({counts})", fix="nothing was published")
        )
    before = sound_parts(work.bank, work.current.index) if work.current else ()
    unindexed = plan_parts(before, manifest.shards).made
    published = not work.current or _described(manifest) != _described(work.current) or bool(unindexed)
    if published:
        reader = Reader(work.bank, manifest)
        _check_usable(work, reader, counts, allow_shrink)
        say = partial(progress, n_in, n_in)
        parts = index_shards(work.bank, manifest.geometry.frame, manifest.shards, before, say)
        publish(work.bank, replace(manifest, index=parts, content=content_of(reader)))
    assert reader is not None
    with suppress(OSError):  # the generation is out; the next run tries again
        collect_garbage(work.bank)
    rejects = reader.table("rejects", {"dataset": [entry.name for entry in work.entries]}, ["reason", "message"])
    return RebuildReport(
        bank=work.bank,
        generation=reader.manifest.generation,
        published=published,
        **counts,
        n_vanished=sum(len(plan.vanished) for plan in work.plans),
        segments=reader.table("segments", columns=["segment_id"]).num_rows,
        reasons=dict(Counter(rejects["reason"].to_pylist())),
        rejects=rejects["message"].to_pylist()[:20],
        ignored=sum(len(dataset.ignored()) for dataset in work.datasets),
        seconds=time.monotonic() - started,
    )


def _masked(work: Work) -> list[ShardEntry]:
    """The shards so far, less what leaves the bank; a shard with nothing left is dropped."""
    gone: dict[str, set[str]] = {}
    gone_rejects: dict[str, set[str]] = {}
    for plan in work.plans:
        for shard, source in plan.masked:
            gone.setdefault(shard, set()).add(source)
        for shard, source in plan.masked_rejects:
            gone_rejects.setdefault(shard, set()).add(source)
    kept = []
    for entry in work.current.shards if work.current else ():
        masked = tuple(sorted({*entry.masked, *gone.get(entry.id, ())}))
        masked_rejects = tuple(sorted({*entry.masked_rejects, *gone_rejects.get(entry.id, ())}))
        if len(masked) + len(masked_rejects) < entry.rows["sources"] + entry.rows["rejects"]:
            kept.append(replace(entry, masked=masked, masked_rejects=masked_rejects))
    return kept


def _next_manifest(work: Work, settings: ExtractionSettings, shards: Sequence[ShardEntry]) -> Manifest:
    named = {entry.name: entry for entry in work.entries}
    before = work.current.datasets if work.current else ()
    datasets = [named.pop(entry.name, entry) for entry in before]
    return Manifest(
        work.current.generation + 1 if work.current else 1,
        settings.geometry,
        settings.to_json(),
        work.classes,
        (*datasets, *named.values()),
        tuple(shards),
        "",
        {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "lmdb_engine": str(LMDB_ENGINE),
            **{name: importlib.metadata.version(name) for name in _VERSIONS},
        },
    )


_VERSIONS = ("zeuxis", "lmdb", "pyarrow", "numpy", "pillow")


def _described(manifest: Manifest) -> Any:
    """All of a manifest that makes another generation worth while."""
    return manifest.shards, manifest.datasets, manifest.classes


def _check_usable(work: Work, reader: Reader, counts: Mapping[str, int], allow_shrink: bool) -> None:
    """Refuses to publish a bank without a source of this run, with too few of those it had, or with two equal ids."""
    if not counts["n_new"] + counts["n_reused"]:
        messages = reader.table("rejects", {"dataset": [entry.name for entry in work.entries]}, ["message"])
        raise nothing_usable(work, messages["message"].to_pylist())
    rejects = set(reader.table("rejects", columns=["source"])["source"].to_pylist())
    for dataset, survey, plan in zip(work.datasets, work.surveys, work.plans, strict=True):
        if not allow_shrink:
            broken = sorted(rejects & set(survey.known.sources))
            refuse_losses(dataset, survey, [*plan.vanished, *broken], MAX_BROKEN)
    ids = reader.table("segments", columns=["segment_id"])["segment_id"].to_numpy()
    if len(np.unique(ids)) < len(ids):
        raise BankError(sentence(reader.path, "two segments share an id", fix="nothing was published; report this"))
