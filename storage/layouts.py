"""Layouts: reading label maps, sampling them to the frame, cutting them into components.

One code for the bank's sources and for queries, so that both are treated alike (score, sections 1 to 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .classes import VOID, Colour, Layout
from .cutting import (
    connect_runs,
    find_runs,
    look_up_counted,
    measure_runs,
    number_runs,
    paint_runs,
    sample_pixels,
    sample_runs,
)
from .errors import SourceError, sentence

Box = tuple[int, int, int, int]
"""`(top, left, bottom, right)`, half-open, pixels."""

Labels = npt.NDArray[np.uint32]
"""`(H, W)` uint32: 0 is void, 1..n the components."""

Runs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.uint32]]
"""The runs of such a map, `(first, starts, stops, labels)`, see `cutting`; void has none."""

BORDER_REACH = 0.02
"""Of the rows of a layout: how far apart components may be and still lie side by side."""


def labels_to_layout(
    labels: npt.NDArray[np.integer],
    name: str | Path,
    *,
    known: npt.NDArray[np.bool_],
    void: frozenset[int],
    palette: Mapping[Colour, int] | None = None,
) -> Layout:
    """A decoded label map as a layout of native ids, `VOID` where the data set says nothing.

    Args:
        labels: `(H, W)` integer indices, or `(H, W, 3)` uint8 RGB.
        name: the file, for messages.
        known: `(65536,)` bool, True for the ids the class list holds.
        void: native ids that mean void.
        palette: RGB to native id, for RGB label maps.

    Raises:
        SourceError: `rgb-without-palette`, `unknown-colour` or `unknown-id`; `unreadable-label` for other arrays.
    """
    if labels.dtype.kind not in "uib" or labels.ndim not in (2, 3) or labels.shape[2:] not in ((), (3,)):
        raise SourceError(
            "unreadable-label",
            sentence(
                name,
                expected="class indices or RGB",
                found=f"an array of shape {labels.shape} of {labels.dtype}",
                fix="save it as an 8- or 16-bit index PNG",
            ),
        )
    if labels.ndim == 3:
        labels = _indexed(labels, name, palette)
    narrow = labels.dtype in (np.uint8, np.uint16)  # holds nothing else
    low, high = (0, 0) if narrow else (int(labels.min(initial=0)), int(labels.max(initial=0)))
    if low < 0 or high > VOID:
        fix = "save class indices, not other numbers"
        said = sentence(name, expected=f"class ids in 0..{VOID}", found=f"ids from {low} to {high}", fix=fix)
        raise SourceError("unknown-id", said)
    indices = np.ascontiguousarray(labels if narrow else labels.astype(np.uint16))
    counts = np.zeros(np.iinfo(indices.dtype).max + 1, np.int64)
    layout: Layout = look_up_counted(_voided(void), indices, counts)
    counts[[native for native in (*void, VOID) if native < len(counts)]] = 0
    strange = np.flatnonzero((counts > 0) & ~known[: len(counts)])
    if strange.size:
        listed = ", ".join(f"{id} ({counts[id]} pixels)" for id in strange[:5])
        more = f" and {strange.size - 5} more" if strange.size > 5 else ""
        found, fix = f"unknown ids {listed}{more}", "add them to the class list or correct the label map"
        raise SourceError("unknown-id", sentence(name, expected="only ids of the class list", found=found, fix=fix))
    return layout


def sample_to_frame(image: npt.NDArray[np.generic], frame: tuple[int, int]) -> npt.NDArray[np.generic]:
    """An `(H, W, ...)` array at the frame's `(rows, cols)`, each axis by `cv2.INTER_NEAREST_EXACT`."""
    if image.shape[:2] == frame:
        return image
    rows, cols = nearest_exact(image.shape[0], frame[0]), nearest_exact(image.shape[1], frame[1])
    sampled: npt.NDArray[np.generic] = (
        sample_pixels(image, rows, cols) if image.ndim == 2 else image[np.ix_(rows, cols)]
    )
    return sampled


@lru_cache(maxsize=256)
def nearest_exact(size: int, target: int) -> npt.NDArray[np.intp]:
    """`(target,)`, the pixel that each one along an axis is taken from, as `cv2.INTER_NEAREST_EXACT` does."""
    ramp = np.arange(size, dtype=np.float64).reshape(-1, 1)
    sampled: npt.NDArray[np.float64] = cv2.resize(ramp, (1, target), interpolation=cv2.INTER_NEAREST_EXACT)
    return sampled.ravel().astype(np.intp)


def border_reach(rows: int) -> int:
    """How many pixels apart components of a layout of so many rows may be, and still lie side by side.

    Over 1, because labellers leave thin gaps between things, and what a pole parts still meets the eye side by side.
    """
    return max(round(BORDER_REACH * rows), 2)


@dataclass(frozen=True)
class Components:
    """The components of a layout, in raster order of their first pixel.

    Attributes:
        runs: of the label map at the layout's own resolution; cols: its width W.
        class_ids: `(n,)` uint16.
        first_pixels: `(n,)` int64, the flat index of each component's first pixel in raster order.
    """

    runs: Runs
    cols: int
    class_ids: npt.NDArray[np.uint16]
    first_pixels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_ids)

    @cached_property
    def labels(self) -> Labels:
        """`(H, W)` uint32 at the layout's own resolution, 0 for void, component `i` marked `i + 1`."""
        labels: Labels = paint_runs(*self.runs, self.cols)
        return labels

    @cached_property
    def areas_and_boxes(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Pixel counts `(n,)` and tight boxes `(n, 4)` at the layout's own resolution."""
        areas, boxes = measure_runs(*self.runs, len(self))
        return areas, boxes


def find_components(layout: Layout, thin: npt.NDArray[np.bool_] | None = None) -> Components:
    """The maximal 8-connected regions of equal class, void excluded, in one multi-label pass.

    Args:
        layout: `(H, W)` uint16.
        thin: `(65536,)` bool by class id. Where given, structures of thin classes (pole, sign, light) do not
            cut the region behind them (SIMS, section 4.1 as published): thin pixels count as their nearest
            other class while regions are connected, and belong to their own class again afterwards. A region
            in which thin pixels match or outnumber its own is left cut.
    """
    first, starts, stops, values = find_runs(np.ascontiguousarray(layout), np.uint16(VOID))
    numbers, heads = connect_runs(first, starts, stops, values)
    cols = layout.shape[1]
    if thin is not None:
        plain = paint_runs(first, starts, stops, numbers, cols)
        first, starts, stops, values = find_runs(_joined_behind_thin(layout, plain, thin), np.uint32(0))
        numbers, heads = number_runs(values)
    row = np.searchsorted(first, heads, "right") - 1
    column = starts[heads]
    return Components((first, starts, stops, numbers), cols, layout[row, column], row * cols + column)


def areas_and_boxes(labels: Labels, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Pixel counts `(n,)` and tight boxes `(n, 4)` of the components 1..n of a label map; zeros where absent."""
    areas, boxes = measure_runs(*label_runs(labels), n)
    return areas, boxes


def label_runs(labels: Labels) -> Runs:
    """The runs of a label map."""
    first, starts, stops, values = find_runs(labels, np.uint32(0))
    return first, starts, stops, values


@dataclass(frozen=True)
class Geometry:
    """How layouts become components in the frame; fixed for a bank, the same for its queries.

    Attributes:
        frame: `(rows, cols)`, the working resolution at which footprints and contexts are compared.
        min_area: components under this many frame pixels are counted, not stored.
        join_thin: thin structures do not cut the region behind them (see `find_components`).
    """

    frame: tuple[int, int]
    min_area: int = 64
    join_thin: bool = False


@dataclass(frozen=True)
class FramedLayout:
    """A layout's components, at its own resolution and in the frame.

    Attributes:
        components: at the layout's own resolution.
        runs: of the label map in the frame; cols: the frame's width C.
        areas: `(n,)` int64 frame pixels; boxes: `(n, 4)` int32 in the frame, zeros where nothing is left.
        stored: `(n,)` bool, at least `min_area`.
    """

    components: Components
    runs: Runs
    cols: int
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int32]
    stored: npt.NDArray[np.bool_]

    @cached_property
    def labels(self) -> Labels:
        """`(R, C)` uint32 in the frame, 0 for void, component `i` marked `i + 1`."""
        labels: Labels = paint_runs(*self.runs, self.cols)
        return labels

    @property
    def layout_boxes(self) -> npt.NDArray[np.int32]:
        """`(n, 4)`, the boxes at the layout's own resolution."""
        return self.components.areas_and_boxes[1]


def frame_layout(layout: Layout, geometry: Geometry, thin: npt.NDArray[np.bool_]) -> FramedLayout:
    """Components of a layout of any size, sampled to the frame (score, sections 2 to 4)."""
    components = find_components(layout, thin if geometry.join_thin else None)
    rows = nearest_exact(layout.shape[0], geometry.frame[0])
    runs = sample_runs(*components.runs, rows, _taken_before(layout.shape[1], geometry.frame[1]))
    areas, boxes = measure_runs(*runs, len(components))
    stored = (areas >= geometry.min_area) & (areas > 0)
    return FramedLayout(components, runs, geometry.frame[1], areas, boxes, stored)


def context_box(box: Box, frame: tuple[int, int]) -> Box:
    """The box padded by 12.5 % on each side, rounded half up, clipped to the frame (score, section 5)."""
    top, left, bottom, right = box
    rows, cols = (bottom - top + 4) // 8, (right - left + 4) // 8
    return max(top - rows, 0), max(left - cols, 0), min(bottom + rows, frame[0]), min(right + cols, frame[1])


def context_boxes(boxes: npt.NDArray[np.int32], frame: tuple[int, int]) -> npt.NDArray[np.int32]:
    """`context_box` of many boxes, `(n, 4)` to `(n, 4)`."""
    pad = (boxes[:, 2:] - boxes[:, :2] + 4) // 8
    return np.concatenate(
        [np.maximum(boxes[:, :2] - pad, 0), np.minimum(boxes[:, 2:] + pad, np.array(frame, np.int32))], axis=1
    ).astype(np.int32)


@lru_cache(maxsize=256)
def _taken_before(size: int, target: int) -> npt.NDArray[np.intp]:
    """`(size + 1,)`, how many of the target's pixels are taken from those before each one."""
    return np.searchsorted(nearest_exact(size, target), np.arange(size + 1))


@lru_cache(maxsize=256)
def _voided(void: frozenset[int]) -> Layout:
    """`(65536,)`, every id as it is, but `VOID` for those that mean void."""
    table = np.arange(VOID + 1, dtype=np.uint16)
    table[list(void)] = VOID
    return table


def _indexed(
    colours: npt.NDArray[np.integer], name: str | Path, palette: Mapping[Colour, int] | None
) -> npt.NDArray[np.uint16]:
    """RGB to native ids by the palette; unknown colours are named with their count."""
    if not palette:
        raise SourceError(
            "rgb-without-palette",
            sentence(
                name,
                expected="class indices",
                found="an RGB picture and no palette",
                fix="give the data set a class file with colours, or save indices",
            ),
        )
    packed = colours.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    ids = np.array([palette.get(_unpacked(value), -1) for value in values])
    if (ids < 0).any():
        strange = sorted(zip(counts[ids < 0].tolist(), values[ids < 0].tolist(), strict=True), reverse=True)
        listed = ", ".join(f"{_unpacked(value)} ({count} pixels)" for count, value in strange[:5])
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise SourceError(
            "unknown-colour",
            sentence(
                name,
                expected="only colours of the palette",
                found=f"unknown colours {listed}{more}",
                fix="add them to the class file or correct the label map",
            ),
        )
    return ids.astype(np.uint16)[inverse].reshape(packed.shape)


def _unpacked(value: int) -> Colour:
    return int(value) >> 16, int(value) >> 8 & 255, int(value) & 255


def _joined_behind_thin(layout: Layout, plain: Labels, thin: npt.NDArray[np.bool_]) -> Labels:
    """Components of the layout with thin structures filled in, on the pixels that are not thin."""
    is_thin = thin[layout]
    others = ~is_thin & (layout != VOID)
    if not is_thin.any() or not others.any():
        return plain
    _, nearest = cv2.distanceTransformWithLabels(
        (~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    class_at = np.zeros(int(nearest.max()) + 1, np.uint16)
    class_at[nearest[others]] = layout[others]
    filled = np.where(is_thin, class_at[nearest], layout)
    first, starts, stops, values = find_runs(filled, np.uint16(VOID))
    joined = paint_runs(first, starts, stops, connect_runs(first, starts, stops, values)[0], layout.shape[1])
    own = np.bincount(joined[others], minlength=int(joined.max()) + 1)
    borrowed = np.bincount(joined[is_thin], minlength=own.size)
    whole = (borrowed < own)[joined] & others
    labels = plain.copy()
    labels[whole] = joined[whole] + np.uint32(plain.max(initial=0))
    return labels
