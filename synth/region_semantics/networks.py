"""The network of a generator's configuration, whichever kind it is of."""

from __future__ import annotations

from torch import nn

from .generator import GENERATORS, GeneratorConfig, GeneratorNetwork
from .ladder_vae import LadderVae
from .pixel_vae import PixelVae
from .vae_gan import VaeGan

RIVALS: dict[str, type[LadderVae]] = {"ladder-vae": LadderVae, "pixel-vae": PixelVae, "vae-gan": VaeGan}


def generator_network(config: GeneratorConfig) -> nn.Module:
    """The network, with new weights."""
    return GeneratorNetwork(config) if config.kind in GENERATORS else RIVALS[config.kind](config)


__all__ = ["GeneratorConfig", "generator_network"]
