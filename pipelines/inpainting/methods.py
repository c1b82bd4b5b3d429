"""The ways to fill a region, behind one interface: trained networks, methods of the picture alone, and the bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from ...index.filters import alike_groups
from ...index.request import LayoutLike
from ...index.retriever import Retriever
from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.checkpoint import SUFFIX, load_checkpoint
from ...synth.compiling.buckets import backend_of, packages_of
from ...synth.compiling.packages import Store
from ...synth.encoding import to_image, to_tensor
from ...synth.inpainting.fills import FILLS
from ...synth.inpainting.nearest import nearest_place, surroundings
from ...synth.inpainting.windows import fill_by_windows, plan
from ...synth.roi_gan.generator import completed
from ...synth.roi_gan.regions import Region
from ...synth.turns import in_turn
from ..models import built, ready, with_compiled
from .regions import alike

AT_ONCE = 16
"""Variants of a picture that a network makes in one pass, at most."""
WHOLE = 0.98
"""Share of the pixels around a region in which a picture is a photograph."""
NETWORKS = {"roi": "roi", "roi-published": "roi", "glcic": "glcic"}
"""Kind of the network by the name of its file, which is that of the method."""
BANK = "bank"
FILLERS = (*NETWORKS, *FILLS)
METHODS = (*FILLERS, BANK)
"""By the name that users say; the former need no bank."""
VARYING = ("roi", "roi-published", "patchmatch")
"""Those that draw: other seeds and variants, other pictures."""
PHOTOGRAPHS = 500
"""Of the bank that are searched for a place like that around a region, at most, evenly spaced."""


class Draw(NamedTuple):
    """What decides what a network that draws makes: seed, variant, sliders (those not given are 0; None: all drawn)."""

    seed: int = 0
    variant: int = 0
    sliders: tuple[float, ...] | None = ()


class Method(Protocol):
    """Fills a region; outside it nothing changes.

    Attributes:
        name: one of `METHODS`; identity: of the network, empty where there is none.
        varies: whether variants and seeds differ; sliders: how many it has; warnings: what to tell of it.
    """

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> Mapping[str, Any]: ...
    @property
    def varies(self) -> bool: ...
    @property
    def sliders(self) -> int: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...

    def __call__(self, image: Photograph, region: Region, draw: Draw) -> tuple[Photograph, str]:
        """The filled picture, and how it was filled, for readers.

        Raises:
            InputError: this method cannot fill this region of this picture.
        """
        ...


@dataclass(frozen=True)
class FromPicture:
    """One of `FILLS`."""

    name: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    sliders: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def varies(self) -> bool:
        """See `Method`."""
        return self.name in VARYING

    def __call__(self, image: Photograph, region: Region, draw: Draw) -> tuple[Photograph, str]:
        """See `Method`."""
        seed = int(np.random.default_rng([draw.seed, draw.variant]).integers(1 << 31))
        try:
            return FILLS[self.name](image, region, seed), "from the picture around it"
        except ValueError as error:
            fix = "give a smaller region or a larger picture"
            raise InputError(sentence("region", f"{self.name} cannot fill it ({error})", fix=fix)) from error


class FromNetwork:
    """A trained network, in windows of its resolution.

    Args:
        folder: of trained networks; name: of its file, one of `NETWORKS`.
        device: default a CUDA device where there is one.
        compiled: where compiled forms of it are; they are used where they fit.

    Attributes:
        warnings: what the user should know of it, one sentence each.

    Raises:
        InputError: there is no such folder or network, or it cannot be used.
    """

    def __init__(
        self, folder: str | Path, name: str, device: str | torch.device | None = None, compiled: Store | None = None
    ) -> None:
        path = Path(folder).expanduser() / f"{name}{SUFFIX}"
        card, tensors = load_checkpoint(path, NETWORKS[name])
        self.name, self.card = name, card
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = ready(built(NETWORKS[name], card, tensors, path), NETWORKS[name], self.device)
        self.warnings: tuple[str, ...] = ()
        if compiled is not None:
            self.network, self.warnings = with_compiled(self.network, path, compiled)
        self.identity = {"file": path.name, "step": card.step, "size": list(card.size), "bank": card.bank,
                         "generation": card.generation, "features": card.features,
                         "backend": backend_of(self.network)}  # fmt: skip

    @property
    def varies(self) -> bool:
        """See `Method`."""
        return self.name in VARYING

    @property
    def packages(self) -> tuple[str, ...]:
        """Its compiled forms, a line each."""
        return packages_of(self.network)

    @property
    def sliders(self) -> int:
        """The continuous ones."""
        return int(self.card.config["sliders"]) if self.varies else 0

    @property
    def _blend(self) -> float:
        """What the network was trained with, 0 where it was before there was a correction."""
        return float(self.card.config.get("blend", 0.0))

    def __call__(self, image: Photograph, region: Region, draw: Draw) -> tuple[Photograph, str]:
        """See `Method`."""
        (filled,), how = self.variants(image, region, [draw])
        return filled, how

    def variants(self, image: Photograph, region: Region, draws: Sequence[Draw]) -> tuple[list[Photograph], str]:
        """The region filled by each of several draws, at most `AT_ONCE` in one pass, and how for readers.

        Raises:
            InputError: the network cannot fill this region of this picture.
        """
        how, filled = plan(region, self.card.size), list[Photograph]()
        for start in range(0, len(draws), AT_ONCE):
            each = [self.drawn(draw) for draw in draws[start : start + AT_ONCE]]
            given = [torch.cat(part) for part in zip(*each, strict=True)]
            filled += fill_by_windows([image] * len(each), region, how, partial(self._filled, given), self._blend)
        return filled, str(how)

    def drawn(self, draw: Draw) -> tuple[torch.Tensor, ...]:
        """`(1, Z)` noise and `(1, K)` sliders of a draw; a network that looks at neither gets none."""
        if not self.varies:
            nothing = torch.zeros(1, 0, device=self.device)
            return nothing, nothing
        random = np.random.default_rng([draw.seed, draw.variant])
        noise = random.standard_normal(self.card.config["noise"])
        sliders = random.uniform(-1, 1, self.sliders)
        choices = [np.eye(count)[random.integers(count)] for count in self.card.config["categories"]]
        if draw.sliders is not None:
            sliders = np.pad(np.array(draw.sliders, np.float64), (0, self.sliders - len(draw.sliders)))
        both = noise, np.concatenate([sliders, *choices])
        return tuple(torch.from_numpy(each.astype(np.float32))[None].to(self.device) for each in both)

    def _filled(self, given: Sequence[torch.Tensor], windows: list[Photograph], hole: Region) -> list[Photograph]:
        image = torch.stack([to_tensor(window) for window in windows]).to(self.device)
        region = torch.from_numpy(hole)[None, None].float().to(self.device).expand(len(windows), -1, -1, -1)
        with in_turn(self.device):
            raw = self.network(image, region, *given)
            done = completed(image, region, raw) if self._blend else raw
            return [to_image(each) for each in done]


class FromBank:
    """Pixels of the bank: those of the hits that fit a layout best, or else those of the likest place.

    Args:
        retriever: of the bank.
        source: of the bank that the picture is; nothing of its group is taken, nor of val and test.
        layout: of the picture, None to go by what surrounds the region; dataset: whose ids it is in.
    """

    name, identity, varies, sliders, warnings = BANK, dict[str, Any](), False, 0, ()

    def __init__(
        self,
        retriever: Retriever,
        source: str | None = None,
        layout: LayoutLike | None = None,
        dataset: str | None = None,
    ) -> None:
        self.retriever, self.source, self.layout, self.dataset = retriever, source, layout, dataset

    def __call__(self, image: Photograph, region: Region, draw: Draw) -> tuple[Photograph, str]:
        """See `Method`."""
        return self._by_place(image, region) if self.layout is None else self._by_layout(image, region)

    def _by_layout(self, image: Photograph, region: Region) -> tuple[Photograph, str]:
        from ..collage import paint

        canvas = paint(self.retriever, self.layout, dataset=self.dataset, source=self.source).canvas
        if canvas.valid.shape != region.shape:
            rows, cols = region.shape
            found = "x".join(map(str, canvas.valid.shape))
            raise InputError(sentence("layout", expected=f"one of the picture's {rows}x{cols} pixels", found=found))
        taken, missing = region & canvas.valid, region & ~canvas.valid
        filled = np.where(taken[..., None], canvas.image, image)
        shown = {canvas.placements[number - 1].piece.origin.source for number in np.unique(canvas.provenance[taken])}
        said = f"segments of {', '.join(sorted(shown)) or 'no photograph'}"
        if missing.any():
            filled, said = FILLS["telea"](filled, missing, 0), f"{said}; {missing.sum() / region.sum():.1%} by telea"
        return filled, said

    def _by_place(self, image: Photograph, region: Region) -> tuple[Photograph, str]:
        reader = self.retriever.reader
        names = training_sources(reader, self.source)
        chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(len(names), PHOTOGRAPHS)).round().astype(int)]
        photographs = map(reader.photograph, chosen)
        # not the picture itself; others may share most of it, such as a white ground
        others = (each[:0] if alike(image, each, ~region, WHOLE) else each for each in photographs)
        place = nearest_place(image, region, others)
        if place is None:
            expected = "a training photograph at least as large as what surrounds the region"
            raise InputError(sentence(reader.path, expected=expected, found="none", fix="give a smaller region"))
        top, left, bottom, right = place.box
        window = reader.photograph(chosen[place.number])[top:bottom, left:right]
        return pasted(image, region, window), f"{chosen[place.number]} at {top},{left},{bottom},{right}"


def filled_by(method: Method, image: Photograph, region: Region, draws: Sequence[Draw]) -> list[tuple[Photograph, str]]:
    """What a method makes for each draw, as calls of it would return it; a network makes several in one pass.

    Raises:
        InputError: this method cannot fill this region of this picture.
    """
    if isinstance(method, FromNetwork):
        made, how = method.variants(image, region, draws)
        return [(each, how) for each in made]
    return [method(image, region, draw) for draw in draws]


def training_sources(reader: Reader, source: str | None) -> list[str]:
    """Names of the training photographs, ascending, without the group of a source and those that are like it."""
    table = reader.table("sources", None, ["source", "group", "split"]).to_pylist()
    neighbours = {entry.name for entry in reader.manifest.datasets if entry.neighbours}
    groups = [row["group"] for row in table if row["source"] == source]
    own = {each for group in groups for each in alike_groups(group, group.partition("/")[0] in neighbours)}
    return sorted(row["source"] for row in table if row["split"] == "train" and row["group"] not in own)


def pasted(image: Photograph, region: Region, window: Photograph) -> Photograph:
    """A picture with its region from a window that lies where the region's `surroundings` do."""
    top, left, bottom, right = surroundings(region)
    filled = image.copy()
    hole = region[top:bottom, left:right]
    filled[top:bottom, left:right][hole] = window[hole]
    return filled
