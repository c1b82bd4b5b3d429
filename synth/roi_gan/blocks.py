"""The layers of RoI-GAN: gated convolution, denormalisation, upsample block, and a Fourier block beside them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from ..layers import LEAK, in_precision

HIDDEN = 128
"""Channels of the region's features inside a denormalisation, at width 1 (the released code)."""
MULTIPLE = 4
"""Channel counts are multiples of this, so that the thesis' 100 is one."""

Wrap = Callable[[nn.Module], nn.Module]
"""What is done to each layer with weights: nothing, spectral normalisation, or an equalised learning rate."""


class Equalised(nn.Module):
    """Weights held at variance 1 and multiplied by He's constant whenever they are used (equation 3.20)."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as it is used."""
        return weight * self.factor

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The weight as it is held."""
        return weight / self.factor


def equalised(layer: nn.Module) -> nn.Module:
    """A layer with weights whose learning rate does not depend on how many inputs it has; they are drawn anew."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    fan_in = math.prod(layer.weight.shape[1:])
    parametrize.register_parametrization(layer, "weight", Equalised(math.sqrt(2 / fan_in)))
    return layer


def wrap_of(spectral: bool, equal: bool) -> Wrap:
    """What is done to each layer; see `Wrap`.

    Raises:
        ValueError: both, which would undo each other.
    """
    if spectral and equal:
        raise ValueError("spectral normalisation leaves nothing of an equalised learning rate")
    return spectral_norm if spectral else equalised if equal else lambda layer: layer


class GatedConvolution(nn.Module):
    """4x4 convolution of stride 2, each output weighted by a gate of its own (equation 2.11).

    In the order of the thesis: gating, instance normalisation, leaky ReLU; `published`: leaky ReLU, gating, normalised
    last. `normalise=False` leaves the means and contrasts of the picture as they are.
    """

    def __init__(self, inputs: int, outputs: int, wrap: Wrap, *, normalise: bool = True, published: bool = False):
        super().__init__()
        self.published, self.normalise = published, normalise
        self.features = wrap(nn.Conv2d(inputs, outputs, 4, 2, 1))
        self.gates = wrap(nn.Conv2d(inputs, outputs, 4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, H, W)` to `(N, outputs, H / 2, W / 2)`."""
        features, gates = self.features(x), torch.sigmoid(self.gates(x))
        if self.published:
            return functional.instance_norm(functional.leaky_relu(features, LEAK) * gates)
        gated = features * gates
        return functional.leaky_relu(functional.instance_norm(gated) if self.normalise else gated, LEAK)


class Denormalisation(nn.Module):
    """Normalised features, scaled and shifted by what is read from the region and the style (equation 3.8).

        h = (1 + a) act(K * region) + b,   (a, b) = A style + c
        x^ = (1 + act(K_gamma * h)) (x - mean(x)) / sqrt(var(x) + eps) + act(K_beta * h)

    with 3x3 convolutions and leaky ReLUs. The ones are those of the released code: the thesis' z_1 and gamma are 1 + a
    and 1 + gamma here, so that an untrained layer passes the features on.

    Args:
        channels: of the features; hidden: of the region's; style: length of the style, 0 for none.
    """

    def __init__(self, channels: int, hidden: int, style: int, wrap: Wrap) -> None:
        super().__init__()
        self.read = wrap(nn.Conv2d(1, hidden, 3, padding=1))
        self.modulate = wrap(nn.Linear(style, 2 * hidden)) if style else None
        self.gamma_beta = wrap(nn.Conv2d(hidden, 2 * channels, 3, padding=1))

    def forward(self, x: Tensor, region: Tensor, style: Tensor | None = None) -> Tensor:
        """`(N, C, H, W)` features, `(N, 1, H, W)` region of 0 to 1, `(N, S)` style to `(N, C, H, W)`."""
        hidden = functional.leaky_relu(self.read(region), LEAK)
        if self.modulate is not None:
            scale, shift = self.modulate(style)[:, :, None, None].chunk(2, 1)
            hidden = (1 + scale) * hidden + shift
        gamma, beta = functional.leaky_relu(self.gamma_beta(hidden), LEAK).chunk(2, 1)
        return functional.instance_norm(x) * (1 + gamma) + beta


class UpsampleBlock(nn.Module):
    """Twice the size: one branch makes what is inside the region, the other keeps what is outside (figure 3.4).

    `published` builds the block as the released code runs it: the second branch is denormalised, and that is thrown
    away, for its convolution reads the block's input; and two denormalisations are never called.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, style: int, wrap: Wrap, published: bool) -> None:
        super().__init__()
        self.published = published
        self.inside = Denormalisation(inputs, hidden, style, wrap)
        self.inside_convolution = wrap(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.outside = Denormalisation(inputs, hidden, 0, wrap)
        self.outside_convolution = wrap(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.join = wrap(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.denormalise = Denormalisation(outputs, hidden, style, wrap)
        if published:
            self.never = nn.ModuleList(Denormalisation(inputs, hidden, style, wrap) for _ in range(2))

    def forward(self, x: Tensor, region: Tensor, style: Tensor) -> Tensor:
        """`(N, inputs, h, w)`, `(N, 1, H, W)` with H a multiple of h, `(N, S)` to `(N, outputs, 2 h, 2 w)`."""
        coarse = _shrunk(region, x, nearest=self.published)
        inside = functional.leaky_relu(self.inside(x, coarse, style), LEAK)
        inside = functional.leaky_relu(self.inside_convolution(inside), LEAK)
        outside = x if self.published else functional.leaky_relu(self.outside(x, 1 - coarse), LEAK)
        outside = functional.leaky_relu(self.outside_convolution(outside), LEAK)
        both = functional.interpolate(inside + outside, scale_factor=2.0)
        both = functional.leaky_relu(self.join(both), LEAK)
        found: Tensor = self.denormalise(both, _shrunk(region, both, nearest=self.published), style)
        return found


class FourierBlock(nn.Module):
    """A residual 1x1 convolution of all frequencies, which sees the whole picture at once (LaMa, Suvorov et al. 2022).

    It begins as the identity. The transform runs in float32, which it needs on most devices.
    """

    def __init__(self, channels: int, wrap: Wrap) -> None:
        super().__init__()
        self.mix = wrap(nn.Conv2d(2 * channels, 2 * channels, 1))
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias) if self.out.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` to the same."""
        spectrum = torch.fft.rfft2(x.float(), norm="ortho")
        mixed = functional.leaky_relu(
            self.mix(in_precision(torch.cat([spectrum.real, spectrum.imag], 1), x.dtype)), LEAK
        ).float()
        real, imaginary = mixed.chunk(2, 1)
        back = torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho")
        found: Tensor = x + self.out(back.to(x.dtype))
        return found


def _shrunk(region: Tensor, like: Tensor, *, nearest: bool) -> Tensor:
    """The region at the size of some features: its share of each cell, so that no small region is lost.

    `nearest`: the pixel nearest to each cell, as the released code has it.
    """
    size, factor = (like.shape[-2], like.shape[-1]), region.shape[-1] // like.shape[-1]
    if nearest:
        return functional.interpolate(region, size)
    return functional.avg_pool2d(region, factor) if factor > 1 else region
