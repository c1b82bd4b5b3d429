"""Exact search of many components at once on a CUDA device, or by the same operations on the CPU.

A bank is cut into blocks of whole sources that fit the device's memory (`device_bank.py`). Per class and block, one
matrix product bounds every pair (`device_kernels.py`); those with the best bounds are scored exactly, in rounds of
growing size, and then whatever the k-th score leaves: the mask first, the context only where it can still matter.

The arithmetic is tested on the CPU; its speed on a GPU has not been measured. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..storage.errors import InstallationError, sentence
from ..storage.reader import Reader
from . import device_kernels as kernels
from .device_bank import Block, DeviceBank, DeviceLimits, runs
from .device_kernels import Best, Side
from .query import Query
from .scoring import TopK

HEAD = 12
"""Segments with the highest bounds that a component has scored first; at least 2 k."""
ROUNDS = (1, 4, 16)
"""So many times as many have been scored after each round, unless the k-th score rules them out; the rest follow."""
_TINY = 1e-30  # more than what float32 loses in numbers too small for its usual precision
_PAIR_BYTES = 48  # of scratch memory for a bounded pair
_EXACT_BYTES = 512  # for a scored pair
_TILE_BYTES = 1024  # for a tile that two maps are compared in


class DeviceSearch:
    """Exact search in one generation of a bank, by torch.

    Args:
        reader: of the bank.
        device: where to search, such as `cuda:1`; default `cuda` where there is one, else `cpu`.
        limits: of memory; default `DeviceLimits.of` the device.
        dtype: of the factors of the bounds' matrix products; default float16 on CUDA, else float32.

    Raises:
        InstallationError: torch cannot use the device.
    """

    def __init__(
        self,
        reader: Reader,
        device: str | None = None,
        limits: DeviceLimits | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.reader = reader
        self.device = _usable(device)
        self.limits = limits or DeviceLimits.of(self.device)
        default = torch.float16 if self.device.type == "cuda" else torch.float32
        self._bank = DeviceBank(reader, self.device, self.limits, dtype or default)

    @torch.no_grad()
    def search(
        self,
        queries: Sequence[Query],
        k: int,
        allowed: Sequence[npt.NDArray[np.bool_]] | None = None,
        weights: tuple[float, float] = (1.0, 1.0),
    ) -> list[TopK]:
        """The k best of every component of every layout, as `ExactSearch.search` gives them (but for `scored`).

        Args:
            queries: of `make_query`.
            k: hits a component, at most.
            allowed: by shard, which rows are candidates; None for all that are in the bank.
            weights: of mask and context, at least 0, not both 0.
        """
        widths = [min(k, max(map(self._class_size, query.class_ids.tolist()), default=0)) or 1 for query in queries]
        keep = self._bank.tensor(np.concatenate(allowed)) if allowed else None
        found = []
        for first, last in self._batches(queries, widths):
            best = self._search_batch(queries[first:last], max(widths[first:last]), keep, weights)
            found += _tables(best, [len(query.class_ids) for query in queries[first:last]], widths[first:last])
        return found

    def _class_size(self, class_id: int) -> int:
        ranges = [shard.entry.classes.get(class_id, (0, 0)) for shard in self.reader.shards]
        return sum(stop - start for start, stop in ranges)

    def _batches(self, queries: Sequence[Query], widths: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Runs of layouts that fit the memory for a batch."""
        answer = [len(query.class_ids) * width * 64 for query, width in zip(queries, widths, strict=True)]
        sizes = [self._bank.source_bytes(len(query.class_ids)) + a for query, a in zip(queries, answer, strict=True)]
        yield from runs(sizes, self.limits.batch)

    def _search_batch(
        self, queries: Sequence[Query], width: int, keep: Tensor | None, weights: tuple[float, float]
    ) -> Best:
        class_ids = np.concatenate([query.class_ids for query in queries])
        best = Best.empty(len(class_ids), width, self.device)
        if not len(class_ids):
            return best
        components = self._bank.components(queries)
        for block in self._bank.blocks():
            for class_id in np.unique(class_ids).tolist():
                rows = block.candidates(class_id, keep)
                c = self._bank.tensor(np.flatnonzero(class_ids == class_id))
                for s, part in self._portions(rows, c):
                    self._search_pairs(block, components, s, part, best, weights)
            del block  # before the next one is unpacked
        return best

    def _portions(self, rows: Tensor, c: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Segments and components whose pairs, and copies of whose roots, fit the scratch memory."""
        pairs = max(self.limits.scratch // _PAIR_BYTES, 1)
        most = max(min(pairs, self.limits.scratch // self._bank.root_bytes), 1)
        for first in range(0, len(rows), most):
            s = rows[first : first + most]
            step = max(pairs // len(s), 1)
            for begin in range(0, len(c), step):
                yield s, c[begin : begin + step]

    def _search_pairs(
        self, block: Block, components: Side, s: Tensor, c: Tensor, best: Best, weights: tuple[float, float]
    ) -> None:
        """Some segments of a block for some components: the best by bound first, then what may still be among the k."""
        most = max(weights)
        scaled = (weights[0] / most, weights[1] / most)
        bound, around = kernels.bounds(block.side, s, components, c, self._bank.grid, scaled)
        head = max(HEAD, 2 * best.score.shape[1])
        highest, at = bound.topk(min(len(s), head * ROUNDS[-1]))
        for first, last in zip((0, *ROUNDS), ROUNDS, strict=False):
            ranks = slice(head * first, head * last)
            i, j = torch.nonzero(highest[:, ranks] >= _least(best, c, most)[:, None], as_tuple=True)
            j = at[:, ranks][i, j]
            self._score(block, components, s[j], c[i], around[i, j], best, weights)
        bound.scatter_(1, at, -2.0)  # below the -1 of free places
        i, j = torch.nonzero(bound >= _least(best, c, most)[:, None], as_tuple=True)
        self._score(block, components, s[j], c[i], around[i, j], best, weights)

    def _score(
        self,
        block: Block,
        components: Side,
        s: Tensor,
        c: Tensor,
        around: Tensor,
        best: Best,
        weights: tuple[float, float],
    ) -> None:
        """Scores pairs exactly and keeps the best; `around` bounds their context terms."""
        side, grid, tiles = block.side, self._bank.grid, max(self.limits.scratch // _TILE_BYTES, 1)
        step = max(self.limits.scratch // _EXACT_BYTES, 1)
        for first in range(0, len(s), step):
            portion = slice(first, first + step)
            one, other = s[portion], c[portion]
            common = kernels.mask_common(side, one, components, other, grid, tiles)
            mask = torch.stack([common, side.area[one] + components.area[other] - common], 1)
            reached = mask[:, 0].double() / mask[:, 1] * (weights[0] / max(weights)) + around[portion]
            keep = torch.nonzero(reached >= _least(best, other, max(weights)))[:, 0]
            one, other, mask = one[keep], other[keep], mask[keep]
            common = kernels.context_common(side, one, components, other, grid, tiles)
            both = side.context_area[one] + components.context_area[other]
            counts = torch.cat([mask, common[:, None], (both - common)[:, None]], 1)
            score = kernels.scores(counts, weights)
            best.insert(other, score, block.segment_id[one], counts, block.place[one])


def _least(best: Best, c: Tensor, most: float) -> Tensor:
    """What a float32 bound of scores divided by `most` must reach for a segment to enter the best of components."""
    return (best.score[c, -1] / most * kernels.FLOAT_SLACK - _TINY).float()


def _tables(best: Best, components: Sequence[int], widths: Sequence[int]) -> list[TopK]:
    """The answers to a batch, cut by layout."""
    score, segment_id, counts, place, scored = (
        each.cpu().numpy() for each in (best.score, best.segment_id, best.counts, best.place, best.scored)
    )
    found = []
    ends = np.cumsum(components)
    for end, count, width in zip(ends, components, widths, strict=True):
        rows = np.s_[end - count : end]
        full = score[rows, :width] >= 0
        found.append(
            TopK(
                full.sum(1),
                np.where(full, score[rows, :width], 0.0),
                segment_id[rows, :width].astype(np.uint64),
                counts[rows, :width],
                place[rows, :width],
                scored[rows],
            )
        )
    return found


def _usable(device: str | None) -> torch.device:
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        usable = torch.device(name)
        torch.empty(1, device=usable)
    except (RuntimeError, AssertionError) as error:
        fix = "leave the device out to search on the CPU where there is no GPU"
        raise InstallationError(
            sentence(f"device {name!r}", expected="one that torch can use, such as 'cuda' or 'cpu'", fix=fix)
        ) from error
    return usable
