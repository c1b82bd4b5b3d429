"""Many nights leave few shards: small and half-dead ones are merged where their parts are made anew, and only there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "storage"))

from toybank import FRAME, publish_shards, toy_bundle, toy_manifest, write_shard

from zeuxis.pipelines.compaction import Compaction, compact, plan_merges
from zeuxis.pipelines.indexing import index_shards
from zeuxis.storage import files
from zeuxis.storage.manifest import load_current, shard_folder, verify
from zeuxis.storage.parts import PartEntry, is_dead, part_id, plan_parts
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.shard import Shard, ShardEntry


def shard(id: str, sources: int, dead: int = 0, settings: str = "s", rejects: int = 0) -> ShardEntry:
    masked = tuple(f"{id}/{number}" for number in range(dead))
    return ShardEntry(id, settings, {}, {"segments": 10 * sources, "sources": sources, "rejects": rejects}, {}, masked)


def ids(batches: Sequence[Sequence[ShardEntry]]) -> list[str]:
    return ["".join(entry.id for entry in batch) for batch in batches]


# which shards


@pytest.mark.parametrize(
    ("shards", "wanted"),
    [
        ([shard("a", 49), shard("b", 49)], ["ab"]),
        ([shard("a", 50), shard("b", 50)], []),
        ([shard("a", 49)], []),
        ([shard("a", 49), shard("b", 100)], []),
        ([shard("a", 100, dead=25)], []),
        ([shard("a", 100, dead=26)], ["a"]),
        ([shard("a", 100, dead=40), shard("b", 40)], ["ab"]),
        ([shard("a", 100, dead=40), shard("b", 41)], ["a"]),
        ([shard("a", 40), shard("b", 40), shard("c", 40)], ["ab"]),
        ([shard("a", 40), shard("b", 40), shard("c", 20), shard("d", 1)], ["abc"]),
        ([shard("a", 1), shard("b", 1, settings="t"), shard("c", 1), shard("d", 1, settings="t")], ["ac", "bd"]),
        ([shard("a", 0, rejects=3), shard("b", 2)], ["ab"]),
        ([shard("a", 4, dead=1), shard("b", 100)], []),
        ([], []),
    ],
)
def test_small_shards_and_those_with_much_dead_are_merged_where_that_gains_something(shards, wanted):
    assert ids(plan_merges(shards, 100)) == wanted


# over many nights, on entries alone


@dataclass
class Simulation:
    """A bank of entries without files: what every night writes, in sources."""

    shard_size: int = 128
    shards: list[ShardEntry] = field(default_factory=list)
    parts: list[PartEntry] = field(default_factory=list)
    names: dict[str, list[int]] = field(default_factory=dict)
    place: dict[int, str] = field(default_factory=dict)
    indexed: list[float] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    counts: list[tuple[int, int, int]] = field(default_factory=list)

    def night(self, new: Sequence[int], gone: Sequence[int]) -> None:
        masked: dict[str, list[str]] = {}
        for name in gone:
            masked.setdefault(self.place.pop(name), []).append(str(name))
        shards = [replace(e, masked=(*e.masked, *masked.get(e.id, ()))) for e in self.shards]
        shards += [self._new(new[at : at + self.shard_size]) for at in range(0, len(new), self.shard_size)]
        bound = {id for part in plan_parts(self.parts, shards, again=True).kept for id in part.shards}
        became: dict[str, ShardEntry | None] = {e.id: None for e in shards if e.id not in bound and is_dead(e)}
        free = [e for e in shards if e.id not in bound and not is_dead(e)]
        moved = 0
        for batch in plan_merges(free, self.shard_size):
            live = [name for e in batch for name in self.names[e.id] if self.place.get(name) == e.id]
            became |= {**{e.id: None for e in batch}, batch[0].id: self._new(live)}
            moved += len(live)
        self.shards = [e for e in (became.get(e.id, e) for e in shards) if e is not None]
        plan = plan_parts(self.parts, self.shards)
        made = [_part(covered) for covered in plan.made]
        self.parts = [*plan.kept, *made]
        assert sorted(id for part in self.parts for id in part.shards) == sorted(e.id for e in self.shards)
        assert plan_parts(self.parts, self.shards).made == [], "the next night would do it again"
        self.indexed.append(sum(part.rows for part in made) / 10)
        self.merged.append(moved)
        self.counts.append((len(self.shards), len(self.parts), sum(len(e.masked) for e in self.shards)))

    def _new(self, names: Sequence[int]) -> ShardEntry:
        id = f"{len(self.names)}"
        self.names[id] = list(names)
        self.place |= dict.fromkeys(names, id)
        return shard(id, len(names))


def _part(covered: Sequence[ShardEntry]) -> PartEntry:
    shards = tuple(entry.id for entry in covered)
    return PartEntry(part_id(shards), shards, sum(entry.rows["segments"] for entry in covered), {})


def simulate(first: int, nights: int, new: int, gone: int, oldest: bool = True) -> Simulation:
    bank, live = Simulation(), list(range(first))
    bank.night(live, [])
    bank.indexed, bank.merged, bank.counts = [], [], []
    draw = random.Random(7)
    for _ in range(nights):
        if not oldest:
            draw.shuffle(live)
        fresh = list(range(first, first := first + new))
        bank.night(fresh, live[:gone])
        live = [*live[gone:], *fresh]
    return bank


@pytest.mark.parametrize(
    ("first", "nights", "new", "gone", "oldest", "indexed", "merged", "shards", "dead"),
    [
        pytest.param(10_000, 200, 100, 100, True, 5, 0.1, 1.7, 0.3, id="rolling"),
        pytest.param(10_000, 200, 100, 100, False, 5, 1.5, 2.0, 0.4, id="rolling, at random"),
        pytest.param(3, 400, 3, 0, True, 10, 5, 2.5, 0.0, id="a few a night"),
        pytest.param(10_000, 400, 100, 0, True, 12, 0.1, 1.5, 0.0, id="growing"),
        pytest.param(10_000, 150, 0, 60, False, 5, 4, 2.5, 0.7, id="shrinking"),
    ],
)
def test_over_many_nights_what_is_written_is_a_small_multiple_of_what_changed(
    first, nights, new, gone, oldest, indexed, merged, shards, dead
):
    """Bounds are times what changed for what is indexed and merged, times the least possible for shards."""
    bank = simulate(first, nights, new, gone, oldest)
    live = first + nights * (new - gone)
    changed = nights * (new + gone)
    least = -(-live // bank.shard_size)
    print(
        f"indexed a night: {sum(bank.indexed) / nights:.1f} sources, at most {max(bank.indexed):.0f}; "
        f"merged: {sum(bank.merged) / nights:.1f}, at most {max(bank.merged)}; changed: {new + gone}; "
        f"at most {max(n for n, *_ in bank.counts)} shards, {max(n for _, n, _ in bank.counts)} parts"
    )
    assert sum(bank.indexed) <= indexed * changed
    assert sum(bank.merged) <= merged * changed
    assert bank.counts[-1][0] <= shards * least + 4
    assert max(parts for _, parts, _ in bank.counts) <= 7
    assert max(masked for *_, masked in bank.counts) <= dead * max(live, first)


# in a bank


def masked(entry: ShardEntry, *seeds: int) -> ShardEntry:
    return replace(entry, masked=tuple(toy_bundle(seed).source.source for seed in seeds))


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    files.make_folder(shard_folder(tmp_path / "bank"))
    return tmp_path / "bank"


def done(
    bank: Path, parts: Sequence[PartEntry], shards: Sequence[ShardEntry], size: int = 4, **stamps: str
) -> Compaction:
    return compact(bank, FRAME, parts, shards, size, {f"toy/{name[1:]}": stamp for name, stamp in stamps.items()})


def names_in(bank: Path, shards: Sequence[ShardEntry]) -> list[str]:
    rows = Reader(bank, toy_manifest(99, shards)).table("sources", columns=["source"])
    return sorted(rows["source"].to_pylist())


def test_new_small_shards_become_one_that_equals_one_written_at_once(bank):
    shards = [write_shard(bank, [seed], [f"bad{seed}"]) for seed in range(4)]
    found = done(bank, [], shards, _001="newer")
    (entry,) = found.shards
    assert (found.merged, found.replaced, found.dropped) == ([entry.id], [each.id for each in shards], [])
    assert entry.rows["sources"] == entry.rows["rejects"] == 4
    assert names_in(bank, found.shards) == [f"toy/{seed:03d}" for seed in range(4)]
    stamps = Shard(shard_folder(bank) / entry.id, entry).table("sources")["stamp"].to_pylist()
    assert stamps == ["stamp 0", "newer", "stamp 2", "stamp 3"]
    assert content_of(Reader(bank, toy_manifest(1, shards))) == content_of(Reader(bank, toy_manifest(1, found.shards)))


def test_a_second_run_finds_nothing_to_do(bank):
    shards = [write_shard(bank, [seed]) for seed in range(3)]
    first = done(bank, [], shards)
    assert done(bank, [], shards) == first, "a run that was killed is repeated"
    assert done(bank, [], first.shards) == Compaction(first.shards, [], [], [])
    parts = index_shards(bank, FRAME, first.shards)
    assert done(bank, parts, first.shards) == Compaction(first.shards, [], [], [])


def test_shards_of_parts_that_stay_are_left_alone_however_small(bank):
    old = [write_shard(bank, [seed]) for seed in range(4)]
    parts = index_shards(bank, FRAME, old)
    rows = [len(toy_bundle(seed).segments) for seed in range(5)]
    assert 4 * rows[4] < 4 * sum(rows[:4])
    parts = [replace(each, rows=each.rows * 99) for each in parts]
    new = write_shard(bank, [4])
    assert done(bank, parts, [*old, new]) == Compaction([*old, new], [], [], [])
    parts = [replace(each, rows=1) for each in parts]
    assert len(done(bank, parts, [*old, new]).shards) == 2


def test_dead_shards_leave_with_their_part_and_not_before(bank):
    one, two, three = (write_shard(bank, seeds) for seeds in ([0, 1, 2, 3, 4], [5], [6, 7]))
    parts = index_shards(bank, FRAME, [one, two, three])
    parts = [replace(each, rows=each.rows * 99) for each in parts]
    shards = [one, masked(two, 5), three]
    assert done(bank, parts, shards, 2) == Compaction(shards, [], [], [])
    shards = [one, masked(two, 5), masked(three, 6)]
    assert done(bank, parts, shards, 2) == Compaction(shards, [], [], []), "a quarter"
    shards = [masked(one, 0), masked(two, 5), masked(three, 6)]
    found = done(bank, parts, shards, 2)
    assert found.dropped == [two.id]
    assert found.replaced == [three.id]
    assert names_in(bank, found.shards) == [f"toy/{seed:03d}" for seed in (1, 2, 3, 4, 7)]
    index = index_shards(bank, FRAME, found.shards, parts)
    assert sorted(id for part in index for id in part.shards) == sorted(entry.id for entry in found.shards)


def test_a_part_that_is_too_dead_is_made_of_smaller_shards_though_nothing_is_new(bank):
    one, two = write_shard(bank, [0, 1, 2, 3]), write_shard(bank, [4, 5])
    parts = index_shards(bank, FRAME, [one, two])
    found = done(bank, parts, [masked(one, 0, 1), two], 2)
    assert (found.replaced, names_in(bank, found.shards)) == ([one.id], ["toy/002", "toy/003", "toy/004", "toy/005"])
    (index,) = index_shards(bank, FRAME, found.shards, parts)
    assert index.shards == (found.merged[0], two.id)


def test_dead_shards_without_a_part_leave_at_once(bank):
    one, two = write_shard(bank, [0, 1]), write_shard(bank, [2])
    assert done(bank, [], [one, masked(two, 2)], 2) == Compaction([one], [], [], [two.id])


def test_a_new_shard_stands_where_the_first_of_those_in_it_stood(bank):
    large, one, other, two = (write_shard(bank, seeds) for seeds in ([0, 1], [2], [3, 4], [5]))
    found = done(bank, [], [large, one, other, two], 3)
    assert [entry.id for entry in found.shards] == [large.id, found.merged[0], other.id]


@pytest.mark.parametrize("name", ["blobs/data.mdb", "segments.parquet", "appearance.safetensors"])
def test_a_damaged_shard_is_left_as_it_is_and_the_others_are_merged(bank, name):
    shards = [write_shard(bank, [seed]) for seed in range(3)]
    spoil(bank, shards[1], name)
    found = done(bank, [], shards)
    assert found.replaced == [shards[0].id, shards[2].id]
    assert [entry.id for entry in found.shards] == [found.merged[0], shards[1].id]
    assert [path.name for path in shard_folder(bank).iterdir() if path.name.startswith(".tmp")] == []


def test_a_part_with_a_shard_that_cannot_be_indexed_is_not_dissolved(bank):
    """The night must land: what is new is indexed beside it."""
    old = [write_shard(bank, [0, 1]), write_shard(bank, [2]), write_shard(bank, [3])]
    parts = index_shards(bank, FRAME, old)
    spoil(bank, old[0], "footprints.safetensors")
    new = [write_shard(bank, [4]), write_shard(bank, [5])]
    shards = [old[0], old[1], masked(old[2], 3), *new]
    found = done(bank, parts, shards)
    assert found.dropped == []
    assert [entry.id for entry in found.shards] == [*(entry.id for entry in old), found.merged[0]]
    index = index_shards(bank, FRAME, found.shards, parts)
    assert [part.shards for part in index] == [parts[0].shards, (found.merged[0],)]
    assert done(bank, index, found.shards) == Compaction(found.shards, [], [], [])


def test_shards_of_unlike_extractions_are_never_merged(bank):
    one, two = write_shard(bank, [0]), replace(write_shard(bank, [1]), settings="others")
    assert done(bank, [], [one, two]).shards == [one, two]


def test_what_would_take_the_name_of_a_dead_shard_that_has_to_stay_is_left(bank):
    """A source that changed and changed back: its first shard is dead, and covered by a part that stays."""
    both, large = write_shard(bank, [0, 1]), write_shard(bank, [2, 3, 4, 5, 6, 7, 8])
    parts = [replace(each, rows=each.rows * 99) for each in index_shards(bank, FRAME, [both, large])]
    new = [write_shard(bank, [0]), write_shard(bank, [1])]
    shards = [masked(both, 0, 1), large, *new]
    assert done(bank, parts, shards) == Compaction(shards, [], [], [])
    found = done(bank, [], shards)
    assert (found.dropped, [entry.id for entry in found.shards]) == ([both.id], [large.id, both.id])
    assert found.shards[1].masked == ()


def spoil(bank: Path, entry: ShardEntry, name: str) -> None:
    path = shard_folder(bank) / entry.id / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_anywhere_it_does_the_same_again(bank, tmp_path, every):
    shards = [write_shard(bank, [seed]) for seed in range(3)]
    publish_shards(bank, 1, shards)
    clean = Path(shutil.copytree(bank, tmp_path / "clean"))
    files.operations = 0
    wanted = done(clean, [], shards)
    count, killed = files.operations, 0
    for number in range(1, count + 1, every):
        there = Path(shutil.copytree(bank, tmp_path / f"there{number}"))
        child = os.fork()
        if child == 0:
            os.environ["ZEUXIS_FAULT"], files.operations = f"{number}:kill", 0
            done(there, [], shards)
            os._exit(0)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert list(verify(there)) == []
        assert load_current(there).shards == tuple(shards)
        assert done(there, [], shards) == wanted
    assert killed == len(range(1, count + 1, every))
