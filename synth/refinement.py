"""The cascade of CRN and of SIMS' decoder: features refined from about four rows up to the picture's size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import blocks, channels, enlarged, recomputed

COARSEST_ROWS = 4
"""Rows the cascade starts from, as near as halving comes to it (CRN, section 3: 4x8)."""
TRUNK_ROWS = 256
"""Rows at which SIMS' encoder works, as near as halving comes to it: finer levels are added to the decoder alone."""
FINE = (128, 32)
"""Channels of the levels finer than the trunk, the coarser first."""


def n_levels(rows: int) -> int:
    """How many resolutions the cascade has for pictures of that many rows."""
    return max(1, round(math.log2(rows / COARSEST_ROWS))) + 1


def n_fine(rows: int) -> int:
    """How many of them are finer than what the encoder sees: 1 at 512 rows, 2 at 1024."""
    return min(max(0, round(math.log2(rows / TRUNK_ROWS))), len(FINE))


def refinement_channels(rows: int, width: float) -> list[int]:
    """Channels of each level, finest first: at 256 rows twice 256, then 512 down to the coarsest (SIMS' code)."""
    trunk = n_levels(rows) - n_fine(rows)
    full = [*FINE[: n_fine(rows)][::-1], *[256 if level < 2 else 512 for level in range(trunk)]]
    return [channels(each, width) for each in full]


def begun(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], levels: str, finer: int, alike: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The weights of a coarser network with a cascade, or of one of the same size, by the names they have in `own`.

    Levels are paired from the coarsest on. What is neither of the levels nor `alike`, such as the projection to
    colours, is taken where no level is added and it fits.

    Args:
        own: of the network that begins, by name; tensors: of the other one.
        levels: what names of the levels' weights begin with; finer: how many levels the network has more.
        alike: what names of other weights begin with that are alike at every size.

    Raises:
        ValueError: it is no such network.
    """
    taken = {}
    for name, tensor in tensors.items():
        level, dot, rest = name.removeprefix(levels).partition(".")
        renamed = f"{levels}{int(level) + finer}{dot}{rest}" if name.startswith(levels) else name
        if renamed not in own:
            raise ValueError(f"{name} is none of this network's")
        fits, must = own[renamed].shape == tensor.shape, name.startswith((levels, *alike))
        if must and not fits:
            raise ValueError(f"{name} is {tuple(tensor.shape)} instead of {tuple(own[renamed].shape)}")
        if must or (fits and not finer):
            taken[renamed] = tensor
    return taken


def halved(image: Tensor) -> Tensor:
    """Both sides halved by area averaging; of odd sides the last cell averages what is left."""
    odd = bool(image.shape[-2] % 2 or image.shape[-1] % 2)
    return functional.avg_pool2d(image, 2, ceil_mode=odd, count_include_pad=False)


def pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """The picture at `levels` resolutions, finest first."""
    images = [image]
    for _ in range(levels - 1):
        images.append(halved(images[-1]))
    return images


class Cascade(nn.Module):
    """Refinement modules, coarsest first: each joins its inputs to the enlarged features and convolves twice.

    Args:
        inputs: channels of what each level is given, finest first; outputs: of its features, finest first.

    Attributes:
        recompute: whether the backward pass computes each level once more instead of keeping what it needs.
    """

    recompute = False

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__()
        before = [*outputs[1:], 0]
        each = [blocks(own + below, out, 2) for own, below, out in zip(inputs, before, outputs, strict=True)]
        self.levels = nn.ModuleList(each)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """`(N, inputs[i], H_i, W_i)` a level, finest first, to `(N, outputs[0], H_0, W_0)`."""
        features: Tensor | None = None
        for number in reversed(range(len(self.levels))):
            features = recomputed(partial(self._refined, number), inputs[number], features, yes=self.recompute)
        assert features is not None
        return features

    def _refined(self, number: int, given: Tensor, coarser: Tensor | None) -> Tensor:
        if coarser is not None:
            given = torch.cat([given, enlarged(coarser, (given.shape[-2], given.shape[-1]))], 1)
        features: Tensor = self.levels[number](given)
        return features
