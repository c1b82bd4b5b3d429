"""Small and half-dead shards become new ones, where their index parts are made anew anyway.

No night touches a part, or a shard under one, that it could leave as it is: what is merged here is covered by parts
that `plan_parts` makes anew, and by none so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..storage.errors import DamagedBankError
from ..storage.manifest import shard_folder
from ..storage.merging import merge_shards
from ..storage.parts import INDEX, PartEntry, is_dead, live_sources, mostly_live, plan_parts
from ..storage.shard import FOOTPRINTS, Shard, ShardEntry


class Compaction(NamedTuple):
    """What compaction leaves.

    Attributes:
        shards: of the bank to be, in the order they had; a new one stands where the first of those in it stood.
        merged: ids of the new shards; replaced: ids of those that they hold; dropped: ids of those with nothing live.
    """

    shards: list[ShardEntry]
    merged: list[str]
    replaced: list[str]
    dropped: list[str]


def compact(
    bank: Path,
    frame: tuple[int, int],
    current_parts: Sequence[PartEntry],
    shards: Sequence[ShardEntry],
    shard_size: int,
    stamps: Mapping[str, str],
    say: Callable[[str], None] = lambda _: None,
) -> Compaction:
    """Merges small shards and shards with much that is dead, drops those with nothing live, and leaves damaged ones.

    Equal banks become equal ones, so a run that was killed is simply repeated; a second run finds nothing to do.

    Args:
        bank: its folder; frame: its frame.
        current_parts: the sound parts of the generation before.
        shards: all of the bank to be, in place; masked as they shall be.
        shard_size: sources a shard, at most.
        stamps: newer stamps by name of source, written into new shards.
        say: told what is being done.
    """
    free = _free_shards(bank, current_parts, shards)
    dropped = [entry.id for entry in free if is_dead(entry)]
    ids = {entry.id for entry in shards}.difference(dropped)
    became: dict[str, ShardEntry | None] = dict.fromkeys(dropped)
    merged, replaced = [], []
    live = [entry for entry in free if not is_dead(entry)]
    small = {entry.id for batch in plan_merges(live, shard_size) for entry in batch}
    sound = [entry for entry in live if entry.id in small and _is_sound(bank, entry, entry.files)]
    for batch in plan_merges(sound, shard_size):
        victims = [entry.id for entry in batch]
        say(f"merging {len(batch):,} shards into one")
        entry = _merged(bank, frame, batch, stamps)
        if entry is None or entry.id in ids.difference(victims):  # a shard of another part that is dead by now
            continue
        became |= {**dict.fromkeys(victims), victims[0]: entry}
        merged.append(entry.id)
        replaced += victims
    left = [became.get(entry.id, entry) for entry in shards]
    return Compaction([entry for entry in left if entry is not None], merged, replaced, dropped)


def plan_merges(shards: Sequence[ShardEntry], shard_size: int) -> list[list[ShardEntry]]:
    """Which shards become one: those with fewer than half of `shard_size` live sources or more than a quarter dead.

    Only shards of equal settings are merged, up to `shard_size` sources, in their order; one that would become equal
    to itself is left out.
    """
    batches: list[list[ShardEntry]] = []
    filling: dict[str, list[ShardEntry]] = {}
    for entry in shards:
        if 2 * live_sources(entry) >= shard_size and mostly_live([entry]):
            continue
        batch = filling.get(entry.settings)
        if batch is None or sum(map(live_sources, batch)) + live_sources(entry) > shard_size:
            batches.append(batch := [])
            filling[entry.settings] = batch
        batch.append(entry)
    return [batch for batch in batches if len(batch) > 1 or not mostly_live(batch)]


def _free_shards(bank: Path, current_parts: Sequence[PartEntry], shards: Sequence[ShardEntry]) -> list[ShardEntry]:
    """The shards that no part will cover as it is; a part with a shard that cannot be indexed has to stay."""
    there = {entry.id: entry for entry in shards}
    bound = {id for part in plan_parts(current_parts, shards, again=True).kept for id in part.shards}
    for part in current_parts:
        ids = [id for id in part.shards if id in there]
        if part.version == INDEX and len(ids) == len(part.shards) and not bound.issuperset(ids):
            live = [there[id] for id in ids if not is_dead(there[id])]
            if not all(_is_sound(bank, entry, [FOOTPRINTS]) for entry in live):
                bound.update(ids)
    return [entry for entry in shards if entry.id not in bound]


def _merged(
    bank: Path, frame: tuple[int, int], batch: Sequence[ShardEntry], stamps: Mapping[str, str]
) -> ShardEntry | None:
    """The shard that a batch becomes; None where one of them is damaged within."""
    try:
        return merge_shards(
            shard_folder(bank), [Shard(shard_folder(bank) / entry.id, entry) for entry in batch], frame, stamps=stamps
        )
    except DamagedBankError:
        return None


def _is_sound(bank: Path, entry: ShardEntry, names: Iterable[str]) -> bool:
    """Whether these files of a shard are what was published."""
    try:
        shard = Shard(shard_folder(bank) / entry.id, entry)
        for name in names:
            shard.checked(name)
    except DamagedBankError:
        return False
    return True
