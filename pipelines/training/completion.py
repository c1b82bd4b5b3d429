"""What networks share that make a region of a photograph anew: items, held-out ones, figures, a picture of samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from ...storage.errors import sentence
from ...storage.images import Photograph
from ...synth.encoding import to_image, to_tensor
from ...synth.features import LAYERS, Features
from ...synth.inpainting.membrane import BLEND
from ...synth.roi_gan.generator import RESOLUTIONS, completed
from ...synth.roi_gan.regions import Kind, sample_region
from ..progress import Progress
from .options import TrainOptions, square_side
from .photographs import Origin, Photographs, trained_and_held_out
from .task import Batch, NothingToLearn

LARGER = 2
"""Photographs are kept with their shorter side so many times the resolution; a crop is between 1 and all of it."""
N_VALIDATION = 64
"""Held-out pictures that are validated on, at most."""
N_SHOWN, SLIDERS_SHOWN = 6, 4
"""Of the grid: photographs, and sliders at both ends."""
BATCH = 16
"""Pictures that are made at once in validation."""
VALIDATION_SEED = 1
HOLE = 0.0
"""What a region is shown as, in [-1, 1]."""


@dataclass(frozen=True)
class Drawn:
    """What an item draws besides a photograph.

    Attributes:
        kind: of regions.
        noise, sliders, categories: as in `RoiConfig`; all of 0 draw nothing.
    """

    kind: Kind
    noise: int = 1
    sliders: int = 0
    categories: tuple[int, ...] = ()


class RegionItems(Dataset[dict[str, Tensor]]):
    """Crops of photographs, half of them mirrored, each with a region; item k depends on (seed, k) alone.

    An item holds `image` `(3, R, R)` in [-1, 1], `region` `(1, R, R)` of 0 and 1, `z` `(Z,)` standard normal, and
    `sliders` `(K,)`: continuous ones uniform in [-1, 1], then a one-hot block for each categorical one.

    Args:
        fixed: for validation: item k is the middle of photograph k, as large as it goes, not mirrored.
    """

    def __init__(
        self, photographs: Photographs, resolution: int, drawn: Drawn, seed: int, *, fixed: bool = False
    ) -> None:
        self.photographs, self.resolution, self.drawn = photographs, resolution, drawn
        self.seed, self.fixed = seed, fixed

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self.seed, k))
        photograph = self.photographs[k if self.fixed else int(random.integers(len(self.photographs)))]
        size = (self.resolution, self.resolution)
        image = middle(photograph, size) if self.fixed else crop(photograph, size, random)
        region = sample_region(self.drawn.kind, size, random)
        choices = [np.eye(n, dtype=np.float32)[random.integers(n)] for n in self.drawn.categories]
        sliders = [random.uniform(-1, 1, self.drawn.sliders).astype(np.float32), *choices]
        return {
            "image": to_tensor(image),
            "region": torch.from_numpy(region)[None].float(),
            "z": torch.from_numpy(random.standard_normal(self.drawn.noise).astype(np.float32)),
            "sliders": torch.from_numpy(np.concatenate(sliders)),
        }


def crop(photograph: Photograph, size: tuple[int, int], random: np.random.Generator) -> Photograph:
    """A square window of a photograph, of any side from that of `size` to the whole, mirrored half of the time."""
    rows, cols = photograph.shape[:2]
    side = int(random.integers(min(size[0], rows, cols), min(rows, cols) + 1))
    top, left = (int(random.integers(0, each - side + 1)) for each in (rows, cols))
    window = photograph[top : top + side, left : left + side]
    found: Photograph = cv2.resize(window, size[::-1], interpolation=cv2.INTER_AREA)
    return found[:, ::-1] if random.random() < 0.5 else found


def middle(photograph: Photograph, size: tuple[int, int]) -> Photograph:
    """The largest square window about the middle of a photograph."""
    rows, cols = photograph.shape[:2]
    side = min(rows, cols)
    top, left = (rows - side) // 2, (cols - side) // 2
    found: Photograph = cv2.resize(
        photograph[top : top + side, left : left + side], size[::-1], interpolation=cv2.INTER_AREA
    )
    return found


class CompletionTask:
    """What is the same for every network that completes pictures.

    Args:
        origin: of the photographs; models: the folder of networks; options: resolved; drawn: what items hold.
        features: that figures compare.

    Raises:
        InputError: pictures are to be of another size than there is. NothingToLearn: there are no photographs.
    """

    smaller_is_better = True
    figure = "masked"

    def __init__(
        self,
        origin: Origin,
        models: Path,
        options: TrainOptions,
        drawn: Drawn,
        features: Features,
        progress: Progress,
    ) -> None:
        self.options, self.drawn, self._features = options, drawn, features
        self.features = features.name
        self.resolution = square_side(options, RESOLUTIONS)
        self.subject = origin.subject((self.resolution, self.resolution))
        names, held_out = trained_and_held_out(origin)
        if not names:
            raise NothingToLearn(sentence(self.subject.bank, expected="photographs in train", found="none"))
        if len(held_out) > N_VALIDATION:
            held_out = [held_out[i] for i in np.linspace(0, len(held_out) - 1, N_VALIDATION).round().astype(int)]
        train, validate = (
            Photographs(
                origin,
                each,
                LARGER * self.resolution,
                cache=models / "cache",
                subject=self.subject,
                progress=progress,
            )
            for each in (names, held_out)
        )
        self.samples = RegionItems(train, self.resolution, drawn, options.seed)
        self.held_out = RegionItems(validate, self.resolution, drawn, VALIDATION_SEED, fixed=True)

    def dataset(self) -> RegionItems:
        """Crops of photographs of the training split."""
        self.samples.photographs.prepare()
        self.held_out.photographs.prepare()
        return self.samples

    def validate(self, net: nn.Module) -> dict[str, float]:
        """On held-out photographs and regions, the same each time.

        `masked`: the mean over layers of the difference of features inside the region, as a share of the photograph's
        own there; `pixel`: mean absolute difference inside, in [-1, 1]; `outside`: that of the raw picture outside;
        `seam`: the step across the border of the region, as a multiple of the photograph's own.
        """
        compare = self._features.to(next(net.parameters()).device)
        found: dict[str, list[Tensor]] = {"masked": [], "pixel": [], "outside": [], "seam": []}
        for batch, raw in self.made(net):
            image, region = batch["image"], batch["region"]
            done = completed(image, region, raw)
            found["masked"].append(masked_distance(compare, done, image, region))
            found["pixel"].append(_mean_inside((raw - image).abs(), region))
            found["outside"].append(_mean_inside((raw - image).abs(), 1 - region))
            found["seam"].append(steps_across(done, region) / steps_across(image, region).clamp(min=1e-3))
        return {name: float(torch.cat(each).double().mean()) for name, each in found.items()}

    def grid(self, net: nn.Module) -> Photograph:
        """A row a held-out photograph: itself, its region, completed; then some sliders at -1 and at 1, one a time."""
        n, device = len(self.held_out.photographs), next(net.parameters()).device
        spaced = sorted(set(np.linspace(0, n - 1, N_SHOWN).round().astype(int).tolist()))
        batch = {name: each.to(device) for name, each in default_collate([self.held_out[k] for k in spaced]).items()}
        image, region = batch["image"], batch["region"]
        shown = [image, torch.where(region > 0.5, torch.full_like(image, HOLE), image)]
        neutral = batch["sliders"].clone()
        neutral[:, : self.drawn.sliders] = 0
        settings = [neutral]
        for slider in range(min(self.drawn.sliders, SLIDERS_SHOWN)):
            for value in (-1.0, 1.0):
                settings.append(neutral.clone())
                settings[-1][:, slider] = value
        shown += [completed(image, region, net(image, region, batch["z"], each).float()) for each in settings]
        return np.vstack([np.hstack([to_image(each[row]) for each in shown]) for row in range(len(image))])

    def made(self, net: nn.Module, redraw: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        """Held-out items in batches, with the raw pictures `(N, 3, R, R)` that the network makes of them.

        Args:
            redraw: 0 takes the noise and sliders of the items, another number draws others.
        """
        device = next(net.parameters()).device
        items = [self.held_out[k] for k in range(len(self.held_out.photographs))]
        for start in range(0, len(items), BATCH):
            batch = {n: each.to(device) for n, each in default_collate(items[start : start + BATCH]).items()}
            if redraw:
                random = torch.Generator().manual_seed(redraw * len(items) + start)
                n, k = len(batch["z"]), self.drawn.sliders
                batch["z"] = torch.randn(batch["z"].shape, generator=random).to(device)
                sliders = batch["sliders"].clone()
                sliders[:, :k] = (torch.rand(n, k, generator=random) * 2 - 1).to(device)
                batch["sliders"] = sliders
            yield batch, net(batch["image"], batch["region"], batch["z"], batch["sliders"]).float()

    def config(self) -> dict[str, Any]:
        """Of the network."""
        return asdict(self.net_config)  # type: ignore[attr-defined]


def blend_of(options: TrainOptions) -> float:
    """How far a network corrects its border inwards, in sides of the picture, where it is not the released code."""
    return BLEND if options.blend is None else options.blend


def masked_distance(features: Features, image: Tensor, real: Tensor, region: Tensor) -> Tensor:
    """`(N,)`: the mean over layers of the difference of features inside the region, relative to the real ones there.

    Args:
        image, real: `(N, 3, H, W)` in [-1, 1]; region: `(N, 1, H, W)` of 0 and 1.
    """
    found, wanted = features(image, LAYERS, region), features(real, LAYERS, region)
    each = [
        (found[name] - wanted[name]).abs().sum((1, 2, 3)) / wanted[name].sum((1, 2, 3)).clamp(min=1e-6)
        for name in LAYERS
    ]
    return torch.stack(each).mean(0)


def steps_across(image: Tensor, region: Tensor) -> Tensor:
    """`(N,)`: mean absolute difference of neighbouring pixels of which one is inside the region and one outside."""
    total, pairs = image.new_zeros(len(image)), image.new_zeros(len(image))
    for dim in (2, 3):
        across = region.diff(dim=dim).abs()
        total = total + (image.diff(dim=dim).abs() * across).mean(1).sum((1, 2))
        pairs = pairs + across.sum((1, 2, 3))
    return total / pairs.clamp(min=1)


def correlations(said: Tensor, read: Tensor) -> npt.NDArray[np.float64]:
    """`(K,)`: how what was read of each slider follows what was set, both `(n, K)`; 0 where one is constant."""
    a, b = (each.double() - each.double().mean(0) for each in (said, read))
    scale = (a.square().sum(0) * b.square().sum(0)).sqrt()
    found: npt.NDArray[np.float64] = torch.where(scale > 1e-12, (a * b).sum(0) / scale.clamp(min=1e-12), 0.0).numpy()
    return found


def _mean_inside(values: Tensor, region: Tensor) -> Tensor:
    """`(N,)` means over the region of `(N, 3, H, W)`."""
    return (values * region).sum((1, 2, 3)) / (values.shape[1] * region.sum((1, 2, 3))).clamp(min=1)
