"""What a retrieval returns: components with their hits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from ..storage.classes import Layout
from ..storage.codec import Mask
from ..storage.images import Photograph
from ..storage.layouts import Box, FramedLayout
from ..storage.reader import Reader
from ..storage.records import hex_id

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.table import Table


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


@dataclass(frozen=True, repr=False)
class Retrieval(Sequence[Component]):
    """The components of a layout in raster order of their first pixel, each with its hits.

    Attributes:
        layout: `(H, W)` uint16 as it was searched, in the bank's class ids.
        frame: `(rows, cols)` of the bank.
        skipped: components under the minimum area, without hits.
        warnings: what the user should know, one sentence each.
    """

    layout: Layout
    frame: tuple[int, int]
    components: Sequence[Component]
    skipped: Sequence[Component]
    warnings: Sequence[str]
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
        """One row a hit: component, class, boxes, rank, segment (16 hex digits), scores, source."""
        import pandas as pd

        rows = [
            {
                "component": number,
                "class_id": component.class_id,
                "class_name": component.class_name,
                "area": component.area,
                **dict(zip(("top", "left", "bottom", "right"), component.box, strict=True)),
                "rank": rank,
                "segment": hex_id(hit.segment_id),
                "score": hit.score,
                "mask_iou": hit.mask_iou,
                "context_iou": hit.context_iou,
                **dict(zip(("hit_top", "hit_left", "hit_bottom", "hit_right"), hit.box, strict=True)),
                "source": hit.source,
            }
            for number, component in enumerate(self.components)
            for rank, hit in enumerate(component.hits)
        ]
        return pd.DataFrame(rows, columns=_COLUMNS)

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


_COLUMNS = [
    *("component", "class_id", "class_name", "area", "top", "left", "bottom", "right", "rank", "segment"),
    *("score", "mask_iou", "context_iou", "hit_top", "hit_left", "hit_bottom", "hit_right", "source"),
]
