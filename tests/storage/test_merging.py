"""A shard that was merged of others is the one that would have been written directly, to the byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toybank import FRAME, add_shard, make_bank, toy_bundle, toy_reject

from zeuxis.storage.appearance import Appearance
from zeuxis.storage.errors import BankError, DamagedBankError
from zeuxis.storage.footprints import join_sources, rows_by_source, take_source
from zeuxis.storage.merging import bundles, live_rejects, merge_shards
from zeuxis.storage.records import TABLES
from zeuxis.storage.shard import MARKER, Shard
from zeuxis.storage.shard_writer import ShardWriter, SourceBundle


def described(seed: int, with_appearance: bool = True, keep: bool = True) -> SourceBundle:
    """A toy source as a rebuild would store it, with or without descriptors and the source's files."""
    bundle = toy_bundle(seed)
    rows = np.random.default_rng(seed).integers(1, 256, (len(bundle.segments), 5), np.uint8)
    blobs = {key: value for key, value in bundle.blobs.items() if keep or key[:1] == b"s"}
    appearance = Appearance("toy", rows, bundle.appearance.borders) if with_appearance else None
    return replace(bundle, blobs=blobs, appearance=appearance)


def write(folder: Path, sources: Sequence[SourceBundle], rejects: Sequence[str] = (), said: str = "toy") -> Shard:
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder, said, FRAME) as writer:
        for bundle in sources:
            writer.add(bundle)
        for name in rejects:
            writer.reject(toy_reject(name))
        entry = writer.publish()
    return Shard(folder / entry.id, entry)


def masked(shard: Shard, sources: Sequence[str] = (), rejects: Sequence[str] = ()) -> Shard:
    return Shard(shard.path, replace(shard.entry, masked=tuple(sources), masked_rejects=tuple(rejects)))


def assert_equal_bundles(found: SourceBundle, wanted: SourceBundle) -> None:
    for name in ("source", "segments", "orderings", "patches", "blobs"):
        if name == "source":  # what is stored as float32
            assert replace(found.source, void=0.0) == replace(wanted.source, void=0.0)
            assert np.float32(found.source.void) == np.float32(wanted.source.void)
        elif name != "orderings":
            assert getattr(found, name) == getattr(wanted, name)
    assert list(found.blobs) == list(wanted.blobs)
    stored = [replace(row, margin=None if row.margin is None else float(np.float32(row.margin)))
              for row in wanted.orderings]  # fmt: skip
    assert found.orderings == stored
    assert (found.appearance and found.appearance.to_bytes()) == (wanted.appearance and wanted.appearance.to_bytes())
    for kind in ("tiled", "columns"):
        had, got = getattr(wanted, kind), getattr(found, kind)
        for field in fields(had):
            np.testing.assert_array_equal(getattr(got, field.name), getattr(had, field.name), strict=kind == "tiled")


@given(st.lists(st.integers(0, 9), unique=True, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_shard_gives_back_its_sources_as_they_were_given(tmp_path_factory, seeds, with_appearance, keep):
    given_ = [described(seed, with_appearance, keep) for seed in seeds]
    shard = write(tmp_path_factory.mktemp("shards"), given_)
    found = list(bundles(shard))
    assert len(found) == len(given_)
    for got, wanted in zip(found, given_, strict=True):
        assert_equal_bundles(got, wanted)


def test_patches_and_orderings_go_with_their_source(tmp_path):
    from zeuxis.storage.records import PatchRecord

    sources = []
    for seed in (0, 2):
        bundle = toy_bundle(seed)
        common = {name: getattr(bundle.source, name) for name in ("source", "dataset", "split", "group")}
        patches = [PatchRecord(rank=rank, top=seed, left=1, bottom=9, right=9, score=0.5, **common) for rank in (0, 1)]
        sources.append(replace(bundle, patches=patches))
    found = list(bundles(write(tmp_path, sources)))
    assert [bundle.patches for bundle in found] == [bundle.patches for bundle in sources]
    assert all(bundle.orderings for bundle in found)
    assert [len(bundle.orderings) for bundle in found] == [len(bundle.orderings) for bundle in sources]


def contents(shard: Shard) -> dict[str, object]:
    """Everything in a shard: tables, arrays and blobs."""
    tables = {name: shard.table(name) for name in TABLES}
    blobs = dict(shard.blobs())
    arrays = {name: array.tobytes() + str(array.dtype).encode() for name, array in vars(shard.footprints).items()}
    appearance = shard.appearance and shard.appearance.to_bytes()
    marker = json.loads((shard.path / MARKER).read_bytes())
    return {**tables, "blobs": blobs, "arrays": arrays, "appearance": appearance, "marker": marker}


@given(
    st.permutations(range(8)),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)),
    st.sets(st.integers(0, 7), max_size=3),
    st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_merged_is_the_same_as_written_directly_in_every_table_array_and_blob(
    tmp_path_factory, seeds, sizes, dead, with_appearance
):
    folder = tmp_path_factory.mktemp("shards")
    gone = [toy_bundle(seed).source.source for seed in dead]
    parts, direct, start = [], [], 0
    for number, size in enumerate(sizes):
        chosen = seeds[start : start + size]
        start += size
        whole = write(folder / "parts", [described(seed, with_appearance) for seed in chosen], [f"bad{number}", "b"])
        parts.append(masked(whole, gone, ["toy/b"] if number else []))
        direct += [described(seed, with_appearance) for seed in chosen if seed not in dead]
    merged = merge_shards(folder, parts, FRAME)
    wanted = write(folder / "direct", direct, ["bad0", "b", "bad1", "bad2"])
    found = Shard(folder / merged.id, merged)
    assert contents(found) == contents(wanted)
    if direct:  # a shard that held nothing but masked sources leaves no trace, not even an empty column
        assert merged == wanted.entry


def test_what_is_gone_is_left_out_and_leaves_no_blob(tmp_path):
    shard = masked(write(tmp_path, [described(seed) for seed in range(4)], ["bad", "worse"]), ["toy/001"])
    entry = merge_shards(tmp_path, [shard], FRAME, gone=["toy/002", "worse", "toy/worse"])
    found = Shard(tmp_path / entry.id, entry)
    assert found.table("sources")["source"].to_pylist() == ["toy/000", "toy/003"]
    assert [record.source for record in live_rejects(found)] == ["toy/bad"]
    kept = [described(seed) for seed in (0, 3)]
    assert dict(found.blobs()) == {key: value for bundle in kept for key, value in bundle.blobs.items()}
    assert entry.rows["segments"] == sum(len(bundle.segments) for bundle in kept)
    assert entry.masked == entry.masked_rejects == ()


def test_stamps_stay_and_newer_ones_are_written_in(tmp_path):
    shard = write(tmp_path, [described(0), described(1)], ["bad"])
    entry = merge_shards(tmp_path / "new", [shard], FRAME, stamps={"toy/001": "newer", "toy/bad": "newer too"})
    found = Shard(tmp_path / "new" / entry.id, entry)
    assert found.table("sources")["stamp"].to_pylist() == ["stamp 0", "newer"]
    assert found.table("rejects")["stamp"].to_pylist() == ["newer too"]
    assert found.table("sources")["content"].to_pylist() == [described(seed).source.content for seed in (0, 1)]


def test_each_source_can_be_changed_and_then_the_shard_has_settings_of_its_own(tmp_path):
    shard = write(tmp_path, [described(0), described(1)])
    entry = merge_shards(
        tmp_path, [shard], FRAME, lambda b: replace(b, source=replace(b.source, split="test")), settings="new"
    )
    assert entry.settings == "new"
    assert set(Shard(tmp_path / entry.id, entry).table("sources")["split"].to_pylist()) == {"test"}


def test_shards_of_unlike_settings_are_not_merged_unless_told_what_the_new_one_has(tmp_path):
    shards = [write(tmp_path, [described(0)], said="one"), write(tmp_path, [described(1)], said="two")]
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(BankError, match="expected shards of one extraction, found settings one, two"):
        merge_shards(tmp_path, shards, FRAME)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert merge_shards(tmp_path, shards, FRAME, settings="three").rows["sources"] == 2


@pytest.mark.parametrize("name", ["blobs/data.mdb", "segments.parquet", "footprints.safetensors"])
def test_a_damaged_shard_is_named_and_nothing_is_left_behind(tmp_path, name):
    shard = write(tmp_path, [described(0), described(1)])
    path = shard.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedBankError, match=name):
        merge_shards(tmp_path, [shard], FRAME)
    assert [path.name for path in tmp_path.iterdir()] == [shard.path.name]


def test_one_source_at_a_time_is_in_memory(tmp_path, monkeypatch):
    """Each source is added, and its blobs let go, before the next one is read."""
    shard = write(tmp_path, [described(seed) for seed in range(4)])
    order: list[str] = []
    read, add = Shard.blob, ShardWriter.add
    monkeypatch.setattr(Shard, "blob", lambda self, key: (order.append(f"read {key.hex()}"), read(self, key))[1])
    monkeypatch.setattr(ShardWriter, "add", lambda self, b: (order.append(f"add {b.source.source}"), add(self, b))[1])
    merge_shards(tmp_path / "new", [shard], FRAME)
    for seed, (first, last) in enumerate(zip([0, *_adds(order)], _adds(order), strict=False)):
        keys = {f"read {key.hex()}" for key in described(seed).blobs}
        assert keys <= set(order[first:last])
        assert order[last] == f"add toy/00{seed}"
        assert len([each for each in order[first:last] if each.startswith("read")]) <= len(keys) + 3


def _adds(order: list[str]) -> list[int]:
    return [number for number, each in enumerate(order) if each.startswith("add")]


def test_columns_of_one_source_come_out_of_the_joined_ones_of_a_bank(tmp_path):
    """Over shards that `add_shard` and `make_bank` wrote, as elsewhere in these tests."""
    bank = make_bank(tmp_path / "bank", [0, 1], [2])
    add_shard(bank, [3])
    from zeuxis.storage.reader import Reader

    for shard in Reader(bank).shards:
        rows = rows_by_source(shard.footprints)
        taken = [take_source(shard.footprints, number, each) for number, each in enumerate(rows)]
        assert join_sources(taken, FRAME).to_bytes() == shard.footprints.to_bytes()
