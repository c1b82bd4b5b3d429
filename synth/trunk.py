"""The convolutional trunk after VGG-19 that SIMS' networks share: up to six levels, each half the size of the last."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from .layers import blocks, channels

Pooling = Literal["average", "max"]

CHANNELS = (64, 128, 256, 512, 512, 512)
"""Of each level at width 1; a narrower trunk scales them, a shallower one takes the first."""
CONVOLUTIONS = (2, 2, 3, 3, 3, 3)
"""Of each level (SIMS, section 5.1; the sixth is that of the released code)."""


def trunk_channels(width: float, levels: int) -> list[int]:
    """Channels of each level, finest first."""
    return [channels(full, width) for full in CHANNELS[:levels]]


class Trunk(nn.Module):
    """Levels of 3x3 convolutions, layer normalisation and leaky ReLU, each with a 3x3 pool of stride 2 behind it.

    Args:
        inputs: channels; width: multiplies `CHANNELS`; levels: at most six; pooling: of all levels but the first,
            which averages (SIMS' code).
    """

    def __init__(self, inputs: int, width: float, levels: int, pooling: Pooling = "average") -> None:
        super().__init__()
        outputs = trunk_channels(width, levels)
        before = [inputs, *outputs]
        each = zip(before, outputs, CONVOLUTIONS, strict=False)
        self.outputs = outputs
        self.levels = nn.ModuleList(blocks(own, out, count) for own, out, count in each)
        self.pools = nn.ModuleList(_pool("average" if i == 0 else pooling) for i in range(levels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """`(N, inputs, H, W)` to the pooled features of each level, finest first: half the size, a quarter, ..."""
        pooled = []
        for level, pool in zip(self.levels, self.pools, strict=True):
            image = pool(level(image))
            pooled.append(image)
        return pooled


def _pool(kind: Pooling) -> nn.Module:
    if kind == "max":
        return nn.MaxPool2d(3, 2, padding=1)
    return nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)
