"""Exact counts of common pixels, from the 8x8 bit tiles of stored sources and of a layout (score, sections 6 and 7).

Every kernel releases the GIL, reads only, and counts in integers; the quotients of the score are taken in float64.
The columns of the shards are reached through a table of addresses, so that one call can go through a whole bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numba import types
from numba.extending import intrinsic

from ..storage.footprints import TILE, Footprints
from .bounds import box_overlap, box_sum, context_box, iou, least_common


class ShardArrays(NamedTuple):
    """The search columns of some shards, as kernels reach them.

    Attributes:
        address: `(shards, 13)` int64, where each of `_COLUMNS` begins.
        shape: `(2,)` int64, rows and columns of tiles.
        numbers: `(most,)` of the type in which all of them number their regions; as long as a source has regions.
    """

    address: Any
    shape: Any
    numbers: Any


def shard_arrays(shards: Sequence[Footprints], tiles: tuple[int, int]) -> tuple[ShardArrays, Sequence[Any]]:
    """Some shards of one frame of `tiles` rows and columns, and what must be kept alive as long as that is used."""
    wide = any(shard.tiles.dtype != np.uint16 for shard in shards)
    dtype = np.dtype(np.uint32 if wide else np.uint16)
    columns = [[_widened(shard, name, dtype) for name in _COLUMNS] for shard in shards]
    address = [[column.ctypes.data for column in each] for each in columns]
    most = max((int(np.diff(shard.region_start.astype(np.int64)).max(initial=0)) for shard in shards), default=0)
    arrays = ShardArrays(
        np.array(address, np.int64).reshape(-1, len(_COLUMNS)), np.array(tiles, np.int64), np.zeros(most, dtype)
    )
    return arrays, columns


_COLUMNS = (
    *("tiles", "row_start", "mixed_start", "entry_region", "entry_bits", "region_start", "region_class"),
    *("source", "region", "segment_id", "box", "area", "context_area"),
)
_NUMBERS = ("tiles", "entry_region", "region")


def _widened(shard: Footprints, name: str, dtype: np.dtype[Any]) -> Any:
    """A column; where one shard of a bank has more regions in a source than 16 bits number, all have 32."""
    column = getattr(shard, name)
    if name not in _NUMBERS or column.dtype == dtype:
        return column
    widened = column.astype(dtype)
    widened[column == np.iinfo(column.dtype).max] = np.iinfo(dtype).max  # the mark of a mixed tile
    return widened


class QueryArrays(NamedTuple):
    """A layout's components, ready to be scored.

    Attributes:
        plane_of: `(65536,)` int32, class id to its plane, -1 where the layout lacks the class.
        planes: `(L, TR, TC)` uint64 bits of each class; plane_counts: `(L, TR, TC)` uint8, their set bits.
        sums: `(R + 1, C + 1)` int32 summed-area table of the pixels that are not void.
        class_id: `(q,)` uint16; box: `(q, 4)` int64; area, context_area: `(q,)` int64.
        mask_start: `(q,)` int64, where the tiles of each component's box begin in mask_bits: `(W,)` uint64 and
            mask_counts: `(W,)` uint8.
        sums_start: `(q,)` int64, where the summed-area table of each component inside its own box begins in mask_sums:
            `(V,)` int32; it has one row and one column more than the box.
        class_sums: `(L, 2 * TR + 1, 2 * TC + 1)` int32, summed-area tables of the classes over squares of 4 pixels;
            all_sums: `(2 * TR + 1, 2 * TC + 1)` int32, of all classes.
    """

    plane_of: Any
    planes: Any
    plane_counts: Any
    sums: Any
    class_id: Any
    box: Any
    area: Any
    context_area: Any
    mask_start: Any
    mask_bits: Any
    mask_counts: Any
    sums_start: Any
    mask_sums: Any
    class_sums: Any
    all_sums: Any


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
def bits_of_rows(tile, top, bottom):  # type: ignore[no-untyped-def]
    """The bits of a row of tiles that lie in [top, bottom)."""
    first, last = max(top - TILE * tile, 0), min(bottom - TILE * tile, TILE)
    return (_ALL >> np.uint64(TILE * (TILE - last + first))) << np.uint64(TILE * first)


@nb.njit(cache=True, nogil=True)
def bits_of_cols(tile, left, right):  # type: ignore[no-untyped-def]
    """The bits of a column of tiles that lie in [left, right)."""
    first, last = max(left - TILE * tile, 0), min(right - TILE * tile, TILE)
    return ((np.uint64(255) >> np.uint64(TILE - last + first)) << np.uint64(first)) * _EVERY_ROW


@nb.njit(cache=True, nogil=True)
def mixed_before(tiles, row_start, source, row, col):  # type: ignore[no-untyped-def]
    """The number of the first mixed tile at or after a column of a row of tiles."""
    mixed = tiles.dtype.type(-1)
    number = np.int64(row_start[source, row])
    for before in range(col):
        number += tiles[source, row, before] == mixed
    return number


@nb.njit(cache=True, nogil=True)
def overlap(a, b):  # type: ignore[no-untyped-def]
    """Where two boxes overlap; empty boxes have no rows or no columns, never less."""
    top, left = max(a[0], b[0]), max(a[1], b[1])
    return top, left, max(min(a[2], b[2]), top), max(min(a[3], b[3]), left)


@nb.njit(cache=True, nogil=True)
def box_at(boxes, row):  # type: ignore[no-untyped-def]
    """One box as a tuple of int64."""
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
        number = mixed_before(tiles, row_start, source, tile_row, left)
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
        row_bits = bits_of_rows(tile_row, top, bottom)
        number = mixed_before(tiles, row_start, source, tile_row, first_col)
        for tile_col in range(first_col, last_col):
            region = tiles[source, tile_row, tile_col]
            if region == 0:
                continue
            inside = row_bits
            if tile_col == first_col or tile_col == last_col - 1:
                inside &= bits_of_cols(tile_col, left, right)
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
def insert(found, scores, ids, counts, places, q, score, segment_id, numbers, shard, row):  # type: ignore[no-untyped-def]
    """Puts a scored segment into its place among the k best (fields of `TopK`)."""
    at = found[q]
    while at > 0 and (scores[q, at - 1] < score or (scores[q, at - 1] == score and ids[q, at - 1] > segment_id)):
        at -= 1
    k = scores.shape[1]
    if at == k:
        return
    last = min(found[q], k - 1)
    for i in range(last, at, -1):
        scores[q, i], ids[q, i] = scores[q, i - 1], ids[q, i - 1]
        for j in range(4):
            counts[q, i, j] = counts[q, i - 1, j]
        places[q, i, 0], places[q, i, 1] = places[q, i - 1, 0], places[q, i - 1, 1]
    scores[q, at], ids[q, at] = score, segment_id
    counts[q, at, 0], counts[q, at, 1], counts[q, at, 2], counts[q, at, 3] = numbers
    places[q, at, 0], places[q, at, 1] = shard, row
    found[q] = last + 1


@intrinsic
def _pointer(typingctx, address):  # type: ignore[no-untyped-def]
    """An address as a pointer."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), codegen


_ANY = 1 << 40  # columns are indexed within their bounds by what the bank's own files say, which were checked


@nb.njit(cache=True, nogil=True)
def score_segment(  # type: ignore[no-untyped-def]
    address, shape, numbers, shard, row, planes, plane_counts, plane_of, sums, mask_bits, mask_counts, q_box, q_at,
    q_area, q_count, weights, context_most, least, region_plane,
):  # fmt: skip
    """One stored segment against one component, exactly, unless it becomes certain that the score is under `least`.

    Args:
        address, shape, numbers: of `ShardArrays`; shard, row: which segment.
        planes, plane_counts, plane_of, sums, mask_bits, mask_counts: of `QueryArrays`; q_box, q_at, q_area, q_count:
            the component's.
        weights: of mask and context.
        context_most: a bound of the weighted context term.
        least: the score from which on the segment matters; below 0 for always.
        region_plane: `(most,)` int32, scratch.

    Returns:
        The score, -1 where it is under `least`; the segment's id; common pixels and union of masks, then of contexts.
    """
    at = address[shard]
    box = nb.carray(_pointer(at[10]), (_ANY, 4), np.uint16)
    box = np.int64(box[row, 0]), np.int64(box[row, 1]), np.int64(box[row, 2]), np.int64(box[row, 3])
    area = np.int64(nb.carray(_pointer(at[11]), (_ANY,), np.uint32)[row])
    count = np.int64(nb.carray(_pointer(at[12]), (_ANY,), np.uint32)[row])
    source = np.int64(nb.carray(_pointer(at[7]), (_ANY,), np.uint32)[row])
    own = nb.carray(_pointer(at[8]), (_ANY,), numbers.dtype)[row]
    segment_id = nb.carray(_pointer(at[9]), (_ANY,), np.uint64)[row]
    tiles = nb.carray(_pointer(at[0]), (_ANY, shape[0], shape[1]), numbers.dtype)
    row_start = nb.carray(_pointer(at[1]), (_ANY, shape[0]), np.uint32)
    mixed_start = nb.carray(_pointer(at[2]), (_ANY,), np.uint32)
    entry_region = nb.carray(_pointer(at[3]), (_ANY,), numbers.dtype)
    entry_bits = nb.carray(_pointer(at[4]), (_ANY,), np.uint64)
    common = mask_intersection(
        tiles, row_start, mixed_start, entry_region, entry_bits, source, own, box, q_box, q_at, mask_bits, mask_counts
    )
    mask = weights[0] * iou(common, area, q_area)
    none = -1.0, segment_id, (common, common, common, common)
    if mask + context_most < least:
        return none
    frame_rows, frame_cols = sums.shape[0] - 1, sums.shape[1] - 1
    window = overlap(context_box(box, frame_rows, frame_cols), context_box(q_box, frame_rows, frame_cols))
    needed, shared = np.int64(0), np.int64(0)
    if least > 0 and weights[1] > 0:
        needed = least_common(least * (1 - 2e-15) - mask, weights[1], count + q_count)
    if box_sum(sums, window) > 0:
        region_start = nb.carray(_pointer(at[5]), (_ANY,), np.uint32)
        region_class = nb.carray(_pointer(at[6]), (_ANY,), np.uint16)
        first = np.int64(region_start[source])
        for region in range(np.int64(region_start[source + 1]) - first):
            region_plane[region] = plane_of[region_class[first + region]]
        shared = context_intersection(
            tiles, row_start, mixed_start, entry_region, entry_bits, source, region_plane, window, planes, plane_counts,
            sums, needed,
        )  # fmt: skip
    if shared < needed:
        return none
    score = mask + weights[1] * iou(shared, count, q_count)
    if score < least:
        return none
    return score, segment_id, (common, area + q_area - common, shared, count + q_count - shared)


@nb.njit(cache=True, nogil=True)
def score_places(shards, query, q, places, weights, bounded, top):  # type: ignore[no-untyped-def]
    """Updates the k best of one component by some segments.

    Args:
        shards: `ShardArrays`; query: `QueryArrays`.
        places: `(n, 2)` int64, shard and row of each.
        weights: `(2,)` float64.
        bounded: a segment may be given up as soon as it cannot be among the k best; else each is scored in full.
        top: `TopK`, changed in place.
    """
    region_plane, kth = np.empty(len(shards.numbers), np.int32), top.score.shape[1] - 1
    for i in range(len(places)):
        least = top.score[q, kth] if bounded and top.found[q] > kth else -1.0
        score, segment_id, counts = score_segment(
            shards.address, shards.shape, shards.numbers, places[i, 0], places[i, 1], query.planes, query.plane_counts,
            query.plane_of, query.sums, query.mask_bits, query.mask_counts, box_at(query.box, q), query.mask_start[q],
            query.area[q], query.context_area[q], weights, weights[1], least, region_plane,
        )  # fmt: skip
        top.scored[q] += 1
        if score >= 0.0:
            insert(
                top.found, top.score, top.segment_id, top.counts, top.place, q, score, segment_id, counts, places[i, 0],
                places[i, 1],
            )  # fmt: skip
