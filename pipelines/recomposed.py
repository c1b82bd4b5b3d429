"""What recomposing a layout may change, what it did change, and a picture of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.classes import ClassTable, Layout
from ..storage.errors import InputError, sentence
from ..storage.images import Photograph
from ..storage.layouts import Box

SHOWN_ROWS = 384
"""Rows of a layout in a picture, at least: smaller ones are enlarged by whole pixels."""
GAP = 8
COLOURS = {
    "moved": (255, 220, 0),
    "removed": (255, 40, 40),
    "mirrored": (0, 220, 255),
    "added": (40, 255, 40),
    "hidden": (255, 80, 255),
}
"""RGB of the boxes of edits, by kind."""


@dataclass(frozen=True)
class Recomposition:
    """How much of a layout changes, and what a new place must give.

    Attributes:
        removed, moved, mirrored: the share of the objects that may be taken out that is removed, is moved, or is
            mirrored where it stands; together at most 1. As much of each class as is removed is put in anew.
        mirrored_layout: the share of the layouts that are mirrored as a whole.
        overlap: the share of an object that others which are put in may hide, or that others hide of it, at most.
        support: the share of the columns of an object's foot that must stand on what its class stands on in the bank.
        smallest: pixels of an object that is put in, at least.
        remnant: the share of an object that must be seen once others hide some of it; what is less is dropped.
        growth: the factor by which an object's height and width may change at its new place, up or down, at most.
        tries: places that are tried for an object.
    """

    removed: float = 0.25
    moved: float = 0.25
    mirrored: float = 0.15
    mirrored_layout: float = 0.5
    overlap: float = 0.35
    support: float = 0.8
    smallest: int = 12
    remnant: float = 0.1
    growth: float = 2.0
    tries: int = 12

    def __post_init__(self) -> None:
        for field in fields(self):
            value, low, high = getattr(self, field.name), *_BOUNDS.get(field.name, (0, 1))
            if not isinstance(value, (int, float)) or not low <= value <= high:
                said = f"a number of {low} to {high}"
                raise InputError(sentence(f"recomposition: {field.name}", expected=said, found=repr(value)))
        if self.removed + self.moved + self.mirrored > 1:
            raise InputError(
                sentence(
                    "recomposition: removed, moved, mirrored",
                    expected="shares of at most 1 together",
                    found=f"{self.removed + self.moved + self.mirrored:g}",
                )
            )


_BOUNDS: dict[str, tuple[float, float]] = {"smallest": (1, 1 << 20), "growth": (1, 10), "tries": (1, 1000)}


@dataclass(frozen=True)
class Edit:
    """One change.

    Attributes:
        kind: `moved`, `removed`, `mirrored`, `added`, `hidden` (dropped, because others hid all but a remnant),
            `layout mirrored`, or `background` (that of a generated layout).
        class_name: of the object that carries all that went with it; empty where the whole layout was changed.
        before: its box in the layout as it was; after: in the new one; None where it is not there.
        scale: of its height and width, 1 where they stayed.
        instances: its numbers in `Recomposed.instances`, that of what carries the others first; empty where it is gone.
        segments: hex ids of the bank's segments it is made of, empty for objects of the layout.
        source: the bank's source these come from, or that a background is of.
    """

    kind: str
    class_name: str = ""
    before: Box | None = None
    after: Box | None = None
    scale: float = 1.0
    instances: tuple[int, ...] = ()
    segments: tuple[str, ...] = ()
    source: str | None = None


@dataclass(frozen=True, eq=False)
class Recomposed:
    """A new layout.

    Attributes:
        layout: `(H, W)` uint16 class ids of the bank, `VOID` where there is none.
        instances: `(H, W)` uint16, objects of thing classes numbered from 1, 0 elsewhere; of more than 65,535 objects
            the rest is 0.
        edits: what was done, in order.
    """

    layout: Layout
    instances: npt.NDArray[np.uint16]
    edits: tuple[Edit, ...]


def figure(before: Layout, recomposed: Recomposed, classes: ClassTable) -> Photograph:
    """A layout and what became of it, side by side, objects that were edited boxed on both sides (`COLOURS`).

    Args:
        before: `(H, W)` class ids, of the size of the new layout.
        recomposed: what was made of it; classes: of the bank.

    Returns:
        `(h, w, 3)` uint8 RGB.
    """
    factor = max(-(-SHOWN_ROWS // before.shape[0]), 1)
    old = _drawn(before, [(edit.kind, edit.before) for edit in recomposed.edits], classes, factor)
    new = _drawn(recomposed.layout, [(edit.kind, edit.after) for edit in recomposed.edits], classes, factor)
    gap = np.full((len(old), GAP, 3), 255, np.uint8)
    return np.hstack([old, gap, new])


def mirrored(box: Box | None, cols: int) -> Box | None:
    """A box of a layout of so many columns whose left is right."""
    return None if box is None else (box[0], cols - box[3], box[2], cols - box[1])


def _drawn(
    layout: Layout, boxes: Iterable[tuple[str, Box | None]], classes: ClassTable, factor: int
) -> npt.NDArray[np.uint8]:
    picture = np.ascontiguousarray(classes.painted(layout).repeat(factor, axis=0).repeat(factor, axis=1))
    for kind, box in boxes:
        if box is not None:
            top, left, bottom, right = (side * factor for side in box)
            cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), COLOURS[kind], 1)
    return picture
