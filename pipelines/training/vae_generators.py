"""Training what Fast-RSPer is compared with: Ladder-VAE, Pixel-VAE, and VAE-GAN over a Ladder-VAE (section 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.encoding import to_image
from ...synth.features import Features
from ...synth.losses import gan_discriminator, gan_generator
from ...synth.region_semantics.generator import RESOLUTIONS, GeneratorConfig, Kind
from ...synth.region_semantics.ladder_vae import Encoded, LadderVae, laplace
from ...synth.region_semantics.networks import generator_network
from ...synth.region_semantics.pixel_vae import LEVELS, PixelVae, levels_of
from ...synth.region_semantics.vae_gan import VaeGanDiscriminator
from ..progress import Progress
from .generator import COLUMNS, GeneratorTask
from .generator_pictures import VALIDATION_SEED
from .options import TrainOptions, square_side
from .task import Batch, Losses

WARM_UP = 500
"""Steps in which the divergences come to count in full: at once, the layers would learn to say nothing."""
FEW = 16
"""Pictures that Pixel-VAE is validated with: each takes a step a pixel."""
FEATURES = 1.0
"""Of VAE-GAN: what differences of the discriminator's features count for."""


class LadderTask(GeneratorTask):
    """Ladder-VAE: the bound of the likelihood of photographs, by the number of their colours."""

    kind: Kind = "ladder-vae"
    bounded = True
    """Whether the loss is a bound of a likelihood."""

    def __init__(
        self, reader: Reader | None, models: Path, options: TrainOptions, features: Features, progress: Progress
    ) -> None:
        config = GeneratorConfig(self.kind, square_side(options, RESOLUTIONS), options.width)
        with torch.device("meta"):
            net = generator_network(config)
        assert isinstance(net, LadderVae)
        super().__init__(reader, models, options, features, config, net.n_noise, progress=progress)

    def modules(self) -> nn.ModuleDict:
        """The network."""
        return nn.ModuleDict({"net": generator_network(self.net_config)})

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam."""
        return {"net": Adam(modules["net"].parameters(), self.options.lr or 0.0)}

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """Negative logarithmic likelihood of the colours and both divergences, nats a number."""
        parts = self.parts(modules["net"], batch["images"][:, 0], batch["z"][:, 0])
        yield "net", parts["likelihood"] + _ramp(step) * (parts["kl1"] + parts["kl2"]), parts

    def parts(self, net: nn.Module, image: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """What the bound is the sum of."""
        found = net(image, noise, full=True)
        return {"likelihood": self.likelihood(image, found), **_divergences(image, found)}

    def likelihood(self, image: Tensor, found: Encoded) -> Tensor:
        """Negative logarithmic likelihood of the colours, the mean over all of them."""
        return laplace(image, found.image.float(), found.log_scale)

    def made(self, net: nn.Module, z: Tensor) -> Tensor:
        """Pictures of noise in both layers."""
        assert isinstance(net, LadderVae)
        return net.made(z)

    def validate(self, net: nn.Module) -> dict[str, float]:
        """As every generator; and `bound`, of held-out photographs: the loss, with divergences in full."""
        found, device = super().validate(net), next(net.parameters()).device
        if self.bounded:
            random, bounds = torch.Generator().manual_seed(VALIDATION_SEED), []
            for images in self._photographs(device):
                noise = torch.randn(len(images), self.noise, generator=random).to(device)
                parts = self.parts(net, images, noise)
                bounds += [float(torch.stack(list(parts.values())).sum())] * len(images)
            found["bound"] = sum(bounds) / len(bounds)
        return found

    def grid(self, net: nn.Module) -> Photograph:
        """A row of held-out photographs, what is left of them, then pictures that are made."""
        whole = super().grid(net)
        assert isinstance(net, LadderVae)
        n, side = whole.shape[1] // self.resolution, self.resolution
        device = next(net.parameters()).device
        images = torch.cat([self.held_out[k]["images"] for k in range(n)]).to(device)
        left = net.decoded(net.encoded(images, torch.zeros(n, self.noise, device=device))[0])
        row = np.hstack([to_image(each) for each in left])
        return np.vstack([whole[:side], row, whole[side:]])

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """How long the divergences warm up."""
        return {"warm_up": WARM_UP}


class PixelTask(LadderTask):
    """Pixel-VAE: the same bound, with pixels that know those before them.

    The bound decides what is kept: `kid` is of few pictures.
    """

    kind: Kind = "pixel-vae"
    figure = "bound"
    n_made, rows = FEW, FEW // COLUMNS

    def likelihood(self, image: Tensor, found: Encoded) -> Tensor:
        """The cross-entropy of the steps of brightness."""
        return functional.cross_entropy(found.image.float(), levels_of(image))

    def made(self, net: nn.Module, z: Tensor) -> Tensor:
        """Pictures of noise in both layers, their pixels drawn one after the other."""
        assert isinstance(net, PixelVae)
        return net.made(z, torch.Generator().manual_seed(VALIDATION_SEED))

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """How many steps of brightness there are."""
        return {**super().extra(modules), "levels": LEVELS}


class VaeGanTask(LadderTask):
    """VAE-GAN: differences in a discriminator's features stand in for the likelihood of colours."""

    kind: Kind = "vae-gan"
    bounded = False

    def modules(self) -> nn.ModuleDict:
        """The network and its discriminator."""
        return nn.ModuleDict({**super().modules(), "discriminator": VaeGanDiscriminator(self.net_config)})

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam with less momentum for both."""
        return {
            name: Adam(modules[name].parameters(), self.options.lr or 0.0, (0.5, 0.999))
            for name in ("net", "discriminator")
        }

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """Features and divergences for encoder and decoder, fooling for the decoder; then the discriminator's."""
        image, discriminator = batch["images"][:, 0], modules["discriminator"]
        found = modules["net"](image, batch["z"][:, 0], full=True)
        image, fake = self._shown(image.repeat(3, 1, 1, 1), torch.cat([found.image, found.others]).float())
        n = len(image) // 3
        judged = discriminator(fake)
        with torch.no_grad():
            wanted = discriminator(image[:n])
        scale = wanted.features.float().square().mean().clamp(min=1e-6).sqrt()
        parts = {
            "features": laplace(wanted.features / scale, judged.features[:n].float() / scale, found.log_scale),
            **_divergences(image, found),
            "fooled": gan_generator(judged.scores[n:].float()),
        }
        bound = FEATURES * parts["features"] + _ramp(step) * (parts["kl1"] + parts["kl2"])
        yield "net", bound + parts["fooled"], parts
        scores = discriminator(torch.cat([image[:n], fake[n:].detach()])).scores.float()
        yield "discriminator", gan_discriminator(scores[:n], scores[n:]), {}


def _divergences(image: Tensor, found: Encoded) -> dict[str, Tensor]:
    """Of both layers, nats a number of a picture."""
    return {name: getattr(found, name).mean() / image[0].numel() for name in ("kl1", "kl2")}


def _ramp(step: int) -> float:
    """What the divergences count for."""
    return min(1.0, (step + 1) / WARM_UP)
