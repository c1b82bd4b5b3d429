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
from .datasets.base import Dataset, SourceRef, group_name
from .extract import rejected, source_name


class KnownSource(NamedTuple):
    """A source that the bank holds: its hash, the stamp of its files, where it belongs, and its shard."""

    source_id: str
    stamp: str
    split: str
    group: str
    shard: str


class KnownReject(NamedTuple):
    """An input that the bank has rejected."""

    source_id: str | None
    reason: str
    message: str
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


@dataclass(frozen=True)
class Look:
    """What one listed source is like now.

    Attributes:
        ref, source: as it is listed, and its name in the bank.
        source_id: the hash of its bytes; empty where they could not be read.
        stamp: of its files.
        size: `(height, width)` of the photograph, zeros where it was not looked up.
        fault: why it cannot be used, as far as a look shows.
        unchanged: the bank holds it as it is.
    """

    ref: SourceRef
    source: str
    source_id: str
    stamp: str
    size: tuple[int, int] = (0, 0)
    fault: SourceError | None = None
    unchanged: bool = False


@dataclass(frozen=True)
class Survey:
    """One data set as it lies on disk, beside what the bank holds of it.

    Attributes:
        name: of the data set in the bank.
        known: what the bank holds of it.
        looks: one a source of the chosen splits.
        listed: names in the bank of all its sources. One that has moved to a split that is not chosen is none of them:
            what the bank holds of it must go, since it would be held under its old split.
    """

    name: str
    known: Known
    looks: Sequence[Look]
    listed: frozenset[str]

    @property
    def staying(self) -> dict[str, str]:
        """Source id to name of the sources that the bank holds and keeps as they are."""
        unchanged = {look.source: look.unchanged for look in self.looks}
        return {
            known.source_id: source
            for source, known in self.known.sources.items()
            if unchanged.get(source, source in self.listed)
        }


def known_of(bank: Reader | None, dataset: str) -> Known:
    """What a bank holds of one of its data sets."""
    sources: dict[str, KnownSource] = {}
    rejects: dict[str, KnownReject] = {}
    for shard in bank.shards if bank else ():
        id = shard.entry.id
        for row in shard.table("sources", ["source", "dataset", "source_id", "stamp", "split", "group"]).to_pylist():
            if row["dataset"] == dataset and row["source"] not in shard.entry.masked:
                found = KnownSource(row["source_id"], row["stamp"], row["split"], row["group"], id)
                sources[row["source"]] = found
        for row in shard.table("rejects", ["source", "dataset", "source_id", "reason", "message"]).to_pylist():
            if row["dataset"] == dataset and row["source"] not in shard.entry.masked_rejects:
                rejects[row["source"]] = KnownReject(row["source_id"], row["reason"], row["message"], id)
    return Known(sources, rejects)


def survey_sources(
    dataset: Dataset,
    name: str,
    known: Known,
    *,
    splits: Sequence[str] = (),
    rehash: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Looks at every source of a data set: its stamp, and where that is new, its bytes.

    Args:
        dataset: as it lies on disk.
        name: its name in the bank.
        known: what the bank holds of it.
        splits: only sources of these splits; none for all.
        rehash: read every file, instead of trusting sizes and modification times.
        progress: called with (sources looked at, sources).

    Raises:
        DatasetError: the data set cannot be used as a whole.
    """
    refs = [ref for ref in dataset.sources() if not splits or ref.split in splits]
    looks = []
    threads = ThreadPoolExecutor()
    try:
        for look in threads.map(lambda ref: _look(dataset, name, ref, known, rehash), refs):
            looks.append(look)
            if progress:
                progress(len(looks), len(refs))
    finally:
        threads.shutdown(cancel_futures=True)
    chosen = {ref.name for ref in refs}
    listed = frozenset(
        source
        for ref in dataset.sources()
        if (source := source_name(name, ref)) not in known.sources
        or ref.name in chosen
        or known.sources[source].split == ref.split
    )
    return Survey(name, known, looks, listed)


def make_plan(survey: Survey, taken: dict[str, str], *, retry: bool = False) -> Plan:
    """Decides what is to be done for one data set.

    Args:
        survey: the data set beside what the bank holds of it.
        taken: source id to name of every source that stays in the bank (`Survey.staying`) or has been planned so far;
            this data set's new ones are added. Equal bytes are one source: the second is rejected as a duplicate.
        retry: give what was rejected another try, since the data set's classes or colours are not those of that time.
    """
    known, listed = survey.known, survey.listed
    plan = Plan(vanished=sorted(set(known.sources) - listed))
    plan.masked += [(known.sources[gone].shard, gone) for gone in plan.vanished]
    plan.masked_rejects += [(known.rejects[gone].shard, gone) for gone in sorted(set(known.rejects) - listed)]
    for look in survey.looks:
        _sort_in(plan, survey, look, taken, retry)
    return plan


def _look(dataset: Dataset, name: str, ref: SourceRef, known: Known, rehash: bool) -> Look:
    source, stamp = source_name(name, ref), dataset.stamp(ref)
    held = known.sources.get(source)
    if held and (held.split, held.group) != (ref.split, group_name(name, ref.group)):
        held = None  # the same bytes, to be stored anew: who may see them has changed
    if held and held.stamp == stamp and not rehash:
        return Look(ref, source, held.source_id, stamp, unchanged=True)
    source_id, where = "", dataset.root / str(ref.image)
    try:
        encoded = dataset.read(ref)
        source_id = encoded.source_id
        if held and held.source_id == source_id:
            return Look(ref, source, source_id, stamp, unchanged=True)
        return Look(ref, source, source_id, stamp, picture_size(encoded.image, where))
    except SourceError as error:
        return Look(ref, source, source_id, stamp, fault=error)
    except Exception as error:  # one source must not stop the others
        reason = "unreadable-image" if source_id else "failed"
        said = sentence(where, f"cannot be decoded ({type(error).__name__}: {error})", fix="replace the file")
        return Look(ref, source, source_id, stamp, fault=SourceError(reason, said))


def _sort_in(plan: Plan, survey: Survey, look: Look, taken: dict[str, str], retry: bool) -> None:
    source, known = look.source, survey.known
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
        if _still_rejected(old, look, fault, retry):
            plan.still_rejected.append(source)
            return
        plan.masked_rejects.append((old.shard, source))
    if fault:
        row = rejected(look.ref, survey.name, fault.reason, str(fault), look.source_id or None, look.stamp)
        plan.rejects.append(row)
    else:
        taken[look.source_id] = source
        plan.new.append(NewSource(look.ref, look.source_id, look.stamp, look.size))


def _still_rejected(old: KnownReject, look: Look, fault: SourceError | None, retry: bool) -> bool:
    """Whether a reject stands as it is; without a hash to compare, while the same is said of it."""
    if fault and (old.source_id or "", old.reason, old.message) == (look.source_id, fault.reason, str(fault)):
        return True
    if not look.source_id or old.source_id != look.source_id or retry:
        return False
    return old.reason != "duplicate" and (fault is None or fault.reason == "duplicate")
