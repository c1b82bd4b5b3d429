"""What filled regions are measured with: features of a network that no loss compared, and a generator's own head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...synth.checkpoint import SUFFIX, load_checkpoint
from ...synth.encoding import to_tensor
from ...synth.features import LAYERS, load_parser
from ...synth.inpainting.feature_distance import masked_distance
from ...synth.inpainting.nearest import surroundings
from ...synth.metrics import Features
from ...synth.roi_gan.discriminator import RoiDiscriminator, SliderHead
from ...synth.roi_gan.generator import completed
from ...synth.roi_gan.regions import Region
from ..inpainting.methods import Draw, FromNetwork
from ..models import built, ready
from ..training.completion import correlations
from ..training.resume import load_state
from ..training.standing import Paths

AT_ONCE = 16
"""Pictures that are looked at together."""


class Measure:
    """The judge of a folder of networks, or else the features that its losses may have compared.

    Attributes:
        name: for readers; independent: whether no loss compared it.

    Args:
        folder: of networks; device: that it runs on.

    Raises:
        InputError: the folder has neither.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        path, features = folder / f"judge{SUFFIX}", folder / f"features{SUFFIX}"
        self.device, self.independent = device, path.exists()
        if self.independent:
            card, tensors = load_checkpoint(path, "judge")
            self._judge = ready(built("judge", card, tensors, path), "judge", device)
            self.name = f"the judge, {card.step:,} steps"
        elif features.exists():
            self._features = load_parser(features)[1].features.to(device)
            self.name = f"features {self._features.name}, which the losses may have compared"
        else:
            fix = "train one: `zeuxis train judge`"
            raise InputError(sentence(folder, expected=f"{path.name} or {features.name}", found="neither", fix=fix))

    def layers(self, images: Tensor) -> list[Tensor]:
        """Activations of `(N, 3, H, W)` in [-1, 1], finest first."""
        if self.independent:
            found: list[Tensor] = self._judge.layers(images)  # type: ignore[operator]
            return found
        return list(self._features(images, LAYERS).values())

    def vectors(self, images: Sequence[Photograph]) -> Features:
        """`(n, d)` of equally large pictures: the judge's features, or without it the deepest layer's means."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(images), AT_ONCE):
                batch = self._batch(images[start : start + AT_ONCE])
                found.append(self._vectors(batch).float().cpu().numpy())
        return np.concatenate(found)

    def distances(
        self, first: Sequence[Photograph], second: Sequence[Photograph], regions: Sequence[Region]
    ) -> list[float]:
        """How far each pair of equally large pictures is apart inside its region, see `masked_distance`."""
        found: list[float] = []
        with torch.inference_mode():
            for start in range(0, len(first), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                inside = torch.from_numpy(np.stack(regions[part]))[:, None].float().to(self.device)
                one, other = (self.layers(self._batch(each[part])) for each in (first, second))
                found += masked_distance(one, other, inside).tolist()
        return found

    def _vectors(self, images: Tensor) -> Tensor:
        if self.independent:
            found: Tensor = self._judge.features(images)  # type: ignore[operator]
            return found
        return self.layers(images)[-1].mean((2, 3))

    def _batch(self, images: Sequence[Photograph]) -> Tensor:
        return torch.stack([to_tensor(image) for image in images]).to(self.device)


def around(image: Photograph, region: Region) -> Photograph:
    """What surrounds a region, with it, stretched to the size of the picture: so a distribution tells of it alone."""
    top, left, bottom, right = surroundings(region)
    window = image[top:bottom, left:right]
    stretched: Photograph = cv2.resize(window, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return stretched


def head_of(folder: Path, name: str) -> Path | None:
    """The file with the head that reads a network's sliders: kept along with it, else the last of its training's."""
    paths = Paths(folder, name)
    return next((path for path in (paths.along, paths.resume) if path.exists()), None)


def slider_correlations(
    folder: Path, filler: FromNetwork, images: Sequence[Photograph], regions: Sequence[Region], seed: int, draws: int
) -> npt.NDArray[np.float64] | None:
    """`(K,)`: how what the head of the training reads of each slider follows what was set, on these pictures.

    Args:
        folder: of the networks, with discriminator and head, see `head_of`.
        filler: a network with sliders; images, regions: of its size; draws: of noise and sliders, each picture.

    Returns:
        None without sliders, or where no head was kept.
    """
    path = head_of(folder, filler.name)
    config = filler.network.config
    if not filler.sliders or path is None:
        return None
    _, held = load_state(path)
    discriminator = RoiDiscriminator(config)  # type: ignore[arg-type]
    head = SliderHead(config, discriminator.levels)  # type: ignore[arg-type]
    for name, module in (("discriminator", discriminator), ("head", head)):
        try:
            module.load_state_dict({key: held[f"modules.{name}.{key}"] for key in module.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise InputError(sentence(path, f"holds no {name} of {filler.name} ({error!s:.80})")) from error
        module.eval().requires_grad_(False).to(filler.device)
    said, read = [], []
    with torch.inference_mode():
        for number, (image, region) in enumerate(zip(images, regions, strict=True)):
            shown = to_tensor(image)[None].to(filler.device)
            inside = torch.from_numpy(region)[None, None].float().to(filler.device)
            for draw in range(draws):
                z, sliders = filler.drawn(Draw(seed, number * draws + draw, None))
                done = completed(shown, inside, filler.network(shown, inside, z, sliders))
                read.append(head(done, inside, discriminator(done, inside).features).mean.float().cpu())
                said.append(sliders[:, : filler.sliders].cpu())
    return correlations(torch.cat(said), torch.cat(read))
