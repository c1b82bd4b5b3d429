"""What the training loop asks of a network that is to be trained: one task each, in a module beside this one.

Its module has `make_task(reader: Reader, models: Path, options: TrainOptions, progress: Progress) -> Task`; that of a
network that needs no bank takes None for one where `options.dataset` names photographs. It takes resolved options,
refuses what cannot be trained, and writes nothing: what takes long, such as a cache below `models`, is done by
`Task.dataset`, which tells it to that progress.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from ...storage.classes import SemanticClass
from ...storage.errors import InputError
from ...storage.images import Photograph
from ...storage.reader import Reader, content_of

Batch = Mapping[str, Tensor]
"""Items of a data set, stacked by name."""
Losses = Iterator[tuple[str, Tensor, Mapping[str, Tensor]]]
"""Name of an optimiser, what it is to lower, and the parts of that for the logs; all scalars."""


class NothingToLearn(InputError):
    """The bank holds nothing of what this network learns from, such as orderings; `train all` passes over it."""


@dataclass(frozen=True)
class Subject:
    """What a network is trained on.

    Attributes:
        bank: name of the bank's folder; generation: the one that is read.
        content: 32 hex digits over all that the bank holds; equal for equal banks.
        classes: of the bank, in the order of the channels; void is one more.
        size: `(rows, cols)` of the pictures.
        apart: whether some that train are set apart to choose what is kept, see `sets_apart`.
    """

    bank: str
    generation: int
    content: str
    classes: tuple[SemanticClass, ...]
    size: tuple[int, int]
    apart: bool = False


def palette_of(classes: Sequence[SemanticClass]) -> npt.NDArray[np.uint8]:
    """`(C + 1, 3)` RGB by channel; void, the last, is black."""
    return np.array([*(entry.colour for entry in classes), (0, 0, 0)], np.uint8)


def subject_of(reader: Reader, size: tuple[int, int]) -> Subject:
    """A bank as it is trained on at `(rows, cols)`."""
    apart = sets_apart(labelled_splits(reader))
    return Subject(reader.path.name, reader.manifest.generation, content_of(reader), tuple(reader.classes), size, apart)


def labelled_splits(reader: Reader) -> set[str]:
    """Those that a bank has labelled sources of."""
    rows = reader.table("sources", None, ["split", "layout"]).to_pylist()
    return {row["split"] for row in rows if row["layout"] is not None}


def sets_apart(splits: Collection[str]) -> bool:
    """Whether some that train are set apart to choose what is kept, because `val` is missing or is measured on."""
    return not {"val", "test"} <= set(splits)


class Task(Protocol):
    """A network, what it learns from, and how.

    Attributes:
        network: its kind, such as `synthesis`.
        name: stem of its files; the kind, but for variants, such as `synthesis-no-canvas`.
        subject: what it is trained on.
        features: name of the feature network of its loss, such as `vgg19` or `bank:1/8`; empty where there is none.
        figure: which figure of `validate` decides what is kept; smaller_is_better: whether it is an error.
        revision: an attribute that a task need not have: a whole number, raised where the same options would take other
            steps than before, so that a training which began with those does not go on with these.
        along: an attribute that a task need not have: names of modules of which means are kept as well, of the same
            steps as the network that is kept, in a file beside the resume state.
        coarse_bank: an attribute that a task need not have: name and content of a second bank that it learns from.
    """

    @property
    def network(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def subject(self) -> Subject: ...
    @property
    def features(self) -> str: ...
    @property
    def figure(self) -> str: ...
    @property
    def smaller_is_better(self) -> bool: ...

    def modules(self) -> nn.ModuleDict:
        """New modules, on the CPU, drawn from torch's own random numbers, in the modes in which they train.

        `net` becomes the checkpoint; others, such as `discriminator` or `loss`, live in the resume state alone, which
        holds all buffers, and the parameters that require a gradient. Frozen ones must come out the same every time.
        """

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """By name; their state may be tensors only, as that of Adam and AdamW is."""

    def dataset(self) -> Dataset[dict[str, Tensor]]:
        """Map-style, picklable, without end: item k, tensors by name, depends on (seed, k) alone, for every k >= 0.

        What has to be prepared is prepared before this returns; an interrupt meanwhile is not held up.
        """

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """For each optimiser in turn, what it is to lower; the next is asked for once the step of the one is done.

        The loop zeroes the gradients of that optimiser's parameters, goes backward and steps; gradients that end up in
        parameters of another one do no harm. Runs under the autocast of the run's precision, on its device.

        Args:
            modules: of `modules`, set up by the loop; step: from 0.
        """

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Figures on held-out sources. `net` is a copy with the weights to be kept, in eval mode, on the run's device.

        No gradients are recorded, and torch's random numbers are put back afterwards.
        """

    def grid(self, net: nn.Module) -> Photograph:
        """A picture of samples to look at, `(H, W, 3)` uint8; the same held-out samples each time. As `validate`."""

    def config(self) -> dict[str, Any]:
        """The network's configuration, JSON-able."""

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """JSON-able, for the card's `training`: such as the frozen weights of the loss."""
