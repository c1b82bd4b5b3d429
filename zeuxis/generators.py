"""What `zeuxis.generator` returns: a generator, and the features that say what its pictures mean."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bank import Bank

if TYPE_CHECKING:
    from .pipelines.inpaint import ImageLike
    from .pipelines.inpainting.regions import RegionLike
    from .pipelines.like import Liked
    from .storage.images import Photograph


class Generator:
    """A generator of pictures.

    Args:
        path: a checkpoint, an exported program (`.pt2`), or a folder of networks.
        name: of the file in a folder; default the one there is, of several that of WGAN-GP.
        models: folder of networks with features and judge; default the one that `path` is or lies in.
        features: `bank`, `vgg19` or a file, see `zeuxis.synth.features.load_features`.
        bank: a bank, or its folder, for references that are segments or sources of it, and to look pictures up.
        freeze: ties batch normalisation of an exported program to its moments, instead of refusing it.

    Raises:
        InputError: generator or features are missing or cannot be used. BankError: the bank cannot be.
    """

    def __init__(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        models: str | Path | None = None,
        features: str | Path | None = None,
        bank: Bank | str | Path | None = None,
        freeze: bool = False,
    ) -> None:
        import torch

        from .pipelines.generators import load_generator
        from .synth.features import load_features

        file = Path(os.path.expanduser(path))
        self._models = Path(os.path.expanduser(models)) if models else file if file.is_dir() else file.parent
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._generator = load_generator(file, name, freeze=freeze, device=device)
        self._features = load_features(features, self._models, "max").to(device)
        self._bank = Bank(bank) if isinstance(bank, str | Path) else bank

    def __repr__(self) -> str:
        side = self._generator.resolution
        return f"Generator({self._generator.name!r}, {side}x{side}, features {self._features.name})"

    @property
    def resolution(self) -> int:
        """Rows and columns of its pictures."""
        return self._generator.resolution

    def samples(self, count: int = 36, seed: int = 0) -> list[Photograph]:
        """`(R, R, 3)` uint8 RGB: what it makes of random latents."""
        from .pipelines.like import checked, own_pictures
        from .synth.encoding import to_image
        from .synth.region_semantics.solver import Descent

        checked(count, seed, None, None, Descent())

        device = next(self._features.parameters()).device
        return [to_image(each) for each in own_pictures(self._generator, count, seed, device)]

    def like(
        self,
        image: ImageLike,
        region: RegionLike,
        count: int = 36,
        seed: int = 0,
        *,
        others: Sequence[tuple[ImageLike, RegionLike]] = (),
        look_up: bool = False,
        **settings: Any,
    ) -> Liked:
        """Pictures that mean in a region what an image does there, the best first.

        Args:
            image: `(H, W, 3)` uint8 RGB of any size, a file, or a source of the bank; a square of it is seen.
            region: a mask as an array or a file, a box `(top, left, bottom, right)`, or `segment:ID` of the bank.
            count: pictures; seed: of all draws.
            others: more references, each an image and a region, whose losses are added.
            look_up: also parse each picture with the judge of the folder, and retrieve from the bank for that layout.
            settings: `depth`, `noise`, `steps`, `apart`, `compiled`, `with_sheet`, `out`; see
                `zeuxis.pipelines.like.like`.

        Raises:
            InputError: one of the arguments cannot be used, found before anything is written.
        """
        from .pipelines.like import like
        from .pipelines.liking.lookup import LookUp

        retriever = self._bank._retriever if self._bank is not None else None
        finder = LookUp(self._models, retriever) if look_up else None
        found = like(
            self._generator, self._features, [(image, region), *others], count, seed, retriever=retriever,
            look_up=finder, **settings,
        )  # fmt: skip
        for warning in found.report.warnings:
            warnings.warn(warning, stacklevel=2)
        return found


def generator(path: str | Path, name: str | None = None, **settings: Any) -> Generator:
    """Opens a generator; see `Generator`."""
    return Generator(path, name, **settings)
