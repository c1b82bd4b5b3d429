"""Training networks that parse photographs: what the features of the loss and the judge of the evaluation share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.utils.data import Dataset

from ...storage.classes import Layout
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.encoding import class_indices, to_tensor
from ...synth.losses import parsing_loss
from ...synth.metrics import confusion, parsing
from ..progress import Progress
from .options import TrainOptions
from .sources import BankSources, trained_and_held_out
from .task import Batch, Losses, palette_of, subject_of

N_VALIDATION = 100
"""Held-out photographs that are validated on, at most."""
N_SHOWN = 4
SMALLEST_CROP = 0.6
"""Share of each side that an item shows, at least."""
WEIGHT_DECAY = 1e-4


class ParsingItems(Dataset[dict[str, Tensor]]):
    """Photographs of the training split as they might have been taken otherwise; item k depends on (seed, k) alone.

    An item holds `image`, `(3, h, w)` in [-1, 1], and `layout`, `(h, w)` int64 channel numbers.
    """

    def __init__(self, sources: BankSources, seed: int) -> None:
        self.sources, self.seed = sources, seed
        self.channel_of = class_indices(tuple(sources.reader.classes))

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self.seed, k))
        picture = self.sources[int(random.integers(len(self.sources)))]
        image, layout = cropped(picture.image, picture.layout, random)
        if random.random() < 0.5:
            image, layout = image[:, ::-1], layout[:, ::-1]
        return {
            "image": to_tensor(recoloured(image, random)),
            "layout": torch.from_numpy(self.channel_of[layout]),
        }


def cropped(image: Photograph, layout: Layout, random: np.random.Generator) -> tuple[Photograph, Layout]:
    """A window of the same shape somewhere in a picture, enlarged to its size; the layout by nearest neighbour."""
    rows, cols = layout.shape
    share = random.uniform(SMALLEST_CROP, 1)
    height, width = round(rows * share), round(cols * share)
    top, left = (int(random.integers(0, side + 1)) for side in (rows - height, cols - width))
    window = slice(top, top + height), slice(left, left + width)
    larger: Photograph = cv2.resize(image[window], (cols, rows), interpolation=cv2.INTER_LINEAR)
    ids: Layout = cv2.resize(layout[window], (cols, rows), interpolation=cv2.INTER_NEAREST_EXACT)
    return larger, ids


def recoloured(image: Photograph, random: np.random.Generator) -> Photograph:
    """Another brightness, contrast, saturation and balance of red, green and blue."""
    x = image.astype(np.float32) / 255
    x *= random.uniform(0.9, 1.1, 3).astype(np.float32)
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    x = grey[..., None] + np.float32(random.uniform(0.6, 1.4)) * (x - grey[..., None])
    x = grey.mean() + np.float32(random.uniform(0.7, 1.3)) * (x - grey.mean()) + np.float32(random.uniform(-0.15, 0.15))
    jittered: Photograph = (np.clip(x, 0, 1) * 255).round().astype(np.uint8)
    return jittered


class ParsingTask(ABC):
    """A network that parses a bank's photographs.

    Args:
        seed_shift: added to the seed of the items, so that two networks do not see the same ones.
    """

    features = ""
    figure, smaller_is_better = "miou", False

    def __init__(
        self,
        network: str,
        reader: Reader,
        models: Path,
        options: TrainOptions,
        progress: Progress,
        *,
        seed_shift: int = 0,
    ) -> None:
        assert options.size is not None
        self.network = self.name = network
        self.options, self.seed = options, options.seed + seed_shift
        self.subject = subject_of(reader, options.size)
        self.channel_of = class_indices(self.subject.classes)
        self.sources, self.held_out = trained_and_held_out(
            reader, options.size, most=N_VALIDATION, cache=models / "cache", progress=progress
        )

    @property
    def n_classes(self) -> int:
        """Of the bank."""
        return len(self.subject.classes)

    @abstractmethod
    def net(self) -> nn.Module:
        """A new network: `(N, 3, H, W)` in [-1, 1] to `(N, C, H, W)` logits; its `config` is a dataclass."""

    def modules(self) -> nn.ModuleDict:
        """The network alone."""
        return nn.ModuleDict({"net": self.net()})

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam with a little decay of the weights."""
        assert self.options.lr is not None
        return {"net": AdamW(modules["net"].parameters(), self.options.lr, weight_decay=WEIGHT_DECAY)}

    def dataset(self) -> ParsingItems:
        """Photographs of the training split, cropped, mirrored and recoloured at random."""
        self.sources.prepare()
        self.held_out.prepare()
        return ParsingItems(self.sources, self.seed)

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """Cross-entropy where there is a class."""
        loss = parsing_loss(modules["net"](batch["image"]).float(), batch["layout"])
        yield "net", loss, {}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Of held-out photographs: `miou`, mean IoU over classes; `accuracy`, share of the pixels that have a class."""
        counts = np.zeros((self.n_classes, self.n_classes), np.int64)
        for _, truth, read in self._read(net):
            counts += confusion(truth, read, self.n_classes)
        found = parsing(counts)
        return {"miou": found.mean_iou, "accuracy": found.accuracy}

    def grid(self, net: nn.Module) -> Photograph:
        """A row a photograph: itself, what the network reads, its layout."""
        colours = palette_of(self.subject.classes)
        step = max(1, len(self.held_out) // N_SHOWN)
        rows = [
            np.hstack([image, colours[read], colours[truth]])
            for image, truth, read in islice(self._read(net, step), N_SHOWN)
        ]
        return np.vstack(rows)

    def config(self) -> dict[str, Any]:
        """Of the network."""
        with torch.device("meta"):
            config: Any = self.net().config
        return asdict(config)

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """How the weights decayed."""
        return {"weight_decay": WEIGHT_DECAY}

    def _read(
        self, net: nn.Module, step: int = 1
    ) -> Iterator[tuple[Photograph, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Held-out photographs, and channel numbers as they are and as they are read."""
        device = next(net.parameters()).device
        for number in range(0, len(self.held_out), step):
            picture = self.held_out[number]
            logits = net(to_tensor(picture.image)[None].to(device))
            yield picture.image, self.channel_of[picture.layout], logits[0].argmax(0).cpu().numpy()
