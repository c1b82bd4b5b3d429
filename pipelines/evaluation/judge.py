"""What pictures are measured against: a judge network, the published Inception network, and the photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ...storage.images import Photograph
from ...synth.encoding import to_tensor
from ...synth.inception import Inception, features_of
from ...synth.metrics import Features, log_power_spectrum
from ..models import Model
from ..training.sources import BankSources

JUDGED_AT_ONCE = 16

Reading = tuple[npt.NDArray[np.int64], Features]
"""`(n, H, W)` channel numbers and `(n, d)` features, of the pictures of a system."""


class Judge:
    """A parsing network that says what pictures show, and gives the features that distributions are compared in.

    Args:
        model: the network.
        inception: another one that gives features alone, where there is one; it is moved to the device of the first.
    """

    def __init__(self, model: Model, inception: Inception | None = None) -> None:
        self.model = model
        self.device = next(model.network.parameters()).device
        self.inception = None if inception is None else inception.to(self.device)

    @property
    def n_classes(self) -> int:
        """Classes it tells apart."""
        return self.model.n_classes

    def __call__(self, images: Sequence[Photograph]) -> Reading:
        """`(n, H, W)` channel numbers and `(n, d)` features of equally large pictures."""
        read, features = [], []
        with torch.inference_mode():
            for start in range(0, len(images), JUDGED_AT_ONCE):
                batch = torch.stack([to_tensor(image) for image in images[start : start + JUDGED_AT_ONCE]])
                logits, found = self.model.network.judged(batch.to(self.device))  # type: ignore[operator]
                read.append(logits.argmax(dim=1).cpu().numpy())
                features.append(found.float().cpu().numpy())
        return np.concatenate(read), np.concatenate(features)

    def seen(self, images: Sequence[Photograph]) -> Features | None:
        """`(n, 2048)` features of pictures by the Inception network; None where there is none."""
        return None if self.inception is None else features_of(self.inception, images)


@dataclass(frozen=True, eq=False)
class Truth:
    """The photographs the layouts came from, and what the judge makes of them.

    Attributes:
        photographs, layouts: of the sources, ascending names; groups: `(n,)` their groups.
        indices: `(n, H, W)` channel numbers of the layouts; read: the same as the judge reads the photographs.
        features: `(n, d)` by the judge; seen: by the Inception network, None where there is none.
        spectrum: of the photographs together.
    """

    photographs: Sequence[Photograph]
    layouts: npt.NDArray[np.uint16]
    groups: npt.NDArray[np.str_]
    indices: npt.NDArray[np.int64]
    read: npt.NDArray[np.int64]
    features: Features
    seen: Features | None
    spectrum: npt.NDArray[np.float64]

    @classmethod
    def of(cls, sources: BankSources, judge: Judge) -> Truth:
        """All sources of a held-out split."""
        pictures = [sources[i] for i in range(len(sources))]
        photographs = [picture.image for picture in pictures]
        layouts = np.stack([picture.layout for picture in pictures])
        read, features = judge(photographs)
        indices, spectrum = judge.model.channel_of[layouts], log_power_spectrum(photographs)
        return cls(photographs, layouts, sources.groups, indices, read, features, judge.seen(photographs), spectrum)


def first_half(groups: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """`(n,)` bool: about half of the sources, so that no group is in both halves; at least two are in each.

    The groups are those that come first, as neighbours in name are often neighbours in time. Where there is one group
    alone, or the others hold less than two sources, it is the first half of the sources.

    Args:
        groups: of at least four sources in ascending order of their names.
    """
    n = len(groups)
    _, first, numbers, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    sources = np.cumsum(counts[order])[:-1]  # in the first group, in the first two, ...
    fits = np.flatnonzero((sources >= 2) & (sources <= n - 2))
    if not len(fits):
        return np.arange(n) < n // 2
    groups_of_first = order[: 1 + fits[np.abs(2 * sources[fits] - n).argmin()]]
    return np.isin(numbers, groups_of_first)
