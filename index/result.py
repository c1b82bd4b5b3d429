"""What a retrieval returns: components with their hits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from ..storage.classes import Layout
from ..storage.codec import Mask
from ..storage.errors import InputError, sentence
from ..storage.images import Photograph
from ..storage.layouts import Box, FramedLayout, sample_to_frame
from ..storage.reader import Reader
from ..storage.records import hex_id
from .request import RetrievalOptions

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure
    from rich.table import Table

    from .explain import Explanation


@dataclass(frozen=True)
class Asked:
    """Which component of which layout a hit answers, and with which weights its score was made."""

    framed: FramedLayout
    number: int
    weights: tuple[float, float]


@dataclass(frozen=True)
class Hit:
    """A stored segment that fits a component.

    Attributes:
        segment_id: of the segment; class_id, class_name: of both.
        score: `mask_weight * mask_iou + context_weight * context_iou`.
        mask_iou, context_iou: in 0..1.
        box: the segment's box in the frame.
        source: name of the photograph it comes from, as in `bank.sources()`.
    """

    segment_id: int
    class_id: int
    class_name: str
    score: float
    mask_iou: float
    context_iou: float
    box: Box
    source: str
    _reader: Reader = field(repr=False, compare=False)
    _shard: int = field(repr=False, compare=False)
    _row: int = field(repr=False, compare=False)
    _asked: Asked | None = field(default=None, repr=False, compare=False)

    def pixels(self) -> Photograph:
        """The segment, `(h, w, 3)` uint8 RGB at its source's own resolution, 0 outside its mask."""
        return self._reader.segment_pixels(self._shard, self.segment_id)

    def mask(self) -> Mask:
        """The segment's mask, `(h, w)` bool at its source's own resolution."""
        return self._reader.segment_mask(self._shard, self.segment_id)

    def record(self) -> dict[str, Any]:
        """The segment's row of `bank.segments()`."""
        return self._reader.row("segments", self._shard, self._row)

    def source_record(self) -> dict[str, Any]:
        """Its source's row of `bank.sources()`."""
        source = int(self._reader.shards[self._shard].footprints.source[self._row])
        return self._reader.row("sources", self._shard, source)

    def explain(self) -> Explanation:
        """Both terms of the score with what they were counted from, the boxes, and a picture of the overlap.

        Raises:
            InputError: the hit was found by something else than a layout.
        """
        from .explain import explain

        if self._asked is None:
            raise InputError(sentence(f"segment {hex_id(self.segment_id)}", "answers no component of a layout"))
        return explain(self, self._asked)


@dataclass(frozen=True, repr=False)
class Component:
    """A component of the layout and what was found for it, best first.

    Attributes:
        class_id, class_name: of the component.
        box: in the frame; area: frame pixels.
        hits: at most k, fewer where the bank has fewer candidates.
        scored: how many segments were scored exactly to be sure.
    """

    class_id: int
    class_name: str
    box: Box
    area: int
    hits: Sequence[Hit]
    scored: int
    _number: int = field(repr=False)
    _framed: FramedLayout = field(repr=False, compare=False)

    def __repr__(self) -> str:
        best = f", best {self.hits[0].score:.3f}" if self.hits else ""
        return f"Component({self.class_name}, box {self.box}, {self.area:,} pixels, {len(self.hits)} hits{best})"

    @property
    def mask(self) -> Mask:
        """The footprint inside its box, `(h, w)` bool in the frame."""
        top, left, bottom, right = self.box
        mask: Mask = self._framed.labels[top:bottom, left:right] == self._number + 1
        return mask

    def in_layout(self) -> tuple[Box, Mask]:
        """Its box and mask at the layout's own resolution: `(top, left, bottom, right)`, `(h, w)` bool."""
        top, left, bottom, right = (int(side) for side in self._framed.layout_boxes[self._number])
        window = self._framed.components.labels[top:bottom, left:right]
        return (top, left, bottom, right), window == self._number + 1

    def at_size(self, size: tuple[int, int]) -> tuple[Box, Mask] | None:
        """`in_layout` of the layout sampled to `(rows, cols)`; None where nothing of it is left there."""
        whole = sample_to_frame(self._framed.components.labels, size) == self._number + 1
        rows, cols = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
        if not len(rows):
            return None
        top, left, bottom, right = int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1
        return (top, left, bottom, right), whole[top:bottom, left:right]


@dataclass(frozen=True, repr=False)
class Retrieval(Sequence[Component]):
    """The components of a layout in raster order of their first pixel, each with its hits; equal where these are.

    Attributes:
        layout: `(H, W)` uint16 as it was searched, in the bank's class ids.
        frame: `(rows, cols)` of the bank.
        skipped: components under the minimum area, without hits.
        warnings: what the user should know, one sentence each.
        options: what was asked for, as it was resolved.
        certified: the hits are those of exact search among the candidates; where it is false, an approximate index
            nominated them.
    """

    layout: Layout = field(compare=False)
    frame: tuple[int, int]
    components: Sequence[Component]
    skipped: Sequence[Component]
    warnings: Sequence[str]
    options: RetrievalOptions = field(compare=False)
    certified: bool
    _reader: Reader = field(repr=False, compare=False)

    def __repr__(self) -> str:
        hits = sum(len(component.hits) for component in self.components)
        return f"Retrieval({len(self.components)} components, {hits} hits, {len(self.skipped)} skipped)"

    def __len__(self) -> int:
        return len(self.components)

    def __iter__(self) -> Iterator[Component]:
        return iter(self.components)

    @overload
    def __getitem__(self, index: int) -> Component: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Component]: ...
    def __getitem__(self, index: int | slice) -> Component | Sequence[Component]:
        """A component by its number."""
        return self.components[index]

    def to_frame(self) -> pd.DataFrame:
        """`to_arrow` as a pandas table."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_arrow(self) -> pa.Table:
        """One row a hit: component, class, boxes, rank, segment (16 hex digits), scores, and where it comes from.

        `image` is the photograph's file, relative to `root`, that of its data set; `crop_top` to `crop_right` is the
        segment's box in it, source pixels.
        """
        from .table import hits_table

        return hits_table(self.components, self._reader)

    def explain(self, hit: Hit) -> Explanation:
        """`hit.explain()`: why it scored what it did."""
        return hit.explain()

    def render(self) -> Table:
        """The hits for a terminal, as a rich renderable: one line a hit."""
        from rich.table import Column, Table

        segment, source = Column("segment", no_wrap=True, min_width=16), Column("source", overflow="fold")
        columns = ("component", "box", "rank", segment, "score", "mask", "context", source)
        table = Table(*columns, box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for number, component in enumerate(self.components):
            name, box = f"{number} {component.class_name}", " ".join(map(str, component.box))
            for rank, hit in enumerate(component.hits):
                scores = (f"{value:.4f}" for value in (hit.score, hit.mask_iou, hit.context_iou))
                table.add_row(name, box, str(rank), hex_id(hit.segment_id), *scores, hit.source)
            if not component.hits:
                table.add_row(name, box, "-", "no candidate")
        table.caption = f"{len(self.components)} components, {len(self.skipped)} under the minimum area"
        return table

    def figure(self, most: int = 12) -> Figure:
        """The layout and, for its largest components, the hits with their scores, as a matplotlib figure."""
        from .figure import draw

        return draw(self, most)

    def _repr_png_(self) -> bytes:
        from .figure import to_png

        return to_png(self.figure())

    def painted(self) -> npt.NDArray[np.uint8]:
        """The layout in the classes' colours, `(H, W, 3)` uint8."""
        return self._reader.classes.painted(self.layout)
