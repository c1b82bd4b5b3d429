"""Pictures that were made of photographs, with boxes of patches in them, as they are kept in memory or on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...storage.images import Photograph
from ...storage.layouts import Box

Boxes = npt.NDArray[np.int32]
"""`(n, 4)`: top, left, bottom, right, half-open."""
PIXELS, BOXES = "pixels", "boxes.npz"
"""Files of a folder: all pixels one after the other, and everything else."""


class MadePicture(NamedTuple):
    """A picture: its number among those asked for, `(S, S, 3)` uint8 pixels, boxes in one of another size, and which
    of the pixels are of the photograph.
    """

    number: int
    pixels: Photograph
    boxes: Boxes
    whole: Box


class MadePictures(NamedTuple):
    """Pictures, in order.

    Attributes:
        pixels: `(m, S, S, 3)`, mapped into memory where they are on the disk.
        boxes: `(m, n, 4)`; counts: `(m,)`, how many of them there are.
        numbers: `(m,)`: of each among those asked for.
        wholes: `(m, 4)`: of each the box of pixels that are of the photograph.
    """

    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.int32]
    wholes: npt.NDArray[np.int32]

    @classmethod
    def of(cls, made: Sequence[MadePicture], pixels: Sequence[Photograph], n: int, side: int) -> MadePictures:
        """Some pictures, with up to n boxes each; `pixels` are theirs, none where these are written on their own."""
        boxes = np.zeros((len(made), n, 4), np.int32)
        for row, each in zip(boxes, made, strict=True):
            row[: len(each.boxes)] = each.boxes
        counts, numbers = (
            np.array(each, np.int32) for each in ([len(m.boxes) for m in made], [m.number for m in made])
        )
        wholes = np.array([m.whole for m in made], np.int32).reshape(-1, 4)
        shown = np.stack(pixels) if pixels else np.zeros((0, side, side, 3), np.uint8)
        return cls(shown, boxes, counts, numbers, wholes)

    def save(self, folder: Path) -> None:
        """Writes all but the pixels into a folder."""
        side = self.pixels.shape[1]
        rest = {name: each for name, each in self._asdict().items() if name != PIXELS}
        np.savez(folder / BOXES, side=side, **rest)

    @classmethod
    def load(cls, folder: Path) -> MadePictures:
        """What `save` wrote, and the pixels beside it."""
        with np.load(folder / BOXES) as held:
            boxes, counts, numbers, wholes = (held[name] for name in ("boxes", "counts", "numbers", "wholes"))
            side = int(held["side"])
        shape = (len(boxes), side, side, 3)
        pixels = np.memmap(folder / PIXELS, np.uint8, "r", shape=shape) if len(boxes) else np.zeros(shape, np.uint8)
        return cls(pixels, boxes, counts, numbers, wholes)
