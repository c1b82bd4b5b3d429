"""Held-out pictures that systems of key patches make anew, and which of them may be compared with which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...storage.images import Photograph
from ...storage.layouts import Box
from ...synth.metrics import Features, Interval
from ..training.patch_pictures import PatchPicture
from .key_patches_intervals import gap_over, kid_over, mean_over

Region = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out pictures with their patches.

    Attributes:
        truth: features of the pictures; patches: `key`, or `random` ones; n: how many a picture, at most.
    """

    pictures: Sequence[PatchPicture]
    truth: Features
    patches: str
    n: int

    @property
    def sets(self) -> list[Sequence[Photograph]]:
        """The patches of each picture."""
        return [list(each.patches) for each in self.pictures]

    @property
    def images(self) -> list[Photograph]:
        """The pictures themselves."""
        return [each.image for each in self.pictures]

    @property
    def boxes(self) -> list[list[Box]]:
        """Of the patches of each picture."""
        return [[(int(a), int(b), int(c), int(d)) for a, b, c, d in each.boxes.tolist()] for each in self.pictures]

    @property
    def masks(self) -> list[Region]:
        """Where the patches of each picture are."""
        return [each.mask() for each in self.pictures]

    @property
    def sources(self) -> list[str]:
        """The photograph of each picture."""
        return [each.source for each in self.pictures]

    @property
    def mates(self) -> list[int]:
        """For each picture the number of the next one of another photograph, or of any where there is but one."""
        return mates_of(self.sources)

    @property
    def partners(self) -> list[int]:
        """The same within its own half, so that pictures of parts of both show nothing of the other half."""
        sources, found = self.sources, [0] * len(self.pictures)
        for half in self.halves:
            for k, mate in zip(half, mates_of([sources[k] for k in half]), strict=True):
                found[k] = half[mate]
        return found

    @property
    def halves(self) -> tuple[list[int], list[int]]:
        """Numbers of the pictures of every other photograph, and of the rest."""
        return halves_of(self.sources)

    def mean(self, values: Sequence[float | Sequence[float]]) -> Interval:
        """The mean of what was found of each picture, or of each of its patches, with its interval over photographs."""
        return mean_over(values, self.sources)


def mates_of(sources: Sequence[str]) -> list[int]:
    """For each picture the number of the next one of another source, or of any where all are of one."""
    n = len(sources)
    return [
        next((at % n for at in range(k + 1, k + n) if sources[at % n] != sources[k]), (k + 1) % n) for k in range(n)
    ]


def halves_of(sources: Sequence[str]) -> tuple[list[int], list[int]]:
    """Numbers of the pictures of every other source, as they first appear, and of the rest; at least two in each.

    Where sources are too few for that, every other picture.
    """
    order = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    numbers = [order[source] for source in sources]
    if min(sum(number % 2 == part for number in numbers) for part in (0, 1)) < 2:
        numbers = list(range(len(sources)))
    one, other = ([k for k, number in enumerate(numbers) if number % 2 == part] for part in (0, 1))
    return one, other


def kid_of(held: HeldOut, made: Features) -> Interval:
    """KID of what was made of one half of the pictures to the other half: what is made of a picture has parts of it.

    No photograph is in both halves, and none is compared with itself.
    """
    one, other = held.halves
    sources = held.sources
    return kid_over(held.truth[one], made[other], *([sources[k] for k in half] for half in (one, other)))


def gap_of(held: HeldOut, made: Features, other: Features) -> Interval:
    """How much larger the KID of the one is than that of the other, paired by picture."""
    return gap_over(held.truth, made, other, held.sources)


def put_inside(made: Sequence[Photograph], images: Sequence[Photograph], masks: Sequence[Region]) -> list[Photograph]:
    """Pictures with what was made of them inside their masks.

    Networks that tell how far pictures are apart normalise over whole pictures: what is outside is to be the same.

    Args:
        made, images: `(R, R, 3)` uint8 each; masks: `(R, R)` each.
    """
    return [np.where(mask[..., None], own, image) for own, image, mask in zip(made, images, masks, strict=True)]
