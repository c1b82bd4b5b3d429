"""Fitting a retrieved segment to the component it shall cover, and warping its pixels there (SIMS, section 4.3).

Coordinates are continuous: the pixel in row i and column j covers [j, j + 1) x [i, i + 1), points are (x, y).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.images import Photograph
from ..storage.layouts import Box

Mask = npt.NDArray[np.bool_]
Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Two rows of a 2x3 matrix: (x, y, 1) in the segment's crop to (x, y) on the canvas, both in pixels."""

COVERED = 0.5 - 1e-5
"""Share of a canvas pixel a warped mask must cover to own it: a half, with room for rounding."""

WHOLE = 1e-6
"""Pixels by which a place may miss whole pixels, from relative coordinates, and still count as whole."""


@dataclass(frozen=True, eq=False)
class Target:
    """The component to cover: its `box` on the canvas and its `(h, w)` bool `mask`, cropped to that box."""

    box: Box
    mask: Mask


@dataclass(frozen=True)
class Origin:
    """Where a segment's pixels come from: what the provenance lists.

    Attributes:
        source: name of the photograph in its data set.
        dataset: the data set's kind, such as `nyu`.
        image: file of the photograph, relative to `root`.
        licence: of the data set, `None` where unknown.
        root: folder of the data set when the bank was built.
    """

    source: str
    dataset: str
    image: str
    licence: str | None = None
    root: str | None = None


@dataclass(frozen=True, eq=False)
class Piece:
    """One retrieved segment and the component it shall cover.

    Attributes:
        segment_id: 63-bit id in the bank.
        class_id, class_name: of the segment (and of the component).
        pixels: `(h, w, 3)` uint8 RGB, the segment's crop at its source's own resolution. What it holds outside the
            mask is never used.
        mask: `(h, w)` bool.
        place: the crop's box in its source as shares of the source's size: top / H, left / W, bottom / H, right / W.
        target: the component, at the canvas's resolution.
        origin: the photograph.
    """

    segment_id: int
    class_id: int
    class_name: str
    pixels: Photograph
    mask: Mask
    place: tuple[float, float, float, float]
    target: Target
    origin: Origin


@dataclass(frozen=True)
class Transform:
    """An affine map from a segment's crop to the canvas, and where it comes from: `identity`, `box`, ..."""

    name: str
    matrix: Affine


class Warped(NamedTuple):
    """A segment on the canvas: clipped `box`, `(h, w, 3)` uint8 RGB `pixels` (zero outside), `(h, w)` bool `mask`."""

    box: Box
    pixels: Photograph
    mask: Mask


def identity(piece: Piece, size: tuple[int, int]) -> Transform:
    """The segment at its own relative place, scaled as its photograph is to a canvas of `(rows, cols)`."""
    top, left, bottom, right = piece.place
    return Transform("identity", _onto(piece, (top * size[0], left * size[1], bottom * size[0], right * size[1])))


def box_fit(piece: Piece) -> Transform:
    """Scale and shift of the segment's box onto the component's box."""
    return Transform("box", _onto(piece, piece.target.box))


def fit(piece: Piece, size: tuple[int, int]) -> Transform:
    """The box fit where it raises the overlap with the component, else identity.

    The rejection test is that of the SIMS code: a warp that does not increase the overlap is discarded.
    """
    return fit_and_overlap(piece, size)[0]


def fit_and_overlap(piece: Piece, size: tuple[int, int]) -> tuple[Transform, float]:
    """What `fit` says, and how much of the component that covers, as `overlap` says."""
    stay, fitted = identity(piece, size), box_fit(piece)
    before, after = overlap(piece, stay, size), overlap(piece, fitted, size)
    return (fitted, after) if after > before else (stay, before)


def overlap(piece: Piece, transform: Transform, size: tuple[int, int]) -> float:
    """Intersection over union of a piece's warped mask and its component, in canvas pixels."""
    return mask_iou(piece, *warp_mask(piece, transform, size))


def warp(piece: Piece, transform: Transform, size: tuple[int, int]) -> Warped:
    """A segment's pixels and mask on a canvas of `(rows, cols)`, clipped to it.

    Shrinking averages exactly over the area of each canvas pixel, enlarging interpolates (Catmull-Rom), each axis on
    its own; rotation and shear follow by bilinear interpolation. Colours are weighted by the mask, so none enter
    from outside it. The mask owns the canvas pixels of which it covers (enlarged: interpolates to) at least
    half. At unit scale and a whole-pixel place the bytes are unchanged.
    """
    box = _clipped_box(piece, transform, size)
    shift = _whole_shift(transform)
    if shift is not None:
        rows = slice(box[0] - shift[0], box[2] - shift[0])
        cols = slice(box[1] - shift[1], box[3] - shift[1])
        mask = piece.mask[rows, cols]
        return Warped(box, piece.pixels[rows, cols] * mask[..., None], mask)
    stack = np.empty((*piece.mask.shape, 4), np.float32)
    stack[..., 3] = piece.mask
    np.multiply(piece.pixels, piece.mask[..., None], out=stack[..., :3], casting="unsafe")
    stack = _moved(stack, transform, box)
    mask = stack[..., 3] >= COVERED
    weight = np.where(mask, stack[..., 3], np.float32(np.inf))
    colours = np.rint(stack[..., :3] / weight[..., None])
    return Warped(box, np.clip(colours, 0, 255).astype(np.uint8), mask)


def warp_mask(piece: Piece, transform: Transform, size: tuple[int, int]) -> tuple[Box, Mask]:
    """Box and mask of what `warp` returns, without looking at the pixels."""
    box = _clipped_box(piece, transform, size)
    (a, b, x), (c, d, y) = transform.matrix
    if b == 0 and c == 0 and 0 < a < 1 and 0 < d < 1:
        return box, _covered(piece.mask, (d, a), (y, x), box) >= COVERED
    return box, _moved(piece.mask[..., None].astype(np.float32), transform, box)[..., 0] >= COVERED


def mask_iou(piece: Piece, box: Box, mask: Mask) -> float:
    """Intersection over union of a warped mask in its box and the piece's component, in canvas pixels."""
    window, own, its = common(box, piece.target.box)
    common_pixels = np.count_nonzero(mask[own] & piece.target.mask[its]) if window else 0
    union = np.count_nonzero(mask) + np.count_nonzero(piece.target.mask) - common_pixels
    return common_pixels / union if union else 0.0


def common(a: Box, b: Box) -> tuple[bool, tuple[slice, slice], tuple[slice, slice]]:
    """Whether two boxes meet, and the slices of their intersection in arrays cropped to `a` and to `b`."""
    top, left, bottom, right = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    if top >= bottom or left >= right:
        return False, (slice(0), slice(0)), (slice(0), slice(0))
    in_a = slice(top - a[0], bottom - a[0]), slice(left - a[1], right - a[1])
    in_b = slice(top - b[0], bottom - b[0]), slice(left - b[1], right - b[1])
    return True, in_a, in_b


def _covered(mask: Mask, scale: tuple[float, float], shift: tuple[float, float], box: Box) -> npt.NDArray[np.float64]:
    """The share of each canvas pixel of `box` that a mask covers which is shrunk and shifted along its axes.

    A summed-area table, interpolated at the pixels' edges, holds all areas: the averages of `_moved` in half
    the time where segments are small, as most are.
    """
    sums: npt.NDArray[np.int32] = cv2.integral(np.ascontiguousarray(mask).view(np.uint8))
    row, below = _cut(box[0], box[2], scale[0], shift[0], mask.shape[0])
    col, beyond = _cut(box[1], box[3], scale[1], shift[1], mask.shape[1])
    strips = np.diff(sums[row] + below[:, None] * (sums[row + 1] - sums[row]), axis=0)
    left = strips[:, col]
    shares: npt.NDArray[np.float64] = np.diff(left + beyond * (strips[:, col + 1] - left), axis=1)
    return shares * (scale[0] * scale[1])


def _cut(
    start: int, stop: int, scale: float, shift: float, n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Where the edges of output pixels start..stop cut `n` input pixels: which, and how much of it lies before."""
    edges = np.clip((np.arange(start, stop + 1) - shift) / scale, 0, n)
    cut = np.minimum(edges.astype(np.int64), n - 1)
    return cut, edges - cut


def _onto(piece: Piece, box: tuple[float, float, float, float]) -> Affine:
    top, left, bottom, right = box
    rows, cols = piece.mask.shape
    return ((right - left) / cols, 0.0, float(left)), (0.0, (bottom - top) / rows, float(top))


def _whole_shift(transform: Transform) -> tuple[int, int] | None:
    """`(rows, cols)` of a transform that only shifts by whole pixels."""
    (a, b, x), (c, d, y) = transform.matrix
    shift = round(y), round(x)
    misses = (a - 1, b, c, d - 1, y - shift[0], x - shift[1])
    # a scale so near 1 moves the far end of no crop by a visible share of a pixel
    return shift if max(map(abs, misses)) < WHOLE else None


def _clipped_box(piece: Piece, transform: Transform, size: tuple[int, int]) -> Box:
    """The canvas pixels the transformed crop can touch; empty where it lies outside."""
    (a, b, x), (c, d, y) = transform.matrix
    rows, cols = piece.mask.shape
    xs = [a * u + b * v + x for u in (0, cols) for v in (0, rows)]
    ys = [c * u + d * v + y for u in (0, cols) for v in (0, rows)]
    top, left = max(math.floor(min(ys) + WHOLE), 0), max(math.floor(min(xs) + WHOLE), 0)
    bottom, right = min(math.ceil(max(ys) - WHOLE), size[0]), min(math.ceil(max(xs) - WHOLE), size[1])
    return (top, left, bottom, right) if top < bottom and left < right else (0, 0, 0, 0)


def _moved(stack: npt.NDArray[np.float32], transform: Transform, box: Box) -> npt.NDArray[np.float32]:
    """`(h, w, c)` float32 of the crop, zero outside it, as it falls on the canvas pixels of `box`."""
    (a, b, x), (c, d, y) = transform.matrix
    if box[2] <= box[0]:  # nothing of it falls on the canvas
        return np.zeros((0, 0, stack.shape[2]), np.float32)
    if b == 0 and c == 0 and a > 0 and d > 0:
        return _resampled(stack, (d, a), (y, x), box)
    # shrink along the crop's axes first, so that the interpolation below never skips a pixel
    rows, cols = stack.shape[:2]
    sx, sy = min(math.hypot(a, c), 1.0), min(math.hypot(b, d), 1.0)
    stack = _resampled(stack, (sy, sx), (0.0, 0.0), (0, 0, math.ceil(rows * sy), math.ceil(cols * sx)))
    linear = np.array([[a / sx, b / sy], [c / sx, d / sy]])
    # OpenCV puts whole coordinates at pixel centres
    offset = linear @ (0.5, 0.5) + (x - box[1] - 0.5, y - box[0] - 0.5)
    matrix = np.column_stack([linear, offset])
    moved = cv2.warpAffine(stack, matrix, (box[3] - box[1], box[2] - box[0]), flags=cv2.INTER_LINEAR)
    moved = moved.reshape(box[2] - box[0], box[3] - box[1], -1)
    return np.asarray(moved, np.float32)


def _resampled(
    stack: npt.NDArray[np.float32], scale: tuple[float, float], shift: tuple[float, float], box: Box
) -> npt.NDArray[np.float32]:
    """The crop scaled and shifted along its axes, one axis after the other."""
    rows, cols, channels = stack.shape
    down = _along(stack.reshape(rows, -1), scale[0], shift[0], box[0], box[2]).reshape(-1, cols, channels)
    turned = np.ascontiguousarray(down.transpose(1, 0, 2)).reshape(cols, -1)
    across = _along(turned, scale[1], shift[1], box[1], box[3])
    return across.reshape(box[3] - box[1], box[2] - box[0], channels).transpose(1, 0, 2)


def _along(
    lines: npt.NDArray[np.float32], scale: float, shift: float, start: int, stop: int
) -> npt.NDArray[np.float32]:
    """`(n, m)` to `(stop - start, m)`: output pixels start..stop of lines scaled and shifted along axis 0."""
    made = np.zeros((stop - start, lines.shape[1]), np.float32)
    if scale < 1:
        _averaged(np.ascontiguousarray(lines), scale, shift, start, made)
    else:
        _interpolated(np.ascontiguousarray(lines), scale, shift, start, made)
    return made


@nb.njit(cache=True, nogil=True)
def _averaged(lines, scale, shift, start, made):  # type: ignore[no-untyped-def]  # pragma: no cover - numba compiles it
    """Each output pixel is the average over the inputs that it covers; beyond the inputs there is nothing.

    Written for one thread and for no allocation: segments are small, and there are forty in a canvas.
    """
    n, columns = lines.shape
    taps = math.ceil(1 / scale) + 1
    for row in range(made.shape[0]):
        edge = (start + row - shift) / scale
        first = math.floor(edge + WHOLE)
        for tap in range(first, first + taps):
            share = np.float32(max(min(tap + 1.0, edge + 1 / scale) - max(float(tap), edge), 0.0) * scale)
            if 0 <= tap < n and share > 0:
                for column in range(columns):
                    made[row, column] += share * lines[tap, column]


@nb.njit(cache=True, nogil=True)
def _interpolated(lines, scale, shift, start, made):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Catmull-Rom at the output pixels' centres.

    The outermost inputs go on beyond the crop, which keeps its corners; pixels centred out there get none.
    """
    n, columns = lines.shape
    for row in range(made.shape[0]):
        centre = (start + row - shift) / scale + 0.5 / scale
        if centre < -WHOLE or centre > n + WHOLE:
            continue
        first = math.floor(centre - 0.5)
        t = centre - 0.5 - first
        weights = (
            ((2 - t) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((4 - 3 * t) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        )
        for tap in range(4):
            weight = np.float32(weights[tap])
            line = min(max(first - 1 + tap, 0), n - 1)
            for column in range(columns):
                made[row, column] += weight * lines[line, column]
