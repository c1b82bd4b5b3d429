"""Ladder-VAE: an encoder and a decoder that share two layers of latents (Sonderby et al. 2016; Liu et al. 2018, 2).

    picture -> d1 -> d2                               upwards, deterministic
    q(z2 | x) of d2,  p(z2) standard normal           fully connected: each dimension sees the whole picture
    q(z1 | x, z2) of d1 and p(z1 | z2) together       spatial: a cell stands for a square of 8x8 pixels of R = 64
    p(x | z1)                                         downwards

Both layers of q are joined to the decoder's own distribution by their precisions. What a region of a reference means is
kept by fixing the decoding distributions of the dimensions that see it to those that the reference has.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..layers import averaged, channels, in_precision
from .blocks import DownBlock, UpBlock, initialised
from .generator import LEAST, GeneratorConfig, last_scaled, to_picture

SIZES = (64, 128, 256, 512)
"""Channels of the features at width 1, the finest first."""
HALVINGS = 3
"""From the picture to the cells of the first layer."""
FIRST, SECOND, HIDDEN = 32, 128, 512
"""Of the two layers of latents at width 1: channels of a cell, numbers in all; and hidden units between the two."""
FEWEST = 32
"""Numbers of the second layer, and hidden units, at least."""
BOUND = 6.0
"""Of logarithms of variances, so that no distribution becomes a spike, or all there is."""
SHARPEST = -6.0
"""Logarithm of the scale of the colours' distribution, at least."""


class Gaussian(NamedTuple):
    """Independent normal distributions: means, and logarithms of variances, of one shape."""

    mean: Tensor
    logvar: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """What standard normal noise of the same shape becomes, in its precision."""
        return in_precision(self.mean + (0.5 * self.logvar).exp() * noise, noise.dtype)


class Encoded(NamedTuple):
    """What a pass through encoder and decoder gives.

    Attributes:
        image: `(N, 3, R, R)` in [-1, 1]; of Pixel-VAE the logits.
        kl1, kl2: `(N,)` divergences of both layers, nats a picture.
        log_scale: scalar, of the colours' Laplace distribution.
        others: pictures whose gradients do not reach the encoder, of VAE-GAN; else none.
    """

    image: Tensor
    kl1: Tensor
    kl2: Tensor
    log_scale: Tensor
    others: Tensor | None = None


class LadderVae(nn.Module):
    """Encodes pictures, makes pictures, and makes pictures that keep what a region of a reference means."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        sizes = [max(LEAST, channels(full, width)) for full in SIZES]
        self.side, top = config.resolution >> HALVINGS, sizes[-1]
        self.first = max(FEWEST // 4, channels(FIRST, width))
        self.second, hidden = (max(FEWEST, channels(full, width)) for full in (SECOND, HIDDEN))
        self.entry = nn.Conv2d(3, sizes[0], 3, padding=1)
        self.down = nn.ModuleList(DownBlock(own, out) for own, out in pairwise(sizes))
        self.upwards1 = nn.Conv2d(top, 2 * self.first, 3, padding=1)
        self.upwards2 = nn.Sequential(
            nn.Flatten(), nn.Linear(top * self.side**2, hidden), nn.ReLU(), nn.Linear(hidden, 2 * self.second)
        )
        self.downwards2 = nn.Sequential(
            nn.Linear(self.second, hidden), nn.ReLU(), nn.Linear(hidden, top * self.side**2), nn.ReLU()
        )
        self.downwards1 = nn.Conv2d(top, 2 * self.first, 3, padding=1)
        self.exit = nn.Conv2d(self.first, top, 3, padding=1)
        self.up = nn.Sequential(*(UpBlock(own, out) for own, out in pairwise(sizes[::-1])))
        self.features = sizes[0]
        self.to_image = self._to_image()
        self.log_scale = nn.Parameter(torch.zeros(()))
        initialised(self)
        for head in (self.upwards1, self.downwards1, self.upwards2[-1]):
            _shrunk(head)
        if isinstance(self.to_image, nn.Sequential):
            last_scaled(self.to_image)

    def _to_image(self) -> nn.Module:
        return nn.Sequential(*to_picture(self.features))

    @property
    def n_noise(self) -> int:
        """L: numbers that a picture is made of, both layers together."""
        return self.second + self.first * self.side**2

    def forward(self, image: Tensor, noise: Tensor, *, full: bool = False) -> Tensor | Encoded:
        """The reconstruction, with latents drawn from what the encoder says.

        Args:
            image: `(N, 3, R, R)` in [-1, 1]; noise: `(N, L)` standard normal.
            full: all that a loss needs.

        Returns:
            `(N, 3, R, R)` in [-1, 1]; or `Encoded`.
        """
        z1, kl1, kl2 = self.encoded(image, noise)
        made = self.decoded(z1)
        return Encoded(made, kl1, kl2, self.log_scale.clamp(min=SHARPEST)) if full else made

    def encoded(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents `(N, C, s, s)` of the first layer as the encoder says, and the divergences of both, `(N,)` each."""
        noise1, noise2 = self.split(noise)
        said1, second = self.upwards(image)
        kl2 = divergence(second, _standard(second.mean)).sum(1)
        own = self.decoding1(second.at(noise2))
        joint = joined(said1, own)
        return joint.at(noise1), divergence(joint, own).sum((1, 2, 3)), kl2

    def split(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, L)` as noise of both layers, `(N, C, s, s)` and `(N, Z2)`."""
        second, first = noise.tensor_split([self.second], 1)
        return first.reshape(-1, self.first, self.side, self.side), second

    def upwards(self, image: Tensor) -> tuple[Gaussian, Gaussian]:
        """What the encoder alone says of the first layer, and q(z2 | x)."""
        x = self.entry(image)
        for block in self.down:
            x = block(x)
        x = functional.relu(x)
        return _gaussian(self.upwards1(x)), _gaussian(self.upwards2(x))

    def decoding1(self, z2: Tensor) -> Gaussian:
        """p(z1 | z2)."""
        return _gaussian(self.downwards1(self.downwards2(z2).unflatten(1, (-1, self.side, self.side))))

    def expanded(self, z1: Tensor) -> Tensor:
        """`(N, F, R, R)`: the decoder's features, not activated yet."""
        found: Tensor = self.up(self.exit(z1))
        return found

    def decoded(self, z1: Tensor) -> Tensor:
        """The middle of p(x | z1): `(N, C, s, s)` to pictures in [-1, 1]."""
        return torch.tanh(self.to_image(self.expanded(z1)))

    def made(self, noise: Tensor) -> Tensor:
        """Pictures of `(N, L)` noise alone: `(N, 3, R, R)` in [-1, 1]."""
        noise1, noise2 = self.split(noise)
        return self.decoded(self.decoding1(noise2).at(noise1))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Pictures as the decoder has them, `(n, 3, R, R)` in [-1, 1]."""
        return self.made(self.noise(n, generator))

    @torch.no_grad()
    def preserving(
        self, reference: Tensor, region: Tensor, n: int, generator: torch.Generator, simple: bool = False
    ) -> Tensor:
        """Pictures that keep what a region of a reference means (Liu et al. 2018, sections 4.1 and 4.2).

        Args:
            reference: `(3, R, R)` in [-1, 1]; region: `(R, R)` bool; n: how many.
            generator: that latents are drawn from.
            simple: the region is of one object: the first layer is fixed as well, where it sees the region.

        Returns:
            `(n, 3, R, R)` in [-1, 1].
        """
        return self.decoded(self.latents(reference, region, n, generator, simple))

    def latents(
        self, reference: Tensor, region: Tensor, n: int, generator: torch.Generator, simple: bool = False
    ) -> Tensor:
        """Draws of the first layer for `preserving`: `(n, C, s, s)`."""
        noise1, noise2 = self.split(self.noise(n, generator))
        second = self.fixed2(reference)
        return self.fixed1(reference, region, second.at(noise2), simple).at(noise1)

    def fixed2(self, reference: Tensor) -> Gaussian:
        """The decoding distribution of z2, fixed to that of the reference: `(1, Z2)`.

        The layer is fully connected, so that each of its dimensions sees the region.
        """
        return self.upwards(reference[None])[1]

    def fixed1(self, reference: Tensor, region: Tensor, z2: Tensor, simple: bool) -> Gaussian:
        """The decoding distribution of z1, given z2, `(n, Z2)`: `(n, C, s, s)`.

        Where the region is simple, the cells that see it are fixed to what the reference has there with its own z2,
        the same for all n. A cell sees its square of pixels: by the widest field, with the convolutions' borders, each
        sees nearly all of the picture.
        """
        free = self.decoding1(z2)
        if not simple:
            return free
        said1, second = self.upwards(reference[None])
        own = joined(said1, self.decoding1(second.mean))
        seen = averaged(region[None, None].to(z2.dtype), (self.side, self.side)) > 0
        return Gaussian(torch.where(seen, own.mean, free.mean), torch.where(seen, own.logvar, free.logvar))

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """`(n, L)` standard normal numbers, on the network's device."""
        drawn = torch.randn(n, self.n_noise, generator=generator, device=generator.device)
        return drawn.to(self.log_scale.device)


def joined(first: Gaussian, second: Gaussian) -> Gaussian:
    """The normalised product of two distributions: precisions add up (Sonderby et al. 2016, equations 17 to 19)."""
    one, other = (-first.logvar).exp(), (-second.logvar).exp()
    total = one + other
    return Gaussian((first.mean * one + second.mean * other) / total, -total.log())


def divergence(first: Gaussian, second: Gaussian) -> Tensor:
    """KL(first || second) by dimension, nats."""
    apart = (first.mean - second.mean).square() + first.logvar.exp()
    return 0.5 * (apart * (-second.logvar).exp() - 1 + second.logvar - first.logvar)


def laplace(image: Tensor, middle: Tensor, log_scale: Tensor) -> Tensor:
    """Negative logarithmic likelihood of pictures under Laplace distributions, the mean over all numbers, nats."""
    return ((image - middle).abs() * (-log_scale).exp()).mean() + log_scale + math.log(2)


def _gaussian(both: Tensor) -> Gaussian:
    mean, logvar = in_precision(both, torch.float32).chunk(2, 1)
    return Gaussian(mean, BOUND * torch.tanh(logvar / BOUND))


def _standard(like: Tensor) -> Gaussian:
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


@torch.no_grad()
def _shrunk(layer: nn.Module) -> None:
    """Begins with distributions that hardly differ."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    layer.weight *= 0.3
