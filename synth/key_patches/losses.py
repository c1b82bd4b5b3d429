"""Losses of assembling an image from patches (Lee et al. 2018): spatial, appearance, adversarial; how they are weighed.

The paper decreases the weights of the first two from 1e-2 to 1e-4. Its code weighs sums over the batch and all pixels
by that, and the adversarial loss as a mean over the batch; here everything is a mean, weighed so that it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..losses import gan_generator, hinge_generator

FIRST, LAST = 1e-2, 1e-4
"""Weights of spatial and appearance loss at the beginning and the end (section 4)."""
BATCH = 64
"""Pictures of the batch over which these weigh a sum (section 4)."""
RAMP = 0.1
"""Share of the steps in which composites come in: at first any picture that was made is told from a photograph."""
REAL, MADE = "real", "made"
MIXED = ("patches made", "patches real")
"""Composites of a photograph and the picture made of its patches: which of the two is inside the mask."""
SWAPPED = ("patches swapped", "rest swapped")
"""Composites of two photographs."""
Objective = Literal["hinge", "log"]


@dataclass(frozen=True)
class LossWeights:
    """What the terms of equation 4 count for, and three that the paper does not have.

    Attributes:
        real, made: photographs, and pictures that were made.
        mixed: each of the two composites of a photograph and what was made of its patches.
        swapped: each of the two composites of two photographs.
        fooled, fooled_mixed: the generator is to have its pictures, and each of the two composites that they are part
            of, taken for photographs. Those of two photographs do not concern it.
        balanced: what is no photograph counts as much in all as photographs do; the paper has five such terms for one.
        overlap: the overlap of masks, beside their difference. The smallest difference has a mask that is 1 where more
            than half of the like pictures have a patch; where patches can be in many places that is nowhere.
        inside: appearance once more, where the true mask shows both pictures. With the predicted one alone, nothing is
            learned of where patches belong and were not thought to be, and pictures are drawn to grey where it doubts.
    """

    real: float = 1.0
    made: float = 1.0
    mixed: float = 1.0
    swapped: float = 1.0
    fooled: float = 1.0
    fooled_mixed: float = 1.0
    balanced: bool = False
    overlap: float = 0.0
    inside: float = 0.0

    def plain(self) -> LossWeights:
        """Without composites: the usual objective of GANs."""
        return replace(self, mixed=0.0, swapped=0.0, fooled_mixed=0.0)


PAPER = LossWeights()
HINGE = LossWeights(mixed=0.5, swapped=0.5, fooled_mixed=0.5, balanced=True, overlap=1.0, inside=1.0)


class Decayed(NamedTuple):
    """Weights of the means of spatial and appearance loss."""

    spatial: float
    appearance: float


def decayed(share: float, resolution: int) -> Decayed:
    """The weights at a share of the training, evenly spaced in their logarithm (section 4; the released code).

    lambda times a sum over `BATCH` pictures is lambda times that many times the numbers of a picture times the mean:
    at 64 pixels, 2,621 at first and 26 in the end for masks, three times that for pictures.
    """
    numbers = FIRST * (LAST / FIRST) ** min(max(share, 0.0), 1.0) * BATCH * resolution**2
    return Decayed(numbers, 3 * numbers)


def ramped(share: float) -> float:
    """How much composites count at a share of the training."""
    return min(1.0, max(share, 0.0) / RAMP)


def spatial(mask: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of masks, `(N, 1, R, R)` (equation 2)."""
    return functional.l1_loss(mask, true)


def overlap(mask: Tensor, true: Tensor) -> Tensor:
    """One less the intersection over union of a soft mask and the true one, both `(N, 1, R, R)`; mean over N.

    Where the true one is of 0 and 1, that is equation 2 over the union of both instead of all pixels.
    """
    both, either = (mask * true).sum((1, 2, 3)), (mask + true - mask * true).sum((1, 2, 3))
    return (1 - both / either.clamp(min=1e-6)).mean()


def appearance(made: Tensor, mask: Tensor, real: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of what the masks show of two pictures, over all pixels (equation 3).

    Args:
        made, real: `(N, 3, R, R)`; mask: of the first, the true one where none was made; true: of the second.
    """
    return functional.l1_loss(made * mask, real * true)


def composites(real: Tensor, made: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The photograph's patches made, the rest its own; and the other way round (lines 4 and 5 of equation 4)."""
    return dict(zip(MIXED, (pasted(mask, made, real), pasted(mask, real, made)), strict=True))


def swaps(real: Tensor, other: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The photograph's patches of another one, and the rest of another one (lines 6 and 7 of equation 4)."""
    return dict(zip(SWAPPED, (pasted(mask, other, real), pasted(mask, real, other)), strict=True))


def pasted(mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """One picture inside the mask, another one outside."""
    return torch.lerp(outside, inside, mask)


def discriminator_loss(
    scores: Mapping[str, Tensor], weights: LossWeights, objective: Objective, ramp: float = 1.0
) -> Tensor:
    """What the discriminator lowers (equation 4, negated): the six terms, or those of them that there are.

    Args:
        scores: `(N,)` each, by `REAL`, `MADE`, `MIXED` and `SWAPPED`; ramp: what composites count for.
    """
    shares = {MADE: weights.made, **dict.fromkeys(MIXED, ramp * weights.mixed)}
    shares |= dict.fromkeys(SWAPPED, ramp * weights.swapped)
    shares = {name: share for name, share in shares.items() if name in scores}
    scale = weights.real / max(sum(shares.values()), 1e-9) if weights.balanced else 1.0
    total = weights.real * _told(scores[REAL], objective, real=True)
    for name, share in shares.items():
        total = total + scale * share * _told(scores[name], objective, real=False)
    return total


def generator_loss(
    scores: Mapping[str, Tensor], weights: LossWeights, objective: Objective, ramp: float = 1.0
) -> Tensor:
    """What the generator lowers: its picture, and the composites of it, are to be taken for photographs.

    Args:
        scores: `(N,)` each, by `MADE` and, where there are any, `MIXED`; ramp: what composites count for.
    """
    fooling = hinge_generator if objective == "hinge" else gan_generator
    total = weights.fooled * fooling(scores[MADE])
    for name in MIXED:
        if name in scores:
            total = total + ramp * weights.fooled_mixed * fooling(scores[name])
    return total


def _told(scores: Tensor, objective: Objective, *, real: bool) -> Tensor:
    """The mean loss of scores that should be high, or low."""
    wanted = scores if real else -scores
    return (functional.relu(1 - wanted) if objective == "hinge" else functional.softplus(-wanted)).mean()
