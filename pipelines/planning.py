"""What a rebuild works on: data sets named, classes merged, sources surveyed and planned, settings resolved."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..ingest.datasets import KINDS
from ..ingest.datasets.base import Dataset, SourceRef
from ..ingest.depth import DepthModel
from ..ingest.extract import ExtractionSettings
from ..ingest.patches import PatchSettings
from ..ingest.plan import (
    ANY_REASON,
    DueSource,
    Known,
    Plan,
    Survey,
    known_loss,
    known_of,
    make_plan,
    only_rejects,
    survey_sources,
)
from ..storage.classes import ClassTable
from ..storage.decoding import Decoding
from ..storage.errors import DatasetError, InputError, SourceError, sentence
from ..storage.files import plain_bytes
from ..storage.images import picture_size
from ..storage.layouts import Geometry
from ..storage.manifest import DatasetEntry, Manifest
from ..storage.reader import Reader
from .classmap import ClassMap, check_class_map
from .rebuild_options import RebuildOptions

MAX_VANISHED = 0.1
"""A larger share of a data set's sources may not vanish or lose a file without `allow_shrink`."""
MAX_BROKEN = 0.5
"""Nor may a larger share of them turn out to be unusable at once: that is a copy half done, not a bad source."""
LONGER_SIDE = 512
"""The longer side of the default frame, pixels."""
SIZES_READ = 1000
"""Sources, evenly spread, whose sizes are looked up for the default frame."""

ALL, PATCHES, ORDERINGS, FILES = "everything", "key patches", "orderings", "kept files"
"""What of a bank has to be made anew where its settings change."""


@dataclass
class Work:
    """A rebuild as it goes along.

    Attributes:
        bank: its folder; current: the generation it starts from; classes: the table of the one to be.
        datasets, entries, surveys, plans: one a data set of the run.
        retried: names of data sets whose rejects all get another try, since they are decoded otherwise now.
        reordered: names of those whose depth is read otherwise now: what has any is extracted anew.
        changes: what the settings of the run make necessary to do again, of `ALL`, `PATCHES`, `ORDERINGS`, `FILES`.
        elsewhere: source id to name of what the bank holds of data sets that are not in the run.
        adopted: inputs of finished shards of an interrupted run, which are due no more.
        renewed: publish a generation even if it holds nothing new.
    """

    bank: Path
    current: Manifest | None
    classes: ClassTable
    datasets: list[Dataset] = field(default_factory=list)
    entries: list[DatasetEntry] = field(default_factory=list)
    retried: set[str] = field(default_factory=set)
    reordered: set[str] = field(default_factory=set)
    surveys: list[Survey] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    changes: Collection[str] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    adopted: int = 0
    renewed: bool = False

    @property
    def forgotten(self) -> Mapping[str, str]:
        """Name to source id of what was removed for good."""
        return self.current.forgotten if self.current else {}


def prepare(path: Path, reader: Reader | None, datasets: Sequence[Dataset], renamed: ClassMap) -> Work:
    """Names the data sets and merges their classes into the bank's table."""
    current = reader.manifest if reader else None
    known = list(current.datasets) if current else []
    work = Work(path, current, current.classes if current else ClassTable())
    for dataset in datasets:
        old = next((e for e in known if (e.kind, e.root) == (dataset.kind, dataset.address)), None)
        name = old.name if old else _free_name(dataset.kind, [e.name for e in known])
        decoding = dataset.decoding
        if old and not _continues(old.decoding, decoding):
            raise DatasetError(
                sentence(
                    dataset.spec, "its classes, void ids or colours have changed since the bank took it in",
                    fix="make a new bank",
                )
            )  # fmt: skip
        names = renamed.get(name, renamed.get(dataset.kind, {}))
        before = old.mapping if old else {}
        check_class_map(names, decoding.classes, before, work.classes, dataset.spec)
        fresh = [entry for entry in decoding.classes if entry.id not in before]
        work.classes, mapping = work.classes.merged(fresh, names)
        entry = DatasetEntry(
            name, dataset.kind, dataset.address, dataset.licence, decoding, {**before, **mapping}, dataset.neighbours
        )  # fmt: skip
        if old and old.decoding != decoding:
            work.retried.add(name)
            if decoding.with_depth_of(old.decoding) != decoding:
                work.reordered.add(name)
        known = [*(e for e in known if e.name != name), entry]
        work.datasets.append(dataset)
        work.entries.append(entry)
    strange = sorted(set(renamed) - set(KINDS) - {entry.name for entry in known})
    if strange:
        raise InputError(
            sentence("--classes", expected=f"data sets, {', '.join(e.name for e in known)}", found=", ".join(strange))
        )
    return work


def _continues(old: Decoding, new: Decoding) -> bool:
    """Whether what was decoded by the old conventions reads the same by the new ones."""
    colours = (old.palette or {}).items() <= (new.palette or {}).items()
    return set(old.classes) <= set(new.classes) and old.void <= new.void and colours


def _free_name(kind: str, taken: Sequence[str]) -> str:
    number = 1
    while (name := kind if number == 1 else f"{kind}-{number}") in taken:
        number += 1
    return name


def survey_all(work: Work, reader: Reader | None, options: RebuildOptions) -> None:
    """Looks at every data set before anything is decided: what one keeps, another may hold a second time."""
    held = known_of(reader)
    for dataset, entry in zip(work.datasets, work.entries, strict=True):
        known = held.pop(entry.name, None) or Known()
        only = {*known.sources, *known.rejects} if options.retry else None
        work.surveys.append(
            survey_sources(dataset, entry.name, known, splits=options.split, only=only, rehash=options.rehash)
        )
    work.elsewhere = {row.source_id: name for known in held.values() for name, row in known.sources.items()}


def plan_all(work: Work, options: RebuildOptions) -> None:
    """Finds out what is to be read, unchanged, unusable or gone; refuses where too much is gone."""
    _warn_of_reasons(work, options.retry)
    anew = ALL in work.changes
    staying = dict(work.elsewhere)
    for survey in work.surveys if not anew else ():
        staying |= survey.staying
    for survey in work.surveys:
        retry = (ANY_REASON,) if anew or survey.name in work.retried else options.retry
        plan = make_plan(survey, staying, forgotten=work.forgotten, retry=retry, anew=anew)
        if options.retry:
            plan = only_rejects(plan, survey, options.retry)
        elif not options.allow_shrink:
            refuse_losses(survey, known_loss(survey, plan), MAX_VANISHED)
        if survey.name in work.reordered:
            again = [name for name in plan.reused if survey.refs[name].depth]
            plan.reused = sorted(set(plan.reused).difference(again))
            plan.due += [DueSource(survey.refs[name], survey.stamps[name]) for name in again]
        if work.changes or survey.name in work.reordered:  # what the bank holds of it is not what it shall hold
            plan.due = [replace(due, held="") for due in plan.due]
        work.plans.append(plan)
    if not any(plan.due or plan.reused or plan.forgotten for plan in work.plans):
        raise nothing_usable(work, [record.message for plan in work.plans for record in plan.rejects])


def _warn_of_reasons(work: Work, retry: Collection[str]) -> None:
    """Tells of reasons that are to be tried again and that no reject has: one of them may be misspelt."""
    there = {row.reason for survey in work.surveys for row in survey.known.rejects.values()}
    if strange := sorted(set(retry) - there - {ANY_REASON}):
        known = ", ".join(sorted(there)) or "no reject"
        said = sentence(
            "retry", expected=f"{ANY_REASON}, or a reason that the bank has, {known}", found=", ".join(strange)
        )
        warnings.warn(said, stacklevel=2)


def refuse_losses(survey: Survey, gone: Sequence[str], most: float) -> None:
    """Refuses where the bank would lose more than a share of the sources it holds.

    A disk that is not mounted takes sources away, or only their label maps; a copy that is half done breaks them.
    """
    held = survey.known.sources
    if len(gone) > most * len(held):
        raise DatasetError(
            sentence(
                survey.dataset.spec,
                expected=f"the {len(held):,} sources that the bank has taken in from it",
                found=f"{len(gone):,} of them gone or broken, such as {gone[0]}",
                fix="check that the disk is mounted, or give --allow-shrink",
            )
        )


def nothing_usable(work: Work, messages: Sequence[str]) -> DatasetError:
    """The refusal of data sets that hold nothing that can be taken in."""
    what = " and ".join(dataset.spec for dataset in work.datasets)
    return DatasetError(sentence(what, "holds no usable source" + "".join(f", for example {m}" for m in messages[:1])))


def resolve_settings(work: Work, options: RebuildOptions) -> ExtractionSettings:
    """The settings of the bank to be; `work.changes` says what of the present one has to be made anew for them.

    Raises:
        InputError: a model file cannot be read, or settings change and not all data sets of the bank are in the run.
    """
    wish = {name: value for name, value in options.wishes.items() if value is not None}
    has = _wishes_of(ExtractionSettings.from_json(work.current.settings)) if work.current else {}
    wanted = {**_DEFAULTS, **has, **wish}
    if wanted["frame"] is None:
        wanted["frame"] = default_frame(_sizes(work))
    settings = ExtractionSettings(
        Geometry(wanted["frame"], wanted["min_area"], wanted["join_thin"]),
        wanted["depth_rule"],
        wanted["keep_sources"],
        PatchSettings(edge_model=wanted["edge_model"]) if wanted["patches"] else None,
        _hash_of(wanted["edge_model"] if wanted["patches"] else None),
        wanted["depth_model"],
        _depth_hash(wanted["depth_model"]),
    )
    if work.current:
        work.changes = _changes(work.current.settings, settings.to_json())
        _check_change(work, options)
    return settings


_DEFAULTS: Mapping[str, Any] = {
    "frame": None, "min_area": 64, "join_thin": False, "patches": True, "edge_model": None, "depth_rule": "none",
    "depth_model": None, "keep_sources": True,
}  # fmt: skip


def _wishes_of(settings: ExtractionSettings) -> dict[str, Any]:
    """The settings as they would be asked for."""
    return {
        "frame": settings.geometry.frame, "min_area": settings.geometry.min_area,
        "join_thin": settings.geometry.join_thin, "patches": settings.patches is not None,
        "edge_model": settings.patches and settings.patches.edge_model, "depth_rule": settings.depth_rule,
        "depth_model": settings.depth_model, "keep_sources": settings.keep_sources,
    }  # fmt: skip


_PARTS = {
    "extraction": ALL, "geometry": ALL, "patches": PATCHES, "edge_model": PATCHES, "depth_rule": ORDERINGS,
    "depth_hash": ORDERINGS, "keep_sources": FILES,
}  # fmt: skip
"""What has to be made anew where a part of the settings is another."""


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> frozenset[str]:
    before, after = ({**each, "patches": _patches(each)} for each in (before, after))
    return frozenset(what for part, what in _PARTS.items() if before.get(part) != after[part])


def _patches(settings: Mapping[str, Any]) -> Any:
    """How key patches are found; where the model file lies does not matter, its hash is compared."""
    return settings["patches"] and {**settings["patches"], "edge_model": None}


def _check_change(work: Work, options: RebuildOptions) -> None:
    """Refuses a change of settings in a run that would reach only a part of the bank."""
    assert work.current is not None
    named = {each.name for each in work.entries}
    missing = [f"{entry.kind}:{entry.root}" for entry in work.current.datasets if entry.name not in named]
    found = f"no --dataset {' and no --dataset '.join(missing)}" if missing else "--split" if options.split else ""
    found = found or "--retry" * bool(options.retry)
    if work.changes and found:
        raise InputError(
            sentence(
                f"settings that change {' and '.join(sorted(work.changes))}",
                expected="a run over all data sets of the bank, whole", found=found,
                fix="name them all, or leave the settings as they are",
            )
        )  # fmt: skip
    held = [row for survey in work.surveys if survey.name in work.reordered for row in survey.known.sources.values()]
    beyond = options.split and any(row.split not in options.split for row in held)
    if work.reordered and (part := "--retry" * bool(options.retry) or "--split" * bool(beyond)):
        what = f"depth of {' and '.join(sorted(work.reordered))}, which is read otherwise since the last run,"
        raise InputError(sentence(what, expected="a run over all of its sources", found=part, fix=f"leave out {part}"))


def _sizes(work: Work) -> list[tuple[int, int]]:
    """Sizes of some sources, evenly spread; those that cannot be read are left out."""
    listed = [(survey.dataset, ref) for survey in work.surveys for ref in survey.refs.values()]
    chosen = listed[:: max(math.ceil(len(listed) / SIZES_READ), 1)]

    def size(dataset: Dataset, ref: SourceRef) -> tuple[int, int] | None:
        try:
            return picture_size(dataset.read(ref).image, str(ref.image))
        except SourceError:
            return None

    with ThreadPoolExecutor() as threads:
        found = [each for each in threads.map(lambda pair: size(*pair), chosen) if each]
    if not found:
        raise nothing_usable(work, [])
    return found


def _hash_of(model: str | None) -> str | None:
    """SHA-256 of a model file: whoever changes it would get other results."""
    try:
        return hashlib.sha256(plain_bytes(Path(model))).hexdigest() if model else None
    except OSError as error:
        raise InputError(sentence(model, f"cannot be read ({error.strerror})", fix="give a model file")) from error


def _depth_hash(model: str | None) -> str | None:
    """What a depth network is told apart by, once it is known to work; see `DepthModel`."""
    if model is None:
        return None
    network = DepthModel(Path(model))
    network.check()
    return network.sha256


def default_frame(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The commonest `(height, width)`, scaled to a longer side of 512 (score, section 3)."""
    (height, width), _ = Counter(sorted(sizes)).most_common(1)[0]
    scale = LONGER_SIDE / max(height, width)
    return max(math.floor(height * scale + 0.5), 1), max(math.floor(width * scale + 0.5), 1)
