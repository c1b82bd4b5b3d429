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
_ROW, _SIGNED, _BLOCK, _LEAF, _TRUNK = np.int8(0), np.int8(1), np.int8(2), np.int8(3), np.int8(4)
_BLOCKS, _LEAVES = SIZES[2] // SIZES[1], SIZES[3] // SIZES[2]


@nb.njit(cache=True, nogil=True)
def _node_bound(bounds, node, mask_common, context_common, q_area, q_count, weights):  # type: ignore[no-untyped-def]
    """No segment of a node scores more, where none has more common pixels."""
    most = min(q_area, mask_common)
    area = min(max(most, np.int64(bounds[node, 8])), np.int64(bounds[node, 9]))
    mask = weights[0] * iou(min(most, area), area, q_area)
    most = min(q_count, context_common)
    count = min(max(most, np.int64(bounds[node, 10])), np.int64(bounds[node, 11]))
    return mask + weights[1] * iou(min(most, count), count, q_count)


@nb.njit(cache=True, nogil=True)
def _hull_bound(bounds, node, q_box, q_area, q_around, q_count, sums, weights):  # type: ignore[no-untyped-def]
    """No segment of a node scores more."""
    hull = bounds[node, 0], bounds[node, 1], bounds[node, 2], bounds[node, 3]
    around = bounds[node, 4], bounds[node, 5], bounds[node, 6], bounds[node, 7]
    mask_common, context_common = np.int64(box_overlap(hull, q_box)), box_sum(sums, overlap(around, q_around))
    return _node_bound(bounds, node, mask_common, context_common, q_area, q_count, weights)


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
    kth, frame_rows, frame_cols = scores.shape[1] - 1, sums.shape[0] - 1, sums.shape[1] - 1
    region_plane = np.empty(len(numbers), np.int32)
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
        q_around = context_box(q_box, frame_rows, frame_cols)
        head[:] = _END
        size = trunk_last - trunk_first + leaf_last - leaf_first + block_last - block_first + row_last - row_first
        level, item, after = np.empty(size, np.int8), np.empty(size, np.int32), np.empty(size, np.int32)
        bound, around_bound = np.empty(size, np.float64), np.empty(size, np.float64)
        signed_as = np.full(leaf_last - leaf_first, _END, np.int32)
        signed, signatures = np.empty((16, SIGNATURE_BYTES), np.uint8), 0
        n, bucket = np.int64(0), np.int64(0)
        least = max(floor[q], scores[q, kth] if found[q] > kth else 0.0)
        for trunk in range(trunk_first, trunk_last):
            most = _hull_bound(trunk_bounds, trunk, q_box, q_area, q_around, q_count, sums, weights)
            if most >= least:
                into = np.int64(most * per_score)
                level[n], item[n], bound[n], after[n], head[into] = _TRUNK, trunk, most, head[into], n
                bucket = max(bucket, into)
                n += 1
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
            elif level[at] <= _BLOCK:
                leaf = (number - block_first) // _BLOCKS
                sign = signed_as[leaf]
                grid = leaf_grid[leaf_first + leaf]
                if sign == _END:
                    if signatures == len(signed):
                        larger = np.empty((2 * len(signed), SIGNATURE_BYTES), np.uint8)
                        larger[: len(signed)] = signed
                        signed = larger
                    query_signature(
                        grid[:4], grid[4:], leaf_classes[leaf_first + leaf], q_box, mask_sums, q_sums, q_around,
                        plane_of, class_sums, all_sums, signed[signatures],
                    )  # fmt: skip
                    sign = signed_as[leaf] = signatures
                    signatures += 1
                mask_unit, context_unit = unit_of(grid[2], grid[3]), unit_of(grid[6], grid[7])
                if level[at] == _BLOCK:
                    mask_common, context_common = least_common_bytes(block_signature, number, signed[sign])
                    most = min(
                        bound[at],
                        _node_bound(
                            block_bounds,
                            number,
                            mask_common * mask_unit,
                            context_common * context_unit,
                            q_area,
                            q_count,
                            weights,
                        ),
                    )
                    if most < least:
                        continue
                    into = np.int64(most * per_score)
                    if into < bucket:
                        level[at], bound[at], after[at], head[into] = _SIGNED, most, head[into], at
                        continue
                row_from = row_first + SIZES[1] * (number - block_first)
                for row in range(row_from, min(row_from + SIZES[1], row_last)):
                    if len(allowed) and not allowed[row]:
                        continue
                    area, count = np.int64(areas[row]), np.int64(counts[row])
                    mask_common, context_common = least_common_bytes(signature, row, signed[sign])
                    mask_common = min(mask_common * mask_unit, area, q_area)
                    context_common = min(context_common * context_unit, count, q_count)
                    context = weights[1] * iou(context_common, count, q_count)
                    most = weights[0] * iou(mask_common, area, q_area) + context
                    if most < least:
                        continue
                    box = box_at(boxes, row)
                    window = overlap(context_box(box, frame_rows, frame_cols), q_around)
                    mask_common = min(mask_common, np.int64(box_overlap(box, q_box)))
                    context_common = min(context_common, box_sum(sums, window))
                    context = weights[1] * iou(context_common, count, q_count)
                    most = weights[0] * iou(mask_common, area, q_area) + context
                    if most >= least:
                        into = min(np.int64(most * per_score), bucket)
                        level[n], item[n], bound[n], after[n], head[into] = _ROW, row, most, head[into], n
                        around_bound[n] = context
                        n += 1
            else:
                if level[at] == _TRUNK:
                    kind, bounds = _LEAF, leaf_bounds
                    begin = leaf_first + _LEAVES * (number - trunk_first)
                    end = min(begin + _LEAVES, leaf_last)
                else:
                    kind, bounds = _BLOCK, block_bounds
                    begin = block_first + _BLOCKS * (number - leaf_first)
                    end = min(begin + _BLOCKS, block_last)
                for node in range(begin, end):
                    if kind == _BLOCK and len(block_allowed) and not block_allowed[node]:
                        continue
                    most = _hull_bound(bounds, node, q_box, q_area, q_around, q_count, sums, weights)
                    if most >= least:
                        into = min(np.int64(most * per_score), bucket)
                        level[n], item[n], bound[n], after[n], head[into] = kind, node, most, head[into], n
                        n += 1
