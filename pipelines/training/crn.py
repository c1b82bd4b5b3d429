"""Training CRN, and what it is compared with: photographs from layouts alone (Chen and Koltun 2017, sections 3 and 4).

Another network than the cascade, or another loss, is a variant: `image-space` compares pixels alone; `encoder-decoder`
and `full-resolution` are other networks with the same loss; `gan` fools a discriminator, and a parser must read the
layout in its pictures; `pix2pix` fools a discriminator of patches that sees the layout, beside a loss on pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import Dataset

from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.baselines import WholeConfig, WholeDiscriminator
from ...synth.checkpoint import SUFFIX
from ...synth.crn import Body, CrnConfig, CrnNetwork
from ...synth.discriminator import DiscriminatorConfig, PatchDiscriminator
from ...synth.encoding import class_indices, one_hot, to_image, to_tensor
from ...synth.features import NETWORK as FEATURES
from ...synth.features import Features, ParsingNetwork, load_features, load_parser
from ...synth.losses import (
    PIXEL,
    DiversityLoss,
    PerceptualLoss,
    gan_discriminator,
    gan_generator,
    parsing_loss,
)
from ...synth.vivid import vivid
from ..models import channels_of
from ..progress import Progress, silent
from .beginning import beginning
from .options import TrainOptions
from .sources import BankSources, trained_and_held_out
from .task import Batch, Losses, palette_of, subject_of

NETWORK = "crn"
N_VALIDATION = 16
"""Held-out photographs that are validated on, at most."""
N_SHOWN, IMAGES_SHOWN = 4, 4
"""Of the grid: photographs, and pictures of each of a collection."""
PIXEL_WEIGHT = 100.0
"""Of pix2pix: what the mean difference of pixels counts for beside the discriminator."""
PARSING_WEIGHT = 1.0
"""Of `gan`: what the parser's cross-entropy counts for beside the discriminator; the paper gives none."""


class PhotographItems(Dataset[dict[str, Tensor]]):
    """Photographs with their layouts, half of them mirrored; item k depends on (seed, k) alone.

    An item holds `image`, `(3, h, w)` in [-1, 1], and `layout`, `(h, w)` int64 channel numbers. `strong` makes the
    photographs vivid.
    """

    def __init__(self, sources: BankSources, seed: int, *, flip: bool = True, strong: bool = False) -> None:
        self.sources, self.seed, self.flip, self.strong = sources, seed, flip, strong
        self.channel_of = class_indices(tuple(sources.reader.classes))

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self.seed, k))
        item = self.of(int(random.integers(len(self.sources))))
        mirrored = self.flip and random.random() < 0.5
        return {name: each.flip(-1) for name, each in item.items()} if mirrored else item

    def of(self, number: int) -> dict[str, Tensor]:
        """A source by its number, as it is."""
        picture = self.sources[number]
        image = vivid(picture.image) if self.strong else picture.image
        return {"image": to_tensor(image), "layout": torch.from_numpy(self.channel_of[picture.layout])}


class CrnTask:
    """CRN on a bank's photographs, or one of its variants.

    Args:
        features: of the perceptual loss; None for the variants without one.
        parser: reads layouts in pictures, its logits in the order of the bank's classes; for `gan` alone.
    """

    network = NETWORK
    smaller_is_better = True

    def __init__(
        self,
        reader: Reader,
        models: Path,
        options: TrainOptions,
        features: Features | None,
        parser: nn.Module | None = None,
        progress: Progress = silent,
    ) -> None:
        assert options.size is not None
        assert options.lr is not None
        self.options, self.lr, self.variant = options, options.lr, options.variant
        self.name = f"{NETWORK}-{options.variant}" if options.variant else NETWORK
        self._features, self._parser = features, parser
        self.features = next((each.name for each in (features, _features_of(parser)) if each is not None), "")
        self.figure = PIXEL if features is None else "perceptual"
        self.subject = subject_of(reader, options.size)
        body = cast(Body, options.variant if options.variant in get_args(Body) else "cascade")
        n_classes, images = len(self.subject.classes), options.images or 1
        self.net_config = CrnConfig(n_classes, options.size, options.width, images, body)
        self._start = (
            None
            if options.start is None
            else beginning(Path(options.start), NETWORK, reader, self.net_config, CrnNetwork)
        )
        sources, held_out = trained_and_held_out(
            reader, options.size, most=N_VALIDATION, cache=models / "cache", progress=progress
        )
        self.samples = PhotographItems(sources, options.seed, strong=options.vivid)
        self._held_out = PhotographItems(held_out, options.seed, strong=options.vivid)

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return self.variant in ("gan", "pix2pix")

    def modules(self) -> nn.ModuleDict:
        """The network, its loss or its discriminator, and the parser where there is one."""
        modules = self._modules(self._features, self._parser)
        if self._start is not None:
            net = cast(CrnNetwork, modules["net"])
            net.begin_from(*self._start)
        return modules

    def sketch(self) -> tuple[nn.ModuleDict, Batch]:
        """Modules and a batch of the shapes that it trains with; no numbers are read, nothing is loaded or drawn."""
        features = None if self._features is None else Features(self._features.config).requires_grad_(False)
        parser = None if self._parser is None else _redrawn(self._parser)
        modules = self._modules(features, parser)
        modules["loss"].eval()  # calibration reads numbers
        n, size = self.options.batch or 1, self.net_config.size
        return modules, {"image": torch.zeros(n, 3, *size), "layout": torch.zeros(n, *size, dtype=torch.int64)}

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam, as the paper; the momentum of adversarial training is that of DCGAN and pix2pix."""
        if not self.adversarial:
            return {"net": Adam(modules["net"].parameters(), self.lr)}
        return {name: Adam(modules[name].parameters(), self.lr, (0.5, 0.999)) for name in ("net", "discriminator")}

    def dataset(self) -> PhotographItems:
        """Photographs of the training split."""
        self.samples.sources.prepare()
        self._held_out.sources.prepare()
        return self.samples

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """The network's, then that of a discriminator on the same pictures."""
        layout = one_hot(batch["layout"], self.net_config.n_classes)
        images = modules["net"](layout).float()
        if not self.adversarial:
            terms = self._compared(modules["loss"], images, batch["image"], layout)
            yield "net", self._total(modules, terms), terms
            return
        image, discriminator = images[:, 0], modules["discriminator"]
        parts = {"fooled": gan_generator(discriminator(image, layout).float())}
        if self.variant == "gan":
            parts["parsing"] = parsing_loss(modules["parser"](image).float(), batch["layout"])
            total = parts["fooled"] + PARSING_WEIGHT * parts["parsing"]
        else:
            parts |= modules["loss"](image, batch["image"])
            total = parts["fooled"] + PIXEL_WEIGHT * parts[PIXEL]
        yield "net", total, parts
        real, fake = (discriminator(each, layout).float() for each in (batch["image"], image.detach()))
        yield "discriminator", gan_discriminator(real, fake) / 2, {}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """On held-out photographs; of a collection, the picture that is nearest to the photograph (equation 2).

        `pixel`: the mean absolute difference, in [-1, 1]; `perceptual`: the mean over the terms of the perceptual loss
        of each one's share of what it is for a picture of the photographs' mean colours, which needs no weights, so
        that trainings compare; `spread`: mean absolute difference of two pictures of a collection.
        """
        device = next(net.parameters()).device
        compare = PerceptualLoss(self._features, image_space=self._features is None).to(device).eval()
        sums, blank = dict.fromkeys(compare.names, 0.0), dict.fromkeys(compare.names, 0.0)
        spreads = []
        for item, images in self._painted(net, device):
            real = item["image"][None]
            flat = _terms(compare, real.mean((2, 3), keepdim=True).expand_as(real), real)
            each = [_terms(compare, image[None], real) for image in images]
            best = min(each, key=lambda terms: sum(terms[name] / max(flat[name], 1e-9) for name in terms))
            for name in sums:
                sums[name] += best[name]
                blank[name] += flat[name]
            if len(images) > 1:
                apart = (images[:, None] - images[None]).abs().mean((2, 3, 4)).sum()
                spreads.append(float(apart) / (len(images) * (len(images) - 1)))
        found = {PIXEL: sums[PIXEL] / len(self._held_out.sources)}
        if self._features is not None:
            found["perceptual"] = float(np.mean([sums[name] / max(blank[name], 1e-9) for name in sums]))
        return found | ({"spread": float(np.mean(spreads))} if spreads else {})

    def grid(self, net: nn.Module) -> Photograph:
        """A row a held-out photograph: its layout, what the network makes of it, the photograph."""
        colours = palette_of(self.subject.classes)
        rows = []
        for item, images in self._painted(net, next(net.parameters()).device):
            shown = [*images[:IMAGES_SHOWN], item["image"]]
            rows.append(np.hstack([colours[item["layout"].cpu().numpy()], *map(to_image, shown)]))
            if len(rows) == N_SHOWN:
                break
        return np.vstack(rows)

    def config(self) -> dict[str, Any]:
        """Of the network."""
        return asdict(self.net_config)

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """Whether samples were mirrored, and the weights of the loss."""
        loss: Any = modules["loss"]
        weights = dict(zip(loss.names, loss.weights.tolist(), strict=True))
        if self.adversarial:
            weights = {"parsing": PARSING_WEIGHT} if self.variant == "gan" else {PIXEL: PIXEL_WEIGHT}
        return {"flip": self.samples.flip, "loss_weights": weights}

    def _modules(self, features: Features | None, parser: nn.Module | None) -> nn.ModuleDict:
        net = CrnNetwork(self.net_config)
        net.recompute(self.options.checkpointing)
        kind = DiversityLoss if self.net_config.images > 1 else PerceptualLoss
        wait, accumulate = self.options.calibrate_after or 0, self.options.accumulate
        loss = kind(features, image_space=features is None, wait=wait, accumulate=accumulate)
        if isinstance(loss, DiversityLoss):
            loss.recompute = self.options.checkpointing
        modules: dict[str, nn.Module] = {"net": net, "loss": loss}
        if self.adversarial:
            modules["discriminator"] = self._discriminator()
        if parser is not None:
            modules["parser"] = parser
        return nn.ModuleDict(modules)

    def _discriminator(self) -> nn.Module:
        """DCGAN's sees whole pictures, pix2pix's patches and their layout."""
        if self.variant == "gan":
            return WholeDiscriminator(WholeConfig(self.net_config.size, self.options.width))
        return PatchDiscriminator(DiscriminatorConfig(self.net_config.n_classes, self.options.width))

    def _compared(self, loss: nn.Module, images: Tensor, target: Tensor, layout: Tensor) -> dict[str, Tensor]:
        several = self.net_config.images > 1
        terms: dict[str, Tensor] = loss(images, target, layout) if several else loss(images[:, 0], target)
        return terms

    def _total(self, modules: nn.ModuleDict, terms: Mapping[str, Tensor]) -> Tensor:
        loss: Any = modules["loss"]
        total: Tensor = loss.total(terms)
        return total

    def _painted(self, net: nn.Module, device: torch.device) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Held-out samples, each with what the network makes of it, `(k, 3, H, W)`."""
        for number in range(len(self._held_out.sources)):
            item = {name: each.to(device) for name, each in self._held_out.of(number).items()}
            images: Tensor = net(one_hot(item["layout"][None], self.net_config.n_classes))
            yield item, images[0].float().clamp(-1, 1)


class Parser(nn.Module):
    """A parser whose logits are put in the order of a bank's classes."""

    def __init__(self, network: ParsingNetwork, order: list[int]) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, image: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] to `(N, C, H, W)` logits."""
        logits: Tensor = self.network(image)[:, self.order]
        return logits


def make_task(reader: Reader, models: Path, options: TrainOptions, progress: Progress = silent) -> CrnTask:
    """The task as `zeuxis train crn` trains it.

    Raises:
        NothingToLearn: the bank has no labelled sources in its training split.
        InputError: the features of the loss, or the parser of the variant `gan`, are missing or do not fit the bank;
            the checkpoint to begin from does not fit.
    """
    features = parser = None
    if options.variant == "gan":
        parser = _parser(models / f"{FEATURES}{SUFFIX}", reader)
    elif options.variant not in ("image-space", "pix2pix"):
        features = load_features(options.features, models)
    return CrnTask(reader, models, options, features, parser, progress)


def _parser(path: Path, reader: Reader) -> Parser:
    """The parser of the features' training: not the judge, which must not have been learned from."""
    card, network = load_parser(path)
    channel_of, _, _ = channels_of(card, reader.classes, None, path)
    return Parser(network, channel_of[[entry.id for entry in reader.classes]].tolist())


def _redrawn(parser: nn.Module) -> nn.Module:
    """A parser of the same shape, frozen, whose weights nobody has drawn."""
    assert isinstance(parser, Parser)
    return Parser(ParsingNetwork(parser.network.config), parser.order).requires_grad_(False)


def _features_of(parser: nn.Module | None) -> Features | None:
    return parser.network.features if isinstance(parser, Parser) else None


def _terms(compare: PerceptualLoss, image: Tensor, real: Tensor) -> dict[str, float]:
    return {name: float(term) for name, term in compare(image, real).items()}
