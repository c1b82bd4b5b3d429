"""Where objects of each class stand, how tall they are there, and what lies where: learned from the layouts of a bank.

Places are shares of the frame: rows and columns in 0..1 from its upper left corner. A *cell* is one of `CELLS`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

CELLS = (48, 64)
"""Rows and columns of the grid on which places are counted."""
BLUR_CELLS = (1.0, 2.5)
"""Rows and columns by which a place that was seen stands for those around it (a standard deviation)."""
LOW = 10
"""Times more common in the lower third of the frame than in the upper one: so is ground."""
OPEN = 0.8
"""Of what lies in the upper third: so much of a class must, for it to be open."""
SUPPORT = 0.05
"""Of what objects of a class rest on: ground that is rarer is not used."""
HANGING = 0.25
"""Of the commonest support of a class that hangs: what is rarer than that is not used."""
CARRIED = 0.25
"""Of what of a class others carry: so much is carried by a class, for it to be one that carries it."""
ENOUGH = 8
"""Objects of a class from which on heights are fitted to feet."""
MOST = 300
"""Objects of a class that are fitted, at most: slopes of all pairs are taken."""


@dataclass(frozen=True, eq=False)
class Terrain:
    """Where a bank's layouts have stuff, by index of its C classes; the last of C + 1 is void.

    Attributes:
        ground: `(C + 1,)`, stuff of the lower third of the frame: next to never seen in the upper third.
        open: `(C + 1,)`, stuff of the upper third, such as sky and ceiling: next to never seen below.
        prior: `(h, w, C + 1)` float32, how often each cell was of each stuff class.
        line: `(w,)`, the mean row below which there is ground alone.
    """

    ground: Flags
    open: Flags
    prior: npt.NDArray[np.float32]
    line: Floats


@dataclass(frozen=True, eq=False)
class Grounding:
    """What a bank's layouts say of its C classes, by index in its table; the last of C + 1 is void.

    Attributes:
        support: `(C, C + 1)`, of what objects of each class rest on, the share of each stuff class; rows of zeros for
            classes that were never seen to rest on stuff.
        standing: `(C,)`, classes whose objects rest on ground for more than half; the others hang.
        allowed: `(C, C + 1)`, on what stuff objects of each class may be put: where those that stand were often seen on
            ground, and the others where they were seen most, but never on what is open.
        carries: `(C, C)`, on objects of which class (first) those of a class that hangs (second) were often seen;
            what else seems to be carried only hides its foot behind the other.
        density: `(C, h, w)` float32, how often each cell held the foot of an object, its row and the middle of its box.
        intercept, slope: `(C,)`, height of an object = intercept + slope x its foot; NaN where no line says more than
            that all are of a size.
    """

    support: Floats
    standing: Flags
    allowed: Flags
    carries: Flags
    density: npt.NDArray[np.float32]
    intercept: Floats
    slope: Floats

    def height(self, index: int, foot: float) -> float | None:
        """How tall an object of a class is whose foot is at this row; None where nobody knows, or it has no height."""
        height = float(self.intercept[index] + self.slope[index] * foot)
        return height if height > 0 else None

    def scale(self, index: int, before: float, after: float) -> float | None:
        """How an object's size changes with its foot; 1 where heights do not depend on it, None where it cannot be."""
        if np.isnan(self.slope[index]):
            return 1.0
        one, other = self.height(index, before), self.height(index, after)
        return None if one is None or other is None else other / one


def cell_middles(size: tuple[int, ...]) -> list[npt.NDArray[np.int64]]:
    """The rows and the columns in the middles of the cells, of a map of this size."""
    return [((np.arange(n) + 0.5) * side / n).astype(np.int64) for n, side in zip(CELLS, size, strict=True)]


def learn_terrain(cells: npt.NDArray[np.uint16], things: Flags) -> Terrain:
    """Counts.

    Args:
        cells: `(S, h, w)` class indices of the middle of each cell of each layout, C for void.
        things: `(C,)`, which classes are things.
    """
    stuff = np.append(~things, False)
    prior = np.zeros((*CELLS, len(stuff)), np.float32)
    for index in np.flatnonzero(stuff).tolist() if len(cells) else []:
        prior[:, :, index] = (cells == index).mean(axis=0)
    upper, middle, lower = (third.mean(axis=(0, 1)) for third in np.array_split(prior, 3))
    ground = stuff & (lower > LOW * upper) & (lower > 0.5 * prior.mean(axis=(0, 1)))
    opened = stuff & (upper > LOW * lower) & (upper > OPEN * (upper + middle + lower))
    return Terrain(ground, opened, prior, _mean_line(cells, stuff & ~ground))


def learn_grounding(
    terrain: Terrain,
    things: Flags,
    classes: npt.NDArray[np.int64],
    contact: npt.NDArray[np.int32],
    feet: Floats,
    middles: Floats,
    heights: Floats,
    fit: Flags,
    carried: npt.NDArray[np.int64],
) -> Grounding:
    """Counts and fits.

    Args:
        terrain: of the same layouts.
        things: `(C,)`, which classes are things.
        classes: `(n,)` class indices of the objects that nothing carries, and that nothing hides but a little.
        contact: `(n, C + 1)`, columns in which each rests on each class.
        feet, middles, heights: `(n,)` shares of the frame.
        fit: `(n,)`, which heights can be believed: the frame cuts nothing off.
        carried: `(C, C)`, how many objects of a class (second) one of another (first) carries.
    """
    n_classes = len(things)
    stuff = np.append(~things, False)
    ground = terrain.ground
    rests = np.where(stuff, contact, 0).astype(np.float64)
    rests /= np.maximum(rests.sum(axis=1, keepdims=True), 1)
    support = np.zeros((n_classes, n_classes + 1))
    np.add.at(support, classes, rests)
    support /= np.maximum(support.sum(axis=1, keepdims=True), 1e-9)
    seen = fit & resting(contact, ground)
    intercept, slope = np.full(n_classes, np.nan), np.full(n_classes, np.nan)
    for index in np.flatnonzero(things).tolist():
        chosen = np.flatnonzero(seen & (classes == index))
        if len(chosen) >= ENOUGH:
            chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), MOST)).astype(int)]
            intercept[index], slope[index] = fitted_line(feet[chosen], heights[chosen])
    standing = support @ ground > 0.5
    return Grounding(
        support,
        standing,
        _allowed(support, standing, terrain),
        (carried > CARRIED * carried.sum(axis=0)) & ~standing,
        _density(classes, feet, middles, n_classes),
        intercept,
        slope,
    )


def _allowed(support: Floats, standing: Flags, terrain: Terrain) -> Flags:
    stands = (support >= SUPPORT) & terrain.ground
    hangs = (support > HANGING * support.max(axis=1, initial=0, keepdims=True)) & ~terrain.open
    allowed: Flags = np.where(standing[:, None], stands, hangs)
    return allowed


def resting(contact: npt.NDArray[np.int32], ground: Flags) -> Flags:
    """`(n,)`, which objects rest on ground with more than half of their columns."""
    rests: Flags = contact @ ground > 0.5 * np.maximum(contact.sum(axis=1), 1)
    return rests


def fitted_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Intercept and slope of y over x: the median slope of all pairs (Theil and Sen); NaN unless it rises clearly.

    Up to 29 % of the points may be anything. It rises clearly where the line explains a fifth of the spread of y that
    the median leaves.
    """
    apart = np.subtract.outer(x, x)
    above = apart > 1e-6
    if not above.any():
        return np.nan, np.nan
    slope = float(np.median(np.subtract.outer(y, y)[above] / apart[above]))
    intercept = float(np.median(y - slope * x))
    left = np.abs(y - intercept - slope * x).mean()
    if slope <= 0 or left > 0.8 * np.abs(y - np.median(y)).mean():
        return np.nan, np.nan
    return intercept, slope


def _density(classes: npt.NDArray[np.int64], feet: Floats, middles: Floats, n_classes: int) -> npt.NDArray[np.float32]:
    density = np.zeros((n_classes, *CELLS), np.float32)
    rows, cols = ((at * n).astype(int).clip(0, n - 1) for at, n in ((feet, CELLS[0]), (middles, CELLS[1])))
    np.add.at(density, (classes, rows, cols), 1)
    for index in np.flatnonzero(density.any(axis=(1, 2))).tolist():
        density[index] = cv2.GaussianBlur(
            density[index], (0, 0), sigmaX=BLUR_CELLS[1], sigmaY=BLUR_CELLS[0], borderType=cv2.BORDER_REFLECT
        )
    return density


def _mean_line(cells: npt.NDArray[np.uint16], above: Flags) -> Floats:
    """`(w,)`, the mean over layouts of the row below the lowest stuff that is no ground, by cells of the columns."""
    if not len(cells):
        return np.full(CELLS[1], 0.5)
    stands = above[cells]
    rows = CELLS[0] - stands[:, ::-1].argmax(axis=1)
    lowest = np.where(stands.any(axis=1), rows, 0)
    line: Floats = lowest.mean(axis=0) / CELLS[0]
    return line
