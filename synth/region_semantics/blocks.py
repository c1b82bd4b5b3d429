"""Residual blocks of generators and critics, without normalisation but where a critic asks for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

BRANCHES = 0.5
"""Of the weights of a block's last convolution at first: without normalisation the variance must not double a block."""


class BeganBlock(nn.Module):
    """ELU, 3x3 to twice the channels, ELU, 3x3 back, and the input added: `(B, C, H, W)` to the same."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(features, 2 * features, 3, padding=1)
        self.branch = nn.Conv2d(2 * features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Of features that are not activated yet."""
        found: Tensor = x + self.branch(functional.elu(self.widen(functional.elu(x))))
        return found


class UpBlock(nn.Module):
    """Twice the size: ReLU, doubled, 3x3, ReLU, 3x3, and the input added (pre-activation).

    `(B, inputs, h, w)` to `(B, outputs, 2 h, 2 w)`. It is doubled bilinearly: with nearest neighbours, as in the
    released code, a narrow generator shows the squares of its coarsest features for its first hundreds of steps.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.branch = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Of features that are not activated yet."""
        branch = self.convolution(doubled(functional.relu(x)))
        found: Tensor = doubled(self.shortcut(x)) + self.branch(functional.relu(branch))
        return found


class DownBlock(nn.Module):
    """Half the size: layer normalisation, ReLU, 3x3, the same again, mean of 2x2, and the input added.

    `(B, inputs, h, w)` to `(B, outputs, h / 2, w / 2)`. Layer normalisation is joint over channels and pixels of a
    picture: a gradient penalty is a picture's own, so that a critic may not mix those of a batch (WGAN-GP, section 4).

    Args:
        normalise: without it there is none.
    """

    def __init__(self, inputs: int, outputs: int, *, normalise: bool = True) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(1, inputs) if normalise else nn.Identity() for _ in range(2))
        self.convolution = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.branch = HalvingConvolution(inputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Of features that are not activated yet."""
        first, second = self.norms
        branch = self.convolution(functional.relu(first(x)))
        branch = self.branch(functional.relu(second(branch)))
        found: Tensor = self.shortcut(functional.avg_pool2d(x, 2)) + branch
        return found


class HalvingConvolution(nn.Conv2d):
    """A 3x3 convolution and the mean of each 2x2 of what it gives, as one 4x4 convolution of stride 2.

    It is the same up to rounding, with less than half of the multiplications.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, h, w)`, both even, to `(B, outputs, h / 2, w / 2)`."""
        wide = functional.pad(self.weight, (1, 1, 1, 1))
        summed = wide[..., 1:, 1:] + wide[..., :-1, 1:] + wide[..., 1:, :-1] + wide[..., :-1, :-1]
        return functional.conv2d(x, summed / 4, self.bias, stride=2, padding=1)


def doubled(x: Tensor) -> Tensor:
    """Bilinearly: `(B, C, h, w)` to `(B, C, 2 h, 2 w)`."""
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


@torch.no_grad()
def initialised(network: nn.Module) -> None:
    """Weights as He et al. (2015) draw them, biases of zero, a block's last convolution smaller; in place."""
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        fan_in = math.prod(module.weight.shape[1:])
        followed = not name.endswith("shortcut") and isinstance(module, nn.Conv2d)  # a ReLU goes before it
        scale = BRANCHES if name.endswith("branch") else 1.0
        module.weight.normal_(0, scale * math.sqrt((2 if followed else 1) / fan_in))
        if module.bias is not None:
            module.bias.zero_()
