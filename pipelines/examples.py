"""Inputs of networks by kind, to compile them with: recorded while a bank's layouts are painted, or made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..index.retriever import Retriever
from ..storage.reader import Reader
from ..synth.checkpoint import Card
from ..synth.compiling.parity import Inputs
from ..synth.encoding import one_hot
from ..synth.region_semantics.generator import GENERATORS, GeneratorConfig, draw
from ..synth.region_semantics.networks import RIVALS
from ..synth.transformation import premultiplied
from .paint import Painter

ITEMS = 8
"""Of an example, at most."""
PAINTING = ("synthesis", "transform", "ordering", "densify")
"""Kinds that are asked while a layout is painted."""
SOURCES = 2
"""Photographs whose layouts are painted to record what the networks are given."""


@dataclass(frozen=True, eq=False)
class Example:
    """Inputs of a network, `(N, ...)` float32 each on the CPU, and what they are."""

    inputs: Inputs
    about: str


class _Made:
    """What networks are given, made up: bands of classes and a box, smooth noise, and what follows from them."""

    def __init__(self, n_classes: int, size: tuple[int, int], config: Mapping[str, Any]) -> None:
        self.config = config
        random = torch.Generator().manual_seed(0)
        edges = torch.rand(ITEMS, n_classes, 1, 1, generator=random) * size[0]
        self.indices = (torch.arange(size[0])[:, None].expand(size) > edges).sum(1)
        noise = torch.rand(ITEMS, 3, *(max(2, side // 16) for side in size), generator=random) * 2 - 1
        self.picture = functional.interpolate(noise, size, mode="bilinear", align_corners=False)
        self.mask = torch.zeros(ITEMS, 1, *size)
        for item, box in enumerate(self.mask):
            box[0, size[0] // 4 : size[0] // 2 + item, size[1] // 4 : size[1] // 2 + 2 * item] = 1
        self.layout = one_hot(self.indices, n_classes)

    def synthesis(self) -> Inputs:
        valid = (self.picture[:, :1] > 0).float()
        return self.layout, self.picture * valid - (1 - valid), valid

    def transform(self) -> Inputs:
        return premultiplied(self.picture, self.mask)[:, :3], self.mask, self.layout

    def ordering(self) -> Inputs:
        pair = self.layout[:, :-1] * self.mask
        return pair, self.layout

    def completion(self) -> Inputs:
        """With noise and sliders as the configuration counts them; a network without any is given one of each."""
        random = torch.Generator().manual_seed(1)
        noise, sliders = (
            self.config.get("noise", 1),
            self.config.get("sliders", 1) + sum(self.config.get("categories", ())),
        )
        z = torch.randn(ITEMS, noise, generator=random)
        return self.picture, self.mask, z, torch.rand(ITEMS, sliders, generator=random) * 2 - 1

    def generator(self) -> Inputs:
        """A latent; of a kind that encodes a picture that picture, and noise."""
        random = torch.Generator().manual_seed(1)
        config = GeneratorConfig(**self.config)
        if config.kind in GENERATORS:
            return (draw(config, ITEMS, random),)
        with torch.device("meta"):
            length = RIVALS[config.kind](config).n_noise
        return self.picture, torch.randn(ITEMS, length, generator=random)

    def of_layout(self) -> Inputs:
        return (self.layout,)

    def of_picture(self) -> Inputs:
        return (self.picture,)


_MADE: dict[str, Callable[[_Made], Inputs]] = {
    "synthesis": _Made.synthesis,
    "transform": _Made.transform,
    "ordering": _Made.ordering,
    "densify": _Made.of_layout,
    "crn": _Made.of_layout,
    "judge": _Made.of_picture,
    "features": _Made.of_picture,
    "roi": _Made.completion,
    "glcic": _Made.completion,
    "generator": _Made.generator,
    "domains": _Made.of_picture,
}
"""By the kind of the network."""


def made_example(
    kind: str, n_classes: int, size: tuple[int, int], config: Mapping[str, Any] | None = None
) -> Example | None:
    """Inputs as a network of that kind and configuration is given, made up; None for a kind that is not known."""
    return Example(_MADE[kind](_Made(n_classes, size, config or {})), "made up") if kind in _MADE else None


class Recorded:
    """What the networks of a folder are given while layouts of a bank are painted with them.

    Args:
        models: the folder; without a synthesis network in it nothing is recorded.
        reader: of the bank.

    Raises:
        InputError: a network cannot be used with the bank.
    """

    def __init__(self, models: Path, reader: Reader) -> None:
        painter, self.about = Painter(reader, Retriever(reader), models, "cpu"), f"bank {reader.path.name}"
        held = painter._models_for(None)
        self._inputs: dict[str, list[Inputs]] = {}
        self._pictures: list[Tensor] = []
        if not held.has("synthesis"):
            return
        used = {kind: held.load(kind) for kind in PAINTING if held.has(kind)}
        hooks = [model.network.register_forward_pre_hook(self._hook(kind)) for kind, model in used.items()]
        for source in _sources(reader):
            for painted in painter.paint(source=source, densify="densify" in used):
                self._pictures.append(torch.from_numpy(painted.image).movedim(-1, 0).float() / 127.5 - 1)
        for hook in hooks:
            hook.remove()

    def example(self, kind: str, card: Card, size: tuple[int, int]) -> Example | None:
        """Real inputs of a network at a size; None where none of its kind and classes were recorded."""
        found = self._inputs.get(kind, [])
        if kind == "crn":
            found = [(layout,) for layout, *_ in self._inputs.get("synthesis", [])]
        if kind in ("judge", "features"):
            found = [(picture[None],) for picture in self._pictures]
        wanted = made_example(kind, len(card.classes), size)
        if not found or wanted is None:
            return None
        inputs = tuple(_sized(torch.cat(each)[:ITEMS], size) for each in zip(*found, strict=True))
        fits = [each.shape[1:] for each in inputs] == [each.shape[1:] for each in wanted.inputs]
        return Example(inputs, self.about) if fits else None

    def _hook(self, kind: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._inputs.setdefault(kind, []).append(tuple(each.detach().clone() for each in inputs))

        return keep


def _sources(reader: Reader) -> list[str]:
    """Held-out sources, others where there are too few."""
    rows = reader.table("sources", columns=["source", "split"]).to_pylist()
    rows.sort(key=lambda row: row["split"] == "train")
    return [row["source"] for row in rows[:SOURCES]]


def _sized(inputs: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest neighbours: masks and layouts stay of zeros and ones."""
    return inputs if inputs.shape[-2:] == torch.Size(size) else functional.interpolate(inputs, size, mode="nearest")
