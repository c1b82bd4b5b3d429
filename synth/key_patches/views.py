"""Masks of a network asked several times about the same patches: all of them, mirrored ones, and each alone.

The paper's network is asked once (Lee et al. 2018, section 3.3). Asked about one patch, the same mask decoder says
where that one belongs, which a mask of all of them cannot; and means of several answers are nearer to the truth. So is
the mean with where patches usually are: of pictures unlike those that it learned from, a network is surer than right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`KeyPatchNetwork.forward`, or a compiled form of it."""


class Viewed(NamedTuple):
    """What a network makes of patches.

    Attributes:
        image: `(B, 3, R, R)` in [-1, 1].
        mask: `(B, 1, R, R)` in [0, 1], of all patches.
        alone: `(B, N, R, R)` in [0, 1], of each; zeros for those that are not there.
    """

    image: Tensor
    mask: Tensor
    alone: Tensor


def viewed(network: Network, patches: Tensor, present: Tensor, z: Tensor, usual: Tensor | None = None) -> Viewed:
    """A picture as the network makes it, and masks of several views, float32.

    The mask of all patches is the mean of two: that of all of them, itself a mean of both ways round, and what is most
    among those of each alone; and the mean of that and of where as many patches usually are, one somewhere whatever the
    others are, where that is known.

    Args:
        patches, present, z: as in `KeyPatchNetwork.forward`; usual: as `KeyPatchNetwork.usual`.
    """
    image, mask = (each.float() for each in network(patches, present, z))
    mirrored = network(patches.flip(-1), present, z)[1].float().flip(-1)
    masks = []
    for number in range(patches.shape[1]):
        only = torch.zeros_like(present)
        only[:, number] = present[:, number]
        masks.append(network(patches, only, z)[1].float()[:, 0] * only[:, number, None, None])
    alone = torch.stack(masks, 1)
    found = ((mask + mirrored) / 2 + alone.amax(1, keepdim=True)) / 2
    if usual is not None:
        count = present.sum(1)[:, None, None, None]
        found = (found + 1 - (1 - usual) ** count) / 2
    return Viewed(image, found, alone)
