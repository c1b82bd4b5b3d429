"""What a rebuild has to do: which sources are new, changed, unchanged, unusable or gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from ..storage.errors import SourceError, sentence
from ..storage.images import picture_size
from ..storage.reader import Reader
from ..storage.records import RejectRecord
from .datasets.base import Dataset, SourceRef
from .extract import rejected, source_name


class KnownSource(NamedTuple):
    """A source that the bank holds: its hash, the stamp of its files, and its shard."""

    source_id: str
    stamp: str
    shard: str


class KnownReject(NamedTuple):
    """An input that the bank has rejected."""

    source_id: str | None
    stamp: str
    reason: str
    shard: str


@dataclass(frozen=True)
class Known:
    """What the bank holds of one data set, by source name."""

    sources: Mapping[str, KnownSource] = field(default_factory=dict)
    rejects: Mapping[str, KnownReject] = field(default_factory=dict)


@dataclass(frozen=True)
class NewSource:
    """A source to extract: its hash and stamp as the plan saw them, and its size `(height, width)`."""

    ref: SourceRef
    source_id: str
    stamp: str
    size: tuple[int, int]


@dataclass
class Plan:
    """What is to be done for one data set; every listed source is in exactly one of the first four.

    Attributes:
        new: sources to extract.
        rejects: inputs that cannot be used, found so now.
        reused: names of sources that are in the bank already, unchanged.
        still_rejected: names of inputs that were rejected before and have not changed.
        masked: (shard id, source name) of sources that leave the bank: changed ones and vanished ones.
        masked_rejects: (shard id, source name) of rejects that are no longer so.
        vanished: names of sources whose files are gone.
    """

    new: list[NewSource] = field(default_factory=list)
    rejects: list[RejectRecord] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    still_rejected: list[str] = field(default_factory=list)
    masked: list[tuple[str, str]] = field(default_factory=list)
    masked_rejects: list[tuple[str, str]] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)

    @property
    def n_in(self) -> int:
        """The sources that the data set lists."""
        return len(self.new) + len(self.rejects) + len(self.reused) + len(self.still_rejected)


def known_of(bank: Reader | None, dataset: str) -> Known:
    """What a bank holds of one of its data sets."""
    sources: dict[str, KnownSource] = {}
    rejects: dict[str, KnownReject] = {}
    for shard in bank.shards if bank else ():
        id = shard.entry.id
        for row in shard.table("sources", ["source", "dataset", "source_id", "stamp"]).to_pylist():
            if row["dataset"] == dataset and row["source"] not in shard.entry.masked:
                sources[row["source"]] = KnownSource(row["source_id"], row["stamp"], id)
        for row in shard.table("rejects", ["source", "dataset", "source_id", "stamp", "reason"]).to_pylist():
            if row["dataset"] == dataset and row["source"] not in shard.entry.masked_rejects:
                rejects[row["source"]] = KnownReject(row["source_id"], row["stamp"], row["reason"], id)
    return Known(sources, rejects)


def make_plan(
    dataset: Dataset,
    name: str,
    known: Known,
    taken: dict[str, str],
    *,
    splits: Sequence[str] = (),
    rehash: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Compares a data set with what the bank holds of it.

    Args:
        dataset: as it lies on disk.
        name: its name in the bank.
        known: what the bank holds of it.
        taken: source id to source name of every other source in the bank or planned so far; this data set's sources
            are added. Equal bytes are one source: the second is rejected as a duplicate.
        splits: only sources of these splits; none for all.
        rehash: read every file, instead of trusting sizes and modification times.
        progress: called with (sources looked at, sources).

    Raises:
        DatasetError: the data set cannot be used as a whole.
    """
    refs = [ref for ref in dataset.sources() if not splits or ref.split in splits]
    names = [source_name(name, ref) for ref in refs]
    plan = Plan(vanished=sorted(set(known.sources) - set(names)))
    plan.masked += [(known.sources[gone].shard, gone) for gone in plan.vanished]
    plan.masked_rejects += [(known.rejects[gone].shard, gone) for gone in sorted(set(known.rejects) - set(names))]
    looks = []
    with ThreadPoolExecutor() as threads:
        found = threads.map(lambda name, ref: _look(dataset, ref, known.sources.get(name), rehash), names, refs)
        for done, look in enumerate(found, start=1):
            looks.append(look)
            if progress:
                progress(done, len(refs))
    taken.update({look.source_id: source for source, look in zip(names, looks, strict=True) if look.unchanged})
    for source, ref, look in zip(names, refs, looks, strict=True):
        _sort_in(plan, source, name, ref, look, known, taken)
    return plan


class _Look(NamedTuple):
    """What one source is like now; `source_id` is empty where it could not be read."""

    source_id: str
    stamp: str
    size: tuple[int, int] = (0, 0)
    fault: SourceError | None = None
    unchanged: bool = False


def _look(dataset: Dataset, ref: SourceRef, known: KnownSource | None, rehash: bool) -> _Look:
    stamp = dataset.stamp(ref)
    if known and known.stamp == stamp and not rehash:
        return _Look(known.source_id, stamp, unchanged=True)
    source_id = ""
    try:
        encoded = dataset.read(ref)
        source_id = encoded.source_id
        if known and known.source_id == source_id:
            return _Look(source_id, stamp, unchanged=True)
        return _Look(source_id, stamp, picture_size(encoded.image, dataset.root / str(ref.image)))
    except SourceError as error:
        return _Look(source_id, stamp, fault=error)


def _sort_in(
    plan: Plan, source: str, name: str, ref: SourceRef, look: _Look, known: Known, taken: dict[str, str]
) -> None:
    if look.unchanged:
        plan.reused.append(source)
        return
    if source in known.sources:
        plan.masked.append((known.sources[source].shard, source))
    fault = look.fault
    if fault is None and look.source_id in taken:
        said = f"has the same bytes, image, label map and depth, as {taken[look.source_id]}"
        fault = SourceError("duplicate", sentence(source, said, fix="remove one of the two"))
    old = known.rejects.get(source)
    if old:
        same = (old.source_id or "") == look.source_id and (look.source_id or old.stamp == look.stamp)
        if same and (fault or old.reason != "duplicate"):
            plan.still_rejected.append(source)
            return
        plan.masked_rejects.append((old.shard, source))
    if fault:
        plan.rejects.append(rejected(ref, name, fault.reason, str(fault), look.source_id or None, look.stamp))
    else:
        taken[look.source_id] = source
        plan.new.append(NewSource(ref, look.source_id, look.stamp, look.size))
