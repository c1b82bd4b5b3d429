"""`zeuxis repair`: what is damaged in a bank is made again from its sources, and its index from its shards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..ingest.datasets import open_dataset
from ..ingest.extract import ExtractionSettings
from ..ingest.plan import known_of, make_plan, survey_sources
from ..storage import files
from ..storage.checks import damage_of
from ..storage.deep import damage_inside, damage_of_parts
from ..storage.errors import DamagedBankError
from ..storage.installation import check_installation
from ..storage.manifest import Manifest, load_current, open_generation, shard_folder
from ..storage.parts import IndexPart, part_folder
from ..storage.reader import Reader
from ..storage.shard import Shard, ShardEntry, placed_rows
from .events import Events
from .planning import Work, prepare
from .progress import Progress, silent
from .publishing import publish_next
from .rebuild import extract_all, make_bank_folder
from .rebuild_options import RebuildOptions


@dataclass(frozen=True)
class Damage:
    """What of a generation is not as it was published: ids of shards and index parts, and one sentence each find."""

    shards: Mapping[str, str]
    parts: Mapping[str, str]
    stamps: str | None = None

    def __bool__(self) -> bool:
        return bool(self.shards or self.parts or self.stamps)

    @property
    def sentences(self) -> list[str]:
        """All of it, for people."""
        return [*self.shards.values(), *self.parts.values(), *([self.stamps] if self.stamps else [])]


@dataclass(frozen=True)
class RepairReport:
    """What a repair did.

    Attributes:
        bank: where; generation: the current one now; published: whether this run made it.
        damage: what was found, in sentences.
        shards, parts: how many were damaged and are made anew.
        n_restored, n_rejected: sources that were extracted again, and that cannot be used any more.
        lost: names of sources that were in a damaged shard and that no data set lists any more.
        seconds: wall time.
    """

    bank: Path
    generation: int
    published: bool
    damage: list[str]
    shards: int
    parts: int
    n_restored: int
    n_rejected: int
    lost: list[str]
    seconds: float


def repair(bank: str | Path, *, progress: Progress = silent, **options: Any) -> RepairReport:
    """Finds all damage of the current generation and publishes one without it.

    What a damaged shard held is extracted again from its data sets, whatever else has changed in them; a damaged index
    part is made again from its shards. Where the list of a shard's sources is damaged as well, all sources are taken
    in that its data sets list and the bank does not hold.

    Args:
        bank: its folder.
        progress: told how far it is.
        options: `workers`, `scheduler`, `memory`, `log`, `metrics` of `RebuildOptions`.

    Raises:
        BankError: the bank or its manifest cannot be used. DatasetError: a data set that is needed is not there.
    """
    started = time.monotonic()
    chosen = RebuildOptions.of({"report": False, "allow_shrink": True, **options})
    path = Path(os.path.expanduser(bank))
    load_current(path)  # before the folder is touched
    with Events(chosen.log, chosen.metrics, bank=path) as events, files.writer_lock(path):
        check_installation()
        manifest, _held = open_generation(path)
        with events.stage("look"):
            damage = find_damage(path, manifest, progress)
        if not damage:
            return RepairReport(path, manifest.generation, False, [], 0, 0, 0, 0, [], time.monotonic() - started)
        with events.stage("plan"):
            rest = Reader(path, _without(manifest, damage))
            work, lost = _plan(rest, _inputs_of(path, [e for e in manifest.shards if e.id in damage.shards]))
        settings = ExtractionSettings.from_json(manifest.settings)
        make_bank_folder(path)
        with events.stage("extract"):
            extracted = extract_all(work, settings, chosen, events, progress)
        done = publish_next(work, settings, rest, extracted, chosen, events, progress, started)
        with events.stage("look"):
            _refuse_left(find_damage(path, load_current(path), progress))
    return RepairReport(
        path, done.generation, done.published, damage.sentences, len(damage.shards), len(damage.parts), done.n_new,
        done.n_rejected, lost, time.monotonic() - started,
    )  # fmt: skip


def find_damage(bank: Path, manifest: Manifest, progress: Progress = silent) -> Damage:
    """Everything in a generation that is not as it was published, by the piece that has to be made again."""
    shards: dict[str, str] = {}
    parts: dict[str, str] = {}
    pieces = manifest.pieces(bank)
    for done, (piece, entries) in enumerate(pieces.items(), start=1):
        progress(done, len(pieces), "reading what the bank holds")
        said = next((found for path, entry in entries.items() if (found := damage_of(path, entry))), None)
        if said:
            (shards if piece.parent == shard_folder(bank) else parts)[piece.name] = said
    opened = (Shard(shard_folder(bank) / entry.id, entry) for entry in manifest.shards if entry.id not in shards)
    sound = {shard.entry.id: shard for shard in opened}
    for id, shard in sound.items():
        if said := next(damage_inside(shard), None):
            shards[id] = said
    stamps = parts.pop(manifest.stamps.name, None) if manifest.stamps else None
    for part in manifest.index:
        covered = {id: sound[id] for id in part.shards if id in sound and id not in shards}
        if part.id not in parts and len(covered) == len(part.shards):
            said = next(damage_of_parts([IndexPart(part_folder(bank) / part.id, part)], covered), None)
            parts |= {part.id: said} if said else {}
    return Damage(shards, parts, stamps)


def _refuse_left(damage: Damage) -> None:
    """Raises DamagedBankError where what was made again is damaged all the same."""
    if damage:
        raise DamagedBankError(f"{damage.sentences[0]} (after the repair; make a new bank, and report this)")


def _without(manifest: Manifest, damage: Damage) -> Manifest:
    """The generation as if what is damaged had never been in it; a part goes with each shard that it covers."""
    parts = [p for p in manifest.index if p.id not in damage.parts and not damage.shards.keys() & set(p.shards)]
    shards = [entry for entry in manifest.shards if entry.id not in damage.shards]
    stamps = None if damage.stamps else manifest.stamps
    return replace(manifest, shards=tuple(shards), index=tuple(parts), stamps=stamps)


def _plan(rest: Reader, held: Mapping[str, set[str]] | None) -> tuple[Work, list[str]]:
    """What is to be extracted again, and which sources are lost.

    Args:
        rest: what is sound; held: names of the inputs that are not, by data set; None where that is not known.
    """
    entries = [entry for entry in rest.manifest.datasets if held is None or entry.name in held]
    opened = [open_dataset(f"{entry.kind}:{entry.root}") for entry in entries]
    work = prepare(rest.path, rest, opened, {})
    old = {entry.name: entry.decoding for entry in rest.manifest.datasets}
    work.entries = [  # where depth is read otherwise now, the next rebuild is to see that, and to order all anew
        replace(entry, decoding=entry.decoding.with_depth_of(old[entry.name])) for entry in work.entries
    ]
    work.renewed = True
    known = known_of(rest)
    lost: list[str] = []
    for dataset, entry in zip(work.datasets, work.entries, strict=True):
        names = held[entry.name] if held else None
        survey = survey_sources(dataset, entry.name, known.pop(entry.name), only=names)
        plan = make_plan(survey, {}, forgotten=work.forgotten)
        lost += sorted((names or set()) - set(survey.refs))
        work.surveys.append(survey)
        work.plans.append(replace(plan, vanished=[], vanished_rejects=[]))
    work.elsewhere = {row.source_id: name for each in known.values() for name, row in each.sources.items()}
    return work, lost


def _inputs_of(bank: Path, damaged: Iterable[ShardEntry]) -> dict[str, set[str]] | None:
    """Names of the inputs of damaged shards by data set; None where the list of one cannot be read."""
    held: dict[str, set[str]] = {}
    for entry in damaged:
        try:
            lists = {name: file for name, file in entry.files.items() if name in _LISTS}
            shard = Shard(shard_folder(bank) / entry.id, replace(entry, files=lists))
            for table in ("sources", "rejects"):
                shard.check_hash(f"{table}.parquet")
                for dataset, source, _ in placed_rows([shard], table, ("dataset", "source")):
                    held.setdefault(dataset, set()).add(source)
        except DamagedBankError:
            return None
    return held


_LISTS = ("sources.parquet", "rejects.parquet")
