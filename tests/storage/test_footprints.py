"""Bit tiles hold exactly the region map they were cut from, through files and joins."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from toybank import FRAME, MAPPING, toy_bundle, toy_source

from zeuxis.storage.classes import VOID
from zeuxis.storage.cutting import count_covered
from zeuxis.storage.footprints import (
    MIXED,
    TILE,
    Footprints,
    SegmentColumns,
    TiledRegions,
    context_areas,
    frame_tiles,
    join_sources,
    region_map,
    rows_by_source,
    take_source,
    tile_regions,
    tile_runs,
    void_free_sums,
)
from zeuxis.storage.layouts import context_box, context_boxes, find_components, label_runs, sample_to_frame

regions = hnp.arrays(
    np.uint32,
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    elements=st.one_of(st.integers(0, 3), st.just(2)),
)


def untiled(tiles, row_start, mixed_start, entry_region, entry_bits, mixed, frame) -> np.ndarray:
    """The region map, pixel by pixel, from the tiles as the module's first lines describe them."""
    whole = np.zeros((tiles.shape[0] * TILE, tiles.shape[1] * TILE), np.uint32)
    for row in range(tiles.shape[0]):
        number = int(row_start[row])
        for col in range(tiles.shape[1]):
            tile = np.zeros(TILE * TILE, np.uint32)
            if tiles[row, col] != mixed:
                tile[:] = tiles[row, col]
            else:
                for entry in range(int(mixed_start[number]), int(mixed_start[number + 1])):
                    bits = int(entry_bits[entry])
                    for bit in range(64):
                        if bits >> bit & 1:
                            assert tile[bit] == 0, "two regions claim one pixel"
                            tile[bit] = entry_region[entry]
                number += 1
            whole[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE] = tile.reshape(TILE, TILE)
    return whole[: frame[0], : frame[1]]


def untiled_source(tiled: TiledRegions, frame: tuple[int, int]) -> np.ndarray:
    parts = (tiled.tiles, tiled.row_start, tiled.mixed_start, tiled.entry_region, tiled.entry_bits)
    return untiled(*parts, MIXED, frame)


def untiled_row(joined: Footprints, source: int, frame: tuple[int, int]) -> np.ndarray:
    parts = (joined.tiles[source], joined.row_start[source], joined.mixed_start, joined.entry_region, joined.entry_bits)
    return untiled(*parts, np.iinfo(joined.tiles.dtype).max, frame)


@given(regions)
@settings(max_examples=100, deadline=None)
def test_tiles_hold_the_region_map_of_any_frame(region):
    tiled = tile_regions(region, np.arange(4, dtype=np.uint16))
    assert tiled.tiles.shape == frame_tiles(region.shape)
    np.testing.assert_array_equal(untiled_source(tiled, region.shape), region)
    assert len(tiled.entry_bits) == len(tiled.entry_region) == tiled.mixed_start[-1]
    assert len(tiled.mixed_start) == (tiled.tiles == MIXED).sum() + 1


@given(regions)
@settings(max_examples=50, deadline=None)
def test_entries_stand_in_the_order_in_which_regions_appear_in_their_tile(region):
    tiled = tile_regions(region, np.arange(4, dtype=np.uint16))
    expected = []
    for row, col in np.argwhere(tiled.tiles == MIXED).tolist():
        tile = region[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE].ravel().tolist()
        expected += [number for number in dict.fromkeys(tile) if number]
    assert tiled.entry_region.tolist() == expected


@given(regions, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_runs_that_part_a_region_give_its_tiles(region, most):
    """Of the stored components of a class, or of those too small, several that lie side by side are one region."""
    heads, starts, stops, values = [0], [], [], []
    for line in region:
        for col in range(0, len(line), most):
            for first, last, value in cut(line[col : col + most]):
                starts.append(col + first)
                stops.append(col + last)
                values.append(value)
        heads.append(len(starts))
    runs = *(np.array(each, np.int32) for each in (heads, starts, stops)), np.array(values, np.uint32)
    found, expected = tile_runs(runs, region.shape, np.arange(4)), tile_regions(region, np.arange(4))
    for field in fields(TiledRegions):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))


def cut(line: np.ndarray) -> list[tuple[int, int, int]]:
    """The runs of a line, void without: start, stop, value."""
    ends = [*(np.flatnonzero(np.diff(line.astype(int))) + 1).tolist(), len(line)]
    return [(a, b, int(line[a])) for a, b in zip([0, *ends], ends, strict=False) if line[a]]


def test_a_uniform_tile_costs_no_entry():
    region = np.full((16, 24), 2, np.uint32)
    region[:8, :8] = 0
    tiled = tile_regions(region, np.array([VOID, 1, 1], np.uint16))
    assert tiled.tiles.tolist() == [[0, 2, 2], [2, 2, 2]]
    assert tiled.entry_bits.size == 0


@given(regions, st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_context_areas_count_what_is_not_void(region, seed):
    rng = np.random.default_rng(seed)
    rows, cols = (np.sort(rng.integers(0, side + 1, (5, 2)), axis=1) for side in region.shape)
    boxes = np.stack([rows[:, 0], cols[:, 0], rows[:, 1], cols[:, 1]], axis=1).astype(np.int32)
    areas = context_areas(void_free_sums(region), boxes)
    assert areas.tolist() == [(region[t:b, x:r] > 0).sum() for t, x, b, r in boxes.tolist()]
    first, starts, stops, _ = label_runs(region)
    assert count_covered(first, starts, stops, region.shape[1], boxes).tolist() == areas.tolist()


def test_a_region_map_keeps_stored_segments_first_and_pools_the_rest_by_class():
    labels = np.array([[0, 1, 2], [3, 4, 5]], np.uint32)
    class_ids = np.array([7, 3, 7, 3, 0], np.uint16)
    stored = np.array([False, True, False, False, True])
    region, region_class = region_map(labels, class_ids, stored)
    assert region.tolist() == [[0, 4, 1], [4, 3, 2]]
    assert region_class.tolist() == [VOID, 3, 0, 3, 7]
    assert region_class[region].tolist() == [[VOID, 7, 3], [7, 3, 0]]


@pytest.fixture(scope="module")
def joined() -> Footprints:
    return join_sources([(b.tiled, b.columns) for b in map(toy_bundle, range(4))], FRAME)


def framed_layout(seed: int) -> np.ndarray:
    """The bank's layout of a toy source in the frame, and its components there."""
    layout = toy_source(seed)[2].layout
    lut = np.full(VOID + 1, VOID, np.uint16)
    lut[list(MAPPING)] = list(MAPPING.values())
    return lut[layout]


def test_joined_segments_are_sorted_by_class_then_id(joined):
    keys = list(zip(joined.class_id.tolist(), joined.segment_id.tolist(), strict=True))
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) == sum(len(toy_bundle(seed).segments) for seed in range(4))
    for class_id, (start, stop) in joined.class_rows().items():
        assert set(joined.class_id[start:stop].tolist()) == {class_id}
    assert sum(stop - start for start, stop in joined.class_rows().values()) == len(joined)


def test_joined_tiles_give_back_each_sources_layout_and_each_segments_footprint(joined):
    for source in range(4):
        layout = framed_layout(source)
        region = untiled_row(joined, source, FRAME)
        classes = joined.region_class[joined.region_start[source] : joined.region_start[source + 1]]
        np.testing.assert_array_equal(classes[region], sample_to_frame(layout, FRAME))
        labels = sample_to_frame(find_components(layout).labels, FRAME)
        rows = np.flatnonzero(joined.source == source)
        assert len(rows) == len(toy_bundle(source).segments)
        for row in rows:
            mask = region == joined.region[row]
            assert np.unique(labels[mask]).size == 1, "a footprint covers two components"
            np.testing.assert_array_equal(mask, labels == labels[mask][0])
            assert mask.sum() == joined.area[row]
            rows_of, cols_of = np.nonzero(mask)
            box = (rows_of.min(), cols_of.min(), rows_of.max() + 1, cols_of.max() + 1)
            assert tuple(joined.box[row]) == box
            top, left, bottom, right = context_box(tuple(map(int, box)), FRAME)
            assert joined.context_area[row] == (region[top:bottom, left:right] > 0).sum()


def test_columns_agree_with_the_rows_of_the_table():
    for seed in range(4):
        bundle = toy_bundle(seed)
        boxes = np.array([[r.top, r.left, r.bottom, r.right] for r in bundle.segments], np.int32)
        np.testing.assert_array_equal(bundle.columns.box, boxes)
        np.testing.assert_array_equal(bundle.columns.area, [row.area for row in bundle.segments])
        sums = void_free_sums(untiled_source(bundle.tiled, FRAME))
        expected = context_areas(sums, context_boxes(boxes, FRAME)).tolist()
        assert [row.context_area for row in bundle.segments] == expected


def assert_taken_apart(sources: list[tuple[TiledRegions, SegmentColumns]], frame: tuple[int, int]) -> None:
    """What `take_source` gives is what was joined, and joins to the same columns."""
    joined = join_sources(sources, frame)
    rows = rows_by_source(joined)
    assert sorted(np.concatenate([*rows, np.zeros(0, int)]).tolist()) == list(range(len(joined)))
    taken = [take_source(joined, number, each) for number, each in enumerate(rows)]
    assert len(taken) == len(sources)
    for found, wanted in zip(taken, sources, strict=True):
        for got, had in zip(found, wanted, strict=True):
            for name, array in vars(had).items():
                np.testing.assert_array_equal(getattr(got, name), array, strict=True)
    assert join_sources(taken, frame).to_bytes() == joined.to_bytes()


@given(st.data(), st.tuples(st.integers(1, 30), st.integers(1, 30)), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_each_source_comes_out_of_the_joined_columns_as_it_went_in(data, frame, count):
    sources, first = [], 0
    for _ in range(count):
        stored = data.draw(st.integers(0, 5))
        region = data.draw(hnp.arrays(np.uint32, frame, elements=st.integers(0, stored + 2)))
        random = np.random.default_rng(first + stored)
        ids = random.permutation(np.arange(first, first + stored)).astype(np.uint64)
        classes = random.integers(0, 3, stored).astype(np.uint16)
        box = random.integers(0, 99, (stored, 4)).astype(np.uint16)
        area, context_area = random.integers(0, 99, (2, stored)).astype(np.uint32)
        tiled = tile_regions(region, np.arange(stored + 3, dtype=np.uint16))
        sources.append((tiled, SegmentColumns(ids, classes, box, area, context_area)))
        first += stored
    assert_taken_apart(sources, frame)


def test_sources_come_out_of_wide_columns_too():
    count = 70_000
    region = np.arange(1, count + 1, dtype=np.uint32).reshape(280, 250)
    wide = tile_regions(region, np.zeros(count + 1, np.uint16)), toy_columns(count)
    narrow = tile_regions(region % 9, np.zeros(9, np.uint16)), toy_columns(8)
    assert_taken_apart([narrow, wide, narrow], (280, 250))


def assert_mapped(columns: Footprints, path: Path) -> None:
    path.write_bytes(columns.to_bytes())
    mapped = Footprints.map(path)
    for name, array in vars(columns).items():
        found = getattr(mapped, name)
        np.testing.assert_array_equal(found, array, strict=True)
        assert not found.flags.writeable
        assert found.flags.aligned, f"{name} is not aligned: kernels would be slow or fail"
    with pytest.raises(ValueError, match="read-only"):
        mapped.tiles[...] = 0


def test_the_file_gives_back_the_columns_read_only(joined, tmp_path):
    assert_mapped(joined, tmp_path / "f.safetensors")


def test_a_shard_without_sources_or_without_segments_has_columns_too(tmp_path):
    nothing = join_sources([], FRAME)
    assert len(nothing) == 0
    assert nothing.class_rows() == {}
    assert nothing.tiles.shape == (0, *frame_tiles(FRAME))
    assert_mapped(nothing, tmp_path / "nothing")
    tiled = tile_regions(np.ones(FRAME, np.uint32), np.array([VOID, 3], np.uint16))
    empty = join_sources([(tiled, toy_columns(0))], FRAME)
    assert len(empty) == 0
    np.testing.assert_array_equal(untiled_row(empty, 0, FRAME), np.ones(FRAME))
    assert_mapped(empty, tmp_path / "empty")


def test_many_regions_widen_their_columns():
    count = 70_000
    region = np.arange(1, count + 1, dtype=np.uint32).reshape(280, 250)
    tiled = tile_regions(region, np.zeros(count + 1, np.uint16))
    wide = join_sources([(tiled, toy_columns(count))], (280, 250))
    assert wide.tiles.dtype == wide.entry_region.dtype == wide.region.dtype == np.uint32
    assert sorted(wide.entry_region.tolist()) == list(range(1, count + 1))
    narrow = join_sources([(tile_regions(region % 9, np.zeros(9, np.uint16)), toy_columns(8))], (280, 250))
    assert narrow.tiles.dtype == narrow.entry_region.dtype == narrow.region.dtype == np.uint16
    np.testing.assert_array_equal(untiled_row(narrow, 0, (280, 250)), region % 9)


def toy_columns(count: int) -> SegmentColumns:
    return SegmentColumns(
        np.arange(count, dtype=np.uint64),
        np.zeros(count, np.uint16),
        np.zeros((count, 4), np.uint16),
        np.zeros(count, np.uint32),
        np.zeros(count, np.uint32),
    )
