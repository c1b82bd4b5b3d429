"""Which of two touching segments of one photograph is in front, from depth or by an explicit rule.

After SIMS, section 4.4: the depths of two regions are compared where the regions meet, in a band around their
common boundary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.images import Depth
from ..storage.layouts import Labels

MIN_PIXELS = 10
"""Pixels of known depth that each side must have in the band."""
MIN_DIFFERENCE = 0.02
"""Relative difference of the medians under which nobody is in front."""

Rule = Literal["none", "ground"]
Origin = Literal["depth", "ground", "none"]


@dataclass(frozen=True)
class Ordering:
    """Two touching segments of different classes.

    Attributes:
        a, b: component indices, 0-based, `a < b`.
        front: `a` or `b`, `None` where that is unknown.
        margin: how clear it is, in 0..1. Of depth: the medians' difference over the larger one. Of the ground
            rule: how much lower the one in front reaches, as a share of the frame's rows; 1 where the other one
            is sky. `None` where nothing could be compared.
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
        depth: `(R, C)` float32 metres, 0 where unknown, sampled to the frame.
        rule: without depth: `ground` puts what reaches lower in the picture in front, and sky behind everything;
            `none` leaves all unknown.
        sky: `(n,)` bool, the components that are sky; none where absent.
    """
    side = band_side(labels.shape[0])
    pairs = [(a, b) for a, b in _touching(labels, boxes, stored, side) if class_ids[a] != class_ids[b]]
    if depth is not None:
        medians = _band_medians(labels, boxes, stored, depth, side)
        return [_by_depth(a, b, medians.get((a, b)), medians.get((b, a))) for a, b in pairs]
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
    labels: Labels, boxes: npt.NDArray[np.int32], stored: npt.NDArray[np.bool_], side: int
) -> list[tuple[int, int]]:
    """Pairs `(a, b)`, sorted, whose dilated footprints intersect: they have pixels under `side` apart on both axes."""
    takes_part = np.concatenate([[False], stored])
    pairs = []
    for b, window, around in _surroundings(labels, boxes, stored, side - 1, side - 1):
        counts = np.bincount(labels[window][around], minlength=len(takes_part))
        others = np.flatnonzero((counts > 0) & takes_part) - 1
        pairs += [(int(a), b) for a in others if a < b]
    return sorted(pairs)


def _band_medians(
    labels: Labels, boxes: npt.NDArray[np.int32], stored: npt.NDArray[np.bool_], depth: Depth, side: int
) -> dict[tuple[int, int], float]:
    """By `(a, b)`: median depth of `a`'s own pixels within the dilated `b`, where enough of them are known.

    A segment lies within its own dilation, so these are its pixels in the intersection of both dilations.
    """
    medians = {}
    known = (depth > 0) & np.concatenate([[False], stored])[labels]
    for b, window, around in _surroundings(labels, boxes, stored, side // 2, (side - 1) // 2):
        band = around & known[window]
        keys = labels[window][band].astype(np.uint64) << np.uint64(32)
        keys = np.sort(keys | depth[window][band].view(np.uint32))  # positive floats sort as their bits do
        owners, depths = (keys >> np.uint64(32)).astype(np.int64), keys.astype(np.uint32).view(np.float32)
        for start, stop in pairwise([*np.flatnonzero(np.diff(owners, prepend=0)), len(keys)]):
            if stop - start >= MIN_PIXELS:
                middle = float(depths[(start + stop - 1) // 2]), float(depths[(start + stop) // 2])
                medians[int(owners[start]) - 1, b] = sum(middle) / 2
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


def _by_depth(a: int, b: int, depth_a: float | None, depth_b: float | None) -> Ordering:
    if depth_a is None or depth_b is None:
        return Ordering(a, b, None, None, "depth")
    margin = abs(depth_a - depth_b) / max(depth_a, depth_b)
    front = None if margin < MIN_DIFFERENCE else a if depth_a < depth_b else b
    return Ordering(a, b, front, margin, "depth")


def _by_ground(a: int, b: int, bottoms: npt.NDArray[np.float64], sky: npt.NDArray[np.bool_]) -> Ordering:
    if sky[a] != sky[b]:
        return Ordering(a, b, b if sky[a] else a, 1.0, "ground")
    lower = float(bottoms[a] - bottoms[b])
    front = None if lower == 0 else a if lower > 0 else b
    return Ordering(a, b, front, abs(lower), "ground")
