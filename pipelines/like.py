"""`zeuxis like`: a region of a picture in, other pictures that mean the same there out (Fast-RSPer, Liu et al. 2018).

No network is trained for it: latents of a frozen generator are sought whose pictures agree with the region in the
features of a frozen network. The same generator, features, references and seed give the same bytes on the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..index.retriever import Retriever
from ..storage.errors import InputError, sentence
from ..storage.images import Photograph
from ..synth.canvas import as_json, encoded
from ..synth.encoding import to_image
from ..synth.features import Features
from ..synth.region_semantics.depth import UnknownDepth, layers_of, longer_side
from ..synth.region_semantics.objective import APART, FeatureObjective
from ..synth.region_semantics.solver import Descent, Solution, solve
from ..synth.region_semantics.strangeness import whole
from .generators import Generator
from .inpaint import ImageLike
from .inpainting.regions import RegionLike
from .liking.domain import how_strange
from .liking.files import Places, check_places, places, save
from .liking.lookup import LookedUp, LookUp
from .liking.references import Reference, reference_of
from .liking.sheets import Cell, grid, mean_of, sheet
from .progress import Progress, silent

USUAL = Descent()
MOST, MOST_STEPS, MOST_NOISE = 1024, 10_000, 10.0
"""Pictures of a call, steps of a latent, noise."""
SAMPLES = 144
"""Pictures of the generator's own that a reference is compared with."""
OTHERS = 16
"""Of them, those that pictures are to have nothing in common with."""
SHEET_DEPTHS, SHEET_NOISE, SHEET_COUNT = ("conv3_1", "conv4_1", "conv5_1"), (0.0, 1.0, 2.0), 9
"""Of a sheet: depths; levels of noise, times the level asked for; pictures each."""


@dataclass(frozen=True)
class LikeReport:
    """How pictures were sought.

    Attributes:
        generator: file, kind, steps of training, resolution; features: the network that compared.
        depth: as asked; layers: compared; field: pixels that a unit of the first sees.
        side: of the largest region's box, the longer one.
        references: name, share of the picture, square that was seen, share of the region cut off, strangeness (None:
            not known).
        count, seed, steps, noise, apart: as resolved; tried: latents solved; dropped: those whose loss was no number.
        losses, numbers, taken: of each picture, the best first: loss, which latent of the seed, steps.
        backend: of the steps; seconds: of the descent; warming: of compiling before it.
        warnings: a sentence each.
    """

    generator: Mapping[str, Any]
    features: str
    depth: str
    layers: tuple[str, ...]
    field: int
    side: int
    references: Sequence[Mapping[str, Any]]
    count: int
    seed: int
    steps: int
    noise: float
    apart: float
    tried: int
    dropped: Sequence[int]
    losses: Sequence[float]
    numbers: Sequence[int]
    taken: Sequence[int]
    backend: str
    seconds: float
    warming: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Liked:
    """Pictures that mean what references do in their regions, the best first.

    Attributes:
        images: `(R, R, 3)` uint8 RGB; losses: of each; latents: `(n, Z)` float32 that they were made of.
        mean: of all pictures; references: as the generator saw them; report: how.
        looked_up: what the bank holds for each, empty where it was not asked; files: what was written.
    """

    images: Sequence[Photograph]
    losses: Sequence[float]
    latents: npt.NDArray[np.float32]
    mean: Photograph
    references: Sequence[Reference]
    report: LikeReport
    looked_up: Sequence[LookedUp] = ()
    files: Sequence[Path] = ()

    def __repr__(self) -> str:
        told = f"losses {self.losses[0]:.4f} to {self.losses[-1]:.4f}, {self.report.depth}: {'..'.join(self._ends)}"
        return f"Liked({len(self.images)} pictures, {told})"

    @property
    def _ends(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.report.layers[0], self.report.layers[-1])))

    def grid(self) -> Photograph:
        """The references with their regions, the mean, and every picture over its loss."""
        return grid(self.references, self.images, self.losses)


def like(
    generator: Generator,
    features: Features,
    references: Sequence[tuple[ImageLike, RegionLike]],
    count: int = 36,
    seed: int = 0,
    *,
    depth: str = "auto",
    noise: float | None = None,
    steps: int | None = None,
    apart: float | None = None,
    compiled: bool = False,
    descent: Descent = USUAL,
    retriever: Retriever | None = None,
    look_up: LookUp | None = None,
    with_sheet: bool = False,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Liked:
    """Pictures of a generator that mean what regions of other pictures do, at the same place.

    Args:
        generator: see `load_generator`; features: that say what a region means, see `load_features`.
        references: pictures and a region of each; the losses of several are added.
        count: pictures wanted; some more are solved, and the best are kept. seed: of all draws.
        depth: `auto`, by the size of the largest region; a layer; or two, of a sum, `conv3_1..conv4_1`.
        noise, steps: those of `Descent` by default; descent: the rest of it; compiled: compile the steps first.
        apart: what being far from other pictures counts for, from 0, which is equation 1, to below 1; default 0.8, see
            `FeatureObjective`.
        retriever: of the bank, for segments, and sources as images; look_up: to look each picture up there.
        out: a folder for all of it, made where there is none; with_sheet: also depths beside noise; progress: of steps.

    Raises:
        InputError: one of the arguments cannot be used, found before anything is written; or no latent was left.
    """
    plan, apart = checked(count, seed, noise, steps, descent), checked_apart(apart)
    count, seed = int(count), int(seed)
    references = list(references)
    _check_references(references, depth)
    reader = None if retriever is None else retriever.reader
    seen = [reference_of(*each, generator.resolution, reader) for each in references]
    layers = layers_for(depth, features, seen)
    if out is not None:
        check_places(out, seen[0].name, count, [each for pair in references for each in pair])
    device = next(features.parameters()).device
    laid_out(generator.network, features, device=device)
    samples = own_pictures(generator, SAMPLES, 0, device)
    warned, strange = how_strange(generator.name, samples, features, seen, device)
    others = others_of(samples)
    objective = objective_of(features, seen, layers, device, others, apart)
    solution = solved(generator, objective, count, plan, seed, device, compiled, progress)
    images, losses = pictures_of(generator, solution.latents), solution.losses.tolist()
    report = _report(generator, objective, plan, seed, solution, losses, count, depth, seen, strange, warned)
    there = [*map(look_up, images)] if look_up else []
    found = Liked(images, losses, solution.latents.cpu().numpy(), mean_of(images), seen, report, there)
    if out is None:
        return found
    where = places(out, seen[0].name, len(images))
    more = _sheet(generator, features, seen, plan, seed, others, apart, where) if with_sheet else {}
    return replace(found, files=_saved(found, where, more))


def _check_references(references: Sequence[Any], depth: Any) -> None:
    """Refuses what are no pairs of a picture and a region, and what is no depth."""
    if not references:
        raise InputError(sentence("references", expected="a picture and a region of it, or several", found="none"))
    for pair in references:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            found = f"{len(pair)} values" if isinstance(pair, tuple | list) else type(pair).__name__
            raise InputError(sentence("references", expected="pairs of a picture and a region of it", found=found))
    if not isinstance(depth, str):
        raise InputError(sentence("depth", expected="auto, or names of layers", found=repr(depth)))


def laid_out(*modules: torch.nn.Module, device: torch.device) -> None:
    """Lays weights out as searches are fastest with: on a CPU channels last, which takes up to half of the time."""
    if device.type == "cpu":
        for each in modules:
            each.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def checked(count: int, seed: int, noise: float | None, steps: int | None, descent: Descent) -> Descent:
    """The plan of a search, as asked for.

    Raises:
        InputError: a number is none, or out of range.
    """
    plan = descent if noise is None else replace(descent, noise=noise)
    plan = plan if steps is None else replace(plan, steps=steps)
    for name, value, least, most in (
        ("count", count, 1, MOST), ("seed", seed, 0, 2**63 - 1), ("steps", plan.steps, 1, MOST_STEPS)
    ):  # fmt: skip
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (whole and least <= value <= most):
            expected = f"a whole number from {least} to {most:,}"
            raise InputError(sentence(name, expected=expected, found=repr(value)))
    if not (_real(plan.noise) and 0 <= plan.noise <= MOST_NOISE):
        raise InputError(sentence("noise", expected=f"a number from 0 to {MOST_NOISE:g}", found=repr(plan.noise)))
    return replace(plan, noise=float(plan.noise), steps=int(plan.steps))


def checked_apart(apart: float | None) -> float:
    """The weight of being far from other pictures.

    Raises:
        InputError: it is no number from 0 to below 1.
    """
    if apart is None:
        return APART
    if not (_real(apart) and 0 <= apart < 1):
        raise InputError(sentence("apart", expected="a number from 0 to below 1", found=repr(apart)))
    return float(apart)


def _real(value: Any) -> bool:
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return real and math.isfinite(value)


def layers_for(depth: str, features: Features, references: Sequence[Reference]) -> tuple[str, ...]:
    """The layers that a depth means for these regions, of which the largest decides.

    Raises:
        InputError: it names a layer that there is not; the sentence lists them.
    """
    fields = features.fields()
    try:
        return layers_of(depth, fields, max(longer_side(each.region) for each in references))
    except UnknownDepth as error:
        expected = f"auto, one of {', '.join(fields)}, or two of them as FIRST..LAST"
        raise InputError(sentence("depth", str(error), expected=expected, found=repr(depth))) from error


def objective_of(
    features: Features,
    references: Sequence[Reference],
    layers: Sequence[str],
    device: torch.device,
    others: Tensor | None = None,
    apart: float = APART,
) -> FeatureObjective:
    """Equation 1 for these references; with others, less what pictures have in common with those."""
    images, regions = zip(*(each.tensors(device) for each in references), strict=True)
    return FeatureObjective(features, torch.stack(images), torch.stack(regions), layers, others, apart)


def solved(
    generator: Generator,
    objective: torch.nn.Module,
    count: int,
    plan: Descent,
    seed: int,
    device: torch.device,
    compiled: bool = False,
    progress: Progress = silent,
) -> Solution:
    """Latents of a generator for an objective.

    Raises:
        InputError: no latent's loss stayed a number.
    """
    solution = solve(
        generator.network, objective, generator.prior, generator.latent, count, plan, seed, device=device,
        compiled=compiled, progress=lambda done, total: progress(done, total, "steps"),
    )  # fmt: skip
    if not len(solution.latents):
        fix = "check the generator, or lower the rate"
        raise InputError(sentence(generator.name, "the loss of every latent became no number", fix=fix))
    return solution


def pictures_of(generator: Generator, latents: Tensor, at_once: int = 64) -> list[Photograph]:
    """`(R, R, 3)` uint8 RGB of latents."""
    with torch.inference_mode():
        return [to_image(image) for part in torch.split(latents, at_once) for image in generator.network(part)]


def own_pictures(generator: Generator, count: int, seed: int, device: torch.device) -> Tensor:
    """`(count, 3, R, R)` in [-1, 1] of random latents: what a generator makes of its own accord."""
    latents = generator.draw(count, torch.Generator().manual_seed(seed)).to(device)
    with torch.no_grad():
        return torch.cat([generator.network(part) for part in torch.split(latents, 64)])


def others_of(samples: Tensor) -> Tensor | None:
    """`(K, 3, R, R)`: the first `OTHERS` of a generator's own pictures that are numbers; None without any."""
    chosen = whole(samples)[:OTHERS]
    return chosen if len(chosen) else None


def about(generator: Generator) -> dict[str, Any]:
    """What a report says of a generator."""
    told: dict[str, Any] = {"name": generator.name, "resolution": generator.resolution, "prior": generator.prior}
    if (card := generator.card) is not None:
        told |= {"kind": card.config.get("kind"), "step": card.step, "bank": card.bank, "generation": card.generation}
    if generator.frozen:
        told["batch normalisations frozen"] = generator.frozen
    return told


def _report(
    generator: Generator,
    objective: FeatureObjective,
    plan: Descent,
    seed: int,
    solution: Solution,
    losses: Sequence[float],
    count: int,
    depth: str,
    references: Sequence[Reference],
    strange: Sequence[float | None],
    warned: Sequence[str],
) -> LikeReport:
    """How pictures were found."""
    features, layers = objective.features, tuple(objective.layers)
    told = [_told(each, how) for each, how in zip(references, strange, strict=True)]
    return LikeReport(
        about(generator), features.name, depth, layers, features.fields()[layers[0]],
        max(longer_side(each.region) for each in references), told, count, seed, plan.steps, plan.noise,
        objective.apart, solution.tried, solution.dropped, losses, solution.numbers, solution.steps, solution.backend,
        solution.seconds, solution.warming, (*warned, *_said(solution, count)),
    )  # fmt: skip


def _said(solution: Solution, count: int) -> list[str]:
    said = [solution.said] if solution.said else []
    if solution.dropped:
        listed = ", ".join(map(str, solution.dropped[:8])) + (", ..." if len(solution.dropped) > 8 else "")
        of = f"{len(solution.dropped)} of {solution.tried} latents"
        said.append(f"{of} were dropped, their loss became no number: {listed}")
    if len(solution.latents) < count:
        said.append(f"{len(solution.latents)} pictures instead of {count} are left")
    return said


def _told(reference: Reference, strange: float | None) -> dict[str, Any]:
    return {
        "name": reference.name, "share": float(reference.region.mean()), "square": list(reference.square),
        "cut": reference.cut, "strangeness": strange,
    }  # fmt: skip


def _sheet(
    generator: Generator,
    features: Features,
    references: Sequence[Reference],
    plan: Descent,
    seed: int,
    others: Tensor | None,
    apart: float,
    where: Places,
) -> dict[Path, bytes]:
    """Depths beside levels of noise; where no noise was asked for, the usual level is shown."""
    level, device = plan.noise or Descent.noise, next(features.parameters()).device
    rows = []
    for layer in SHEET_DEPTHS:
        objective, row = objective_of(features, references, [layer], device, others, apart), []
        for times in SHEET_NOISE:
            found = solved(generator, objective, SHEET_COUNT, replace(plan, noise=times * level), seed, device)
            row.append(Cell(layer, times * level, pictures_of(generator, found.latents), found.losses.tolist()))
        rows.append(row)
    return {where.sheet: encoded(sheet(references, rows), "PNG")}


def _saved(found: Liked, where: Places, more: Mapping[Path, bytes]) -> list[Path]:
    files = dict(more)
    for path, each in zip(where.pictures, found.looked_up, strict=False):
        files[path.with_suffix(".layout.png")] = encoded(each.layout, "PNG")
    if found.looked_up:
        hits = {path.name: each.told() for path, each in zip(where.pictures, found.looked_up, strict=False)}
        files[where.report.with_name(where.report.name.replace("-like.json", "-hits.json"))] = as_json(hits)
    return save(where, found.images, found.grid(), found.mean, asdict(found.report), files)
