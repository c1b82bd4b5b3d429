"""What painting gives: an image of a layout, all that it was made from, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..index.result import Retrieval
from ..storage.classes import Layout
from ..storage.codec import Mask
from ..storage.images import Photograph
from ..synth.canvas import Canvas, Provenance
from ..synth.elision import Elided


@dataclass(frozen=True)
class PaintReport:
    """How an image came about.

    Attributes:
        seed, variant: which draws; layout: 32 hex digits that stand for the layout.
        transforms: how many pieces were placed by `network`, `box` and `identity`.
        dropped: pairs of overlapping pieces whose order shows on the canvas, and is contradicted there.
        from_layout: names of the layout's classes of which no piece is on the canvas: painted from the layout alone.
        void: classes, or ids that no class has, which the synthesis network does not know and takes for void.
        share: of the image's pixels that the synthesis network saw of the bank, 0..1; 0 for one that sees no canvas.
        networks: which were used: file, steps of training, size, features of the loss, what ran them (`eager`, ...).
        warnings: what the user should know, one sentence each.
        seconds: what the steps took that this variant shares with the others of its layout, or had for itself.
    """

    seed: int
    variant: int
    layout: str
    transforms: Mapping[str, int]
    dropped: int
    from_layout: tuple[str, ...]
    void: tuple[str, ...]
    share: float
    networks: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class Painted:
    """One image of a layout.

    Attributes:
        image: `(H, W, 3)` uint8 RGB at the size of the synthesis network.
        canvas: the segments it was made from, composited.
        elided: the canvas as the synthesis network saw it, filled where it learned so or that was asked for.
        valid: `(H, W)` bool, what of that stems from the bank.
        layout: `(H, W)` uint16 in the bank's ids, at the same size.
        retrieval: what was retrieved, the jointly chosen hits first.
        report: how it came about.
        files: what was saved, the image first.
    """

    image: Photograph
    canvas: Canvas
    elided: Photograph
    valid: Mask
    layout: Layout
    retrieval: Retrieval
    report: PaintReport
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        rows, cols = self.valid.shape
        told = f"{len(self.canvas.placements)} pieces, {self.report.share:.1%} from the bank"
        return f"Painted({rows}x{cols}, variant {self.report.variant}, {told})"

    @cached_property
    def provenance(self) -> Provenance:
        """Which segment each pixel of the canvas shows, and what those are."""
        records = {index: self.canvas.record(index) for index in range(1, len(self.canvas.placements) + 1)}
        return Provenance(self.canvas.provenance, records)


@dataclass(frozen=True, eq=False)
class Prepared:
    """All of one image but the image: what goes into the synthesis network, and what is told of it.

    `elided` is what is left of the canvas, `seen` the same as the network sees it, filled where it learned so or
    that was asked for.
    """

    layout: Layout
    canvas: Canvas
    elided: Elided
    seen: Elided
    retrieval: Retrieval
    report: PaintReport
