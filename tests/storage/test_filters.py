"""Filters: SQL text, mappings and expressions keep the rows they say, and what they cannot say is one sentence."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from toybank import toy_bundle

from zeuxis.storage.errors import FilterError
from zeuxis.storage.filters import as_expression, columns_of, evaluate, expression_key, parse_where
from zeuxis.storage.reader import Reader
from zeuxis.storage.records import TABLES, hex_id, schema_of

SEGMENTS, ORDERINGS = schema_of(TABLES["segments"]), schema_of(TABLES["orderings"])


@pytest.fixture(scope="module")
def rows():
    """The segments of the toy bank, as records."""
    return [row for seed in range(5) for row in toy_bundle(seed).segments]


@pytest.fixture(scope="module")
def reader(finished_bank):
    return Reader(finished_bank)


def kept(reader, where):
    """Ids of the segments that a filter keeps, evaluated in memory on no more columns than it names."""
    expression = as_expression(where, SEGMENTS)
    table = reader.segment_columns(columns_of(expression, SEGMENTS))
    ids = reader.segment_columns(["segment_id"])["segment_id"].to_numpy()
    return sorted(ids[evaluate(table, expression)].tolist())


CONDITIONS = {
    "area > 40": lambda r: r.area > 40,
    "area>=40 and area<>41 AND NOT area = 43": lambda r: r.area >= 40 and r.area not in (41, 43),
    "40 < area": lambda r: r.area > 40,
    "class_name = 'car'": lambda r: r.class_name == "car",
    "class_name != 'car' OR top = 0": lambda r: r.class_name != "car" or r.top == 0,
    "class_name = 'car' OR top = 0 AND left = 0": lambda r: r.class_name == "car" or (r.top == 0 and r.left == 0),
    "(class_name = 'car' OR top = 0) AND left = 0": lambda r: (r.class_name == "car" or r.top == 0) and r.left == 0,
    "split IN ('val', 'test')": lambda r: r.split == "val",
    "class_id NOT IN (1, 3)": lambda r: r.class_id not in (1, 3),
    "class_id in (1.0, 7)": lambda r: r.class_id in (1, 7),
    "area BETWEEN 10 AND 90": lambda r: 10 <= r.area <= 90,
    "class_id BETWEEN 1 AND 3": lambda r: r.class_id in (1, 3),
    "area NOT BETWEEN 10 AND 90": lambda r: not 10 <= r.area <= 90,
    "group LIKE 'toy/room_'": lambda r: True,
    "source LIKE '%2'": lambda r: r.source.endswith("2"),
    "class_name ILIKE 'C%'": lambda r: r.class_name.startswith("c"),
    "class_name LIKE 'C%'": lambda r: False,
    "class_name NOT LIKE '%a%'": lambda r: "a" not in r.class_name,
    "area IS NULL": lambda r: False,
    "area IS NOT NULL": lambda r: True,
    "(right - left) * (bottom - top) > 2 * area": lambda r: (r.right - r.left) * (r.bottom - r.top) > 2 * r.area,
    "area / pixels < 0.5": lambda r: r.area / r.pixels < 0.5,
    "top - 20 < -5": lambda r: r.top - 20 < -5,
    "-top < -20": lambda r: r.top > 20,
    "area * 1000000 > 100000000": lambda r: r.area > 100,
    "area > 5e1": lambda r: r.area > 50,
    "class_name = 'car' -- a \"comment\"": lambda r: r.class_name == "car",
}


@pytest.mark.parametrize("text", CONDITIONS)
def test_a_condition_keeps_the_rows_it_says_in_memory_and_pushed_down(reader, rows, text):
    expected = sorted(row.segment_id for row in rows if CONDITIONS[text](row))
    assert kept(reader, text) == expected
    assert sorted(reader.table("segments", text, ["segment_id"])["segment_id"].to_pylist()) == expected


def test_conditions_of_the_list_are_told_apart_by_the_toy_bank(rows):
    shares = [sum(map(CONDITIONS[text], rows)) for text in CONDITIONS]
    assert sum(0 < share < len(rows) for share in shares) >= len(shares) - 5


def test_segment_ids_are_hexadecimal_texts_or_numbers(reader, rows):
    first, second = rows[0].segment_id, rows[1].segment_id
    assert kept(reader, f"segment_id = '{hex_id(first)}'") == [first]
    assert kept(reader, f"'{hex_id(first)}' = segment_id") == [first]
    assert kept(reader, f"segment_id = {first}") == [first]
    assert kept(reader, f"segment_id IN ('{hex_id(first)}', '{hex_id(second)}')") == sorted([first, second])
    assert kept(reader, {"segment_id": [hex_id(first), second]}) == sorted([first, second])


def test_a_quote_in_a_text_is_doubled():
    table = pa.table({"class_name": ["driver's seat", "car"]})
    expression = as_expression("class_name = 'driver''s seat'", table.schema)
    assert evaluate(table, expression).tolist() == [True, False]


def test_what_is_unknown_is_neither_in_a_list_nor_out_of_it():
    table = pa.table({"front": pa.array([1, None, 3], pa.uint64())})
    for text, expected in (
        ("front IN (1, 2)", [True, False, False]),
        ("front NOT IN (1, 2)", [False, False, True]),
        ("NOT front = 1", [False, False, True]),
        ("front IS NULL", [False, True, False]),
        ("front <> 1 OR front IS NULL", [False, True, True]),
    ):
        assert evaluate(table, as_expression(text, table.schema)).tolist() == expected, text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found none"),
        ("   ", "found none"),
        ("area", "expected column=value or a condition"),
        ("NOT area", "expected column=value or a condition"),
        ("area >", "cannot be understood"),
        ("area > 3 AND", "cannot be understood"),
        ("(area > 3", "cannot be understood"),
        ("'open", "open quote"),
        ("area > 3; DROP TABLE segments", "cannot be understood near 'DROP'"),
        ("area > 3; area < 4", "found 2"),
        ("colour = 3", "column 'colour': expected one of segment_id, "),
        ('class_name = "car"', "texts stand in single quotes"),
        ("area = NULL", "write IS NULL"),
        ("area IN ()", "IN ()"),
        ("area IN (SELECT 1)", "SELECT 1"),
        ("area IN (1, 'a')", "values of one type"),
        ("area IN (top, 3)", '"top"'),
        ("area IS TRUE", "IS TRUE"),
        ("TRUE", "TRUE"),
        ("area % 2 = 0", "% 2"),
        ("abs(area) > 3", "ABS("),
        ("segments.area > 3", "segments."),
        ("area = 1 = 1", '"area" = 1'),
        ("area > ANY (1)", "ANY("),
        ("area BETWEEN SYMMETRIC 9 AND 1", "BETWEEN"),
        ("class_name LIKE 'a!%' ESCAPE '!'", "ESCAPE"),
        ("class_name LIKE source", '"source"'),
        ("class_name SIMILAR TO 'a'", "SIMILAR TO"),
        ("CAST(area AS TEXT) = 'a'", "CAST("),
        ("class_name + 1 > 3", "numbers to reckon with"),
        ("segment_id = 'xyz'", "16 hexadecimal digits"),
        ("segment_id = '1'", "16 hexadecimal digits"),
        (f"segment_id = '{'f' * 17}'", "16 hexadecimal digits"),
        ("segment_id = -3", "-3"),
        ("area > ?", "?"),
        ("(" * 400 + "area > 3" + ")" * 400, "too deeply"),
        (" AND ".join(["area > 3"] * 5000), "too deeply"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_sentence(text, said):
    with pytest.raises(FilterError) as caught:
        as_expression(text, SEGMENTS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("area > 'big'", "a number for area"), ("class_name > 3", "a text for class_name"),
     ("area LIKE 'x%'", "a number for area"), ("class_id IN ('car')", "a number for class_id"),
     ("left BETWEEN 'a' AND 'b'", "a number for left")],
)  # fmt: skip
def test_unlike_types_are_refused_by_name(reader, text, expected):
    with pytest.raises(FilterError) as caught:
        kept(reader, text)
    assert str(caught.value) == (
        f"where {text!r}: compares unlike types, expected {expected}; texts stand in single quotes, numbers do not"
    )


def test_numbers_beyond_64_bits_are_refused_when_they_meet_the_rows(reader):
    with pytest.raises(FilterError, match="cannot be applied to segments"):
        kept(reader, " * ".join(["area"] * 40) + " > top")


def test_an_expression_that_is_neither_true_nor_false_is_refused(reader):
    with pytest.raises(FilterError, match="true or false"):
        kept(reader, pc.field("area") + 1)


def test_columns_are_those_that_an_expression_names(reader):
    assert columns_of(as_expression("(right - left) > 3 AND group = 'x'", SEGMENTS), SEGMENTS) == [
        *("group", "left", "right"),
    ]
    assert set(columns_of(pc.field("crop_top") > 3, SEGMENTS)) == {"crop_top"}
    assert columns_of(pc.field(10) > 3, SEGMENTS) == SEGMENTS.names  # by number


def test_long_lists_that_print_alike_have_keys_of_their_own():
    first, second = (pc.field("area").isin([*range(20), middle, *range(30, 50)]) for middle in (20, 21))
    assert str(first) == str(second), "Arrow prints them whole now"
    assert expression_key(first) != expression_key(second)
    assert expression_key(first) == expression_key(pc.field("area").isin([*range(21), *range(30, 50)]))


def test_segment_columns_are_in_the_order_of_the_search_columns(reader):
    table = reader.segment_columns(["area", "segment_id"])
    assert table.column_names == ["area", "segment_id"]
    ids = [id for shard in reader.shards for id in shard.footprints.segment_id.tolist()]
    areas = [area for shard in reader.shards for area in shard.footprints.area.tolist()]
    assert (table["segment_id"].to_pylist(), table["area"].to_pylist()) == (ids, areas)


# ---- the command line's texts


@pytest.mark.parametrize(
    ("texts", "keep"),
    [
        (["class_id=1"], lambda r: r.class_id == 1),
        (["class_id=1", "class_id=3"], lambda r: r.class_id in (1, 3)),
        (["class_id=1", "split=val"], lambda r: r.class_id == 1 and r.split == "val"),
        (["source=toy/002"], lambda r: r.source == "toy/002"),
        (["class_id=1", "area > 40"], lambda r: r.class_id == 1 and r.area > 40),
        (["area>40", "top = 0"], lambda r: r.area > 40 and r.top == 0),
        (["class_id=1 AND area > 40"], lambda r: r.class_id == 1 and r.area > 40),
        (["class_id=1 or class_id IN (3, 7)"], lambda r: r.class_id in (1, 3, 7)),
        (["class_name='car'"], lambda r: r.class_name == "car"),
        (["class_name=sky and road"], lambda r: False),
        (["class_name=driver's seat"], lambda r: False),
    ],
)
def test_texts_of_the_command_line(reader, rows, texts, keep):
    assert kept(reader, parse_where(texts)) == sorted(row.segment_id for row in rows if keep(row))


def test_a_segment_id_on_the_command_line_is_hexadecimal(reader, rows):
    assert kept(reader, parse_where([f"segment_id={hex_id(rows[3].segment_id)}"])) == [rows[3].segment_id]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class_name", "expected column=value"),
        ("nosuch=1", "'nosuch'"),
        ("nosuch > 1", "'nosuch'"),
        ("area=big", "int32"),
        ("segment_id=xyz", "segment_id"),
        ("", "found none"),
    ],
)
def test_texts_of_the_command_line_that_say_nothing(text, said):
    with pytest.raises(FilterError, match=said):
        parse_where([text])


def test_no_text_is_no_filter():
    assert parse_where([]) is None
