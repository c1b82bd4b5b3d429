"""Training the completion network that RoI-GAN is compared with (Iizuka et al. 2017), on the same photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from ...synth.features import Features
from ...synth.glcic import GlcicConfig, GlcicDiscriminator, GlcicNetwork
from ...synth.losses import gan_discriminator, gan_generator
from ...synth.roi_gan.generator import completed
from ..progress import Progress
from .completion import CompletionTask, Drawn, blend_of
from .options import TrainOptions
from .photographs import Origin
from .task import Batch, Losses

NETWORK = "glcic"
PIXELS_ALONE, JUDGE_ALONE = 0.18, 0.02
"""Shares of the steps: the network on pixels alone, then the discriminator alone, then both (section 4)."""
ADVERSARIAL = 4e-4
"""What the discriminator counts for beside the squares of the differences."""


class GlcicTask(CompletionTask):
    """Globally and locally consistent completion, in the paper's three phases; it draws neither noise nor sliders."""

    network = name = NETWORK

    def __init__(
        self, origin: Origin, models: Path, options: TrainOptions, features: Features, progress: Progress
    ) -> None:
        regions: Any = options.regions or "mixed"
        super().__init__(origin, models, options, Drawn(regions), features, progress)
        self.net_config = GlcicConfig(self.resolution, options.width, blend_of(options))

    def modules(self) -> nn.ModuleDict:
        """The network and its discriminator."""
        return nn.ModuleDict(
            {"net": GlcicNetwork(self.net_config), "discriminator": GlcicDiscriminator(self.net_config)}
        )

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam for both, where the paper has AdaDelta."""
        assert self.options.lr is not None
        return {name: Adam(modules[name].parameters(), self.options.lr) for name in ("net", "discriminator")}

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """Squares of differences inside the region; a discriminator, once its time has come."""
        image, region = batch["image"], batch["region"]
        share = step / (self.options.steps or 1)
        raw = modules["net"](image, region, batch["z"], batch["sliders"]).float()
        done, discriminator = completed(image, region, raw), modules["discriminator"]
        both = share >= PIXELS_ALONE + JUDGE_ALONE
        if share < PIXELS_ALONE or both:
            parts = {"squares": squared_inside(raw, image, region)}
            if both:
                parts["fooled"] = gan_generator(discriminator(done, region).float())
            yield "net", parts["squares"] + ADVERSARIAL * parts.get("fooled", 0.0), parts
        if share >= PIXELS_ALONE:
            real, fake = (discriminator(each, region).float() for each in (image, done.detach()))
            yield "discriminator", gan_discriminator(real, fake) / 2, {}

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """The phases, and what was drawn."""
        phases = {"pixels_alone": PIXELS_ALONE, "judge_alone": JUDGE_ALONE, "adversarial": ADVERSARIAL}
        return {"phases": phases, "regions": self.drawn.kind}


def squared_inside(raw: Tensor, image: Tensor, region: Tensor) -> Tensor:
    """Mean square of the differences over the pixels of all regions."""
    squares = functional.mse_loss(raw * region, image * region, reduction="sum")
    return squares / (image.shape[1] * region.sum()).clamp(min=1)
