"""How well pictures are assembled from patches: masks, appearance, a kernel distance, on held-out pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ...storage.images import Photograph
from ...synth.encoding import to_image, to_tensor
from ...synth.features import Features, FeaturesConfig
from ...synth.key_patches.losses import appearance
from ...synth.key_patches.network import KeyPatchNetwork
from ...synth.key_patches.views import viewed
from ...synth.metrics import kid
from .patch_items import PatchItems
from .patch_pictures import PatchPictures, mask_of
from .task import Batch

FIGURE = "shortfall"
N_VALIDATION, N_MEAN = 96, 512
"""Held-out pictures that are validated on, and training pictures that their mean is taken of, at most."""
N_SHOWN = 8
BATCH = 16
LAYER = "conv3_2"
"""Of the features whose means over a picture the kernel distance compares."""
UNTRAINED = 1 / 4
"""Width of the features where none are given."""
THRESHOLDS = tuple(round(0.05 * number, 2) for number in range(1, 20))
"""Of soft masks, those that are tried."""
MIDDLE = 0.5
"""The cut of masks where none was fitted."""


class Ignorant(NamedTuple):
    """What one would answer without looking at the patches: means of the training pictures, of `N_MEAN` at most.

    Attributes:
        image: `(3, R, R)` in [-1, 1].
        mask: `(1, R, R)` of 0 and 1: the mean mask, above the threshold at which it comes closest to the masks.
    """

    image: Tensor
    mask: Tensor


class Judging:
    """Figures on held-out pictures, and what the best constant answer would get, for each of them.

    Args:
        samples: items that are trained on; held_out: others; features: that the kernel distance compares, None for
            untrained ones, which tell textures apart, but nothing of what they are.

    Attributes:
        cut: of the masks of the network whose figures were asked for last; what is above it is inside.
    """

    def __init__(self, samples: PatchItems, held_out: PatchItems, features: Features | None) -> None:
        self.samples, self.held_out, self._given = samples, held_out, features
        self.cut = MIDDLE

    def figures(self, net: KeyPatchNetwork) -> dict[str, float]:
        """On up to `N_VALIDATION` held-out pictures, the same each time.

        `mask_iou`: mean intersection over union of the mask above `cut`, at which it is largest, and the true one;
        `mask_iou_mean`: that of the mean mask of the training pictures. `appearance`: mean absolute difference of the
        pictures inside the true mask, in [-1, 1]. `restored`: equation 3, over the area of the true mask instead of all
        pixels. `kernel`: KID.

        `shortfall`, which decides: the mean of what is missing of the intersection over union, of `appearance` and of
        `kernel`, each as a share of what the mean of the training pictures, instead of what was made, would get.
        """
        device, ignorant = next(net.parameters()).device, self._ignorant
        real, made, masks = [], [], []
        truth = []
        for batch in self._batches(device):
            image, mask = seen_by(net, batch)
            real.append(batch["image"])
            truth.append(batch["mask"])
            made.append(image.float())
            masks.append(mask.float())
        y, g, true, mask = (torch.cat(each) for each in (real, made, truth, masks))
        inside = _inside((g - y).abs(), true)
        found = {"appearance": float(inside.mean())}
        mean = ignorant.image.to(device).expand_as(y)
        shares = [found["appearance"] / max(float(_inside((mean - y).abs(), true).mean()), 1e-6)]
        if net.config.has_mask:
            self.cut = fitted_cut(mask, true > 0.5)
            found["mask_iou"] = float(iou(mask > self.cut, true > 0.5).mean())
            found["mask_iou_mean"] = float(iou(ignorant.mask.to(device).expand_as(true) > 0.5, true > 0.5).mean())
            shares.append((1 - found["mask_iou"]) / max(1 - found["mask_iou_mean"], 1e-6))
        shown = mask if net.config.has_mask else true
        found["restored"] = float(appearance(g, shown, y, true) / true.mean().clamp(min=1e-6))
        if len(y) > 1:
            seen = [self._seen(each) for each in (y, g, mean)]
            found["kernel"] = kid(seen[0], seen[1], rounds=2).value
            shares.append(max(found["kernel"], 0.0) / max(kid(seen[0], seen[2], rounds=2).value, 1e-6))
        return {FIGURE: float(np.mean(shares)), **found}

    def _batches(self, device: torch.device) -> Iterator[Batch]:
        n = len(self.held_out.pictures)
        numbers = np.linspace(0, n - 1, min(n, N_VALIDATION)).round().astype(int).tolist()
        return _batched(self.held_out, numbers, device)

    @cached_property
    def _ignorant(self) -> Ignorant:
        pictures = self.samples.pictures
        n = len(pictures)
        numbers = sorted(set(np.linspace(0, n - 1, min(n, N_MEAN)).round().astype(int).tolist()))
        image = torch.stack([to_tensor(pictures.image(k)) for k in numbers]).mean(0)
        masks = torch.from_numpy(np.stack([pictures[k].mask() for k in numbers]))[:, None]
        mean = masks.float().mean(0)
        best = max(THRESHOLDS, key=lambda at: float(iou((mean > at).expand_as(masks), masks).mean()))
        return Ignorant(image, (mean > best).float())

    @cached_property
    def _features(self) -> Features:
        if self._given is not None:
            return self._given
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return Features(FeaturesConfig(UNTRAINED, normalise=True)).requires_grad_(False).eval()

    def _seen(self, images: Tensor) -> npt.NDArray[np.float32]:
        """`(n, d)`: means and deviations over each picture of its features."""
        features = self._features.to(images.device)
        found = torch.cat([features(each, (LAYER,))[LAYER] for each in torch.split(images, BATCH)])
        both = torch.cat([found.mean((2, 3)), found.std((2, 3))], 1)
        seen: npt.NDArray[np.float32] = both.cpu().numpy()
        return seen


def fitted_cut(masks: Tensor, true: Tensor) -> float:
    """The threshold at which masks come closest to the true ones; among equal ones that next to 1/2.

    Args:
        masks: `(N, 1, R, R)` in [0, 1]; true: the same, bool.
    """
    return max(THRESHOLDS, key=lambda at: (float(iou(masks > at, true).mean()), -abs(at - MIDDLE)))


def usual_places(pictures: PatchPictures, most: int = N_MEAN) -> Tensor:
    """`(1, R, R)`, the share of the patches of some pictures that lie on each pixel."""
    spaced = np.linspace(0, len(pictures) - 1, min(len(pictures), most)).round().astype(int).tolist()
    total, count = np.zeros((pictures.resolution,) * 2, np.float32), 0
    for box in (box for k in sorted(set(spaced)) for box in pictures[k].boxes):
        total += mask_of(box[None], pictures.resolution)
        count += 1
    return torch.from_numpy(total / max(count, 1))[None]


def seen_by(net: KeyPatchNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pictures and masks as the network is used, see `views`."""
    given = batch["patches"], batch["present"], batch["z"]
    if net.config.has_mask:
        return viewed(net, *given, net.usual)[:2]
    image, mask = net(*given)
    return image.float(), mask.float()


def _batched(items: PatchItems, numbers: Sequence[int], device: torch.device) -> Iterator[Batch]:
    for start in range(0, len(numbers), BATCH):
        some = [items[k] for k in numbers[start : start + BATCH]]
        yield {name: each.to(device) for name, each in default_collate(some).items()}


def iou(found: Tensor, true: Tensor) -> Tensor:
    """`(N,)` intersection over union of masks, `(N, 1, R, R)` bool; 1 where both are empty."""
    both, either = (found & true).sum((1, 2, 3)), (found | true).sum((1, 2, 3))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def drawn(net: KeyPatchNetwork, held_out: PatchItems) -> Photograph:
    """A row a held-out picture: its patches, itself and the mask of them, what was made, and the mask made."""
    device, n = next(net.parameters()).device, len(held_out.pictures)
    spaced = sorted(set(np.linspace(0, n - 1, N_SHOWN).round().astype(int).tolist()))
    batch = {name: each.to(device) for name, each in default_collate([held_out[k] for k in spaced]).items()}
    image, mask = seen_by(net, batch)
    rows = []
    for row in range(len(image)):
        patches = batch["patches"][row] * batch["present"][row, :, None, None, None]  # absent ones are grey
        shown = [*patches, batch["image"][row], _grey(batch["mask"][row]), image[row]]
        if net.config.has_mask:
            shown.append(_grey(mask[row]))
        rows.append(np.hstack([to_image(each) for each in shown]))
    return np.vstack(rows)


def _grey(mask: Tensor) -> Tensor:
    return mask.expand(3, -1, -1) * 2 - 1


def _inside(values: Tensor, mask: Tensor) -> Tensor:
    """`(N,)` means over the mask of `(N, 3, R, R)`."""
    return (values * mask).sum((1, 2, 3)) / (values.shape[1] * mask.sum((1, 2, 3))).clamp(min=1)
