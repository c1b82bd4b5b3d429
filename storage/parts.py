"""Index parts: what search scans of some shards together, written once, immutable afterwards.

A part covers one shard or several. A night's new shards become one new part; where it has grown to a share of the one
before, the two become one, and a part of which too much is dead is made anew (`plan_parts`). So there are few of them,
each row is written a few times in the life of a bank, and leaves stay tight.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from . import files
from .checks import FileEntry, check_size, checked_file, damage_of, file_entry
from .errors import DamagedBankError, sentence
from .leaves import Leaves
from .shard import Shard, ShardEntry

INDEX = 1
"""Version of the files of a part; a part of another one is made anew from its shards."""
LEAVES = "leaves.safetensors"
MOST_SHARDS = 1 << 16
"""Shards of a part, at most: its leaves number them in 16 bits."""
_ANEW = "run `zeuxis repair`, which indexes its shards anew"
_SHARE = 4  # a part of at least a 4th of the one before is merged with it; more than a 4th dead, and it is made anew


@dataclass(frozen=True)
class PartEntry:
    """What the manifest knows of an index part.

    Attributes:
        id: derived from the shards and the index version, the name of its folder.
        shards: the ids of the shards it covers, in the order in which it numbers them.
        rows: how many segments.
        files: name to size and hashes.
        version: of the files; one that is not `INDEX` is as good as none.
    """

    id: str
    shards: tuple[str, ...]
    rows: int
    files: Mapping[str, FileEntry]
    version: int = INDEX

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        entries = {name: list(entry) for name, entry in sorted(self.files.items())}
        return {
            "id": self.id, "shards": list(self.shards), "rows": self.rows, "files": entries, "version": self.version
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> PartEntry:
        """The entry that `to_json` wrote."""
        found = {name: FileEntry(*entry) for name, entry in row["files"].items()}
        return cls(row["id"], tuple(row["shards"]), row["rows"], found, row["version"])


class PartPlan(NamedTuple):
    """The parts a bank shall have: those that stay, and the shards of each that is to be made."""

    kept: Sequence[PartEntry]
    made: Sequence[Sequence[ShardEntry]]


class IndexPart:
    """Reads one published part; files are opened when first needed.

    Raises:
        DamagedBankError: on first use of a file that is missing or not what was published.
    """

    def __init__(self, path: Path, entry: PartEntry) -> None:
        self.path = path
        self.entry = entry

    @cached_property
    def leaves(self) -> Leaves:
        """What exact search scans, memory-mapped after its checksum was checked."""
        leaves = Leaves.map(self.checked(LEAVES))
        if len(leaves) != self.entry.rows:
            raise DamagedBankError(
                sentence(
                    self.path / LEAVES, expected=f"{self.entry.rows:,} segments", found=f"{len(leaves):,}",
                    fix=f"it belongs to another generation: {_ANEW}",
                )
            )  # fmt: skip
        return leaves

    def checked(self, name: str) -> Path:
        """The path of a file after its checksum was checked: kernels and libraries trust what they map."""
        return checked_file(self.path / name, self.entry.files[name], _ANEW)


def part_folder(bank: Path) -> Path:
    """Where the index parts lie."""
    return bank / "index"


def part_id(shards: Sequence[str]) -> str:
    """The id of the part over some shards."""
    return hashlib.blake2b("\n".join([str(INDEX), *shards]).encode(), digest_size=8).hexdigest()


def live_sources(entry: ShardEntry) -> int:
    """How many sources of a shard are still in the bank."""
    return entry.rows["sources"] - len(entry.masked)


def is_dead(entry: ShardEntry) -> bool:
    """Whether nothing of a shard is in the bank any more, neither a source nor a reject."""
    return not live_sources(entry) and len(entry.masked_rejects) >= entry.rows["rejects"]


def mostly_live(shards: Iterable[ShardEntry]) -> bool:
    """Whether no more than a quarter of the sources of some shards are dead."""
    shards = list(shards)
    return _SHARE * sum(len(entry.masked) for entry in shards) <= sum(entry.rows["sources"] for entry in shards)


def plan_parts(
    current: Sequence[PartEntry], shards: Sequence[ShardEntry], *, merge: bool = True, again: bool = False
) -> PartPlan:
    """Which parts stay and which shards need new ones.

    A part stays while all its shards do and no more than a quarter of its sources are dead. All other shards with
    anything live become one new part, together with the smallest of the old ones as long as it would be a 4th or more
    of their size.

    Args:
        current: the parts so far.
        shards: all shards of the bank to be.
        merge: False leaves old parts as they are, whatever their size and however much of them is dead.
        again: plan also what would be made of the very shards it has, for those who may change these shards first.
    """
    there = {entry.id: entry for entry in shards}
    whole = [part for part in current if part.version == INDEX and all(id in there for id in part.shards)]
    kept = [part for part in whole if not merge or mostly_live(there[id] for id in part.shards)]
    kept.sort(key=lambda part: -part.rows)
    covered = {id for part in kept for id in part.shards}
    new = [entry for entry in shards if entry.id not in covered and not is_dead(entry)]
    if not new:
        return PartPlan(kept, [])
    rows = sum(entry.rows["segments"] for entry in new)
    while merge and kept and rows * _SHARE >= kept[-1].rows:
        merged = kept.pop()
        new = [*(there[id] for id in merged.shards if not is_dead(there[id])), *new]
        rows += merged.rows
    made = [new[first : first + MOST_SHARDS] for first in range(0, len(new), MOST_SHARDS)]
    return PartPlan(kept, made) if again else _without_equal(PartPlan(kept, made), whole)


def _without_equal(plan: PartPlan, whole: Sequence[PartEntry]) -> PartPlan:
    """The plan, in which a part that would be made of the very shards it has stays as it is."""
    there = {frozenset(part.shards): part for part in whole}
    equal = [there.get(frozenset(entry.id for entry in covered)) for covered in plan.made]
    kept = sorted([*plan.kept, *filter(None, equal)], key=lambda part: -part.rows)
    return PartPlan(kept, [covered for covered, part in zip(plan.made, equal, strict=True) if part is None])


def sound_parts(bank: Path, parts: Sequence[PartEntry], *, deep: bool = False) -> list[PartEntry]:
    """Those whose files are what was published, by their sizes; `deep`: by their checksums. Others are made anew."""
    check = checked_file if deep else check_size
    return [part for part in parts if part.version == INDEX and _is_sound(part_folder(bank) / part.id, part, check)]


def _is_sound(path: Path, entry: PartEntry, check: Callable[[Path, FileEntry], object]) -> bool:
    try:
        for name, each in entry.files.items():
            check(path / name, each)
    except DamagedBankError:
        return False
    return True


def write_part(bank: Path, shards: Sequence[Shard], contents: Mapping[str, bytes]) -> PartEntry:
    """Writes one part under a temporary name and gives it its own when all of it is on the disk.

    Args:
        bank: its folder.
        shards: what the part covers.
        contents: file name to bytes.
    """
    folder = part_folder(bank)
    path = folder / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    files.make_folder(path)
    try:
        for name, data in contents.items():
            files.write_bytes(path / name, data)
        files.fsync_folder(path)
        ids = tuple(shard.entry.id for shard in shards)
        rows = sum(shard.entry.rows["segments"] for shard in shards)
        entry = PartEntry(part_id(ids), ids, rows, {name: file_entry(path / name) for name in contents})
        _settle(path, folder / entry.id, entry)
        return entry
    finally:
        if path.exists():
            with suppress(OSError):  # what is left is garbage, and collected as such
                files.remove_tree(path)


def _settle(path: Path, target: Path, entry: PartEntry) -> None:
    """Renames the folder, unless the same part is there already, of an older generation or a run that was killed."""
    if target.exists():
        if all(damage_of(target / name, each) is None for name, each in entry.files.items()):
            return
        files.remove_tree(target)
    files.rename(path, target)
