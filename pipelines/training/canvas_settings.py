"""What `train synthesis --canvas NAME=VALUE` sets: how canvases are simulated, and what counts besides pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...storage.errors import InputError, sentence
from ...synth.elision import Elision
from ...synth.simulation import Simulation

_ELISION, _SIMULATION = Elision(), Simulation()
PAPER_WIDTH = 0.05
"""Of both elisions, in rows (section 5.2): of the networks of full width, whose pictures have rows enough for it."""
_WORDS = {"yes": True, "no": False}


@dataclass(frozen=True)
class CanvasSettings:
    """How the synthesis network is trained, beyond what every network has.

    Attributes:
        interior, interior_width, exterior_width: see `Elision`; painting keeps to them, by the checkpoint.
        colour_share, transfer: see `Simulation`.
        k: of every segment one of its k best hits is the stencil.
        flip: half of the samples are mirrored.
        parsing: weight of the semantic head, 0 for none; see `SynthesisLoss`.
        passing: the picture begins as the canvas, filled; the paper's network sees white and black, and paints anew.
    """

    interior: float = _ELISION.interior
    interior_width: float = _ELISION.interior_width
    exterior_width: float = _ELISION.exterior_width
    colour_share: float = _SIMULATION.colour_share
    transfer: str = _SIMULATION.transfer
    k: int = 5
    flip: bool = True
    parsing: float = 10.0
    passing: bool = True

    @property
    def simulation(self) -> Simulation:
        """Of canvases.

        Raises:
            InputError: a value cannot be.
        """
        elision = Elision(self.interior, self.interior_width, self.exterior_width)
        return Simulation(self.colour_share, self.transfer, elision)


def usual(width: float) -> CanvasSettings:
    """The defaults of a network of that width; at full width elision is as wide as the paper's."""
    if width < 1:
        return CanvasSettings()
    return CanvasSettings(interior_width=PAPER_WIDTH, exterior_width=PAPER_WIDTH)


def departures(given: Sequence[str] | None, width: float) -> dict[str, Any] | None:
    """Settings that are not the defaults of narrow networks, by name; None for none."""
    own, plain = asdict(canvas_settings(given or (), width)), asdict(CanvasSettings())
    return {name: value for name, value in own.items() if value != plain[name]} or None


def canvas_settings(given: Sequence[str], width: float) -> CanvasSettings:
    """Settings of `NAME=VALUE` each; those not given are the defaults of the network's width.

    Raises:
        InputError: a name is none of them, comes twice, or its value cannot be.
    """
    known = {name: type(value) for name, value in asdict(CanvasSettings()).items()}
    found: dict[str, float | int | bool | str] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if name not in known or not equals or name in found:
            expected = "NAME=VALUE, each name once, of " + ", ".join(known)
            raise InputError(sentence("--canvas", expected=expected, found=repr(each)))
        try:
            found[name] = _WORDS[text] if known[name] is bool else known[name](text)
        except (KeyError, ValueError) as error:
            expected = {bool: "yes or no", int: "a whole number", float: "a number"}[known[name]]
            raise InputError(sentence(f"--canvas {name}", expected=expected, found=repr(text))) from error
    settings = replace(usual(width), **found)  # type: ignore[arg-type]
    _ = settings.simulation
    if settings.k < 1:
        raise InputError(sentence("--canvas k", expected="a whole number of at least 1", found=str(settings.k)))
    if not 0 <= settings.parsing < float("inf"):
        expected = "a number of at least 0"
        raise InputError(sentence("--canvas parsing", expected=expected, found=str(settings.parsing)))
    return settings
