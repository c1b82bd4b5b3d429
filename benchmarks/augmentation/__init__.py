"""Does it help? A segmentation network trained on few photographs, with what synthesis adds to them and without.

The same network takes the same steps with ordinary augmentation, with copy-paste (Ghiasi et al. 2021), and with
synthesised images among its items; all three crop, mirror and recolour what they show. Bank and painting networks of a
set see the photographs of that set alone. The recipe of synthesis is chosen on training photographs that
were held out; the test sequence is read once, by the networks whose figures are told.

`python -m benchmarks.augmentation FOLDER --data DATA` keeps all in a folder, goes on where it was stopped, and may run
several times at once: each process takes what the others have not. Hours on two cores.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import zeuxis
from benchmarks.banks import dataset_of, workers_of

from .experiment import RECIPES, Experiment
from .figures import rows_of
from .sets import FULL, QUICK

SETS: dict[str, int | None] = {"50": 50, "100": 100, "all": None}
"""Photographs to train on, by what a set is called; None is all of them."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a number of photographs and method."""
    with dataset_of(quick, data, "camvid") as (spec, scratch), tempfile.TemporaryDirectory() as folder:
        del scratch
        return complete(experiment_in(Path(folder), spec, quick or data is None))


def complete(experiment: Experiment, tell: Any = lambda said: None) -> list[dict[str, Any]]:
    """All jobs, then the rows."""
    experiment.results.complete(experiment.jobs(), tell)
    return rows_of(experiment, [entry.name for entry in experiment.classes])


def experiment_in(
    folder: Path, spec: str, quick: bool, sets: Sequence[str] = tuple(SETS), recipe: str | None = None,
    seeds: int = FULL.seeds,
) -> Experiment:  # fmt: skip
    """The experiment on a data set, its full bank made where there is none.

    Args:
        sets: names of `SETS`; recipe: a name of `RECIPES`, then not searched for; seeds: of the tested network.
    """
    if not (folder / "bank").exists():
        zeuxis.rebuild(spec, folder / "bank", patches=False, workers=workers_of(quick))
    if quick:
        return Experiment(folder, QUICK, {"3": 3}, {name: RECIPES[name] for name in ("boosted", "repainted")})
    recipes = RECIPES if recipe is None else {recipe: RECIPES[recipe]}
    return Experiment(folder, replace(FULL, seeds=seeds), {name: SETS[name] for name in sets}, recipes)
