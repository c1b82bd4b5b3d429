"""Index parts: few of them, each row written a few times, whole or not there, and named where they are damaged."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace

import pytest
from toybank import FRAME

from zeuxis.pipelines.indexing import index_shards
from zeuxis.storage import files, manifest
from zeuxis.storage.checks import damage_of, file_entry
from zeuxis.storage.errors import DamagedBankError
from zeuxis.storage.manifest import Manifest, collect_garbage, load_current, publish, verify
from zeuxis.storage.parts import (
    INDEX,
    LEAVES,
    PartEntry,
    is_dead,
    live_sources,
    part_folder,
    part_id,
    plan_parts,
    write_part,
)
from zeuxis.storage.reader import Reader
from zeuxis.storage.shard import ShardEntry


def shard(id: str, rows: int, sources: int = 8, dead: int = 0, rejects: int = 0) -> ShardEntry:
    masked = tuple(f"{id}/{number}" for number in range(dead))
    return ShardEntry(id, "", {}, {"segments": rows, "sources": sources, "rejects": rejects}, {}, masked)


def part(*shards: ShardEntry, version: int = INDEX) -> PartEntry:
    ids = tuple(entry.id for entry in shards)
    return PartEntry(part_id(ids), ids, sum(entry.rows["segments"] for entry in shards), {}, version)


def ids(shards) -> list[str]:
    return [entry.id for entry in shards]


# the plan


def test_the_first_shards_become_one_part():
    shards = [shard(name, 10) for name in "abc"]
    plan = plan_parts([], shards)
    assert plan.kept == []
    assert [ids(made) for made in plan.made] == [["a", "b", "c"]]
    assert plan_parts([], []) == ([], [])


def test_nothing_is_made_where_every_shard_has_its_part():
    a, b = shard("a", 100), shard("b", 1)
    assert plan_parts([part(b), part(a)], [a, b]) == ([part(a), part(b)], [])


def test_a_night_of_one_in_a_hundred_leaves_the_large_part_alone():
    a, b = shard("a", 100), shard("b", 1)
    plan = plan_parts([part(a)], [a, b])
    assert (plan.kept, [ids(made) for made in plan.made]) == ([part(a)], [["b"]])


@pytest.mark.parametrize(("rows", "merged"), [(24, False), (25, True), (300, True)])
def test_a_night_of_a_quarter_or_more_is_merged_with_the_part_before(rows, merged):
    a, b = shard("a", 100), shard("b", rows)
    plan = plan_parts([part(a)], [a, b])
    assert (plan.kept, [ids(made) for made in plan.made]) == (([], [["a", "b"]]) if merged else ([part(a)], [["b"]]))


def test_what_was_merged_is_merged_further_while_it_is_large_enough():
    a, b, c, d = shard("a", 1000), shard("b", 50), shard("c", 10), shard("d", 3)
    plan = plan_parts([part(c), part(a), part(b)], [a, b, c, d])
    assert (plan.kept, [ids(made) for made in plan.made]) == ([part(a)], [["b", "c", "d"]])


def test_a_part_that_lost_a_shard_is_dissolved_and_the_others_of_it_indexed_anew():
    a, b, c = shard("a", 100), shard("b", 10), shard("c", 10)
    plan = plan_parts([part(a), part(b, c)], [a, c])
    assert (plan.kept, [ids(made) for made in plan.made]) == ([part(a)], [["c"]])


def test_a_part_of_another_version_is_as_good_as_none():
    a, b = shard("a", 100), shard("b", 1)
    plan = plan_parts([part(a, version=INDEX + 1), part(b)], [a, b])
    assert plan.kept == []
    assert [sorted(ids(made)) for made in plan.made] == [["a", "b"]]


def test_shards_without_segments_have_a_part_too():
    a, b = shard("a", 10), shard("b", 0)
    plan = plan_parts([part(a)], [a, b])
    assert (plan.kept, [ids(made) for made in plan.made]) == ([part(a)], [["b"]])
    assert plan_parts([part(a), part(b)], [a, b]).made == []


@pytest.mark.parametrize(("dead", "stays"), [(0, True), (25, True), (26, False), (100, False)])
def test_a_part_is_made_anew_when_more_than_a_quarter_of_its_sources_are_dead(dead, stays):
    a, b = shard("a", 1000, sources=60), shard("b", 1000, sources=40)
    there = [replace(a, masked=shard("a", 0, dead=min(dead, 60)).masked), b]
    there[1] = replace(b, masked=shard("b", 0, dead=max(dead - 60, 0)).masked)
    there.append(shard("c", 1))
    plan = plan_parts([part(a, b)], there)
    made = {True: [["c"]], False: [["a", "b", "c"]] if dead < 100 else [["c"]]}[stays]
    assert ([each.shards for each in plan.kept], [ids(each) for each in plan.made]) == (
        ([("a", "b")], made) if stays else ([], made)
    )
    forced = plan_parts([part(a, b)], there, merge=False)
    assert ([each.shards for each in forced.kept], [ids(each) for each in forced.made]) == ([("a", "b")], [["c"]])


def test_shards_with_nothing_live_are_left_out_of_what_is_made_and_stay_in_what_is_kept():
    a, b, c = shard("a", 100), shard("b", 30, dead=8), shard("c", 5, sources=0, rejects=2)
    assert is_dead(b)
    assert [ids(made) for made in plan_parts([], [a, b, c]).made] == [["a", "c"]]
    assert plan_parts([], [b]) == ([], [])
    large = part(shard("l", 900, sources=90), b)
    there = [shard("l", 900, sources=90), b]
    assert plan_parts([large], there) == ([large], [])
    assert [ids(made) for made in plan_parts([large], [*there, shard("n", 500)]).made] == [["l", "n"]]


def test_a_shard_is_dead_only_without_live_rejects():
    entry = shard("a", 10, sources=1, dead=1, rejects=2)
    assert not is_dead(entry)
    assert not is_dead(replace(entry, masked_rejects=("x",)))
    assert is_dead(replace(entry, masked_rejects=("x", "y")))
    assert not is_dead(shard("b", 0, sources=1))
    assert (live_sources(entry), live_sources(shard("b", 0, sources=9, dead=2))) == (0, 7)


def test_a_part_is_not_made_anew_of_the_very_shards_it_has():
    """Where a shard cannot be rewritten, a night must not index it again, and again the night after."""
    half = shard("a", 100, dead=4)
    assert plan_parts([part(half)], [half]) == ([part(half)], [])
    assert plan_parts([part(half)], [half], again=True) == ([], [[half]])
    plan = plan_parts([part(half)], [half, shard("b", 1)])
    assert [ids(made) for made in plan.made] == [["a", "b"]]


@dataclass
class Life:
    """What a bank went through: the most parts at a time, rows written, rows there."""

    most_parts: int
    written: int
    rows: int


def life(nights: list[int]) -> Life:
    shards: list[ShardEntry] = []
    current: list[PartEntry] = []
    lived = Life(0, 0, 0)
    for number, rows in enumerate(nights):
        shards.append(shard(f"{number}", rows))
        plan = plan_parts(current, shards)
        made = [part(*covered) for covered in plan.made]
        current = [*plan.kept, *made]
        assert sorted(id for each in current for id in each.shards) == sorted(ids(shards))
        lived.written += sum(each.rows for each in made)
        lived.most_parts = max(lived.most_parts, len(current))
    lived.rows = sum(nights)
    return lived


NIGHTS = {
    "one in a hundred": [10_000] + [100] * 200,
    "from nothing": [100] * 200,
    "growing": [10_000, *(round(10_000 * 1.01**night / 100) for night in range(200))],
    "shrinking": [round(10_000 * 0.97**night) + 1 for night in range(200)],
    "uneven": [10_000, *((1, 700, 20, 3, 90)[night % 5] for night in range(200))],
}


@pytest.mark.parametrize("nights", NIGHTS.values(), ids=NIGHTS)
def test_over_200_nights_there_are_few_parts_and_each_row_is_written_a_few_times(nights):
    lived = life(nights)
    assert lived.most_parts <= 7
    assert lived.written < 8 * lived.rows


# writing


@pytest.fixture
def shards(bank):
    return Reader(bank).shards


def texts(**contents: str):
    return {name: text.encode() for name, text in contents.items()}


def test_a_part_lies_under_its_id_with_what_was_made_and_nothing_temporary(bank, shards):
    entry = write_part(bank, shards, texts(one="1", two="22"))
    assert entry.id == part_id(entry.shards)
    assert entry.shards == tuple(each.entry.id for each in shards)
    assert entry.rows == sum(len(each.footprints) for each in shards)
    path = part_folder(bank) / entry.id
    assert {name: (path / name).read_text() for name in entry.files} == {"one": "1", "two": "22"}
    assert entry.files == {name: file_entry(path / name) for name in ("one", "two")}
    assert [each.name for each in part_folder(bank).iterdir()] == [entry.id]


def test_the_id_tells_which_shards_in_which_order():
    assert len({part_id(ids) for ids in (["a"], ["a", "b"], ["b", "a"], ["ab"])}) == 4


def test_an_entry_comes_back_from_its_json(bank, shards):
    entry = write_part(bank, shards, texts(one="1"))
    published = replace(load_current(bank), index=(entry,))
    assert Manifest.from_bytes(published.to_bytes(), bank).index == (entry,)


def test_an_equal_part_that_is_there_stays_as_it_is(bank, shards):
    path = part_folder(bank) / write_part(bank, shards, texts(one="1")).id
    before = path.stat().st_ino, (path / "one").stat().st_ino
    assert write_part(bank, shards, texts(one="1")).id == path.name
    assert (path.stat().st_ino, (path / "one").stat().st_ino) == before
    assert os.listdir(part_folder(bank)) == [path.name]


@pytest.mark.parametrize("damage", ["altered", "short", "missing", "empty folder"])
def test_a_damaged_part_that_is_there_is_replaced(bank, shards, damage):
    entry = write_part(bank, shards, texts(one="1234", two="5"))
    path = part_folder(bank) / entry.id
    if damage in ("altered", "short"):
        (path / "one").write_text("1224" if damage == "altered" else "12")
    for name in {"missing": ["one"], "empty folder": ["one", "two"]}.get(damage, []):
        (path / name).unlink()
    assert write_part(bank, shards, texts(one="1234", two="5")) == entry
    assert all(damage_of(path / name, of) is None for name, of in entry.files.items())
    assert os.listdir(part_folder(bank)) == [entry.id]


def test_what_cannot_be_written_leaves_nothing(bank, shards, monkeypatch):
    monkeypatch.setattr(files, "operations", 0)
    monkeypatch.setenv("ZEUXIS_FAULT", "4:ENOSPC")
    with pytest.raises(OSError, match="No space left"):
        write_part(bank, shards, texts(one="1", two="2"))
    monkeypatch.delenv("ZEUXIS_FAULT")
    assert os.listdir(part_folder(bank)) == []


# in a bank


@pytest.fixture
def indexed(bank):
    """A bank of two shards and one part, as its second generation."""
    current = load_current(bank)
    index = index_shards(bank, FRAME, current.shards)
    publish(bank, replace(current, generation=2, index=index))
    return bank


def leaves_file(bank):
    (entry,) = load_current(bank).index
    return part_folder(bank) / entry.id / LEAVES


def test_a_part_is_opened_when_it_is_first_needed(indexed):
    leaves_file(indexed).unlink()
    reader = Reader(indexed)
    with pytest.raises(DamagedBankError, match=LEAVES):
        _ = reader.parts[0].leaves


@pytest.mark.parametrize("damage", ["one byte", "short", "missing"])
def test_damaged_leaves_are_named_in_one_sentence_by_what_maps_them_and_by_verify(indexed, damage):
    path = leaves_file(indexed)
    assert list(verify(indexed, deep=True)) == []
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[:-1] if damage == "short" else data)
    with pytest.raises(DamagedBankError) as caught:
        _ = Reader(indexed).parts[0].leaves
    (said,) = verify(indexed)
    for sentence in (str(caught.value), said):
        assert sentence.startswith(f"{path}: ")
        assert "\n" not in sentence
    assert "indexes its shards anew" in str(caught.value)


def test_leaves_of_another_generation_are_refused(indexed):
    """Sound by their checksum, yet of other segments than the manifest says."""
    current = load_current(indexed)
    few = index_shards(indexed, FRAME, current.shards[:1])[0]
    swapped = replace(current.index[0], id=few.id, files=few.files)
    (opened,) = Reader(indexed, replace(current, index=(swapped,))).parts
    with pytest.raises(
        DamagedBankError, match=f"{few.id}.*expected {swapped.rows} segments, found {few.rows}.*another"
    ):
        _ = opened.leaves


def test_parts_of_another_version_are_left_alone(indexed):
    current = load_current(indexed)
    other = replace(current.index[0], version=INDEX + 1, files={"tree.bin": file_entry(leaves_file(indexed))})
    assert Reader(indexed, replace(current, index=(other,))).parts == []


def test_a_manifest_of_before_there_were_parts_has_none(indexed):
    row = {name: value for name, value in load_current(indexed).to_json().items() if name != "index"}
    body = json.dumps(row, indent=1).removesuffix("\n}") + ",\n "
    assert Manifest.from_bytes(manifest._signed(body.encode()), indexed).index == ()


def test_parts_that_no_generation_names_are_garbage_and_those_of_an_older_one_are_not(indexed):
    current = load_current(indexed)
    older = index_shards(indexed, FRAME, current.shards[:1])
    publish(indexed, replace(current, generation=3, index=older))
    publish(indexed, replace(current, generation=4))
    unnamed = index_shards(indexed, FRAME, current.shards[1:])
    (part_folder(indexed) / ".tmp-1-abc").mkdir()
    named = {entry.id for entry in (*current.index, *older)}
    assert set(os.listdir(part_folder(indexed))) == {*named, unnamed[0].id, ".tmp-1-abc"}
    assert sorted(collect_garbage(indexed)) == sorted([unnamed[0].id, ".tmp-1-abc"])
    assert set(os.listdir(part_folder(indexed))) == named
    assert list(verify(indexed)) == []


def test_no_part_is_removed_while_a_manifest_cannot_be_read(indexed):
    index_shards(indexed, FRAME, load_current(indexed).shards[1:])
    (indexed / "MANIFEST-000001.json").write_text("{")
    before = set(os.listdir(part_folder(indexed)))
    assert collect_garbage(indexed) == {}
    assert set(os.listdir(part_folder(indexed))) == before


def test_a_part_never_has_more_shards_than_its_leaves_can_number(monkeypatch):
    monkeypatch.setattr("zeuxis.storage.parts.MOST_SHARDS", 3)
    shards = [shard(str(number), 10) for number in range(8)]
    made = plan_parts([], shards).made
    assert [len(each) for each in made] == [3, 3, 2]
    assert [each.id for part in made for each in part] == [each.id for each in shards]
