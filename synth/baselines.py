"""What CRN is compared with (Chen and Koltun 2017, section 4): bodies of other build, and a discriminator.

Every body takes a layout `(N, inputs, H, W)` to features `(N, outputs, H, W)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import LEAK, ConvBlock, blocks, channels, recomputed
from .refinement import Cascade

UNET = (64, 128, 256, 512, 1024)
"""Channels of each level of the u-net (Ronneberger et al. 2015), finest first."""
LAYERS, LAYER_CHANNELS = 10, 256
"""Of the full-resolution network."""
STRIDED = (64, 128, 256, 512, 512, 512, 512, 512)
"""Channels behind each halving of pix2pix's generator (Isola et al. 2017), finest first."""
WHOLE_HALVINGS = 5
"""Of the discriminator of whole pictures, which leaves eight cells of 256 rows."""
DROPPED = 3
"""Coarsest layers of its decoder with dropout, which is its noise."""


class EncoderDecoder(nn.Module):
    """The u-net: blocks and pools down, a cascade on the encoder's features up.

    Convolutions, normalisation, and bilinear enlargement are CRN's, so that only the shape of the network differs.
    """

    recompute = False

    def __init__(self, inputs: int, width: float) -> None:
        super().__init__()
        each = [channels(full, width) for full in UNET]
        self.outputs = each[0]
        self.encoder = nn.ModuleList(blocks(own, out, 2) for own, out in zip([inputs, *each], each[:-1], strict=False))
        self.decoder = Cascade([*each[:-1], each[-2]], each)

    def forward(self, layout: Tensor) -> Tensor:
        """`(N, inputs, H, W)` to `(N, outputs, H, W)`."""
        levels, features = [], layout
        for block in self.encoder:
            levels.append(recomputed(block, features, yes=self.recompute))
            features = functional.max_pool2d(levels[-1], 2)
        found: Tensor = self.decoder([*levels, features])
        return found


class FullResolution(nn.Module):
    """Ten layers at full size: dilation begins at half the rows and is halved from layer to layer, down to 1.

    CRN's counterpart that dilates filters instead of shrinking features, after Yu and Koltun (2016), turned around.
    """

    recompute = False

    def __init__(self, inputs: int, width: float, rows: int) -> None:
        super().__init__()
        self.outputs = channels(LAYER_CHANNELS, width)
        before = [inputs, *[self.outputs] * (LAYERS - 1)]
        self.layers = nn.ModuleList(
            ConvBlock(own, self.outputs, dilation=dilation)
            for own, dilation in zip(before, dilations(rows), strict=True)
        )

    def forward(self, layout: Tensor) -> Tensor:
        """`(N, inputs, H, W)` to `(N, outputs, H, W)`."""
        features = layout
        for layer in self.layers:
            features = recomputed(layer, features, yes=self.recompute)
        return features


def dilations(rows: int) -> list[int]:
    """Of each layer: the largest power of two up to half the rows, its half, and so on; 128 to 1 for 256 rows."""
    first = 1 << (rows // 2).bit_length() - 1
    return [max(1, first >> layer) for layer in range(LAYERS)]


class StridedGenerator(nn.Module):
    """Pix2pix's generator: 4x4 convolutions of stride 2 down, transposed ones up, joined level by level.

    The last layer is at full size; the projection to colours comes behind it. Without `skips` it is an encoder and a
    generator as in DCGAN (Radford et al. 2016). Statistics are of each picture by itself, as batches of one have them,
    so that pictures do not depend on their neighbours. Dropout, the noise of pix2pix, is drawn in training alone: what
    is painted must come out the same again.

    Args:
        size: `(rows, cols)`; it goes on halving as long as both are even, eight times at most.
    """

    def __init__(self, inputs: int, width: float, size: tuple[int, int], *, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        each = [channels(full, width) for full in STRIDED[: _halvings(size)]]
        self.outputs = each[0]
        last = len(each) - 1
        # the first and the coarsest are not normalised: the coarsest may have a single cell
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(own, out, 4, 2, 1), *_normalised(out, 0 < i < last))
            for i, (own, out) in enumerate(zip([inputs, *each], each, strict=False))
        )
        back = [each[0], *each[:-1]]  # out of each level's decoder, finest first
        joined = [out * (2 if skips and i < last else 1) for i, out in enumerate(each)]
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(own, out, 4, 2, 1),
                *_normalised(out, True),
                *([nn.Dropout(0.5)] if skips and i > last - DROPPED else []),
            )
            for i, (own, out) in enumerate(zip(joined, back, strict=True))
        )

    def forward(self, layout: Tensor) -> Tensor:
        """`(N, inputs, H, W)` to `(N, outputs, H, W)`."""
        levels, features = [], layout
        for i, down in enumerate(self.down):
            features = down(functional.leaky_relu(features, LEAK) if i else features)
            levels.append(features)
        for i in reversed(range(len(self.up))):
            joined = torch.cat([features, levels[i]], 1) if self.skips and i < len(self.up) - 1 else features
            features = self.up[i](functional.relu(joined))
        return functional.relu(features)


@dataclass(frozen=True)
class WholeConfig:
    """How a discriminator of whole pictures is built: their `(rows, cols)`, and the `width` of its channels."""

    size: tuple[int, int]
    width: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))


class WholeDiscriminator(nn.Module):
    """DCGAN's discriminator: strided convolutions to one score of a whole picture, high for real."""

    def __init__(self, config: WholeConfig) -> None:
        super().__init__()
        self.config = config
        size = config.size
        each = [channels(full, config.width) for full in STRIDED[: min(WHOLE_HALVINGS, _halvings(size))]]
        layers: list[nn.Module] = []
        for i, (own, out) in enumerate(zip([3, *each], each, strict=False)):
            layers += [nn.Conv2d(own, out, 4, 2, 1), *_normalised(out, i > 0), nn.LeakyReLU(LEAK)]
        self.layers = nn.Sequential(*layers)
        cells = (size[0] >> len(each)) * (size[1] >> len(each))
        self.to_score = nn.Linear(each[-1] * cells, 1)

    def forward(self, image: Tensor, layout: Tensor) -> Tensor:
        """`(N, 3, H, W)` in [-1, 1] to `(N, 1)` scores; the layout, which others look at, is not looked at."""
        score: Tensor = self.to_score(self.layers(image).flatten(1))
        return score


def _normalised(outputs: int, yes: bool) -> list[nn.Module]:
    return [nn.GroupNorm(outputs, outputs)] if yes else []


def _halvings(size: tuple[int, int]) -> int:
    """How often both sides can be halved exactly, as far as `STRIDED` goes."""
    return next(n for n in range(len(STRIDED), -1, -1) if not any(side % (1 << n) for side in size))
