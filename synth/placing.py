"""Where an object may go, and what it covers there: places are drawn where its class stands, sizes follow the foot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.layouts import Box
from .grounding import CELLS, Grounding, cell_middles

Index = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]
Frame = tuple[float, float, float, float]
"""A box in shares of the frame: top, left, bottom, right."""

NEAR = 0.06
"""Of the rows: how far a foot may move of an object whose size does not follow from it."""
SCALE_SPREAD = 0.35
"""Standard deviation of the logarithm of an object's change of size: places that leave it its size are drawn more."""


class Layer(NamedTuple):
    """A part of what is put into a scene, of one class.

    Attributes:
        class_index: of its class; place: where it was, in shares of the frame it comes from; mask: `(h, w)` bool.
        segment: id of the bank's segment that it is, 0 for an object of the layout itself; thin: of a thin class.
    """

    class_index: int
    place: Frame
    mask: Mask
    segment: int = 0
    thin: bool = False


class Place(NamedTuple):
    """Where an object's foot goes, row and middle in shares of the frame, and how its size changes there."""

    foot: float
    middle: float
    scale: float


@dataclass(eq=False)
class Placed:
    """Layers where they would be in a scene: clipped boxes, in pixels, and masks; the first carries the others."""

    layers: list[tuple[Layer, Box, Mask]]
    foot: float
    stands: bool


class Places:
    """Draws places in one scene.

    Args:
        grounding: of the bank; behind: `(H, W)` class indices of the stuff behind all objects.
        growth: the factor by which a size may change, at most.
    """

    def __init__(self, grounding: Grounding, behind: Index, growth: float) -> None:
        self._grounding, self._growth = grounding, growth
        self._cells = behind[np.ix_(*cell_middles(behind.shape))]
        self._weights: dict[int, npt.NDArray[np.float64]] = {}

    def draw(self, index: int, foot: float, n: int, random: np.random.Generator) -> list[Place]:
        """Up to n places for an object of a class whose foot was in this row, best none where there is no room for it.

        A cell is drawn by how often the bank has feet of the class there, times how often they rest on what is there.
        """
        scales = self._scales(index, foot)
        fitting = np.where(scales > 0, np.exp(-0.5 * (np.log(np.maximum(scales, 1e-9)) / SCALE_SPREAD) ** 2), 0)
        sums = np.cumsum(self._weight(index) * fitting[:, None])
        drawn = random.random((n, 3))
        if not sums[-1] > 0:
            return []
        cells = np.minimum(np.searchsorted(sums, drawn[:, 0] * sums[-1], side="right"), sums.size - 1)
        rows, cols = np.divmod(cells, CELLS[1])
        feet, middles = (rows + drawn[:, 1]) / CELLS[0], (cols + drawn[:, 2]) / CELLS[1]
        found = []
        for row, at, middle in zip(rows.tolist(), feet.tolist(), middles.tolist(), strict=True):
            scale = self._grounding.scale(index, foot, at)
            found.append(Place(at, middle, float(scales[row]) if scale is None else scale))
        return found

    def _weight(self, index: int) -> npt.NDArray[np.float64]:
        if index not in self._weights:
            grounding = self._grounding
            rests = grounding.support[index] * grounding.allowed[index]
            self._weights[index] = grounding.density[index] * rests[self._cells]
        return self._weights[index]

    def _scales(self, index: int, foot: float) -> npt.NDArray[np.float64]:
        """`(h,)`, how the size changes by row of cells; 0 where it may not go."""
        feet = (np.arange(CELLS[0]) + 0.5) / CELLS[0]
        slope = self._grounding.slope[index]
        if np.isnan(slope):
            return (np.abs(feet - foot) <= NEAR).astype(np.float64)
        heights = self._grounding.intercept[index] + slope * np.append(feet, foot)
        scales = heights[:-1] / heights[-1] if heights[-1] > 0 else np.zeros(CELLS[0])
        return np.where((scales <= self._growth) & (scales * self._growth >= 1), scales, 0)


def placed_at(
    layers: Sequence[Layer],
    size: tuple[int, int],
    *,
    foot: float,
    middle: float,
    scale: float = 1.0,
    mirrored: bool = False,
    stands: bool = True,
) -> Placed | None:
    """Layers at another place; None where the frame would cut off what it did not cut before, or the other way round.

    Args:
        layers: the first carries the others.
        size: rows and columns of the scene.
        foot, middle: where the lower edge and the middle of the box of the first one come, in shares of the frame. What
            the left or the right edge of a frame cuts stays there, what the lower one cuts keeps its foot and size.
        scale: of heights and widths, by the foot; mirrored: left becomes right; stands: on ground.
    """
    rows, cols = size
    frames = np.array([layer.place for layer in layers])
    cut = [*(frames[:, :2].min(axis=0) <= 0), *(frames[:, 2:].max(axis=0) >= 1)]
    if cut[2]:
        foot, scale = 1.0, 1.0
    base, centre = layers[0].place[2], (layers[0].place[1] + layers[0].place[3]) / 2
    side = -1.0 if mirrored else 1.0
    boxes = []
    for top, left, bottom, right in (layer.place for layer in layers):
        height, width = max(round((bottom - top) * scale * rows), 1), max(round((right - left) * scale * cols), 1)
        low = round((foot + (bottom - base) * scale) * rows)
        from_left = round((middle + side * ((left + right) / 2 - centre) * scale) * cols - width / 2)
        boxes.append([low - height, from_left, low, from_left + width])
    cut_left, cut_right = (cut[3], cut[1]) if mirrored else (cut[1], cut[3])
    first, last = min(box[1] for box in boxes), max(box[3] for box in boxes)
    if cut_left or cut_right:
        if cut_left and cut_right:
            return None
        shift = -first if cut_left else cols - last
        boxes = [[top, left + shift, low, right + shift] for top, left, low, right in boxes]
        first, last = first + shift, last + shift
    above, below = min(box[0] for box in boxes), max(box[2] for box in boxes)
    if (above > 0) if cut[0] else (above < 0):
        return None
    if below > rows or (not cut[2] and below >= rows):
        return None
    if (not cut_left and first <= 0) or (not cut_right and last >= cols) or first < 0 or last > cols:
        return None
    placed = []
    for layer, (top, left, bottom, right) in zip(layers, boxes, strict=True):
        mask = resized_mask(layer.mask[:, ::-1] if mirrored else layer.mask, (bottom - top, right - left), layer.thin)
        above = max(-top, 0)
        if above < mask.shape[0] and mask[above:].any():
            placed.append((layer, (max(top, 0), left, bottom, right), mask[above:]))
    if not placed or placed[0][0] is not layers[0]:
        return None
    return Placed(placed, foot * rows, stands)


def resized_mask(mask: Mask, size: tuple[int, int], thin: bool = False) -> Mask:
    """A mask at another size: pixels that it covers by a half, of thin objects by a sixth."""
    if mask.shape == size:
        return mask
    shrinks = size[0] <= mask.shape[0] and size[1] <= mask.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    grey = cv2.resize(mask.astype(np.uint8) * 255, size[::-1], interpolation=way)
    resized: Mask = grey >= (42 if thin else 128)
    return resized
