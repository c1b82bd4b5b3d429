"""What a rebuild works on: data sets named, classes merged, sources surveyed and planned, settings resolved."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..ingest.datasets import KINDS
from ..ingest.datasets.base import Dataset
from ..ingest.extract import EXTRACTION, ExtractionSettings
from ..ingest.patches import PatchSettings
from ..ingest.plan import Plan, Survey, known_of, make_plan, survey_sources
from ..storage.classes import ClassTable
from ..storage.decoding import Decoding
from ..storage.errors import BankError, DatasetError, InputError, sentence
from ..storage.layouts import Geometry
from ..storage.manifest import DatasetEntry, Manifest
from ..storage.reader import Reader
from .classmap import ClassMap, check_class_map
from .progress import Progress

MAX_VANISHED = 0.1
"""A larger share of a data set's sources may not vanish or lose a file without `allow_shrink`."""
MAX_BROKEN = 0.5
"""Nor may a larger share of them turn out to be unusable at once: that is a copy half done, not a bad source."""
LONGER_SIDE = 512
"""The longer side of the default frame, pixels."""


@dataclass
class Work:
    """A rebuild as it goes along, one entry a data set; `retried` are those whose rejects get another try."""

    bank: Path
    current: Manifest | None
    classes: ClassTable
    datasets: list[Dataset] = field(default_factory=list)
    entries: list[DatasetEntry] = field(default_factory=list)
    retried: set[str] = field(default_factory=set)
    surveys: list[Survey] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)


def prepare(path: Path, reader: Reader | None, datasets: Sequence[Dataset], renamed: ClassMap) -> Work:
    """Names the data sets and merges their classes into the bank's table."""
    current = reader.manifest if reader else None
    known = list(current.datasets) if current else []
    work = Work(path, current, current.classes if current else ClassTable())
    for dataset in datasets:
        old = next((e for e in known if (e.kind, e.root) == (dataset.kind, str(dataset.root))), None)
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
            name, dataset.kind, str(dataset.root), dataset.licence, decoding, {**before, **mapping}, dataset.neighbours
        )  # fmt: skip
        if old and old.decoding != decoding:
            work.retried.add(name)
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


def survey_all(
    work: Work, reader: Reader | None, split: Sequence[str], rehash: bool, progress: Progress, listed: int
) -> None:
    """Looks at every data set before anything is decided: what one keeps, another may hold a second time."""
    for dataset, entry in zip(work.datasets, work.entries, strict=True):
        before = sum(len(survey.looks) for survey in work.surveys)

        def looked(done: int, total: int, before: int = before) -> None:
            progress(before + done, listed, "looking at the sources")

        known = known_of(reader, entry.name)
        work.surveys.append(survey_sources(dataset, entry.name, known, splits=split, rehash=rehash, progress=looked))


def plan_all(work: Work, reader: Reader | None, allow_shrink: bool) -> None:
    """Finds out what is new, unchanged, unusable or gone; refuses where too much is gone."""
    named = {entry.name for entry in work.entries}
    taken: dict[str, str] = {}
    for entry in work.current.datasets if work.current else ():
        if entry.name not in named:
            taken |= {known.source_id: name for name, known in known_of(reader, entry.name).sources.items()}
    for survey in work.surveys:
        taken |= survey.staying
    for dataset, survey in zip(work.datasets, work.surveys, strict=True):
        plan = make_plan(survey, taken, retry=survey.name in work.retried)
        if not allow_shrink:
            held = survey.known.sources
            lost = [row.source for row in plan.rejects if row.source in held and row.source_id is None]
            refuse_losses(dataset, survey, [*plan.vanished, *lost], MAX_VANISHED)
        work.plans.append(plan)
    if not any(plan.new or plan.reused for plan in work.plans):
        raise nothing_usable(work, [record.message for plan in work.plans for record in plan.rejects])


def refuse_losses(dataset: Dataset, survey: Survey, gone: Sequence[str], most: float) -> None:
    """Refuses where the bank would lose more than a share of the sources it holds.

    A disk that is not mounted takes sources away, or only their label maps; a copy that is half done breaks them.
    """
    held = survey.known.sources
    if len(gone) > most * len(held):
        raise DatasetError(
            sentence(
                dataset.spec,
                expected=f"the {len(held):,} sources that the bank has taken in from it",
                found=f"{len(gone):,} of them gone or broken, such as {gone[0]}",
                fix="check that the disk is mounted, or give --allow-shrink",
            )
        )


def nothing_usable(work: Work, messages: Sequence[str]) -> DatasetError:
    """The refusal of data sets that hold nothing that can be taken in."""
    what = " and ".join(dataset.spec for dataset in work.datasets)
    return DatasetError(sentence(what, "holds no usable source" + "".join(f", for example {m}" for m in messages[:1])))


def resolve_settings(current: Manifest | None, wishes: Mapping[str, Any], plans: Sequence[Plan]) -> ExtractionSettings:
    """The bank's settings, or those of a new bank; a wish that the bank does not meet is refused."""
    if current:
        settings = ExtractionSettings.from_json(current.settings)
        if current.settings["extraction"] != EXTRACTION:
            raise BankError(
                sentence(
                    "bank", expected=f"extraction version {EXTRACTION}, as of this zeuxis",
                    found=str(current.settings["extraction"]), fix="make a new bank",
                )
            )  # fmt: skip
        has = {
            "frame": settings.geometry.frame, "min_area": settings.geometry.min_area,
            "join_thin": settings.geometry.join_thin, "depth_rule": settings.depth_rule,
            "keep_sources": settings.keep_sources, "patches": settings.patches is not None,
            "edge_model": settings.patches and settings.patches.edge_model,
        }  # fmt: skip
        for name, wish in wishes.items():
            if wish is not None and wish != has[name]:
                raise InputError(
                    sentence(
                        f"--{name.replace('_', '-')}", expected=f"{has[name]}, which the bank was made with",
                        found=str(wish), fix="leave it out or make a new bank",
                    )
                )  # fmt: skip
        if settings.patches and _hash_of(settings.patches.edge_model) != settings.edge_model:
            raise InputError(
                sentence(settings.patches.edge_model, "is not the edge model that the bank was made with",
                         fix="restore the file or make a new bank")
            )  # fmt: skip
        return settings
    wish = {name: value for name, value in wishes.items() if value is not None}
    frame = wish.get("frame") or default_frame([source.size for plan in plans for source in plan.new])
    return ExtractionSettings(
        Geometry(frame, wish.get("min_area", 64), wish.get("join_thin", False)),
        wish.get("depth_rule", "none"),
        wish.get("keep_sources", True),
        PatchSettings(edge_model=wish.get("edge_model")) if wish.get("patches", True) else None,
        _hash_of(wish.get("edge_model")),
    )


def _hash_of(model: str | None) -> str | None:
    """SHA-256 of an edge model file: whoever changes it would get other key patches."""
    try:
        return hashlib.sha256(Path(model).read_bytes()).hexdigest() if model else None
    except OSError as error:
        raise InputError(sentence(model, f"cannot be read ({error.strerror})", fix="give a model file")) from error


def default_frame(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The commonest `(height, width)`, scaled to a longer side of 512 (score, section 3)."""
    (height, width), _ = Counter(sorted(sizes)).most_common(1)[0]
    scale = LONGER_SIDE / max(height, width)
    return max(math.floor(height * scale + 0.5), 1), max(math.floor(width * scale + 0.5), 1)
