"""The losses of RoI-GAN (thesis, section 3.7), each a mean, so that weights do not depend on size or batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..features import Features
from ..layers import averaged
from .discriminator import Reading

Penalty = Literal["inside", "outside", "r1"]
LAYERS: Mapping[str, float] = {
    "conv1_1": 1 / 32, "conv2_1": 1 / 16, "conv3_1": 1 / 8, "conv4_1": 1 / 4, "conv5_1": 1.0,
}  # fmt: skip
"""Of the perceptual loss, and what each counts for (the released code)."""
EVEN: Mapping[str, float] = dict.fromkeys(LAYERS, sum(LAYERS.values()) / len(LAYERS))
"""The same in all, shared alike: differences are relative to the photograph's own, and with the code's numbers the 4x4
cells of conv5_1 would have two thirds of them."""
FAINTEST = 1e-6
"""Mean activation that a layer's difference is divided by, at least."""
NARROWEST, WIDEST = -2.0, 6.0
"""Bounds of the logarithmic variances that the head may say. Likelihoods of sliders read well must not outweigh the
others: with a bound of -6 the first two or three to be read took all there was to be gained."""


SMALLEST = 1 / 50
"""Share of the picture that a region counts as in `of_region`, at least: the features of a few pixels tell little. No
smaller ones are measured; nearly half of all rectangles are below a sixteenth."""


@dataclass(frozen=True)
class LossWeights:
    """What each term counts for (equations 3.18 and 3.19; of two the released code).

    The thesis has -0.5 for `style` and `information`, of bounds that are to rise; the code as it runs has 1. Both have
    given up `pixel`, differences of colours, which features of a bank say less of than those of VGG-19. `fooled`, the
    hinge loss, counts 1 in both; with copies to begin with, what it asks for is drowned by nearness.
    """

    fooled: float = 3.0
    perceptual: float = 5.0
    pixel: float = 2.0
    matching: float = 1.0
    variation: float = 0.5
    style: float = 1.0
    information: float = 0.5
    penalty: float = 5.0
    centring: float = 1e-4


def gradient_penalty(
    score: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, region: Tensor, kind: Penalty = "inside"
) -> Tensor:
    """How far the slope of the scores is from 1, the mean over pictures (equation 3.10).

        (|| M * gradient of D at t ||_2 - 1)^2,   t = alpha real + (1 - alpha) fake,   alpha uniform in [0, 1]

    M is the region with `inside`, which is what the thesis says in words, and the rest with `outside`, which is what
    its formula and the code have. `r1` is the squared norm at the real pictures instead (Mescheder et al. 2018), of the
    region as well.

    Args:
        score: of pictures `(N, 3, H, W)` and regions to `(N, S)`; the gradient is that of their mean over S.
        real, fake: `(N, 3, H, W)`; region: `(N, 1, H, W)` of 0 and 1.
    """
    alpha = torch.rand(len(real), 1, 1, 1, device=real.device) if kind != "r1" else 1.0
    at = (alpha * real + (1 - alpha) * fake).detach().requires_grad_(True)
    scores = score(at, region).float().mean(1).sum()
    (gradient,) = torch.autograd.grad(scores, at, create_graph=True)
    masked = gradient * (1 - region if kind == "outside" else region)
    squares = masked.square().sum((1, 2, 3))
    if kind == "r1":
        return squares.mean()
    return ((squares + 1e-12).sqrt() - 1).square().mean()


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor], *, first_alone: bool = False) -> Tensor:
    """Mean absolute differences of the discriminator's activations, summed over layers (equation 3.11).

    Args:
        real, fake: `(N, C, h, w)` a layer; real ones take no gradient.
        first_alone: of the first picture of the batch alone, as the released code does by mistake.
    """
    n = 1 if first_alone else None
    each = [functional.l1_loss(b[:n].float(), a[:n].float().detach()) for a, b in zip(real, fake, strict=True)]
    return torch.stack(each).sum()


def perceptual(
    features: Features,
    image: Tensor,
    target: Tensor,
    layers: Mapping[str, float] = LAYERS,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean absolute differences of features, weighted by layer (one of the two sums of equation 3.12).

    Each layer's is relative to the mean activation of the target there, so that the weights mean the same with any
    feature network; the released code has none of that and feeds un-normalised pictures.

    Args:
        features: frozen; image: `(k N, 3, H, W)` in [-1, 1], k pictures for each target, one after the other; target:
            `(N, 3, H, W)`.
        layers: name to weight.
        weights: `(k N, 1, H, W)`, what pixels count for, by default 1; those of a layer's cell are averaged.

    Returns:
        the sum over the k of the means over N.
    """
    with torch.no_grad():
        wanted = features(target, list(layers))
    found, times = features(image, list(layers)), len(image) // len(target)
    total = image.new_zeros(())
    for name, weight in layers.items():
        real = wanted[name].float()
        each = (found[name].float() - real.repeat(times, 1, 1, 1)).abs()
        if weights is not None:
            each = each * averaged(weights, (each.shape[-2], each.shape[-1]))
        apart = each.mean()
        total = total + weight * times * apart / real.mean().clamp(min=FAINTEST)
    return total


def of_region(region: Tensor) -> Tensor:
    """What pixels count for in the mean over a region, each picture's by itself, where the mean over all is taken.

    Args:
        region: `(N, 1, H, W)` of 0 and 1.
    """
    return region / region.mean((1, 2, 3), keepdim=True).clamp(min=SMALLEST)


def centring(real: Tensor) -> Tensor:
    """Mean square of the scores of real pictures, `(N, S)` (equation 3.13)."""
    return real.square().mean()


def slider_loss(reading: Reading, sliders: Tensor) -> Tensor:
    """Negative logarithmic likelihood of the sliders under what the head reads (equations 3.14 to 3.17).

    The entropy of the sliders is constant and left out. The thesis prints the Gaussian without its square.

    Args:
        sliders: `(N, K)`: continuous ones, then a one-hot block for each categorical one.

    Returns:
        the mean over pictures of the sum over continuous sliders, plus the sum of the cross-entropies of the others.
    """
    k = reading.mean.shape[1]
    total = sliders.new_zeros(())
    if k:
        logvar = reading.logvar.float().clamp(NARROWEST, WIDEST)
        apart = (sliders[:, :k] - reading.mean.float()).square()
        total = total + 0.5 * (apart * (-logvar).exp() + logvar + math.log(2 * math.pi)).sum(1).mean()
    for logits in reading.logits:
        block = sliders[:, k : k + logits.shape[1]]
        total = total + functional.cross_entropy(logits.float(), block.argmax(1))
        k += logits.shape[1]
    return total


def style_loss(mean: Tensor, logvar: Tensor) -> Tensor:
    """Divergence of the global style from a standard normal, `(N, S)` each, the mean over all (equation 1.6)."""
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def total_variation(image: Tensor, region: Tensor) -> Tensor:
    """Absolute differences of a pixel of the region to the next one right and below, their mean (equation 2.10).

    Args:
        image: `(N, 3, H, W)`; region: `(N, 1, H, W)` of 0 and 1; pixels in the last row or column have one neighbour.
    """
    right = (image[..., :, 1:] - image[..., :, :-1]).abs() * region[..., :, :-1]
    below = (image[..., 1:, :] - image[..., :-1, :]).abs() * region[..., :-1, :]
    return (right.sum() + below.sum()) / (image.shape[1] * region.sum()).clamp(min=1)
