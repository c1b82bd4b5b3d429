"""Where patches are in a picture that was made from them: windows that look like them and that the mask surrounds.

The network predicts one mask for all patches together (Lee et al. 2018, section 3.3), not whose part is whose; asked
about each alone it says that too. Windows of a few sizes, and of a few shapes or that of the patch where it is known,
are compared with every patch; one window a patch is then chosen for all of them jointly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ...storage.images import Photograph
from ...storage.layouts import Box

AREAS = (0.05, 0.08, 0.125, 0.2)
"""Shares of the picture that windows cover: key patches have 5 to 25 % (section 4)."""
SHAPES = (0.4, 0.63, 1.0, 1.6, 2.5)
"""Height by width of windows."""
FINER_AREAS = (0.05, 0.065, 0.085, 0.11, 0.145, 0.19, 0.25)
"""Areas of windows where the shape of a patch is known, so that there are fewer windows in all."""
ELSEWHERE = -1e3
"""Score of a window that has not the shape of a patch: less than the best of all others can make up for."""
RING = 2
"""Pixels around a window that are compared with what is inside it."""
LOOKED_AT = 400
"""Windows of highest score of each patch, of which those are kept that are not nearly another."""
KEPT = 24
"""Windows that are looked at for each patch."""
APART = 0.5
"""Intersection over union above which the weaker of two windows is the same one, for one patch."""
OVERLAP = 0.3
"""Intersection over union that the windows of two patches may have, as those of key patches."""
LARGEST = 4
"""Sides of the picture that a patch is averaged to, at most, before it is compared with every window."""
FLAT = 1.0
"""Standard deviation, levels of 0..255, below which pixels have no pattern to compare."""

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int]
"""Height and width of a window, pixels."""
Scores = dict[Shape, Floats]
"""Of windows of each shape, `(rows, cols)` of their corners."""


class PlacedPatch(NamedTuple):
    """Where a patch is.

    Attributes:
        box: `(top, left, bottom, right)`, half-open, pixels of the picture.
        score: correlation of the patch with the picture there, -1..1, plus how much more of the mask is inside than
            around, -1..1.
    """

    box: Box
    score: float


def place_patches(
    image: Photograph,
    mask: npt.NDArray[np.floating],
    patches: Sequence[Photograph],
    aspects: Sequence[float] | None = None,
) -> list[PlacedPatch]:
    """The place of each patch in a picture.

    Args:
        image: `(R, R, 3)` uint8 RGB, R at least 16.
        mask: `(R, R)` in 0..1, where patches are, or `(n, R, R)`, where each is; all of one value where nothing is
            known, which then says nothing.
        patches: `(h, w, 3)` uint8 RGB, of any size; they are stretched to each window.
        aspects: height by width of each, in the picture, where that is known: windows have it then.

    Returns:
        one a patch, in their order. No two overlap by more than `OVERLAP`, as long as there are other windows.
    """
    if not len(patches):
        return []
    rows, cols = image.shape[:2]
    shaped = [_shapes(rows, cols, None if aspects is None else aspects[k]) for k in range(len(patches))]
    masks = mask if mask.ndim == 3 else np.broadcast_to(mask, (len(patches), rows, cols))
    scored: list[Scores] = []
    for patch, own, shapes in zip(patches, masks, shaped, strict=True):
        small, contrasts = _no_larger(patch, LARGEST * rows, LARGEST * cols), _contrasts(own, shapes)
        scored.append({at: _likeness(image, small, at) + each for at, each in zip(shapes, contrasts, strict=True)})
    boxes = np.array(list(dict.fromkeys(box for each in scored for box in _best(each))), np.int64)
    scores = np.array([[_at(each, box) for box in boxes.tolist()] for each in scored])
    chosen = _assigned(scores, boxes)
    return [PlacedPatch(_box(boxes[column]), float(scores[row, column])) for row, column in enumerate(chosen)]


def box_overlaps(boxes: npt.NDArray[np.integer], others: npt.NDArray[np.integer]) -> Floats:
    """`(n, m)` intersection over union of `(n, 4)` and `(m, 4)` boxes of positive area."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.maximum(high - low, 0).prod(axis=2).astype(np.float64)
    areas, others_areas = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others))
    found: Floats = both / (areas[:, None] + others_areas[None] - both)
    return found


def _shapes(rows: int, cols: int, aspect: float | None = None) -> list[Shape]:
    """Heights and widths of windows of a picture, all of one height by width where that is given."""
    found = []
    for area in AREAS if aspect is None else FINER_AREAS:
        for shape in SHAPES if aspect is None else (aspect,):
            height, width = round(rows * (area * shape) ** 0.5), round(cols * (area / shape) ** 0.5)
            found.append((min(max(height, 2), rows), min(max(width, 2), cols)))
    return list(dict.fromkeys(found))


def _no_larger(patch: Photograph, rows: int, cols: int) -> Photograph:
    """A patch, or its averages where a side has more pixels than that."""
    height, width = min(patch.shape[0], rows), min(patch.shape[1], cols)
    if patch.shape[:2] == (height, width):
        return patch
    found: Photograph = cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA)
    return found


def _likeness(image: Photograph, patch: Photograph, shape: Shape) -> Floats:
    """Normalised correlation of a patch with every window of that shape, `(rows, cols)` of its corners, -1..1.

    Where patch or window has no pattern it is 0.
    """
    height, width = shape
    shrinks = patch.shape[0] >= height and patch.shape[1] >= width
    small = cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if small.reshape(-1, 3).std(axis=0).max() < FLAT:
        return np.zeros((image.shape[0] - height + 1, image.shape[1] - width + 1))
    found = np.asarray(cv2.matchTemplate(image, small, cv2.TM_CCOEFF_NORMED), np.float64)
    found[~np.isfinite(found) | (np.abs(found) > 1.001)] = 0  # of windows without a pattern
    return found


def _contrasts(mask: npt.NDArray[np.floating], shapes: Sequence[Shape]) -> list[Floats]:
    """By the corner of every window of each shape, the mean of the mask inside less that of the ring around it."""
    if np.ptp(mask) == 0:
        return [np.zeros((mask.shape[0] - height + 1, mask.shape[1] - width + 1)) for height, width in shapes]
    inside = _summed(np.asarray(mask, np.float64))
    padded, there = (_summed(np.pad(each.astype(np.float64), RING)) for each in (mask, np.ones_like(mask)))
    found = []
    for height, width in shapes:
        wide = height + 2 * RING, width + 2 * RING
        own, area = _windows(inside, (height, width)), height * width
        around, n_around = _windows(padded, wide) - own, _windows(there, wide) - area
        found.append(own / area - around / np.maximum(n_around, 1))
    return found


def _summed(values: Floats) -> Floats:
    """`(rows + 1, cols + 1)`: sums of all that is above and to the left."""
    found: Floats = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return found


def _windows(total: Floats, shape: Shape) -> Floats:
    """The sum of every window of that shape, of what `_summed` gives."""
    height, width = shape
    below, above = total[height:], total[:-height]
    found: Floats = below[:, width:] - below[:, :-width] - above[:, width:] + above[:, :-width]
    return found


def _best(scored: Scores) -> list[Box]:
    """The windows of highest score among those beside which none is better, none of which is nearly another."""
    peaks = [np.nonzero(each == cv2.dilate(each, np.ones((3, 3), np.uint8))) for each in scored.values()]
    values = np.concatenate([each[peak] for each, peak in zip(scored.values(), peaks, strict=True)])
    boxes = np.concatenate([_boxes(peak[0], peak[1], shape) for peak, shape in zip(peaks, scored, strict=True)])
    left = np.argsort(-values, kind="stable")[:LOOKED_AT]
    found: list[Box] = []
    while len(left) and len(found) < KEPT:
        first, left = left[0], left[1:]
        found.append(_box(boxes[first]))
        left = left[box_overlaps(boxes[first][None], boxes[left])[0] <= APART]
    return found


def _boxes(tops: npt.NDArray[np.int64], lefts: npt.NDArray[np.int64], shape: Shape) -> npt.NDArray[np.int64]:
    """`(n, 4)` windows of that shape by their corners."""
    return np.stack([tops, lefts, tops + shape[0], lefts + shape[1]], axis=1)


def _at(scored: Scores, box: Sequence[int]) -> float:
    top, left, bottom, right = box
    own = scored.get((bottom - top, right - left))
    return ELSEWHERE if own is None else float(own[top, left])


def _assigned(scores: Floats, boxes: npt.NDArray[np.int64]) -> list[int]:
    """A window for each patch, of the highest sum; of two that overlap too much, the weaker patch looks elsewhere."""
    from scipy.optimize import linear_sum_assignment

    allowed, near = scores.copy(), box_overlaps(boxes, boxes) > OVERLAP
    barred = float(np.abs(scores).max()) * 2 * len(scores) + 1
    while True:
        rows, chosen = linear_sum_assignment(-allowed)
        held = allowed[rows, chosen]
        clashes = [
            (min((float(held[i]), i), (float(held[j]), j))[1])
            for i in range(len(chosen))
            for j in range(i)
            if near[chosen[i], chosen[j]] and min(held[i], held[j]) > -barred
        ]
        if not clashes:
            return [int(column) for column in chosen]
        allowed[clashes[0], chosen[clashes[0]]] = -2 * barred


def _box(sides: npt.NDArray[np.int64]) -> Box:
    top, left, bottom, right = (int(side) for side in sides)
    return top, left, bottom, right
