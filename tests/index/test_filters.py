"""Which segments are candidates: where, exclude, the guard, what has left the bank; evaluated once, kept in bounds."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from zeuxis.index import filters
from zeuxis.index.filters import SegmentFilters, alike_groups
from zeuxis.index.request import RetrievalOptions
from zeuxis.ingest.datasets.camvid import CamVid
from zeuxis.ingest.datasets.nyu import NyuFolder, NyuMat
from zeuxis.storage.errors import FilterError, InputError
from zeuxis.storage.manifest import DatasetEntry, load_current
from zeuxis.storage.reader import Reader

sys.path.append(str(Path(__file__).resolve().parents[1] / "storage"))
from toybank import DATASET, make_bank, toy_bundle

SEEDS = range(10)
"""Two sources a room; 2, 5 and 8 are `val`, the others `train`."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_bank(tmp_path_factory.mktemp("filters") / "bank", range(4), range(4, 10))


@pytest.fixture
def reader(path):
    return Reader(path)


def changed(path, **changes):
    """The same bank with another manifest."""
    return Reader(path, replace(load_current(path), **changes))


def left(reader, **options):
    """The seeds of the sources of which any segment is left; all of a source's segments are, or none."""
    candidates = SegmentFilters(reader).candidates(RetrievalOptions(**options))
    found = set()
    for keep, shard, sources in zip(candidates.rows, reader.shards, reader.shard_sources, strict=True):
        names = sources.names[shard.footprints.source]
        assert not set(names[keep]) & set(names[~keep])
        found |= {int(name[-3:]) for name in names[keep]}
    assert candidates.number == sum(int(keep.sum()) for keep in candidates.rows)
    return found


def test_without_a_filter_there_is_nothing_to_look_at(reader):
    assert SegmentFilters(reader).candidates(RetrievalOptions()) is None
    assert SegmentFilters(reader).candidates(RetrievalOptions(source="toy/004", guard=False)) is None


def test_the_guard_bars_the_sources_group_and_held_out_splits(reader):
    assert left(reader, source="toy/004") == {0, 1, 3, 6, 7, 9}
    assert left(reader, source="toy/002", guard=True) == {0, 1, 4, 6, 7, 9}
    assert left(reader, guard=True) == {0, 1, 3, 4, 6, 7, 9}


def test_the_guard_bars_neighbouring_groups_where_the_data_set_says_so(path):
    reader = changed(path, datasets=(replace(DATASET, neighbours=True),))
    assert left(reader, source="toy/004") == {0, 1, 9}
    assert left(reader, source="toy/000") == {4, 6, 7, 9}
    assert left(reader, guard=True) == {0, 1, 3, 4, 6, 7, 9}
    other = changed(path, datasets=(replace(DATASET, name="other", neighbours=True), DATASET))
    assert left(other, source="toy/004") == {0, 1, 3, 6, 7, 9}


def test_the_manifest_keeps_what_the_data_set_says_of_its_groups():
    says = replace(DATASET, neighbours=True)
    assert DatasetEntry.from_json(says.to_json()) == says
    assert DatasetEntry.from_json(DATASET.to_json()) == DATASET
    older = {name: value for name, value in DATASET.to_json().items() if name != "neighbours"}
    assert not DatasetEntry.from_json(older).neighbours
    assert DatasetEntry.from_json({**older, "kind": "nyu"}).neighbours
    assert [kind.neighbours for kind in (NyuFolder, NyuMat, CamVid)] == [True, True, False]


@pytest.mark.parametrize(
    ("group", "neighbours", "expected"),
    [
        ("nyu/12", True, ["nyu/11", "nyu/12", "nyu/13"]),
        ("nyu/9", True, ["nyu/8", "nyu/9", "nyu/10"]),
        ("nyu/0", True, ["nyu/0", "nyu/1"]),
        ("nyu-2/10", True, ["nyu-2/9", "nyu-2/10", "nyu-2/11"]),
        ("nyu/12", False, ["nyu/12"]),
        ("camvid/0006R0x", True, ["camvid/0006R0x"]),
    ],
)
def test_groups_that_look_alike(group, neighbours, expected):
    assert alike_groups(group, neighbours) == expected


def test_sources_and_groups_are_excluded_by_name(reader):
    assert left(reader, exclude="toy/004") == set(SEEDS) - {4}
    assert left(reader, exclude=["toy/room2", "toy/000"]) == set(SEEDS) - {0, 4, 5}
    assert left(reader, exclude=iter(["toy/room2"]), source="toy/000") == {3, 6, 7, 9}


def test_what_has_left_the_bank_is_no_candidate(path):
    manifest = load_current(path)
    first = replace(manifest.shards[0], masked=("toy/001",))
    reader = changed(path, shards=(first, *manifest.shards[1:]))
    assert left(reader) == set(SEEDS) - {1}
    assert left(reader, exclude="toy/001") == set(SEEDS) - {1}
    assert left(reader, where="area > 0") == set(SEEDS) - {1}
    with pytest.raises(InputError, match="toy/001"):
        left(reader, source="toy/001")


def test_all_filters_hold_together(reader):
    options = RetrievalOptions(where="area > 40 AND class_id IN (0, 3)", exclude="toy/001", source="toy/004")
    keep = np.concatenate(SegmentFilters(reader).candidates(options).rows)
    ids = np.concatenate([shard.footprints.segment_id for shard in reader.shards])
    rows = [(seed, row) for seed in (0, 3, 6, 7, 9) for row in toy_bundle(seed).segments]
    expected = {row.segment_id for _, row in rows if row.area > 40 and row.class_id in (0, 3)}
    assert set(ids[keep].tolist()) == expected
    assert 0 < len(expected) < len(ids)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"exclude": "toy/nothing"}, FilterError, "'toy/nothing'.*bank.sources"),
        ({"source": "toy/nothing"}, InputError, "source 'toy/nothing'"),
        ({"source": "toy/room1"}, InputError, "source 'toy/room1'"),
        ({"source": "toy/nothing", "guard": False}, InputError, "source 'toy/nothing'"),
        ({"where": "colour = 1"}, FilterError, "'colour'"),
        ({"where": pc.field("colour") == 1}, FilterError, "column .colour.: expected one of segment_id, "),
        ({"where": pc.field("area")}, FilterError, "true or false"),
        ({"where": pc.scalar(3)}, FilterError, "true or false"),
    ],
)
def test_filters_that_say_nothing_are_refused(reader, options, error, said):
    with pytest.raises(error, match=said) as caught:
        SegmentFilters(reader).candidates(RetrievalOptions(**options))
    assert "\n" not in str(caught.value)


def test_an_expression_without_a_column_holds_for_all_or_none(reader):
    assert left(reader, where=pc.scalar(True)) == set(SEEDS)
    assert left(reader, where=pc.scalar(False)) == set()


# ---- evaluated once


@pytest.fixture
def counted(reader, monkeypatch):
    """Filters of the bank that note every evaluation and every column that is read."""
    calls: dict[str, list] = {"evaluated": [], "read": []}
    evaluate, read = filters.evaluate, reader.segment_columns
    monkeypatch.setattr(
        filters, "evaluate", lambda table, e: calls["evaluated"].append(table.column_names) or evaluate(table, e)
    )
    monkeypatch.setattr(reader, "segment_columns", lambda names: calls["read"].append(names) or read(names))
    return SegmentFilters(reader), calls


def test_a_filter_is_evaluated_once_however_it_is_said(counted):
    found, calls = counted
    said = ["class_id = 3", "class_id  =  3 ", "(class_id = 3)"]
    first, *others = [found.candidates(RetrievalOptions(where=where)) for where in said]
    assert all(other is first for other in others)
    assert calls == {"evaluated": [["class_id"]], "read": [["class_id"]]}
    assert found.candidates(RetrievalOptions(where="class_id = 3", guard=True)) is not first


def test_columns_are_read_once_and_only_those_that_are_named(counted):
    found, calls = counted
    for where in ("area > 40", "area > 41", "area > 40 AND top = 0", {"class_id": 3}, "top = 1"):
        found.candidates(RetrievalOptions(where=where))
    assert calls["read"] == [["area"], ["top"], ["class_id"]]


def test_sources_of_one_group_share_a_filter(reader):
    found = SegmentFilters(reader)
    first = found.candidates(RetrievalOptions(source="toy/006"))
    assert found.candidates(RetrievalOptions(source="toy/007")) is first
    assert found.candidates(RetrievalOptions(source="toy/004")) is not first


def test_long_lists_that_print_alike_are_told_apart(reader):
    found = SegmentFilters(reader)
    numbers = [found.candidates(RetrievalOptions(where=pc.field("area").isin(values))).number for values in LISTS]
    assert str(pc.field("area").isin(LISTS[0])) == str(pc.field("area").isin(LISTS[1]))
    assert numbers[0] > 0 == numbers[1]


LISTS = [[*range(-30, -20), *range(5000), *range(-60, -50)], [*range(-30, -20), *range(-9000, -4000), *range(-60, -50)]]
"""As long as each other, and alike in the ends that Arrow prints."""


def test_kept_filters_stay_within_their_bytes(reader, monkeypatch):
    size = sum(shard.entry.rows["segments"] for shard in reader.shards)
    monkeypatch.setattr(filters, "MASK_BYTES", 3 * size)
    found = SegmentFilters(reader)
    kept = [found.candidates(RetrievalOptions(where=f"area > {n}")) for n in range(3)]
    assert all(found.candidates(RetrievalOptions(where=f"area > {n}")) is kept[n] for n in (1, 2, 0))
    found.candidates(RetrievalOptions(where="area > 3"))  # puts out 1, which was not used for longest
    assert found.candidates(RetrievalOptions(where="area > 0")) is kept[0]
    again = found.candidates(RetrievalOptions(where="area > 1"))
    assert again is not kept[1]
    assert all((a == b).all() for a, b in zip(again.rows, kept[1].rows, strict=True))
    assert found._masks._bytes <= 3 * size


def test_what_is_larger_than_the_budget_is_not_kept(reader, monkeypatch):
    monkeypatch.setattr(filters, "COLUMN_BYTES", 1)
    monkeypatch.setattr(filters, "MASK_BYTES", 1)
    found = SegmentFilters(reader)
    first, second = (found.candidates(RetrievalOptions(where="area > 40")) for _ in range(2))
    assert first is not second
    assert first.number == second.number > 0
    assert (found._columns._bytes, found._masks._bytes) == (0, 0)


def test_threads_agree(reader):
    found = SegmentFilters(reader)
    wheres = [f"area > {n % 7}" for n in range(56)]
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda where: found.candidates(RetrievalOptions(where=where)).number, wheres))
    assert numbers == [SegmentFilters(reader).candidates(RetrievalOptions(where=where)).number for where in wheres]
    assert found._masks._bytes == 7 * sum(shard.entry.rows["segments"] for shard in reader.shards)


def test_text_that_repeats_is_one_dictionary_over_all_shards(reader):
    column = reader.segment_columns(["class_name"])["class_name"]
    assert column.num_chunks == 1
    assert pa.types.is_dictionary(column.type)
