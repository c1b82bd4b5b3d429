"""`zeuxis evaluate region-semantics`: pictures that keep what regions of held-out photographs mean, by every system.

Each photograph is the largest square about its middle, at the resolution of the generator. Figures compare features of
the judge, which no search looked at, where the folder of networks has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.checkpoint import SUFFIX, load_card
from ...synth.encoding import to_image, to_tensor
from ...synth.features import Features, load_features
from ...synth.inpainting.feature_distance import masked_distance
from ...synth.metrics import Features as Vectors
from ...synth.metrics import Interval, kid
from ...synth.region_semantics.generator import GENERATORS
from ...synth.region_semantics.solver import Descent
from ...synth.roi_gan.regions import Region
from ..generators import NETWORK, Generator, load_generator
from ..inpainting.sliders import Parser
from ..like import about as said_of_generator
from ..like import checked, laid_out, own_pictures
from ..progress import Progress, Steps, silent
from ..training.completion import middle
from ..training.photographs import BankOrigin
from ..training.resume import fingerprint
from ..written import EVALUATION, check_files, write_evaluation
from .inpaint_measures import Measure
from .making import Arrays, Making
from .region_cases import FEWEST, SIZES, Case, cases_of
from .region_kid import grouped_kid
from .region_report import build_report, table_of
from .region_results import FIGURES, Kept, RegionEvaluation
from .region_systems import SAID, System, objective_for, seed_of, systems_of

PHOTOGRAPHS, PICTURES = 24, 8
"""Held-out photographs at most, and pictures of each region of them."""
TIMED = 36
"""Pictures of one region that are timed, as in the paper."""
TRAINING = 400
"""Training photographs, evenly spaced, that a KID compares with, at most; as many random pictures of each generator."""


def evaluate_region_semantics(
    bank: str | Path,
    models: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    photographs: int = PHOTOGRAPHS,
    pictures: int = PICTURES,
    seed: int = 0,
    systems: Sequence[str] = (),
    features: str | Path | None = None,
    steps: int | None = None,
    progress: Progress = silent,
) -> RegionEvaluation:
    """Measures every system for which there is a network, and writes table, figures and a page to look at.

    Args:
        bank: it must hold labelled held-out sources, of split `test` or `val`; models: folder of networks.
        out: folder for `report.html`, `evaluation.json` and `table.md`.
        split: whose photographs; default `test`, else `val`. photographs: how many, at most, evenly spaced, each with
            a region of three sizes; pictures: of each region, at least 2.
        seed: of regions and searches; systems: names of those to measure, default all.
        features: that searches compare, see `load_features`; steps: of a search, see `Descent`.
        progress: told of every region.

    Raises:
        InputError: no held-out sources, no generator, no features, no such system, or `out` cannot be written; before
            anything is.
    """
    folder, reader = Path(models).expanduser(), Reader(bank)
    plan = _checked(systems, photographs, pictures, seed, steps)
    out = check_files(out, EVALUATION)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = load_generator(folder, device=device)
    compared = load_features(features, folder, "max").to(device)
    laid_out(generator.network, compared, device=device)
    measure = Measure(folder, device)
    chosen, cases = cases_of(reader, split, photographs, generator.resolution, seed)
    found, left_out = systems_of(folder, generator, compared, plan, device, systems)
    judge = Parser(folder, device) if measure.independent else None
    ruler = _Ruler(measure, judge, compared, _training(reader, generator.resolution, measure), device)
    steps_done = Steps(progress, len(found) * len(cases))
    options = {"split": chosen, "photographs": photographs, "pictures": pictures, "seed": seed, "plan": asdict(plan)}
    weights = fingerprint(torch.nn.ModuleDict({"features": compared}))
    making = Making(out, reader, [folder], options | {"features": [compared.name, weights]})
    measured = [_measured(each, cases, ruler, pictures, seed, steps_done, making) for each in found]
    own = {name: _kid_of(name, folder, ruler, seed) for name in _generators(folder)}
    held = [case.reference for case in cases[:: len(SIZES)]]
    real = kid(ruler.training, measure.vectors([each.image for each in held]))
    told = _about(reader, folder, generator, compared, measure, cases, chosen, pictures, seed, plan)
    result = RegionEvaluation(measured, cases, [each.name for each in held], own, real, told, left_out)
    files = write_evaluation(out, result.to_json(), table_of(result), build_report(result))
    making.done()
    return replace(result, files=files)


@dataclass(frozen=True, eq=False)
class _Ruler:
    """What pictures are measured with."""

    measure: Measure
    judge: Parser | None
    features: Features
    training: Vectors
    device: torch.device

    def figures(self, case: Case, made: Sequence[Photograph]) -> dict[str, float]:
        """Of `FIGURES`, the means over the pictures of a case."""
        image, region = case.reference.image, case.reference.region
        batch = torch.stack([to_tensor(each) for each in made]).to(self.device)
        agreement = np.nan
        if self.judge is not None:
            read = self.judge(image)[region]
            agreement = float(np.mean([(self.judge(each)[region] == read).mean() for each in made]))
        with torch.no_grad():
            losses = [objective_for(case, self.features, self.device, pixels=each)(batch) for each in (True, False)]
        return {
            "semantics": float(np.mean(self.measure.distances(made, [image] * len(made), [region] * len(made)))),
            "agreement": agreement,
            "diversity": self._spread(batch, np.ones_like(region)),
            "elsewhere": self._spread(batch, ~region),
            "pixels": float(losses[0].mean()),
            "features": float(losses[1].mean()),
        }

    def _spread(self, batch: Tensor, where: Region) -> float:
        """Mean distance of two pictures of a batch, over a part of the picture."""
        first, second = np.triu_indices(len(batch), 1)
        mask = torch.from_numpy(where).float().to(self.device).expand(len(first), 1, -1, -1)
        with torch.no_grad():
            layers = self.measure.layers(batch)
            apart = masked_distance([each[first] for each in layers], [each[second] for each in layers], mask)
        return float(apart.mean())


def _measured(
    system: System,
    cases: Sequence[Case],
    ruler: _Ruler,
    pictures: int,
    seed: int,
    steps: Steps,
    making: Making,
) -> Kept:
    made: list[list[Photograph]] = []
    rows = []
    for number, case in enumerate(cases):

        def make(case: Case = case, number: int = number) -> Arrays:
            return {"pictures": np.stack(system.make(case, pictures, seed_of(seed, number)))}

        made.append([*making([system.name, number], make)["pictures"]])
        rows.append(ruler.figures(case, made[-1]))
        steps(system.name)
    values = {name: np.array([row[name] for row in rows], np.float64) for name in FIGURES}
    start = perf_counter()
    system.make(cases[0], TIMED, seed_of(seed, 0))
    seconds = perf_counter() - start
    vectors = ruler.measure.vectors([each for those in made for each in those])
    groups = [case.photograph for case, those in zip(cases, made, strict=True) for _ in those]
    both = kid(ruler.training, vectors), grouped_kid(ruler.training, vectors, groups)
    return Kept(system.name, SAID[system.name], values, *both, seconds, made)


def _training(reader: Reader, side: int, measure: Measure) -> Vectors:
    origin = BankOrigin(reader)
    names = origin.names("train")
    if len(names) < 2:
        raise InputError(sentence(reader.path, expected="at least 2 training photographs", found=str(len(names))))
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(len(names), TRAINING)).round().astype(int)]
    return measure.vectors([middle(origin.read(name), (side, side)) for name in chosen])


def _kid_of(name: str, folder: Path, ruler: _Ruler, seed: int) -> Interval:
    """Of what a generator makes of random latents."""
    generator = load_generator(folder, name, device=ruler.device)
    count = max(2, min(TRAINING, len(ruler.training)))
    made = [to_image(each) for each in own_pictures(generator, count, seed, ruler.device)]
    return kid(ruler.training, ruler.measure.vectors(made))


def _generators(folder: Path) -> list[str]:
    """Names of the files of generators that make a picture of one latent."""
    names = [f"{NETWORK}-{kind}" for kind in GENERATORS]
    return [name for name in names if (folder / f"{name}{SUFFIX}").exists()]


def _checked(systems: Sequence[str], photographs: int, pictures: int, seed: int, steps: int | None) -> Descent:
    if strange := sorted(set(systems) - set(SAID)):
        expected = f"some of {', '.join(map(repr, SAID))}"
        raise InputError(sentence("systems", expected=expected, found=", ".join(map(repr, strange))))
    if photographs < FEWEST:
        raise InputError(sentence("photographs (--layouts)", expected=f"at least {FEWEST}", found=str(photographs)))
    if pictures < 2:
        raise InputError(sentence("pictures", expected="at least 2 of each region", found=str(pictures)))
    return checked(pictures, seed, None, steps, Descent())


def _about(
    reader: Reader,
    folder: Path,
    generator: Generator,
    features: Features,
    measure: Measure,
    cases: Sequence[Case],
    split: str,
    pictures: int,
    seed: int,
    plan: Descent,
) -> dict[str, Any]:
    cards = {path.stem: load_card(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}
    networks = {
        name: {"network": card.network, "step": card.step, "size": list(card.size), "bank": card.bank}
        for name, card in cards.items()
    }
    side = generator.resolution
    return {
        "bank": reader.path.name, "generation": reader.manifest.generation, "split": split,
        "photographs": len(cases) // len(SIZES),
        "regions": len(cases), "pictures": pictures, "size": [side, side], "seed": seed, "search": asdict(plan),
        "generator": said_of_generator(generator), "features": features.name, "measured with": measure.name,
        "independent": measure.independent, "networks": networks,
    }  # fmt: skip
