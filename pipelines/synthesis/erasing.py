"""Objects taken out of photographs that are kept: RoI-GAN fills where they were, and the labels follow."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from ...storage.classes import Layout
from ...storage.images import Photograph
from ..inpainting.methods import Draw, Method
from ..inpainting.regions import grown
from ..recomposed import Recomposed


class Filled(NamedTuple):
    """A photograph with another content where objects were; `how`: it was filled, empty where nothing was."""

    image: Photograph
    how: str


def filled_where_erased(
    image: Photograph, before: Layout, erased: Recomposed, method: Method, seed: int, name: str
) -> Filled:
    """Fills where objects were, and a little around that.

    Args:
        image: `(H, W, 3)` uint8; before: `(H, W)`, its layout; erased: the same without the objects.
        method: that fills; seed: of the run, and name: of the photograph, which decide what it draws.

    Raises:
        InputError: so much was erased that there is nothing to go by.
    """
    gone = before != erased.layout
    if not gone.any():
        return Filled(image, "")
    return Filled(*method(image, grown(np.asarray(gone)), Draw(seed, zlib.crc32(name.encode()))))
