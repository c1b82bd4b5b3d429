"""What an evaluation finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...synth.metrics import Interval


@dataclass(frozen=True)
class Figures:
    """What was measured of one system with the networks of one folder.

    Attributes:
        accuracy, mean_iou: of the judge's parsing against the layout, 0..1.
        kid: times 1,000, with its 95 % interval; 0 is real. fid: None where there are too few pictures.
        spectrum: mean distance of the log of the mean power spectrum to that of real ones, in decades.
        ssim: likeness to the very photograph the layout came from, on labelled pixels.
        bank_share: of the pixels, what the network saw of the bank, or a collage shows of it.
        score: mean of the chosen segments' scores, 0..2.
        diversity: mean distance, in the judge's features, between variants of a layout; None where it was not asked.
        seconds: an image painted by itself, everything but loading, median.
        transforms: how many segments were placed by `network`, `box`, `identity`.
        kid_inception, fid_inception: as `kid` and `fid` in features of the published Inception network; None without
            its weights.
    """

    accuracy: float
    mean_iou: float
    kid: Interval
    fid: float | None
    spectrum: float
    ssim: float
    bank_share: float | None = None
    score: float | None = None
    diversity: float | None = None
    seconds: float | None = None
    transforms: dict[str, int] = field(default_factory=dict)
    kid_inception: Interval | None = None
    fid_inception: float | None = None


class Gap(NamedTuple):
    """A system against the whole pipeline, layout by layout: its KID and its mean IoU less those of the pipeline."""

    kid: Interval
    mean_iou: Interval


@dataclass(frozen=True, eq=False)
class Judged:
    """A system, its figures by folder of models, and its pictures of the first of these, one a layout.

    `gap` is None of photographs, of the whole pipeline itself, and where that was not measured.
    """

    name: str
    said: str
    figures: Sequence[Figures]
    pictures: Sequence[Photograph]
    spectrum: npt.NDArray[np.float64]
    gap: Gap | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All of it.

    Attributes:
        systems: the real photographs first.
        names: of the sources whose layouts were painted; layouts: `(n, H, W)` uint16 bank ids.
        about: what the figures depend on: bank, generation, split, size, judge, networks, seed; `inception`, the
            weights of that network, only where its figures are there.
        left_out: a sentence for each system that could not be measured.
        files: what was written.
    """

    systems: Sequence[Judged]
    names: Sequence[str]
    layouts: npt.NDArray[np.uint16]
    about: dict[str, Any]
    left_out: Sequence[str]
    files: Sequence[Path] = ()

    @property
    def by_inception(self) -> bool:
        """Whether there are figures in features of the published Inception network."""
        return "inception" in self.about

    def system(self, name: str) -> Judged:
        """A system by its name.

        Raises:
            InputError: it was not measured.
        """
        for each in self.systems:
            if each.name == name:
                return each
        measured = ", ".join(each.name for each in self.systems)
        raise InputError(sentence(f"system {name!r}", expected=f"one of {measured}", found="no such name"))

    def to_json(self) -> dict[str, Any]:
        """Every figure and what it depends on; no pictures, and no times, which differ between runs."""
        untold = {"seconds"} if self.by_inception else {"seconds", "kid_inception", "fid_inception"}
        rows = {
            each.name: [{key: value for key, value in asdict(one).items() if key not in untold} for one in each.figures]
            for each in self.systems
        }
        gaps = {
            each.name: {"kid": each.gap.kid._asdict(), "mean_iou": each.gap.mean_iou._asdict()}
            for each in self.systems
            if each.gap is not None
        }
        return {"about": self.about, "systems": rows, "against SIMS": gaps, "left_out": list(self.left_out)}
