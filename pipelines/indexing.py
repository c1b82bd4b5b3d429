"""Index parts for what a rebuild leaves: new shards are indexed, small parts are merged, the others stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..index.leaves import build_leaves
from ..storage.manifest import shard_folder
from ..storage.parts import LEAVES, PartEntry, plan_parts, write_part
from ..storage.shard import Shard, ShardEntry
from .progress import Progress, silent


def index_shards(
    bank: Path,
    frame: tuple[int, int],
    shards: Sequence[ShardEntry],
    current: Sequence[PartEntry] = (),
    progress: Progress = silent,
) -> tuple[PartEntry, ...]:
    """The parts of a bank of these shards, made where there are none yet.

    Args:
        bank: its folder; frame: its frame.
        shards: all of them, in place.
        current: the parts of the generation before.
        progress: told how many segments are indexed.
    """
    plan = plan_parts(current, shards)
    parts = list(plan.kept)
    for covered in plan.made:
        rows = sum(entry.rows["segments"] for entry in covered)
        progress(0, rows, "indexing")
        opened = [Shard(shard_folder(bank) / entry.id, entry) for entry in covered]
        footprints = [shard.footprints for shard in opened]
        parts.append(write_part(bank, opened, {LEAVES: lambda: build_leaves(footprints, frame).to_bytes()}))  # noqa: B023
        progress(rows, rows, "indexed")
    return tuple(parts)
