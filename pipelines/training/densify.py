"""Training the densification network: coarse layouts, simulated from dense ones or drawn, made dense (SIMS, 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import Dataset

from ...storage.classes import Layout
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.coarsening import Coarsening, coarsen, densified, nearest_filled
from ...synth.densification import DensificationConfig, DensificationNetwork
from ...synth.encoding import class_indices, one_hot
from ...synth.losses import parsing_loss
from ...synth.metrics import confusion, parsing
from ..progress import Progress, silent
from .coarse_pairs import CoarseBank, Partners, drawn, partners_of
from .options import TrainOptions
from .sources import BankSources, trained_and_held_out
from .task import Batch, Losses, Subject, palette_of, subject_of

N_VALIDATION = 64
"""Held-out layouts that are validated on, at most."""
N_SHOWN = 4
VALIDATION_SEED = 0x5EED
COARSENING = Coarsening()


class DensifyItems(Dataset[dict[str, Tensor]]):
    """Layouts and how a hurried annotator drew them, or would have; item k depends on (seed, k) alone.

    An item holds `coarse` and `dense`, `(h, w)` int64 channel numbers. Half are mirrored.

    Args:
        partners: what was drawn of the sources; where there is nothing it is simulated.
    """

    def __init__(self, sources: BankSources, settings: Coarsening, seed: int, partners: Partners | None = None) -> None:
        self.sources, self.settings, self.seed, self.partners = sources, settings, seed, partners
        self.channel_of = class_indices(tuple(sources.reader.classes))

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self.seed, k))
        number = int(random.integers(len(self.sources)))
        layout, coarse = self.sources[number].layout, drawn(self.partners, number)
        if random.random() < 0.5:
            layout = layout[:, ::-1].copy()
            coarse = None if coarse is None else coarse[:, ::-1].copy()
        if coarse is None:
            coarse = coarsen(layout, self.settings, random)
        return {"coarse": self._tensor(coarse), "dense": self._tensor(layout)}

    def _tensor(self, layout: Layout) -> Tensor:
        return torch.from_numpy(self.channel_of[layout])


class DensifyTask:
    """The densification network on a bank's layouts.

    Args:
        options: resolved; where `coarse` names a bank, what was drawn there is learned from and validated on.

    Attributes:
        coarse_bank: name and content of the bank of coarse layouts; None where all are simulated.

    Raises:
        NothingToLearn: the bank has no labelled sources in its training split.
        InputError, BankError: the bank of coarse layouts cannot be used, see `coarse_pairs`.
    """

    network = name = "densify"
    features = ""
    figure, smaller_is_better = "miou", False

    def __init__(
        self,
        reader: Reader,
        options: TrainOptions,
        cache: Path | None = None,
        progress: Progress = silent,
        coarsening: Coarsening = COARSENING,
    ) -> None:
        assert options.size is not None
        assert options.lr is not None
        self.options, self.lr, self.coarsening = options, options.lr, coarsening
        self.subject: Subject = subject_of(reader, options.size)
        self.net_config = DensificationConfig(len(self.subject.classes), options.size, options.width)
        self._channel_of = class_indices(self.subject.classes)
        self.sources, self.held_out = trained_and_held_out(
            reader, options.size, most=N_VALIDATION, cache=cache, progress=progress
        )
        self.coarse_bank: str | None = None
        self.partners: Partners | None = None
        self.held_out_partners: Partners | None = None
        if options.coarse is not None:
            bank = CoarseBank(options.coarse, reader)
            both = (self.sources, self.held_out)
            self.partners, self.held_out_partners = partners_of(bank, both, cache=cache, progress=progress)
            self.coarse_bank = bank.identity

    def modules(self) -> nn.ModuleDict:
        """The network alone."""
        return nn.ModuleDict({"net": DensificationNetwork(self.net_config)})

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam, as CRN."""
        return {"net": Adam(modules["net"].parameters(), self.lr)}

    def dataset(self) -> DensifyItems:
        """Layouts of the training split, coarsened at random where nothing was drawn."""
        self.sources.prepare()
        if self.partners is not None:
            self.partners.prepare()
        return DensifyItems(self.sources, self.coarsening, self.options.seed, self.partners)

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """Cross-entropy where the dense layout has a class."""
        coarse = one_hot(batch["coarse"], self.net_config.n_classes)
        loss = parsing_loss(modules["net"](coarse).float(), batch["dense"])
        yield "net", loss, {"parsing": loss}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Mean IoU over classes of held-out layouts with what becomes of their coarse ones.

        `miou`: by the network; `miou_nearest`: void takes the nearest class instead; likewise `accuracy`, the share of
        the pixels that have a class. With a bank of coarse layouts also `pairs`, the share of the layouts whose coarse
        ones are from there.
        """
        n = self.net_config.n_classes
        by_network, by_nearest = np.zeros((n, n), np.int64), np.zeros((n, n), np.int64)
        for coarse, dense in self._validation():
            truth = self._channel_of[dense]
            by_network += confusion(truth, densified(net, self._channel_of[coarse], n), n)
            # a layout of which nothing is left stays void, which counts as the first class
            by_nearest += confusion(truth, self._channel_of[nearest_filled(coarse)] % n, n)
        network, nearest = parsing(by_network), parsing(by_nearest)
        partners = self.held_out_partners
        share = {} if partners is None else {"pairs": len(partners) / len(self.held_out)}
        return {
            "miou": network.mean_iou,
            "miou_nearest": nearest.mean_iou,
            "accuracy": network.accuracy,
            "accuracy_nearest": nearest.accuracy,
            **share,
        }

    def grid(self, net: nn.Module) -> Photograph:
        """A row a layout: coarse, as the network makes it dense, dense."""
        n, colours = self.net_config.n_classes, palette_of(self.subject.classes)
        rows = []
        for coarse, dense in islice(self._validation(), N_SHOWN):
            given, truth = self._channel_of[coarse], self._channel_of[dense]
            rows.append(np.hstack([colours[each] for each in (given, densified(net, given, n), truth)]))
        return np.vstack(rows)

    def config(self) -> dict[str, Any]:
        """Of the network."""
        return asdict(self.net_config)

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """How coarse layouts were simulated, and how many there were instead; classes: of them that counted."""
        told: dict[str, Any] = {"coarsening": asdict(self.coarsening)}
        if self.partners is None or self.held_out_partners is None:
            return told
        bank = self.partners.bank
        told["pairs"] = {
            "bank": bank.reader.path.name,
            "generation": bank.reader.manifest.generation,
            "classes": bank.classes,
            "trained": [len(self.partners), len(self.sources)],
            "held out": [len(self.held_out_partners), len(self.held_out)],
        }
        return told

    def _validation(self) -> Iterator[tuple[Layout, Layout]]:
        """The held-out layouts, coarse and dense, the same each time."""
        for number in range(len(self.held_out)):
            layout = self.held_out[number].layout
            coarse = drawn(self.held_out_partners, number)
            if coarse is None:
                coarse = coarsen(layout, self.coarsening, np.random.default_rng((VALIDATION_SEED, number)))
            yield coarse, layout


def make_task(reader: Reader, models: Path, options: TrainOptions, progress: Progress = silent) -> DensifyTask:
    """The task as `zeuxis train densify` trains it.

    Raises:
        NothingToLearn: the bank has no labelled sources in its training split.
        InputError, BankError: the bank of coarse layouts that `options` name cannot be used.
    """
    return DensifyTask(reader, options, models / "cache", progress)
