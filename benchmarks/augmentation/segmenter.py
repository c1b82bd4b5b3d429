"""A small segmentation network, trained on photographs with ordinary augmentation, copy-paste or synthesised images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

from zeuxis.pipelines.training.options import TrainOptions, is_emulated
from zeuxis.pipelines.training.parsing import cropped, recoloured
from zeuxis.storage.images import Photograph
from zeuxis.synth.encoding import to_tensor
from zeuxis.synth.judge import JudgeConfig, JudgeNetwork
from zeuxis.synth.losses import parsing_loss
from zeuxis.synth.metrics import confusion

BATCH = 8
LR = 2e-3
WEIGHT_DECAY = 1e-4
PASTED = 0.5
"""Share of the items of copy-paste that something is pasted into."""
TAKEN = 0.5
"""Share of the objects of a photograph that are pasted, as in Ghiasi et al. 2021 a random subset."""
JITTER = (0.5, 2.0)
"""Change of size of what is pasted (Ghiasi et al. take 0.1 to 2 of whole pictures; smaller objects vanish here)."""

Method = Literal["ordinary", "copy-paste"]


class Pair(NamedTuple):
    """A photograph, real or not, with its labels.

    Attributes:
        image: `(H, W, 3)` uint8 RGB; labels: `(H, W)` int64 channel numbers, `n_classes` where void.
        objects: `(H, W)` int, 0 or the number of a thing; none of synthesised images.
    """

    image: Photograph
    labels: npt.NDArray[np.int64]
    objects: npt.NDArray[np.int32] | None = None


@dataclass
class Items(Dataset[dict[str, Tensor]]):
    """What the network sees; item k depends on (seed, k) alone. All are cropped, mirrored and recoloured at random.

    Attributes:
        real: photographs; made: synthesised images; mix: share of items that are of these.
        method: `copy-paste` puts objects of one photograph into another.
    """

    real: Sequence[Pair]
    made: Sequence[Pair]
    mix: float
    method: Method
    seed: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self.seed, k))
        if self.made and random.random() < self.mix:
            pair = self.made[random.integers(len(self.made))]
        else:
            pair = self.real[random.integers(len(self.real))]
            if self.method == "copy-paste" and random.random() < PASTED:
                pair = pasted(pair, self.real[random.integers(len(self.real))], random)
        image, labels = cropped(pair.image, pair.labels.astype(np.uint16), random)
        if random.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        return {"image": to_tensor(recoloured(image, random)), "layout": torch.from_numpy(labels.astype(np.int64))}


def pasted(onto: Pair, of: Pair, random: np.random.Generator) -> Pair:
    """A random half of the things of one photograph, at another size and place, mirrored or not, in another one."""
    assert of.objects is not None
    numbers = np.unique(of.objects)[1:]
    taken = numbers[random.random(len(numbers)) < TAKEN]
    mask = np.isin(of.objects, taken)
    scale = float(np.exp(random.uniform(*np.log(JITTER))))
    rows, cols = mask.shape
    shift = random.uniform(-0.5, 0.5, 2) * (cols, rows)
    mirror = -1.0 if random.random() < 0.5 else 1.0
    middle = np.array([cols, rows]) / 2
    matrix = np.array([[scale * mirror, 0, 0], [0, scale, 0]])
    matrix[:, 2] = middle + shift - matrix[:, :2] @ middle
    warped = cv2.warpAffine(mask.astype(np.uint8), matrix, (cols, rows), flags=cv2.INTER_NEAREST) > 0
    image = cv2.warpAffine(of.image, matrix, (cols, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    labels = cv2.warpAffine(of.labels.astype(np.uint16), matrix, (cols, rows), flags=cv2.INTER_NEAREST)
    return Pair(
        np.where(warped[..., None], image, onto.image).astype(np.uint8),
        np.where(warped, labels, onto.labels).astype(np.int64),
    )


def trained(
    real: Sequence[Pair], made: Sequence[Pair], mix: float, method: Method, *, n_classes: int, width: float, steps: int,
    seed: int,
) -> nn.Module:  # fmt: skip
    """The network after `steps` steps; what differs between methods are the items alone."""
    torch.manual_seed(seed)
    network = JudgeNetwork(JudgeConfig(n_classes, width))
    optimiser = AdamW(network.parameters(), LR, weight_decay=WEIGHT_DECAY)
    schedule = OneCycleLR(optimiser, LR, total_steps=steps)
    items = Items(real, made, mix, method, seed, steps * BATCH)
    half = not is_emulated(TrainOptions(precision="bf16-mixed", devices="cpu"))
    for batch in DataLoader(items, BATCH):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(batch["image"])
        loss = parsing_loss(logits.float(), batch["layout"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def tested(network: nn.Module, pairs: Sequence[Pair], n_classes: int) -> npt.NDArray[np.int64]:
    """`(n, C, C)` confusion of each photograph, truth by row; void counts nowhere."""
    with torch.inference_mode():
        read = [network(to_tensor(pair.image)[None])[0].argmax(0).numpy() for pair in pairs]
    return np.stack([confusion(pair.labels, each, n_classes) for pair, each in zip(pairs, read, strict=True)])
