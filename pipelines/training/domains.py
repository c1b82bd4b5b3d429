"""Training features that two domains share: an auto-encoder of two banks' photographs (Liu et al. 2018, figure 11)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import Dataset

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.encoding import to_image, to_tensor
from ...synth.features import FeaturesConfig
from ...synth.region_semantics.generator import RESOLUTIONS
from ...synth.region_semantics.shared_features import DEEPEST, NETWORK, SharedNetwork
from ..progress import Progress
from .generator_pictures import LARGER, VALIDATION_SEED, window
from .options import TrainOptions, square_side
from .photographs import BankOrigin, Photographs, trained_and_held_out
from .task import Batch, Losses, NothingToLearn, Subject

N_VALIDATION = 64
"""Held-out windows of each bank."""
AT_ONCE = 32
SHOWN = 8
"""Photographs of each bank in the grid."""


class SharedItems(Dataset[dict[str, Tensor]]):
    """Windows of photographs, half of them of either bank; item k depends on (seed, k) alone.

    An item holds `image` `(3, R, R)` in [-1, 1].

    Args:
        banks: photographs of both.
    """

    def __init__(self, banks: tuple[Photographs, Photographs], resolution: int, seed: int) -> None:
        self.banks, self.resolution, self.seed = banks, resolution, seed

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self.seed, k))
        photographs = self.banks[int(random.integers(2))]
        chosen = photographs[int(random.integers(len(photographs)))]
        return {"image": to_tensor(window(chosen, self.resolution, random))}


class DomainsTask:
    """An auto-encoder of two banks' photographs.

    Args:
        readers: of both banks; models: the folder of networks; options: resolved.

    Raises:
        InputError: the size cannot be. NothingToLearn: a bank has no photographs.
    """

    network = name = NETWORK
    features = ""
    figure, smaller_is_better = "error", True

    def __init__(self, readers: tuple[Reader, Reader], models: Path, options: TrainOptions, progress: Progress) -> None:
        self.options, self.resolution = options, square_side(options, RESOLUTIONS)
        self.net_config = FeaturesConfig(options.width, normalise=True)
        first, second = (_photographs(reader, models, self.resolution, progress) for reader in readers)
        self.samples = SharedItems((first[0], second[0]), self.resolution, options.seed)
        self.held_out = (first[1], second[1])
        self.subject = _subject(readers, (self.resolution, self.resolution))

    def modules(self) -> nn.ModuleDict:
        """The network."""
        return nn.ModuleDict({"net": SharedNetwork(self.net_config)})

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam."""
        return {"net": Adam(modules["net"].parameters(), self.options.lr or 0.0)}

    def dataset(self) -> SharedItems:
        """Windows of photographs of both training splits."""
        for each in (*self.samples.banks, *self.held_out):
            each.prepare()
        return self.samples

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """Mean absolute difference to the photographs."""
        error = (modules["net"](batch["image"]).float() - batch["image"]).abs().mean()
        yield "net", error, {"error": error}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """On held-out photographs of both banks.

        `error`: mean absolute difference in [-1, 1], of both alike; `first`, `second`: of each; `apart`: how far the
        banks' mean deepest features are from each other, as a share of how far those of two photographs of one are.
        """
        device = next(net.parameters()).device
        errors, means = [], []
        for bank in self.held_out:
            own, deep = [], []
            for images in torch.split(self._windows(bank, N_VALIDATION), AT_ONCE):
                shown = images.to(device)
                own.append((net(shown).float() - shown).abs().mean((1, 2, 3)))
                deep.append(_encoder(net)(shown, (DEEPEST,))[DEEPEST].mean((2, 3)))
            errors.append(float(torch.cat(own).mean()))
            means.append(torch.cat(deep).double())
        within = torch.stack([2 * each.var(0, unbiased=False).sum() for each in means]).mean().sqrt()
        apart = (means[0].mean(0) - means[1].mean(0)).norm() / within.clamp(min=1e-12)
        return {"error": sum(errors) / 2, "first": errors[0], "second": errors[1], "apart": float(apart)}

    def grid(self, net: nn.Module) -> Photograph:
        """Of each bank a row of held-out photographs, and one of what is left of them."""
        rows: list[Tensor] = []
        for bank in self.held_out:
            images = self._windows(bank, SHOWN).to(next(net.parameters()).device)
            rows += [images, net(images).float()]
        return np.vstack([np.hstack([to_image(each) for each in row]) for row in rows])

    def config(self) -> dict[str, Any]:
        """Of the network."""
        return asdict(self.net_config)

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """Nothing."""
        return {}

    def _windows(self, photographs: Photographs, n: int) -> Tensor:
        """`(n, 3, R, R)`, the same each time."""
        found = []
        for k in range(n):
            random = np.random.default_rng((VALIDATION_SEED, k))
            found.append(to_tensor(window(photographs[k % len(photographs)], self.resolution, random)))
        return torch.stack(found)


def make_task(reader: Reader | None, models: Path, options: TrainOptions, progress: Progress) -> DomainsTask:
    """The task as `zeuxis train domains` trains it.

    Raises:
        NothingToLearn: a bank has no photographs. InputError: no second bank, or the same one twice.
    """
    assert reader is not None
    square_side(options, RESOLUTIONS)
    if options.second is None:
        fix = "name another domain's bank"
        raise InputError(sentence("--second", expected="a second bank", found="none", fix=fix))
    other = Reader(options.second)
    if other.manifest.settings.get("keep_sources") is False:
        raise InputError(sentence(other.path, "keeps no sources", fix="rebuild it without --no-keep-sources"))
    own, others = (each.subject(options.size or (0, 0)) for each in (BankOrigin(reader), BankOrigin(other)))
    if own.content == others.content:
        raise InputError(sentence("--second", expected="another bank than --bank", found="the same photographs"))
    return DomainsTask((reader, other), models, options, progress)


def _photographs(
    reader: Reader, models: Path, resolution: int, progress: Progress
) -> tuple[Photographs, Photographs]:  # fmt: skip
    """Those that are trained on, and held-out ones."""
    origin, size = BankOrigin(reader), (resolution, resolution)
    subject = origin.subject(size)
    train, held_out = trained_and_held_out(origin)
    if not train:
        raise NothingToLearn(sentence(subject.bank, expected="photographs in train", found="none"))
    if len(held_out) > N_VALIDATION:
        held_out = [held_out[i] for i in np.linspace(0, len(held_out) - 1, N_VALIDATION).round().astype(int)]
    cache, short = models / "cache", LARGER * resolution
    own = Photographs(origin, train, short, cache=cache, subject=subject, progress=progress)
    return own, Photographs(origin, held_out, short, cache=cache, subject=subject, progress=progress)


def _subject(readers: tuple[Reader, Reader], size: tuple[int, int]) -> Subject:
    """Both banks as one; without classes, which play no part."""
    first, second = (BankOrigin(reader).subject(size) for reader in readers)
    content = hashlib.blake2b(f"{first.content} {second.content}".encode(), digest_size=16).hexdigest()
    return Subject(f"{first.bank}+{second.bank}", first.generation, content, (), size, first.apart or second.apart)


def _encoder(net: nn.Module) -> Any:
    return net.features
