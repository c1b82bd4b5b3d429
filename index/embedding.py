"""Vectors whose inner product is never below the score: rooted cell counts of masks and contexts, projected.

With `u = sqrt(pixels in each cell) / sqrt(area)`, the mask IoU of two footprints is at most `<u, u'>`, for any fixed
cells; the same holds for the context IoU with the pixels of each class in each cell over `sqrt(n)` (score, "Bounds
that are true"). A projection onto orthonormal directions, not centred, keeps the bound if the norm of what it loses
becomes one more dimension: `<x, x'> <= <y, y'> + |r| |r'|`. Both parts of a vector have norm 1, so whatever is left
out, even uncounted classes, is in that norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.classes import VOID
from ..storage.footprints import TILE, Footprints, frame_tiles
from .bounds import context_box
from .scoring import QueryArrays, bits_of_cols, bits_of_rows, mixed_before, popcount

Vectors = npt.NDArray[np.float32]

MASK_CELLS = (24, 32)
CONTEXT_CELLS = (6, 8)
"""Rows and columns of cells over the frame, at most; cells are whole tiles."""

_SLACK = 4e-6  # of a squared norm: above the rounding of float32 sums of a thousand terms


class Partition(NamedTuple):
    """The cells of a frame.

    Attributes:
        frame: `(rows, cols)` pixels.
        mask, context: `(TR, TC)` int32, tile to cell.
        mask_cells, context_cells: how many there are.
    """

    frame: tuple[int, int]
    mask: npt.NDArray[np.int32]
    context: npt.NDArray[np.int32]
    mask_cells: int
    context_cells: int


def partition(frame: tuple[int, int]) -> Partition:
    """The cells of a frame of `(rows, cols)` pixels: fine ones for masks, coarse ones for contexts."""
    mask, context = (_cells(frame_tiles(frame), most) for most in (MASK_CELLS, CONTEXT_CELLS))
    return Partition(frame, mask, context, int(mask[-1, -1]) + 1, int(context[-1, -1]) + 1)


def _cells(tiles: tuple[int, int], most: tuple[int, int]) -> npt.NDArray[np.int32]:
    row, col = (np.arange(n) // -(-n // limit) for n, limit in zip(tiles, most, strict=True))
    cells: npt.NDArray[np.int32] = (row[:, None] * (col[-1] + 1) + col).astype(np.int32)
    return cells


@dataclass(frozen=True)
class Projection:
    """Orthonormal directions for the vectors of a class, or of several.

    Attributes:
        classes: `(C,)` uint16, whose pixels are counted in contexts.
        matrix: `(mask_cells + C * context_cells, dim)` float32 with orthonormal columns, or zeros for spare ones.
        mask_cells: how many rows of it are the mask's.
    """

    classes: npt.NDArray[np.uint16]
    matrix: Vectors
    mask_cells: int

    def embed(self, counts: Vectors, weights: tuple[float, float] = (1.0, 1.0)) -> Vectors:
        """Rooted counts `(n, F)` as vectors `(n, dim + 1)` float32, the norm of what is lost last.

        Args:
            counts: of `count_segments` or `count_components`.
            weights: of mask and context; on one side of the inner product only, the query's.
        """
        if weights != (1.0, 1.0):
            mask, context = (np.float32(weight) for weight in weights)
            counts = np.concatenate(
                [mask * counts[:, : self.mask_cells], context * counts[:, self.mask_cells :]], axis=1
            )
        kept = counts @ self.matrix
        norm = weights[0] ** 2 + weights[1] ** 2
        lost = np.maximum(norm - np.square(kept, dtype=np.float64).sum(axis=1, keepdims=True), 0) + norm * _SLACK
        return np.concatenate([kept, np.sqrt(lost).astype(np.float32)], axis=1)


def fit_projection(counts: Vectors, classes: npt.NDArray[np.uint16], cells: Partition, dim: int) -> Projection:
    """The directions that keep most of a sample: leading eigenvectors of its second moments, not centred.

    Args:
        counts: `(n, F)`, rooted counts of a sample.
        classes: `(C,)` uint16, whose pixels were counted in contexts.
        cells: of the frame.
        dim: directions; where F is less, the others are zeros.
    """
    from scipy.linalg import eigh
    from threadpoolctl import threadpool_limits

    size = counts.shape[1]
    rank = min(dim, size)
    with threadpool_limits(1):  # threads of BLAS wait for each other without end where others want the cores as well
        moments = (counts.T @ counts).astype(np.float64)
        _, ascending = eigh(moments, subset_by_index=[size - rank, size - 1])
    matrix = np.zeros((size, dim), np.float32)
    matrix[:, :rank] = ascending[:, ::-1]
    return Projection(classes, matrix, cells.mask_cells)


def commonest_classes(counts: Vectors, classes: int, cells: Partition, most: int) -> npt.NDArray[np.int64]:
    """Which of the counted classes fill the contexts of a sample most, ascending, `most` of them at most."""
    share = np.square(counts[:, cells.mask_cells :]).reshape(len(counts), classes, -1).sum(axis=(0, 2))
    return np.sort(np.argsort(-share, kind="stable")[:most])


def keep_classes(counts: Vectors, chosen: npt.NDArray[np.int64], cells: Partition) -> Vectors:
    """The counts of masks, and of these of the counted classes."""
    contexts = counts[:, cells.mask_cells :].reshape(len(counts), -1, cells.context_cells)[:, chosen]
    return np.concatenate([counts[:, : cells.mask_cells], contexts.reshape(len(counts), -1)], axis=1)


def count_segments(
    footprints: Footprints, rows: npt.NDArray[np.int64], cells: Partition, classes: npt.NDArray[np.uint16]
) -> Vectors:
    """Rooted counts of stored segments over the roots of their areas, `(n, mask_cells + K * context_cells)` float32.

    Args:
        footprints: a shard's columns; rows: `(n,)`, which of its segments.
        cells: of the bank's frame; classes: `(K,)` uint16, which are counted in contexts.
    """
    counts = np.zeros((len(rows), cells.mask_cells + len(classes) * cells.context_cells), np.float32)
    fp = footprints
    rank = np.full(VOID + 1, -1, np.int64)
    rank[classes] = np.arange(len(classes))
    _count_segments(
        fp.tiles, fp.row_start, fp.mixed_start, fp.entry_region, fp.entry_bits, fp.region_start, fp.region_class,
        fp.source, fp.region, fp.box, rows, rank, *cells, counts,
    )  # fmt: skip
    return _rooted(counts, fp.area[rows], fp.context_area[rows], cells)


def count_components(
    query: QueryArrays, which: npt.NDArray[np.int64], cells: Partition, classes: npt.NDArray[np.uint16]
) -> Vectors:
    """As `count_segments`, of the components `which` of a layout."""
    counts = np.zeros((len(which), cells.mask_cells + len(classes) * cells.context_cells), np.float32)
    planes = query.plane_of[classes].astype(np.int64)
    _count_components(query.planes, query.box, query.mask_start, query.mask_counts, which, planes, *cells, counts)
    return _rooted(counts, query.area[which], query.context_area[which], cells)


def _rooted(
    counts: Vectors, area: npt.NDArray[np.integer], context_area: npt.NDArray[np.integer], cells: Partition
) -> Vectors:
    np.sqrt(counts, out=counts)
    counts[:, : cells.mask_cells] /= np.sqrt(area.astype(np.float32))[:, None]
    counts[:, cells.mask_cells :] /= np.sqrt(np.maximum(context_area, 1).astype(np.float32))[:, None]
    return counts


@nb.njit(cache=True, nogil=True)
def _count_segments(  # type: ignore[no-untyped-def]
    tiles, row_start, mixed_start, entry_region, entry_bits, region_start, region_class, source, region, boxes,
    rows, rank, frame, mask_cell, context_cell, mask_cells, context_cells, counts,
):  # fmt: skip
    """Adds the pixels of each segment to its row of `counts`; `rank`: class id to its place among those counted."""
    mixed = tiles.dtype.type(-1)
    for i in range(len(rows)):
        row, out = rows[i], counts[i]
        plane, own, first = np.int64(source[row]), region[row], np.int64(region_start[source[row]])
        box = np.int64(boxes[row, 0]), np.int64(boxes[row, 1]), np.int64(boxes[row, 2]), np.int64(boxes[row, 3])
        top, left, bottom, right = context_box(box, frame[0], frame[1])
        for tile_row in range(top // TILE, (bottom + TILE - 1) // TILE):
            row_bits = bits_of_rows(tile_row, top, bottom)
            number = mixed_before(tiles, row_start, plane, tile_row, left // TILE)
            for tile_col in range(left // TILE, (right + TILE - 1) // TILE):
                found = tiles[plane, tile_row, tile_col]
                if found == 0:
                    continue
                inside = row_bits & bits_of_cols(tile_col, left, right)
                at, around = mask_cell[tile_row, tile_col], mask_cells + context_cell[tile_row, tile_col]
                if found == mixed:
                    for entry in range(mixed_start[number], mixed_start[number + 1]):
                        pixels = np.float32(popcount(entry_bits[entry] & inside))
                        _add(
                            out, entry_region[entry], own, rank, region_class, first, at, around, context_cells, pixels
                        )
                    number += 1
                else:
                    pixels = np.float32(popcount(inside))
                    _add(out, found, own, rank, region_class, first, at, around, context_cells, pixels)


@nb.njit(cache=True, nogil=True)
def _add(out, found, own, rank, region_class, first, at, around, context_cells, pixels):  # type: ignore[no-untyped-def]
    if found == own:
        out[at] += pixels
    place = rank[region_class[first + np.int64(found)]]
    if place >= 0:
        out[around + place * context_cells] += pixels


@nb.njit(cache=True, nogil=True)
def _count_components(  # type: ignore[no-untyped-def]
    planes, boxes, mask_start, mask_counts, which, plane_of, frame, mask_cell, context_cell, mask_cells, context_cells,
    counts,
):  # fmt: skip
    """As `_count_segments`, from the planes of a layout; `plane_of`: `(K,)`, the plane of each counted class, or -1."""
    for i in range(len(which)):
        q, out = which[i], counts[i]
        box = boxes[q, 0], boxes[q, 1], boxes[q, 2], boxes[q, 3]
        at = mask_start[q]
        for tile_row in range(box[0] // TILE, (box[2] + TILE - 1) // TILE):
            for tile_col in range(box[1] // TILE, (box[3] + TILE - 1) // TILE):
                out[mask_cell[tile_row, tile_col]] += np.float32(mask_counts[at])
                at += 1
        top, left, bottom, right = context_box(box, frame[0], frame[1])
        for place in range(len(plane_of)):
            if plane_of[place] < 0:
                continue
            for tile_row in range(top // TILE, (bottom + TILE - 1) // TILE):
                row_bits = bits_of_rows(tile_row, top, bottom)
                for tile_col in range(left // TILE, (right + TILE - 1) // TILE):
                    bits = planes[plane_of[place], tile_row, tile_col]
                    if bits:
                        pixels = np.float32(popcount(bits & row_bits & bits_of_cols(tile_col, left, right)))
                        out[mask_cells + place * context_cells + context_cell[tile_row, tile_col]] += pixels
