"""Training generators for Fast-RSPer and its rivals on photographs alone (Liu et al. 2018, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth import metrics
from ...synth.encoding import to_image
from ...synth.features import Features, load_features
from ...synth.region_semantics.balance import GAMMA, RATE, SHORT_RATE, Balance
from ...synth.region_semantics.critics import BeganCritic, WganCritic
from ...synth.region_semantics.generator import RESOLUTIONS, GeneratorConfig, GeneratorNetwork
from ...synth.roi_gan.augment import augmented
from ...synth.roi_gan.losses import gradient_penalty
from ..progress import Progress, silent
from .generator_pictures import N_VALIDATION, VALIDATION_SEED, PictureItems, trained_and_validated
from .options import TrainOptions, square_side
from .own_options import GENERATOR
from .task import Batch, Losses, Task

NETWORK = "generator"
CRITIC_STEPS = 5
"""Of WGAN-GP, for one of its generator."""
PENALTY = 10.0
"""What the penalty of the critic's slope counts for (WGAN-GP, section 4)."""
PENALISED = 4
"""Every so manieth picture of a batch is one whose slope is penalised: an unbiased estimate, at a third of the time."""
BETAS = {"wgan-gp": (0.0, 0.9), "began": (0.5, 0.999)}
COMPARED = ("conv3_2", "conv4_2", "conv5_2")
"""Features whose means over a picture KID compares."""
AT_ONCE = 32
"""Pictures that are made at once in validation."""
COLUMNS, PHOTOGRAPHS, ROWS = 8, 1, 6
"""Of the grid: samples a row, rows of photographs, rows of samples."""


class GeneratorTask:
    """What is the same for all generators: pictures, figures, and a picture of samples.

    Args:
        reader: of the bank, None where the options name a data set; models: the folder of networks; options: resolved.
        features: that KID compares.
        noise: how many random numbers a picture is made of; uniform: in [-1, 1], else standard normal.
        views: photographs of an item.

    Raises:
        InputError, NothingToLearn: as `trained_and_validated`.
    """

    network = NETWORK
    revision: int | None = None
    figure, smaller_is_better = "kid", True
    n_made, rows = N_VALIDATION, ROWS
    """Pictures that figures are of, and rows of them in the picture of samples."""

    def __init__(
        self,
        reader: Reader | None,
        models: Path,
        options: TrainOptions,
        features: Features,
        config: GeneratorConfig,
        noise: int,
        *,
        uniform: bool = False,
        views: int = 1,
        progress: Progress = silent,
    ) -> None:
        self.options, self.net_config, self._features = options, config, features
        self.features, self.name = features.name, f"{NETWORK}-{config.kind}"
        self.resolution, self.noise, self._uniform = config.resolution, noise, uniform
        own, others, self.subject = trained_and_validated(reader, models, options, self.resolution, progress)
        self._optimisers: dict[str, Optimizer] = {}
        self.samples = PictureItems(own, self.resolution, self._drawn, views, options.seed)
        self.held_out = PictureItems(others, self.resolution, self._drawn, 1, VALIDATION_SEED, each=True)

    def dataset(self) -> PictureItems:
        """Windows of photographs of the training split."""
        self.samples.photographs.prepare()
        self.held_out.photographs.prepare()
        return self.samples

    def validate(self, net: nn.Module) -> dict[str, float]:
        """On windows of held-out photographs, and as many pictures that are made, the same each time.

        `kid`: distance of the two by the means of features, see `metrics.kid`; `spread`: how far made pictures are
        apart in these features, as a share of how far photographs are.
        """
        device = next(net.parameters()).device
        compare = self._features.to(device)
        photographs = [_means(compare, each) for each in self._photographs(device)]
        scale = _scale(photographs)
        made = [_means(compare, each) for each in self._made(net, self.n_made)]
        real, fake = (_vectors(each, scale) for each in (photographs, made))
        spread = metrics.diversity([fake]) / max(metrics.diversity([real]), 1e-12)
        return {"kid": metrics.kid(real, fake, rounds=2).value, "spread": spread}

    def grid(self, net: nn.Module) -> Photograph:
        """Held-out photographs, then pictures that are made."""
        device = next(net.parameters()).device
        made = torch.cat(list(self._made(net, COLUMNS * self.rows)))
        shown = [to_image(each) for each in (*next(self._photographs(device))[: COLUMNS * PHOTOGRAPHS], *made)]
        return np.vstack([np.hstack(shown[start : start + COLUMNS]) for start in range(0, len(shown), COLUMNS)])

    def config(self) -> dict[str, Any]:
        """Of the network."""
        return asdict(self.net_config)

    def made(self, net: nn.Module, z: Tensor) -> Tensor:
        """`(n, 3, R, R)` pictures of `(n, L)` random numbers."""
        found: Tensor = net(z)
        return found

    def _stepping(self, modules: nn.ModuleDict, kind: str) -> dict[str, Optimizer]:
        """Adam for generator and critic, whose rates `_slow_down` sets."""
        self._optimisers = {
            name: Adam(modules[name].parameters(), self.options.lr or 0.0, BETAS[kind]) for name in ("net", "critic")
        }
        return self._optimisers

    def _slow_down(self, step: int) -> None:
        """Sets the rate of a step: on a straight line from that of the options to 0 after the last step."""
        rate = (self.options.lr or 0.0) * max(0.0, 1 - step / (self.options.steps or 1))
        for each in self._optimisers.values():
            for group in each.param_groups:
                group["lr"] = rate

    def _made(self, net: nn.Module, n: int) -> Any:
        """Pictures in batches, of the same random numbers each time."""
        random, device = np.random.default_rng(VALIDATION_SEED), next(net.parameters()).device
        z = torch.from_numpy(self._drawn(n, random)).to(device)
        return (self.made(net, some).float() for some in torch.split(z, AT_ONCE))

    def _photographs(self, device: torch.device) -> Any:
        """Held-out windows in batches."""
        items = range(N_VALIDATION)
        return (
            torch.cat([self.held_out[k]["images"] for k in items[start : start + AT_ONCE]]).to(device)
            for start in range(0, N_VALIDATION, AT_ONCE)
        )

    def _drawn(self, n: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
        shape = (n, self.noise)
        drawn = random.uniform(-1, 1, shape) if self._uniform else random.standard_normal(shape)
        return drawn.astype(np.float32)

    def _shown(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What a critic sees of photographs and made pictures, as many of both."""
        if not self.options.augment:
            return real, fake
        one, other, _ = augmented(real, fake, torch.ones_like(real[:, :1]))
        return one.detach(), other  # both are moved in one call: no gradient of the one reaches the other


class WganTask(GeneratorTask):
    """WGAN-GP (Gulrajani et al. 2017): several steps of the critic on other photographs for one of the generator."""

    revision = 1

    def __init__(
        self, reader: Reader | None, models: Path, options: TrainOptions, features: Features, progress: Progress
    ) -> None:
        config = GeneratorConfig("wgan-gp", square_side(options, RESOLUTIONS), options.width)
        self.critic_steps = options.critic_steps or CRITIC_STEPS
        super().__init__(
            reader, models, options, features, config, config.latent, views=self.critic_steps, progress=progress
        )
        self._critic: WganCritic | None = None

    def modules(self) -> nn.ModuleDict:
        """Generator and critic."""
        self._critic = WganCritic(self.net_config)
        return nn.ModuleDict({"net": GeneratorNetwork(self.net_config), "critic": self._critic})

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam without a momentum for both, at a falling rate."""
        return self._stepping(modules, "wgan-gp")

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """The generator's; then the critic's, several times, each with photographs and latents of its own.

        The parts of the critic are means over its steps.
        """
        self._slow_down(step)
        net, critic, images, z = modules["net"], modules["critic"], batch["images"], batch["z"]
        fake = net(z[:, 0]).float()
        fooled = -critic(self._shown(fake, fake)[1]).float().mean()
        yield "net", fooled, {"fooled": fooled}
        for number in range(self.critic_steps):
            with torch.no_grad():
                fake = net(z[:, number + 1]).float()
            real, fake = self._shown(images[:, number], fake)
            scores = critic(torch.cat([real, fake])).float()
            distance = scores[: len(real)].mean() - scores[len(real) :].mean()
            penalty = self._slope(real[::PENALISED], fake[::PENALISED])
            share = 1 / self.critic_steps
            yield "critic", PENALTY * penalty - distance, {"distance": share * distance, "penalty": share * penalty}

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """How the critic is trained."""
        return {"critic_steps": self.critic_steps, "penalty": PENALTY, "penalised": 1 / PENALISED}

    def _slope(self, real: Tensor, fake: Tensor) -> Tensor:
        """The gradient penalty, in single precision, of the critic as it is below what the loop wraps it in."""
        critic = self._critic
        assert critic is not None
        with torch.autocast(real.device.type, enabled=False):
            return gradient_penalty(lambda at, _: critic(at)[:, None], real, fake, torch.ones_like(real[:, :1]))


class BeganTask(GeneratorTask):
    """BEGAN (Berthelot et al. 2017): the critic is an auto-encoder, and a control keeps the two in balance."""

    revision = 1

    def __init__(
        self, reader: Reader | None, models: Path, options: TrainOptions, features: Features, progress: Progress
    ) -> None:
        config = GeneratorConfig("began", square_side(options, RESOLUTIONS), options.width)
        self.rate = RATE if options.width >= 1 else SHORT_RATE
        super().__init__(
            reader, models, options, features, config, config.latent, uniform=True, progress=progress
        )  # fmt: skip

    def modules(self) -> nn.ModuleDict:
        """Generator, auto-encoder, and the control."""
        config = self.net_config
        return nn.ModuleDict(
            {"net": GeneratorNetwork(config), "critic": BeganCritic(config), "balance": Balance(rate=self.rate)}
        )  # fmt: skip

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam for both, at a falling rate."""
        return self._stepping(modules, "began")

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """The generator's, then the auto-encoder's on the same pictures; the control follows both."""
        self._slow_down(step)
        net, critic, real = modules["net"], modules["critic"], batch["images"][:, 0]
        balance = cast(Balance, modules["balance"])
        real, fake = self._shown(real, net(batch["z"][:, 0]).float())
        made = _error(critic, fake)
        yield "net", made, {"made": made}
        both = torch.cat([real, fake.detach()])
        errors = (critic(both).float() - both).abs().mean((1, 2, 3))
        own, others = errors[: len(real)].mean(), errors[len(real) :].mean()
        k = balance.k.clone()
        convergence = balance.update(own.detach(), others.detach())
        yield "critic", own - k * others, {"real": own, "k": k, "convergence": convergence}

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """The control, as it is."""
        return {"gamma": GAMMA, "rate": self.rate, "k": float(cast(Balance, modules["balance"]).k)}


def make_task(reader: Reader | None, models: Path, options: TrainOptions, progress: Progress) -> Task:
    """The task as `zeuxis train generator` trains it; on the data set that the options name, where there is no bank.

    Raises:
        NothingToLearn: there are no photographs, or no objects, to train on.
        InputError: the features that KID compares are missing; an option cannot be.
    """
    assert reader is not None or options.dataset is not None
    kind = options.kind or GENERATOR
    square_side(options, RESOLUTIONS)
    features = load_features(options.features, models)
    if kind == "began":
        return BeganTask(reader, models, options, features, progress)
    if kind == "wgan-gp":
        return WganTask(reader, models, options, features, progress)
    from .vae_generators import LadderTask, PixelTask, VaeGanTask

    rival = {"ladder-vae": LadderTask, "pixel-vae": PixelTask, "vae-gan": VaeGanTask}[kind]
    return rival(reader, models, options, features, progress)


def _error(critic: nn.Module, image: Tensor) -> Tensor:
    """Mean absolute difference of pictures to what the auto-encoder leaves of them."""
    apart: Tensor = critic(image).float() - image
    return apart.abs().mean()


def _means(features: Features, images: Tensor) -> list[Tensor]:
    """`(n, d)` a layer: each feature's mean over the picture."""
    return [each.mean((2, 3)) for each in features(images, COMPARED).values()]


def _scale(batches: Sequence[list[Tensor]]) -> list[Tensor]:
    """Of each layer the root of its mean square, so that all count alike."""
    return [torch.cat(layer).square().mean().clamp(min=1e-12).sqrt() for layer in zip(*batches, strict=True)]


def _vectors(batches: Sequence[list[Tensor]], scale: Sequence[Tensor]) -> metrics.Features:
    """`(n, d)` of all layers."""
    scaled = [torch.cat([layer / by for layer, by in zip(each, scale, strict=True)], 1) for each in batches]
    found: metrics.Features = torch.cat(scaled).cpu().numpy()
    return found
