"""Builds the leaves of an index part from the search columns of its shards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.classes import VOID
from ..storage.footprints import TILE, Footprints
from ..storage.layouts import context_boxes
from ..storage.leaves import SIZES, Leaves
from .bounds import context_box
from .scoring import mixed_before, popcount
from .signatures import ALIGNED, CLASSES, CONTEXT_CELLS, MASK_CELLS, SIGNATURE_BYTES, sign_segment

Array = npt.NDArray[Any]


def build_leaves(shards: Sequence[Footprints], frame: tuple[int, int]) -> Leaves:
    """The leaves over all segments of some shards, deterministic.

    Args:
        shards: at most 65,535, their segments at least one pixel each.
        frame: `(rows, cols)` of the bank.
    """
    class_id = _joined([shard.class_id for shard in shards], np.uint16)
    box = _joined([shard.box for shard in shards], np.uint16, (0, 4))
    number = np.repeat(np.arange(len(shards)), [len(shard) for shard in shards]).astype(np.uint16)
    row = _joined([np.arange(len(shard)) for shard in shards], np.uint32)
    order, class_ids, class_start = _similar_order(class_id, box.astype(np.int32))
    box = box[order]
    area = _joined([shard.area for shard in shards], np.uint32)[order]
    context_area = _joined([shard.context_area for shard in shards], np.uint32)[order]
    around = context_boxes(box.astype(np.int32), frame)
    columns = np.column_stack([box.astype(np.int32), around, area, area, context_area, context_area]).astype(np.int32)
    blocks, leaf_bounds, trunks = (_bounds(starts_of(class_start[:, 0], size), columns) for size in SIZES[1:])
    leaves = Leaves(
        class_ids, class_start, blocks, leaf_bounds, trunks, _grids(leaf_bounds),
        np.full((len(leaf_bounds), CLASSES - 1), VOID, np.uint16),
        number[order], row[order], box, area, context_area, np.zeros((len(order), SIGNATURE_BYTES), np.uint8),
        np.zeros((len(blocks), SIGNATURE_BYTES), np.uint8),
    )  # fmt: skip
    _sign(leaves, shards, frame)
    return leaves


def _joined(parts: Sequence[Array], dtype: Any, empty: tuple[int, ...] = (0,)) -> Array:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(empty, dtype)


def _similar_order(class_id: Array, box: Array) -> tuple[Array, Array, Array]:
    """Segments sorted by class, then into runs of similar boxes: (order, class_ids, class_start)."""
    order = np.argsort(class_id, kind="stable")
    class_ids, counts = np.unique(class_id, return_counts=True)
    first = 0
    for count in counts:
        within = np.arange(count)
        _split(box[order[first : first + count]], within, np.array(SIZES))
        order[first : first + count] = order[first : first + count][within]
        first += count
    nodes = -(-counts[:, None] // np.array(SIZES))
    return (
        order,
        class_ids.astype(np.uint16),
        np.vstack([np.zeros(4, np.int64), nodes.cumsum(axis=0)]).astype(np.uint32),
    )


def starts_of(class_start: Array, size: int) -> Array:
    """Where runs of a size begin that no class shares."""
    runs = [np.arange(first, last, size) for first, last in pairwise(class_start.tolist())]
    return np.concatenate(runs) if runs else np.zeros(0, np.int64)


@nb.njit(cache=True, nogil=True)
def _split(box, order, sizes):  # type: ignore[no-untyped-def]
    """Sorts `order` so that each run of one of `sizes` holds similar boxes: halved by the side that varies most."""
    firsts, lasts = [np.int64(0)], [np.int64(len(order))]
    while len(firsts) > 0:
        first, last = firsts.pop(), lasts.pop()
        if last - first <= sizes[1]:
            continue
        whole = sizes[1]  # halves are whole runs of the largest size that fits
        for size in sizes[2:]:
            if last - first > size:
                whole = size
        height, width = 0.0, 0.0
        low, high = box[order[first]].copy(), box[order[first]].copy()
        for i in range(first, last):
            sides = box[order[i]]
            height += sides[2] - sides[0]
            width += sides[3] - sides[1]
            for side in range(4):
                low[side], high[side] = min(low[side], sides[side]), max(high[side], sides[side])
        side, spread = 0, -1.0
        for each in range(4):
            relative = (high[each] - low[each]) / (height if each % 2 == 0 else width)
            if relative > spread:
                side, spread = each, relative
        values = np.empty(last - first, np.int64)
        for i in range(first, last):
            values[i - first] = box[order[i], side]
        order[first:last] = order[first:last][np.argsort(values, kind="mergesort")]
        middle = first + ((last - first + whole - 1) // whole + 1) // 2 * whole
        firsts.append(first)
        lasts.append(middle)
        firsts.append(middle)
        lasts.append(last)


def _bounds(starts: Array, columns: Array) -> Array:
    """Hulls and ranges of runs of rows: the least of some columns, the largest of the others."""
    if not len(starts):
        return np.zeros((0, 12), np.int32)
    least, most = np.minimum.reduceat(columns, starts, axis=0), np.maximum.reduceat(columns, starts, axis=0)
    lower = np.array([True, True, False, False, True, True, False, False, True, False, True, False])
    return np.where(lower, least, most)


def _grids(bounds: Array) -> Array:
    """`Leaves.leaf_grid`: the cells that cover the hulls."""
    mask, context = bounds[:, :4], bounds[:, 4:8]
    mask_cells = -(-(mask[:, 2:] - mask[:, :2]) // MASK_CELLS)
    corner = context[:, :2] // ALIGNED * ALIGNED
    context_cells = -(-(context[:, 2:] - corner) // (CONTEXT_CELLS * ALIGNED)) * ALIGNED
    return np.concatenate([mask[:, :2], mask_cells, corner, context_cells], axis=1).astype(np.int32)


def _sign(leaves: Leaves, shards: Sequence[Footprints], frame: tuple[int, int]) -> None:
    """Fills the leaves' classes and signatures, a shard a task."""
    starts = starts_of(leaves.class_start[:, 0], SIZES[2])
    leaf_of = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(leaves))))
    jobs = []
    by_shard = np.argsort(leaves.shard, kind="stable")
    ends = np.cumsum([0, *(len(shard) for shard in shards)]).tolist()
    for shard, (first, last) in zip(shards, pairwise(ends), strict=True):
        rows = by_shard[first:last]
        jobs.append((shard, rows[np.argsort(shard.source[leaves.row[rows]], kind="stable")]))
    table = np.unique(_joined([shard.region_class for shard in shards], np.uint16))
    rank = np.zeros(VOID + 1, np.int64)
    rank[table] = np.arange(len(table))
    totals = np.zeros((len(leaves.leaf_bounds), len(table)), np.int64)
    for shard, rows in jobs:
        _count_classes(
            shard.tiles, shard.row_start, shard.mixed_start, shard.entry_region, shard.entry_bits, shard.region_start,
            shard.region_class, shard.source, leaves.row, leaves.box, rows, leaf_of, rank, frame, totals,
        )  # fmt: skip
    commonest = np.argsort(-totals, axis=1, kind="stable")[:, : CLASSES - 1]
    found = np.where(np.take_along_axis(totals, commonest, 1) > 0, table[commonest], VOID)
    leaves.leaf_classes[:, : found.shape[1]] = found
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: _sign_shard(job[0], job[1], leaves, leaf_of, frame), jobs))
    if len(leaves):
        np.maximum.reduceat(leaves.signature, starts_of(leaves.class_start[:, 0], SIZES[1]), out=leaves.block_signature)


@nb.njit(cache=True, nogil=True)
def _count_classes(  # type: ignore[no-untyped-def]
    tiles, row_start, mixed_start, entry_region, entry_bits, region_start, region_class, source, row, box, rows,
    leaf_of, rank, frame, totals,
):  # fmt: skip
    """Pixels of each class in the tiles that the contexts of each leaf touch: near enough to tell what is common."""
    mixed = tiles.dtype.type(-1)
    for i in rows:
        at = np.int64(source[row[i]])
        first = np.int64(region_start[at])
        sides = np.int64(box[i, 0]), np.int64(box[i, 1]), np.int64(box[i, 2]), np.int64(box[i, 3])
        top, left, bottom, right = context_box(sides, frame[0], frame[1])
        for tile_row in range(top // TILE, (bottom + TILE - 1) // TILE):
            number = mixed_before(tiles, row_start, at, tile_row, left // TILE)
            for tile_col in range(left // TILE, (right + TILE - 1) // TILE):
                region = tiles[at, tile_row, tile_col]
                if region == mixed:
                    for entry in range(mixed_start[number], mixed_start[number + 1]):
                        class_id = region_class[first + np.int64(entry_region[entry])]
                        totals[leaf_of[i], rank[class_id]] += np.int64(popcount(entry_bits[entry]))
                    number += 1
                elif region > 0:
                    totals[leaf_of[i], rank[region_class[first + np.int64(region)]]] += TILE * TILE


def _sign_shard(shard: Footprints, rows: Array, leaves: Leaves, leaf_of: Array, frame: tuple[int, int]) -> None:
    _sign_rows(
        shard.tiles, shard.row_start, shard.mixed_start, shard.entry_region, shard.entry_bits, shard.region_start,
        shard.region_class, shard.source, shard.region, leaves.row, leaves.box, rows, leaf_of, leaves.leaf_grid,
        leaves.leaf_classes, frame, leaves.signature,
    )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def _sign_rows(  # type: ignore[no-untyped-def]
    tiles, row_start, mixed_start, entry_region, entry_bits, region_start, region_class, source, region, row, box, rows,
    leaf_of, leaf_grid, leaf_classes, frame, signature,
):  # fmt: skip
    """Signatures of rows that are sorted by source, so that each source's region map is opened once."""
    regions, opened = np.zeros((tiles.shape[1] * TILE, tiles.shape[2] * TILE), np.uint32), np.int64(-1)
    counts = np.zeros(SIGNATURE_BYTES, np.int64)
    for i in rows:
        at = np.int64(source[row[i]])
        if at != opened:
            open_source(tiles, row_start, mixed_start, entry_region, entry_bits, at, regions)
            opened = at
        sides = np.int64(box[i, 0]), np.int64(box[i, 1]), np.int64(box[i, 2]), np.int64(box[i, 3])
        grid, classes = leaf_grid[leaf_of[i]], region_class[region_start[at] : region_start[at + 1]]
        sign_segment(
            regions, classes, region[row[i]], sides, context_box(sides, frame[0], frame[1]), grid[:4], grid[4:],
            leaf_classes[leaf_of[i]], counts, signature[i],
        )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def open_source(tiles, row_start, mixed_start, entry_region, entry_bits, source, regions):  # type: ignore[no-untyped-def]
    """The region map of one source, pixel by pixel."""
    mixed = tiles.dtype.type(-1)
    for tile_row in range(tiles.shape[1]):
        number = np.int64(row_start[source, tile_row])
        top = tile_row * TILE
        for tile_col in range(tiles.shape[2]):
            region, left = tiles[source, tile_row, tile_col], tile_col * TILE
            regions[top : top + TILE, left : left + TILE] = 0 if region == mixed else region
            if region == mixed:
                for entry in range(mixed_start[number], mixed_start[number + 1]):
                    bits = entry_bits[entry]
                    for bit in range(TILE * TILE):
                        if bits >> np.uint64(bit) & np.uint64(1):
                            regions[top + bit // TILE, left + bit % TILE] = entry_region[entry]
                number += 1
