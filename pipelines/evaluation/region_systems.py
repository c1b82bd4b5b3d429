"""The ways to make pictures that keep a region's meaning, behind one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...storage.images import Photograph
from ...synth.checkpoint import SUFFIX
from ...synth.encoding import to_image, to_tensor
from ...synth.features import Features
from ...synth.region_semantics.generator import RIVALS
from ...synth.region_semantics.objective import PixelObjective
from ...synth.region_semantics.solver import Descent
from ..generators import Generator, load_rival
from ..like import SAMPLES, layers_for, objective_of, others_of, own_pictures, pictures_of, solved
from .region_cases import Case

CHOICE = 256
"""Random pictures that some are chosen of."""
FAST, STILL, IGAN, FREE = "fast-rsper", "fast-rsper, no noise", "igan", "unconditional"
ALIKE, PLAIN, CHOSEN = "fast-rsper, one start", "fast-rsper, equation 1", "chosen"
RETRIEVED = "photographs"
SAID = {
    FAST: "latents by features of the region, with noise in the gradients",
    STILL: "the same without noise: other starts alone make pictures differ",
    ALIKE: "the same from one start: noise alone makes pictures differ, without it they are the same",
    PLAIN: "the same by equation 1 alone: being near to all pictures counts as being near to the region",
    CHOSEN: f"the best by equation 1 of {CHOICE} random pictures: what a condition costs, without any search",
    IGAN: "the same search by pixels of the region, without noise (Zhu et al. 2016)",
    "ladder-vae": "the region's part of a ladder VAE's latents kept (Soenderby et al. 2016)",
    "pixel-vae": "the same, its pixels drawn one after the other (Gulrajani et al. 2017)",
    "vae-gan": "the same, trained against a discriminator (Larsen et al. 2016)",
    RETRIEVED: "the best by equation 1 of training photographs: what a condition costs where pictures are perfect",
    FREE: "random pictures of the generator: what no search gives",
}
"""In the order of tables."""

Make = Callable[[Case, int, int], list[Photograph]]
"""Pictures of a region: the case, how many, and a seed."""


@dataclass(frozen=True, eq=False)
class System:
    """A name of `SAID`, and what makes pictures."""

    name: str
    make: Make


def systems_of(
    folder: Path,
    generator: Generator,
    features: Features,
    plan: Descent,
    device: torch.device,
    wanted: Sequence[str],
    photographs: Sequence[Photograph],
) -> tuple[list[System], list[str]]:
    """Those that are wanted, all by default, and a sentence for each that is left out.

    Args:
        photographs: of the training split, at the generator's resolution, that `RETRIEVED` chooses from.

    Raises:
        InputError: a network is damaged.
    """

    others = others_of(own_pictures(generator, SAMPLES, 0, device))

    def searched(descent: Descent, pixels: bool = False, others: Tensor | None = others) -> Make:
        def make(case: Case, count: int, seed: int) -> list[Photograph]:
            objective = objective_for(case, features, device, others, pixels=pixels)
            return pictures_of(generator, solved(generator, objective, count, descent, seed, device).latents)

        return make

    def free(case: Case, count: int, seed: int) -> list[Photograph]:
        return [to_image(each) for each in own_pictures(generator, count, seed, device)]

    def chosen(case: Case, count: int, seed: int) -> list[Photograph]:
        return [to_image(each) for each in best(own_pictures(generator, max(CHOICE, count), seed, device), case, count)]

    def retrieved(case: Case, count: int, seed: int) -> list[Photograph]:
        there = torch.stack([to_tensor(each) for each in photographs]).to(device)
        return [to_image(each) for each in best(there, case, count)]

    def best(pictures: Tensor, case: Case, count: int) -> Tensor:
        objective = objective_for(case, features, device)
        with torch.no_grad():
            losses = torch.cat([objective(part) for part in torch.split(pictures, 64)])
        order = losses.argsort(stable=True).repeat(-(-count // len(losses)))  # again where there are too few
        return pictures[order[:count]]

    still = replace(plan, noise=0.0)
    found = [
        System(FAST, searched(plan)),
        System(STILL, searched(still)),
        System(ALIKE, searched(replace(plan, alike=True))),
        System(PLAIN, searched(plan, others=None)),
        System(CHOSEN, chosen),
        System(RETRIEVED, retrieved),
        System(IGAN, searched(still, pixels=True)),
    ]
    left_out = []
    for kind in RIVALS:
        if wanted and kind not in wanted:
            continue
        path = folder / f"generator-{kind}{SUFFIX}"
        if not path.exists():
            left_out.append(f"{kind}: left out, there is no {path.name} in {folder}")
            continue
        card, network = load_rival(path, kind, device)
        if card.size != (generator.resolution, generator.resolution):
            said = "{}x{}, the generator at {}x{}".format(*card.size, *(generator.resolution,) * 2)
            left_out.append(f"{kind}: left out, its network was trained at {said}")
            continue
        found.append(System(kind, _preserving(network, device)))
    found.append(System(FREE, free))
    return [each for each in found if not wanted or each.name in wanted], left_out


def objective_for(
    case: Case, features: Features, device: torch.device, others: Tensor | None = None, *, pixels: bool = False
) -> nn.Module:
    """What is minimised for a region: by features of the automatic depth, equation 1 without others; or by pixels."""
    if pixels:
        image, region = case.reference.tensors(device)
        return PixelObjective(image[None], region[None])
    references = [case.reference]
    return objective_of(features, references, layers_for("auto", features, references), device, others)


def _preserving(network: nn.Module, device: torch.device) -> Make:
    def make(case: Case, count: int, seed: int) -> list[Photograph]:
        image, region = case.reference.tensors(device)
        random = torch.Generator(device).manual_seed(seed)
        with torch.no_grad():
            made = network.preserving(image, region[0] > 0, count, random, case.kind == "simple")  # type: ignore[operator]
        return [to_image(each) for each in made]

    return make


def seed_of(seed: int, number: int) -> int:
    """Of a case."""
    return int(np.random.default_rng([seed, number]).integers(1 << 31))
