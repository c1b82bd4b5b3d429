"""Simulated canvases without end: photographs of a bank as retrieval would have left them (SIMS, section 5.2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cached_property, partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...storage.classes import Layout
from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.layouts import Box, areas_and_boxes
from ...synth.colour import Pixels
from ...synth.encoding import class_indices, to_tensor
from ...synth.filling import filled
from ...synth.simulation import Simulation, Stencil, simulate
from ...synth.transform import Mask, Target, fit, warp_mask
from ..progress import Progress, silent
from .hits import NONE, SegmentPool, find_hits, too_small
from .sources import BankSources, Picture

STENCIL_BYTES = 256 << 20
"""Placed masks that a process keeps, at most; those beyond are decoded and placed again."""
COLOUR_BYTES = 64 << 20
"""Pixels whose tone others take on that a process keeps, at most."""
COLOUR_PIXELS = 2048
"""Of a segment, evenly spaced, that stand for its tone."""


class Simulated(NamedTuple):
    """A photograph with a canvas that retrieval might have left of it.

    Attributes:
        image: `(H, W, 3)` uint8 RGB; layout: `(H, W)` uint16 class ids of the bank.
        canvas: `(H, W, 3)` uint8 RGB, filled, or white or black, where not `valid`, `(H, W)` bool.
    """

    image: Photograph
    layout: Layout
    canvas: Photograph
    valid: Mask


class CanvasSamples(Dataset[dict[str, Tensor]]):
    """Simulated canvases by number; what number `k` holds depends on the seed and `k` alone.

    Every epoch goes through all sources once, in an order of its own. Pickles to a process that opens the bank anew.

    Args:
        sources: the photographs; each is stencilled with segments of the `train` split outside its own group.
        settings: how canvases are simulated.
        seed: of all chances, at least 0.
        k: for every segment, one of its k best hits is drawn each time.
        flip: half of the samples are mirrored as a whole.
        fill: what canvases do not show is filled (`filling.filled`).
        progress: told while photographs are decoded and hits retrieved, at the first use or in `prepare`.

    Raises:
        InputError: there are no sources, or k is no whole number of at least 1.
    """

    def __init__(
        self,
        sources: BankSources,
        settings: Simulation | None = None,
        *,
        seed: int = 0,
        k: int = 5,
        flip: bool = False,
        fill: bool = False,
        progress: Progress = silent,
    ) -> None:
        if not len(sources):
            raise InputError(
                sentence(sources.reader.path, expected=f"labelled sources in {sources.split}", found="none")
            )
        if not isinstance(k, int) or k < 1:
            raise InputError(sentence("k", expected="a whole number of at least 1", found=repr(k)))
        self.sources, self.settings = sources, settings or Simulation()
        self.seed, self.k, self.flip, self.fill, self._progress = seed, k, flip, fill, progress
        self._stencils: _Recent[_Packed] = _Recent(STENCIL_BYTES)
        self._tones: _Recent[Pixels] = _Recent(COLOUR_BYTES)
        self._epoch: tuple[int, npt.NDArray[np.int64]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        opened = {"_pool", "_indices"} | ({"hits"} if self.sources.cache is not None else set())
        state = {name: each for name, each in vars(self).items() if name not in opened}
        return state | {"_stencils": _Recent(STENCIL_BYTES), "_tones": _Recent(COLOUR_BYTES), "_progress": silent}

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        """`layout` `(H, W)` int64 channels, void the last; `canvas`, `image` `(3, H, W)`; `valid` `(1, H, W)`.

        Raises:
            BankError: the bank is damaged.
        """
        made = self.simulated(self.source_of(k), np.random.default_rng([self.seed, k]))
        return {
            "layout": torch.from_numpy(self._indices[made.layout]),
            "canvas": to_tensor(made.canvas),
            "valid": torch.from_numpy(made.valid[None].astype(np.float32)),
            "image": to_tensor(made.image),
        }

    def prepare(self) -> None:
        """Decodes photographs and retrieves hits now, as far as they are kept.

        Raises:
            InputError: the bank is too small to leave a source's own group out; or the cache cannot be written.
        """
        if not self._pool.can_leave_out():
            raise too_small(self.sources.reader)
        self.sources.prepare()
        _ = self.hits

    def source_of(self, k: int) -> int:
        """The number of the source that sample `k` is made of."""
        epoch, place = divmod(k, len(self.sources))
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.sources))
        return int(self._epoch[1][place])

    def simulated(self, number: int, random: np.random.Generator) -> Simulated:
        """A canvas of a source, in arrays."""
        picture = self.sources[number]
        segments = self.sources.segments(number)
        chosen = self._chosen(number, random)
        stencils = self._placed(number, picture, chosen)
        colours = self._tones_of(number, segments.class_ids, random)
        things = np.append(False, self.sources.reader.classes.flags("thing")[segments.class_ids])
        canvas = simulate(picture.image, picture.regions, stencils, colours, things, self.settings, random)
        made = Simulated(picture.image, picture.layout, *(filled(canvas, picture.layout) if self.fill else canvas))
        if self.flip and random.random() < 0.5:
            return Simulated(*(np.flip(array, 1).copy() for array in made))  # type: ignore[arg-type]
        return made

    @cached_property
    def hits(self) -> list[npt.NDArray[np.uint64]]:
        """By source, `(s, k)` ids of the hits of its segments, best first, `NONE` where there are no more."""
        return find_hits(self.sources, self.k, self._progress)

    def _chosen(self, number: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
        """`(s,)`, which of its hits each segment is stencilled with, -1 where it has none."""
        counts = (self.hits[number] != NONE).sum(axis=1)
        return np.where(counts > 0, (random.random(len(counts)) * counts).astype(np.int64), -1)

    def _placed(self, number: int, picture: Picture, chosen: npt.NDArray[np.int64]) -> dict[int, Stencil]:
        """By region, the mask of the chosen hit where it would be painted."""
        areas, boxes = areas_and_boxes(picture.regions.astype(np.uint32), len(chosen))
        placed = {}
        for i in np.flatnonzero((chosen >= 0) & (areas > 0)).tolist():
            top, left, bottom, right = boxes[i].tolist()
            target = Target((top, left, bottom, right), picture.regions[top:bottom, left:right] == i + 1)
            id = self.hits[number][i, chosen[i]]
            packed = self._stencils.get((number, i, int(id)), partial(self._place, target, id))
            placed[i + 1] = Stencil(packed.box, packed.mask())
        return placed

    def _place(self, target: Target, id: np.uint64) -> _Packed:
        """A hit's mask fitted to a component as when painting."""
        row = self._pool.row(id)
        piece = self._pool.piece(row, self._pool.mask(row), target)
        box, mask = warp_mask(piece, fit(piece, self.sources.size), self.sources.size)
        return _Packed(box, np.packbits(mask))

    def _tones_of(
        self, number: int, class_ids: npt.NDArray[np.uint16], random: np.random.Generator
    ) -> dict[int, Pixels]:
        """By region, for a share of them, pixels of a random segment of the class that this source may see."""
        tones, group = {}, str(self.sources.groups[number])
        for i in np.flatnonzero(random.random(len(class_ids)) < self.settings.colour_share).tolist():
            row = self._pool.one_of(int(class_ids[i]), group, random)
            if row is not None:
                tones[i + 1] = self._tones.get(row, partial(self._pixels, row))
        return tones

    def _pixels(self, row: int) -> Pixels:
        own = self._pool.pixels(row)
        return own[:: -(-len(own) // COLOUR_PIXELS)].copy()

    @cached_property
    def _pool(self) -> SegmentPool:
        return SegmentPool(self.sources.reader)

    @cached_property
    def _indices(self) -> npt.NDArray[np.int64]:
        return class_indices(tuple(self.sources.reader.classes))


class _Packed(NamedTuple):
    """A mask in its box on the canvas, eight pixels a byte."""

    box: Box
    bits: npt.NDArray[np.uint8]

    def mask(self) -> Mask:
        rows, cols = self.box[2] - self.box[0], self.box[3] - self.box[1]
        return np.unpackbits(self.bits, count=rows * cols).view(bool).reshape(rows, cols)

    @property
    def nbytes(self) -> int:
        return self.bits.nbytes + 200  # of the tuples and the key


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


class _Recent(Generic[T]):
    """What was used last, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self._budget, self._bytes = budget, 0
        self._entries: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a key, or what is made now."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        made = self._entries[key] = make()
        self._bytes += made.nbytes
        while self._bytes > self._budget and self._entries:
            self._bytes -= self._entries.popitem(last=False)[1].nbytes
        return made
