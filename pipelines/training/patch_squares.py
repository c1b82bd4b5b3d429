"""Patches of any shape as the squares that the network of key patches sees: stretched, or in their own shapes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from ...storage.images import Photograph
from ...synth.key_patches.network import Aspect

GREY = 128
"""Level about patches that keep their shapes: a network sees it as 0."""


def in_squares(patches: Sequence[Photograph], side: int, aspect: Aspect) -> npt.NDArray[np.uint8]:
    """`(n, R, R, 3)`: what a network sees of the patches of a picture.

    Args:
        patches: `(h, w, 3)` uint8 RGB each; side: R.
        aspect: `stretched`: each fills its square, bicubically, as the paper's do (Lee et al. 2018, section 4). `kept`:
            each has its shape, in the middle of a square that is grey about it, and all are enlarged alike, so that the
            longest side among them fills its square: how large they are beside one another can be seen.
    """
    found = np.full((len(patches), side, side, 3), GREY, np.uint8)
    longest = max((max(patch.shape[:2]) for patch in patches), default=1)
    for square, patch in zip(found, patches, strict=True):
        rows, cols = (side, side) if aspect == "stretched" else _sides(patch, side, longest)
        top, left = (side - rows) // 2, (side - cols) // 2
        fits = patch.shape[:2] == (rows, cols)
        shown = patch if fits else cv2.resize(patch, (cols, rows), interpolation=cv2.INTER_CUBIC)
        square[top : top + rows, left : left + cols] = shown
    return found


def aspects_of(patches: Sequence[Photograph], aspect: Aspect) -> list[float] | None:
    """Height by width of each patch; None where their shapes are lost."""
    return None if aspect == "stretched" else [patch.shape[0] / patch.shape[1] for patch in patches]


def _sides(patch: Photograph, side: int, longest: int) -> tuple[int, int]:
    rows, cols = (min(side, max(1, round(each * side / longest))) for each in patch.shape[:2])
    return rows, cols
