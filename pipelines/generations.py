"""`zeuxis generations`, `rollback` and `collect`: which states of a bank there are, back to one, away with old ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ..storage import files
from ..storage.checks import damage_of
from ..storage.errors import BankError, DamagedBankError, InputError, sentence
from ..storage.manifest import (
    Manifest,
    bytes_of,
    load_current,
    load_generation,
    manifest_path,
    open_generation,
    publish,
    report_path,
    shard_folder,
)
from ..storage.manifest import generations as numbers_of
from ..storage.retention import KEEP, Retired, retire
from ..storage.shard import Shard

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


@dataclass(frozen=True)
class Generation:
    """One generation of a bank.

    Attributes:
        generation: its number; current: whether it is the latest; pinned: whether somebody reads it.
        time: when it was published; note: such as `rolled back to 4`; content: 32 hex digits, equal for equal banks.
        sources, segments, rejects, shards: how many it holds.
        bytes: on disk; own: those that no other generation shares, and that go with it.
        damage: why it cannot be read, in a sentence; what is not known then is 0.
    """

    generation: int
    current: bool
    pinned: bool
    time: str = ""
    note: str = ""
    content: str = ""
    sources: int = 0
    segments: int = 0
    rejects: int = 0
    shards: int = 0
    bytes: int = 0
    own: int = 0
    damage: str = ""


@dataclass(frozen=True)
class Generations:
    """All generations of a bank, oldest first."""

    bank: Path
    rows: Sequence[Generation]

    def to_frame(self) -> pd.DataFrame:
        """One row a generation; the columns are those of `Generation`."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def render(self) -> Table:
        """The table for a terminal, as a rich renderable."""
        from rich.table import Table

        table = Table("generation", "published", "content", box=None, pad_edge=False)
        for name in ("sources", "segments", "rejects", "shards", "MB", "MB alone"):
            table.add_column(name, justify="right")
        table.add_column("")
        for row in self.rows:
            counts = [f"{n:,}" for n in (row.sources, row.segments, row.rejects, row.shards)]
            sizes = [f"{n / 1e6:,.1f}" for n in (row.bytes, row.own)]
            known = [""] * 8 if row.damage else [row.time, row.content[:12], *counts, *sizes]
            said = [row.current and "current", row.pinned and "in use", row.note, row.damage]
            table.add_row(str(row.generation), *known, ", ".join(each for each in said if each))
        return table


@dataclass(frozen=True)
class Rollback:
    """What `rollback` published: generation `generation`, which equals `target`."""

    bank: Path
    generation: int
    target: int


def generations(bank: str | Path) -> Generations:
    """The generations of a bank: what each holds, and what each alone takes on disk.

    Raises:
        NotABankError: there is none.
    """
    path = _path(bank)
    rows: list[Generation] = []
    pieces: dict[int, dict[Path, int]] = {}
    masked: dict[tuple[str, ...], int] = {}
    for number in numbers_of(path) or [load_current(path).generation]:  # which says why there is none
        row = Generation(number, False, files.is_held(manifest_path(path, number)))
        try:
            manifest, _held = open_generation(path, number)
            pieces[number] = _pieces(path, manifest)
            rows.append(_counted(path, row, manifest, masked))
        except BankError as error:
            rows.append(replace(row, damage=str(error)))
        except InputError:  # it was removed since it was listed
            continue
    holders = Counter(piece for of in pieces.values() for piece in of)
    for place, row in enumerate(rows):
        of = pieces.get(row.generation, {})
        own = sum(size for piece, size in of.items() if holders[piece] == 1)
        rows[place] = replace(row, current=row is rows[-1], bytes=sum(of.values()), own=own)
    return Generations(path, rows)


def rollback(bank: str | Path, generation: int | None = None) -> Rollback:
    """Publishes a new generation that equals an older one; none is removed, so that it can be taken back.

    Sources that were forgotten stay so.

    Args:
        bank: its folder.
        generation: which one; default the one before the current one.

    Raises:
        InputError: there is no such generation, it is the current one, or it holds a source that was forgotten.
        BankError: the bank cannot be used, or is being written; a file of that generation is damaged.
    """
    path = _path(bank)
    load_current(path)  # before the folder is touched
    with files.writer_lock(path):
        current = load_current(path)
        target = load_generation(path, _chosen(path, current.generation, generation))
        _check_complete(path, target)
        _check_forgotten(path, target, current)
        manifest = replace(
            target,
            generation=current.generation + 1,
            forgotten={**target.forgotten, **current.forgotten},
            made={
                **target.made,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "note": f"rolled back to {target.generation}",
            },
        )
        publish(path, manifest)
    return Rollback(path, manifest.generation, target.generation)


def collect(bank: str | Path, keep: int = KEEP) -> Retired:
    """Removes all but the newest generations and those that are being read, and everything that no other names.

    Args:
        bank: its folder.
        keep: how many stay, at least 1.

    Raises:
        InputError: keep. BankError: the bank cannot be used, or is being written.
    """
    path = _path(bank)
    load_current(path)  # before the folder is touched
    with files.writer_lock(path):
        return retire(path, keep)


def _path(bank: str | Path) -> Path:
    return Path(os.path.expanduser(bank)).resolve()


def _pieces(bank: Path, manifest: Manifest) -> dict[Path, int]:
    """What lies in the bank for a generation, and its published bytes; its manifest and report as they are."""
    number = manifest.generation
    pieces = {path: sum(file.size for file in of.values()) for path, of in manifest.pieces(bank).items()}
    alone = [path for path in (manifest_path(bank, number), report_path(bank, number)) if path.exists()]
    return pieces | {path: bytes_of(path) for path in alone}


def _counted(bank: Path, row: Generation, manifest: Manifest, masked: dict[tuple[str, ...], int]) -> Generation:
    """The row with all that the manifest says; `masked` remembers the segments of masked sources in a shard."""
    segments = 0
    for entry in manifest.shards:
        key = (entry.id, *entry.masked)
        if entry.masked and key not in masked:
            table = Shard(shard_folder(bank) / entry.id, entry).table("sources", ["source", "segments"])
            gone = pc.is_in(table["source"], pa.array(entry.masked, pa.string()))
            masked[key] = pc.sum(table.filter(gone)["segments"], min_count=0).as_py()
        segments += entry.rows["segments"] - masked.get(key, 0)
    return replace(
        row,
        time=manifest.made.get("time", ""),
        note=manifest.made.get("note", ""),
        content=manifest.content,
        sources=sum(entry.rows["sources"] - len(entry.masked) for entry in manifest.shards),
        segments=segments,
        rejects=sum(entry.rows["rejects"] - len(entry.masked_rejects) for entry in manifest.shards),
        shards=len(manifest.shards),
    )


def _chosen(bank: Path, current: int, generation: int | None) -> int:
    """The number to go back to."""
    before = [number for number in numbers_of(bank) if number < current]
    if generation == current or (generation is None and not before):
        expected = f"one of {', '.join(map(str, before))}" if before else "an older one to go back to"
        found = "the current one" if before else "the oldest that there is"
        raise InputError(sentence(f"generation {current}", expected=expected, found=found))
    return before[-1] if generation is None else generation


def _check_complete(bank: Path, target: Manifest) -> None:
    """Refuses a generation of which a file is not what was published."""
    for entries in target.pieces(bank).values():
        for path, entry in entries.items():
            if said := damage_of(path, entry):
                raise DamagedBankError(f"generation {target.generation} is damaged: {said}")


def _check_forgotten(bank: Path, target: Manifest, current: Manifest) -> None:
    """Refuses a generation with a source that was forgotten since, by its name or by its bytes."""
    if not current.forgotten:
        return
    names, ids = (pa.array(values, pa.string()) for values in zip(*current.forgotten.items(), strict=True))
    for entry in target.shards:
        table = Shard(shard_folder(bank) / entry.id, entry).table("sources", ["source", "source_id"])
        back = table.filter(pc.or_(pc.is_in(table["source"], names), pc.is_in(table["source_id"], ids)))
        if back.num_rows:
            name = back["source"][0].as_py()
            raise InputError(
                sentence(
                    f"generation {target.generation}", f"holds {name}, which was forgotten", fix="choose a later one"
                )
            )
