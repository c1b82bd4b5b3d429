"""What an evaluation of filled regions finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...storage.images import Photograph
from ...synth.metrics import Interval
from ...synth.roi_gan.regions import Kind, Region
from ..inpainting.sliders import Effect


@dataclass(frozen=True)
class Filled:
    """What was measured of one system on one kind of region, all with 95 % intervals over pictures.

    Attributes:
        kid: of what surrounds the regions, with them, times 1,000, to that of other photographs; 0 is real.
        distance: to the very photograph inside the region, in features; None for the photographs themselves.
        seam: jump along the border, levels of 0..255.
        diversity: distance inside the region between variants; None where they do not differ.
        rate: pictures a second, one after the other; None for the photographs.
    """

    kid: Interval
    distance: Interval | None
    seam: Interval
    diversity: Interval | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Anatomy:
    """Of a network: how many numbers it has, how many of them have no part in what it makes, what its sliders do.

    Attributes:
        parameters, dead: counts.
        correlations: of each slider, what the training's head reads with what was set, all kinds of region pooled; None
            without that head.
        effects: of each slider, means over pictures, of every kind of region as many.
        steps: of training, of the network and of the head, which differ where the head was not kept along with it.
        steered: mean distance with sliders that are drawn, by kind of region; empty without sliders.
        noise: diversity by noise alone, all sliders at 0, likewise.
        shown: photographs that the effects are of.
    """

    parameters: int
    dead: int
    correlations: Sequence[float] | None
    effects: Sequence[Effect]
    steps: tuple[int, int] | None = None
    steered: Mapping[Kind, float] = field(default_factory=dict)
    noise: Mapping[Kind, float] = field(default_factory=dict)
    shown: int = 0


@dataclass(frozen=True)
class Gap:
    """How much worse a system is than the first one on the same photographs, with 95 % intervals over those.

    Attributes:
        distance: mean of the differences of the distances; kid: difference of the KIDs, see `metrics.kid_gap`. Both are
            above 0 where the first one is better.
    """

    distance: Interval
    kid: Interval


@dataclass(frozen=True, eq=False)
class FilledSystem:
    """A system: its figures, pictures and gaps to the first system by kind of region, the anatomy of its network.

    The pictures are one a region, those of one photograph one behind the other. The photographs and the first system
    itself have no gaps.
    """

    name: str
    said: str
    figures: Mapping[Kind, Filled]
    pictures: Mapping[Kind, Sequence[Photograph]]
    anatomy: Anatomy | None = None
    gaps: Mapping[Kind, Gap] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class InpaintEvaluation:
    """All of it.

    Attributes:
        systems: the photographs first; names: of their sources; regions: by kind, as many of
            each photograph, one behind the other, as are the systems' pictures of them.
        classes: names of the judge's classes by channel, empty without a judge.
        about: what the figures depend on; left_out: a sentence for each system that could not be measured.
        sheet: of the sliders of the first network that has any, or None.
        files: what was written.
    """

    systems: Sequence[FilledSystem]
    names: Sequence[str]
    regions: Mapping[Kind, Sequence[Region]]
    classes: Sequence[str]
    about: Mapping[str, Any]
    left_out: Sequence[str]
    sheet: Photograph | None = None
    files: Sequence[Path] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure and what it depends on; no pictures, and no rates, which differ between runs."""
        rows = {}
        for each in self.systems:
            figures = {kind: asdict(found) for kind, found in each.figures.items()}
            for found in figures.values():
                del found["rate"]
            rows[each.name] = {
                "figures": figures,
                "gaps": {kind: asdict(gap) for kind, gap in each.gaps.items()},
                "anatomy": None if each.anatomy is None else _told(each.anatomy),
            }
        return {"about": dict(self.about), "systems": rows, "left_out": list(self.left_out)}


def _told(anatomy: Anatomy) -> dict[str, Any]:
    return {**asdict(anatomy), "effects": [each._asdict() for each in anatomy.effects]}
