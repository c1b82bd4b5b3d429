"""The arithmetic of the device search as torch operations: the same on a CUDA device and on the CPU.

Maps lie in tiles of 8x8 pixels, one row of 64 numbers a tile, tiles of a source in raster order, sources one after
another; beyond the frame, layouts hold 0 and sources whatever their last tiles hold. A pair's common pixels are counted
tile by tile, in integers. Ahead of them stands a bound that one matrix product gives for a whole block of pairs (score,
"Bounds that are true"): with `c` and `d` the pixels of two footprints (or of one class in two context boxes) in the
cells of a fixed partition of the frame, `I <= sum min(c, d) <= sum sqrt(c) * sqrt(d)`.

Importing this module imports torch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..storage.footprints import TILE

PIXELS = TILE * TILE
PRODUCT_SLACK = 1 + 2**-8
"""Above what roots, factors and sums lose in half precision or TF32: at most 2^-9, with sums kept in float32."""
FLOAT_SLACK = 1 - 2**-20
"""Below what the float32 arithmetic after the product loses: less than 16 roundings of 2^-24."""
_ALIGNED = 8  # matrix products in half precision want their inner size a multiple of this


@dataclass(frozen=True)
class Grid:
    """The cells that bounds count pixels in, and the tiles of a frame.

    Attributes:
        frame: `(rows, cols)`.
        mask_cell, context_cell: sides of the square cells, pixels, multiples of 8.
        groups: classes are counted apart in this many groups; classes of one group count as equal.
    """

    frame: tuple[int, int]
    mask_cell: int
    context_cell: int
    groups: int

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return cells_of(self.frame, TILE)

    @property
    def mask_cells(self) -> tuple[int, int]:
        """Rows and columns of mask cells."""
        return cells_of(self.frame, self.mask_cell)

    @property
    def context_cells(self) -> tuple[int, int]:
        """Rows and columns of context cells."""
        return cells_of(self.frame, self.context_cell)

    @property
    def mask_size(self) -> int:
        """Length of a row of `Side.mask_roots`."""
        return _padded(self.mask_cells[0] * self.mask_cells[1])

    @property
    def context_size(self) -> int:
        """Length of a row of `Side.context_roots`."""
        return _padded(self.context_cells[0] * self.context_cells[1] * self.groups)


def cells_of(frame: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns of square cells that cover a frame."""
    return -(-frame[0] // side), -(-frame[1] // side)


def _padded(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED


@dataclass(frozen=True)
class Side:
    """One side of the comparison, on the device: `n` segments of `S` sources, or `n` components of `S` layouts.

    Attributes:
        classes: `(S * T, 64)` uint8 or int16, tiles of class codes, 0 void; regions: `(S * T, 64)` int16 or int32.
        source, region: `(n,)` int64, where each footprint is drawn; area, context_area: `(n,)` int64 pixels.
        box, around: `(n, 4)` int64, boxes and context boxes.
        mask_roots: `(n, mask_size)`, context_roots: `(n, context_size)`, float: the roots of the shares of each cell
            that footprint and classes of the context cover.
    """

    classes: Tensor
    regions: Tensor
    source: Tensor
    region: Tensor
    area: Tensor
    context_area: Tensor
    box: Tensor
    around: Tensor
    mask_roots: Tensor
    context_roots: Tensor


def tile_maps(maps: Tensor) -> Tensor:
    """`(S, R, C)` maps as tiles `(S * T, 64)`, 0 beyond the frame."""
    sources, rows, cols = maps.shape
    maps = torch.nn.functional.pad(maps, (0, -cols % TILE, 0, -rows % TILE))
    rows, cols = maps.shape[1] // TILE, maps.shape[2] // TILE
    return maps.view(sources, rows, TILE, cols, TILE).transpose(2, 3).reshape(-1, PIXELS)


def untile_maps(tiles: Tensor, frame: tuple[int, int]) -> Tensor:
    """The inverse of `tile_maps`: `(S, R, C)`."""
    rows, cols = cells_of(frame, TILE)
    maps = tiles.view(-1, rows, cols, TILE, TILE).transpose(2, 3).reshape(-1, rows * TILE, cols * TILE)
    return maps[:, : frame[0], : frame[1]]


def decode_regions(tiles: Tensor, entries: Tensor, entry_region: Tensor, entry_bits: Tensor) -> Tensor:
    """Tiled regions as stored to a row of 64 regions a tile, `(S * T, 64)` int32 (storage/footprints.py).

    Args:
        tiles: `(S * T,)` int32, the region of a uniform tile, -1 for a mixed one.
        entries: `(M,)` int64, how many entries each mixed tile has.
        entry_region: `(E,)` int32; entry_bits: `(E,)` int64.
    """
    regions = tiles.clamp(min=0)[:, None].expand(-1, PIXELS).contiguous()
    mixed = torch.nonzero(tiles < 0)[:, 0]
    bits = (entry_bits[:, None] >> torch.arange(PIXELS, device=tiles.device)) & 1
    regions.index_add_(0, mixed.repeat_interleave(entries), bits.int() * entry_region[:, None])
    return regions


def mask_roots(regions: Tensor, source: Tensor, region: Tensor, grid: Grid, dtype: torch.dtype) -> Tensor:
    """The roots of the shares of the mask cells that each footprint covers, `(n, mask_size)`.

    Args:
        regions: `(S * T, 64)` int32 or int16 tiles; source, region: `(n,)` int64, whose footprint.
    """
    n, device = len(source), regions.device
    rows, cols = grid.tiles
    most = int(regions.max()) + 1 if regions.numel() else 1
    owner = torch.full((len(regions) // (rows * cols) * most,), n, device=device)
    owner[source * most + region] = torch.arange(n, device=device)
    of_source = torch.arange(len(regions), device=device) // (rows * cols) * most
    step = grid.mask_cell // TILE
    row, col = torch.arange(rows, device=device) // step, torch.arange(cols, device=device) // step
    cell = (row[:, None] * grid.mask_cells[1] + col).flatten().repeat(len(regions) // (rows * cols))
    at = owner[of_source[:, None] + regions] * grid.mask_size + cell[:, None]
    counts = torch.zeros((n + 1) * grid.mask_size, dtype=torch.int32, device=device)
    counts.scatter_add_(0, at.flatten(), torch.ones((), dtype=torch.int32, device=device).expand(at.numel()))
    return (counts.view(n + 1, -1)[:n].float() / grid.mask_cell**2).sqrt_().to(dtype)


def context_roots(
    classes: Tensor, group: Tensor, source: Tensor, around: Tensor, grid: Grid, dtype: torch.dtype
) -> Tensor:
    """The roots of the shares of the context cells that each group of classes covers, `(n, context_size)`.

    Args:
        classes: `(S * T, 64)` tiles of class codes; group: `(codes,)` int64 by class code, `groups` for void.
        source: `(n,)` int64; around: `(n, 4)` int64 context boxes: what lies outside is not counted.
    """
    maps = untile_maps(group[classes.int()], grid.frame)
    rows, cols = grid.context_cells
    lines = [_lines(n, grid.context_cell, around[:, i], around[:, i + 2]) for i, n in enumerate((rows, cols))]
    shares = torch.zeros((len(source), grid.context_size), dtype=dtype, device=classes.device)
    for number in range(grid.groups):
        sums = (maps == number).cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)
        sums = torch.nn.functional.pad(sums, (1, 0, 1, 0))
        corners = sums[source[:, None, None], lines[0][:, :, None], lines[1][:, None, :]]
        counts = corners.diff(dim=1).diff(dim=2).reshape(len(source), -1)
        first = number * rows * cols
        shares[:, first : first + rows * cols] = (counts.float() / grid.context_cell**2).sqrt_().to(dtype)
    return shares


def _lines(cells: int, side: int, first: Tensor, last: Tensor) -> Tensor:
    """The lines between cells, moved into [first, last]: `(n, cells + 1)`."""
    lines = torch.arange(cells + 1, device=first.device) * side
    return torch.maximum(torch.minimum(lines, last[:, None]), first[:, None])


def bounds(
    segments: Side, s: Tensor, components: Side, c: Tensor, grid: Grid, weights: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """At least the score, and at least its context term, of every component with every segment.

    Args:
        s: `(N,)` int64 or slice of segments; c: `(B,)` of components.
        weights: of mask and context, the larger of them 1.

    Returns:
        Twice `(B, N)` float32; times `FLOAT_SLACK` they are at most what they bound.
    """
    terms = []
    for weight, name, area, cell in (
        (weights[0], "mask_roots", "area", grid.mask_cell),
        (weights[1], "context_roots", "context_area", grid.context_cell),
    ):
        one, other = getattr(segments, area)[s].float(), getattr(components, area)[c].float()[:, None]
        common = _product(getattr(components, name)[c], getattr(segments, name)[s]).mul_(PRODUCT_SLACK * cell**2)
        common = torch.minimum(common, torch.minimum(one, other), out=common)
        union = (one + other).sub_(common).clamp_(min=1)
        terms.append(common.div_(union).mul_(weight))
    return terms[0].add_(terms[1]), terms[1]


_SETTING = threading.Lock()
"""Held while a setting of the whole process is another one."""


def _product(one: Tensor, other: Tensor) -> Tensor:
    """`one @ other.T` as float32, summed in float32 whatever the factors are."""
    matmul = torch.backends.cuda.matmul
    with _SETTING:
        before = matmul.allow_fp16_reduced_precision_reduction
        matmul.allow_fp16_reduced_precision_reduction = False
        try:
            return (one @ other.T).float()
        finally:
            matmul.allow_fp16_reduced_precision_reduction = before


def mask_common(segments: Side, s: Tensor, components: Side, c: Tensor, grid: Grid, most: int) -> Tensor:
    """Common footprint pixels of pairs, `(P,)` int64.

    Args:
        s, c: `(P,)` int64, segment and component of each pair.
        most: tiles compared at a time.
    """
    common = torch.zeros(len(s), dtype=torch.int64, device=s.device)
    for pair, row, col in _shared_tiles(_overlap(segments.box[s], components.box[c]), most):
        one, other = s[pair], c[pair]
        mine = segments.regions[_tile(segments.source[one], row, col, grid)] == segments.region[one, None]
        yours = components.regions[_tile(components.source[other], row, col, grid)] == components.region[other, None]
        common.index_add_(0, pair, (mine & yours).sum(1))
    return common


def context_common(segments: Side, s: Tensor, components: Side, c: Tensor, grid: Grid, most: int) -> Tensor:
    """Pixels of equal class, not void, inside both context boxes of pairs, `(P,)` int64; arguments of `mask_common`."""
    common = torch.zeros(len(s), dtype=torch.int64, device=s.device)
    windows = _overlap(segments.around[s], components.around[c])
    side = torch.arange(TILE, device=s.device)
    for pair, row, col in _shared_tiles(windows, most):
        one = segments.classes[_tile(segments.source[s[pair]], row, col, grid)]
        other = components.classes[_tile(components.source[c[pair]], row, col, grid)]
        same = ((one == other) & (one > 0)).view(-1, TILE, TILE)
        y, x, window = row[:, None] * TILE + side, col[:, None] * TILE + side, windows[pair]
        same &= ((y >= window[:, :1]) & (y < window[:, 2:3]))[:, :, None]
        same &= ((x >= window[:, 1:2]) & (x < window[:, 3:]))[:, None, :]
        common.index_add_(0, pair, same.sum((1, 2)))
    return common


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Where boxes overlap, `(P, 4)`; empty ones have no rows or columns, never fewer."""
    start = torch.maximum(one[:, :2], other[:, :2])
    return torch.cat([start, torch.maximum(torch.minimum(one[:, 2:], other[:, 2:]), start)], 1)


def _tile(source: Tensor, row: Tensor, col: Tensor, grid: Grid) -> Tensor:
    rows, cols = grid.tiles
    return (source * rows + row) * cols + col


def _shared_tiles(windows: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The tiles that windows touch, in portions of at most `most` (or one window's): their pair, row and column."""
    first, last = windows[:, :2] // TILE, (windows[:, 2:] + TILE - 1) // TILE
    sizes = last - first
    counts = torch.where((windows[:, 2:] > windows[:, :2]).all(1), sizes.prod(1), 0)
    ends = counts.cumsum(0)
    begin = 0
    while begin < len(counts):
        done = int(ends[begin - 1]) if begin else 0
        end = max(int(torch.searchsorted(ends, done + most, right=True)), begin + 1)
        pair = torch.arange(begin, end, device=windows.device).repeat_interleave(counts[begin:end])
        inside = torch.arange(len(pair), device=windows.device) + done - (ends - counts)[pair]
        width = sizes[pair, 1]
        row = torch.div(inside, width, rounding_mode="floor")
        yield pair, first[pair, 0] + row, first[pair, 1] + inside - row * width
        begin = end


@dataclass
class Best:
    """The best found so far of every component: descending score, ties by ascending id; free places score -1.

    Attributes:
        score: `(q, k)` float64; segment_id: `(q, k)` int64.
        counts: `(q, k, 4)` int64 and place: `(q, k, 2)` int64, of `TopK`.
        scored: `(q,)` int64, how many segments were scored exactly.
    """

    score: Tensor
    segment_id: Tensor
    counts: Tensor
    place: Tensor
    scored: Tensor

    @classmethod
    def empty(cls, q: int, k: int, device: torch.device) -> Best:
        """Nothing found for any of `q` components."""
        zeros = torch.zeros((q, k, 6), dtype=torch.int64, device=device)
        score = torch.full((q, k), -1.0, dtype=torch.float64, device=device)
        return cls(score, zeros[..., 0].clone(), zeros[..., :4].clone(), zeros[..., 4:].clone(), zeros[:, 0, 0].clone())

    def insert(self, c: Tensor, score: Tensor, segment_id: Tensor, counts: Tensor, place: Tensor) -> None:
        """Puts scored pairs in their places; `c` is the component of each, no pair twice."""
        scored = torch.bincount(c, minlength=len(self.scored))
        self.scored += scored
        k, touched = self.score.shape[1], torch.nonzero(scored)[:, 0]
        held = touched.repeat_interleave(k)
        component = torch.cat([held, c])
        score = torch.cat([self.score[touched].flatten(), score])
        segment_id = torch.cat([self.segment_id[touched].flatten(), segment_id])
        order = segment_id.argsort()
        order = order[score[order].argsort(descending=True, stable=True)]
        order = order[component[order].argsort(stable=True)]
        component = component[order]
        rank = torch.arange(len(order), device=c.device) - torch.searchsorted(component, component)
        kept = rank < k
        component, rank, order = component[kept], rank[kept], order[kept]
        counts = torch.cat([self.counts[touched].flatten(0, 1), counts])
        place = torch.cat([self.place[touched].flatten(0, 1), place])
        self.score[component, rank], self.segment_id[component, rank] = score[order], segment_id[order]
        self.counts[component, rank], self.place[component, rank] = counts[order], place[order]


def scores(counts: Tensor, weights: tuple[float, float]) -> Tensor:
    """The score of `(P, 4)` counts as those of `TopK`: `(P,)` float64 (score, section 8)."""
    mask, mask_union, context, context_union = counts.double().unbind(1)
    return weights[0] * (mask / mask_union) + weights[1] * (context / context_union.clamp(min=1))
