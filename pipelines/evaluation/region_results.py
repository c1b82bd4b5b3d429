"""What an evaluation of pictures that keep a region's meaning finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...storage.images import Photograph
from ...synth.metrics import Interval
from .region_cases import FEWEST_GROUPS, KINDS, SIZES, Case

Vector = npt.NDArray[np.float64]

FIGURES = ("semantics", "agreement", "diversity", "elsewhere", "pixels", "features")
"""Of every region, means over its pictures: see `Kept`."""
GROUPS = ("all", *SIZES, *KINDS)
"""Of regions."""
ALL = GROUPS[0]


@dataclass(frozen=True, eq=False)
class Kept:
    """What was measured of one system.

    Attributes:
        name, said: of it.
        values: of each of `FIGURES`, one number a case. `semantics`: distance to the reference inside the region, in
            features that no loss compared. `agreement`: share of the region that the judge reads as in the reference;
            NaN without a judge. `diversity`: mean distance between two pictures of a region; `elsewhere`: the same
            outside the region alone. `pixels`: iGAN's loss; `features`: equation 1 at the automatic depth.
        kid: of all pictures to training photographs, times 1,000, without pairs of one group (`grouped_kid`).
        over: the same less that of random pictures of the generator; None where these were not asked for.
        seconds: for `TIMED` pictures of one region.
        pictures: of each case.
    """

    name: str
    said: str
    values: Mapping[str, Vector]
    kid: Interval
    over: Interval | None
    seconds: float
    pictures: Sequence[Sequence[Photograph]]

    def figure(self, name: str, cases: Sequence[Case], group: str = ALL) -> Interval | None:
        """A mean over the cases of a group, with its 95 % interval over photographs; None where there are none."""
        return _interval(self.values[name], cases, group)

    def gap(self, name: str, other: Kept, cases: Sequence[Case], group: str = ALL) -> Interval | None:
        """The figure less that of another system, region by region, with its interval over photographs."""
        return _interval(self.values[name] - other.values[name], cases, group)


@dataclass(frozen=True, eq=False)
class RegionEvaluation:
    """All of it.

    Attributes:
        systems: Fast-RSPer first; cases: the regions; names: of the photographs.
        generators: by name of the file, KID and FID (None of too few) of what each makes of random latents.
        real: KID of the held-out photographs themselves.
        about: what the figures depend on; left_out: a sentence for each system that could not be measured.
        files: what was written.
    """

    systems: Sequence[Kept]
    cases: Sequence[Case]
    names: Sequence[str]
    generators: Mapping[str, tuple[Interval, float | None]]
    real: Interval
    about: Mapping[str, Any]
    left_out: Sequence[str]
    files: Sequence[Path] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure and what it depends on; no pictures, and no seconds, which differ between runs."""
        first = self.systems[0]
        rows: dict[str, Any] = {}
        for each in self.systems:
            rows[each.name] = {"kid": each.kid._asdict(), "kid over random": _told(each.over)} | {
                group: {name: _told(each.figure(name, self.cases, group)) for name in FIGURES} for group in GROUPS
            }
        gaps = {
            each.name: {
                group: {name: _told(each.gap(name, first, self.cases, group)) for name in FIGURES} for group in GROUPS
            }
            for each in self.systems[1:]
        }
        generators = {name: {"kid": kid._asdict(), "fid": fid} for name, (kid, fid) in self.generators.items()}
        return {
            "about": dict(self.about), "systems": rows, f"less {first.name}": gaps, "generators": generators,
            "photographs": self.real._asdict(), "left_out": list(self.left_out),
        }  # fmt: skip


def _interval(values: Vector, cases: Sequence[Case], group: str, rounds: int = 1000) -> Interval | None:
    """A mean over photographs; the bootstrap draws together those that `Case.drawn` says."""
    chosen = np.array([group in (ALL, case.size, case.kind) for case in cases]) & np.isfinite(values)
    if not chosen.any():
        return None
    together = np.unique(np.array([case.drawn for case in cases])[chosen], return_inverse=True)[1]
    if together.max() + 1 < FEWEST_GROUPS:  # of these alone
        together = np.arange(len(together))
    sums, counts = (np.bincount(together, weights) for weights in (values[chosen], np.ones(int(chosen.sum()))))
    times = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), rounds)
    low, high = np.percentile((times @ sums) / (times @ counts), [2.5, 97.5])
    return Interval(float(values[chosen].mean()), float(low), float(high))


def _told(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval._asdict()
