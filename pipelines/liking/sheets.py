"""What is shown of pictures like a reference: all of them with their losses, their mean, and depths beside noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ...storage.images import Photograph
from .references import Reference, outlined

CELL, MARGIN, LINE = 96, 4, 16
"""Pixels: a picture's side at least, the space around it, a line of text under it."""
SHOWN = 8
"""Pictures of each cell of a sheet of depths and noise, beside their mean."""


class Cell(NamedTuple):
    """Pictures of one depth and one level of noise."""

    depth: str
    noise: float
    pictures: Sequence[Photograph]
    losses: Sequence[float]


def mean_of(pictures: Sequence[Photograph]) -> Photograph:
    """The mean picture (figure 10); what all of them keep stays sharp."""
    mean: Photograph = np.stack(pictures).astype(np.float64).mean(axis=0).round().astype(np.uint8)
    return mean


def grid(references: Sequence[Reference], pictures: Sequence[Photograph], losses: Sequence[float]) -> Photograph:
    """The references outlined and the mean, then all pictures, the best first, each over its loss."""
    times = max(1, round(CELL / pictures[0].shape[0]))
    cells = [(outlined(each.image, each.region, times), "reference") for each in references]
    cells.append((_large(mean_of(pictures), times), "mean"))
    cells += [(_large(picture, times), f"{loss:.4f}") for picture, loss in zip(pictures, losses, strict=True)]
    across = max(2, int(np.ceil(np.sqrt(len(cells) * 1.5))))
    return _page([cells[start : start + across] for start in range(0, len(cells), across)])


def sheet(references: Sequence[Reference], rows: Sequence[Sequence[Cell]]) -> Photograph:
    """Figure 10 for one reference: a block a depth and level of noise, first the mean, then the best pictures."""
    times = max(1, round(CELL / references[0].image.shape[0]))
    lines = [[(outlined(each.image, each.region, times), "reference") for each in references]]
    for row in rows:
        for cell in row:
            said = f"{cell.depth} {cell.noise:g}"
            shown = [(_large(mean_of(cell.pictures), times), said)]
            pairs = zip(cell.pictures[:SHOWN], cell.losses[:SHOWN], strict=True)
            lines.append(shown + [(_large(picture, times), f"{loss:.4f}") for picture, loss in pairs])
    return _page(lines)


def _page(lines: Sequence[Sequence[tuple[Photograph, str]]]) -> Photograph:
    side = max(cell.shape[0] for line in lines for cell, _ in line)
    down, across = side + LINE + MARGIN, side + MARGIN
    wide = max(map(len, lines))
    page = np.full((MARGIN + down * len(lines), MARGIN + across * wide, 3), 255, np.uint8)
    for row, line in enumerate(lines):
        for column, (cell, said) in enumerate(line):
            y, x = MARGIN + down * row, MARGIN + across * column
            page[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
            place = (x, y + side + LINE - 4)
            cv2.putText(page, said, place, cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return page


def _large(picture: Photograph, times: int) -> Photograph:
    return picture.repeat(times, axis=0).repeat(times, axis=1)
