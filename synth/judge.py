"""The judge: a parser of photographs for evaluation alone, of another build than the features that the loss compares.

Residual blocks of strided, then dilated convolutions, context at several dilations as in DeepLab (Chen et al. 2017),
and its cells of eight pixels joined with those of two and four, without which poles and signs are not seen (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import channels

STAGES = ((64, 2, 1), (128, 2, 1), (256, 1, 2), (256, 1, 4))
"""Channels at width 1, stride and dilation of each stage of two residual blocks, after a stem of stride 2."""
CONTEXT = (1, 3, 6)
"""Dilations of the context, in cells of 8 pixels."""
GROUP = 8
"""Channels a group of the normalisation."""
FEATURES = 64
"""What logits are read from has a multiple of this many channels, and this many up to width 1/4."""


@dataclass(frozen=True)
class JudgeConfig:
    """How a judge is built.

    Attributes:
        n_classes: it tells apart; width: of its channels.
        fine: whether it reads cells of two pixels, and its features are of every layer; those of before read eight,
            and had means of the last layer, which hardly sees that a picture is blurred.
    """

    n_classes: int
    width: float = 1.0
    fine: bool = False


class JudgeNetwork(nn.Module):
    """Parses photographs at an eighth of their size, or with `fine` at half of it, and enlarges the logits."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        before = channels(64, config.width)
        self.stem = _convolution(3, before, 5, stride=2)
        stages: list[nn.Module] = []
        for full, stride, dilation in STAGES:
            out = channels(full, config.width)
            stages += [_Residual(before, out, stride, dilation), _Residual(out, out, 1, dilation)]
            before = out
        self.stages = nn.Sequential(*stages)
        self.context = nn.ModuleList(_convolution(before, before, 3, dilation=each) for each in CONTEXT)
        self.whole = nn.Linear(before, before)
        read = FEATURES * max(1, round(4 * config.width))
        self.feature_size = read
        self.join = _convolution(before * (len(CONTEXT) + 1), read, 1)
        if config.fine:
            layers = [channels(64, config.width), *(channels(full, config.width) for full, *_ in STAGES)]
            near = sum(layers[:2])
            self.near = _convolution(near, near, 1)
            self.refine = nn.Sequential(_convolution(read + near, read, 3), _convolution(read, read, 3))
            self.feature_size = 2 * (sum(layers) + read)
        self.to_logits = nn.Conv2d(read, config.n_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] to `(N, C, H, W)` logits."""
        return self.judged(images)[0]

    def judged(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` and `features` return, computed together."""
        layers = self.layers(images)
        cells = self._cells(layers)
        return _grown(self.to_logits(cells), images), self._described(layers, cells)

    def features(self, images: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] to `(N, feature_size)`: means over pixels, and deviations, of what it sees.

        With `fine` of every layer: means of the last one alone say what a picture shows, hardly how sharply. Without,
        means of what the logits are read from.
        """
        layers = self.layers(images)
        return self._described(layers, self._cells(layers))

    def layers(self, images: Tensor) -> list[Tensor]:
        """`(N, 3, H, W)` in [-1, 1] to the activations behind the stem and behind each stage, finest first."""
        found = [self.stem(images)]
        for block in self.stages:
            found.append(block(found[-1]))
        return found[::2]

    def _described(self, layers: Sequence[Tensor], cells: Tensor) -> Tensor:
        if not self.config.fine:
            return cells.mean((2, 3))
        seen = [*layers, cells]
        deviations = [each.std((2, 3), correction=0) for each in seen]
        return torch.cat([*(each.mean((2, 3)) for each in seen), *deviations], 1)

    def _cells(self, layers: Sequence[Tensor]) -> Tensor:
        """What the logits are read from."""
        stem, early, *_, cells = layers
        whole = functional.relu(self.whole(cells.mean((2, 3))))[..., None, None].expand_as(cells)
        joined: Tensor = self.join(torch.cat([*(each(cells) for each in self.context), whole], 1))
        if not self.config.fine:
            return joined
        near = self.near(torch.cat([stem, _grown(early, stem)], 1))
        refined: Tensor = self.refine(torch.cat([_grown(joined, stem), near], 1))
        return refined


def _grown(cells: Tensor, finer: Tensor) -> Tensor:
    """Enlarged to the size of another one."""
    return functional.interpolate(cells, finer.shape[-2:], mode="bilinear", align_corners=False)


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride, dilation)
        self.second = _convolution(outputs, outputs, 3, dilation=dilation, active=False)
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else _convolution(inputs, outputs, 1, stride, active=False)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.skip(features) + self.second(self.first(features)))


def _convolution(
    inputs: int, outputs: int, side: int, stride: int = 1, dilation: int = 1, *, active: bool = True
) -> nn.Sequential:
    padding = dilation * (side - 1) // 2
    layer = nn.Conv2d(inputs, outputs, side, stride, padding, dilation, bias=False)
    activation = [nn.ReLU()] if active else []
    return nn.Sequential(layer, nn.GroupNorm(outputs // GROUP, outputs), *activation)
