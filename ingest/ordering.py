"""Which of two touching segments of one photograph is in front, from depth or by an explicit rule.

After SIMS, section 4.4: the depths of two regions are compared where the regions meet, in a band around their
common boundary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.images import Depth
from ..storage.layouts import Runs, nearest_exact

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


@dataclass(frozen=True)
class Orderings:
    """The orderings of one photograph, sorted by `(a, b)`, by column; see `Ordering`.

    Attributes:
        a, b: `(n,)` int64; front, margin: `n` each; origin: of all of them.
    """

    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    front: list[int | None]
    margin: list[float | None]
    origin: Origin

    def __len__(self) -> int:
        return len(self.a)

    def __iter__(self) -> Iterator[Ordering]:
        for row in zip(self.a.tolist(), self.b.tolist(), self.front, self.margin, strict=True):
            yield Ordering(*row, self.origin)


def orderings(
    runs: Runs,
    frame: tuple[int, int],
    boxes: npt.NDArray[np.int32],
    class_ids: npt.NDArray[np.uint16],
    stored: npt.NDArray[np.bool_],
    depth: Depth | None,
    rule: Rule = "none",
    sky: npt.NDArray[np.bool_] | None = None,
    measured: Measured = "depth",
) -> Orderings:
    """Every pair of touching stored segments of different classes.

    Two touch when their footprints, each dilated by a square of `band_side`, intersect. With depth, the medians
    over each one's own pixels in that intersection decide, and nearer is in front; it stays unknown under
    `MIN_PIXELS` known depths on either side or under `MIN_DIFFERENCE` between the medians.

    Args:
        runs: of the label map in the frame, component `i` marked `i + 1`.
        frame: `(R, C)`.
        boxes: `(n, 4)` int32, the components' tight frame boxes.
        class_ids: `(n,)` uint16.
        stored: `(n,)` bool, the components that take part.
        depth: `(H, W)` float32, larger is farther, 0 where unknown; metres, or of a network any unit. Where its size is
            another, what the frame's pixels are sampled from counts.
        rule: without depth: `ground` puts what reaches lower in the picture in front, and sky behind everything;
            `none` leaves all unknown.
        sky: `(n,)` bool, the components that are sky; none where absent.
        measured: where the depth came from; the orderings' origin.
    """
    side = band_side(frame[0])
    a, b = _touching(runs, stored, side, class_ids)
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    if depth is not None:
        medians = _band_medians(runs, frame, boxes, stored, depth, side)
        decided = [_by_depth(one, two, medians.get((one, two)), medians.get((two, one))) for one, two in pairs]
    elif rule == "none":
        return Orderings(a, b, [None] * len(a), [None] * len(a), "none")
    else:
        sky = np.zeros(len(boxes), bool) if sky is None else sky
        decided = [_by_ground(one, two, boxes[:, 2] / frame[0], sky) for one, two in pairs]
    front, margin = [front for front, _ in decided], [margin for _, margin in decided]
    return Orderings(a, b, front, margin, "ground" if depth is None else measured)


def band_side(rows: int) -> int:
    """Side in pixels of the square that dilates footprints: 11/256 of the frame's rows, rounded half up, not 0.

    The square reaches `side // 2` up and left of a pixel, `(side - 1) // 2` down and right.
    """
    return max(1, (22 * rows + 256) // 512)


def _touching(
    runs: Runs, stored: npt.NDArray[np.bool_], side: int, class_ids: npt.NDArray[np.uint16]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs `a, b`, sorted, of different classes whose dilated footprints intersect.

    They have pixels under `side` apart on both axes.
    """
    keys = np.unique(_near(*runs, np.concatenate([[False], stored]), side - 1))
    a, b = keys >> 32, keys & 0xFFFFFFFF
    differ = class_ids[a] != class_ids[b]
    return a[differ], b[differ]


def _band_medians(
    runs: Runs,
    frame: tuple[int, int],
    boxes: npt.NDArray[np.int32],
    stored: npt.NDArray[np.bool_],
    depth: Depth,
    side: int,
) -> dict[tuple[int, int], float]:
    """By `(a, b)`: median depth of `a`'s own pixels within the dilated `b`, where enough of them are known.

    A segment lies within its own dilation, so these are its pixels in the intersection of both dilations.
    """
    part = np.concatenate([[False], stored])
    rows, cols = (nearest_exact(size, target) for size, target in zip(depth.shape, frame, strict=True))
    a, b, middles = _medians_around(*runs, boxes, part, depth, rows, cols, side // 2, (side - 1) // 2)
    return dict(zip(zip(a.tolist(), b.tolist(), strict=True), middles.tolist(), strict=True))


Decided = tuple[int | None, float | None]
"""The one in front and the margin."""


def _by_depth(a: int, b: int, depth_a: float | None, depth_b: float | None) -> Decided:
    if depth_a is None or depth_b is None:
        return None, None
    margin = abs(depth_a - depth_b) / max(depth_a, depth_b)
    return None if margin < MIN_DIFFERENCE else a if depth_a < depth_b else b, margin


def _by_ground(a: int, b: int, bottoms: npt.NDArray[np.float64], sky: npt.NDArray[np.bool_]) -> Decided:
    if sky[a] != sky[b]:
        return b if sky[a] else a, 1.0
    lower = float(bottoms[a] - bottoms[b])
    return None if lower == 0 else a if lower > 0 else b, abs(lower)


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
    begins, ends = starts[upper].astype(np.int32), stops[upper].astype(np.int32)
    whose = owners[upper]  # all three one behind the other, as they are gone through
    found, many = np.empty(256, np.int64), 0
    step = max(1, _MOST_PAIRS // max(n, len(upper), 1))
    for low in range(0, n, step):
        meets = np.zeros((min(step, n - low), n), np.uint8)
        below = np.zeros((len(meets), len(upper)), np.uint8)  # of each region, which of the upper runs it meets
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
                    left, right = np.int32(starts[i] - reach), np.int32(stops[i] + reach)
                    within = slice(head[row + 1], head[min(row + reach + 1, rows)])
                    _mark(below[owners[i] - low, within], begins[within], ends[within], left, right)
        for one in range(len(meets)):
            for at in range(len(upper)):
                meets[one, whose[at]] |= below[one, at]
            for two in range(n):
                if meets[one, two] and two != low + one:
                    found, many = _with(found, many, region_of[low + one], region_of[two]), many + 1
    return found[:many]


@nb.njit(cache=True, nogil=True)
def _mark(marks, begins, ends, left, right):  # type: ignore[no-untyped-def]
    """Marks the runs that reach between two columns; many at once, for nothing is looked up in between."""
    for i in range(len(marks)):
        marks[i] |= np.uint8((ends[i] > left) & (begins[i] < right))


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
def _medians_around(first, starts, stops, values, boxes, part, depth, rows, cols, before, after):  # type: ignore[no-untyped-def]
    """Median depths of what lies around each region, by region.

    Args:
        first, starts, stops, values: runs of a label map; boxes: `(n, 4)`, of its regions.
        part: `(n + 1,)` bool, the labels that take part.
        depth: `(H, W)` float32, 0 where unknown; rows, cols: which pixel of it each one of the map is.
        before: how many pixels up and left of a region are around it; after: how many down and right.

    Returns:
        `a`, `b`: 0-based, int64, and the median, float64, of the known depths of `a` around `b`, where there are
        `MIN_PIXELS` of them or more.
    """
    a, around, middles = [np.int64(0)][:0], [np.int64(0)][:0], [0.0][:0]
    size = len(rows), len(cols)
    keys, depths = np.empty(size[0] * size[1], np.uint32), np.empty(size[0] * size[1], np.float32)
    counts, slots = np.zeros(len(part), np.int64), np.zeros(len(part), np.int64)
    near = np.zeros(size[1], np.int32)  # by column: how many runs of the region lie within reach, above 0 around it
    for b in np.flatnonzero(part[1:]):
        top, left, bottom, right = boxes[b]
        left, right = max(left - before, 0), min(right + after, size[1])
        entered, gone, n = top, top, 0  # rows of the region that have come within reach and are no longer so
        for row in range(max(top - before, 0), min(bottom + after, size[0])):
            while entered < min(row + before + 1, bottom):
                _add_row(near, first, starts, stops, values, entered, b + 1, before, after, np.int32(1))
                entered += 1
            while gone < row - after:
                _add_row(near, first, starts, stops, values, gone, b + 1, before, after, np.int32(-1))
                gone += 1
            for run in range(first[row], first[row + 1]):
                label = values[run]
                if label == b + 1 or not part[label]:
                    continue
                for col in range(max(starts[run], left), min(stops[run], right)):
                    if near[col] > 0:
                        value = depth[rows[row], cols[col]]
                        if value > 0:
                            keys[n], depths[n] = label, value
                            n += 1
        near[left:right] = 0
        for label, middle in _medians(keys[:n], depths[:n], counts, slots):
            a.append(label - 1)
            around.append(b)
            middles.append(middle)
    return np.array(a), np.array(around), np.array(middles)


@nb.njit(cache=True, nogil=True)
def _add_row(near, first, starts, stops, values, row, label, before, after, step):  # type: ignore[no-untyped-def]
    """Adds `step` to the columns within reach of each run of a label in a row."""
    for run in range(first[row], first[row + 1]):
        if values[run] == label:
            within = near[max(starts[run] - before, 0) : stops[run] + after]
            for i in range(len(within)):
                within[i] += step


@nb.njit(cache=True, nogil=True)
def _medians(keys, depths, counts, slots):  # type: ignore[no-untyped-def]
    """Keys that occur `MIN_PIXELS` times or more, with the median of the depths that have each.

    Args:
        keys: `(m,)`; depths: `(m,)` float32.
        counts, slots: int64 zeros, one a key there may be, scratch; zeros again afterwards.
    """
    seen, n = np.empty(len(counts), np.int64), 0
    for key in keys:
        seen[n] = key
        n += counts[key] == 0
        counts[key] += 1
    total = 0
    for key in seen[:n]:
        slots[key] = total
        total += counts[key]
    values = np.empty(total, np.float32)
    for i in range(len(keys)):
        values[slots[keys[i]]] = depths[i]
        slots[keys[i]] += 1
    found = [(np.int64(0), 0.0)][:0]
    for key in seen[:n]:
        count = counts[key]
        if count >= MIN_PIXELS:
            own = values[slots[key] - count : slots[key]]
            upper = _smallest(own, count // 2)
            lower = upper if count % 2 else own[: count // 2].max()
            found.append((key, (np.float64(lower) + np.float64(upper)) / 2))
        counts[key] = slots[key] = 0
    return found


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
