"""The ways to make pictures that keep a region's meaning, behind one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...storage.images import Photograph
from ...synth.checkpoint import SUFFIX
from ...synth.encoding import to_image
from ...synth.features import Features
from ...synth.region_semantics.generator import RIVALS
from ...synth.region_semantics.objective import PixelObjective
from ...synth.region_semantics.solver import Descent
from ..generators import Generator, load_rival
from ..like import layers_for, objective_of, own_pictures, pictures_of, solved
from .region_cases import Case

FAST, STILL, IGAN, FREE = "fast-rsper", "fast-rsper, no noise", "igan", "unconditional"
SAID = {
    FAST: "latents by features of the region, with noise in the gradients",
    STILL: "the same without noise: other starts alone make pictures differ",
    IGAN: "the same search by pixels of the region, without noise (Zhu et al. 2016)",
    "ladder-vae": "the region's part of a ladder VAE's latents kept (Soenderby et al. 2016)",
    "pixel-vae": "the same, its pixels drawn one after the other (Gulrajani et al. 2017)",
    "vae-gan": "the same, trained against a discriminator (Larsen et al. 2016)",
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
) -> tuple[list[System], list[str]]:
    """Those that are wanted, all by default, and a sentence for each that is left out.

    Raises:
        InputError: a network is damaged.
    """

    def searched(descent: Descent, pixels: bool = False) -> Make:
        def make(case: Case, count: int, seed: int) -> list[Photograph]:
            objective = objective_for(case, features, device, pixels=pixels)
            return pictures_of(generator, solved(generator, objective, count, descent, seed, device).latents)

        return make

    def free(case: Case, count: int, seed: int) -> list[Photograph]:
        return [to_image(each) for each in own_pictures(generator, count, seed, device)]

    still = replace(plan, noise=0.0)
    found = [
        System(FAST, searched(plan)),
        System(STILL, searched(still)),
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


def objective_for(case: Case, features: Features, device: torch.device, *, pixels: bool = False) -> nn.Module:
    """What is minimised for a region: by features of the automatic depth, or by pixels."""
    if pixels:
        image, region = case.reference.tensors(device)
        return PixelObjective(image[None], region[None])
    references = [case.reference]
    return objective_of(features, references, layers_for("auto", features, references), device)


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
