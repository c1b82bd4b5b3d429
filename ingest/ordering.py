"""Which of two touching segments of one photograph is in front, from depth or by an explicit rule.

After SIMS, section 4.4: the depths of two regions are compared where the regions meet, in a band around their
common boundary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import cv2
import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.cutting import find_runs
from ..storage.images import Depth
from ..storage.layouts import Labels, Runs

MIN_PIXELS = 10
"""Pixels of known depth that each side must have in the band."""
MIN_DIFFERENCE = 0.02
"""Relative difference of the medians under which nobody is in front."""

_MOST_PAIRS = 1 << 24  # a byte each: more are gone through in turn

Rule = Literal["none", "ground"]
Measured = Literal["depth", "disparity", "network"]
"""Where a depth map came from: the data set's metres, its disparities, or a depth network."""
Origin = Literal[Measured, "ground", "none"]


class Ordering(NamedTuple):
    """Two touching segments of different classes.

    Attributes:
        a, b: component indices, 0-based, `a < b`.
        front: `a` or `b`, `None` where that is unknown.
        margin: how clear it is, in 0..1. Of depth, whatever its unit: the medians' difference over the larger one.
            Of the ground rule: how much lower the one in front reaches, as a share of the frame's rows; 1 where the
            other one is sky. `None` where nothing could be compared.
        origin: what decided, or failed to.
    """

    a: int
    b: int
    front: int | None
    margin: float | None
    origin: Origin


def orderings(
    labels: Labels,
    boxes: npt.NDArray[np.int32],
    class_ids: npt.NDArray[np.uint16],
    stored: npt.NDArray[np.bool_],
    depth: Depth | None,
    rule: Rule = "none",
    sky: npt.NDArray[np.bool_] | None = None,
    measured: Measured = "depth",
    runs: Runs | None = None,
) -> list[Ordering]:
    """Every pair of touching stored segments of different classes, sorted by `(a, b)`.

    Two touch when their footprints, each dilated by a square of `band_side`, intersect. With depth, the medians
    over each one's own pixels in that intersection decide, and nearer is in front; it stays unknown under
    `MIN_PIXELS` known depths on either side or under `MIN_DIFFERENCE` between the medians.

    Args:
        labels: `(R, C)` uint32 in the frame, 0 for none, component `i` marked `i + 1`.
        boxes: `(n, 4)` int32, the components' tight frame boxes.
        class_ids: `(n,)` uint16.
        stored: `(n,)` bool, the components that take part.
        depth: `(R, C)` float32, larger is farther, 0 where unknown, sampled to the frame; metres, or of a network any
            unit.
        rule: without depth: `ground` puts what reaches lower in the picture in front, and sky behind everything;
            `none` leaves all unknown.
        sky: `(n,)` bool, the components that are sky; none where absent.
        measured: where the depth came from; the orderings' origin.
        runs: those of the labels, where they are known.
    """
    side = band_side(labels.shape[0])
    pairs = _touching(find_runs(labels, np.uint32(0)) if runs is None else runs, stored, side, class_ids)
    if depth is not None:
        medians = _band_medians(labels, boxes, stored, depth, side)
        return [_by_depth(a, b, medians.get((a, b)), medians.get((b, a)), measured) for a, b in pairs]
    if rule == "none":
        return [Ordering(a, b, None, None, "none") for a, b in pairs]
    if sky is None:
        sky = np.zeros(len(boxes), bool)
    return [_by_ground(a, b, boxes[:, 2] / labels.shape[0], sky) for a, b in pairs]


def band_side(rows: int) -> int:
    """Side in pixels of the square that dilates footprints: 11/256 of the frame's rows, rounded half up, not 0.

    The square reaches `side // 2` up and left of a pixel, `(side - 1) // 2` down and right.
    """
    return max(1, (22 * rows + 256) // 512)


def _touching(
    runs: Runs, stored: npt.NDArray[np.bool_], side: int, class_ids: npt.NDArray[np.uint16]
) -> list[tuple[int, int]]:
    """Pairs `(a, b)`, sorted, of different classes whose dilated footprints intersect.

    They have pixels under `side` apart on both axes.
    """
    keys = np.unique(_near(*runs, np.concatenate([[False], stored]), side - 1))
    a, b = keys >> 32, keys & 0xFFFFFFFF
    differ = class_ids[a] != class_ids[b]
    return list(zip(a[differ].tolist(), b[differ].tolist(), strict=True))


def _band_medians(
    labels: Labels, boxes: npt.NDArray[np.int32], stored: npt.NDArray[np.bool_], depth: Depth, side: int
) -> dict[tuple[int, int], float]:
    """By `(a, b)`: median depth of `a`'s own pixels within the dilated `b`, where enough of them are known.

    A segment lies within its own dilation, so these are its pixels in the intersection of both dilations.
    """
    medians = {}
    part = np.concatenate([[False], stored])
    counts, slots = np.zeros(len(part), np.int64), np.zeros(len(part), np.int64)
    for b, window, around in _surroundings(labels, boxes, stored, side // 2, (side - 1) // 2):
        owners, middles = _medians(labels[window], depth[window], around, part, counts, slots)
        medians.update({(a, b): middle for a, middle in zip(owners.tolist(), middles.tolist(), strict=True)})
    return medians


def _surroundings(
    labels: Labels, boxes: npt.NDArray[np.int32], stored: npt.NDArray[np.bool_], before: int, after: int
) -> Iterator[tuple[int, tuple[slice, slice], npt.NDArray[np.bool_]]]:
    """Each stored segment, a window of the frame, and what dilation adds to the footprint there.

    The dilation reaches `before` pixels up and left, `after` pixels down and right.
    """
    rows, cols = labels.shape
    kernel = np.ones((before + after + 1,) * 2, np.uint8)
    for i in np.flatnonzero(stored):
        top, left, bottom, right = boxes[i].tolist()
        window = (
            slice(max(top - before, 0), min(bottom + after, rows)),
            slice(max(left - before, 0), min(right + after, cols)),
        )
        own = (labels[window] == i + 1).view(np.uint8)
        grown = cv2.dilate(own, kernel, anchor=(after, after))
        yield int(i), window, (grown ^ own).view(bool)


def _by_depth(a: int, b: int, depth_a: float | None, depth_b: float | None, origin: Measured) -> Ordering:
    if depth_a is None or depth_b is None:
        return Ordering(a, b, None, None, origin)
    margin = abs(depth_a - depth_b) / max(depth_a, depth_b)
    front = None if margin < MIN_DIFFERENCE else a if depth_a < depth_b else b
    return Ordering(a, b, front, margin, origin)


def _by_ground(a: int, b: int, bottoms: npt.NDArray[np.float64], sky: npt.NDArray[np.bool_]) -> Ordering:
    if sky[a] != sky[b]:
        return Ordering(a, b, b if sky[a] else a, 1.0, "ground")
    lower = float(bottoms[a] - bottoms[b])
    front = None if lower == 0 else a if lower > 0 else b
    return Ordering(a, b, front, abs(lower), "ground")


@nb.njit(cache=True, nogil=True)
def _near(first, starts, stops, values, part, reach):  # type: ignore[no-untyped-def]
    """Keys `a << 32 | b`, `a < b`, 0-based, of regions with pixels at most `reach` apart on both axes; some twice.

    Runs of a row are compared with each other, and with all of the rows within reach below: only runs at a region's
    lower edge with those at an upper one, for a run within one of the same region in the row between meets nobody that
    the other does not meet. Of very many regions, who meets whom is found for some at a time.
    """
    rows = len(first) - 1
    first, starts, stops, owners = _taking_part(first, starts, stops, values, part)
    lower, foot = _uncovered(first, starts, stops, owners, 1)
    upper, head = _uncovered(first, starts, stops, owners, -1)
    region_of = np.flatnonzero(part) - 1
    n = len(region_of)
    owners = (np.cumsum(part) - 1)[owners + 1]  # 0..n - 1
    begins, ends, whose = starts[upper], stops[upper], owners[upper]  # one behind the other, as they are gone through
    found, many = np.empty(256, np.int64), 0
    step = max(1, _MOST_PAIRS // max(n, 1))
    for low in range(0, n, step):
        meets = np.zeros((min(step, n - low), n), np.uint8)
        for row in range(rows):
            for i in range(first[row], first[row + 1]):
                other = i + 1
                while other < first[row + 1] and starts[other] < stops[i] + reach:
                    one, two = min(owners[i], owners[other]), max(owners[i], owners[other])
                    if low <= one < low + step:
                        meets[one - low, two] = 1
                    other += 1
            for i in lower[foot[row] : foot[row + 1]]:
                if low <= owners[i] < low + step:
                    met, left, right = meets[owners[i] - low], starts[i] - reach, stops[i] + reach
                    for at in range(head[row + 1], head[min(row + reach + 1, rows)]):
                        met[whose[at]] |= np.uint8((ends[at] > left) & (begins[at] < right))
        for one in range(len(meets)):
            for two in range(n):
                if meets[one, two] and two != low + one:
                    found, many = _with(found, many, region_of[low + one], region_of[two]), many + 1
    return found[:many]


@nb.njit(cache=True, nogil=True)
def _with(found, n, one, other):  # type: ignore[no-untyped-def]
    """The keys so far and one more, in twice the room where it is needed."""
    if n == len(found):
        found = np.concatenate((found, np.empty(n, np.int64)))
    found[n] = min(one, other) << 32 | max(one, other)
    return found


@nb.njit(cache=True, nogil=True)
def _uncovered(first, starts, stops, owners, step):  # type: ignore[no-untyped-def]
    """The runs that do not lie within one of the same region in the row `step` further, and where each row's begin."""
    rows = len(first) - 1
    bare, heads, n = np.empty(len(starts), np.int64), np.zeros(rows + 1, np.int64), 0
    for row in range(rows):
        inside = 0 <= row + step < rows
        other, last = (first[row + step], first[row + step + 1]) if inside else (0, 0)
        for i in range(first[row], first[row + 1]):
            while other < last and stops[other] < stops[i]:
                other += 1
            if other == last or owners[other] != owners[i] or starts[other] > starts[i]:
                bare[n] = i
                n += 1
        heads[row + 1] = n
    return bare[:n], heads


@nb.njit(cache=True, nogil=True)
def _taking_part(first, starts, stops, values, part):  # type: ignore[no-untyped-def]
    """The runs of the regions that take part, with 0-based owners."""
    heads, kept, n = np.zeros(len(first), np.int64), np.empty(len(starts), np.int64), 0
    for row in range(len(first) - 1):
        for run in range(first[row], first[row + 1]):
            kept[n] = run
            n += part[values[run]]
        heads[row + 1] = n
    kept = kept[:n]
    owners = values[kept].astype(np.int64) - 1
    return heads, starts[kept].astype(np.int64), stops[kept].astype(np.int64), owners


@nb.njit(cache=True, nogil=True)
def _medians(labels, depth, around, part, counts, slots):  # type: ignore[no-untyped-def]
    """Regions, 0-based, with `MIN_PIXELS` known depths or more where `around` is set, and the medians of these.

    Args:
        labels, depth, around: of a window; part: `(n + 1,)` bool, the labels that take part.
        counts, slots: `(n + 1,)` int64 zeros, scratch; zeros again afterwards.
    """
    seen, n = np.empty(around.size, np.int64), 0
    keys, depths, m = np.empty(around.size, np.uint32), np.empty(around.size, np.float32), 0
    for row in range(around.shape[0]):
        for col in range(around.shape[1]):
            if around[row, col]:
                label, value = labels[row, col], depth[row, col]
                if part[label] and value > 0:
                    keys[m], depths[m] = label, value
                    m += 1
                    seen[n] = label
                    n += counts[label] == 0
                    counts[label] += 1
    total = 0
    for i in range(n):
        slots[seen[i]] = total
        total += counts[seen[i]]
    values = np.empty(total, np.float32)
    for i in range(m):
        values[slots[keys[i]]] = depths[i]
        slots[keys[i]] += 1
    owners, middles, m = np.empty(n, np.int64), np.empty(n, np.float64), 0
    for i in range(n):
        label, count = seen[i], counts[seen[i]]
        if count >= MIN_PIXELS:
            own = values[slots[label] - count : slots[label]]
            upper = _smallest(own, count // 2)
            lower = upper if count % 2 else own[: count // 2].max()
            owners[m], middles[m] = label - 1, (np.float64(lower) + np.float64(upper)) / 2
            m += 1
        counts[label] = slots[label] = 0
    return owners[:m], middles[:m]


@nb.njit(cache=True, nogil=True)
def _smallest(values, rank):  # type: ignore[no-untyped-def]
    """The value of a rank, 0 the smallest; smaller ones stand before it afterwards (Hoare's selection)."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]
