"""Items of pictures with patches, as tensors: what the network of key patches trains and is validated on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...synth.encoding import to_tensor
from ...synth.key_patches.network import Aspect, KeyPatchConfig
from .patch_pictures import PatchPicture, PatchPictures, mask_of
from .patch_squares import in_squares

RANDOM = 0.5
"""Share of items with random patches, where they are mixed."""
SETTLING, SETTLED = 0.4, 0.7
"""Shares of the training: from the first on, items are more and more like the pictures; from the second on, these."""


class PatchItems(Dataset[dict[str, Tensor]]):
    """Pictures and their best patches, half of them mirrored as a whole; item k depends on (seed, k, total) alone.

    An item holds `patches` `(N, 3, R, R)` and `image` `(3, R, R)` in [-1, 1]; `present` `(N,)`, 1 for the patches that
    there are, behind which they are repeated; `mask` `(1, R, R)`, 1 where these lie; `other` `(3, R, R)`, another
    picture; `z` `(noise,)` uniform in [-1, 1].

    Args:
        pictures: those; config: of the network; seed: of what is drawn.
        fewest: patches of an item, of which there are up to `config.parts`, each number as likely.
        fixed: for validation: item k is picture k, with all its patches, not mirrored.
        mixed: items have random patches half the time; fewer in the end, where the pictures are to fit key patches.
        total: items of the whole training: squares are drawn about the pictures, and less so in the end as well.
            None for the pictures themselves.
    """

    def __init__(
        self, pictures: PatchPictures, config: KeyPatchConfig, seed: int, fewest: int, *, fixed: bool = False,
        mixed: bool = False, total: int | None = None,
    ) -> None:  # fmt: skip
        self.pictures, self.config, self.seed = pictures, config, seed
        self.fewest, self.fixed, self.mixed, self.total = fewest, fixed, mixed, total

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self.seed, k))
        number = k if self.fixed else int(random.integers(len(self.pictures)))
        spread = 0.0 if self.fixed or self.total is None else spread_at(k / self.total)
        anywhere = self.mixed and bool(random.random() < RANDOM * spread)
        picture = (
            self.pictures[k] if self.fixed else self.pictures.redrawn(number, random, spread=spread, anywhere=anywhere)
        )
        n = self.config.parts if self.fixed else int(random.integers(self.fewest, self.config.parts + 1))
        flip = not self.fixed and bool(random.random() < 0.5)
        other = self.pictures.image(another(number, len(self.pictures), random), random, spread=spread)
        z = random.uniform(-1, 1, self.config.noise).astype(np.float32)
        return {
            **as_item(picture, n, self.config.parts, self.config.aspect, flip=flip),
            "other": to_tensor(other),
            "z": torch.from_numpy(z),
        }


def spread_at(share: float) -> float:
    """How different items are from the pictures with their key patches, at a share of the training, in [0, 1]."""
    return min(1.0, max(0.0, (SETTLED - share) / (SETTLED - SETTLING)))


def as_item(
    picture: PatchPicture, n: int, parts: int, aspect: Aspect = "stretched", *, flip: bool = False
) -> dict[str, Tensor]:
    """`image`, `patches`, `present` and `mask` of a picture and its best n patches, in `parts` places."""
    n = min(n, len(picture.boxes))
    image, boxes = picture.image, picture.boxes[:n]
    patches = in_squares(picture.patches[:n], len(image), aspect)
    if flip:
        image, patches, boxes = image[:, ::-1], patches[:, :, ::-1], mirrored(boxes, len(image))
    places = [place % n for place in range(parts)]
    return {
        "image": to_tensor(image),
        "patches": torch.stack([to_tensor(patches[place]) for place in places]),
        "present": (torch.arange(parts) < n).float(),
        "mask": torch.from_numpy(mask_of(boxes, len(image)))[None].float(),
    }


def mirrored(boxes: npt.NDArray[np.int32], side: int) -> npt.NDArray[np.int32]:
    """Boxes of a picture whose left is right."""
    top, left, bottom, right = boxes.T
    return np.stack([top, side - right, bottom, side - left], 1)


def another(number: int, n: int, random: np.random.Generator) -> int:
    """Any of n numbers but this one, where there is another."""
    return number if n == 1 else (number + 1 + int(random.integers(n - 1))) % n
