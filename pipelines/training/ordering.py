"""Training the ordering network: pairs of touching segments, and which of the two is in front (SIMS, section 4.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer
from torch.utils.data import Dataset

from ...storage.errors import sentence
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.encoding import class_indices, one_hot
from ...synth.ordering import ClassOrder
from ...synth.ordering_evidence import front_logit, prior
from ...synth.ordering_network import OrderingConfig, OrderingNetwork
from ..progress import Progress, silent
from .options import TrainOptions
from .sources import BankSources, set_apart
from .task import Batch, Losses, NothingToLearn, Subject, palette_of, subject_of

PAIRS = 10
"""Pairs of a picture that an item holds at most (SIMS' code)."""
N_VALIDATION = 60
"""Held-out pictures that are validated on, at most."""
N_SHOWN = 6
APART = 6
"""Of so many training groups, one is not trained on but validated on."""


class KnownPairs(NamedTuple):
    """The pairs of one source of which it is known who is in front, all of unlike classes.

    Attributes:
        regions: `(p, 2)` int64, numbers in `Picture.regions` of the one in front and of the one behind.
        class_ids: `(p, 2)` int64, of both.
        margins: `(p,)` float64, relative difference of their depths, 0..1.
    """

    regions: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]
    margins: npt.NDArray[np.float64]


class PairSources:
    """Sources with at least one known pair, by number.

    Args:
        sources: at the network's size; pairs of which no pixel of one is left at this size are passed over.
        among: numbers of the sources to look at; default all.
    """

    def __init__(self, sources: BankSources, among: Sequence[int] | None = None) -> None:
        self.sources, self.among = sources, range(len(sources)) if among is None else among

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def reader(self) -> Reader:
        """Of the bank."""
        return self.sources.reader

    def pairs(self, number: int) -> KnownPairs:
        """The known pairs of a source of `sources`."""
        return self._pairs[number]

    @cached_property
    def numbers(self) -> list[int]:
        """Numbers of the sources in `sources`."""
        return sorted(self._pairs)

    @cached_property
    def statistics(self) -> ClassOrder:
        """Which class stands in front of which in these sources."""
        front, behind = np.concatenate(
            [each.class_ids for each in self._pairs.values()] or [np.zeros((0, 2), np.int64)]
        ).T
        return ClassOrder.from_orderings(front, behind)

    def is_empty(self) -> bool:
        """Whether there is no known pair; nothing is cached for that, and as few sources are decoded as tell it."""
        return next(PairSources(self.sources.uncached(), self.among)._found(), None) is None

    @cached_property
    def _pairs(self) -> dict[int, KnownPairs]:
        return dict(self._found())

    def _found(self) -> Iterator[tuple[int, KnownPairs]]:
        """Numbers of sources with at least one known pair, and those."""
        columns = ["source", "segment_a", "segment_b", "class_a", "class_b", "front", "margin"]
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in self.reader.table("orderings", {"split": self.sources.split}, columns).to_pylist():
            if row["front"] is not None and row["class_a"] != row["class_b"]:
                rows.setdefault(row["source"], []).append(row)
        for number in self.among:
            pairs = self._of_source(number, rows.get(self.sources.names[number], []))
            if len(pairs.regions):
                yield number, pairs

    def _of_source(self, number: int, rows: list[dict[str, Any]]) -> KnownPairs:
        left = np.unique(self.sources[number].regions) if rows else np.zeros(0, np.uint16)
        ids = self.sources.segments(number).segment_ids[left[left > 0] - 1]
        region_of = dict(zip(ids.tolist(), left[left > 0].tolist(), strict=True))
        found = [_front_first(row) for row in rows if row["segment_a"] in region_of and row["segment_b"] in region_of]
        regions = [(region_of[front], region_of[behind]) for front, behind, *_ in found]
        return KnownPairs(
            np.array(regions, np.int64).reshape(-1, 2),
            np.array([each[2:4] for each in found], np.int64).reshape(-1, 2),
            np.array([each[4] for each in found], np.float64),
        )


def _front_first(row: Mapping[str, Any]) -> tuple[int, int, int, int, float]:
    """Segments and classes, front, then behind, and the margin."""
    a, b = (row["segment_a"], row["class_a"]), (row["segment_b"], row["class_b"])
    front, behind = (a, b) if row["front"] == row["segment_a"] else (b, a)
    return front[0], behind[0], front[1], behind[1], row["margin"] or 0.0


class OrderingItems(Dataset[dict[str, Tensor]]):
    """Pictures with some of their known pairs; item k depends on (seed, k) alone.

    An item holds, of P = `PAIRS` places: `layout` `(h, w)` int64 channel numbers; `pairs` `(P, h, w)` int64, the
    channels of two segments where they are, void elsewhere; `channels` `(P, 2)` int64 of both, in an order that says
    nothing; `front` `(P,)` float, 1 where the first is in front; `priors` `(P,)` what statistics say of it; and
    `weights` `(P,)`, 0 at places without a pair.

    Args:
        pairs: of the sources.
        statistics: for the priors.
        own: the statistics count these sources, and each pair is left out of its own prior.
        seed: of the draws.
    """

    def __init__(self, pairs: PairSources, statistics: ClassOrder, *, own: bool, seed: int = 0) -> None:
        self.pairs, self.statistics, self.own, self.seed = pairs, statistics, own, seed
        classes = tuple(pairs.reader.classes)
        self.channel_of, self.n_classes = class_indices(classes), len(classes)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self.seed, k))
        number = self.pairs.numbers[int(random.integers(len(self.pairs)))]
        chosen = random.permutation(len(self.pairs.pairs(number).regions))[:PAIRS]
        return self._item(number, chosen, random.random(len(chosen)) < 0.5, PAIRS, random.random() < 0.5)

    def whole(self, number: int) -> dict[str, Tensor]:
        """All known pairs of a source, without empty places; the one in front is named first at every other place."""
        n = len(self.pairs.pairs(number).regions)
        return self._item(number, np.arange(n), np.arange(n) % 2 == 0, n)

    def _item(
        self,
        number: int,
        chosen: npt.NDArray[np.int64],
        front_first: npt.NDArray[np.bool_],
        places: int,
        mirror: bool = False,
    ) -> dict[str, Tensor]:
        """Some pairs of a source: which, where the one in front is named first, and whether left is right."""
        picture, known = self.pairs.sources[number], self.pairs.pairs(number)
        layout, regions = self.channel_of[picture.layout], picture.regions
        if mirror:
            layout, regions = layout[:, ::-1].copy(), regions[:, ::-1]
        ids = known.class_ids[chosen]
        order = np.where(front_first[:, None], (0, 1), (1, 0))
        ordered, channels = np.take_along_axis(ids, order, 1), self.channel_of[np.take_along_axis(ids, order, 1)]
        shown = np.full((places, *regions.shape), self.n_classes, np.int64)
        for place, (both, own) in enumerate(zip(known.regions[chosen], ids, strict=True)):
            for region, class_id in zip(both.tolist(), own.tolist(), strict=True):
                shown[place][regions == region] = self.channel_of[class_id]
        priors = [
            prior(self.statistics, a, b, tuple(pair) if self.own else None)
            for (a, b), pair in zip(ordered.tolist(), ids.tolist(), strict=True)
        ]
        return {
            "layout": torch.from_numpy(layout),
            "pairs": torch.from_numpy(shown),
            "channels": _padded(torch.from_numpy(channels), places),
            "front": _padded(torch.from_numpy(front_first).float(), places),
            "priors": _padded(torch.tensor(priors, dtype=torch.float32), places),
            "weights": _padded(torch.ones(len(chosen)), places),
        }


def asked(net: nn.Module, batch: Batch, n_classes: int) -> Tensor:
    """`(N, P)` logarithmic odds that the first of each pair is in front; 0 where there is no pair.

    Only places with a pair are computed.
    """
    there = batch["weights"] > 0
    pairs = one_hot(batch["pairs"][there], n_classes)[:, :n_classes]
    layouts = one_hot(batch["layout"], n_classes)[there.nonzero()[:, 0]]
    odds = torch.zeros(there.shape, device=there.device)
    odds[there] = front_logit(net(pairs, layouts).float(), batch["channels"][there], batch["priors"][there])
    return odds


def ordering_loss(odds: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of who is in front, the mean over all pairs that are there.

    The paper's is over all classes; here over the two in question, for the front one is always one of them.
    """
    each = functional.binary_cross_entropy_with_logits(odds, batch["front"], batch["weights"], reduction="sum")
    return each / batch["weights"].sum().clamp(min=1)


class OrderingTask:
    """The ordering network on a bank's orderings.

    What is kept is chosen on every sixth training group (every sixth source where there are fewer groups), which are
    not trained on: the held-out split stays untouched for the measurement at the end. Where either
    have no known pair, it is trained and chosen on the same ones.
    """

    network = name = "ordering"
    features = ""
    figure, smaller_is_better = "accuracy", False

    def __init__(
        self, reader: Reader, options: TrainOptions, cache: Path | None = None, progress: Progress = silent
    ) -> None:
        assert options.size is not None
        assert options.lr is not None
        self.options, self.lr = options, options.lr
        self.subject: Subject = subject_of(reader, options.size)
        self.net_config = OrderingConfig(len(self.subject.classes), options.width)
        self.sources = BankSources(reader, options.size, "train", cache=cache, progress=progress)
        apart = set_apart(self.sources.groups, APART)
        self.pairs = PairSources(self.sources, np.flatnonzero(~apart).tolist())
        self._held_out = PairSources(self.sources, np.flatnonzero(apart).tolist())
        if self.pairs.is_empty():
            self.pairs = self._held_out
        if self.pairs.is_empty():
            what = "orderings of its training split of which it is known who is in front"
            fix = "rebuild it from a data set with depth, or with an ordering rule"
            raise NothingToLearn(sentence(reader.path, expected=what, found="none", fix=fix))
        if self._held_out.is_empty():
            self._held_out = self.pairs

    def modules(self) -> nn.ModuleDict:
        """The network alone."""
        return nn.ModuleDict({"net": OrderingNetwork(self.net_config)})

    def optimisers(self, modules: nn.ModuleDict) -> dict[str, Optimizer]:
        """Adam, as the paper."""
        return {"net": Adam(modules["net"].parameters(), self.lr)}

    def dataset(self) -> OrderingItems:
        """Pictures of the training split, mirrored half of the time."""
        self.sources.prepare()
        return OrderingItems(self.pairs, self.pairs.statistics, own=True, seed=self.options.seed)

    def losses(self, modules: nn.ModuleDict, batch: Batch, step: int) -> Losses:
        """Cross-entropy of who is in front."""
        loss = ordering_loss(asked(modules["net"], batch, self.net_config.n_classes), batch)
        yield "net", loss, {"front": loss}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Shares of pairs set apart that are answered rightly: `accuracy`, and `statistics` by the classes alone."""
        items = OrderingItems(self._held_out, self.pairs.statistics, own=False)
        return accuracy(net, items, N_VALIDATION)

    def grid(self, net: nn.Module) -> Photograph:
        """A row a pair: photograph, the two segments, and the same with the one that the network puts in front lit."""
        items = OrderingItems(self._held_out, self.pairs.statistics, own=False)
        shown = [_row(net, items, number) for number in self._held_out.numbers[:N_SHOWN]]
        return np.vstack(shown or [np.zeros((*self.sources.size, 3), np.uint8)])

    def config(self) -> dict[str, Any]:
        """Of the network."""
        return asdict(self.net_config)

    def extra(self, modules: nn.ModuleDict) -> dict[str, Any]:
        """Nothing."""
        return {}


def make_task(reader: Reader, models: Path, options: TrainOptions, progress: Progress = silent) -> OrderingTask:
    """The task as `zeuxis train ordering` trains it.

    Raises:
        NothingToLearn: of no pair of the training split it is known who is in front.
    """
    return OrderingTask(reader, options, models / "cache", progress)


def accuracy(net: nn.Module, items: OrderingItems, most: int | None = None) -> dict[str, float]:
    """Shares of pairs that are answered rightly: `accuracy`, and `statistics` by the classes alone, a tie half.

    Args:
        net: in evaluation mode; items: without a seed; most: only so many sources, evenly spaced.
    """
    device = next(net.parameters()).device
    numbers = np.array(items.pairs.numbers)
    if most is not None and len(numbers) > most:
        numbers = numbers[np.linspace(0, len(numbers) - 1, most).round().astype(int)]
    right, by_class, n = 0.0, 0.0, 0
    for number in numbers.tolist():
        batch = {name: each[None].to(device) for name, each in items.whole(number).items()}
        odds = asked(net, batch, items.n_classes)
        right += _n_right(odds, batch["front"])
        by_class += _n_right(batch["priors"], batch["front"])
        n += odds.numel()
    return {"accuracy": right / max(n, 1), "statistics": by_class / max(n, 1)}


def _n_right(odds: Tensor, front: Tensor) -> float:
    """How many odds favour the one in front; even ones count half."""
    return float(((odds * (2 * front - 1)).sign() + 1).sum() / 2)


def _row(net: nn.Module, items: OrderingItems, number: int) -> Photograph:
    picture, item = items.pairs.sources[number], items.whole(number)
    device = next(net.parameters()).device
    odds = asked(net, {name: each[None].to(device) for name, each in item.items()}, items.n_classes)[0]
    picked = int(item["weights"].argmax())
    both = palette_of(tuple(items.pairs.reader.classes))[item["pairs"][picked].numpy()]
    front = item["channels"][picked, 0 if odds[picked] > 0 else 1]
    lit = np.where((item["pairs"][picked] == front).numpy()[..., None], picture.image, picture.image // 4)
    return np.hstack([picture.image, both, lit])


def _padded(values: Tensor, places: int) -> Tensor:
    """Zeros for the places without a pair."""
    padded = values.new_zeros((places, *values.shape[1:]))
    padded[: len(values)] = values
    return padded
