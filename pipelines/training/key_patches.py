"""Training the network that assembles an image from key patches (Lee et al. 2018), or what it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.augment import changed
from ...synth.features import Features, load_features
from ...synth.key_patches.losses import (
    HINGE,
    MADE,
    PAPER,
    REAL,
    LossWeights,
    Objective,
    appearance,
    composites,
    decayed,
    discriminator_loss,
    generator_loss,
    overlap,
    ramped,
    spatial,
    swaps,
)
from ...synth.key_patches.network import (
    RESOLUTIONS,
    Aspect,
    Form,
    KeyPatchConfig,
    KeyPatchDiscriminator,
    KeyPatchNetwork,
)
from ..progress import Progress, silent
from .object_windows import object_windows
from .options import TrainOptions, devices_of, square_side
from .patch_figures import FIGURE, Judging, drawn, usual_places
from .patch_items import PatchItems
from .patch_pictures import PatchPictures
from .photographs import BankOrigin, DatasetOrigin, Origin, trained_and_held_out
from .task import Batch, Losses

NETWORK = "key-patches"
PARTS = 3
"""Patches of a picture (section 4)."""
BETAS = (0.5, 0.999)
FORMS: dict[str | None, Form] = {
    "no-mask": "no-mask", "auto-encoder": "auto-encoder", "conditional-gan": "conditional-gan"
}  # fmt: skip
"""Of variants whose network is another one."""
MISMATCHED = "mismatched"
"""Photographs beside the patches of another one, which the conditional GAN is to tell as well (Reed et al. 2016)."""


class KeyPatchTask:
    """Assembling pictures from patches of them.

    Args:
        origin: of the photographs; models: the folder of networks; options: resolved.
        features: that the kernel distance of validation compares; None for untrained ones.
        weights: of the terms of the loss; default by objective and variant. Others are another training.
        aspect: of patches, see `KeyPatchConfig`; another one is another training.

    Raises:
        InputError: an option cannot be. NothingToLearn: there are no pictures.
    """

    network = NETWORK
    figure = FIGURE
    smaller_is_better = True
    revision = 3
    """Patches keep their shapes."""

    def __init__(
        self,
        origin: Origin,
        models: Path,
        options: TrainOptions,
        features: Features | None = None,
        weights: LossWeights | None = None,
        progress: Progress = silent,
        aspect: Aspect = "kept",
    ) -> None:
        self.options, self.variant = options, options.variant
        fewest, most = (options.parts,) * 2 if isinstance(options.parts, int) else options.parts or (PARTS, PARTS)
        self.net_config = KeyPatchConfig(
            square_side(options, RESOLUTIONS), options.width, norm=cast(Any, options.norm or "group"), parts=most,
            form=FORMS.get(options.variant, "assembler"), aspect=aspect, usual=options.variant not in FORMS,
        )  # fmt: skip
        patches = options.patches or "mixed"
        own = [patches] if patches != "mixed" else []
        self.name = "-".join([NETWORK, *([options.variant] if options.variant else []), *own])
        self.objective: Objective = cast(Any, options.objective or "hinge")
        self.weights = weights or _weights(options)
        self.judging_steps, self.making_steps = options.ratio or (1, 1)
        side = self.net_config.resolution
        self.subject = origin.subject((side, side))
        drawn = "random" if patches == "random" else "key"
        among = None
        if options.objects is not None and isinstance(origin, BankOrigin):
            among = {window.source for window in object_windows(origin.reader, options.objects, side)}
        pictures = (
            PatchPictures(
                origin, names, side, objects=options.objects, patches=drawn, n=most, cache=models / "cache",
                subject=self.subject, progress=progress, room=room, aspect=aspect,
            )
            for names, room in zip(trained_and_held_out(origin, among), (True, False), strict=True)
        )  # fmt: skip
        total = (options.steps or 1) * (options.batch or 1) * options.accumulate * devices_of(options)[1]
        self.samples = PatchItems(
            next(pictures), self.net_config, options.seed, fewest, mixed=patches == "mixed", total=total
        )
        self.held_out = PatchItems(next(pictures), self.net_config, options.seed, most, fixed=True)
        self.features = "" if features is None else features.name
        self._judging = Judging(self.samples, self.held_out, features)
        self._net: KeyPatchNetwork | None = None
        self._discriminator: KeyPatchDiscriminator | None = None

    def modules(self) -> nn.ModuleDict:
        """The network, and its discriminator; the auto-encoder has none."""
        self._net = KeyPatchNetwork(self.net_config)
        if self._net.usual is not None:
            self._net.usual.copy_(usual_places(self.samples.pictures))
        modules: dict[str, nn.Module] = {"net": self._net}
        if self.variant != "auto-encoder":
            spectral = self.objective == "hinge"
            modules["discriminator"] = self._discriminator = KeyPatchDiscriminator(self.net_config, spectral=spectral)
        return nn.ModuleDict(modules)

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam, with the paper's momentum."""
        return {name: Adam(module.parameters(), self.options.lr or 0.0, BETAS) for name, module in modules.items()}

    def dataset(self) -> PatchItems:
        """Pictures of the training split, half of them mirrored."""
        self.samples.pictures.prepare()
        self.held_out.pictures.prepare()
        return self.samples

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """The network's (equation 1), as often as `ratio` says; then the discriminator's, on the last pictures made."""
        share = step / max(1, (self.options.steps or 1) - 1)
        made = batch["image"]
        for number in range(self.making_steps):
            z = batch["z"] if number == 0 else torch.rand_like(batch["z"]) * 2 - 1
            made, total, parts = self._making(modules["net"], batch, z, share)
            yield "net", total, parts
        if self.variant == "auto-encoder":
            return
        for number in range(self.judging_steps):
            if number:
                with torch.no_grad():
                    again = torch.rand_like(batch["z"]) * 2 - 1
                    made = modules["net"](batch["patches"], batch["present"], again)[0].float()
            total, parts = self._judged(modules, batch, made.detach(), share)
            yield "discriminator", total, parts

    def validate(self, net: nn.Module) -> dict[str, float]:
        """On held-out pictures, see `patch_figures.Judging`."""
        return self._judging.figures(cast(KeyPatchNetwork, net))

    def grid(self, net: nn.Module) -> Photograph:
        """A row a held-out picture: its patches, itself and the mask of them, what was made, and the mask made."""
        return drawn(cast(KeyPatchNetwork, net), self.held_out)

    def config(self) -> dict[str, Any]:
        """Of the network."""
        return asdict(self.net_config)

    @property
    def other_weights(self) -> dict[str, Any]:
        """Weights of the loss that are not those of objective and variant, by name; for `standing.settings_of`."""
        usual = asdict(_weights(self.options))
        return {name: value for name, value in asdict(self.weights).items() if value != usual[name]}

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """What the pictures are, how many there were, the weights of the loss, and the cut of the masks of `views`."""
        masks = {"mask_cut": self._judging.cut, "views": True} if self.net_config.has_mask else {}
        return {
            **masks,
            "objects": self.options.objects, "patches": self.options.patches or "mixed",
            "fewest_parts": self.samples.fewest, "parts": self.net_config.parts, "objective": self.objective,
            "ratio": [self.judging_steps, self.making_steps], "loss_weights": asdict(self.weights),
            "pictures": len(self.samples.pictures), "left_out": self.samples.pictures.left_out,
        }  # fmt: skip

    def _making(
        self, net: nn.Module, batch: Batch, z: Tensor, share: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The pictures, what the network is to lower, and the parts of that."""
        image, true = batch["image"], batch["mask"]
        made, mask = net(batch["patches"], batch["present"], z)
        made, mask = made.float(), mask.float()
        if self.variant == "auto-encoder":
            pixels = functional.l1_loss(made, image)
            return made, pixels, {"pixel": pixels}
        parts: dict[str, Tensor] = {}
        ramp, weights, total = ramped(share), decayed(share, self.net_config.resolution), made.new_zeros(())
        if self.variant != "conditional-gan":
            shown = mask if self.net_config.has_mask else true
            parts["appearance"] = appearance(made, shown, image, true)
            total = total + weights.appearance * parts["appearance"]
        if self.net_config.has_mask:  # without a mask decoder the true mask shows what is compared already
            parts["inside"] = appearance(made, true, image, true)
            total = total + weights.appearance * self.weights.inside * parts["inside"]
            parts["spatial"], parts["overlap"] = spatial(mask, true), overlap(mask, true)
            total = total + weights.spatial * (parts["spatial"] + self.weights.overlap * parts["overlap"])
        seen = {MADE: made}
        if ramp * self.weights.fooled_mixed:
            seen |= composites(image, made, true)
        assert self._discriminator is not None
        with _still(self._discriminator):  # gradients of its own are of no use here
            scores = self._scores(self._discriminator, seen, self._condition(batch, seen))
        parts["fooled"] = generator_loss(scores, self.weights, self.objective, ramp)
        return made, total + parts["fooled"], parts

    def _judged(
        self, modules: nn.ModuleDict, batch: Batch, made: Tensor, share: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the discriminator is to lower, on photographs and pictures that were made."""
        image, other, true, ramp = batch["image"], batch["other"], batch["mask"], ramped(share)
        seen = {REAL: image, MADE: made}
        if ramp * self.weights.mixed:
            seen |= composites(image, made, true)
        if ramp * self.weights.swapped:
            seen |= swaps(image, other, true)
        if self.variant == "conditional-gan":
            seen[MISMATCHED] = other
        scores = self._scores(modules["discriminator"], seen, self._condition(batch, seen))
        if MISMATCHED in scores:  # as much as pictures that were made (GAN-CLS)
            scores[MADE] = torch.cat([scores[MADE], scores.pop(MISMATCHED)])
        judged = discriminator_loss(scores, self.weights, self.objective, ramp)
        return judged, {
            "judged": judged.detach(), "score real": scores[REAL].mean().detach(),
            "score made": scores[MADE].mean().detach(),
        }  # fmt: skip

    def _condition(self, batch: Batch, seen: Mapping[str, Tensor]) -> Tensor | None:
        """What the conditional GAN's discriminator is told of the patches, once for each kind of picture it sees."""
        if self.variant != "conditional-gan":
            return None
        assert self._net is not None
        with torch.no_grad():
            found = self._net.encode(batch["patches"], batch["present"])
        return found.repeat(len(seen), 1)

    def _scores(
        self, discriminator: nn.Module, seen: Mapping[str, Tensor], condition: Tensor | None
    ) -> dict[str, Tensor]:
        """Of pictures by name; all at once, but where they would be normalised together."""
        images = torch.cat(list(seen.values()))
        if self.options.augment:
            images = changed(images)
        apart = self.net_config.norm == "batch" and self.objective == "log"
        if apart:
            conditions = [None] * len(seen) if condition is None else condition.chunk(len(seen))
            each = [
                discriminator(one) if given is None else discriminator(one, given)
                for one, given in zip(images.chunk(len(seen)), conditions, strict=True)
            ]
        else:
            found = discriminator(images) if condition is None else discriminator(images, condition)
            each = list(found.chunk(len(seen)))
        return {name: one.float() for name, one in zip(seen, each, strict=True)}


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """What is computed meanwhile gives the module no gradients."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def _weights(options: TrainOptions) -> LossWeights:
    weights = PAPER if options.objective == "log" else HINGE
    return weights.plain() if options.variant in ("plain-gan", "conditional-gan") else weights


def make_task(reader: Reader | None, models: Path, options: TrainOptions, progress: Progress = silent) -> KeyPatchTask:
    """The task as `zeuxis train key-patches` trains it; on a data set that the options name, where there is no bank.

    Raises:
        NothingToLearn: there are no pictures to train on.
        InputError: an option cannot be; features that were asked for are missing.
    """
    assert reader is not None or options.dataset is not None
    origin = BankOrigin(reader) if reader is not None else DatasetOrigin(str(options.dataset))
    if options.norm == "batch" and devices_of(options)[1] > 1:
        raise InputError(sentence("--norm batch", expected="one device", found="several", fix="give --devices 1"))
    features = load_features(options.features, models) if options.features else None
    return KeyPatchTask(origin, models, options, features, progress=progress)
