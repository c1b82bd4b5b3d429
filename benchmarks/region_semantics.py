"""Fast-RSPer: seconds for 36 pictures like a region at 64 pixels, uncompiled and compiled, and what takes them.

Generators and features are untrained: times do not depend on what they have learned, but early stopping does, so that
every latent here takes all of its steps. The compiler's own seconds stand in a row of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import process_time

import torch
from torch import Tensor, nn

from zeuxis.pipelines.like import OTHERS, laid_out
from zeuxis.synth.features import Features, FeaturesConfig
from zeuxis.synth.region_semantics.generator import GeneratorConfig, GeneratorNetwork, Kind, draw
from zeuxis.synth.region_semantics.objective import FeatureObjective, PixelObjective
from zeuxis.synth.region_semantics.solver import Descent, Solution, solve

SIDE, COUNT, WIDTH = 64, 36, 1 / 8
KINDS: tuple[Kind, ...] = ("wgan-gp", "began")
ROUNDS = 3


def run(quick: bool, data: Path | None = None) -> list[dict[str, object]]:
    """One row a measurement; `data` is not looked at; quick takes a few seconds, and compiles nothing."""
    count, plan = (2, Descent(steps=3)) if quick else (COUNT, replace(Descent(), patience=10_000))
    rows: list[dict[str, object]] = []
    for kind in KINDS[: 1 if quick else None]:
        config = GeneratorConfig(kind, SIDE, 1 / 32 if quick else WIDTH)
        torch.manual_seed(0)
        generator = GeneratorNetwork(config).eval().requires_grad_(False)
        features = Features(FeaturesConfig(1 / 16 if quick else WIDTH, "max", True)).eval().requires_grad_(False)
        laid_out(generator, features, device=torch.device("cpu"))
        reference, region = torch.rand(1, 3, SIDE, SIDE) * 2 - 1, torch.zeros(1, 1, SIDE, SIDE)
        region[..., 16:45, 12:40] = 1
        with torch.no_grad():
            others = generator(draw(config, OTHERS, torch.Generator().manual_seed(0)))
        by_features = FeatureObjective(features, reference, region, ("conv4_1",), others)
        by_pixels = PixelObjective(reference, region)

        def found(objective: nn.Module, compiled: bool = False) -> Solution:
            latent = config.latent  # noqa: B023 - called before the next generator
            return solve(generator, objective, config.prior, latent, count, plan, compiled=compiled)  # noqa: B023

        eager = found(by_features)
        rows.append(_row(f"{kind}: {count} pictures, {plan.steps} steps, {eager.tried} latents", eager.seconds))
        rows.append(_row(f"{kind}: the same by pixels (iGAN)", found(by_pixels).seconds))
        if not quick:
            fast = found(by_features, compiled=True)
            rows.append(_row(f"{kind}: the same compiled ({fast.backend})", fast.seconds))
            rows.append(_row(f"{kind}: compiling", fast.warming))
        rows += _split(kind, generator, by_features, draw(config, eager.tried, torch.Generator()))
    return rows


def _split(kind: str, generator: nn.Module, objective: nn.Module, latents: Tensor) -> list[dict[str, object]]:
    """Processor seconds of the parts of a step, each with its gradient."""
    with torch.no_grad():
        images = generator(latents)
    parts = {
        "generator": lambda: _gradient(lambda z: generator(z).mean((1, 2, 3)), latents),
        "features and loss": lambda: _gradient(objective, images),
        "a step": lambda: _gradient(lambda z: objective(generator(z)), latents),
    }
    return [_row(f"{kind}: {name}, processor time", _seconds(part)) for name, part in parts.items()]


def _gradient(loss: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
    given = given.detach().requires_grad_()
    (found,) = torch.autograd.grad(loss(given).sum(), given)
    return found


def _seconds(call: Callable[[], Tensor]) -> float:
    call()
    start = process_time()
    for _ in range(ROUNDS):
        call()
    return (process_time() - start) / ROUNDS


def _row(what: str, seconds: float) -> dict[str, object]:
    return {"what": what, "seconds": round(seconds, 3)}
