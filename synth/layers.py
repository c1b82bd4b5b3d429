"""Layers that several networks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

LEAK = 0.2
"""Slope of the leaky ReLU below zero, in every network of CRN and SIMS."""


class ConvBlock(nn.Sequential):
    """3x3 convolution, layer normalisation, leaky ReLU: `(N, in, H, W)` to `(N, out, H, W)`.

    The papers' layer normalisation is joint over channels and pixels of a sample, with an affine map a channel: group
    normalisation with one group. Epsilon is 1e-5, which half precision can hold, where the original has 1e-12.
    """

    def __init__(self, inputs: int, outputs: int, *, normalise: bool = True, dilation: int = 1) -> None:
        norm = [nn.GroupNorm(1, outputs, eps=1e-5)] if normalise else []
        convolution = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        super().__init__(convolution, *norm, nn.LeakyReLU(LEAK))


def blocks(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """`count` blocks, the first from `inputs` channels, all to `outputs`."""
    return nn.Sequential(*(ConvBlock(inputs if i == 0 else outputs, outputs) for i in range(count)))


def enlarged(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners aligned, as CRN and SIMS enlarge feature maps."""
    return functional.interpolate(features, size, mode="bilinear", align_corners=True)


def averaged(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrunk by area averaging: of a one-hot layout, the share of each class in each cell (CRN)."""
    return functional.adaptive_avg_pool2d(image, size)


def channels(full: int, width: float, multiple: int = 8) -> int:
    """A channel count times the width multiplier, in whole eights, at least one of them."""
    return max(multiple, round(full * width / multiple) * multiple)


def in_precision(x: Tensor, dtype: torch.dtype) -> Tensor:
    """In a precision; itself where that is its own, for which an exported graph would have an operator too."""
    return x if x.dtype == dtype else x.to(dtype)


def recomputed(work: Callable[..., Tensor], *inputs: Tensor | None, yes: bool = True) -> Tensor:
    """`work(*inputs)`; with `yes` nothing in between is kept for the backward pass, which computes it once more.

    What is computed must draw no random numbers.
    """
    if not yes or not torch.is_grad_enabled():
        return work(*inputs)
    found: Tensor = checkpoint(work, *inputs, use_reentrant=False, preserve_rng_state=False)
    return found


def n_parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def is_finite(value: Tensor) -> bool:
    """Whether no entry is NaN or infinite."""
    return bool(torch.isfinite(value).all())
