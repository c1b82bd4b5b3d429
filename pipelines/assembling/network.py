"""A trained network that assembles pictures from key patches, ready for use."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...ingest.patches import PatchSettings
from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...synth.checkpoint import SUFFIX, Card, load_checkpoint
from ...synth.compiling.buckets import backend_of, packages_of
from ...synth.compiling.packages import Store
from ...synth.encoding import to_image, to_tensor
from ...synth.key_patches.network import Aspect, KeyPatchNetwork
from ...synth.key_patches.placing import PlacedPatch, place_patches
from ...synth.key_patches.views import viewed
from ...synth.turns import in_turn
from ..models import built, ready, with_compiled
from ..training.patch_pictures import LARGER
from ..training.patch_squares import aspects_of, in_squares

KIND = "key-patches"
SYSTEMS = {
    KIND: "the paper's network and losses",
    f"{KIND}-key": "trained on key patches alone",
    f"{KIND}-random": "trained on random patches",
    f"{KIND}-plain-gan": "photographs and pictures alone are told apart",
    f"{KIND}-no-mask": "without a mask decoder",
    f"{KIND}-auto-encoder": "without noise, mask and discriminator",
    f"{KIND}-conditional-gan": "a decoder of the embedding and noise",
}
"""Name of a file to what it is, in words."""
CUT = 0.5
"""Of masks, where a network says none of its own: what is above it is inside."""
AT_ONCE = 16
"""Sets of patches that go through the network together."""
TYPICAL = (sqrt(PatchSettings.min_area) + sqrt(PatchSettings.max_area)) / 2
"""Side of a key patch, as a share of its picture's: the middle of the limits, 0.36, which is the mean in banks too."""
_NOISE, _DEGRADED = 1, 2
"""What is drawn, each with random numbers of its own."""


class Made(NamedTuple):
    """A picture, and where patches are in it.

    Attributes:
        image: `(R, R, 3)` uint8 RGB.
        mask: `(R, R)` float32 in 0..1, zeros where the network predicts none.
        alone: `(n, R, R)` float32 in 0..1, of each patch; None where that is not known.
    """

    image: Photograph
    mask: npt.NDArray[np.float32]
    alone: npt.NDArray[np.float32] | None = None


class Assembler:
    """A network of key patches.

    Attributes:
        name: of its file; card: what that says; network: in evaluation mode; device: that it runs on.
        identity: of the network, plain values; warnings: what the user should know of it, one sentence each.
        cut: of its masks, in 0..1, as its training found it: what is above it is inside.
        views: whether masks are of several views (`synth.key_patches.views`), as its cut is; of networks of before they
            are what the network says of all patches once.

    Args:
        folder: of trained networks; name: of its file without suffix.
        device: default a CUDA device where there is one.
        compiled: where compiled forms of it are; they are used where they fit.

    Raises:
        InputError: there is no such network, or it cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str = KIND,
        device: str | torch.device | None = None,
        compiled: Store | None = None,
    ) -> None:
        path = Path(folder).expanduser() / f"{name}{SUFFIX}"
        self.card, tensors = load_checkpoint(path, KIND)
        self.name, self.cut = name, _cut_of(path, self.card)
        self.views = self.card.training.get("views") is True
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network = ready(built(KIND, self.card, tensors, path), KIND, self.device)
        self.usual = cast(KeyPatchNetwork, network).usual
        self.warnings: tuple[str, ...] = ()
        if compiled is not None:
            network, self.warnings = with_compiled(network, path, compiled)
        self.network = cast(KeyPatchNetwork, network)
        self.identity = {"file": path.name, "step": self.card.step, "size": list(self.card.size),
                         "bank": self.card.bank, "generation": self.card.generation, "objects": self.objects,
                         "parts": self.parts,
                         "backend": backend_of(network)}  # fmt: skip

    @property
    def packages(self) -> tuple[str, ...]:
        """Its compiled forms, a line each; none where it runs as it is."""
        return packages_of(self.network)

    @property
    def resolution(self) -> int:
        """Rows and columns of patches and pictures."""
        return self.network.config.resolution

    @property
    def parts(self) -> int:
        """The most patches that it was trained with."""
        return self.network.config.parts

    @property
    def aspect(self) -> Aspect:
        """Whether patches keep their shapes, or fill their squares."""
        return self.network.config.aspect

    @property
    def objects(self) -> str | None:
        """The class of which it makes objects; None for whole photographs."""
        found = self.card.training.get("objects")
        return None if found is None else str(found)

    @property
    def has_mask(self) -> bool:
        """Whether it predicts where patches belong."""
        return self.network.config.has_mask

    def made(self, patches: Sequence[Photograph], seed: int, variant: int = 0) -> Made:
        """A picture of patches, alone in its batch, so that its bytes depend on nothing else.

        Args:
            patches: at least one, `(h, w, 3)` uint8 RGB of any size; those other than `(R, R)` are `stretched`, or,
                where they keep their shapes, as large beside one another as they are.
            seed, variant: of the noise.
        """
        return self.many([patches], [self.noise(seed, variant)])[0]

    def noise(self, seed: int, variant: int) -> npt.NDArray[np.float32]:
        """`(Z,)` float32 uniform in [-1, 1]."""
        random = np.random.default_rng([seed, variant, _NOISE])
        return random.uniform(-1, 1, self.network.config.noise).astype(np.float32)

    def many(self, sets: Sequence[Sequence[Photograph]], noise: Sequence[npt.NDArray[np.float32]]) -> list[Made]:
        """A picture of each set of patches, `AT_ONCE` together."""
        found: list[Made] = []
        for start in range(0, len(sets), AT_ONCE):
            some = sets[start : start + AT_ONCE]
            images, masks, alone = self._made(some, noise[start : start + AT_ONCE])
            for row, (image, mask, patches) in enumerate(zip(images, masks, some, strict=True)):
                own = None if alone is None else alone[row, : len(patches)].numpy()
                found.append(Made(to_image(image), mask[0].numpy(), own))
        return found

    def raw(
        self, sets: Sequence[Sequence[Photograph]], noise: Sequence[npt.NDArray[np.float32]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, 3, R, R)` in [-1, 1] and `(B, 1, R, R)` in 0..1, before they are rounded, on the CPU."""
        return self._made(sets, noise)[:2]

    def _made(
        self, sets: Sequence[Sequence[Photograph]], noise: Sequence[npt.NDArray[np.float32]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Pictures and masks as `raw` gives them, and `(B, N, R, R)` masks of each patch where views are taken."""
        z = torch.from_numpy(np.stack(noise)).to(self.device)
        with in_turn(self.device):
            if self.views:
                image, mask, alone = viewed(self.network, *self._batch(sets), z, self.usual)
                return image.cpu(), mask.cpu(), alone.cpu()
            images, masks = self.network(*self._batch(sets), z)
        return images.float().cpu(), masks.float().cpu(), None

    def encoded(self, sets: Sequence[Sequence[Photograph]]) -> npt.NDArray[np.float32]:
        """`(n, E)`: what each set of patches is summed up in."""
        found = []
        for start in range(0, len(sets), AT_ONCE):
            with in_turn(self.device):
                found.append(self.network.encode(*self._batch(sets[start : start + AT_ONCE])).float().cpu().numpy())
        return np.concatenate(found)

    def squares(self, patches: Sequence[Photograph]) -> list[Photograph]:
        """What the network sees of the patches of a picture, `(R, R, 3)` each."""
        side = self.resolution
        if self.aspect == "kept":
            return list(in_squares(patches, side, "kept"))
        return [each if each.shape[:2] == (side, side) else stretched(each, side) for each in patches]

    def places(self, made: Made, patches: Sequence[Photograph]) -> list[PlacedPatch]:
        """Where patches are in what was made of them, in windows of their shapes where these are kept."""
        mask = made.mask if made.alone is None else made.alone
        return place_patches(made.image, mask, patches, aspects_of(patches, self.aspect))

    def fitting(
        self, patches: Sequence[Photograph], longest: int | None = None, *, alike: bool = False
    ) -> list[Photograph]:
        """Pictures of any size as patches of the network: about as sharp as those it was trained with.

        Args:
            patches: `(h, w, 3)` uint8 RGB each.
            longest: side of what goes in beside them, that theirs are made as long as; None where nothing does.
            alike: all are of one scale, such as parts of one photograph: they stay as large beside one another as they
                are. Else each is taken to be as large as any.

        Returns:
            `(R, R, 3)` each where the network has them stretched, else of their own shapes.
        """
        if self.aspect == "stretched":
            return [stretched(each, self.resolution) for each in patches]
        typical = TYPICAL * LARGER * self.resolution
        if alike:
            sides = [sqrt(each.shape[0] * each.shape[1]) for each in patches]
            return [_scaled(each, typical / max(float(np.mean(sides)), 1.0)) for each in patches]
        return [_scaled(each, (longest or typical) / max(each.shape[:2])) for each in patches]

    def _batch(self, sets: Sequence[Sequence[Photograph]]) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, N, 3, R, R)` patches, grey where a set has fewer than others, and `(B, N)` which are there.

        Compiled forms take as many as were trained with, so that no set has fewer places where there are such.
        """
        side, most = self.resolution, max(map(len, sets))
        if self.packages:
            most = max(most, self.parts)
        patches = torch.zeros(len(sets), most, 3, side, side)
        present = torch.zeros(len(sets), most)
        for row, each in enumerate(sets):
            present[row, : len(each)] = 1
            for number, square in enumerate(self.squares(each)):
                patches[row, number] = to_tensor(square)
        return patches.to(self.device), present.to(self.device)


def _cut_of(path: Path, card: Card) -> float:
    """What a card says of the masks; `CUT` where it says nothing."""
    found = card.training.get("mask_cut", CUT)
    if type(found) not in (int, float) or not 0 <= found <= 1:
        fix = "fetch it again, or train it anew"
        raise InputError(sentence(path, expected="a mask_cut from 0 to 1", found=repr(found), fix=fix))
    return float(found)


def stretched(patch: Photograph, side: int) -> Photograph:
    """A patch of a picture of any size at `(side, side)`, about as sharp as those that networks are trained with.

    These were cut out of pictures of `LARGER` times the resolution. So one with more pixels than such a patch has there
    is averaged over areas down to as many, and then stretched, bicubically.
    """
    rows, cols = patch.shape[:2]
    scale = TYPICAL * LARGER * side / sqrt(rows * cols)
    if scale < 1:
        small = (max(1, round(scale * cols)), max(1, round(scale * rows)))
        patch = cv2.resize(patch, small, interpolation=cv2.INTER_AREA)
    found: Photograph = cv2.resize(patch, (side, side), interpolation=cv2.INTER_CUBIC)
    return found


def _scaled(patch: Photograph, scale: float) -> Photograph:
    """A patch with so many times its rows and columns, at least one each."""
    size = (max(1, round(scale * patch.shape[1])), max(1, round(scale * patch.shape[0])))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    found: Photograph = cv2.resize(patch, size, interpolation=how)
    return found


def degraded(patches: Sequence[Photograph], level: float, seed: int) -> list[Photograph]:
    """Patches with Gaussian noise of that standard deviation, levels of 0..255, drawn by the seed; 0 leaves them."""
    if not level:
        return list(patches)
    random = np.random.default_rng([seed, _DEGRADED])
    noisy = (each + random.normal(0, level, each.shape) for each in patches)
    return [np.clip(np.rint(each), 0, 255).astype(np.uint8) for each in noisy]
