"""Why a hit scored what it did: both terms recounted pixel by pixel, the boxes, and a picture of the overlap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..storage.classes import VOID, Layout
from ..storage.codec import Mask
from ..storage.footprints import source_regions
from ..storage.layouts import Box, context_box
from ..storage.records import hex_id
from .figure import FAINT, INK, NEUTRAL, cut_out, save_figure, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.table import Table

    from .result import Asked, Hit

# RGB 0..255
QUERY, SEGMENT, BOTH = (0, 114, 178), (230, 159, 0), (0, 158, 115)
"""What only the component covers, only the segment, and both; colours that the colour-blind tell apart."""
DIFFERENT = (204, 121, 167)
"""Labelled in both contexts, but with different classes."""
_BACKGROUND = tuple(int(NEUTRAL[i : i + 2], 16) for i in (1, 3, 5))


@dataclass(frozen=True)
class Term:
    """One of the two terms of a score, in frame pixels (score, sections 6 and 7).

    Attributes:
        query, segment: pixels of the component's side and of the segment's: areas, or labelled pixels of context.
        common: pixels of both, in the context those of equal class.
        union: `query + segment - common`.
    """

    query: int
    segment: int
    common: int

    @property
    def union(self) -> int:
        return self.query + self.segment - self.common

    @property
    def iou(self) -> float:
        """In 0..1; 0 where both sides are empty."""
        return self.common / self.union if self.union else 0.0


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """A hit beside the component it answers, in the frame.

    Attributes:
        hit: the hit; weights: of mask and context in its score.
        mask, context: the two terms.
        query_box, segment_box: the tight boxes; query_context_box, segment_context_box: an eighth larger on each side.
        query_mask, segment_mask: `(R, C)` bool.
        query_context, segment_context: `(R, C)` uint16 class ids inside the context box, `VOID` outside.
    """

    hit: Hit
    weights: tuple[float, float]
    mask: Term
    context: Term
    query_box: Box
    segment_box: Box
    query_context_box: Box
    segment_context_box: Box
    query_mask: Mask
    segment_mask: Mask
    query_context: Layout
    segment_context: Layout

    def __repr__(self) -> str:
        (m, c), mask, context = self.weights, self.mask, self.context
        return (
            f"Explanation({self.hit.class_name} {hex_id(self.hit.segment_id)}: {self.hit.score:.4f} = "
            f"{m:g} x {mask.common}/{mask.union} + {c:g} x {context.common}/{context.union})"
        )

    def render(self) -> Table:
        """The counts and boxes for a terminal, as a rich renderable."""
        from rich.table import Table

        columns = (
            "term",
            "weight",
            "component",
            "segment",
            "common",
            "union",
            "IoU",
            "component's box",
            "segment's box",
        )
        table = Table(*columns, box=None, pad_edge=False, padding=(0, 1, 0, 0))
        boxes = (self.query_box, self.segment_box), (self.query_context_box, self.segment_context_box)
        for name, weight, term, pair in zip(
            ("mask", "context"), self.weights, (self.mask, self.context), boxes, strict=True
        ):
            counts = (f"{count:,}" for count in (term.query, term.segment, term.common, term.union))
            sides = (" ".join(map(str, box)) for box in pair)
            table.add_row(name, f"{weight:g}", *counts, f"{term.iou:.4f}", *sides)
        segment = f"segment {hex_id(self.hit.segment_id)} of {self.hit.source}"
        table.caption = f"{self.hit.class_name}: score {self.hit.score:.4f}, {segment}"
        return table

    def overlap(self) -> npt.NDArray[np.uint8]:
        """Which pixels the component covers, which the segment, and which both: `(R, C, 3)` uint8 RGB."""
        picture = _plain(self.query_mask.shape)
        picture[self.query_mask], picture[self.segment_mask] = QUERY, SEGMENT
        picture[self.query_mask & self.segment_mask] = BOTH
        return picture

    def agreement(self) -> npt.NDArray[np.uint8]:
        """Where the contexts agree, where they differ, and what only one of them labels: `(R, C, 3)` uint8 RGB."""
        of_query, of_segment = self.query_context != VOID, self.segment_context != VOID
        picture = _plain(of_query.shape)
        picture[of_query], picture[of_segment] = QUERY, SEGMENT
        picture[of_query & of_segment] = DIFFERENT
        picture[of_query & of_segment & (self.query_context == self.segment_context)] = BOTH
        return picture

    def figure(self) -> Figure:
        """Overlap of the masks, agreement of the contexts, and the segment itself, as a matplotlib figure."""
        from matplotlib.figure import Figure

        top, left, bottom, right = self._window()
        height = 1.1 + 3.3 * min(max((bottom - top) / (right - left), 0.3), 1.5)  # inches
        figure = Figure(figsize=(10.5, height), dpi=120, facecolor="white")
        axes = figure.subplots(1, 3)
        (m, c), mask, context = self.weights, self.mask, self.context
        shares = f"{mask.iou:.4f} = {mask.common:,} / {mask.union:,}"
        _panel(axes[0], self.overlap(), self._window(), f"mask {shares}")
        shares = f"{context.iou:.4f} = {context.common:,} / {context.union:,}"
        _panel(axes[1], self.agreement(), self._window(), f"context {shares}")
        for box, colour in ((self.query_box, QUERY), (self.segment_box, SEGMENT)):
            _outline(axes[0], box, colour)
        for box, colour in ((self.query_context_box, QUERY), (self.segment_context_box, SEGMENT)):
            _outline(axes[1], box, colour)
        _panel(axes[2], cut_out(self.hit.pixels(), self.hit.mask()), None, self.hit.source)
        title = (
            f"{self.hit.class_name}: score {self.hit.score:.4f} = {m:g} x {mask.iou:.4f} + {c:g} x {context.iou:.4f}"
        )
        figure.suptitle(title, size=11, weight="bold", color=INK, parse_math=False)
        _legend(figure)
        figure.subplots_adjust(left=0.02, right=0.98, top=1 - 0.68 / height, bottom=0.42 / height, wspace=0.06)
        return figure

    def save(self, path: str | Path) -> Path:
        """Saves the figure, PNG, JPEG, PDF or SVG by its suffix.

        Raises:
            InputError: nothing can be written there.
        """
        return save_figure(self.figure(), path)

    def _repr_png_(self) -> bytes:
        return to_png(self.figure())

    def _window(self) -> Box:
        """The part of the frame that holds both context boxes."""
        (a, b), (rows, cols) = (self.query_context_box, self.segment_context_box), self.query_mask.shape
        return max(min(a[0], b[0]) - 2, 0), max(min(a[1], b[1]) - 2, 0), min(max(a[2], b[2]) + 2, rows), min(
            max(a[3], b[3]) + 2, cols
        )  # fmt: skip


def explain(hit: Hit, asked: Asked) -> Explanation:
    """Counts both terms of a hit's score from the two layouts, without the search's kernels.

    Args:
        hit: of a retrieval; asked: the component it answers.
    """
    framed = asked.framed
    frame = framed.labels.shape[0], framed.labels.shape[1]
    query_mask = framed.labels == asked.number + 1
    query_layout = np.append(VOID, framed.components.class_ids).astype(np.uint16)[framed.labels]
    top, left, bottom, right = (int(side) for side in framed.boxes[asked.number])
    query_box = top, left, bottom, right
    footprints = hit._reader.shards[hit._shard].footprints
    source = int(footprints.source[hit._row])
    regions = source_regions(footprints, source, frame)
    segment_mask = regions == footprints.region[hit._row]
    start, stop = (int(place) for place in footprints.region_start[source : source + 2])
    segment_layout = footprints.region_class[start:stop][regions]
    boxes = context_box(query_box, frame), context_box(hit.box, frame)
    contexts = _inside(query_layout, boxes[0]), _inside(segment_layout, boxes[1])
    labelled = [context != VOID for context in contexts]
    return Explanation(
        hit,
        asked.weights,
        Term(int(query_mask.sum()), int(segment_mask.sum()), int((query_mask & segment_mask).sum())),
        Term(
            int(labelled[0].sum()),
            int(labelled[1].sum()),
            int((labelled[0] & (contexts[0] == contexts[1])).sum()),
        ),
        query_box,
        hit.box,
        *boxes,
        query_mask,
        segment_mask,
        *contexts,
    )


def _inside(layout: Layout, box: Box) -> Layout:
    inside: Layout = np.full_like(layout, VOID)
    window = np.s_[box[0] : box[2], box[1] : box[3]]
    inside[window] = layout[window]
    return inside


def _plain(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.full((*shape, 3), _BACKGROUND, np.uint8)


def _panel(axes: Axes, picture: npt.NDArray[np.uint8], window: Box | None, title: str) -> None:
    axes.imshow(picture, interpolation="nearest", extent=(0, picture.shape[1], picture.shape[0], 0))
    if window is not None:
        axes.set(xlim=(window[1], window[3]), ylim=(window[2], window[0]))
    axes.set(xticks=[], yticks=[], facecolor=NEUTRAL)
    axes.spines[:].set_visible(False)
    axes.set_title(title, size=8.5, color=INK, parse_math=False)


def _outline(axes: Axes, box: Box, colour: tuple[int, int, int]) -> None:
    from matplotlib.patches import Rectangle

    corner, width, height = (box[1], box[0]), box[3] - box[1], box[2] - box[0]
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=_hex(colour), linewidth=1.2))


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    said = (("component only", QUERY), ("segment only", SEGMENT), ("both", BOTH), ("different classes", DIFFERENT))
    handles: list[Any] = [Patch(color=_hex(colour), label=text) for text, colour in said]
    figure.legend(handles=handles, loc="lower left", ncols=4, frameon=False, fontsize=8, labelcolor=FAINT)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()
