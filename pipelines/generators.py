"""Generators for Fast-RSPer: trained here, or the user's own as an exported program, each checked before it is used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..storage.errors import InputError, sentence
from ..synth.checkpoint import SUFFIX, Card, load_checkpoint
from ..synth.region_semantics.exported import ExportedGenerator
from ..synth.region_semantics.generator import GENERATORS, RIVALS, GeneratorConfig, Prior, draw
from .models import built, ready

NETWORK = "generator"
"""Kind of the checkpoints."""
PROGRAM = ".pt2"
"""Of a file that `torch.export.save` wrote."""
TRAIN = "train one: `zeuxis train generator`"


@dataclass(frozen=True, eq=False)
class Generator:
    """A generator ready for use.

    Attributes:
        network: latents `(N, Z)` float32 to pictures `(N, 3, R, R)` in [-1, 1]; frozen, in evaluation mode, on its
            device; gradients pass to the latents.
        latent: Z; prior: `uniform` in [-1, 1], or `normal`, that latents are drawn from.
        resolution: R.
        name: of its file, without the suffix.
        card: of a checkpoint; None of the user's own.
        frozen: how many batch normalisations of the user's own were tied to their running moments.
    """

    network: nn.Module
    latent: int
    prior: Prior
    resolution: int
    name: str
    card: Card | None = None
    frozen: int = 0

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents as the prior has them, `(n, Z)` float32, on the generator's device."""
        return draw(self.prior, n, generator, self.latent)


def load_generator(
    path: str | Path,
    name: str | None = None,
    *,
    freeze: bool = False,
    device: str | torch.device | None = None,
) -> Generator:
    """A generator, checked in every respect.

    A user's own is a file of `torch.export.save`: one input, latents `(N, Z)`, where N may be fixed, and one output,
    pictures `(N, 3, R, R)` in [-1, 1], each by itself and the same every time. Its latents are drawn from a standard
    normal distribution, unless the file has an extra file `prior` that says `uniform` (`extra_files` of
    `torch.export.save`), in [-1, 1].

    Args:
        path: a checkpoint, an exported program, or a folder of networks.
        name: of the file in the folder, `generator-` and the suffix may be left out; default the one there is, of
            several that of WGAN-GP.
        freeze: ties batch normalisation to the moments it has learned, instead of refusing it; of exported programs.
        device: default a CUDA device where there is one.

    Raises:
        InputError: there is none, it is damaged, none of these, or a generator that pictures cannot be sought with.
    """
    file = _file(Path(os.path.expanduser(path)), name)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if file.suffix == PROGRAM:
        own = ExportedGenerator(file, freeze=freeze, device=where)
        return Generator(own, own.latent, own.prior, own.resolution, file.stem, None, own.frozen)
    card, network = _checkpoint(file, where)
    config = cast(GeneratorConfig, network.config)
    if config.kind not in GENERATORS:
        expected = f"a generator of one latent, {' or '.join(GENERATORS)}"
        raise InputError(sentence(file, expected=expected, found=f"a {config.kind}", fix=TRAIN))
    return Generator(network, config.latent, config.prior, config.resolution, file.stem, card)


def load_rival(path: str | Path, kind: str, device: str | torch.device | None = None) -> tuple[Card, nn.Module]:
    """A network that encodes a reference, and keeps what it says of a region: `preserving` and `sample` of it.

    Args:
        path: its checkpoint, or a folder of networks.
        kind: `ladder-vae`, `pixel-vae` or `vae-gan`; device: default a CUDA device where there is one.

    Raises:
        InputError: there is none, it is damaged, or of another kind.
    """
    file = _file(Path(os.path.expanduser(path)), kind)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    card, network = _checkpoint(file, where)
    if (found := cast(GeneratorConfig, network.config).kind) != kind or kind not in RIVALS:
        raise InputError(sentence(file, expected=f"a {kind}", found=f"a {found}", fix=f"{TRAIN} --kind {kind}"))
    return card, network


def _checkpoint(file: Path, device: torch.device) -> tuple[Card, nn.Module]:
    card, tensors = load_checkpoint(file, NETWORK)
    network = ready(built(NETWORK, card, tensors, file), NETWORK, device)
    side = cast(GeneratorConfig, network.config).resolution
    if card.size != (side, side):
        expected = f"pictures of the size on its card, {card.size[0]}x{card.size[1]}"
        raise InputError(sentence(file, expected=expected, found=f"{side} pixels a side"))
    return card, network


def _file(path: Path, name: str | None) -> Path:
    """The file that is meant."""
    if not path.is_dir():
        if os.path.lexists(path) and path.suffix not in (SUFFIX, PROGRAM):
            expected = f"a generator, {SUFFIX} or {PROGRAM} by torch.export.save"
            raise InputError(sentence(path, expected=expected, found="another suffix"))
        if not path.is_file():
            expected = "a generator or a folder of networks"
            raise InputError(sentence(path, expected=expected, found="no such file", fix=TRAIN))
        return path
    if name is None:
        wanted = [path / f"{NETWORK}-{kind}{SUFFIX}" for kind in reversed(GENERATORS)]
        there = [each for each in wanted if each.exists()]
        if not there:
            expected = " or ".join(each.name for each in wanted)
            raise InputError(sentence(path, expected=expected, found="neither", fix=TRAIN))
        return there[0]
    for stem in (name, f"{NETWORK}-{name}"):
        for suffix in ("", SUFFIX, PROGRAM):
            if (found := path / f"{stem}{suffix}").is_file() and found.suffix in (SUFFIX, PROGRAM):
                return found
    there_ = ", ".join(sorted(each.name for each in path.glob(f"{NETWORK}-*"))) or "no generator"
    raise InputError(sentence(path, expected=f"a generator {name!r}", found=there_, fix=TRAIN))
