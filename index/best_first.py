"""The search itself: one best-first queue over nodes and segments that visits only what the k-th score demands.

A queue of buckets, each a 256th of a score wide or less, holds trunks, leaves and blocks by the bound of their hulls,
then blocks and segments by the bound of their signatures. The fullest promise is taken first: a trunk is opened into
leaves, a leaf into blocks, a block into segments, a segment is scored exactly. When the next bucket lies under the k-th
score, the answer is complete.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from ..storage.leaves import SIZES
from .bounds import box_overlap, box_sum, context_box, iou
from .scoring import box_at, insert, overlap, score_segment
from .signatures import SIGNATURE_BYTES, least_common_bytes, query_signature, unit_of

BUCKETS = 512
"""Buckets over the range of scores, at least; a power of two of them makes one score, so that rounding is exact."""
_END = np.int32(-1)
_EVERY = np.zeros(0, np.bool_)
_ROW, _SIGNED, _BLOCK, _LEAF, _TRUNK = np.int8(0), np.int8(1), np.int8(2), np.int8(3), np.int8(4)
_BLOCKS, _LEAVES = SIZES[2] // SIZES[1], SIZES[3] // SIZES[2]

# A component is `asked`: (box, area, context box, count of context pixels). The queue is a set of arrays: `head` of
# each bucket; then of each item its `level`, `item` (number of the node or row), `after` (the next in its bucket),
# `bound` of the score, and `around_bound` of its context term.


@nb.njit(cache=True, nogil=True)
def _node_bound(bounds, node, mask_common, context_common, asked, weights):  # type: ignore[no-untyped-def]
    """No segment of a node scores more, where none has more common pixels."""
    _, q_area, _, q_count = asked
    most = min(q_area, mask_common)
    area = min(max(most, np.int64(bounds[node, 8])), np.int64(bounds[node, 9]))
    mask = weights[0] * iou(min(most, area), area, q_area)
    most = min(q_count, context_common)
    count = min(max(most, np.int64(bounds[node, 10])), np.int64(bounds[node, 11]))
    return mask + weights[1] * iou(min(most, count), count, q_count)


@nb.njit(cache=True, nogil=True)
def _push_nodes(  # type: ignore[no-untyped-def]
    kind, bounds, first, last, allowed, asked, sums, weights, least, per_score, most_bucket,
    head, level, item, after, bound, n,
):  # fmt: skip
    """Queues trunks, leaves or blocks by the bound of their hulls; returns how many items there are now."""
    q_box, _, q_around, _ = asked
    for node in range(first, last):
        if len(allowed) and not allowed[node]:
            continue
        hull = bounds[node, 0], bounds[node, 1], bounds[node, 2], bounds[node, 3]
        around = bounds[node, 4], bounds[node, 5], bounds[node, 6], bounds[node, 7]
        mask_common, context_common = np.int64(box_overlap(hull, q_box)), box_sum(sums, overlap(around, q_around))
        most = _node_bound(bounds, node, mask_common, context_common, asked, weights)
        if most >= least:
            into = min(np.int64(most * per_score), most_bucket)
            level[n], item[n], bound[n], after[n], head[into] = kind, node, most, head[into], n
            n += 1
    return n


@nb.njit(cache=True, nogil=True)
def _push_rows(  # type: ignore[no-untyped-def]
    first, last, allowed, signature, boxes, areas, counts, signed, units, asked, sums, weights, least, per_score,
    most_bucket, head, level, item, after, bound, around_bound, n,
):  # fmt: skip
    """Queues the segments of a block by the bound of their signatures and boxes; returns how many items there are."""
    q_box, q_area, q_around, q_count = asked
    for row in range(first, last):
        if len(allowed) and not allowed[row]:
            continue
        area, count = np.int64(areas[row]), np.int64(counts[row])
        mask_common, context_common = least_common_bytes(signature, row, signed)
        mask_common = min(mask_common * units[0], area, q_area)
        context_common = min(context_common * units[1], count, q_count)
        most = weights[0] * iou(mask_common, area, q_area) + weights[1] * iou(context_common, count, q_count)
        if most < least:
            continue
        box = box_at(boxes, row)
        window = overlap(context_box(box, sums.shape[0] - 1, sums.shape[1] - 1), q_around)
        mask_common = min(mask_common, np.int64(box_overlap(box, q_box)))
        context = weights[1] * iou(min(context_common, box_sum(sums, window)), count, q_count)
        most = weights[0] * iou(mask_common, area, q_area) + context
        if most >= least:
            into = min(np.int64(most * per_score), most_bucket)
            level[n], item[n], bound[n], after[n], head[into] = _ROW, row, most, head[into], n
            around_bound[n] = context
            n += 1
    return n


@nb.njit(cache=True, nogil=True)
def _doubled(rows):  # type: ignore[no-untyped-def]
    """The same rows with room for as many again."""
    larger = np.empty((2 * len(rows), rows.shape[1]), rows.dtype)
    larger[: len(rows)] = rows
    return larger


@nb.njit(cache=True, nogil=True)
def search_part(leaves, shards, query, first, last, allowed, block_allowed, weights, floor, shard_numbers, top):  # type: ignore[no-untyped-def]
    """Updates the k best of some components by one index part.

    Args:
        leaves: `LeafArrays`; shards: `ShardArrays` of the whole bank; query: `QueryArrays`.
        first, last: which components.
        allowed: `(N,)` bool by row of the leaves, or `(0,)` where every segment is a candidate; block_allowed: `(B,)`
            bool, whether a block has any, or `(0,)`.
        weights: `(2,)` float64 of mask and context, not negative.
        floor: `(q,)` float64, scores under it do not matter.
        shard_numbers: `(shards of the part,)` int64, their numbers in the bank.
        top: `TopK`, changed in place.
    """
    # Plain locals: reaching into the tuples inside the loops would count references to arrays.
    class_ids, class_start = leaves.class_ids, leaves.class_start
    block_bounds, leaf_bounds, trunk_bounds = leaves.block_bounds, leaves.leaf_bounds, leaves.trunk_bounds
    leaf_grid, leaf_classes = leaves.leaf_grid, leaves.leaf_classes
    boxes, areas, counts, signature = leaves.box, leaves.area, leaves.context_area, leaves.signature
    block_signature = leaves.block_signature
    of_shard, of_row = leaves.shard, leaves.row
    address, shape, numbers = shards.address, shards.shape, shards.numbers
    planes, plane_counts, plane_of, sums = query.planes, query.plane_counts, query.plane_of, query.sums
    mask_bits, mask_counts, mask_sums = query.mask_bits, query.mask_counts, query.mask_sums
    class_sums, all_sums = query.class_sums, query.all_sums
    found, scores, ids, found_counts, places, scored = (
        top.found, top.score, top.segment_id, top.counts, top.place, top.scored
    )  # fmt: skip
    kth, region_plane = scores.shape[1] - 1, np.empty(len(numbers), np.int32)
    per_score = 2.0 ** np.ceil(np.log2(BUCKETS / (weights[0] + weights[1])))
    head = np.empty(np.int64((weights[0] + weights[1]) * per_score) + 2, np.int32)
    for q in range(first, last):
        which = np.searchsorted(class_ids, query.class_id[q])
        if which == len(class_ids) or class_ids[which] != query.class_id[q]:
            continue
        row_first, row_last = np.int64(class_start[which, 0]), np.int64(class_start[which + 1, 0])
        block_first, block_last = np.int64(class_start[which, 1]), np.int64(class_start[which + 1, 1])
        leaf_first, leaf_last = np.int64(class_start[which, 2]), np.int64(class_start[which + 1, 2])
        trunk_first, trunk_last = np.int64(class_start[which, 3]), np.int64(class_start[which + 1, 3])
        q_box, q_area, q_count = box_at(query.box, q), query.area[q], query.context_area[q]
        q_at, q_sums = query.mask_start[q], query.sums_start[q]
        q_around = context_box(q_box, sums.shape[0] - 1, sums.shape[1] - 1)
        asked = q_box, q_area, q_around, q_count
        head[:] = _END
        size = trunk_last - trunk_first + leaf_last - leaf_first + block_last - block_first + row_last - row_first
        level, item, after = np.empty(size, np.int8), np.empty(size, np.int32), np.empty(size, np.int32)
        bound, around_bound = np.empty(size, np.float64), np.empty(size, np.float64)
        signed_as = np.full(leaf_last - leaf_first, _END, np.int32)
        signed, signatures = np.empty((16, SIGNATURE_BYTES), np.uint8), np.int64(0)
        least = max(floor[q], scores[q, kth] if found[q] > kth else 0.0)
        bucket = np.int64(len(head) - 1)
        n = _push_nodes(
            _TRUNK, trunk_bounds, trunk_first, trunk_last, _EVERY, asked, sums, weights, least, per_score, bucket,
            head, level, item, after, bound, np.int64(0),
        )  # fmt: skip
        while bucket >= 0:
            at = head[bucket]
            if at == _END:
                bucket -= 1
                if least > 0.0 and (bucket + 1) / per_score <= least:
                    break
                continue
            head[bucket] = after[at]
            if bound[at] < least:
                continue
            number = np.int64(item[at])
            if level[at] == _ROW:
                scored[q] += 1
                shard, row = shard_numbers[of_shard[number]], np.int64(of_row[number])
                score, segment_id, pixels = score_segment(
                    address, shape, numbers, shard, row, planes, plane_counts, plane_of, sums, mask_bits, mask_counts,
                    q_box, q_at, q_area, q_count, weights, around_bound[at], least, region_plane,
                )  # fmt: skip
                if score >= 0.0:
                    insert(found, scores, ids, found_counts, places, q, score, segment_id, pixels, shard, row)
                    if found[q] > kth:
                        least = max(least, scores[q, kth])
            elif level[at] == _TRUNK:
                begin = leaf_first + _LEAVES * (number - trunk_first)
                n = _push_nodes(
                    _LEAF, leaf_bounds, begin, min(begin + _LEAVES, leaf_last), _EVERY, asked, sums, weights, least,
                    per_score, bucket, head, level, item, after, bound, n,
                )  # fmt: skip
            elif level[at] == _LEAF:
                begin = block_first + _BLOCKS * (number - leaf_first)
                n = _push_nodes(
                    _BLOCK, block_bounds, begin, min(begin + _BLOCKS, block_last), block_allowed, asked, sums, weights,
                    least, per_score, bucket, head, level, item, after, bound, n,
                )  # fmt: skip
            else:
                leaf = (number - block_first) // _BLOCKS
                grid, sign = leaf_grid[leaf_first + leaf], signed_as[leaf]
                if sign == _END:
                    if signatures == len(signed):
                        signed = _doubled(signed)
                    query_signature(
                        grid[:4], grid[4:], leaf_classes[leaf_first + leaf], q_box, mask_sums, q_sums, q_around,
                        plane_of, class_sums, all_sums, signed[signatures],
                    )  # fmt: skip
                    sign = signed_as[leaf] = signatures
                    signatures += 1
                units = unit_of(grid[2], grid[3]), unit_of(grid[6], grid[7])
                if level[at] == _BLOCK:
                    mask_common, context_common = least_common_bytes(block_signature, number, signed[sign])
                    most = _node_bound(
                        block_bounds, number, mask_common * units[0], context_common * units[1], asked, weights
                    )
                    most = min(most, bound[at])
                    into = np.int64(most * per_score)
                    if most < least:
                        continue
                    if into < bucket:  # it can wait
                        level[at], bound[at], after[at], head[into] = _SIGNED, most, head[into], at
                        continue
                begin = row_first + SIZES[1] * (number - block_first)
                n = _push_rows(
                    begin, min(begin + SIZES[1], row_last), allowed, signature, boxes, areas, counts, signed[sign],
                    units, asked, sums, weights, least, per_score, bucket, head, level, item, after, bound,
                    around_bound, n,
                )  # fmt: skip
