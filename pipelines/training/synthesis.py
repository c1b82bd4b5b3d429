"""Training the synthesis network: from simulated canvases back to the photographs they were made of (SIMS, 5.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import default_collate

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.discriminator import DiscriminatorConfig, PatchDiscriminator
from ...synth.encoding import one_hot, to_image
from ...synth.features import Features, load_features
from ...synth.losses import PIXEL, PerceptualLoss, hinge_discriminator, hinge_generator, parsing_loss
from ...synth.simulation import Simulation
from ...synth.synthesis import SynthesisConfig, SynthesisNetwork
from ..progress import Progress, silent
from .beginning import beginning
from .canvas_settings import canvas_settings
from .canvases import CanvasSamples
from .hits import check_leaving_out
from .options import TrainOptions
from .sources import trained_and_held_out
from .task import Batch, Losses, palette_of, subject_of

NETWORK = "synthesis"
N_VALIDATION = 16
"""Held-out photographs that are validated on, at most."""
N_SHOWN = 4
BATCH = 4
VALIDATION_SEED = 0x5EED
LEVELS = 127.5
"""Levels of 0..255 in a unit of [-1, 1]: the weights of the SIMS code are meant for pixels that count levels."""


@dataclass(frozen=True)
class SynthesisLoss:
    """What counts besides the perceptual loss, whose terms each count as much as its pixels.

    Attributes:
        parsing: weight of the cross-entropy of the semantic head as in the SIMS code, where pixels count in levels of
            0..255; 0 leaves the head out.
        adversarial: weight of a discriminator's hinge loss, beside pixels that count in [-1, 1]; 0 leaves it out.
    """

    parsing: float = 10.0
    adversarial: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise InputError(sentence(f"loss: {name}", expected="a number of at least 0", found=repr(value)))


LOSS = SynthesisLoss()


class SynthesisTask:
    """The synthesis network, or one of its variants.

    `no-canvas` is CRN's cascade on the layout alone; `image-space` compares nothing but pixels.

    Args:
        features: of the perceptual loss; None for `image-space`.
        settings: how canvases are simulated; loss: what counts; flip: half of the samples are mirrored; k: see
            `CanvasSamples`; passing: see `SynthesisConfig`.
    """

    network = NETWORK
    smaller_is_better = True

    def __init__(
        self,
        reader: Reader,
        models: Path,
        options: TrainOptions,
        features: Features | None,
        *,
        settings: Simulation | None = None,
        loss: SynthesisLoss = LOSS,
        flip: bool = True,
        k: int = 5,
        passing: bool = True,
        progress: Progress = silent,
    ) -> None:
        assert options.size is not None
        assert options.lr is not None
        self.name = f"{NETWORK}-{options.variant}" if options.variant else NETWORK
        self.lr, self.width, self.loss, self.accumulate = options.lr, options.width, loss, options.accumulate
        self._features, self.features = features, "" if features is None else features.name
        self.figure = "pixel" if features is None else "perceptual"
        self.subject = subject_of(reader, options.size)
        canvas = options.variant != "no-canvas"
        self.net_config = SynthesisConfig(
            len(self.subject.classes),
            options.size,
            options.width,
            canvas=canvas,
            semantic_head=loss.parsing > 0,
            passing=passing and canvas,
            filled=passing and canvas,
        )
        self._start = (
            None
            if options.start is None
            else beginning(Path(options.start), NETWORK, reader, self.net_config, SynthesisNetwork)
        )
        sources, held_out = trained_and_held_out(
            reader, options.size, most=N_VALIDATION, cache=models / "cache", progress=progress
        )
        check_leaving_out(reader)
        drawn = partial(CanvasSamples, settings=settings, k=k, fill=self.net_config.filled, progress=progress)
        self.samples = drawn(sources, seed=options.seed, flip=flip)
        self._held_out = drawn(held_out, seed=VALIDATION_SEED)
        self._items: list[dict[str, Tensor]] = []

    def modules(self) -> nn.ModuleDict:
        """The network, its loss, and the discriminator where it counts."""
        net = SynthesisNetwork(self.net_config)
        if self._start is not None:
            net.begin_from(*self._start)
        modules: dict[str, nn.Module] = {
            "net": net,
            "loss": PerceptualLoss(self._features, image_space=self._features is None, accumulate=self.accumulate),
        }
        if self.loss.adversarial:
            config = DiscriminatorConfig(self.net_config.n_classes, self.width)
            modules["discriminator"] = PatchDiscriminator(config)
        return nn.ModuleDict(modules)

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam, as the paper; the momentum of adversarial training is that of pix2pix."""
        if "discriminator" not in modules:
            return {"net": Adam(modules["net"].parameters(), self.lr)}
        return {name: Adam(modules[name].parameters(), self.lr, (0.5, 0.999)) for name in ("net", "discriminator")}

    def dataset(self) -> CanvasSamples:
        """Simulated canvases of the training split."""
        self.samples.prepare()
        return self.samples

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """The network's, then the discriminator's on the same pictures."""
        layout = one_hot(batch["layout"], self.net_config.n_classes)
        image, logits = modules["net"](layout, batch["canvas"], batch["valid"])
        image = image.float()
        terms: dict[str, Tensor] = modules["loss"](image, batch["image"])
        total, parts = self._total(modules, terms), dict(terms)
        if logits is not None:
            parts["parsing"] = parsing_loss(logits.float(), batch["layout"])
            total = total + self.loss.parsing / LEVELS * parts["parsing"]
        if "discriminator" not in modules:
            yield "net", total, parts
            return
        parts["fooled"] = hinge_generator(modules["discriminator"](image, layout).float())
        yield "net", total + self.loss.adversarial * parts["fooled"], parts
        real, fake = (modules["discriminator"](each, layout).float() for each in (batch["image"], image.detach()))
        yield "discriminator", hinge_discriminator(real, fake), {}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """On simulated canvases of held-out photographs, the same each time.

        `pixel`: the mean absolute difference, in [-1, 1]; `perceptual`: the mean over the terms of the perceptual loss
        of each one's share of what it is for a picture of the photographs' mean colours, which needs no weights, so
        that trainings compare; `accuracy`: the share of pixels with a class that the semantic head reads.
        """
        device = next(net.parameters()).device
        compare = PerceptualLoss(self._features, image_space=self._features is None).to(device).eval()
        sums: dict[str, float] = {}
        blank: dict[str, float] = {}
        right = labelled = 0
        for batch, image, logits in self._painted(net, device):
            real = batch["image"]
            _add(sums, compare(image, real), len(real))
            _add(blank, compare(real.mean((2, 3), keepdim=True).expand_as(real), real), len(real))
            if logits is not None:
                known = batch["layout"] < self.net_config.n_classes
                right += int((logits.argmax(1) == batch["layout"])[known].sum())
                labelled += int(known.sum())
        found = {"pixel": sums[PIXEL] / len(self._items)}
        if self._features is not None:
            found["perceptual"] = float(np.mean([sums[name] / max(blank[name], 1e-9) for name in sums]))
        return found | ({"accuracy": right / labelled} if labelled else {})

    def grid(self, net: nn.Module) -> Photograph:
        """A row a held-out photograph: its layout, the canvas, what the network makes of it, the photograph."""
        colours = palette_of(self.subject.classes)
        batch, images, _ = next(self._painted(net, next(net.parameters()).device))
        rows = [
            np.hstack([colours[layout.cpu().numpy()], *map(to_image, pictures)])
            for layout, *pictures in zip(batch["layout"], batch["canvas"], images, batch["image"], strict=True)
        ]
        return np.vstack(rows[:N_SHOWN])

    def config(self) -> dict[str, Any]:
        """Of the network."""
        return asdict(self.net_config)

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """How canvases were simulated, what counted, and the weights of the perceptual loss."""
        loss: Any = modules["loss"]
        return {
            "elision": asdict(self.samples.settings.elision),
            "colour_share": self.samples.settings.colour_share,
            "transfer": self.samples.settings.transfer,
            "k": self.samples.k,
            "flip": self.samples.flip,
            "loss": asdict(self.loss),
            "loss_weights": dict(zip(loss.names, loss.weights.tolist(), strict=True)),
        }

    def _total(self, modules: nn.ModuleDict, terms: Mapping[str, Tensor]) -> Tensor:
        loss: Any = modules["loss"]
        total: Tensor = loss.total(terms)
        return total

    def _painted(self, net: nn.Module, device: torch.device) -> Iterator[tuple[Batch, Tensor, Tensor | None]]:
        """Held-out samples in batches, with what the network makes of them."""
        if not self._items:
            self._held_out.prepare()
            self._items += [self._held_out[k] for k in range(len(self._held_out.sources))]
        for start in range(0, len(self._items), BATCH):
            batch = default_collate(self._items[start : start + BATCH])
            batch = {name: each.to(device) for name, each in batch.items()}
            image, logits = net(one_hot(batch["layout"], self.net_config.n_classes), batch["canvas"], batch["valid"])
            yield batch, image.float().clamp(-1, 1), logits


def make_task(reader: Reader, models: Path, options: TrainOptions, progress: Progress = silent) -> SynthesisTask:
    """The task as `zeuxis train synthesis` trains it.

    Raises:
        NothingToLearn: the bank has no labelled sources in its training split.
        InputError: it is too small to leave a source's own group out; the features of the loss are missing.
    """
    features = None if options.variant == "image-space" else load_features(options.features, models)
    own = canvas_settings(options.canvas or (), options.width)
    loss = SynthesisLoss(own.parsing, options.adversarial or 0.0)
    return SynthesisTask(
        reader, models, options, features, settings=own.simulation, loss=loss, flip=own.flip, k=own.k,
        passing=own.passing, progress=progress,
    )  # fmt: skip


def _add(sums: dict[str, float], terms: Mapping[str, Tensor], times: int) -> None:
    for name, term in terms.items():
        sums[name] = sums.get(name, 0.0) + term.item() * times
