"""A layout made ready for search: its components in the frame, its classes as bit planes, its masks as bit tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.classes import VOID, Layout
from ..storage.footprints import (
    TILE,
    TiledRegions,
    context_areas,
    region_map,
    tile_regions,
    void_free_sums,
)
from ..storage.layouts import FramedLayout, Geometry, context_boxes, frame_layout
from .scoring import QueryArrays
from .signatures import ALIGNED, coarse_sums


@dataclass(frozen=True)
class Query:
    """A layout's components and their arrays.

    Attributes:
        layout: `(H, W)` uint16 as it came; framed: its components.
        searched: `(q,)` int64, which components are large enough, in their order.
        class_ids: `(q,)` uint16.
        arrays: what the kernels read.
    """

    layout: Layout
    framed: FramedLayout
    searched: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.uint16]
    arrays: QueryArrays

    def only(self, q: int) -> Query:
        """One of the components alone, in the same layout."""
        one = slice(q, q + 1)
        own = {name: getattr(self.arrays, name)[one] for name in _BY_COMPONENT}
        return replace(
            self, searched=self.searched[one], class_ids=self.class_ids[one], arrays=self.arrays._replace(**own)
        )


_BY_COMPONENT = ("class_id", "box", "area", "context_area", "mask_start", "sums_start")


def make_query(
    layout: Layout, geometry: Geometry, thin: npt.NDArray[np.bool_], framed: FramedLayout | None = None
) -> Query:
    """Cuts a layout of any size into components and tiles.

    Args:
        layout: `(H, W)` uint16 of the bank's class ids, `VOID` where there is none.
        geometry: of the bank; thin: `(65536,)` bool by class id.
        framed: the layout's components, where they are not its connected regions.
    """
    framed = framed or frame_layout(layout, geometry, thin)
    stored = framed.stored
    regions, region_class = region_map(framed.labels, framed.components.class_ids, stored)
    tiled = tile_regions(regions, region_class)
    boxes, sums = framed.boxes[stored], void_free_sums(regions)
    present = np.unique(region_class[1:])
    plane_of, planes, counts = _class_planes(tiled, regions, present)
    start, bits, mask_counts = _mask_tiles(tiled, regions, boxes)
    return Query(
        layout,
        framed,
        np.flatnonzero(stored),
        framed.components.class_ids[stored],
        QueryArrays(
            plane_of,
            planes,
            counts,
            sums,
            framed.components.class_ids[stored],
            boxes.astype(np.int64),
            framed.areas[stored],
            context_areas(sums, context_boxes(boxes, geometry.frame)).astype(np.int64),
            start,
            bits,
            mask_counts,
            *_mask_sums(regions, boxes),
            *_class_sums(planes),
        ),
    )


def _class_planes(
    tiled: TiledRegions, regions: npt.NDArray[np.uint32], present: npt.NDArray[np.uint16]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    plane_of = np.full(VOID + 1, -1, np.int32)
    plane_of[present] = np.arange(len(present))
    planes = np.zeros((len(present), *tiled.tiles.shape), np.uint64)
    _fill_planes(*_arrays(tiled), regions.shape, plane_of[tiled.region_class], planes)
    return plane_of, planes, np.bitwise_count(planes)


def _mask_tiles(
    tiled: TiledRegions, regions: npt.NDArray[np.uint32], boxes: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    tile_boxes = np.concatenate([boxes[:, :2] // TILE, -(-boxes[:, 2:] // TILE)], axis=1).astype(np.int64)
    sizes = (tile_boxes[:, 2:] - tile_boxes[:, :2]).prod(axis=1)
    ends = np.cumsum(sizes, dtype=np.int64)
    start = ends - sizes
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint64)
    _fill_masks(*_arrays(tiled), regions.shape, tile_boxes, start, bits)
    return start, bits, np.bitwise_count(bits)


def _mask_sums(
    regions: npt.NDArray[np.uint32], boxes: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    sizes = (boxes[:, 2:] - boxes[:, :2] + 1).astype(np.int64).prod(axis=1)
    ends = np.cumsum(sizes, dtype=np.int64)
    start = ends - sizes
    sums = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
    _fill_mask_sums(regions, boxes, start, sums)
    return start, sums


def _class_sums(planes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    rows, cols = (side * TILE // ALIGNED + 1 for side in planes.shape[1:])
    sums = np.zeros((len(planes), rows, cols), np.int32)
    coarse_sums(planes, sums)
    return sums, sums.sum(axis=0, dtype=np.int32)


def _arrays(tiled: TiledRegions) -> tuple[npt.NDArray[Any], ...]:
    return tiled.tiles, tiled.row_start, tiled.mixed_start, tiled.entry_region, tiled.entry_bits


@nb.njit(cache=True, nogil=True)
def _tile_bits(row, col, rows, cols):  # type: ignore[no-untyped-def]
    """The bits of a tile that lie inside the frame."""
    bits = np.uint64(0)
    for y in range(min(TILE, rows - row * TILE)):
        for x in range(min(TILE, cols - col * TILE)):
            bits |= np.uint64(1) << np.uint64(TILE * y + x)
    return bits


@nb.njit(cache=True, nogil=True)
def _fill_planes(tiles, row_start, mixed_start, entry_region, entry_bits, shape, plane_of_region, planes):  # type: ignore[no-untyped-def]
    mixed = np.uint32(0xFFFFFFFF)
    for row in range(tiles.shape[0]):
        number = np.int64(row_start[row])
        for col in range(tiles.shape[1]):
            region = tiles[row, col]
            if region == mixed:
                for entry in range(mixed_start[number], mixed_start[number + 1]):
                    planes[plane_of_region[entry_region[entry]], row, col] |= entry_bits[entry]
                number += 1
            elif region > 0:
                planes[plane_of_region[region], row, col] = _tile_bits(row, col, shape[0], shape[1])


@nb.njit(cache=True, nogil=True)
def _fill_masks(tiles, row_start, mixed_start, entry_region, entry_bits, shape, tile_boxes, start, bits):  # type: ignore[no-untyped-def]
    """Components 1..q: each region's bits into the tiles of its own box."""
    mixed = np.uint32(0xFFFFFFFF)
    for row in range(tiles.shape[0]):
        number = np.int64(row_start[row])
        for col in range(tiles.shape[1]):
            region = tiles[row, col]
            if region == mixed:
                for entry in range(mixed_start[number], mixed_start[number + 1]):
                    q = np.int64(entry_region[entry]) - 1
                    if q < len(start):
                        bits[_at(tile_boxes, start, q, row, col)] = entry_bits[entry]
                number += 1
            elif 0 < region <= len(start):
                q = np.int64(region) - 1
                bits[_at(tile_boxes, start, q, row, col)] = _tile_bits(row, col, shape[0], shape[1])


@nb.njit(cache=True, nogil=True)
def _at(tile_boxes, start, q, row, col):  # type: ignore[no-untyped-def]
    width = tile_boxes[q, 3] - tile_boxes[q, 1]
    return start[q] + (row - tile_boxes[q, 0]) * width + col - tile_boxes[q, 1]


@nb.njit(cache=True, nogil=True)
def _fill_mask_sums(regions, boxes, start, sums):  # type: ignore[no-untyped-def]
    """Summed-area tables of each component inside its own box, one after the other."""
    for q in range(len(boxes)):
        top, left, bottom, right = boxes[q, 0], boxes[q, 1], boxes[q, 2], boxes[q, 3]
        stride, at = right - left + 1, start[q]
        sums[at : at + stride] = 0
        for row in range(top, bottom):
            count = np.int32(0)
            sums[at + stride] = 0
            for col in range(left, right):
                count += regions[row, col] == q + 1
                sums[at + stride + 1 + col - left] = sums[at + 1 + col - left] + count
            at += stride
