"""A reader answers from one generation: filters, masks, and every picture as it came."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from toybank import DATASET, FRAME, MAPPING, add_shard, make_bank, toy_bundle, toy_manifest, toy_source, write_shard

from zeuxis.storage import files
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import BankError, DamagedBankError, FilterError, InputError
from zeuxis.storage.manifest import load_current, shard_folder
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.records import TABLES, schema_of
from zeuxis.storage.shard import blob_key
from zeuxis.storage.shard_writer import ShardWriter


@pytest.fixture(scope="module")
def reader(finished_bank: Path) -> Reader:
    return Reader(finished_bank)


@pytest.fixture(scope="module")
def masking(finished_bank: Path) -> Reader:
    """The same bank with source 1 and the reject masked."""
    manifest = load_current(finished_bank)
    first = replace(manifest.shards[0], masked=("toy/001",), masked_rejects=("toy/bad",))
    return Reader(finished_bank, replace(manifest, shards=(first, *manifest.shards[1:])))


def rows_where(keep) -> list[int]:
    return sorted(row.segment_id for seed in range(5) for row in toy_bundle(seed).segments if keep(row))


FILTERS = {
    "nothing": (None, lambda row: True),
    "an empty mapping": ({}, lambda row: True),
    "a value": ({"class_id": 7}, lambda row: row.class_id == 7),
    "a repeated name": ({"class_name": "tree"}, lambda row: row.class_name == "tree"),
    "several values": ({"class_id": [0, 3]}, lambda row: row.class_id in (0, 3)),
    "a set": ({"source": {"toy/000", "toy/004"}}, lambda row: row.source in ("toy/000", "toy/004")),
    "no values": ({"class_id": []}, lambda row: False),
    "a value nothing has": ({"class_name": "whale"}, lambda row: False),
    "two columns": ({"split": "train", "class_id": 1}, lambda row: row.split == "train" and row.class_id == 1),
    "an expression": (pc.field("area") > 60, lambda row: row.area > 60),
    "an expression of two": (
        (pc.field("area") > 60) & (pc.field("split") == "val"),
        lambda row: row.area > 60 and row.split == "val",
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_keeps_the_rows_it_says(reader, name):
    where, keep = FILTERS[name]
    expected = rows_where(keep)
    table = reader.table("segments", where, columns=["segment_id"])
    assert sorted(table["segment_id"].to_pylist()) == expected


def test_none_is_a_value_of_its_own(reader):
    unknown = [row for seed in range(5) for row in toy_bundle(seed).orderings if row.front is None]
    assert unknown, "no ordering of the toy bank is unknown"
    assert reader.table("orderings", {"front": None}).num_rows == len(unknown)


@pytest.mark.parametrize("table", TABLES)
def test_tables_have_their_schema_with_and_without_rows(reader, table):
    assert reader.table(table).schema == schema_of(TABLES[table])
    none = reader.table(table, {"source": "toy/none"})
    assert none.num_rows == 0
    assert none.schema == schema_of(TABLES[table])


def test_columns_come_in_the_order_asked_for(reader):
    assert reader.table("segments", columns=["area", "source"]).schema.names == ["area", "source"]
    assert reader.table("segments", {"class_id": 1}, ["area"]).schema.names == ["area"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"colour": 1}, "column 'colour': expected one of segment_id, "),
        ({"class_id": "sky"}, "where 'class_id': expected values of type uint16, found 'sky'"),
        ({"class_id": -1}, "where 'class_id'"),
        ({"class_id": [1, "sky"]}, "where 'class_id'"),
        ({"class_name": 3}, "where 'class_name': expected values of type string, found 3"),
        ({"area": object()}, "where 'area'"),
        ([("area", 1)], "where: expected an Arrow expression or a mapping"),
        ("colour > 3", "column 'colour': expected one of segment_id, "),
        (pc.field("colour") == 1, "column 'colour': expected one of segment_id, "),
        ({"segment_id": "car"}, "where 'segment_id': expected values of type uint64, found 'car'"),
        (pc.field("class_name") > 3, "where: cannot be applied to segments"),
    ],
)
def test_a_filter_that_cannot_be_is_one_sentence(reader, where, said):
    with pytest.raises(FilterError) as caught:
        reader.table("segments", where)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_an_unknown_column_is_refused(reader):
    with pytest.raises(FilterError, match="column 'colour': expected one of source, "):
        reader.table("sources", columns=["source", "colour"])


class TestMasked:
    def test_masked_sources_and_rejects_never_appear(self, masking):
        for table in ("sources", "segments", "orderings"):
            for where in (None, {"dataset": "toy"}, pc.field("dataset") == "toy"):
                names = set(masking.table(table, where)["source"].to_pylist())
                assert names == {"toy/000", "toy/002", "toy/003", "toy/004"}
        assert masking.table("segments", {"source": "toy/001"}).num_rows == 0
        assert masking.table("rejects").num_rows == 0

    def test_masked_sources_are_not_live(self, masking):
        sources = masking.shard_sources[0]
        assert sources.names.tolist() == ["toy/000", "toy/001", "toy/002"]
        assert sources.live.tolist() == [True, False, True]
        assert sources.groups.tolist() == ["toy/room0", "toy/room0", "toy/room1"]

    def test_masked_sources_and_segments_cannot_be_looked_up(self, masking):
        for look in (masking.photograph, masking.layout, masking.depth):
            with pytest.raises(InputError, match="toy/001"):
                look("toy/001")
        with pytest.raises(InputError, match="is not in"):
            masking.find_segment(toy_bundle(1).segments[0].segment_id)
        assert masking.find_segment(toy_bundle(2).segments[0].segment_id)[0] == 0

    def test_a_masked_segment_is_found_where_it_lives_now(self, bank):
        """A source left and came back in another shard under the same id."""
        manifest = load_current(bank)
        first = replace(manifest.shards[0], masked=("toy/001",))
        reader = Reader(bank, replace(manifest, shards=(first, write_shard(bank, [1]))))
        number, row = reader.find_segment(toy_bundle(1).segments[0].segment_id)
        assert number == 1
        assert reader.shards[1].footprints.segment_id[row] == toy_bundle(1).segments[0].segment_id

    def test_masking_changes_the_content(self, reader, masking):
        assert content_of(reader) != content_of(masking)


@pytest.mark.parametrize("seed", range(5))
def test_photograph_layout_and_depth_come_back_exactly(reader, seed):
    _, _, source = toy_source(seed)
    name = f"toy/{seed:03d}"
    np.testing.assert_array_equal(reader.photograph(name), source.image, strict=True)
    lut = np.full(VOID + 1, VOID, np.uint16)
    lut[list(MAPPING)] = list(MAPPING.values())
    np.testing.assert_array_equal(reader.layout(name), lut[source.layout], strict=True)
    if source.depth is None:
        assert reader.depth(name) is None
    else:
        np.testing.assert_array_equal(reader.depth(name), source.depth, strict=True)


def test_segments_come_back_exactly(reader):
    rows = reader.table("segments").to_pylist()
    assert len(rows) == sum(len(toy_bundle(seed).segments) for seed in range(5))
    for row in rows[::7]:
        number, at = reader.find_segment(row["segment_id"])
        assert reader.shards[number].footprints.segment_id[at] == row["segment_id"]
        image = toy_source(int(row["source"][-3:]))[2].image
        mask = reader.segment_mask(number, row["segment_id"])
        window = image[row["crop_top"] : row["crop_bottom"], row["crop_left"] : row["crop_right"]]
        expected = np.where(mask[..., None], window, 0)
        np.testing.assert_array_equal(reader.segment_pixels(number, row["segment_id"]), expected)


def test_what_is_not_there_is_one_sentence(reader):
    with pytest.raises(InputError, match="segment 0000000000000001: is not in"):
        reader.find_segment(1)
    with pytest.raises(InputError, match=r"segment 0000000000000001 of .*: is not in the shard"):
        reader.segment_pixels(0, 1)
    with pytest.raises(InputError, match="source 'nobody': is not in"):
        reader.photograph("nobody")


def test_a_bank_that_keeps_no_sources_says_so(tmp_path):
    files.make_folder(shard_folder(tmp_path))
    bundle = toy_bundle(0)
    crops = {key: value for key, value in bundle.blobs.items() if key.startswith(b"s")}
    with ShardWriter(shard_folder(tmp_path), "s", FRAME) as writer:
        writer.add(replace(bundle, blobs=crops))
        reader = Reader(tmp_path, toy_manifest(1, [writer.publish()]))
    for look in (reader.photograph, reader.layout, reader.depth):
        with pytest.raises(BankError, match="keeps no sources"):
            look("toy/000")
    assert reader.segment_pixels(0, bundle.segments[0].segment_id).size


def test_data_sets_are_found_by_name_spec_or_lone_kind(reader, finished_bank):
    for name in ("toy", "folder", "folder:/nowhere/toy"):
        assert reader.dataset(name) == DATASET
    with pytest.raises(InputError, match="expected one of the bank's: toy"):
        reader.dataset("nyu")
    twin = replace(DATASET, name="toy-2", root="/elsewhere")
    two = Reader(finished_bank, replace(reader.manifest, datasets=(DATASET, twin)))
    assert two.dataset("folder:/elsewhere") == twin
    with pytest.raises(InputError, match="found 2"):
        two.dataset("folder")


def test_a_reader_stays_on_its_generation(bank):
    reader = Reader(bank)
    before = reader.table("segments")
    add_shard(bank, [6])
    assert reader.table("segments") == before
    assert Reader(bank).table("sources").num_rows == 6


def test_content_does_not_depend_on_how_sources_are_cut_into_shards(tmp_path):
    one = make_bank(tmp_path / "one", [0, 1, 2, 3], rejects=["a", "b"])
    two = make_bank(tmp_path / "two", [3, 1], [0], [2], rejects=["b", "a"])
    other = make_bank(tmp_path / "other", [0, 1, 2, 4], rejects=["a", "b"])
    fewer = make_bank(tmp_path / "fewer", [0, 1, 2, 3], rejects=["a"])
    assert content_of(Reader(one)) == content_of(Reader(two)) == load_current(one).content
    assert len({content_of(Reader(path)) for path in (one, other, fewer)}) == 3


def test_two_banks_are_read_side_by_side(tmp_path):
    """The same shard in two places: each reader reads its own files."""
    one = make_bank(tmp_path / "one", [0])
    two = Path(shutil.copytree(one, tmp_path / "two"))
    readers = [Reader(one), Reader(two)]
    shutil.rmtree(one)
    with pytest.raises(DamagedBankError, match="one"):
        readers[0].photograph("toy/000")
    np.testing.assert_array_equal(readers[1].photograph("toy/000"), toy_source(0)[2].image)


def test_repeated_names_are_one_dictionary_over_all_shards(reader):
    column = reader.table("segments")["class_name"]
    assert pa.types.is_dictionary(column.type)
    assert len({tuple(chunk.dictionary.to_pylist()) for chunk in column.chunks}) == 1


def test_blob_keys_tell_kinds_apart():
    assert blob_key("segment", 1) == b"s" + (1).to_bytes(8, "big")
    assert len({blob_key(kind, "00" * 16) for kind in ("image", "layout", "depth")}) == 3
