"""What a rebuild has to do, by listings and stamps alone: what is to be read, unchanged, unusable or gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..storage.reader import Reader
from ..storage.records import RejectRecord
from ..storage.shard import placed_rows
from ..storage.stamps import read_stamps
from .datasets.base import Dataset, SourceRef, group_name
from .extract import rejected, source_name

ANY_REASON = "failed"
"""As a reason to try again: every reject."""
_UNSEEN = frozenset({"worker-died"})
"""Reasons for which nobody has seen the bytes, and which are nevertheless not tried again while the stamp is equal."""


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
    stamp: str
    reason: str
    message: str
    shard: str


@dataclass(frozen=True)
class Known:
    """What the bank holds of one data set, by source name."""

    sources: Mapping[str, KnownSource] = field(default_factory=dict)
    rejects: Mapping[str, KnownReject] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DueSource:
    """A source that is to be read.

    Attributes:
        ref: as it is listed.
        stamp: of its files when it was listed.
        held: the hash of the bytes that the bank holds of it in the same place; empty where it holds none. Where the
            bytes are still those, there is nothing to extract.
    """

    ref: SourceRef
    stamp: str
    held: str = ""


@dataclass
class Plan:
    """What is to be done for one data set; every listed source is in exactly one of the first five.

    Attributes:
        due: sources to read.
        rejects: inputs that cannot be used, as the listing shows.
        reused: names of sources that are in the bank already, unchanged.
        still_rejected: names of inputs that were rejected before and have not changed.
        forgotten: names of sources that were forgotten.
        vanished: names of sources that the bank holds and the data set no longer lists.
        vanished_rejects: names of rejects that it no longer lists.
    """

    due: list[DueSource] = field(default_factory=list)
    rejects: list[RejectRecord] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    still_rejected: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    vanished_rejects: list[str] = field(default_factory=list)

    @property
    def n_in(self) -> int:
        """The sources that the data set lists."""
        known = len(self.reused) + len(self.still_rejected) + len(self.forgotten)
        return known + len(self.due) + len(self.rejects)


@dataclass(frozen=True)
class Survey:
    """One data set as it is listed, beside what the bank holds of it.

    Attributes:
        dataset: the data set; name: its name in the bank.
        known: what the bank holds of it.
        refs: name in the bank to source, of those this run is about.
        stamps: name in the bank to stamp, of the same.
        unchanged: names of sources that the bank holds as they are.
        listed: names of all sources of the data set. One that has moved to a split that is not chosen is none of them:
            what the bank holds of it must go, since it would be held under its old split.
    """

    dataset: Dataset
    name: str
    known: Known
    refs: Mapping[str, SourceRef]
    stamps: Mapping[str, str]
    unchanged: Collection[str]
    listed: Collection[str]

    @property
    def staying(self) -> dict[str, str]:
        """Source id to name of the sources that the bank holds and keeps as they are."""
        sources = self.known.sources
        kept = (name for name in sources if name in self.unchanged or (name in self.listed and name not in self.refs))
        return {sources[name].source_id: name for name in kept}


def known_of(bank: Reader | None) -> dict[str, Known]:
    """What one generation of a bank holds, by data set."""
    if bank is None:
        return {}
    sources: dict[str, dict[str, KnownSource]] = {entry.name: {} for entry in bank.manifest.datasets}
    rejects: dict[str, dict[str, KnownReject]] = {entry.name: {} for entry in bank.manifest.datasets}
    touched = read_stamps(bank.path, bank.manifest.stamps) if bank.manifest.stamps else {}
    for dataset, source, source_id, stamp, split, group, shard in placed_rows(bank.shards, "sources", _SOURCE_COLUMNS):
        sources[dataset][source] = KnownSource(source_id, touched.get(source, stamp), split, group, shard)
    for dataset, source, *rest in placed_rows(bank.shards, "rejects", _REJECT_COLUMNS):
        rejects[dataset][source] = KnownReject(*rest)
    return {name: Known(sources[name], rejects[name]) for name in sources}


_SOURCE_COLUMNS = ("dataset", "source", "source_id", "stamp", "split", "group")
_REJECT_COLUMNS = ("dataset", "source", "source_id", "stamp", "reason", "message")


def survey_sources(
    dataset: Dataset,
    name: str,
    known: Known,
    *,
    splits: Sequence[str] = (),
    only: Collection[str] | None = None,
    rehash: bool = False,
) -> Survey:
    """Compares the listing of a data set with what the bank holds of it; no file is opened.

    Args:
        dataset: to be listed.
        name: its name in the bank.
        known: what the bank holds of it.
        splits: only sources of these splits; none for all.
        only: names in the bank of the only sources this run is about; None for all.
        rehash: take no stamp's word that a file is unchanged.

    Raises:
        DatasetError: the data set cannot be used as a whole.
    """
    refs: dict[str, SourceRef] = {}
    stamps: dict[str, str] = {}
    unchanged: set[str] = set()
    listed: set[str] = set()
    for ref in dataset.sources():
        source = source_name(name, ref)
        held = known.sources.get(source)
        chosen = not splits or ref.split in splits
        if chosen or held is None or held.split == ref.split:
            listed.add(source)
        if not chosen or (only is not None and source not in only):
            continue
        refs[source] = ref
        stamps[source] = stamp = ref.stamp or dataset.stamp(ref)
        if held and held.stamp == stamp and not rehash and _same_place(held, name, ref):
            unchanged.add(source)
    return Survey(dataset, name, known, refs, stamps, unchanged, listed)


def make_plan(
    survey: Survey,
    staying: Mapping[str, str],
    *,
    forgotten: Collection[str] = (),
    retry: Collection[str] = (),
    anew: bool = False,
) -> Plan:
    """Decides what is to be done for one data set.

    Args:
        survey: the data set beside what the bank holds of it.
        staying: source id to name of every source that stays in the bank, of all data sets.
        forgotten: names of sources that must not be taken in again.
        retry: reasons of rejects that get another try; `failed` for all.
        anew: extract what is unchanged, too.
    """
    known = survey.known
    plan = Plan(
        vanished=sorted(set(known.sources).difference(survey.listed)),
        vanished_rejects=sorted(set(known.rejects).difference(survey.listed)),
    )
    for source, ref in survey.refs.items():
        if source in forgotten:
            plan.forgotten.append(source)
        elif source in survey.unchanged and not anew:
            plan.reused.append(source)
        else:
            _sort_in(plan, survey, source, ref, staying, retry)
    return plan


def only_rejects(plan: Plan, survey: Survey, retry: Collection[str]) -> Plan:
    """The part of a plan that tries rejects of these reasons again; all else stays as it is."""
    known = survey.known.rejects
    asked = {name for name, row in known.items() if ANY_REASON in retry or row.reason in retry}
    due = {source_name(survey.name, each.ref): each for each in plan.due}
    rejects = {row.source: row for row in plan.rejects}
    left = [name for name in (*due, *rejects) if name not in asked]
    return replace(
        plan,
        due=[each for name, each in due.items() if name in asked],
        rejects=[row for name, row in rejects.items() if name in asked],
        reused=[*plan.reused, *(name for name in left if name not in known)],
        still_rejected=[*plan.still_rejected, *(name for name in left if name in known)],
        vanished=[],
        vanished_rejects=[],
    )


def _sort_in(
    plan: Plan, survey: Survey, source: str, ref: SourceRef, staying: Mapping[str, str], retry: Collection[str]
) -> None:
    old, stamp = survey.known.rejects.get(source), survey.stamps[source]
    fault = survey.dataset.fault_of(ref)
    if fault:
        if old and (old.reason, old.message) == (fault.reason, str(fault)):
            plan.still_rejected.append(source)
        else:
            plan.rejects.append(rejected(ref, survey.name, fault.reason, str(fault), None, stamp))
    elif old and _stands(old, stamp, staying, retry):
        plan.still_rejected.append(source)
    else:
        held = survey.known.sources.get(source)
        same_place = held is not None and _same_place(held, survey.name, ref)
        plan.due.append(DueSource(ref, stamp, held.source_id if held and same_place else ""))


def _same_place(held: KnownSource, name: str, ref: SourceRef) -> bool:
    """Whether the bank holds it in its split and group: who may see it depends on them."""
    return (held.split, held.group) == (ref.split, group_name(name, ref.group))


def _stands(old: KnownReject, stamp: str, staying: Mapping[str, str], retry: Collection[str]) -> bool:
    """Whether a reject stays one without being looked at."""
    if old.stamp != stamp or ANY_REASON in retry or old.reason in retry:
        return False
    if old.reason == "duplicate":
        return old.source_id in staying
    return old.source_id is not None or old.reason in _UNSEEN


def known_loss(survey: Survey, plan: Plan) -> list[str]:
    """Names of sources that the bank holds and that the listing shows to be gone, or without image or label map."""
    return [*plan.vanished, *(row.source for row in plan.rejects if row.source in survey.known.sources)]
