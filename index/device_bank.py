"""A bank on the device: blocks of sources with dense maps, and layouts brought to the same form.

A bank of one block stays on the device; a larger one is sent again for every batch of layouts, as the tiles it is
stored in, and unpacked there. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..storage.classes import VOID
from ..storage.footprints import TILE, Footprints
from ..storage.layouts import context_boxes
from ..storage.reader import Reader
from . import device_kernels as kernels
from .device_kernels import Grid, Side
from .query import Query

GROUPS = 16
"""Classes that bounds count apart: those that cover most, and one group of the rest."""
MASK_CELLS = 768
"""Cells of the frame that masks are counted in, at most."""
CONTEXT_CELLS = 192
"""Cells of the frame that each group of classes is counted in, at most."""
_PIXEL_BYTES = 64  # of scratch memory for a pixel whose cell is counted
_COLUMN_BYTES = 192  # for the columns of a segment
_COLUMNS = ("source", "region", "area", "context_area", "box", "segment_id", "class_id")


@dataclass(frozen=True)
class DeviceLimits:
    """Memory that a search takes on the device, bytes.

    Attributes:
        block: of the bank at a time, with what its bounds need.
        batch: of layouts at a time, with the answers to them.
        scratch: of what is computed from them, about.
    """

    block: int = 4 << 30
    batch: int = 1 << 29
    scratch: int = 1 << 28

    @classmethod
    def of(cls, device: torch.device) -> DeviceLimits:
        """Three quarters of what a CUDA device has free; on the CPU the defaults."""
        if device.type != "cuda":
            return cls()
        free, _ = torch.cuda.mem_get_info(device)
        return cls(free * 5 // 8, free // 16, free // 16)


@dataclass(frozen=True)
class Block:
    """Some sources of the bank on the device, their segments sorted by class.

    Attributes:
        side: their maps and columns.
        segment_id: `(n,)` int64; place: `(n, 2)` int64, shard and row; number: `(n,)` int64, rows counted over shards.
        class_rows: class id to the half-open range of its segments.
    """

    side: Side
    segment_id: Tensor
    place: Tensor
    number: Tensor
    class_rows: dict[int, tuple[int, int]]

    def candidates(self, class_id: int, keep: Tensor | None) -> Tensor:
        """The segments of a class that a filter over the rows of all shards keeps, int64."""
        start, stop = self.class_rows.get(class_id, (0, 0))
        rows = torch.arange(start, stop, device=self.number.device)
        return rows if keep is None else rows[keep[self.number[start:stop]]]


class DeviceBank:
    """A bank as the device search reads it: in blocks of sources, and layouts brought to the same form."""

    def __init__(self, reader: Reader, device: torch.device, limits: DeviceLimits, dtype: torch.dtype) -> None:
        self.device, self.limits, self.dtype = device, limits, dtype
        self.frame = reader.geometry.frame
        self.footprints: list[Footprints] = [shard.footprints for shard in reader.shards]

    def blocks(self) -> Iterator[Block]:
        """All of the bank, a block at a time; a single block is unpacked once and kept."""
        if len(self._pieces) == 1:
            yield self._only
        else:
            yield from map(self._unpacked, self._pieces)

    def components(self, queries: Sequence[Query]) -> Side:
        """The components of layouts, each layout a source, in the order of the layouts."""
        labels = self.tensor(np.stack([query.framed.labels for query in queries]).astype(np.int32))
        regions = kernels.tile_maps(labels)
        codes = [self._codes[np.append(np.uint16(VOID), query.framed.components.class_ids)] for query in queries]
        classes = self._classes(regions, codes)
        source = np.repeat(np.arange(len(queries)), [len(query.searched) for query in queries])
        box = np.concatenate([query.framed.boxes[query.searched] for query in queries]).astype(np.int64)
        area = np.concatenate([query.framed.areas[query.searched] for query in queries])
        region = np.concatenate([query.searched for query in queries]) + 1
        context_area = np.concatenate([query.arrays.context_area for query in queries])
        return self._side(classes, regions, source, region, area, context_area, box)

    def source_bytes(self, segments: int) -> int:
        """What a source of so many segments takes on the device, about."""
        rows, cols = self.grid.tiles
        pixels = rows * cols * kernels.PIXELS * sum(each.itemsize for each in self._types)
        return pixels + segments * (self.root_bytes + _COLUMN_BYTES)

    @property
    def root_bytes(self) -> int:
        """What the bounds of a segment need."""
        return (self.grid.mask_size + self.grid.context_size) * self.dtype.itemsize

    def tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        """An array on the device; integers other than int32 become int64."""
        if array.dtype.kind in "ui" and array.dtype != np.int32:
            array = array.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    @cached_property
    def grid(self) -> Grid:
        """The cells of the bounds: as fine as `MASK_CELLS` and `CONTEXT_CELLS` allow."""
        sides = []
        for most in (MASK_CELLS, CONTEXT_CELLS):
            side = TILE
            while np.prod(kernels.cells_of(self.frame, side)) > most:
                side += TILE
            sides.append(side)
        return Grid(self.frame, sides[0], sides[1], max(min(len(self._class_order), GROUPS), 1))

    @cached_property
    def _class_order(self) -> npt.NDArray[np.int64]:
        """The classes of the bank's regions; those whose segments cover most come first."""
        present, pixels = np.zeros(VOID + 1, bool), np.zeros(VOID + 1)
        for footprints in self.footprints:
            present[footprints.region_class] = True
            pixels += np.bincount(footprints.class_id, footprints.area, VOID + 1)
        present[VOID] = False
        ids = np.flatnonzero(present)
        return ids[np.argsort(-pixels[ids], kind="stable")]

    @cached_property
    def _codes(self) -> npt.NDArray[np.int32]:
        """Class id to its code: 0 void, 1.. the bank's, then one for all that the bank lacks."""
        codes = np.full(VOID + 1, len(self._class_order) + 1, np.int32)
        codes[self._class_order] = np.arange(1, len(self._class_order) + 1)
        codes[VOID] = 0
        return codes

    @cached_property
    def _group(self) -> Tensor:
        """Class code to its group; `groups` for what is never equal."""
        group = np.minimum(np.arange(-1, len(self._class_order) + 1), self.grid.groups - 1)
        group[[0, -1]] = self.grid.groups
        return self.tensor(group)

    @cached_property
    def _types(self) -> tuple[torch.dtype, torch.dtype]:
        """Of class codes and regions."""
        most = max((int(np.diff(f.region_start).max(initial=0)) for f in self.footprints), default=0)
        small = len(self._class_order) + 1 <= torch.iinfo(torch.uint8).max
        return torch.uint8 if small else torch.int32, torch.int16 if most < 1 << 15 else torch.int32

    @cached_property
    def _pieces(self) -> list[list[tuple[int, int, int]]]:
        """By block: shard and half-open range of its sources."""
        sources, sizes = [], []
        for shard, footprints in enumerate(self.footprints):
            for source, segments in enumerate(np.bincount(footprints.source, minlength=len(footprints.tiles))):
                sources.append((shard, source))
                sizes.append(self.source_bytes(int(segments)))
        blocks = []
        for first, last in runs(sizes, self.limits.block):
            grouped = [list(each) for _, each in groupby(sources[first:last], key=lambda source: source[0])]
            blocks.append([(each[0][0], each[0][1], each[-1][1] + 1) for each in grouped])
        return blocks

    @cached_property
    def _only(self) -> Block:
        return self._unpacked(self._pieces[0])

    def _unpacked(self, pieces: Sequence[tuple[int, int, int]]) -> Block:
        """Some sources of some shards, on the device."""
        columns, places, before = [], [], 0
        offsets = np.cumsum([0, *map(len, self.footprints)])
        for shard, first, last in pieces:
            footprints = self.footprints[shard]
            rows = np.flatnonzero((footprints.source >= first) & (footprints.source < last))
            columns.append({name: getattr(footprints, name)[rows].astype(np.int64) for name in _COLUMNS})
            columns[-1]["source"] += before - first
            places.append(np.stack([np.full(len(rows), shard), rows, offsets[shard] + rows], 1))
            before += last - first
        joined = {name: np.concatenate([each[name] for each in columns]) for name in _COLUMNS}
        order = np.argsort(joined["class_id"], kind="stable")
        joined = {name: column[order] for name, column in joined.items()}
        ids, starts, counts = np.unique(joined.pop("class_id"), return_index=True, return_counts=True)
        segment_id, place = self.tensor(joined.pop("segment_id")), self.tensor(np.concatenate(places)[order])
        classes, regions = self._maps(pieces)
        side = self._side(classes, regions, **joined)
        class_rows = {int(id): (int(start), int(start + n)) for id, start, n in zip(ids, starts, counts, strict=True)}
        return Block(side, segment_id, place[:, :2], place[:, 2], class_rows)

    def _maps(self, pieces: Sequence[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
        """Tiles of class codes and regions of some sources."""
        rows, cols = self.grid.tiles
        size = sum(last - first for _, first, last in pieces) * rows * cols, kernels.PIXELS
        classes, regions = (torch.empty(size, dtype=each, device=self.device) for each in self._types)
        at = 0
        for shard, first, last in pieces:
            footprints = self.footprints[shard]
            for start, stop in self._chunks(first, last):
                unpacked = self._regions(footprints, start, stop)
                begin = footprints.region_start[start : stop + 1]
                codes = self._codes[footprints.region_class[begin[0] : begin[-1]]]
                to = slice(at, at + len(unpacked))
                regions[to] = unpacked
                classes[to] = self._classes(unpacked, np.split(codes, begin[1:-1] - begin[0]))
                at += len(unpacked)
        return classes, regions

    def _regions(self, footprints: Footprints, start: int, stop: int) -> Tensor:
        """Tiles of the regions of sources [start, stop), int32."""
        tiles = footprints.tiles[start:stop]
        mixed = [*footprints.row_start[:, 0].tolist(), len(footprints.mixed_start) - 1]
        entries = footprints.mixed_start[mixed[start] : mixed[stop] + 1].astype(np.int64)
        named = slice(int(entries[0]), int(entries[-1]))
        uniform = np.where(tiles == np.iinfo(tiles.dtype).max, -1, tiles.astype(np.int64)).astype(np.int32)
        return kernels.decode_regions(
            self.tensor(uniform.ravel()),
            self.tensor(np.diff(entries)),
            self.tensor(footprints.entry_region[named].astype(np.int32)),
            self.tensor(footprints.entry_bits[named]),
        )

    def _classes(self, regions: Tensor, codes: Sequence[npt.NDArray[np.int32]]) -> Tensor:
        """Tiles of class codes from tiles of regions and, by source, the code of each region."""
        starts = np.cumsum([0, *map(len, codes)])[:-1]
        rows, cols = self.grid.tiles
        table = self.tensor(np.concatenate(codes)).to(self._types[0])
        return table[self.tensor(np.repeat(starts, rows * cols))[:, None] + regions]

    def _side(
        self,
        classes: Tensor,
        regions: Tensor,
        source: npt.NDArray[np.int64],
        region: npt.NDArray[np.int64],
        area: npt.NDArray[np.int64],
        context_area: npt.NDArray[np.int64],
        box: npt.NDArray[np.int64],
    ) -> Side:
        """Maps and columns on the device, with the roots of their cells."""
        grid, tiles = self.grid, self.grid.tiles[0] * self.grid.tiles[1]
        at, label = self.tensor(source), self.tensor(region)
        around = self.tensor(context_boxes(box.astype(np.int32), self.frame).astype(np.int64))
        masks = torch.empty((len(source), grid.mask_size), dtype=self.dtype, device=self.device)
        contexts = torch.empty((len(source), grid.context_size), dtype=self.dtype, device=self.device)
        for start, stop in self._chunks(0, len(regions) // tiles):
            n = torch.nonzero((at >= start) & (at < stop))[:, 0]
            of, part = at[n] - start, slice(start * tiles, stop * tiles)
            masks[n] = kernels.mask_roots(regions[part], of, label[n], grid, self.dtype)
            contexts[n] = kernels.context_roots(classes[part], self._group, of, around[n], grid, self.dtype)
        areas = self.tensor(area), self.tensor(context_area)
        return Side(classes, regions, at, label, *areas, self.tensor(box), around, masks, contexts)

    def _chunks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Ranges of sources whose pixels fit the scratch memory."""
        pixels = self.grid.tiles[0] * self.grid.tiles[1] * kernels.PIXELS
        step = max(self.limits.scratch // (pixels * _PIXEL_BYTES), 1)
        for start in range(first, last, step):
            yield start, min(start + step, last)


def runs(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Half-open runs whose sizes add up to at most `most`, or of one."""
    first, total = 0, 0
    for at, size in enumerate(sizes):
        if at > first and total + size > most:
            yield first, at
            first, total = at, 0
        total += size
    if len(sizes):
        yield first, len(sizes)
