"""The leaves of an index part hold every segment once, among similar ones, inside hulls that are never too small."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from zeuxis.index.leaves import build_leaves, open_source
from zeuxis.storage.classes import VOID
from zeuxis.storage.footprints import join_sources
from zeuxis.storage.layouts import context_boxes
from zeuxis.storage.leaves import SIZES, Leaves

sys.path.insert(0, str(Path(__file__).parent))
import banks

FRAME = (70, 101)
COUNTS = {0: 1, 1: 15, 2: 16, 3: 17, 5: 64, 8: 65, 9: 1, 300: 1025}
"""A class ends inside a block, with it, or just after it; so with leaves and trunks."""


@pytest.fixture(scope="module")
def shards():
    return banks.random_footprints(np.random.default_rng(0), FRAME, COUNTS, 3)[0]


@pytest.fixture(scope="module")
def leaves(shards):
    return build_leaves(shards, FRAME)


def starts(size):
    """Where blocks, leaves or trunks of a size begin, and the row after each."""
    found, first = [], 0
    for count in COUNTS.values():
        found += [(first + at, min(first + at + size, first + count)) for at in range(0, count, size)]
        first += count
    return found


def of_rows(leaves, shards, name):
    """A column of the shards in the order of the leaves."""
    return np.array([getattr(shards[s], name)[r] for s, r in zip(leaves.shard, leaves.row, strict=True)])


def test_every_segment_is_there_once_with_its_own_numbers(leaves, shards):
    assert len(leaves) == sum(COUNTS.values())
    places = set(zip(leaves.shard.tolist(), leaves.row.tolist(), strict=True))
    assert places == {(number, row) for number, shard in enumerate(shards) for row in range(len(shard))}
    for name in ("box", "area", "context_area"):
        np.testing.assert_array_equal(getattr(leaves, name), of_rows(leaves, shards, name))


def test_rows_are_sorted_by_class(leaves, shards):
    np.testing.assert_array_equal(of_rows(leaves, shards, "class_id"), np.repeat(list(COUNTS), list(COUNTS.values())))
    assert leaves.class_ids.tolist() == list(COUNTS)


def test_classes_begin_where_their_rows_blocks_leaves_and_trunks_do(leaves):
    nodes = [[-(-count // size) for size in SIZES] for count in COUNTS.values()]
    np.testing.assert_array_equal(leaves.class_start, np.vstack([[0] * 4, np.cumsum(nodes, axis=0)]))
    for bounds, size in zip((leaves.block_bounds, leaves.leaf_bounds, leaves.trunk_bounds), SIZES[1:], strict=True):
        assert bounds.shape == (len(starts(size)), 12)


@pytest.mark.parametrize(("name", "size"), [("block_bounds", 16), ("leaf_bounds", 64), ("trunk_bounds", 1024)])
def test_hulls_and_ranges_are_those_of_their_rows(leaves, name, size):
    around = context_boxes(leaves.box.astype(np.int32), FRAME)
    for bounds, (first, last) in zip(getattr(leaves, name), starts(size), strict=True):
        rows = slice(first, last)
        for hull, boxes in ((bounds[:4], leaves.box[rows]), (bounds[4:8], around[rows])):
            assert hull.tolist() == [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]
        assert bounds[8:10].tolist() == [leaves.area[rows].min(), leaves.area[rows].max()]
        assert bounds[10:].tolist() == [leaves.context_area[rows].min(), leaves.context_area[rows].max()]


def test_the_cells_of_a_leaf_cover_its_hulls_and_lie_on_whole_squares(leaves):
    for bounds, grid in zip(leaves.leaf_bounds, leaves.leaf_grid, strict=True):
        assert grid[:2].tolist() == bounds[:2].tolist()
        assert (grid[:2] + 8 * grid[2:4] >= bounds[2:4]).all()
        assert (grid[4:6] <= bounds[4:6]).all()
        assert (grid[4:6] + 4 * grid[6:] >= bounds[6:8]).all()
        assert (grid[4:] % 4 == 0).all()
        assert (grid[2:4] >= 1).all()


def test_the_classes_of_a_leaf_are_those_with_most_pixels_in_the_tiles_around_it():
    """More than seven occur: some are left to the rest."""
    rng, frame = np.random.default_rng(5), (150, 206)
    sources = [banks.random_source(rng, frame, [1] * 9 + [2] * 9, range(n, n + 18), 40, 40) for n in range(0, 180, 18)]
    shard = join_sources([source[1:] for source in sources], frame)
    leaves = build_leaves([shard], frame)
    assert len(leaves.leaf_classes) == 4
    around = context_boxes(leaves.box.astype(np.int32), frame)
    for leaf, rows in enumerate((range(64), range(64, 90), range(90, 154), range(154, 180))):
        counts = np.zeros(VOID + 1, int)
        for row in rows:
            source, (top, left, bottom, right) = shard.source[leaves.row[row]], around[row]
            regions = np.zeros((shard.tiles.shape[1] * 8, shard.tiles.shape[2] * 8), np.uint32)
            columns = (shard.tiles, shard.row_start, shard.mixed_start, shard.entry_region, shard.entry_bits)
            open_source(*columns, np.int64(source), regions)
            seen = regions[top // 8 * 8 : -(-bottom // 8) * 8, left // 8 * 8 : -(-right // 8) * 8]
            of_region = shard.region_class[shard.region_start[source] :]
            np.add.at(counts, of_region[seen[seen > 0]], 1)
        found = leaves.leaf_classes[leaf].tolist()
        assert (counts > 0).sum() > 7
        assert len(set(found)) == 7
        assert counts[found].tolist() == sorted(counts, reverse=True)[:7]


def test_boxes_of_a_block_are_alike(leaves):
    """A class is cut where its boxes differ: hulls are smaller than those of rows in any order."""
    first, last = leaves.class_start[-2:, 0].tolist()
    shuffled = np.random.default_rng(1).permutation(leaves.box[first:last].astype(int))

    def hulls(boxes):
        edges = np.arange(0, len(boxes), SIZES[1])
        sides = np.maximum.reduceat(boxes[:, 2:], edges) - np.minimum.reduceat(boxes[:, :2], edges)
        return sides.prod(axis=1).mean()

    assert hulls(leaves.box[first:last].astype(int)) < 0.4 * hulls(shuffled)


def test_the_same_segments_give_the_same_bytes(leaves, shards):
    again = banks.random_footprints(np.random.default_rng(0), FRAME, COUNTS, 3)[0]
    assert build_leaves(again, FRAME).to_bytes() == leaves.to_bytes() == build_leaves(shards, FRAME).to_bytes()


def test_leaves_come_back_from_their_file_read_only(leaves, tmp_path):
    (tmp_path / "leaves").write_bytes(leaves.to_bytes())
    mapped = Leaves.map(tmp_path / "leaves")
    for field in fields(Leaves):
        one, other = getattr(mapped, field.name), getattr(leaves, field.name)
        assert (one.dtype, one.flags.writeable, one.flags.aligned) == (other.dtype, False, True), field.name
        np.testing.assert_array_equal(one, other)


def test_one_shard_or_several_make_the_same_hulls_of_the_same_boxes():
    """Rows with equal boxes may trade places; nothing that is compared first may."""
    rng = np.random.default_rng(2)
    sources = [banks.random_source(rng, FRAME, [1] * 90, range(90 * n, 90 * n + 90))[1:] for n in range(4)]
    one = build_leaves([join_sources(sources, FRAME)], FRAME)
    several = build_leaves([join_sources(sources[:1], FRAME), join_sources(sources[1:], FRAME)], FRAME)
    np.testing.assert_array_equal(one.class_start, several.class_start)
    np.testing.assert_array_equal(one.trunk_bounds, several.trunk_bounds)
    assert {*map(tuple, one.box.tolist())} == {*map(tuple, several.box.tolist())}
    assert sorted(one.area.tolist()) == sorted(several.area.tolist())


def test_regions_of_32_bits_beside_those_of_16_make_the_same_leaves(shards, leaves):
    mixed = [shards[0], banks.widened(shards[1]), shards[2]]
    assert build_leaves(mixed, FRAME).to_bytes() == leaves.to_bytes()


def test_a_source_of_more_regions_than_16_bits_number():
    """Its mark of a mixed tile is another one."""
    frame = (264, 264)
    rows, cols = np.indices(frame)
    regions = (1 + rows * frame[1] + cols).astype(np.uint32)
    region_class = np.append(VOID, (rows % 2 * 2 + cols % 2).ravel()).astype(np.uint16)
    regions[104:112, 96:104], region_class[1] = 1, 5
    regions[0, 0] = 0
    tiled = banks.tile_regions(regions, region_class)
    columns = banks.SegmentColumns(
        *(np.array([7], np.uint64), np.array([5], np.uint16), np.array([[104, 96, 112, 104]], np.uint16)),
        *(np.array([64], np.uint32), np.array([100], np.uint32)),
    )
    shard = join_sources([(tiled, columns)], frame)
    assert shard.tiles.dtype == np.uint32
    leaves = build_leaves([shard], frame)
    assert leaves.signature[0, :64].tolist() == [1] * 64
    # The context box is 10 x 10 pixels: 8 x 8 of class 5, the rest of four classes.
    assert leaves.leaf_classes.tolist() == [[0, 1, 2, 3, 5, VOID, VOID]]
    assert leaves.signature[0, 64 + 4 * 16 : 64 + 5 * 16].sum() == 64
    assert leaves.signature[0, -16:].sum() == 0
    assert leaves.signature[0].sum() == 64 + 64 + 36


@pytest.mark.parametrize("shards", [0, 1, 2])
def test_shards_without_segments_make_empty_leaves(shards, tmp_path):
    empty = build_leaves([join_sources([], FRAME)] * shards, FRAME)
    assert len(empty) == len(empty.leaf_bounds) == len(empty.block_signature) == len(empty.class_ids) == 0
    assert empty.class_start.tolist() == [[0, 0, 0, 0]]
    (tmp_path / "leaves").write_bytes(empty.to_bytes())
    assert len(Leaves.map(tmp_path / "leaves")) == 0
