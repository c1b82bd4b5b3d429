"""What becomes of an image on its way: all but its pixels, the image itself, or why it is not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...storage.classes import Layout
from ...storage.images import Photograph
from ...synth.elision import Elided
from .guard import Used
from .plan import Item

Instances = npt.NDArray[np.uint16]
"""`(H, W)` numbers of things, 0 where there is none."""


@dataclass(frozen=True, eq=False)
class Ready:
    """All of an image but its pixels.

    Attributes:
        item: which; layout: `(H, W)` uint16 in the bank's ids, what the image shows, at its size; instances: likewise.
        seen: what the synthesis network is shown; image: of a photograph that is kept, else None.
        used: what it is made from; group: what it must stay apart from, and with.
        told: what else is to be said of it, plain values.
    """

    item: Item
    layout: Layout
    instances: Instances
    seen: Elided | None
    image: Photograph | None
    used: tuple[Used, ...]
    group: str | None
    told: dict[str, Any]
    shown: Layout | None = None
    """Classes that the network has no channel for, where the canvas shows them, void elsewhere; None for none."""


@dataclass(frozen=True)
class Rejected:
    """An image that cannot be made: the word for it and a sentence."""

    item: Item
    reason: str
    said: str


@dataclass(frozen=True, eq=False)
class Imagined:
    """An image with all that is known of it.

    Attributes:
        fed: checksum of the layout that the network was given, mapped back to the bank's ids, with what the canvas
            alone has shown it.
        alike: `(65536,)` id to the one that stands for all that the network takes as one; None for a photograph.
    """

    ready: Ready
    image: Photograph
    fed: int
    alike: npt.NDArray[np.uint16] | None = None


@dataclass(frozen=True)
class LeftOut:
    """An image that was made, and that the judge read another layout in; `agreement`: the share that it read alike."""

    item: Item
    layout: str
    agreement: float
