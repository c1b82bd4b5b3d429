"""Records and their Arrow tables say the same; ids are those of the definition."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields

import pyarrow as pa
import pytest
from toybank import toy_bundle, toy_reject

from zeuxis.storage.records import TABLES, Rows, hex_id, schema_of, segment_id, stored_columns, to_table

GOLDEN_ID = 0x360E8CC3149B34B6
"""Of class sky, first pixel 77, in the source below; another id for the same segment would make every bank new."""


def rows_of(table: str) -> list:
    bundles = [toy_bundle(0), toy_bundle(1)]
    return {
        "sources": [bundle.source for bundle in bundles],
        "segments": [row for bundle in bundles for row in bundle.segments],
        "orderings": [row for bundle in bundles for row in bundle.orderings],
        "patches": [TABLES["patches"]("s", "d", "train", "g", 0, 1, 2, 3, 4, 0.5)],
        "rejects": [toy_reject("a")],
    }[table]


@pytest.mark.parametrize("table", TABLES)
def test_rows_come_back_from_their_table(table):
    rows = rows_of(table)
    assert rows
    found = to_table(TABLES[table], rows).to_pylist()
    for row, back in zip(rows, found, strict=True):
        floats = {name: value for name, value in asdict(row).items() if isinstance(value, float)}
        assert {name: back[name] for name in floats} == pytest.approx(floats, rel=1e-6)
        assert {**back, **floats} == asdict(row)
    assert to_table(TABLES[table], []).schema == schema_of(TABLES[table])


@pytest.mark.parametrize("table", TABLES)
def test_rows_by_column_are_the_rows(table):
    record, rows = TABLES[table], rows_of(table)
    held = Rows.joined(record, [rows[:1], Rows.joined(record, [rows[1:], []])])
    assert held == rows
    assert (len(held), held[-1], held[:2]) == (len(rows), rows[-1], rows[:2])
    assert held != rows[1:]
    assert to_table(record, held).equals(to_table(record, rows))
    backwards = list(range(len(rows)))[::-1]
    assert held.taken(backwards) == rows[::-1]
    assert stored_columns(record, held) == stored_columns(record, rows)
    assert stored_columns(record, rows) == to_table(record, rows).to_pydict()  # to the last bit, which a hash needs


def test_what_rows_have_in_common_is_given_once():
    row = rows_of("patches")[0]
    common = {"source": "s", "dataset": "d", "split": "train", "group": "g"}
    columns = {name: [getattr(row, name)] * 2 for name in vars(row) if name not in common}
    assert Rows.of(TABLES["patches"], 2, common, columns) == [row, row]
    assert Rows.of(TABLES["patches"], 0, common, {name: [] for name in columns}) == []


@pytest.mark.parametrize("table", TABLES)
def test_only_what_may_be_none_is_nullable(table):
    schema = schema_of(TABLES[table])
    assert schema.names == [field.name for field in fields(TABLES[table])]
    assert {field.name for field in schema if field.nullable} == {
        field.name for field in fields(TABLES[table]) if "None" in str(field.type)
    }


def test_ids_of_64_bits_and_repeated_names_have_their_types():
    schema = schema_of(TABLES["segments"])
    assert schema.field("segment_id").type == pa.uint64()
    assert schema.field("class_id").type == pa.uint16()
    assert pa.types.is_dictionary(schema.field("class_name").type)


def test_a_segment_id_is_63_bits_of_blake2b_over_source_class_and_first_pixel():
    source = "00112233445566778899aabbccddeeff"
    text = bytes.fromhex(source) + (3).to_bytes(4, "little") + b"sky" + (77).to_bytes(8, "little")
    expected = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
    assert segment_id(source, "sky", 77) == expected == GOLDEN_ID
    assert expected < 1 << 63
    others = {segment_id(source, "sky", 78), segment_id(source, "sk", 77), segment_id("00" * 16, "sky", 77)}
    assert len({expected, *others}) == 4


def test_hex_ids_are_16_digits():
    assert hex_id(10) == "000000000000000a"
    assert hex_id((1 << 63) - 1) == "7fffffffffffffff"
    assert int(hex_id(segment_id("00" * 16, "é", 0)), 16) == segment_id("00" * 16, "é", 0)
