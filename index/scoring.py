"""The kernels: exact common pixels of masks and contexts over 8x8 bit tiles, and the k best of a shard.

Compiled once and cached; they release the GIL, are not parallel inside, and take read-only memory maps. A shard and a
query come as named tuples of arrays (`ShardArrays`, `QueryArrays`), whose fields `storage/footprints.py` and
`index/query.py` describe.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numba import types
from numba.extending import intrinsic

from ..storage.footprints import CELLS, TILE
from .bounds import (
    box_overlap,
    box_sum,
    cell_bound,
    cell_room,
    context_bound,
    context_box,
    context_cell_bound,
    iou,
    least_common,
    mask_bound,
)


class ShardArrays(NamedTuple):
    """The fields of `Footprints` that the kernels read, in the same shapes."""

    tiles: Any
    row_start: Any
    mixed_start: Any
    entry_region: Any
    entry_bits: Any
    region_start: Any
    region_class: Any
    class_start: Any
    source_class: Any
    class_cells: Any
    segment_id: Any
    box: Any
    area: Any
    context_area: Any
    cells: Any
    source: Any
    region: Any


class QueryArrays(NamedTuple):
    """A layout's components, ready to be scored.

    Attributes:
        plane_of: `(65536,)` int32, class id to its plane, -1 where the layout lacks the class.
        planes: `(L, TR, TC)` uint64 bits of each class; plane_counts: `(L, TR, TC)` uint8, their set bits.
        sums: `(R + 1, C + 1)` int32 summed-area table of the pixels that are not void.
        box: `(q, 4)` int64; area, context_area: `(q,)` int64; cells: `(q, 64)` uint32, pixels by
            cell of the frame; class_cells: `(L, 64)` uint32, those of each class.
        mask_start: `(q,)` int64, where the tiles of each component's box begin in mask_bits: `(W,)` uint64 and
            mask_counts: `(W,)` uint8.
    """

    plane_of: Any
    planes: Any
    plane_counts: Any
    sums: Any
    box: Any
    area: Any
    context_area: Any
    cells: Any
    class_cells: Any
    mask_start: Any
    mask_bits: Any
    mask_counts: Any


class TopK(NamedTuple):
    """The best found so far of every component: descending score, ties by ascending id.

    Attributes:
        found: `(q,)` int64, how many.
        score: `(q, k)` float64; segment_id: `(q, k)` uint64.
        counts: `(q, k, 4)` int64, mask intersection and union, context intersection and union.
        place: `(q, k, 2)` int64, shard and row.
        scored: `(q,)` int64, how many segments were scored exactly.
    """

    found: Any
    score: Any
    segment_id: Any
    counts: Any
    place: Any
    scored: Any


@intrinsic
def popcount(typingctx, word):  # type: ignore[no-untyped-def]
    """Set bits of a 64-bit word."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), codegen


_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_EVERY_ROW = np.uint64(0x0101010101010101)


@nb.njit(cache=True, nogil=True)
def _row_bits(tile, top, bottom):  # type: ignore[no-untyped-def]
    """The bits of a row of tiles that lie in [top, bottom)."""
    first, last = max(top - TILE * tile, 0), min(bottom - TILE * tile, TILE)
    return (_ALL >> np.uint64(TILE * (TILE - last + first))) << np.uint64(TILE * first)


@nb.njit(cache=True, nogil=True)
def _col_bits(tile, left, right):  # type: ignore[no-untyped-def]
    """The bits of a column of tiles that lie in [left, right)."""
    first, last = max(left - TILE * tile, 0), min(right - TILE * tile, TILE)
    return ((np.uint64(255) >> np.uint64(TILE - last + first)) << np.uint64(first)) * _EVERY_ROW


@nb.njit(cache=True, nogil=True)
def _mixed_before(tiles, row_start, source, row, col):  # type: ignore[no-untyped-def]
    """The number of the first mixed tile at or after a column of a row of tiles."""
    mixed = tiles.dtype.type(-1)
    number = np.int64(row_start[source, row])
    for before in range(col):
        number += tiles[source, row, before] == mixed
    return number


@nb.njit(cache=True, nogil=True)
def _common(a, b):  # type: ignore[no-untyped-def]
    """Where two boxes overlap; empty boxes have no rows or no columns, never less."""
    top, left = max(a[0], b[0]), max(a[1], b[1])
    return top, left, max(min(a[2], b[2]), top), max(min(a[3], b[3]), left)


@nb.njit(cache=True, nogil=True)
def _box(boxes, row):  # type: ignore[no-untyped-def]
    return np.int64(boxes[row, 0]), np.int64(boxes[row, 1]), np.int64(boxes[row, 2]), np.int64(boxes[row, 3])


@nb.njit(cache=True, nogil=True)
def mask_intersection(  # type: ignore[no-untyped-def]
    tiles, row_start, mixed_start, entry_region, entry_bits, source, own, box, q_box, at, bits, counts
):
    """Common footprint pixels of a segment and a component.

    A footprint lies inside its box, so whole tiles can be compared: no window is needed.

    Args:
        tiles, row_start, mixed_start, entry_region, entry_bits: of `ShardArrays`; source, own: the segment's source and
            region; box: its box.
        q_box, at: the component's box, and where its tiles begin in bits, counts (`QueryArrays.mask_bits`,
            `mask_counts`).
    """
    common = np.int64(0)
    if box_overlap(box, q_box) == 0:
        return common
    mixed = tiles.dtype.type(-1)
    top, left = max(box[0], q_box[0]) // TILE, max(box[1], q_box[1]) // TILE
    bottom, right = (min(box[2], q_box[2]) + TILE - 1) // TILE, (min(box[3], q_box[3]) + TILE - 1) // TILE
    q_left = q_box[1] // TILE
    width = (q_box[3] + TILE - 1) // TILE - q_left
    for tile_row in range(top, bottom):
        number = _mixed_before(tiles, row_start, source, tile_row, left)
        start = at + (tile_row - q_box[0] // TILE) * width - q_left
        for tile_col in range(left, right):
            region = tiles[source, tile_row, tile_col]
            if region == own:
                common += counts[start + tile_col]
            elif region == mixed:
                for entry in range(mixed_start[number], mixed_start[number + 1]):
                    if entry_region[entry] == own:
                        common += np.int64(popcount(entry_bits[entry] & bits[start + tile_col]))
                number += 1
    return common


@nb.njit(cache=True, nogil=True)
def context_intersection(  # type: ignore[no-untyped-def]
    tiles, row_start, mixed_start, entry_region, entry_bits, source, region_plane, window, planes, plane_counts,
    sums, needed,
):  # fmt: skip
    """Frame pixels inside a window whose classes are equal and not void, in a segment's source and the layout.

    Args:
        tiles, row_start, mixed_start, entry_region, entry_bits: of `ShardArrays`; source: the segment's.
        region_plane: `(G,)` int32, each region of the source to the plane of its class, -1 where there is none.
        window: the half-open box where both context boxes overlap, not empty.
        planes, plane_counts, sums: of `QueryArrays`.
        needed: once it is certain that fewer pixels than this are common, the count stops short: the caller has no use
            for the exact one.
    """
    mixed = tiles.dtype.type(-1)
    top, left, bottom, right = window
    first_col, last_col = left // TILE, (right + TILE - 1) // TILE
    common = np.int64(0)
    for tile_row in range(top // TILE, (bottom + TILE - 1) // TILE):
        if common + box_sum(sums, (max(top, TILE * tile_row), left, bottom, right)) < needed:
            break
        row_bits = _row_bits(tile_row, top, bottom)
        number = _mixed_before(tiles, row_start, source, tile_row, first_col)
        for tile_col in range(first_col, last_col):
            region = tiles[source, tile_row, tile_col]
            if region == 0:
                continue
            inside = row_bits
            if tile_col == first_col or tile_col == last_col - 1:
                inside &= _col_bits(tile_col, left, right)
            if region == mixed:
                for entry in range(mixed_start[number], mixed_start[number + 1]):
                    plane = region_plane[entry_region[entry]]
                    if plane >= 0:
                        bits = entry_bits[entry] & planes[plane, tile_row, tile_col]
                        common += np.int64(popcount(bits & inside))
                number += 1
            else:
                plane = region_plane[region]
                if plane >= 0:
                    if inside == _ALL:
                        common += plane_counts[plane, tile_row, tile_col]
                    else:
                        common += np.int64(popcount(planes[plane, tile_row, tile_col] & inside))
    return common


@nb.njit(cache=True, nogil=True)
def _insert(top, q, score, segment_id, counts, shard_number, row):  # type: ignore[no-untyped-def]
    """Puts a scored segment into its place among the k best."""
    at = top.found[q]
    while at > 0 and (
        top.score[q, at - 1] < score or (top.score[q, at - 1] == score and top.segment_id[q, at - 1] > segment_id)
    ):
        at -= 1
    k = top.score.shape[1]
    if at == k:
        return
    last = min(top.found[q], k - 1)
    for i in range(last, at, -1):
        top.score[q, i], top.segment_id[q, i] = top.score[q, i - 1], top.segment_id[q, i - 1]
        top.counts[q, i], top.place[q, i] = top.counts[q, i - 1], top.place[q, i - 1]
    top.score[q, at], top.segment_id[q, at] = score, segment_id
    top.counts[q, at, 0], top.counts[q, at, 1] = counts[0], counts[1]
    top.counts[q, at, 2], top.counts[q, at, 3] = counts[2], counts[3]
    top.place[q, at, 0], top.place[q, at, 1] = shard_number, row
    top.found[q] = last + 1


@nb.njit(cache=True, nogil=True)
def _candidates(shard, query, q, first, last, allowed, weights, least, prune, class_plane):  # type: ignore[no-untyped-def]
    """The rows of a class whose bound reaches `least`: (bounds of the score, bounds of its context term, rows)."""
    # Plain locals: handing the tuples on would count references to every array in them, once a row.
    boxes, areas, counts, cells, sources = shard.box, shard.area, shard.context_area, shard.cells, shard.source
    class_start, class_cells, sums = shard.class_start, shard.class_cells, query.sums
    frame_rows, frame_cols = sums.shape[0] - 1, sums.shape[1] - 1
    q_box, q_area, q_count, q_cells = _box(query.box, q), query.area[q], query.context_area[q], query.cells[q]
    q_around = context_box(q_box, frame_rows, frame_cols)
    room, scratch = np.empty(CELLS * CELLS, np.uint32), np.empty(CELLS * CELLS, np.uint32)
    cell_room(q_around, frame_rows, frame_cols, CELLS, room)
    bounds, contexts, rows = np.empty(last - first), np.empty(last - first), np.empty(last - first, np.int64)
    n = 0
    for row in range(first, last):
        if len(allowed) and not allowed[row]:
            continue
        box, area, count = _box(boxes, row), np.int64(areas[row]), np.int64(counts[row])
        mask = weights[0] * mask_bound(area, q_area, box_overlap(box, q_box))
        if mask + weights[1] < least:
            continue
        window = _common(context_box(box, frame_rows, frame_cols), q_around)
        context = weights[1] * context_bound(count, q_count, box_sum(sums, window))
        if mask + context < least:
            continue
        if prune:
            mask = min(mask, weights[0] * cell_bound(cells[row], q_cells, area, q_area))
            if mask + context < least:
                continue
            source = np.int64(sources[row])
            around = context_cell_bound(
                class_cells, class_plane, class_start[source], class_start[source + 1],
                query.class_cells, room, count, q_count, scratch,
            )  # fmt: skip
            context = min(context, weights[1] * around)
        if mask + context >= least:
            bounds[n], contexts[n], rows[n] = mask + context, context, row
            n += 1
    return bounds[:n], contexts[:n], rows[:n]


@nb.njit(cache=True, nogil=True)
def search_shard(shard, query, ranges, allowed, weights, shard_number, prune, top):  # type: ignore[no-untyped-def]
    """Updates the k best of every component by one shard.

    Segments whose bound reaches the k-th score are visited by descending bound; the mask comes first, and the context
    only if it can still matter.

    Args:
        shard, query: `ShardArrays`, `QueryArrays`.
        ranges: `(q, 2)` int64, the rows of each component's class.
        allowed: `(N,)` bool, or `(0,)` where every segment is a candidate.
        weights: `(2,)` float64 of mask and context, not negative.
        shard_number: what to write into `top.place`.
        prune: False scores every candidate: brute force over the same tiles.
        top: `TopK`, changed in place.
    """
    tiles, row_start, mixed_start = shard.tiles, shard.row_start, shard.mixed_start
    entry_region, entry_bits, sums, score = shard.entry_region, shard.entry_bits, query.sums, top.score
    last, frame_rows, frame_cols = score.shape[1] - 1, sums.shape[0] - 1, sums.shape[1] - 1
    region_plane, class_plane = query.plane_of[shard.region_class], query.plane_of[shard.source_class]
    for q in range(len(ranges)):
        q_box, q_area, q_count = _box(query.box, q), query.area[q], query.context_area[q]
        q_around = context_box(q_box, frame_rows, frame_cols)
        least = score[q, last] if prune and top.found[q] > last else -1.0
        bounds, contexts, rows = _candidates(
            shard, query, q, ranges[q, 0], ranges[q, 1], allowed, weights, least, prune, class_plane
        )
        for i in np.argsort(-bounds) if prune else np.arange(len(rows)):
            full = prune and top.found[q] > last
            if full and bounds[i] < score[q, last]:
                break
            row, box = rows[i], _box(shard.box, rows[i])
            source, area, count = (
                np.int64(shard.source[row]),
                np.int64(shard.area[row]),
                np.int64(shard.context_area[row]),
            )
            common = mask_intersection(
                tiles, row_start, mixed_start, entry_region, entry_bits, source, shard.region[row], box,
                q_box, query.mask_start[q], query.mask_bits, query.mask_counts,
            )  # fmt: skip
            mask = weights[0] * iou(common, area, q_area)
            if full and mask + contexts[i] < score[q, last]:
                continue
            window, shared, needed = (
                _common(context_box(box, frame_rows, frame_cols), q_around),
                np.int64(0),
                np.int64(0),
            )
            if full and weights[1] > 0:
                needed = least_common(score[q, last] * (1 - 2e-15) - mask, weights[1], count + q_count)
            if box_sum(sums, window) > 0:
                shared = context_intersection(
                    tiles, row_start, mixed_start, entry_region, entry_bits, source,
                    region_plane[shard.region_start[source] :], window, query.planes, query.plane_counts, sums, needed,
                )  # fmt: skip
            top.scored[q] += 1
            if shared >= needed:
                counts = (common, area + q_area - common, shared, count + q_count - shared)
                total = mask + weights[1] * iou(shared, count, q_count)
                _insert(top, q, total, shard.segment_id[row], counts, shard_number, row)
