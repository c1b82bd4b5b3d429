"""Training RoI-GAN (Korshunov 2020, sections 3.7 and 3.8), or what it is compared with, on photographs alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ...storage.errors import InputError, sentence
from ...storage.reader import Reader
from ...synth.features import Features, load_features
from ...synth.losses import hinge_discriminator, hinge_generator
from ...synth.roi_gan.augment import augmented
from ...synth.roi_gan.discriminator import Judged, RoiDiscriminator, SliderHead
from ...synth.roi_gan.generator import GRAIN, PUBLISHED_CATEGORIES, RESOLUTIONS, RoiConfig, RoiGenerator, completed
from ...synth.roi_gan.losses import (
    EVEN,
    LAYERS,
    LossWeights,
    centring,
    feature_matching,
    gradient_penalty,
    of_region,
    perceptual,
    slider_loss,
    style_loss,
    total_variation,
)
from ..progress import Progress, silent
from .completion import CompletionTask, Drawn, blend_of, correlations
from .glcic import NETWORK as GLCIC
from .glcic import GlcicTask
from .options import TrainOptions, devices_of, square_side
from .photographs import BankOrigin, DatasetOrigin, Origin
from .task import Batch, Losses

NETWORK = "roi"
CHOICES = 10
"""Of each categorical slider."""
FASTER, FASTEST = 3.0, 1e-3
"""How many times the generator's learning rate the discriminator's is (the released code; the thesis swaps them), and
its largest: with 3e-3 the hinge loss of a narrow one stayed above 2, which is what knowing nothing has."""
BETAS = (0.5, 0.999)
PENALTY_EVERY = 4
"""Steps between two gradient penalties, which count for as many (as StyleGAN2 does); the released code has none."""
NOISE = 0.05
"""Deviation of the noise that the released code adds to its photographs."""
READ_WELL = 0.8
"""Correlation from which a slider counts as recovered."""
SHORT = 0.01
"""What a slider that is not read at all counts for beside `masked` in `cost`: early steps, which have no sliders yet,
are often the nearest ones."""
REDRAWN = 4
"""Settings of the sliders that each held-out picture is read with."""


class RoiTask(CompletionTask):
    """RoI-GAN on photographs, or the released code as it runs.

    Args:
        weights: of the terms of the loss.
    """

    network = NETWORK
    along = ("discriminator", "head")

    def __init__(
        self,
        origin: Origin,
        models: Path,
        options: TrainOptions,
        features: Features,
        weights: LossWeights | None = None,
        progress: Progress = silent,
    ) -> None:
        self.published = options.variant == "published"
        self.revision = 2 if self.published else 4
        self.figure = "masked" if self.published else "cost"
        self.name = f"{NETWORK}-published" if self.published else NETWORK
        categories = PUBLISHED_CATEGORIES if self.published else (CHOICES,) * (options.categories or 0)
        own = {} if options.sliders is None else {"sliders": options.sliders}
        self.net_config = RoiConfig(
            square_side(options, RESOLUTIONS), options.width, categories=categories, published=self.published,
            fourier=options.fourier, spectral=options.spectral, equalised=options.equalised,
            blend=0.0 if self.published else blend_of(options), copies=not self.published,
            tints=not self.published, textures=not self.published, grain=0.0 if self.published else GRAIN, **own,
        )  # fmt: skip
        as_the_code = LossWeights(fooled=1.0, pixel=0.0, information=1.0)
        self.weights = weights or (as_the_code if self.published else LossWeights())
        self.penalty: Any = "outside" if self.published else options.penalty or "inside"
        self.every = 1 if self.published else PENALTY_EVERY
        config = self.net_config
        kind: Any = options.regions or ("ellipse" if self.published else "mixed")
        drawn = Drawn(kind, config.noise, config.sliders, config.categories)
        super().__init__(origin, models, options, drawn, features, progress)
        self._discriminator: RoiDiscriminator | None = None
        self._reads_with: nn.ModuleDict | None = None

    def modules(self) -> nn.ModuleDict:
        """Generator, discriminator, the head that reads sliders, and the features of the loss."""
        self._discriminator = RoiDiscriminator(self.net_config)
        modules: dict[str, nn.Module] = {"net": RoiGenerator(self.net_config), "discriminator": self._discriminator}
        if self.net_config.n_sliders:
            modules["head"] = SliderHead(self.net_config, self._discriminator.levels)
        self._reads_with = nn.ModuleDict({name: modules[name] for name in self.along if name in modules})
        return nn.ModuleDict({**modules, "features": self._features})

    def read_with(self, along: nn.ModuleDict) -> None:
        """The discriminator and the head that held-out pictures are read with, in place of those that learn."""
        self._reads_with = along

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam; the head learns with the generator, and the discriminator faster than both."""
        making = [each for name in ("net", "head") if name in modules for each in modules[name].parameters()]
        judging = modules["discriminator"].parameters()
        return {
            "net": Adam(making, self.options.lr or 0.0, BETAS),
            "discriminator": Adam(judging, self._judging_lr, BETAS),
        }

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """The generator's and the head's (equation 3.18), then the discriminator's on the same pictures (3.19)."""
        image, region, weights = self._noisy(batch["image"]), batch["region"], self.weights
        given = image, region, batch["z"], batch["sliders"]
        raw, mean, logvar = modules["net"](*given, styled=True)
        raw = raw.float()
        done = completed(image, region, raw)
        real, fake, where = augmented(image, done, region) if self.options.augment else (image, done, region)
        discriminator = modules["discriminator"]
        with self._resting(discriminator):
            judged, wanted = discriminator(fake, where), discriminator(real.detach(), where)
        two = torch.cat([raw, done])
        whole = self.published  # the code blackens the outside and takes the mean over all pixels
        # the raw picture counts everywhere, the completed one inside: over all of it, that would be a fifth
        counted = None if whole else torch.cat([torch.ones_like(region), of_region(region)])
        parts = {
            "fooled": hinge_generator(judged.scores.float()),
            "matching": feature_matching(wanted.features, judged.features, first_alone=self.published),
            "perceptual": perceptual(self._features, two, image, LAYERS if whole else EVEN, counted),
            "variation": total_variation(done * region, torch.ones_like(region))
            if whole
            else total_variation(done, region),
            "style": style_loss(mean, logvar),
        }
        if weights.pixel:
            apart = (two - image.repeat(2, 1, 1, 1)).abs()
            parts["pixel"] = 2 * (apart if counted is None else apart * counted).mean()
        if "head" in modules:
            parts["information"] = slider_loss(self._read(modules, done, region, judged), batch["sliders"])
        counts = asdict(weights)
        yield "net", torch.stack([counts[name] * each for name, each in parts.items()]).sum(), parts

        if self.published:
            with torch.no_grad(), self._resting(modules["net"]):
                fake = completed(image, region, modules["net"](*given).float())
            wanted = discriminator(real, where)
        scores, judged = wanted.scores.float(), discriminator(fake.detach(), where)
        parts = {"hinge": hinge_discriminator(scores, judged.scores.float())}
        total = parts["hinge"] + weights.centring * centring(scores)
        if "head" in modules and not self.published:
            # the trunk learns to keep what the head reads (InfoGAN); in the released code it is for judging alone
            parts["kept"] = slider_loss(self._read(modules, done.detach(), region, judged), batch["sliders"])
            total = total + weights.information * parts["kept"]
        if step % self.every == 0:
            parts["penalty"] = self._slope(real, fake.detach(), where)
            total = total + self.every * weights.penalty * parts["penalty"]
        yield "discriminator", total, parts

    def validate(self, net: nn.Module) -> dict[str, float]:
        """As every completion, with grain; of the sliders how what the head reads follows what was set.

        `read`: the mean correlation; `recovered`: how many reach 0.8; `slider_1` and on: each one's; `spread`: mean
        absolute difference inside the region of two pictures of other noise and sliders, in [-1, 1]; `cost`: `masked`,
        and 0.01 for each slider that is not read at all, less for one that is, nothing from 0.8: it decides what is
        kept, where the released code keeps what is nearest.
        """
        found = super().validate(net)
        first = torch.cat([raw for _, raw in self.made(net)])
        spreads, said, read = [], [], []
        for redraw in range(1, 1 + REDRAWN):
            start = 0
            for batch, raw in self.made(net, redraw):
                region = batch["region"]
                apart = (raw - first[start : start + len(raw)]).abs() * region
                spreads.append(apart.sum((1, 2, 3)) / (3 * region.sum((1, 2, 3))))
                start += len(raw)
                if self.drawn.sliders:
                    said.append(batch["sliders"][:, : self.drawn.sliders].cpu())
                    read.append(self._reading(completed(batch["image"], region, raw), region).cpu())
        found["spread"] = float(torch.cat(spreads).mean())
        found["cost"] = found["masked"]
        if read:
            each = correlations(torch.cat(said), torch.cat(read))
            found["cost"] += SHORT * float((1 - each.clip(0, READ_WELL) / READ_WELL).sum())
            found |= {"read": float(each.mean()), "recovered": float(np.sum(each >= READ_WELL))}
            found |= {f"slider_{number}": float(value) for number, value in enumerate(each, 1)}
        return found

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """The weights of the loss, and what was drawn."""
        return {
            "loss_weights": asdict(self.weights),
            "regions": self.drawn.kind,
            "penalty": self.penalty,
            "penalty_every": self.every,
            "discriminator_lr": self._judging_lr,
        }

    @property
    def _judging_lr(self) -> float:
        """Of the discriminator; it does not come below the generator's."""
        lr = self.options.lr or 0.0
        return max(lr, min(FASTER * lr, FASTEST))

    def _slope(self, real: Tensor, fake: Tensor, region: Tensor) -> Tensor:
        """The gradient penalty, in single precision, of the discriminator as it is below what the loop wraps it in."""
        discriminator = self._discriminator
        assert discriminator is not None
        with torch.autocast(real.device.type, enabled=False):
            return gradient_penalty(lambda at, where: discriminator(at, where).scores, real, fake, region, self.penalty)

    def _noisy(self, image: Tensor) -> Tensor:
        """Photographs as all of the released code sees them: with noise, the same in the completed picture."""
        return image + NOISE * torch.randn_like(image) if self.published else image

    @contextmanager
    def _resting(self, module: nn.Module) -> Iterator[None]:
        """A network of the released code is in evaluation while the other one learns."""
        module.train(not self.published)
        yield
        module.train()

    def _read(self, modules: nn.ModuleDict, done: Tensor, region: Tensor, judged: Judged) -> Any:
        """What the head reads of completed pictures; not of augmented ones, since sliders may do the same."""
        if self.options.augment:
            judged = modules["discriminator"](done, region)
        return modules["head"](done, region, judged.features)

    def _reading(self, done: Tensor, region: Tensor) -> Tensor:
        """`(N, K)`: the means that the head reads of completed pictures, all as in evaluation."""
        assert self._reads_with is not None
        judges = (self._reads_with["discriminator"], self._reads_with["head"])
        modes = [each.training for each in judges]
        discriminator, head = (each.eval() for each in judges)
        mean: Tensor = head(done, region, discriminator(done, region).features).mean.float()
        for each, mode in zip(judges, modes, strict=True):
            each.train(mode)
        return mean


def make_task(
    reader: Reader | None, models: Path, options: TrainOptions, progress: Progress = silent
) -> RoiTask | GlcicTask:
    """The task as `zeuxis train roi` trains it; on the data set that the options name, where there is no bank.

    Raises:
        NothingToLearn: there are no photographs to train on.
        InputError: the features of the loss are missing; an option cannot be.
    """
    assert reader is not None or options.dataset is not None
    origin = BankOrigin(reader) if reader is not None else DatasetOrigin(str(options.dataset))
    square_side(options, RESOLUTIONS)
    if options.variant == "published":
        if devices_of(options)[1] > 1:
            fix = "give --devices 1"
            raise InputError(sentence("--variant published", expected="one device", found="several", fix=fix))
        if options.batch == 1:
            expected = "batches of at least 2, which its layers are normalised over"
            fix = "give a larger --batch"
            raise InputError(sentence("--variant published", expected=expected, found="--batch 1", fix=fix))
    features = load_features(options.features, models)
    if options.variant == GLCIC:
        return GlcicTask(origin, models, options, features, progress)
    return RoiTask(origin, models, options, features, progress=progress)
