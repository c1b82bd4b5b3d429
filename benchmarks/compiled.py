"""Every network compiled beside the same network eager: milliseconds a call, ratios inside one run, drift.

They are built as trainings build them. Weights do not change the time, so the networks are untrained ones; what they
are given is made up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import torch
from torch import nn

from zeuxis.pipelines.compile import BATCHES, SEVERAL
from zeuxis.pipelines.examples import made_example
from zeuxis.pipelines.models import KINDS, OF_ONE_SIZE, OTHERS, ready
from zeuxis.pipelines.training.options import SHARES
from zeuxis.synth.compile import compile
from zeuxis.synth.compiling.packages import Store
from zeuxis.synth.compiling.parity import Inputs, side_by_side
from zeuxis.synth.discriminator import DiscriminatorConfig, PatchDiscriminator
from zeuxis.synth.inpainting.membrane import BLEND
from zeuxis.synth.presets import Preset, preset
from zeuxis.synth.roi_gan.generator import RoiConfig

FRAME, CLASSES = (360, 480), 11
"""Those of CamVid."""
ROUNDS = 5
"""Ratios, each of two medians, of which the median is told."""
QUICK = ("transform",)
TOGETHER = {"roi": ("tiny", 16)}
"""Networks that are measured with more pictures at once as well, and of which preset."""

TRAINED = ("passing", "filled", "fine", "copies", "tints", "textures", "usual")
"""What networks have that are trained now, and those of before have not."""


def run(quick: bool, data: Path | None) -> list[dict[str, Any]]:
    """One row a network and batch size, of the `small` preset; then their geometric mean."""
    named = preset("small")
    sized = Preset("quick", 32, 1 / 16, 1, 1) if quick else named
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "compiled", make=True)
        for name, (kind, make) in _networks(sized).items():
            if not quick or name in QUICK:
                sizes = (1,) if quick else (SEVERAL if kind in ("transform", "ordering") else BATCHES)[device.type]
                rows += _measured(name, kind, make(), sized, sizes, store, device)
        for kind, (smaller, batch) in {} if quick else TOGETHER.items():
            rows += _measured(kind, kind, _made(kind, preset(smaller)), preset(smaller), (batch,), store, device)
    mean = geometric_mean(row["times eager"] for row in rows)
    return [*rows, {**dict.fromkeys(rows[0], ""), "network": "geometric mean", "times eager": mean}]


def _measured(
    name: str, kind: str, made: nn.Module, sized: Preset, batches: tuple[int, ...], store: Store, device: torch.device
) -> list[dict[str, Any]]:
    network = ready(made, kind, device)
    inputs = tuple(each.to(device) for each in _example(kind, sized))
    found = compile(network, inputs, batches=batches, store=store, name=name, about="made up")
    rows = []
    for verdict in found.verdicts:
        some = tuple(torch.cat([each] * verdict.batch)[: verdict.batch] for each in inputs)
        rounds = [side_by_side([network, found], some) for _ in range(ROUNDS if verdict.backend != "eager" else 1)]
        ratio = median(eager / ms for eager, ms in rounds) if verdict.backend != "eager" else 1.0  # it is the same
        rows.append(
            {
                "network": name,
                "size": "x".join(map(str, some[0].shape[-2:])),
                "batch": verdict.batch,
                "backend": str(verdict),
                "drift": f"{verdict.parity.worst:.0e}" if verdict.parity else "",
                "eager ms": median(eager for eager, _ in rounds),
                "ms": median(ms for _, ms in rounds) if verdict.backend != "eager" else "",
                "times eager": ratio,
            }
        )
    return rows


def _networks(sized: Preset) -> dict[str, tuple[str, Callable[[], nn.Module]]]:
    """Name to kind and maker, of everything that has weights."""
    kinds: dict[str, tuple[str, Callable[[], nn.Module]]] = {
        kind: (kind, lambda kind=kind: _made(kind, sized)) for kind in KINDS | OTHERS
    }
    kinds["synthesis-no-canvas"] = "synthesis", lambda: _made("synthesis", sized, canvas=False)
    config = DiscriminatorConfig(CLASSES, sized.width)
    kinds["discriminator"] = "discriminator", lambda: PatchDiscriminator(config)
    return kinds


def _made(kind: str, sized: Preset, **settings: Any) -> nn.Module:
    home = (KINDS | OTHERS)[kind]
    module = import_module(f"zeuxis.synth.{home.module}")
    config_of = getattr(module, home.config)
    size = _size(kind, sized)
    own = {"n_classes": CLASSES, "size": size, "resolution": size[0], "width": sized.width}
    given = own | {"blend": BLEND} | dict.fromkeys(TRAINED, True) | settings
    known = {field.name for field in fields(config_of)}
    network: nn.Module = getattr(module, home.network)(config_of(**{k: v for k, v in given.items() if k in known}))
    return network


def _example(kind: str, sized: Preset) -> Inputs:
    if kind == "discriminator":
        (picture,), (layout,) = _example("judge", sized), _example("densify", sized)
        return picture, layout
    config = asdict(RoiConfig()) if kind == "roi" else None
    found = made_example(kind, CLASSES, _size(kind, sized), config)
    assert found is not None
    return found.inputs


def _size(kind: str, sized: Preset) -> tuple[int, int]:
    share = SHARES.get(kind, SHARES["roi"] if kind in OF_ONE_SIZE else None)
    return share.size(sized, FRAME) if share else sized.size(FRAME)
