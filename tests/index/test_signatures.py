"""Signatures never promise fewer common pixels than there are, and count what they say."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from zeuxis.index.leaves import build_leaves
from zeuxis.index.query import make_query
from zeuxis.index.signatures import (
    SIGNATURE_BYTES,
    coarse_sums,
    least_common_bytes,
    query_signature,
    unit_of,
)
from zeuxis.storage.classes import VOID
from zeuxis.storage.layouts import Geometry, context_box
from zeuxis.storage.leaves import SIZES

sys.path.insert(0, str(Path(__file__).parent))
import banks
import oracle

FRAMES = [(45, 75), (64, 64), (37, 130), (8, 8), (9, 9), (201, 150)]
"""Sides of which some are multiples of 8 or 4; cells of one pixel and of hundreds."""
THIN = np.zeros(VOID + 1, bool)


@cache
def made(frame, reach):
    """Leaves of random segments of 12 classes, and (mask, layout inside the context box) of each row."""
    rng = np.random.default_rng(frame)
    per_source = min(90, frame[0] * frame[1] // 3)
    sources = [
        banks.random_source(rng, frame, rng.integers(0, 3, per_source), range(n, n + per_source), 25, reach)
        for n in range(0, 3 * per_source, per_source)
    ]
    shard = banks.join_sources([source[1:] for source in sources], frame)
    leaves = build_leaves([shard], frame)
    rows = []
    for row in leaves.row:
        source = shard.source[row]
        regions = sources[source][0]
        layout = shard.region_class[shard.region_start[source] :].astype(np.int64)[regions]
        mask = regions == shard.region[row]
        rows.append((mask, oracle.context(layout, mask)))
    return leaves, rows


def queries(frame, rng):
    """Layouts of the frame's size: patches and specks of 13 classes, one class over all, next to nothing."""
    whole = np.full(frame, 1, np.uint16)
    speck = np.full(frame, VOID, np.uint16)
    speck[rng.integers(frame[0]), rng.integers(frame[1])] = 2
    last = np.full(frame, 0, np.uint16)
    last[-1, -1] = 2
    random = [banks.random_layout(rng, frame, 13, specks) for specks in (0.0, 0.02, 0.3)]
    return [make_query(layout, Geometry(frame, 1), THIN) for layout in (*random, whole, speck, last)]


def signature_of(query, q, leaves, leaf):
    out = np.full(SIGNATURE_BYTES, 77, np.uint8)
    arrays = query.arrays
    box = tuple(arrays.box[q].tolist())
    query_signature(
        leaves.leaf_grid[leaf, :4], leaves.leaf_grid[leaf, 4:], leaves.leaf_classes[leaf], box, arrays.mask_sums,
        arrays.sums_start[q], context_box(box, query.framed.labels.shape), arrays.plane_of, arrays.class_sums,
        arrays.all_sums, out,
    )  # fmt: skip
    return out


def nodes(leaves, level):
    """The node of each row, at a level of `SIZES`."""
    found = np.empty(len(leaves), int)
    for start, after in zip(leaves.class_start[:-1].astype(int), leaves.class_start[1:].astype(int), strict=True):
        found[start[0] : after[0]] = start[level] + np.arange(after[0] - start[0]) // SIZES[level]
    return found


@pytest.mark.parametrize("reach", [3, 40])
@pytest.mark.parametrize("frame", FRAMES)
def test_no_segment_has_more_common_pixels_than_its_signature_allows(frame, reach):
    leaves, rows = made(frame, reach)
    leaf_of, block_of = nodes(leaves, 2), nodes(leaves, 1)
    rng, pairs = np.random.default_rng(7), 0
    masks = np.array([mask for mask, _ in rows])
    contexts = np.array([context for _, context in rows])
    for query in queries(frame, rng):
        layout = query.layout.astype(np.int64)
        for q in rng.permutation(len(query.class_ids))[:12]:
            mask = query.framed.labels == query.searched[q] + 1
            around = oracle.context(layout, mask)
            common = (masks & mask).sum(axis=(1, 2))
            shared = ((contexts == around) & (around != VOID)).sum(axis=(1, 2))
            signed = [signature_of(query, q, leaves, leaf) for leaf in range(len(leaves.leaf_grid))]
            for row in range(len(rows)):
                grid = leaves.leaf_grid[leaf_of[row]]
                units = unit_of(*grid[2:4]), unit_of(*grid[6:])
                one = least_common_bytes(leaves.signature, row, signed[leaf_of[row]])
                block = least_common_bytes(leaves.block_signature, block_of[row], signed[leaf_of[row]])
                assert one[0] * units[0] >= common[row]
                assert one[1] * units[1] >= shared[row]
                assert block[0] >= one[0]
                assert block[1] >= one[1]
                pairs += 1
    assert pairs > 500


@pytest.mark.parametrize("frame", FRAMES)
def test_a_segments_signature_counts_its_pixels_by_cell_and_class(frame):
    leaves, rows = made(frame, 40)
    leaf_of = nodes(leaves, 2)
    for row, (mask, around) in enumerate(rows):
        top, left, tall, wide = leaves.leaf_grid[leaf_of[row], :4]
        expected = [units(mask[window], tall * wide) for window in windows(top, left, tall, wide, 8)]
        top, left, tall, wide = leaves.leaf_grid[leaf_of[row], 4:]
        classes = leaves.leaf_classes[leaf_of[row]]
        slots = [(around == id) & (id != VOID) for id in classes]
        slots.append((around != VOID) & ~np.isin(around, classes))
        expected += [units(slot[window], tall * wide) for slot in slots for window in windows(top, left, tall, wide, 4)]
        assert leaves.signature[row].tolist() == expected


@pytest.mark.parametrize("frame", FRAMES)
def test_a_components_signature_counts_its_pixels_by_cell_and_class(frame):
    """Its context is rounded outwards to whole squares of 4 pixels."""
    leaves, _ = made(frame, 40)
    for query in queries(frame, np.random.default_rng(8)):
        layout = np.full((-(-frame[0] // 8) * 8, -(-frame[1] // 8) * 8), VOID, np.int64)
        layout[: frame[0], : frame[1]] = query.layout
        for q in range(0, len(query.class_ids), 1 + len(query.class_ids) // 6):
            mask = query.framed.labels == query.searched[q] + 1
            box = context_box(oracle.box_of(mask), frame)
            inside = np.full(layout.shape, VOID)
            wide = np.s_[box[0] // 4 * 4 : -(-box[2] // 4) * 4, box[1] // 4 * 4 : -(-box[3] // 4) * 4]
            inside[wide] = layout[wide]
            for leaf in range(len(leaves.leaf_grid)):
                top, left, rows, cols = leaves.leaf_grid[leaf, :4]
                expected = [units(mask[window], rows * cols) for window in windows(top, left, rows, cols, 8)]
                top, left, rows, cols = leaves.leaf_grid[leaf, 4:]
                classes = leaves.leaf_classes[leaf]
                slots = [(inside == id) & (id != VOID) for id in classes]
                slots.append((inside != VOID) & ~np.isin(inside, classes))
                expected += [
                    units(s[window], rows * cols) for s in slots for window in windows(top, left, rows, cols, 4)
                ]
                assert signature_of(query, q, leaves, leaf).tolist() == expected


def windows(top, left, tall, wide, cells):
    return [
        np.s_[top + row * tall : top + (row + 1) * tall, left + col * wide : left + (col + 1) * wide]
        for row in range(cells)
        for col in range(cells)
    ]


def units(pixels, cell):
    """A byte: steps of a 255th of a cell, in whole pixels, rounded up both times."""
    return -(-int(pixels.sum()) // -(-int(cell) // 255))


def test_there_were_more_classes_than_slots():
    """Else the tests above would not see the rest at work beside full slots."""
    leaves, rows = made((201, 150), 40)
    assert (leaves.leaf_classes != VOID).all(axis=1).any()
    assert len({id for _, around in rows for id in np.unique(around).tolist()} - {VOID}) > 8


def test_the_signature_of_a_block_is_the_largest_of_its_rows():
    leaves, _ = made((45, 75), 3)
    block_of = nodes(leaves, 1)
    for block in range(len(leaves.block_signature)):
        np.testing.assert_array_equal(leaves.block_signature[block], leaves.signature[block_of == block].max(axis=0))


@pytest.mark.parametrize("cell", [1, 15, 16, 17, 255, 256, 510, 511, 65535])
def test_a_full_cell_fits_into_a_byte_and_steps_are_no_larger_than_that_needs(cell):
    unit = unit_of(cell, 1)
    assert -(-cell // unit) <= 255
    assert unit == 1 or -(-cell // (unit - 1)) > 255


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 9)])
def test_coarse_sums_are_summed_area_tables_over_squares_of_4_pixels(size):
    rng = np.random.default_rng(3)
    pixels = rng.random((6, 8 * size[0], 8 * size[1])) < np.array([0, 0.01, 0.3, 0.7, 0.99, 1])[:, None, None]
    tiles = pixels.reshape(6, size[0], 8, size[1], 8).swapaxes(2, 3).reshape(6, *size, 64)
    planes = (tiles.astype(np.uint64) << np.arange(64, dtype=np.uint64)).sum(axis=-1, dtype=np.uint64)
    sums = np.zeros((6, 2 * size[0] + 1, 2 * size[1] + 1), np.int32)
    coarse_sums(planes, sums)
    whole = np.pad(pixels, ((0, 0), (1, 0), (1, 0))).astype(int).cumsum(1).cumsum(2)
    np.testing.assert_array_equal(sums, whole[:, ::4, ::4])
