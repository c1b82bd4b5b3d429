"""Index parts for what a rebuild leaves: new shards are indexed, small parts are merged, the others stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..index.candidates import candidate_files
from ..index.leaves import build_leaves
from ..storage.errors import DamagedBankError
from ..storage.manifest import shard_folder
from ..storage.parts import LEAVES, PartEntry, plan_parts, write_part
from ..storage.shard import Shard, ShardEntry

CANDIDATE_BYTES = 256
"""What a segment may take in the candidate index."""


def index_shards(
    bank: Path,
    frame: tuple[int, int],
    shards: Sequence[ShardEntry],
    current: Sequence[PartEntry] = (),
    say: Callable[[str], None] = lambda _: None,
) -> tuple[PartEntry, ...]:
    """The parts of a bank of these shards, made where there are none yet.

    Args:
        bank: its folder; frame: its frame.
        shards: all of them, in place.
        current: the parts of the generation before.
        say: told what is being done.
    """
    plan = plan_parts(current, shards)
    try:
        return (*plan.kept, *(_index(bank, frame, covered, say) for covered in plan.made))
    except DamagedBankError:  # of a shard that was indexed before: what is new shall land nevertheless
        plan = plan_parts(current, shards, merge=False)
        return (*plan.kept, *(_index(bank, frame, covered, say) for covered in plan.made))


def _index(bank: Path, frame: tuple[int, int], covered: Sequence[ShardEntry], say: Callable[[str], None]) -> PartEntry:
    """One part over some shards."""
    rows = sum(entry.rows["segments"] for entry in covered)
    opened = [Shard(shard_folder(bank) / entry.id, entry) for entry in covered]
    footprints = [shard.footprints for shard in opened]
    say(f"indexing {rows:,} segments")
    leaves = build_leaves(footprints, frame).to_bytes()
    say(f"indexing candidates among {rows:,} segments")
    candidates = candidate_files(footprints, frame, CANDIDATE_BYTES * rows)
    return write_part(bank, opened, {LEAVES: leaves, **candidates})
