"""The networks that assemble an image from key local patches (Lee et al., ECCV 2018, sections 3.2 to 3.5).

    patches -> one encoder for all -> every level summed over the patches -> mask decoder -> mask
                                            |                  |
    embedding, noise ------------------> image decoder (sees both) -----------------------> image

Layers are those of the released code: 5x5 convolutions of stride 2, and 4x4 ones at the narrowest place. The released
code normalises by the batch; here each patch and each picture is normalised by itself, unless asked for otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from ..layers import LEAK, channels

RESOLUTIONS = (64, 128, 256)
CHANNELS, WIDEST = 64, 512
"""Of the encoder's first level at width 1; they double from level to level up to the widest (the released code)."""
NARROWEST = 4
"""Side of the last level that has one; a 4x4 convolution makes the embedding of it."""
MOST_GROUPS, GROUP = 32, 8
"""Group normalisation has so many groups at most, of so many channels at least."""
SMALLER = 0.625
"""Times the sums of four weights: what comes out is as large as with weights that are not summed."""
EVEN = 2
"""Finest layers of a decoder, which make no chequerboard whatever they learn; their weights are few."""
Norm = Literal["group", "batch"]
Aspect = Literal["stretched", "kept"]
Form = Literal["assembler", "no-mask", "auto-encoder", "conditional-gan"]


@dataclass(frozen=True)
class KeyPatchConfig:
    """How a network is built.

    Attributes:
        resolution: rows and columns of patches and pictures, one of `RESOLUTIONS`.
        width: multiplies the channel counts of the released code.
        noise: numbers that pictures of the same patches differ by; embedding: numbers that patches are summed up in.
        norm: `group`, or the paper's `batch`.
        parts: the most patches of a picture it was trained with.
        aspect: `stretched`: each patch fills its square, as the paper's do; `kept`: each has its own shape there, and
            those of a picture are as large beside one another as they are in it. Nothing of the network depends on it.
        form: `assembler`, the paper's network; `no-mask`: the same without a mask decoder, so that the image decoder
            sees the encoder alone; `auto-encoder`: a decoder of the embedding, without noise or anything else of the
            encoder; `conditional-gan`: a decoder of the embedding and noise (DCGAN's generator).
        usual: whether it knows where a patch usually is, for `views`; of networks with a mask decoder.
    """

    resolution: int = 64
    width: float = 1.0
    noise: int = 128
    embedding: int = 128
    norm: Norm = "group"
    parts: int = 3
    form: Form = "assembler"
    aspect: Aspect = "stretched"
    usual: bool = False

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f"resolution {self.resolution} instead of one of {', '.join(map(str, RESOLUTIONS))}")
        for name, known in (("norm", get_args(Norm)), ("form", get_args(Form)), ("aspect", get_args(Aspect))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} instead of one of {', '.join(known)}")
        if min(self.noise, self.embedding, self.parts) < 1:
            raise ValueError("noise, embedding and parts of at least 1 each")

    @property
    def has_mask(self) -> bool:
        """Whether it says where the patches belong."""
        return self.form == "assembler"

    @property
    def levels(self) -> tuple[int, ...]:
        """Channels of the encoder's levels, finest first; each halves the side, down to `NARROWEST`."""
        count = int(math.log2(self.resolution // NARROWEST))
        return tuple(channels(min(CHANNELS << level, WIDEST), self.width) for level in range(count))


class KeyPatchNetwork(nn.Module):
    """Makes a picture, and a mask of where the patches are in it.

    Attributes:
        usual: `(1, R, R)`, the share of training patches that lie on each pixel, for `views`; None where that is not
            known.
    """

    usual: Tensor | None

    def __init__(self, config: KeyPatchConfig) -> None:
        super().__init__()
        self.config = config
        levels = config.levels
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(own, out, 5, 2, 2), *([_norm(out, config.norm)] if level else []), nn.LeakyReLU(LEAK)
            )
            for level, (own, out) in enumerate(pairwise([3, *levels]))
        )
        self.to_embedding = nn.Conv2d(levels[-1], config.embedding, NARROWEST)
        self.mask_decoder = _Decoder(config, config.embedding, levels, 1) if config.has_mask else None
        skips: tuple[int, ...] = tuple(0 for _ in levels)
        if config.form == "assembler":
            skips = tuple(2 * each for each in levels)  # the mask decoder's own features and the encoder's
        elif config.form == "no-mask":
            skips = levels
        self.register_buffer("usual", torch.zeros(1, *(config.resolution,) * 2) if config.usual else None)
        noise = 0 if config.form == "auto-encoder" else config.noise
        self.image_decoder = _Decoder(config, config.embedding + noise, skips, 3)

    def forward(self, patches: Tensor, present: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """A picture of each set of patches; neither their order nor what stands in place of absent ones matters.

        Args:
            patches: `(B, N, 3, R, R)` in [-1, 1], squares as `config.aspect` says; N may differ from `parts`.
            present: `(B, N)` of 0 and 1: which of them there are.
            z: `(B, noise)` uniform in [-1, 1]; the auto-encoder does not look at it.

        Returns:
            image: `(B, 3, R, R)` in [-1, 1]; mask: `(B, 1, R, R)` in [0, 1], of zeros where there is no mask decoder.
        """
        summed = self._summed(patches, present)
        embedding = self._embedded(summed)
        skips: list[Tensor] = []
        start = embedding if self.config.form == "auto-encoder" else torch.cat([embedding, z], 1)
        if self.mask_decoder is not None:
            logits, skips = self.mask_decoder(embedding, summed[:-1])
            mask = logits.sigmoid()
        else:
            mask = patches[:, 0, :1] * 0.0
            skips = summed[:-1] if self.config.form == "no-mask" else []
        image, _ = self.image_decoder(start, skips)
        return image.tanh(), mask

    def encode(self, patches: Tensor, present: Tensor) -> Tensor:
        """`(B, embedding)`: what the patches, as in `forward`, are summed up in."""
        return self._embedded(self._summed(patches, present))

    def _summed(self, patches: Tensor, present: Tensor) -> list[Tensor]:
        """Every level of the encoder summed over the patches, finest first, and last of all the embedding.

        The paper's sum where as many patches are there as it was trained with; else as large as theirs would be.
        """
        b, n = patches.shape[:2]
        weight = present * (self.config.parts / present.sum(1, keepdim=True).clamp(min=1))
        x, levels = patches.flatten(0, 1), []
        for layer in (*self.encoder, self.to_embedding):
            x = layer(x)
            each = x.unflatten(0, (b, n)) * weight[:, :, None, None, None]
            levels.append(each.sum(1))
        return levels

    def _embedded(self, summed: list[Tensor]) -> Tensor:
        return summed[-1].flatten(1)


class _Decoder(nn.Module):
    """Numbers to pixels: a 4x4 layer, then transposed 5x5 convolutions of stride 2, each seeing what is given to it.

    Args:
        inputs: numbers it begins with; skips: channels that it is given at each level, finest first; outputs: channels.
    """

    def __init__(self, config: KeyPatchConfig, inputs: int, skips: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        own = config.levels[::-1]
        self.start = nn.Sequential(nn.ConvTranspose2d(inputs, own[0], NARROWEST), _norm(own[0], config.norm), nn.ReLU())
        after = [*own[1:], outputs]
        self.layers = nn.ModuleList(
            nn.Sequential(
                (_Even if level >= len(own) - EVEN else _Enlarging)(before + skip, out),
                *([_norm(out, config.norm), nn.ReLU()] if level < len(own) - 1 else []),
            )
            for level, (before, skip, out) in enumerate(zip(own, skips[::-1], after, strict=True))
        )

    def forward(self, numbers: Tensor, skips: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """`(B, outputs, R, R)`, and what went into each layer, finest first.

        Args:
            numbers: `(B, inputs)`; skips: features of each level, finest first, or none.
        """
        x, seen = self.start(numbers[:, :, None, None]), []
        for level, layer in enumerate(self.layers):
            if skips:
                x = torch.cat([x, skips[-1 - level]], 1)
            seen.append(x)
            x = layer(x)
        return x, seen[::-1]


class KeyPatchDiscriminator(nn.Module):
    """Tells photographs from what is none: the encoder's layers, then one score of the whole.

    Spectrally normalised without further normalisation for the hinge loss; as the paper's, with `config.norm` between
    its convolutions but for the first, for the log loss. That of the conditional GAN sees the embedding of the patches
    beside its coarsest features, as that of GAN-CLS sees the embedding of a text (Reed et al. 2016).

    Args:
        spectral: for the hinge loss.
    """

    def __init__(self, config: KeyPatchConfig, *, spectral: bool = True) -> None:
        super().__init__()
        self.config, self.spectral = config, spectral
        layers: list[nn.Module] = []
        for level, (own, out) in enumerate(pairwise([3, *config.levels])):
            convolution: nn.Module = nn.Conv2d(own, out, 5, 2, 2)
            layers.append(spectral_norm(convolution) if spectral else convolution)
            if level and not spectral:
                layers.append(_norm(out, config.norm))
            layers.append(nn.LeakyReLU(LEAK))
        self.trunk = nn.Sequential(*layers)
        condition = config.embedding if config.form == "conditional-gan" else 0
        score: nn.Module = nn.Conv2d(config.levels[-1] + condition, 1, NARROWEST)
        self.score = spectral_norm(score) if spectral else score

    def forward(self, image: Tensor, embedding: Tensor | None = None) -> Tensor:
        """`(B,)` scores, high for photographs, without bounds.

        Args:
            image: `(B, 3, R, R)` in [-1, 1]; embedding: `(B, embedding)` of the patches, of the conditional GAN alone.
        """
        x = self.trunk(image)
        if embedding is not None:
            told = functional.layer_norm(embedding, embedding.shape[1:])  # it grows while the network learns
            x = torch.cat([x, told[:, :, None, None].expand(-1, -1, NARROWEST, NARROWEST)], 1)
        return cast(Tensor, self.score(x)).flatten()


class _Enlarging(nn.ConvTranspose2d):
    """A transposed 5x5 convolution of stride 2, which begins as nearest neighbours and a 4x4 convolution.

    Of random weights, every other pixel would be a sum of more terms than its neighbours, and pictures a chequerboard,
    which short trainings do not get rid of.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 5, 2, 2, 1)
        with torch.no_grad():
            padded = functional.pad(self.weight[..., :4, :4], (1, 1, 1, 1))
            sums = padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]
            self.weight.copy_(SMALLER * sums)


class _Even(_Enlarging):
    """The same, and what is flat stays flat, whatever it learns: each pixel's weights have the sum of its neighbours'.

    Of the weights of every other pixel that the kernel reaches, what their sum is more than the mean is taken away.
    """

    evened: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        rows, cols = torch.meshgrid(torch.arange(5) % 2, torch.arange(5) % 2, indexing="ij")
        same = functional.one_hot((2 * rows + cols).flatten(), 4).float()
        counts = same.sum(0)
        self.register_buffer("evened", torch.eye(25) + (same @ (0.25 - torch.eye(4)) / counts) @ same.T, False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, 2H, 2W)`."""
        weight = (self.weight.flatten(2) @ self.evened).view_as(self.weight)
        return functional.conv_transpose2d(x, weight, self.bias, 2, 2, 1)


def _norm(features: int, kind: Norm) -> nn.Module:
    return nn.BatchNorm2d(features) if kind == "batch" else nn.GroupNorm(min(MOST_GROUPS, features // GROUP), features)
