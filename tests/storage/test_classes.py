"""The class table: ids never move, data sets meet by name."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from zeuxis.storage.classes import VOID, ClassTable, SemanticClass, colour_of, lookup_table
from zeuxis.storage.errors import LayoutError

SKY = SemanticClass(0, "sky", (1, 2, 3))
POLE = SemanticClass(4, "pole", (4, 5, 6), thing=True, thin=True)


def test_a_first_data_set_keeps_its_ids():
    table, mapping = ClassTable().merged([POLE, SKY])
    assert list(table) == [SKY, POLE]
    assert mapping == {0: 0, 4: 4}
    assert table.lut_size == 5


def test_later_data_sets_share_names_keep_free_ids_and_else_get_the_next():
    table = ClassTable([SKY, POLE])
    later = [SemanticClass(4, "sky", (9, 9, 9)), SemanticClass(2, "car", (9, 9, 9)), SemanticClass(0, "dog", (7, 7, 7))]
    merged, mapping = table.merged(later)
    assert mapping == {4: 0, 2: 2, 0: 5}
    assert merged[0] == SKY, "the bank's own class was overwritten"
    assert merged.named("dog") == SemanticClass(5, "dog", (7, 7, 7))
    assert list(table) == [SKY, POLE], "merging changed the table it started from"
    again, same = merged.merged(later)
    assert again == merged
    assert same == mapping


def test_renaming_joins_classes_and_sends_them_to_void():
    native = [SKY, POLE, SemanticClass(7, "cloud", (0, 0, 0))]
    table, mapping = ClassTable().merged(native, {"cloud": "sky", "pole": None})
    assert mapping == {0: 0, 4: VOID, 7: 0}
    assert [entry.name for entry in table] == ["sky"]


@pytest.mark.parametrize(
    "wrong",
    [SemanticClass(VOID, "x", (0, 0, 0)), SemanticClass(-1, "x", (0, 0, 0)), SKY, SemanticClass(9, "sky", SKY.colour)],
)
def test_void_negative_and_taken_ids_and_names_are_refused(wrong):
    with pytest.raises(LayoutError, match=r"^class '"):
        ClassTable([SKY, wrong])


def test_the_table_comes_back_from_json_and_from_a_pickle():
    table = ClassTable([POLE, SKY])
    assert ClassTable.from_json(json.loads(json.dumps(table.to_json()))) == table
    assert pickle.loads(pickle.dumps(table)) == table


def test_flags_palette_and_painting_go_by_class_id():
    table = ClassTable([SKY, POLE])
    assert np.flatnonzero(table.flags("thin")).tolist() == [4]
    assert np.flatnonzero(table.flags("thing")).tolist() == [4]
    painted = table.painted(np.array([[0, 4], [VOID, 1]], np.uint16))
    assert painted.tolist() == [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 0, 0]]]
    assert painted.dtype == np.uint8


def test_a_colour_depends_on_the_name_alone_and_is_rgb():
    names = [f"class {n}" for n in range(200)]
    colours = [colour_of(name) for name in names]
    assert colours == [colour_of(name) for name in names]
    assert len(set(colours)) > 190
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


def test_native_ids_outside_the_mapping_become_void():
    lut = lookup_table({0: 5, 3: 0, 255: 2}, void=[3])
    assert lut.dtype == np.uint16
    assert lut[[0, 3, 255, 1, VOID]].tolist() == [5, VOID, 2, VOID, VOID]
