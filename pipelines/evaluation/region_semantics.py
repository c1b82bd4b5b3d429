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
from ...synth.metrics import Interval, fid, kid
from ...synth.region_semantics.generator import GENERATORS
from ...synth.region_semantics.objective import APART
from ...synth.region_semantics.solver import Descent
from ...synth.roi_gan.regions import Region
from ..generators import NETWORK, Generator, load_generator
from ..inpainting.sliders import Parser
from ..like import OTHERS, checked, laid_out, own_pictures
from ..like import about as said_of_generator
from ..progress import Progress, Steps, silent
from ..training.completion import middle
from ..training.photographs import BankOrigin
from ..training.resume import fingerprint
from ..written import EVALUATION, check_files, write_evaluation
from .inpaint_measures import Measure
from .making import Arrays, Making
from .region_cases import FEWEST, Case, cases_of
from .region_kid import grouped_kid, grouped_kid_gap
from .region_report import build_report, table_of
from .region_results import FIGURES, Kept, RegionEvaluation
from .region_systems import FREE, SAID, System, objective_for, seed_of, systems_of

PHOTOGRAPHS, PICTURES = 72, 8
"""Held-out photographs at most, and pictures of the region of each."""
TIMED = 36
"""Pictures of one region that are timed, as in the paper."""
TRAINING = 1000
"""Training photographs, evenly spaced, that generators are compared with, at most; as many random pictures of each."""
COMPARED = 400
"""Of them, those that a KID of a system's pictures compares with, at most; `RETRIEVED` chooses among the others."""


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
    generator: str | Path | None = None,
    features: str | Path | None = None,
    steps: int | None = None,
    progress: Progress = silent,
) -> RegionEvaluation:
    """Measures every system for which there is a network, and writes table, figures and a page to look at.

    Args:
        bank: it must hold labelled held-out sources, of split `test` or `val`; models: folder of networks.
        out: folder for `report.html`, `evaluation.json` and `table.md`.
        split: whose photographs, see `cases_of`. photographs: how many, at most, evenly spaced, each with one region;
            pictures: of each region, at least 2.
        seed: of regions and searches; systems: names of those to measure, default all.
        generator: whose latents are sought: a file, or a name in the folder, see `load_generator`.
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
    made_by = (
        load_generator(generator, device=device)
        if generator is not None and Path(generator).expanduser().is_file()
        else load_generator(folder, None if generator is None else str(generator), device=device)
    )
    compared = load_features(features, folder, "max").to(device)
    laid_out(made_by.network, compared, device=device)
    measure = Measure(folder, device)
    side = made_by.resolution
    chosen, cases = cases_of(reader, split, photographs, side, seed)
    training = _training(reader, side, [case.reference.name for case in cases])
    apart, pool = _dealt(len(training))
    found, left_out = systems_of(folder, made_by, compared, plan, device, systems, [training[i] for i in pool])
    judge = Parser(folder, device) if measure.independent else None
    vectors = measure.vectors(training)
    ruler = _Ruler(measure, judge, compared, vectors, vectors[apart], device)
    steps_done = Steps(progress, len(found) * len(cases))
    options = {"split": chosen, "photographs": photographs, "pictures": pictures, "seed": seed, "plan": asdict(plan)}
    weights = {"features": compared, "generator": made_by.network}
    digests = {name: fingerprint(torch.nn.ModuleDict({name: each})) for name, each in weights.items()}
    making = Making(out, reader, [folder], options | digests | {"named": compared.name})
    measured = _over(
        [_measured(each, cases, ruler, pictures, seed, steps_done, making) for each in found], cases, ruler
    )
    there = {name: load_generator(folder, name, device=device) for name in _generators(folder)}
    own = {name: _of_random(each, ruler, seed) for name, each in ({made_by.name: made_by} | there).items()}
    references = measure.vectors([case.reference.image for case in cases])
    real = grouped_kid(ruler.training, references, *_groups(cases, 1))
    told = _about(reader, folder, made_by, compared, measure, cases, chosen, pictures, seed, plan)
    result = RegionEvaluation(measured, cases, [case.reference.name for case in cases], own, real, told, left_out)
    files = write_evaluation(out, result.to_json(), table_of(result), build_report(result))
    making.done()
    return replace(result, files=files)


@dataclass(frozen=True, eq=False)
class _Ruler:
    """What pictures are measured with.

    Attributes:
        training: vectors of `TRAINING` photographs; apart: of `COMPARED` of them, which no system chooses from.
    """

    measure: Measure
    judge: Parser | None
    features: Features
    training: Vectors
    apart: Vectors
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
    usual = next((number for number, case in enumerate(cases) if case.size == "medium"), 0)
    start = perf_counter()
    system.make(cases[usual], TIMED, seed_of(seed, usual))
    seconds = perf_counter() - start
    vectors = _vectors(made, ruler)
    of_each = grouped_kid(ruler.apart, vectors, *_groups(cases, pictures))
    return Kept(system.name, SAID[system.name], values, of_each, None, seconds, made)


def _over(measured: Sequence[Kept], cases: Sequence[Case], ruler: _Ruler) -> list[Kept]:
    """The same with each one's KID less that of random pictures, where these are among them."""
    free = next((each for each in measured if each.name == FREE), None)
    if free is None:
        return list(measured)
    chance, groups = _vectors(free.pictures, ruler), _groups(cases, len(free.pictures[0]))
    return [
        each
        if each is free
        else replace(each, over=grouped_kid_gap(ruler.apart, _vectors(each.pictures, ruler), chance, *groups))
        for each in measured
    ]


def _vectors(made: Sequence[Sequence[Photograph]], ruler: _Ruler) -> Vectors:
    return ruler.measure.vectors([each for those in made for each in those])


def _groups(cases: Sequence[Case], pictures: int) -> tuple[list[int], list[int]]:
    """Of so many pictures of each case one after the other: what they are not compared with, and are drawn with.

    Not with pictures of its group of photographs; where all are of one group, of its photograph.
    """
    several = len({case.group for case in cases}) > 1
    apart = [case.group if several else case.photograph for case in cases for _ in range(pictures)]
    return apart, [case.drawn for case in cases for _ in range(pictures)]


def _training(reader: Reader, side: int, held: Sequence[str]) -> list[Photograph]:
    """Photographs of `train`, evenly spaced, of other groups than the sources that are measured on."""
    origin = BankOrigin(reader)
    barred, names = set(origin.groups(held)), origin.names("train")
    names = [name for name, group in zip(names, origin.groups(names), strict=True) if group not in barred]
    if len(names) < 2:
        raise InputError(sentence(reader.path, expected="at least 2 training photographs", found=str(len(names))))
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(len(names), TRAINING)).round().astype(int)]
    return [middle(origin.read(name), (side, side)) for name in chosen]


def _dealt(n: int) -> tuple[list[int], list[int]]:
    """Numbers of training photographs that KID compares with, evenly spaced, and of those to choose from.

    Of a few all are both.
    """
    if n < 2 * FEWEST:
        return [*range(n)], [*range(n)]
    even = np.arange(0, n, 2)
    apart = even[np.linspace(0, len(even) - 1, min(len(even), COMPARED)).round().astype(int)].tolist()
    return apart, [*range(1, n, 2)]


def _of_random(generator: Generator, ruler: _Ruler, seed: int) -> tuple[Interval, float | None]:
    """KID and FID of what a generator makes of random latents."""
    count = max(2, min(TRAINING, len(ruler.training)))
    made = [to_image(each) for each in own_pictures(generator, count, seed, ruler.device)]
    vectors = ruler.measure.vectors(made)
    return kid(ruler.training, vectors), fid(ruler.training, vectors)


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
        "photographs": len(cases), "drawn": len({case.drawn for case in cases}), "pictures": pictures,
        "size": [side, side], "seed": seed, "search": asdict(plan), "apart": APART, "others": OTHERS,
        "generator": said_of_generator(generator), "features": features.name, "measured with": measure.name,
        "independent": measure.independent, "networks": networks,
    }  # fmt: skip
