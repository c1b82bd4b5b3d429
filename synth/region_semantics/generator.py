"""Generators for Fast-RSPer: a latent to a picture, without normalisation of any kind (Liu et al. 2018, section 4).

A batch statistic would make the picture of a latent depend on the other latents of its batch (section 3.1, figure 4).

    began:    linear -> residual blocks with ELU, doubled after the first three -> picture     (paper's code, faces)
    wgan-gp:  linear -> residual blocks with ReLU that double, four of them -> picture         (paper's code, bedrooms)

Both end in tanh. The code's BEGAN has no bound there, and what is cut off at the ends of the range leaves the "holes"
of figure 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..layers import channels
from .blocks import BeganBlock, UpBlock, initialised

Kind = Literal["began", "wgan-gp", "ladder-vae", "pixel-vae", "vae-gan"]
Prior = Literal["uniform", "normal"]
GENERATORS: tuple[Kind, ...] = ("began", "wgan-gp")
"""Kinds that make a picture of one latent vector."""
RIVALS: tuple[Kind, ...] = ("ladder-vae", "pixel-vae", "vae-gan")
"""Kinds that encode a reference picture: what Fast-RSPer is compared with."""
RESOLUTIONS = (32, 64, 128)
LATENTS = {"began": 64, "wgan-gp": 128}
PRIORS: dict[str, Prior] = {"began": "uniform", "wgan-gp": "normal"}
"""Of the released code: uniform in [-1, 1] for faces, standard normal for bedrooms."""
BEGAN = 128
"""Channels of all of BEGAN's features at width 1; twice as many inside a block."""
WGAN_GP = (512, 512, 256, 128, 64)
"""Channels of WGAN-GP's features at width 1, the coarsest first."""
LEAST = 16
"""Channels that no width goes below: 8 of them at full resolution learn hardly anything."""
DOUBLINGS = 3
"""Of BEGAN: its first features have an eighth of the picture's side."""
BRIGHTNESS_GAIN = 0.2
"""Of the weights of the last convolution, so that tanh begins in its straight part."""


@dataclass(frozen=True)
class GeneratorConfig:
    """How a generator, or what it is compared with, is built.

    Attributes:
        kind: `began` or `wgan-gp`; or one of `RIVALS`, which are networks of their own.
        resolution: rows and columns of the pictures, one of `RESOLUTIONS`.
        width: multiplies the channel counts of the released code.
    """

    kind: Kind = "wgan-gp"
    resolution: int = 64
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in (*GENERATORS, *RIVALS):
            raise ValueError(f"kind {self.kind!r} instead of one of {', '.join((*GENERATORS, *RIVALS))}")
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f"resolution {self.resolution} instead of one of {', '.join(map(str, RESOLUTIONS))}")

    @property
    def latent(self) -> int:
        """Z: length of a latent.

        Raises:
            ValueError: of a kind that has no single one.
        """
        if self.kind not in GENERATORS:
            raise ValueError(f"a {self.kind} has no single latent vector")
        return LATENTS[self.kind]

    @property
    def prior(self) -> Prior:
        """What latents are drawn from: `uniform` in [-1, 1], or `normal`, standard."""
        return PRIORS.get(self.kind, "normal")


def began_channels(width: float) -> int:
    """Of BEGAN's features."""
    return max(LEAST, channels(BEGAN, width))


def wgan_channels(width: float) -> list[int]:
    """Of WGAN-GP's features, the coarsest first."""
    return [max(LEAST, channels(full, width)) for full in WGAN_GP]


class GeneratorNetwork(nn.Module):
    """A latent to a picture; each of a batch by itself.

    Raises:
        ValueError: the configuration is that of one of `RIVALS`.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        if config.kind not in GENERATORS:
            raise ValueError(f"a {config.kind} is another network")
        began = config.kind == "began"
        if began:
            first = began_channels(config.width)
            self.side = config.resolution >> DOUBLINGS
            self.layers: nn.Module = began_decoder(first)
        else:
            sizes = wgan_channels(config.width)
            first, self.side = sizes[0], config.resolution >> len(sizes) - 1
            self.layers = nn.Sequential(*(UpBlock(own, out) for own, out in pairwise(sizes)), *to_picture(sizes[-1]))
        self.first = nn.Linear(config.latent, first * self.side**2)
        initialised(self)
        last_scaled(self.layers)

    def forward(self, z: Tensor) -> Tensor:
        """`(B, Z)` latents to `(B, 3, R, R)` in [-1, 1]."""
        found: Tensor = torch.tanh(self.layers(self.first(z).unflatten(1, (-1, self.side, self.side))))
        return found


def began_decoder(features: int) -> nn.Sequential:
    """BEGAN's blocks and its last convolution: `(B, features, R / 8, R / 8)` to `(B, 3, R, R)` without a bound."""
    blocks: list[nn.Module] = []
    for number in range(DOUBLINGS + 1):
        blocks.append(BeganBlock(features))
        if number < DOUBLINGS:
            blocks.append(nn.Upsample(scale_factor=2.0))
    return nn.Sequential(*blocks, nn.Conv2d(features, 3, 3, padding=1))


def to_picture(features: int) -> tuple[nn.Module, nn.Module]:
    """ReLU and the last convolution of WGAN-GP."""
    return nn.ReLU(), nn.Conv2d(features, 3, 3, padding=1)


@torch.no_grad()
def last_scaled(layers: Iterable[nn.Module]) -> None:
    """Makes the weights of the last convolution smaller, in place."""
    *_, last = layers
    assert isinstance(last, nn.Conv2d)
    last.weight *= BRIGHTNESS_GAIN


def draw(config: GeneratorConfig | Prior, n: int, generator: torch.Generator, latent: int | None = None) -> Tensor:
    """Latents as the prior has them, `(n, Z)` float32, on the generator's device.

    Args:
        config: of the generator; or the name of a prior, with the length of a latent in `latent`.
        n: how many; generator: that they are drawn from.

    Raises:
        ValueError: a prior without a length, or an unknown one.
    """
    prior, length = (config.prior, config.latent) if isinstance(config, GeneratorConfig) else (config, latent)
    if length is None:
        raise ValueError("a prior alone does not say how long a latent is")
    device = generator.device
    if prior == "uniform":
        return torch.rand(n, length, generator=generator, device=device) * 2 - 1
    if prior == "normal":
        return torch.randn(n, length, generator=generator, device=device)
    raise ValueError(f"no prior {prior!r}")
