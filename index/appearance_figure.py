"""Draws what looks alike: a segment at the left of each row, behind it those that look most like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .appearance import Similar
from .figure import (
    CELL,
    DOTS_PER_INCH,
    FAINT,
    GAP,
    MARGIN,
    MOST_HITS,
    NEUTRAL,
    PICTURE,
    TITLE,
    _Sheet,
    _short,
    _show,
    cut_out,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION = 0.4  # inches, below a picture
LEAST_CELLS = 3  # so that the title fits


def draw_similar(rows: Sequence[tuple[Similar, Sequence[Similar]]], title: str = "More like this") -> Figure:
    """One row a query: the segment itself, then its neighbours, nearest first, with their distances.

    Args:
        rows: each a segment (`AppearanceIndex.describe` of itself) and what looks like it; `MOST_HITS` are drawn.
        title: above all.

    Returns:
        A figure of its own, of no window and no global state.
    """
    from matplotlib.figure import Figure

    cells = 1 + max((min(len(found), MOST_HITS) for _, found in rows), default=0)
    line = PICTURE + CAPTION + GAP
    width = 2 * MARGIN + max(cells, LEAST_CELLS) * (CELL + GAP) + GAP
    height = TITLE + line * max(len(rows), 1) + MARGIN
    sheet = _Sheet(Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white"))
    sheet.text(MARGIN, 0.14, title, size=11, weight="bold")
    for number, (query, found) in enumerate(rows):
        top = TITLE + number * line
        _draw_segment(sheet, query, _short(query.class_name, 20), f"query {number}", MARGIN, top)
        left = MARGIN + CELL + 2 * GAP
        if not found:
            sheet.text(left, top + PICTURE / 2 - 0.06, "nothing to compare it with", 7.5, FAINT, style="italic")
        for rank, each in enumerate(found[:MOST_HITS]):
            said = f"{each.distance:,}" + (f"  {_short(each.class_name, 14)}" * (each.class_id != query.class_id))
            _draw_segment(sheet, each, said, f"neighbour {number}.{rank}", left + rank * (CELL + GAP), top)
    return sheet.figure


def _draw_segment(sheet: _Sheet, segment: Similar, said: str, label: str, left: float, top: float) -> None:
    axes = sheet.axes((left, top, CELL, PICTURE), label)
    axes.set_facecolor(NEUTRAL)
    _show(axes, cut_out(segment.pixels(), segment.mask()), CELL / PICTURE)
    sheet.text(left, top + PICTURE + 0.05, said, 8, weight="bold")
    sheet.text(left, top + PICTURE + 0.21, _short(segment.source, 27), 6.2, FAINT)
