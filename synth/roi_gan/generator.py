"""The generator of RoI-GAN: a picture, a region of it, noise and sliders to a picture of which the region is new.

    picture without the region, region -> gated convolutions -> mean, deviation of the global style
    noise, sliders -> dense layers -> times deviation plus mean = style -> pixel shuffle -> upsample blocks -> picture

Every upsample block sees the region, the style, and the encoder's features of its size (thesis, section 3.5).

With `copies` the picture is not made from nothing: what the nearest known pixels say is copied into the region in eight
ways, the decoder weighs these at every pixel and adds what they lack, which is nothing at first; with `textures` also
details of what is around, which copies smooth away. With `tints` the continuous sliders add to the picture what `tints`
describes. Those that do not, and choices, are seen by every block as they are beside the style: in the thesis they
reach it through the dense layers alone, where ten of them are a fiftieth of what 146 numbers of noise are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..inpainting.directions import FILLS, Found, depth, fills, nearest_known, nearness, textures
from ..inpainting.membrane import check_blend, corrected
from ..layers import LEAK, channels, in_precision
from .blocks import HIDDEN, MULTIPLE, FourierBlock, GatedConvolution, UpsampleBlock, Wrap, wrap_of
from .tints import FADE, Tints

RESOLUTIONS = (64, 128, 256)
ENCODER, WIDEST = 8, 128
"""Channels of the encoder's first level at width 1, which double from level to level up to the widest."""
DECODER = (100, 64)
"""Channels behind the first upsample block, and behind all others."""
STYLE, STYLE_SIDE = 256, 4
"""Length of the style at width 1; pixel shuffling makes a square of this side of it."""
DENSE = 3
"""Layers that noise and sliders go through."""
GAIN = 8.0
"""Times the sliders where a block sees them, so that they begin with a share of the picture that can be read."""
MIXED = 16
"""Channels behind the layer that sees decoder and copies, at least; twice the decoder's last ones at width 1."""
GRAIN = 0.5
"""Of networks trained from now on, see `grained`."""
FIRST, FIRST_COPY = "nearest", 3.0
"""The copy that a training begins with, and the logit that it has more than the others at first."""
PUBLISHED_CATEGORIES = (10,) * 10
"""Choices of the categorical sliders of the released code; the thesis finds no effect of them."""


@dataclass(frozen=True)
class RoiConfig:
    """How a generator is built.

    Attributes:
        resolution: rows and columns of the pictures, one of `RESOLUTIONS`.
        width: multiplies the channel counts of the released code.
        noise: numbers without a meaning, Z; sliders: continuous ones, in [-1, 1].
        categories: choices of each categorical slider, none by default.
        published: build it as the released code runs, dead halves included: the outer branch of every upsample block
            reads its raw input, two denormalisations a block are never called, the RGB picture is normalised, dense
            layers by the batch, and the encoder sees the region as white pixels alone.
        fourier: a Fourier block behind the second upsample block.
        spectral: spectral normalisation of every layer; equalised: an equalised learning rate (equation 3.20).
        blend: over how many sides of the picture the correction of the region's border fades, 0 for none (see
            `membrane.corrected`); neither thesis nor code has one.
        copies: begin with what the nearest known pixels say, and learn to weigh it and what it lacks.
        textures: with copies, add mirrored details of what is around as well, see `directions.textures`.
        tints: sliders add light, colours and contrast to the region, see `Tints`.
        grain: with textures, how much of each is added in evaluation mode whatever the decoder says, see `grained`.
    """

    resolution: int = 64
    width: float = 1.0
    noise: int = 146
    sliders: int = 10
    categories: tuple[int, ...] = ()
    published: bool = False
    fourier: bool = False
    spectral: bool = False
    equalised: bool = False
    blend: float = 0.0
    copies: bool = False
    tints: bool = False
    textures: bool = False
    grain: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f"resolution {self.resolution} instead of one of {', '.join(map(str, RESOLUTIONS))}")
        if self.noise < 1 or self.sliders < 0 or any(choices < 2 for choices in self.categories):
            raise ValueError("noise of at least 1, sliders of at least 0, and 2 choices or more a category")
        if self.published and (self.copies or self.tints):
            raise ValueError("the released code has neither copies nor tints")
        if self.textures and not self.copies:
            raise ValueError("textures are added to copies")
        if not 0 <= self.grain <= 1 or (self.grain and not self.textures):
            raise ValueError("grain of 0 to 1, and 0 without textures")
        check_blend(self.blend)

    @property
    def n_sliders(self) -> int:
        """K: the continuous sliders, then a one-hot block for each categorical one."""
        return self.sliders + sum(self.categories)

    @property
    def n_levels(self) -> int:
        """Halvings of the encoder, which ends at 2x2."""
        return int(math.log2(self.resolution)) - 1


def drawn_by_he(layer: nn.Module) -> None:
    """Draws the weights of a layer as the released code does (He et al. 2015)."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight)


def completed(image: Tensor, region: Tensor, raw: Tensor) -> Tensor:
    """The raw picture inside the region, the image itself outside, untouched to the bit (equation 3.9).

    Args:
        image, raw: `(N, 3, H, W)`; region: `(N, 1, H, W)`, 1 inside.
    """
    return torch.where(region > 0.5, raw.to(image.dtype), image)


class RoiGenerator(nn.Module):
    """Makes the region of a picture anew, as noise and sliders say."""

    def __init__(self, config: RoiConfig) -> None:
        super().__init__()
        self.config = config
        wrap, published, width = wrap_of(config.spectral, config.equalised), config.published, config.width
        down = [channels(min(ENCODER << level, WIDEST), width, MULTIPLE) for level in range(config.n_levels)]
        seen = 3 if published else 7 if config.copies else 4
        self.encoder = nn.ModuleList(
            GatedConvolution(own, out, wrap, normalise=level > 0, published=published)
            for level, (own, out) in enumerate(zip([seen, *down], down, strict=False))
        )
        self.style = channels(STYLE, width, STYLE_SIDE**2)
        self.to_mean = wrap(nn.Linear(down[-1] * 4, self.style))
        self.to_logvar = wrap(nn.Linear(down[-1] * 4, self.style))
        dense = [config.noise + config.n_sliders, *[self.style] * DENSE]
        self.dense = nn.Sequential(
            *(
                nn.Sequential(wrap(nn.Linear(own, out)), _normalised(out, published), nn.LeakyReLU(LEAK))
                for own, out in pairwise(dense)
            )
        )
        up = [channels(DECODER[min(level, 1)], width, MULTIPLE) for level in range(config.n_levels - 1)]
        hidden = channels(HIDDEN, width, MULTIPLE)
        before = [self.style // STYLE_SIDE**2, *up]
        told = 0 if published else sum(config.categories) if config.tints else config.n_sliders
        control = self.style + told
        self.decoder = nn.ModuleList(
            UpsampleBlock(own + skip, out, hidden, control, wrap, published)
            for own, skip, out in zip(before, down[-2::-1], up, strict=False)
        )
        self.fourier = FourierBlock(up[1], wrap) if config.fourier else None
        last = up[-1]
        self.to_image = (
            Copies(last, width, wrap, config.textures) if config.copies else wrap(nn.Conv2d(last, 3, 3, padding=1))
        )
        self.tints = Tints(config.sliders) if config.tints else None
        if published:
            self.apply(drawn_by_he)

    @overload
    def forward(self, image: Tensor, region: Tensor, z: Tensor, sliders: Tensor) -> Tensor: ...
    @overload
    def forward(
        self, image: Tensor, region: Tensor, z: Tensor, sliders: Tensor, *, styled: Literal[True]
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def forward(
        self, image: Tensor, region: Tensor, z: Tensor, sliders: Tensor, *, styled: bool = False
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """The raw picture, its region corrected where the configuration says so; `completed` puts the image's own
        pixels around the region. In evaluation mode it has `grained` details on top.

        Args:
            image: `(N, 3, H, W)` in [-1, 1], at the configuration's resolution; nothing inside the region is seen.
            region: `(N, 1, H, W)` of 0 and 1, 1 where the picture is to be made anew.
            z: `(N, Z)` standard normal noise; sliders: `(N, K)`, continuous ones in [-1, 1], then one-hot choices.
            styled: also the `(N, S)` mean and logarithmic variance of the picture's global style.

        Returns:
            `(N, 3, H, W)` in [-1, 1].
        """
        config = self.config
        found = nearest_known(image, region) if config.copies or config.tints else None
        copies = fills(image, region, found) if config.copies and found is not None else []
        inwards = None if found is None else depth(found)
        levels = self._encoded(image, region, copies)
        flat = levels[-1].flatten(1)
        mean, logvar = self.to_mean(flat), self.to_logvar(flat)
        style = self.dense(torch.cat([z, sliders], 1)) * (logvar / 2).exp() + mean
        told = sliders[:, config.sliders :] if config.tints and config.categories else sliders
        apart = config.published or (config.tints and not config.categories)
        control = style if apart else torch.cat([style, GAIN * told], 1)
        x = functional.pixel_shuffle(style[:, :, None, None], STYLE_SIDE)
        for level, block in enumerate(self.decoder):
            x = functional.leaky_relu(block(torch.cat([x, levels[-2 - level]], 1), region, control), LEAK)
            if level == 1 and self.fourier is not None:
                x = self.fourier(x)
        if config.copies and found is not None:
            details = textures(image, region, found) if config.textures else []
            raw = self.to_image(x, region, copies, found, details)
            if config.grain and not self.training and inwards is not None:
                raw = grained(raw, region, details, inwards, config.grain)
        else:
            raw = self.to_image(x)
            raw = (functional.instance_norm(raw) if config.published else raw).tanh()
        if config.blend:
            raw = corrected(image, region, raw, config.blend * config.resolution)
        if self.tints is not None and inwards is not None:
            continuous = sliders[:, : config.sliders] if config.categories else sliders
            raw = self.tints(in_precision(raw, torch.float32), region, continuous, inwards)
        raw = in_precision(raw, image.dtype) if config.blend or config.copies or config.tints else raw
        return (raw, mean, logvar) if styled else raw

    def _encoded(self, image: Tensor, region: Tensor, copies: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's features of each level, finest first; it sees the copies by rows and columns, or white."""
        if copies:
            x = torch.cat([*(in_precision(each, image.dtype) for each in copies[:2]), region], 1)
        else:
            x = image * (1 - region) + region
            x = x if self.config.published else torch.cat([x, region], 1)
        levels = []
        for convolution in self.encoder:
            x = convolution(x)
            levels.append(x)
        return levels


class Copies(nn.Module):
    """Weighs the copies of `FILLS` at every pixel and adds what they lack, inside the region alone.

    Args:
        inputs: channels of the decoder; width: of the network; textured: it also adds so much, of either sign, of each
            of the two `textures`, which gives back what interpolation smooths away; none at first.
    """

    def __init__(self, inputs: int, width: float, wrap: Wrap, textured: bool) -> None:
        super().__init__()
        mixed, seen = max(MIXED, channels(2 * DECODER[1], width, MULTIPLE)), 3 * len(FILLS) + 4
        self.mix = wrap(nn.Conv2d(inputs + seen + (6 if textured else 0), mixed, 3, padding=1))
        self.weigh, self.add = nn.Conv2d(mixed, len(FILLS), 3, padding=1), nn.Conv2d(mixed, 3, 3, padding=1)
        self.roughen = nn.Conv2d(mixed, 2, 3, padding=1) if textured else None
        silent = [self.weigh, self.add, *([] if self.roughen is None else [self.roughen])]
        for layer in silent:  # neither layer is wrapped: one of zeros has no norm to divide by
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            assert self.weigh.bias is not None
            self.weigh.bias[FILLS.index(FIRST)] = FIRST_COPY

    def forward(
        self,
        x: Tensor,
        region: Tensor,
        copies: Sequence[Tensor],
        found: Sequence[Found],
        details: Sequence[Tensor] = (),
    ) -> Tensor:
        """To `(N, 3, H, W)` in [-1, 1].

        Args:
            x: `(N, inputs, H, W)`; copies, found, details: what `fills`, `nearest_known` and `textures` returned.
        """
        seen = torch.cat([*copies, nearness(found), *details], 1)
        x = functional.leaky_relu(self.mix(torch.cat([x, in_precision(seen, x.dtype)], 1)), LEAK)
        weights = in_precision(self.weigh(x), torch.float32).softmax(1)
        raw = in_precision(self.add(x), torch.float32)
        for number, copy in enumerate(copies):
            raw = raw + weights[:, number : number + 1] * copy
        if self.roughen is not None:
            gains = in_precision(self.roughen(x), torch.float32)
            for number, detail in enumerate(details):
                raw = raw + gains[:, number : number + 1] * detail
        return torch.where(region > 0.5, raw.clamp(-1, 1), copies[0])


def grained(raw: Tensor, region: Tensor, details: Sequence[Tensor], inwards: Tensor, grain: float) -> Tensor:
    """The picture with the details that losses of nearness smooth away: so much of each, less towards the border.

    Differences of pixels and features are least for the mean of what may be there, which has no details; mirrored ones
    look right and are nearly as near. In training they are left out: the decoder would learn to take them off again.

    Args:
        raw: `(N, 3, H, W)` float32 in [-1, 1]; region: `(N, 1, H, W)` of 0 and 1.
        details: what `textures` returned; inwards: `(N, 1, H, W)` of `directions.depth`.

    Returns:
        the same, within [-1, 1]; outside the region it is `raw`.
    """
    share = grain * (inwards / FADE).clamp(max=1)
    added = raw
    for detail in details:
        added = added + share * detail
    return torch.where(region > 0.5, added.clamp(-1, 1), raw)


def _normalised(features: int, by_batch: bool) -> nn.Module:
    """Of dense layers: each sample by itself, so that pictures do not depend on their neighbours."""
    return nn.BatchNorm1d(features) if by_batch else nn.LayerNorm(features)
