"""The last steps of a rebuild: twins, accounts, merging, index, and the next generation."""

from __future__ import annotations

import importlib.metadata
import json
import time
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from ..ingest.extract import Extraction, ExtractionSettings
from ..storage.environments import LMDB_ENGINE
from ..storage.errors import UnfinishedError, sentence
from ..storage.manifest import Manifest, publish, report_path, shard_folder
from ..storage.parts import PartEntry, is_dead, plan_parts, sound_parts
from ..storage.reader import Reader, content_of
from ..storage.records import RejectRecord
from ..storage.retention import retire
from ..storage.shard import Shard, ShardEntry, placed_rows
from ..storage.shard_writer import ShardWriter
from ..storage.stamps import read_stamps, write_stamps
from .accounts import RebuildReport
from .compaction import compact
from .events import Events
from .extraction import ShardResult, shard_settings
from .indexing import index_shards
from .planning import MAX_BROKEN, Work, nothing_usable, refuse_losses
from .progress import Progress
from .rebuild_options import RebuildOptions

_VERSIONS = ("zeuxis", "lmdb", "pyarrow", "numpy", "pillow")
SHOWN = 20
"""Sentences of rejects that a report of a rebuild carries."""


@dataclass
class Extracted:
    """What the workers made.

    Attributes:
        shards: new ones.
        same: name to new stamp of sources whose bytes the bank holds already.
        forgotten: name to source id of sources that carry forgotten bytes.
        rederived: id of an old shard to the one that takes its place, None where nothing is left of it.
        largest, segments: bytes of the largest shard, and segments, of what this run has made.
        still: names of inputs that were tried again and are rejected just as before; the bank keeps the old row.
    """

    shards: list[ShardEntry]
    same: dict[str, str] = field(default_factory=dict)
    forgotten: dict[str, str] = field(default_factory=dict)
    rederived: Mapping[str, ShardEntry | None] = field(default_factory=dict)
    still: set[str] = field(default_factory=set)
    largest: int = 0
    segments: int = 0

    def add(self, result: ShardResult) -> None:
        """Takes in what one task did."""
        if result.entry:
            self.shards.append(result.entry)
            self.largest = max(self.largest, sum(file.size for file in result.entry.files.values()))
            self.segments += result.entry.rows["segments"]
        self.same |= result.same
        self.forgotten |= result.forgotten


def publish_next(
    work: Work,
    settings: ExtractionSettings,
    reader: Reader | None,
    extracted: Extracted,
    options: RebuildOptions,
    events: Events,
    progress: Progress,
    started: float,
) -> RebuildReport:
    """Makes the next generation the current one if anything changed, cleans up, and tells what was done."""
    with events.stage("account"):
        extracted.shards = _in_order(work, extracted.shards)
        new = _with_rejects(work, settings, extracted, _twins(work, extracted))
        shards = (*_remaining(work, extracted, new), *new)
        counts = _counts(work, extracted, new)
        for source, reason, message, _ in _rows(work, new, "rejects", ("source", "reason", "message")):
            events.tell("reject", source=source, reason=reason, message=message)
    manifest = _next_manifest(work, settings, shards, extracted.forgotten)
    before = _sound_parts(work, options)
    manifest = replace(manifest, index=tuple(before), stamps=_stamps(work, extracted, new))
    published = work.renewed or not work.current or _described(manifest) != _described(work.current)
    published = published or bool(plan_parts(before, shards).made)
    old, current = reader, work.current
    if published:
        with events.stage("index"):
            manifest = _indexed(work, manifest, before, options, partial(progress, counts["n_in"], counts["n_in"]))
        with events.stage("publish"):
            reader = Reader(work.bank, manifest)
            _check_usable(work, reader, new, counts, options)
            current = replace(manifest, content=content_of(reader))
            publish(work.bank, current)
            reader = Reader(work.bank)
    assert reader is not None
    assert current is not None
    report = _report(work, reader, counts, published, events, started)
    with events.stage("report"):
        report = _with_pictures(report, reader, old, options) if published else report
    if old and old is not reader:
        old.release()  # it is not to be kept for our sake
    with suppress(OSError), events.stage("clean"):  # the generation is out; the next run tries again
        report = replace(report, retired=tuple(retire(work.bank, options.keep).removed))
    report = replace(report, seconds=time.monotonic() - started, stages=dict(events.stages))
    events.done(report, current)
    return report


def _in_order(work: Work, shards: Sequence[ShardEntry]) -> list[ShardEntry]:
    """Shards by the first of their inputs' names: workers finish when they finish, and equal banks shall be equal."""
    first: dict[str, str] = {}
    for table in ("sources", "rejects"):
        for name, shard in _rows(work, shards, table, ("source",)):
            first[shard] = min(first.get(shard, name), name)
    return sorted(shards, key=lambda entry: first[entry.id])


def _twins(work: Work, extracted: Extracted) -> dict[str, list[tuple[str, RejectRecord]]]:
    """New sources whose bytes the bank has, or another new one before them: by data set, shard id and reject."""
    taken = dict(work.elsewhere)
    made = {row[0] for table in ("sources", "rejects") for row in _rows(work, extracted.shards, table, ("source",))}
    for survey, plan in zip(work.surveys, work.plans, strict=True):
        leaving = {*made, *plan.vanished, *plan.forgotten, *extracted.forgotten, *(row.source for row in plan.rejects)}
        taken |= {row.source_id: name for name, row in survey.known.sources.items() if name not in leaving}
    order = {entry.name: number for number, entry in enumerate(work.entries)}
    rows = _rows(work, extracted.shards, "sources", ("dataset", "source", "source_id", "image", "layout", "stamp"))
    twins: dict[str, list[tuple[str, RejectRecord]]] = {}
    for dataset, source, source_id, image, layout, stamp, shard in sorted(rows, key=lambda r: (order[r[0]], r[1])):
        if (first := taken.setdefault(source_id, source)) != source:
            said = sentence(
                source, f"has the same bytes, image, label map and depth, as {first}", fix="remove one of the two"
            )
            record = RejectRecord(source, dataset, image, layout, "duplicate", said, source_id, stamp)
            twins.setdefault(dataset, []).append((shard, record))
    return twins


def _with_rejects(
    work: Work,
    settings: ExtractionSettings,
    extracted: Extracted,
    twins: Mapping[str, Sequence[tuple[str, RejectRecord]]],
) -> list[ShardEntry]:
    """The new shards without twins, and for each data set one more, of what is rejected without having been read."""
    masked: dict[str, set[str]] = {}
    for shard, record in (twin for each in twins.values() for twin in each):
        masked.setdefault(shard, set()).add(record.source)
    known = _known_rejects(work)
    still = _rejected_as_before(work, extracted.shards, known)
    extracted.still.update(*still.values())
    new = [
        replace(entry, masked=tuple(sorted(masked.get(entry.id, ()))), masked_rejects=tuple(still.get(entry.id, ())))
        for entry in extracted.shards
    ]
    new = [entry for entry in new if not is_dead(entry)]
    for entry, plan in zip(work.entries, work.plans, strict=True):
        records = [*plan.rejects]
        for _, record in twins.get(entry.name, ()):
            if known.get(record.source) == _said(record):
                extracted.still.add(record.source)
            else:
                records.append(record)
        if not records:
            continue
        fingerprint = shard_settings(Extraction(settings, work.classes, entry))
        with ShardWriter(shard_folder(work.bank), fingerprint, settings.geometry.frame) as writer:
            for record in records:
                writer.reject(record)
            new.append(writer.publish())
    return new


_SAID = ("source_id", "stamp", "reason", "message")


def _said(record: RejectRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in _SAID)


def _known_rejects(work: Work) -> dict[str, tuple[Any, ...]]:
    """What the bank says of its rejects, by name; nothing where settings change, since its shards are made anew."""
    rejects = {} if work.changes else {name: row for s in work.surveys for name, row in s.known.rejects.items()}
    return {name: tuple(getattr(row, column) for column in _SAID) for name, row in rejects.items()}


def _rejected_as_before(
    work: Work, shards: Sequence[ShardEntry], known: Mapping[str, tuple[Any, ...]]
) -> dict[str, list[str]]:
    """Rejects in new shards that the bank holds just so, and keeps where they are; by shard id."""
    still: dict[str, list[str]] = {}
    for source, *said, shard in _rows(work, shards, "rejects", ("source", *_SAID)) if known else ():
        if known.get(source) == tuple(said):
            still.setdefault(shard, []).append(source)
    return {shard: sorted(names) for shard, names in still.items()}


def _remaining(work: Work, extracted: Extracted, new: Sequence[ShardEntry]) -> list[ShardEntry]:
    """The shards so far, less what leaves the bank: what vanished, was forgotten, or lies in a new shard now."""
    inputs = {row[0] for table in ("sources", "rejects") for row in _rows(work, new, table, ("source",))}
    gone: dict[str, set[str]] = {}
    gone_rejects: dict[str, set[str]] = {}
    for survey, plan in zip(work.surveys, work.plans, strict=True):
        leaving = {*inputs, *plan.vanished, *plan.forgotten, *extracted.forgotten}
        for name in leaving & set(survey.known.sources):
            gone.setdefault(survey.known.sources[name].shard, set()).add(name)
        for name in {*inputs, *plan.vanished_rejects, *plan.forgotten, *extracted.forgotten, *extracted.same}:
            if name in survey.known.rejects:
                gone_rejects.setdefault(survey.known.rejects[name].shard, set()).add(name)
    left = []
    again = {entry.id for entry in new}  # of a source that is again what it was: all of its old shard is in the new one
    for entry in work.current.shards if work.current else ():
        if entry.id in again:
            continue
        kept = extracted.rederived.get(entry.id, entry)
        if kept is entry:
            masked = tuple(sorted({*entry.masked, *gone.get(entry.id, ())}))
            rejects = tuple(sorted({*entry.masked_rejects, *gone_rejects.get(entry.id, ())}))
            kept = replace(entry, masked=masked, masked_rejects=rejects)
        left += [kept] if kept else []
    return left


def _counts(work: Work, extracted: Extracted, new: Sequence[ShardEntry]) -> dict[str, int]:
    """Every input of the run, by what became of it.

    Raises:
        UnfinishedError: some are not accounted for.
    """
    counts = {
        "n_in": sum(plan.n_in for plan in work.plans) + work.adopted,
        "n_new": sum(entry.rows["sources"] - len(entry.masked) for entry in new),
        "n_reused": sum(len(plan.reused) for plan in work.plans) + len(extracted.same),
        "n_rejected": sum(entry.rows["rejects"] - len(entry.masked_rejects) for entry in new)
        + sum(len(plan.still_rejected) for plan in work.plans)
        + len(extracted.still),
        "n_forgotten": sum(len(plan.forgotten) for plan in work.plans) + len(extracted.forgotten),
    }
    if 2 * counts["n_in"] != sum(counts.values()):
        raise UnfinishedError(
            sentence(work.bank, f"not every input is accounted for ({counts})", fix="nothing was published")
        )
    return counts


def _next_manifest(
    work: Work, settings: ExtractionSettings, shards: Sequence[ShardEntry], forgotten: Mapping[str, str]
) -> Manifest:
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
        forgotten={**work.forgotten, **forgotten},
    )


def _described(manifest: Manifest) -> Any:
    """All of a manifest that makes another generation worth while."""
    shards = sorted(manifest.shards, key=lambda entry: entry.id)
    settings = json.dumps(manifest.settings, sort_keys=True, default=str)  # as it was read, and as it will be
    return shards, settings, manifest.datasets, manifest.classes, manifest.forgotten, manifest.stamps


def _sound_parts(work: Work, options: RebuildOptions) -> Sequence[PartEntry]:
    """The index parts that can stay: by their sizes, by their checksums where all files are to be read."""
    return sound_parts(work.bank, work.current.index, deep=options.rehash) if work.current else ()


def _stamps(work: Work, extracted: Extracted, new: Sequence[ShardEntry]) -> Any:
    """The overlay of newer stamps: what it was, less what lies in a new shard or is gone, and what was touched since.

    A new shard may be one that was there: a source that is again what it was a while ago, under another stamp.
    """
    old = work.current.stamps if work.current else None
    held = {name: row.stamp for survey in work.surveys for name, row in survey.known.sources.items()}
    touched = {name: stamp for name, stamp in extracted.same.items() if held[name] != stamp}
    newer = {**(read_stamps(work.bank, old) if old else {}), **touched}
    for plan in work.plans:
        for name in (*plan.vanished, *plan.forgotten):
            newer.pop(name, None)
    listed = {name: stamp for survey in work.surveys for name, stamp in survey.stamps.items()}
    for name, stamp, _ in _rows(work, new, "sources", ("source", "stamp")):
        newer.pop(name, None)
        newer |= {name: listed[name]} if listed[name] != stamp else {}
    for name, _ in _rows(work, new, "rejects", ("source",)):
        newer.pop(name, None)
    return write_stamps(work.bank, newer) if newer else None


def _indexed(
    work: Work, manifest: Manifest, before: Sequence[PartEntry], options: RebuildOptions, say: Any
) -> Manifest:
    """The manifest after small and half-dead shards were merged and what no part covers was indexed."""
    newer = read_stamps(work.bank, manifest.stamps) if manifest.stamps else {}
    frame = manifest.geometry.frame
    merged = compact(work.bank, frame, before, manifest.shards, options.shard_size, newer, say)
    if merged.merged and newer:
        held = [entry for entry in merged.shards if entry.id in set(merged.merged)]
        written = {name: stamp for name, stamp, _ in _rows(work, held, "sources", ("source", "stamp"))}
        kept = {name: stamp for name, stamp in newer.items() if written.get(name) != stamp}  # it may have been there
        manifest = replace(manifest, stamps=write_stamps(work.bank, kept))
    parts = index_shards(work.bank, frame, merged.shards, before, say)
    return replace(manifest, shards=tuple(merged.shards), index=parts)


def _check_usable(
    work: Work, reader: Reader, new: Sequence[ShardEntry], counts: Mapping[str, int], options: RebuildOptions
) -> None:
    """Refuses to publish a bank without a source of this run, with too few of those it had, or with two equal ids."""
    if not counts["n_new"] + counts["n_reused"] + counts["n_forgotten"] and not options.retry and not work.renewed:
        messages = reader.table("rejects", {"dataset": [entry.name for entry in work.entries]}, ["message"])
        raise nothing_usable(work, messages["message"].to_pylist())
    rejects = {row[0] for row in _rows(work, new, "rejects", ("source",))}
    for survey, plan in zip(work.surveys, work.plans, strict=True):
        if not options.allow_shrink:
            broken = sorted(rejects & set(survey.known.sources))
            refuse_losses(survey, [*plan.vanished, *broken], MAX_BROKEN)
    ids = np.fromiter((row[0] for row in placed_rows(reader.shards, "segments", ("segment_id",))), np.uint64)
    if len(np.unique(ids)) < len(ids):
        fix = "nothing was published; report this"
        raise UnfinishedError(sentence(reader.path, "two segments share an id", fix=fix))


def _report(
    work: Work, reader: Reader, counts: Mapping[str, Any], published: bool, events: Events, started: float
) -> RebuildReport:
    named = {entry.name for entry in work.entries}
    rows = placed_rows(reader.shards, "rejects", ("dataset", "reason", "message"))
    rejects = [(reason, message) for dataset, reason, message, _ in rows if dataset in named]
    return RebuildReport(
        bank=work.bank,
        generation=reader.manifest.generation,
        published=published,
        **counts,
        n_vanished=sum(len(plan.vanished) for plan in work.plans),
        segments=_live_segments(reader.shards),
        reasons=dict(Counter(reason for reason, _ in rejects)),
        rejects=[message for _, message in rejects][:SHOWN],
        ignored=sum(len(dataset.ignored()) for dataset in work.datasets),
        seconds=time.monotonic() - started,
        stages=dict(events.stages),
    )


def _live_segments(shards: Sequence[Shard]) -> int:
    """The segments in the bank; only shards with masked sources have to be looked into."""
    whole = sum(shard.entry.rows["segments"] for shard in shards if not shard.entry.masked)
    partly = [shard for shard in shards if shard.entry.masked]
    return whole + sum(int(row[0]) for row in placed_rows(partly, "sources", ("segments",)))


def _with_pictures(
    report: RebuildReport, reader: Reader, before: Reader | None, options: RebuildOptions
) -> RebuildReport:
    """The report with its HTML page; a page that cannot be drawn costs no generation."""
    if not options.report:
        return report
    from .rebuild_report import rebuild_report

    path = report_path(report.bank, report.generation)
    try:
        return replace(report, report=rebuild_report(reader, before, report, path))
    except Exception as error:  # the generation is out, whatever a page of pictures may die of
        warnings.warn(sentence(path, f"cannot be drawn ({type(error).__name__}: {error})"), stacklevel=2)
        return report


def _rows(work: Work, shards: Iterable[ShardEntry], table: str, columns: Collection[str]) -> list[tuple[Any, ...]]:
    return list(placed_rows([Shard(shard_folder(work.bank) / e.id, e) for e in shards], table, list(columns)))
