"""Globally and locally consistent completion (Iizuka et al. 2017): what RoI-GAN is compared with.

Strided convolutions to a quarter of the size, dilated ones there, and back; two discriminators that look at the whole
picture and at a window about the region, joined in one score.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .inpainting.membrane import check_blend, corrected
from .layers import LEAK, ConvBlock, blocks, channels, in_precision

WIDE = 256
"""Channels at a quarter of the size."""
DILATIONS = (2, 4, 8, 16)
HALVING = (64, 128, 256, 512, 512)
"""Channels of the discriminators behind each halving, the last of them as often as it takes to reach 4x4."""
JOINED = 1024


@dataclass(frozen=True)
class GlcicConfig:
    """How a completion network is built: the `resolution` of its pictures, and the `width` of its channels.

    `blend`: over how many sides of the picture the correction of the region's border fades, 0 for none. The paper
    blends what a trained network makes (section 3.5); here it is part of the network, and trained with.
    """

    resolution: int = 64
    width: float = 1.0
    blend: float = 0.0

    def __post_init__(self) -> None:
        check_blend(self.blend)


class GlcicNetwork(nn.Module):
    """Completes the region of a picture, in one way: noise and sliders are taken and not looked at.

    Statistics are of each picture by itself (layer normalisation) where the paper has those of the batch.
    """

    def __init__(self, config: GlcicConfig) -> None:
        super().__init__()
        self.config = config
        fine, half, wide, last = (channels(full, config.width) for full in (64, 128, WIDE, 32))
        self.layers = nn.Sequential(
            nn.Conv2d(4, fine, 5, padding=2), nn.GroupNorm(1, fine), nn.LeakyReLU(LEAK),
            *_halved(fine, half), ConvBlock(half, half), *_halved(half, wide), *blocks(wide, wide, 2),
            *(ConvBlock(wide, wide, dilation=each) for each in DILATIONS),
            *blocks(wide, wide, 2),
            *_doubled(wide, half), ConvBlock(half, half), *_doubled(half, fine), ConvBlock(fine, last),
            nn.Conv2d(last, 3, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, image: Tensor, region: Tensor, z: Tensor, sliders: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] and `(N, 1, H, W)` of 0 and 1 to the raw picture `(N, 3, H, W)` in [-1, 1]."""
        raw: Tensor = self.layers(torch.cat([image * (1 - region), region], 1))
        if self.config.blend:
            reach = self.config.blend * self.config.resolution
            raw = in_precision(corrected(image, region, raw, reach), image.dtype)
        return raw


class GlcicDiscriminator(nn.Module):
    """One score of a picture: of the whole, and of a window of half its size about the middle of the region."""

    def __init__(self, config: GlcicConfig) -> None:
        super().__init__()
        self.config, side = config, config.resolution
        self.whole, self.window = _Judge(3 + 1, side, config.width), _Judge(3, side // 2, config.width)
        self.to_score = nn.Linear(2 * self.whole.outputs, 1)

    def forward(self, image: Tensor, region: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] and its region to `(N, 1)` logits, high for real."""
        whole, window = self.whole(torch.cat([image, region], 1)), self.window(windows(image, region))
        score: Tensor = self.to_score(torch.cat([whole, window], 1))
        return score


def windows(image: Tensor, region: Tensor) -> Tensor:
    """`(N, C, H / 2, W / 2)`: the window about the middle of each region's pixels, moved into the picture."""
    rows, cols = image.shape[-2] // 2, image.shape[-1] // 2
    found = []
    for picture, inside in zip(image, region[:, 0] > 0.5, strict=True):
        middle = inside.nonzero().float().mean(0)
        top = int((middle[0] - rows / 2).round().clamp(0, image.shape[-2] - rows))
        left = int((middle[1] - cols / 2).round().clamp(0, image.shape[-1] - cols))
        found.append(picture[:, top : top + rows, left : left + cols])
    return torch.stack(found)


class _Judge(nn.Module):
    """5x5 convolutions of stride 2 to a vector."""

    def __init__(self, inputs: int, side: int, width: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for full in [HALVING[min(i, len(HALVING) - 1)] for i in range((side // 4).bit_length() - 1)]:
            out = channels(full, width)
            layers += [nn.Conv2d(inputs, out, 5, 2, 2), nn.GroupNorm(1, out), nn.LeakyReLU(LEAK)]
            inputs = out
        self.outputs = channels(JOINED, width)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * 16, self.outputs), nn.LeakyReLU(LEAK))

    def forward(self, image: Tensor) -> Tensor:
        """`(N, C, side, side)` to `(N, outputs)`."""
        found: Tensor = self.layers(image)
        return found


def _halved(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(1, outputs), nn.LeakyReLU(LEAK)]


def _doubled(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.GroupNorm(1, outputs), nn.LeakyReLU(LEAK)]
