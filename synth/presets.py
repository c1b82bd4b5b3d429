"""Sizes of networks by name: how wide, at what resolution."""

from __future__ import annotations

from dataclasses import dataclass

from ..storage.errors import InputError, sentence

MULTIPLE = 32
"""Both sides of what networks see are multiples of this, so that every level of them halves exactly."""


@dataclass(frozen=True)
class Preset:
    """A size of all networks together.

    Attributes:
        name: what users say.
        rows: of the pictures; the columns follow from the bank's frame.
        width: multiplies the paper's channel counts.
        batch: pictures a step; steps: optimiser steps, by default.
    """

    name: str
    rows: int
    width: float
    batch: int
    steps: int

    def size(self, frame: tuple[int, int]) -> tuple[int, int]:
        """`(rows, cols)` nearest to the frame's aspect ratio, in multiples of `MULTIPLE`."""
        cols = self.rows * frame[1] / frame[0]
        return self.rows, max(MULTIPLE, round(cols / MULTIPLE) * MULTIPLE)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("tiny", 96, 1 / 8, 8, 1500),
        Preset("small", 192, 1 / 4, 4, 10_000),
        Preset("paper-256", 256, 1.0, 1, 2_400_000),
        Preset("paper-512", 512, 1.0, 1, 300_000),
        Preset("paper-1024", 1024, 1.0, 1, 60_000),
    )
}


def preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in PRESETS:
        raise InputError(sentence(f"preset {name!r}", expected=f"one of {', '.join(PRESETS)}", found="no such name"))
    return PRESETS[name]
