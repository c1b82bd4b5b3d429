"""Footprints and contexts as 8x8 bit tiles: one tiled region map a source serves both.

A region map marks each frame pixel of a source with the region it belongs to: 0 is void, 1..s are the stored
segments, and one more region a class gathers what was too small to store. Cut into 8x8 tiles aligned to the frame,
most tiles are uniform and cost one number; the rest list (region, 64-bit mask) entries. A segment's footprint is the
window of its box where the region is its own; its context map is the window of its context box, by the regions'
classes. Bit `8 * row + column` of a mask is one pixel of the tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numba as nb
import numpy as np
import numpy.typing as npt

from .arrays import arrays_to_bytes, map_arrays
from .classes import VOID
from .cutting import look_up
from .layouts import Runs, label_runs

TILE = 8
"""Side of a tile, pixels."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TiledRegions:
    """The tiled region map of one frame.

    Attributes:
        tiles: `(TR, TC)` uint32, the region of a uniform tile, else `MIXED`.
        row_start: `(TR,)` uint32, how many mixed tiles come before each row of tiles.
        mixed_start: `(M + 1,)` uint32, where the entries of each mixed tile begin.
        entry_region: `(E,)` uint32, and entry_bits: `(E,)` uint64.
        region_class: `(G,)` uint16, the class of each region, `VOID` for region 0.
    """

    tiles: npt.NDArray[np.uint32]
    row_start: npt.NDArray[np.uint32]
    mixed_start: npt.NDArray[np.uint32]
    entry_region: npt.NDArray[np.uint32]
    entry_bits: npt.NDArray[np.uint64]
    region_class: npt.NDArray[np.uint16]


@dataclass(frozen=True)
class SegmentColumns:
    """What bounds and kernels need of the stored segments of one source, in the order of their regions 1..s.

    Attributes:
        segment_id: `(s,)` uint64.
        class_id: `(s,)` uint16.
        box: `(s, 4)` uint16 frame boxes; area, context_area: `(s,)` uint32 frame pixels.
    """

    segment_id: npt.NDArray[np.uint64]
    class_id: npt.NDArray[np.uint16]
    box: npt.NDArray[np.uint16]
    area: npt.NDArray[np.uint32]
    context_area: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Footprints:
    """The search columns of one shard, as they lie memory-mapped on disk; segments sorted by class, then id.

    Attributes:
        tiles: `(S, TR, TC)` uint16 or uint32 (its largest value marks a mixed tile), one plane a source.
        row_start: `(S, TR)` uint32 into mixed_start: `(M + 1,)` uint32 into entry_region, entry_bits: `(E,)`.
        region_start: `(S + 1,)` uint32 into region_class: `(G,)` uint16.
        segment_id: `(N,)` uint64; class_id: `(N,)` uint16.
        box: `(N, 4)` uint16; area, context_area: `(N,)` uint32.
        source: `(N,)` uint32, the row of its source; region: `(N,)`, which region of it.
    """

    tiles: Array
    row_start: npt.NDArray[np.uint32]
    mixed_start: npt.NDArray[np.uint32]
    entry_region: Array
    entry_bits: npt.NDArray[np.uint64]
    region_start: npt.NDArray[np.uint32]
    region_class: npt.NDArray[np.uint16]
    segment_id: npt.NDArray[np.uint64]
    class_id: npt.NDArray[np.uint16]
    box: npt.NDArray[np.uint16]
    area: npt.NDArray[np.uint32]
    context_area: npt.NDArray[np.uint32]
    source: npt.NDArray[np.uint32]
    region: Array

    def __len__(self) -> int:
        return len(self.segment_id)

    def class_rows(self) -> dict[int, tuple[int, int]]:
        """Class id to the half-open range of its rows."""
        ids, starts = np.unique(self.class_id, return_index=True)
        stops = np.append(starts, len(self))[1:]
        return {int(id): (int(start), int(stop)) for id, start, stop in zip(ids, starts, stops, strict=True)}

    def to_bytes(self) -> bytes:
        """The file of a shard's search columns."""
        return arrays_to_bytes(self)

    @classmethod
    def map(cls, path: Path) -> Footprints:
        """The columns of a file that `to_bytes` made, memory-mapped; the file must have been checked."""
        return map_arrays(cls, path)


def tile_regions(regions: npt.NDArray[np.uint32], region_class: npt.NDArray[np.uint16]) -> TiledRegions:
    """Cuts a region map into tiles.

    Args:
        regions: `(R, C)` uint32, 0 void.
        region_class: `(G,)` uint16 by region.
    """
    return tile_runs(label_runs(regions), (regions.shape[0], regions.shape[1]), region_class)


def tile_runs(runs: Runs, frame: tuple[int, int], region_class: npt.NDArray[np.uint16]) -> TiledRegions:
    """As `tile_regions`, from the runs of a region map.

    Args:
        runs: of the map, void without; neighbouring ones may be of one region.
        frame: `(R, C)`.
        region_class: `(G,)` uint16 by region.
    """
    tiles, counts = np.empty(frame_tiles(frame), np.uint32), np.zeros(frame_tiles(frame), np.uint32)
    entry_region, entry_bits = _cut_tiles(*runs, frame[1], tiles, counts)
    mixed = tiles == MIXED
    row_start = np.concatenate([[0], np.cumsum(mixed.sum(axis=1))[:-1]]).astype(np.uint32)
    mixed_start = np.concatenate([[0], np.cumsum(counts[mixed])]).astype(np.uint32)
    return TiledRegions(tiles, row_start, mixed_start, entry_region, entry_bits, region_class)


def void_free_sums(regions: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """`(R + 1, C + 1)` int32 summed-area table: how many pixels above and left of each corner are not void."""
    sums: npt.NDArray[np.int32] = cv2.integral((regions > 0).view(np.uint8))
    return sums


def context_areas(sums: npt.NDArray[np.int32], boxes: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
    """The pixels that are not void inside each context box: `(n, 4)` boxes to `(n,)` uint32."""
    top, left, bottom, right = boxes.T
    areas: npt.NDArray[np.int32] = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return areas.astype(np.uint32)


def join_sources(sources: Sequence[tuple[TiledRegions, SegmentColumns]], frame: tuple[int, int]) -> Footprints:
    """The sources of a shard as one set of columns, segments sorted by class, then id."""
    maps = [tiled for tiled, _ in sources]
    columns = [column for _, column in sources]
    counts = np.array([len(column.segment_id) for column in columns], np.int64)
    small = all(len(tiled.region_class) < np.iinfo(np.uint16).max for tiled in maps)
    region_type = np.uint16 if small else np.uint32
    mixed_offsets = _offsets([len(tiled.mixed_start) - 1 for tiled in maps])
    entry_offsets = _offsets([len(tiled.entry_bits) for tiled in maps])
    joined = {name: _joined([getattr(c, name) for c in columns], *kind) for name, kind in _COLUMN_TYPES.items()}
    order = np.lexsort((joined["segment_id"], joined["class_id"]))
    source = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
    region = np.concatenate([np.arange(1, count + 1) for count in counts] or [np.zeros(0)]).astype(region_type)
    rows, cols = frame_tiles(frame)
    return Footprints(
        tiles=np.stack([tiled.tiles for tiled in maps]).astype(region_type)
        if maps
        else np.zeros((0, rows, cols), region_type),
        row_start=np.stack([tiled.row_start + offset for tiled, offset in zip(maps, mixed_offsets, strict=False)])
        if maps
        else np.zeros((0, rows), np.uint32),
        mixed_start=np.append(
            _joined([t.mixed_start[:-1] + o for t, o in zip(maps, entry_offsets, strict=False)], np.uint32),
            np.uint32(entry_offsets[-1]),
        ),
        entry_region=_joined([tiled.entry_region for tiled in maps], region_type),
        entry_bits=_joined([tiled.entry_bits for tiled in maps], np.uint64),
        region_start=_offsets([len(tiled.region_class) for tiled in maps]),
        region_class=_joined([tiled.region_class for tiled in maps], np.uint16),
        source=source[order],
        region=region[order],
        **{name: column[order] for name, column in joined.items()},
    )


def rows_by_source(joined: Footprints) -> list[npt.NDArray[np.int64]]:
    """The rows of each source's segments, in the order of their regions."""
    order = np.lexsort((joined.region, joined.source))
    starts = np.searchsorted(joined.source[order], np.arange(1, len(joined.tiles)))
    return np.split(order, starts) if len(joined.tiles) else []


def take_source(joined: Footprints, source: int, rows: npt.NDArray[np.int64]) -> tuple[TiledRegions, SegmentColumns]:
    """One source as it was before `join_sources`.

    Args:
        joined: the columns of a shard.
        source: its row there; rows: those of its segments (`rows_by_source`).
    """
    tiles = joined.tiles[source]
    mixed = tiles == np.iinfo(tiles.dtype).max
    first = int(joined.row_start[source, 0])
    mixed_start = joined.mixed_start[first : first + int(mixed.sum()) + 1]
    entries = slice(int(mixed_start[0]), int(mixed_start[-1]))
    regions = slice(int(joined.region_start[source]), int(joined.region_start[source + 1]))
    tiled = TiledRegions(
        tiles=np.where(mixed, MIXED, tiles.astype(np.uint32)),
        row_start=joined.row_start[source] - np.uint32(first),
        mixed_start=mixed_start - mixed_start[0],
        entry_region=joined.entry_region[entries].astype(np.uint32),
        entry_bits=joined.entry_bits[entries].copy(),
        region_class=joined.region_class[regions].copy(),
    )
    return tiled, SegmentColumns(**{name: getattr(joined, name)[rows] for name in _COLUMN_TYPES})


def source_regions(footprints: Footprints, source: int, frame: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """The region map of one source of a shard, `(R, C)` uint32, out of its tiles.

    Args:
        footprints: of the shard; source: its row there; frame: `(rows, cols)` of the bank.
    """
    tiles = footprints.tiles[source]
    first = int(footprints.row_start[source, 0])
    regions = np.empty((tiles.shape[0] * TILE, tiles.shape[1] * TILE), np.uint32)
    mixed = int(np.iinfo(tiles.dtype).max)
    _lay_tiles(tiles, mixed, footprints.mixed_start[first:], footprints.entry_region, footprints.entry_bits, regions)
    return regions[: frame[0], : frame[1]]


_COLUMN_TYPES: dict[str, tuple[Any, ...]] = {
    "segment_id": (np.uint64,),
    "class_id": (np.uint16,),
    "box": (np.uint16, (0, 4)),
    "area": (np.uint32,),
    "context_area": (np.uint32,),
}


def _joined(parts: Sequence[Array], dtype: Any, empty: tuple[int, ...] = (0,)) -> Array:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(empty, dtype)


def _offsets(counts: Sequence[int]) -> npt.NDArray[np.uint32]:
    offsets: npt.NDArray[np.uint32] = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    return offsets


MIXED = np.uint32(0xFFFFFFFF)
_NONE = np.uint64(0)


@nb.njit(cache=True, nogil=True)
def _cut_tiles(first, starts, stops, values, cols, tiles, counts):  # type: ignore[no-untyped-def]
    """The entries of all tiles, `(E,)` uint32 regions and `(E,)` uint64 bits; regions in the order they appear.

    Args:
        first, starts, stops, values: runs of a region map of `cols` columns, void without.
        tiles: `(TR, TC)` uint32, filled with the region of each uniform tile, or MIXED.
        counts: `(TR, TC)` uint32 zeros, filled with how many entries each mixed tile has.
    """
    across = tiles.shape[1]
    found, bits = np.empty((across, TILE * TILE), np.uint32), np.empty((across, TILE * TILE), np.uint64)
    n = np.zeros(across, np.int64)  # how many regions each tile of a row has
    entry_region, entry_bits, at = np.empty(tiles.size, np.uint32), np.empty(tiles.size, np.uint64), 0
    for down in range(tiles.shape[0]):
        rows = min(TILE, len(first) - 1 - TILE * down)
        n[:] = 0
        for row in range(rows):
            for run in range(first[TILE * down + row], first[TILE * down + row + 1]):
                for tile in range(starts[run] // TILE, (stops[run] + TILE - 1) // TILE):
                    begin, end = max(starts[run] - TILE * tile, 0), min(stops[run] - TILE * tile, TILE)
                    own = _bits_between(begin, end) << np.uint64(TILE * row)
                    n[tile] = _with_bits(found[tile], bits[tile], n[tile], values[run], own)
        for tile in range(across):
            if n[tile] == 0:
                tiles[down, tile] = 0
            elif n[tile] == 1 and bits[tile, 0] == _all_bits(rows, min(TILE, cols - TILE * tile)):
                tiles[down, tile] = found[tile, 0]
            else:
                tiles[down, tile], counts[down, tile] = MIXED, n[tile]
                if at + n[tile] > len(entry_region):
                    entry_region = np.concatenate((entry_region, np.empty(len(entry_region) + n[tile], np.uint32)))
                    entry_bits = np.concatenate((entry_bits, np.empty(len(entry_bits) + n[tile], np.uint64)))
                for i in range(n[tile]):
                    entry_region[at], entry_bits[at] = found[tile, i], bits[tile, i]
                    at += 1
    return entry_region[:at].copy(), entry_bits[:at].copy()


@nb.njit(cache=True, nogil=True)
def _bits_between(begin, end):  # type: ignore[no-untyped-def]
    """The bits from one number to another, half-open, as uint64; fewer than all 64."""
    return (np.uint64(1) << np.uint64(end)) - (np.uint64(1) << np.uint64(begin))


@nb.njit(cache=True, nogil=True)
def _all_bits(rows, cols):  # type: ignore[no-untyped-def]
    """The bits of a tile of which so many rows and columns lie in the frame."""
    bits = _NONE
    for row in range(rows):
        bits |= _bits_between(0, cols) << np.uint64(TILE * row)
    return bits


@nb.njit(cache=True, nogil=True)
def _with_bits(found, bits, n, region, own):  # type: ignore[no-untyped-def]
    """Adds bits to those of a region among the `n` of a tile; returns how many there are now."""
    for i in range(n):
        if found[i] == region:
            bits[i] |= own
            return n
    found[n], bits[n] = region, own
    return n + 1


@nb.njit(cache=True, nogil=True)
def _lay_tiles(tiles, mixed, mixed_start, entry_region, entry_bits, regions):  # type: ignore[no-untyped-def]
    """Fills `regions`, `(TR * TILE, TC * TILE)` uint32, from the tiles of one source."""
    number = 0
    for row in range(tiles.shape[0]):
        for col in range(tiles.shape[1]):
            top, left = row * TILE, col * TILE
            whole = tiles[row, col]
            regions[top : top + TILE, left : left + TILE] = 0 if whole == mixed else whole
            if whole != mixed:
                continue
            for entry in range(mixed_start[number], mixed_start[number + 1]):
                bits = entry_bits[entry]
                for bit in range(TILE * TILE):
                    if (bits >> np.uint64(bit)) & np.uint64(1):
                        regions[top + bit // TILE, left + bit % TILE] = entry_region[entry]
            number += 1


def frame_tiles(frame: tuple[int, int]) -> tuple[int, int]:
    """How many tiles cover a frame: `(rows, cols)`."""
    return -(-frame[0] // TILE), -(-frame[1] // TILE)


def number_regions(
    class_ids: npt.NDArray[np.uint16], stored: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16]]:
    """Regions of components: stored ones 1..s in their order, then one region a class for the rest.

    Args:
        class_ids: `(n,)` uint16 by component.
        stored: `(n,)` bool, which components are segments.

    Returns:
        `(n + 1,)` uint32 the region of each label, 0 for void, and `(G,)` uint16 the class of each region.
    """
    rest_classes, rest = np.unique(class_ids[~stored], return_inverse=True)
    count = np.count_nonzero(stored)
    region_of = np.zeros(len(class_ids) + 1, np.uint32)
    region_of[1:][stored] = np.arange(1, count + 1)
    region_of[1:][~stored] = 1 + count + rest
    return region_of, np.concatenate([[VOID], class_ids[stored], rest_classes]).astype(np.uint16)


def region_map(
    labels: npt.NDArray[np.uint32], class_ids: npt.NDArray[np.uint16], stored: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16]]:
    """Frame labels as regions.

    Args:
        labels: `(R, C)` uint32, 0 void, component `i` marked `i + 1`.
        class_ids, stored: as in `number_regions`.

    Returns:
        `(R, C)` uint32 regions, and `(G,)` uint16 the class of each region.
    """
    region_of, region_class = number_regions(class_ids, stored)
    return look_up(region_of, labels), region_class
