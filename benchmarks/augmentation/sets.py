"""The sets of photographs that are trained on, each in a bank of its own, and networks that saw nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import zeuxis
from zeuxis.pipelines.training.options import TrainOptions, is_emulated
from zeuxis.storage.reader import Reader

FIFTHS = 5
HELD = (1, 3)
"""Of the fifths of the training photographs in the order of their names, those that the recipe is chosen on."""
GAP = 1 / 15
"""Of a held-out fifth: so much at each end is left out altogether, since neighbours of a clip look alike."""


@dataclass(frozen=True)
class Scale:
    """How much is trained.

    Attributes:
        preset: of the networks that paint; steps: of each of them, by name.
        size: `(rows, cols)` of all pictures; segmenter_width: of the network that is tested.
        steps_a_photograph: of that network, the same of every method; most_steps: but no more than these.
        images: synthesised, about; fold: photographs that recipes are searched with.
        search_seeds, seeds: of the segmenter, in the search and in the test.
    """

    preset: str
    steps: Mapping[str, int]
    size: tuple[int, int]
    segmenter_width: float
    steps_a_photograph: int
    most_steps: int
    images: int
    fold: int
    search_seeds: int
    seeds: int

    def segmenter_steps(self, photographs: int) -> int:
        """Of the network that is tested: a larger set takes longer to be learned."""
        return min(self.steps_a_photograph * photographs, self.most_steps)


FULL = Scale(
    "tiny",
    {"features": 1500, "transform": 2000, "synthesis": 700, "judge": 1000},
    (96, 128),
    0.25,
    24,
    2400,
    600,
    50,
    2,
    5,
)
QUICK = Scale("tiny", {"features": 2, "transform": 2, "synthesis": 2, "judge": 2}, (96, 128), 0.125, 2, 2, 4, 3, 1, 2)


def training_names(reader: Reader) -> list[str]:
    """Sources that may be trained on, ascending."""
    return sorted(row["source"] for row in reader.table("sources", {"split": "train"}, ["source"]).to_pylist())


def spaced(names: Sequence[str], count: int | None) -> list[str]:
    """`count` of them, evenly spaced; None for all."""
    if count is None or count >= len(names):
        return list(names)
    return [names[k] for k in np.linspace(0, len(names) - 1, count).round().astype(int)]


def folded(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those to train on and those to choose the recipe on, of training photographs in the order of their names."""
    fifths = [[names[k] for k in part] for part in np.array_split(np.arange(len(names)), FIFTHS)]
    gap = int(GAP * len(fifths[0]))
    held = [name for k in HELD for name in fifths[k][gap : len(fifths[k]) - gap]]
    return [name for k, part in enumerate(fifths) if k not in HELD for name in part], held


def make_bank(full: Path, names: Sequence[str], out: Path) -> int:
    """A bank of these sources alone, made from the full one by forgetting the others; returns how many there are."""
    if out.exists():
        shutil.rmtree(out)  # left half made
    shutil.copytree(full, out)
    kept = set(names)
    others = [row["source"] for row in Reader(out).table("sources", columns=["source"]).to_pylist()]
    zeuxis.forget([name for name in others if name not in kept], out)
    left = {row["source"] for row in Reader(out).table("sources", columns=["source"]).to_pylist()}
    assert left == kept, "the bank holds the chosen sources and no other"
    return len(left)


def train_networks(bank: Path, models: Path, scale: Scale) -> dict[str, Any]:
    """All that painting needs; goes on where it was stopped."""
    half = "bf16-mixed"
    precision = "32-true" if is_emulated(TrainOptions(precision=half)) else half
    found = {}
    for network, steps in scale.steps.items():
        options: dict[str, Any] = {"preset": scale.preset, "steps": steps, "precision": precision}
        if network != "transform":
            options["size"] = scale.size
        (report,) = zeuxis.train(network, bank, models, **options)
        found[network] = {"steps": report.step, "seconds": report.seconds, report.figure: report.best}
    return found
