"""The systems that stand side by side: the whole pipeline, its stages switched off one by one, and its rivals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from ...storage.errors import sentence
from ...storage.images import Photograph
from ...synth.checkpoint import load_card
from ...synth.elision import Elided
from ...synth.filling import filled
from ..models import Models
from ..painted import Painted
from ..painting_steps import Stages

CRN = "crn"
"""The file of the network that paints from the layout alone."""
NO_CANVAS, IMAGE_SPACE = "synthesis-no-canvas", "synthesis-image-space"
"""Files of the networks that are trained to be compared with."""
INPAINT_RADIUS = 3
"""Pixels around a hole that Telea's method looks at."""


@dataclass(frozen=True)
class System:
    """One way from a layout to a picture.

    Attributes:
        name: short, the same in every table.
        said: what it is, for readers.
        stages: how the painter goes about it.
        needs: files of networks without which it is left out.
        finish: what becomes of a painted layout; default its image.
        share: of the picture's pixels that are the bank's; default what the synthesis network saw of it.
        rival: whether it is left out without a word where there is no network for it.
    """

    name: str
    said: str
    stages: Stages
    needs: tuple[str, ...] = ()
    finish: Callable[[Painted], Photograph] = lambda painted: painted.image
    share: Callable[[Painted], float] = lambda painted: painted.report.share
    rival: bool = False


def inpainted(painted: Painted) -> Photograph:
    """The collage with its holes filled by Telea's fast marching, as OpenCV does it."""
    holes = (~painted.canvas.valid).astype("uint8")
    filled: Photograph = cv2.inpaint(painted.canvas.image, holes, INPAINT_RADIUS, cv2.INPAINT_TELEA)
    return filled


def filled_by_class(painted: Painted) -> Photograph:
    """The collage with its holes in the colours of their classes, as synthesis begins."""
    return filled(Elided(painted.canvas.image, painted.canvas.valid), painted.layout).image


def collage(painted: Painted) -> Photograph:
    """The composite of segments as it is, black where nothing covers."""
    return painted.canvas.image


def covered(painted: Painted) -> float:
    """The share of a collage that its segments cover, where they spill over their components too."""
    return float(painted.canvas.valid.mean())


_COLLAGE = Stages(transform="analytic", order="classes", elision=False, coherent=False, synthesis=False)
_COHERENT = replace(_COLLAGE, coherent=True)
_FILLED = replace(_COLLAGE, inpaint="roi")
_ORDERED = replace(_COHERENT, order="network")
_SIMS, _ROI = ("synthesis",), ("roi",)


def _crn(name: str, said: str, variant: str = "") -> System:
    file = f"{CRN}-{variant}" if variant else CRN
    return System(name, said, Stages(synthesis=file), (file,), rival=True)


# the order is compared on collages: the synthesis network sees nothing that depends on it
SYSTEMS = (
    System("collage", "the best segment a region, fitted and composited", _COLLAGE, (), collage, covered),
    System("collage, inpainted", "its holes filled by Telea's method", _COLLAGE, (), inpainted, covered),
    System("collage, filled", "its holes in the colours of their classes", _COLLAGE, (), filled_by_class, covered),
    System("collage, coherent", "segments chosen jointly, holes filled", _COHERENT, (), inpainted, covered),
    System("collage, filled by RoI-GAN", "its holes filled by RoI-GAN", _FILLED, _ROI, rival=True),
    System(
        "collage, network's order", "the same, by the ordering network", _ORDERED, ("ordering",), inpainted, covered
    ),
    System("no canvas", "the decoder from the layout alone (CRN-shaped)", Stages(synthesis=NO_CANVAS), (NO_CANVAS,)),
    System("image-space loss", "trained on pixels alone", Stages(synthesis=IMAGE_SPACE), (IMAGE_SPACE,)),
    _crn("CRN", "cascaded refinement of the layout alone"),
    _crn("CRN, image-space loss", "trained on pixels alone", "image-space"),
    _crn("encoder-decoder", "a u-net with CRN's loss", "encoder-decoder"),
    _crn("full-resolution network", "dilated layers with CRN's loss", "full-resolution"),
    _crn("GAN and segmentation", "a discriminator and a parser", "gan"),
    _crn("pix2pix", "a discriminator of patches, and pixels", "pix2pix"),
    System("SIMS", "the whole pipeline", Stages(), _SIMS),
    System("SIMS, coherent", "segments chosen jointly", Stages(coherent=True), _SIMS),
    System("SIMS, analytic fit", "no transformation network", Stages(transform="analytic"), (*_SIMS, "transform")),
    System("SIMS, no elision", "boundaries left as they are", Stages(elision=False), _SIMS),
    System("SIMS, filled by Telea", "what is missing of the canvas filled first", Stages(inpaint="telea"), _SIMS),
    System("SIMS, filled by RoI-GAN", "the same by RoI-GAN", Stages(inpaint="roi"), (*_SIMS, *_ROI), rival=True),
)
WHOLE = "SIMS"
"""The name of the whole pipeline among `SYSTEMS`."""


def available(models: Models, size: tuple[int, int]) -> tuple[list[System], dict[str, str]]:
    """The systems for which a folder has all networks, and by name a sentence for others that are left out.

    Args:
        models: the folder; size: `(rows, cols)` at which pictures are compared: who paints at another one is left out.
    """
    found, left_out = [], {}
    for system in SYSTEMS:
        missing = [name for name in dict.fromkeys((*system.needs, system.stages.network)) if not models.has(name)]
        if missing:
            if not system.rival:
                absent = f"there is no {', '.join(missing)} network in {models.folder}"
                left_out[system.name] = f"{system.name}: left out, {absent}"
        elif strange := misfit(models, system, size):
            path, expected, own = strange
            left_out[system.name] = f"{system.name}: left out, {sentence(path, expected=expected, found=own)}"
        else:
            found.append(system)
    return found, left_out


def misfit(models: Models, system: System, size: tuple[int, int]) -> tuple[Path, str, str] | None:
    """Which of the networks of a system, all there, is not for pictures of `size`; what was expected, and found."""
    path = models.path(system.stages.network)
    if (own := load_card(path).size) != size:
        return path, "a network trained at {}x{}".format(*size), "one at {}x{}".format(*own)
    if system.stages.inpaint in _ROI:
        path = models.path(*_ROI)
        rows, cols = own = load_card(path).size
        if rows > size[0] or cols > size[1]:
            return path, "a network of at most {}x{} pixels".format(*size), "one of {}x{}".format(*own)
    return None
