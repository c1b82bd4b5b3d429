"""Canvases for training, made of a photograph to look like those of use (SIMS, section 5.2).

Every segment of the photograph is stencilled with the mask of a segment that would be retrieved for it, some change
their colours, and boundaries are elided. As in the paper, a stencil only takes away: what a retrieved segment would
paint beyond its own component is not simulated. The photograph has nothing of the right class to show there; its own
pixels of that place would give away the answer, and made-up ones (smeared or shifted) have textures that no segment
has. A canvas of use shows just what a simulated one does where a piece counts as missing outside its own component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..storage.errors import InputError, sentence
from ..storage.images import Photograph
from ..storage.layouts import Box
from .colour import TRANSFERS, Pixels
from .elision import Elided, Elision, elide
from .transform import Mask


@dataclass(frozen=True)
class Simulation:
    """How canvases are simulated.

    Attributes:
        colour_share: of the segments, 0..1, that change their colours.
        transfer: how, one of `synth.colour.TRANSFERS`.
        elision: of boundaries; must be what is used when painting.
    """

    colour_share: float = 0.2
    transfer: str = "monge-kantorovich"
    elision: Elision = field(default_factory=Elision)

    def __post_init__(self) -> None:
        if not 0 <= self.colour_share <= 1:
            found = repr(self.colour_share)
            raise InputError(sentence("simulation: colour_share", expected="a number in 0..1", found=found))
        if self.transfer not in TRANSFERS:
            known = ", ".join(TRANSFERS)
            raise InputError(sentence("simulation: transfer", expected=f"one of {known}", found=repr(self.transfer)))


@dataclass(frozen=True, eq=False)
class Stencil:
    """A mask placed on the canvas: its `box`, clipped to it, and its `(h, w)` bool `mask` in that box."""

    box: Box
    mask: Mask


def simulate(
    image: Photograph,
    regions: npt.NDArray[np.integer],
    stencils: Mapping[int, Stencil],
    colours: Mapping[int, Pixels],
    things: npt.NDArray[np.bool_],
    settings: Simulation,
    random: np.random.Generator,
) -> Elided:
    """The simulated canvas of a photograph.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        regions: `(H, W)`, the segment of each pixel, 1..n, 0 where it belongs to none.
        stencils: by segment; those without one are missing altogether.
        colours: by segment, `(m, 3)` uint8 pixels whose tone it takes on, for those that do.
        things: `(n + 1,)` bool by segment, whether it is a thing.
        settings: how much.
        random: see `elide`.
    """
    seen = stencilled(regions, stencils)
    canvas = image.copy()
    for region, reference in colours.items():
        own = seen == region
        canvas[own] = TRANSFERS[settings.transfer](canvas[own], reference)
    return elide(canvas, seen, things, settings.elision, random)


def stencilled(regions: npt.NDArray[np.integer], stencils: Mapping[int, Stencil]) -> npt.NDArray[np.integer]:
    """`(H, W)` regions, 0 where the stencil of a pixel's own segment does not cover it."""
    seen = np.zeros_like(regions)
    for region, stencil in stencils.items():
        top, left, bottom, right = stencil.box
        own = stencil.mask & (regions[top:bottom, left:right] == region)
        seen[top:bottom, left:right][own] = region
    return seen
