"""Which of two overlapping pieces is in front, by the ordering network (SIMS, section 4.4).

The paper's network names the class of the segment in front. Here it corrects what the statistics of the two classes
say: their logarithmic odds are added to the difference of the two classes' logits, in training and in use. So a
network that has learned nothing says what the statistics say, and all it learns is what they do not know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..storage.layouts import Box
from .canvas import Placement
from .encoding import one_hot
from .fitting import Indices, batch_of, device_of, filled
from .ordering import ClassOrder, Pair, class_evidence
from .transform import Piece, Target
from .turns import in_turn

Orderer = Callable[[Tensor, Tensor], Tensor]
"""Any network from pairs `(N, C, H, W)` and layouts `(N, C + 1, H, W)` to `(N, C)` logits of the class in front."""

UNSURE = 0.1
"""Certainty `|2 p - 1|` of the network under which the statistics of the two classes decide."""
Indexed = Mapping[int, Piece] | Sequence[Piece]


def network_evidence(
    network: Orderer,
    layout: Indices,
    placements: Sequence[Placement],
    overlaps: Iterable[tuple[int, int]],
    channel_of: npt.NDArray[np.int64],
    statistics: ClassOrder,
    unsure: float = UNSURE,
) -> list[Pair]:
    """Which piece of each overlapping pair is in front; what `back_to_front` orders by.

    The network sees the layout and the two components that the pieces cover, not the pieces' warped masks: the
    question is which of the two is nearer in the scene that the layout shows, and it was trained on just such pairs.
    Pairs of one class, of classes it does not know, of components of which nothing is left at its size, and those it
    is not sure of follow `class_evidence`.

    Args:
        network: in evaluation mode.
        layout: `(H, W)` int64 channel numbers, at the canvas's size, which must be the one it was trained at.
        placements: the pieces on the canvas.
        overlaps: pairs of indices of placements.
        channel_of: `(65536,)` int64 from class id to channel, as `class_indices` makes it; void is its last value.
        statistics: of the bank's orderings, for the prior and for what is left to them.
        unsure: certainty under which the statistics decide.

    Returns:
        One pair an overlap, certainty `|2 p - 1|`.
    """
    pairs = list(overlaps)
    pieces = [placed.piece for placed in placements]
    leads = pair_leads(network, layout, pieces, pairs, channel_of, statistics)
    ids, boxes = [piece.class_id for piece in pieces], [placed.box for placed in placements]
    return evidence_of(leads, ids, boxes, pairs, statistics, unsure)


def pair_leads(
    network: Orderer,
    layout: Indices,
    pieces: Indexed,
    pairs: Iterable[tuple[int, int]],
    channel_of: npt.NDArray[np.int64],
    statistics: ClassOrder,
) -> dict[tuple[int, int], float]:
    """`2 p - 1` of the pairs that the network is asked about, p the probability that the first is in front.

    It depends on the layout and on the two components alone, whatever segments cover them.

    Args:
        network, layout, channel_of, statistics: as in `network_evidence`.
        pieces: by number or by name; only their classes and targets are looked at. pairs: of those.
    """
    n_classes = int(channel_of[-1])

    def shown(piece: Piece) -> bool:
        return bool(channel_of[piece.class_id] < n_classes and piece.target.mask.any())

    asked = [
        (a, b) for a, b in pairs if pieces[a].class_id != pieces[b].class_id and shown(pieces[a]) and shown(pieces[b])
    ]
    found: dict[tuple[int, int], float] = {}
    at_once = batch_of(network)
    for start in range(0, len(asked), at_once):
        some = asked[start : start + at_once]
        targets = [(pieces[a].target, pieces[b].target) for a, b in some]
        ids = [(pieces[a].class_id, pieces[b].class_id) for a, b in some]
        priors = [prior(statistics, *each) for each in ids]
        leads = _leads(network, layout, targets, channel_of[np.array(ids)], n_classes, priors, at_once)
        found |= dict(zip(some, leads, strict=True))
    return found


def evidence_of(
    leads: Mapping[tuple[int, int], float],
    class_ids: Sequence[int],
    boxes: Sequence[Box],
    pairs: Sequence[tuple[int, int]],
    statistics: ClassOrder,
    unsure: float = UNSURE,
) -> list[Pair]:
    """One pair an overlap: by its lead where there is one that is not below `unsure`, else by `class_evidence`."""
    found = class_evidence(statistics, class_ids, boxes, pairs)
    for number, (a, b) in enumerate(pairs):
        lead = leads.get((a, b), 0.0)
        if (a, b) in leads and abs(lead) >= unsure:
            found[number] = Pair(a, b, lead) if lead > 0 else Pair(b, a, -lead)
    return found


def prior(statistics: ClassOrder, a: int, b: int, without: tuple[int, int] | None = None) -> float:
    """Logarithmic odds that class `a` stands in front of class `b`, by the statistics alone.

    Args:
        statistics: of a bank's orderings, with one imagined pair each way; a, b: class ids.
        without: a pair (class in front, class behind) that is taken out of the counts: in training the network must
            not see its own answer in them.
    """
    ahead = statistics.count(a, b) - (without == (a, b))
    behind = statistics.count(b, a) - (without == (b, a))
    return math.log((ahead + 1) / (behind + 1))


def front_logit(logits: Tensor, channels: Tensor, priors: Tensor) -> Tensor:
    """Logarithmic odds that the first of two is in front.

    Args:
        logits: `(N, C)` of the network; channels: `(N, 2)` int64, the two classes; priors: `(N,)` as `prior` says.

    Returns:
        `(N,)`.
    """
    both = logits.gather(1, channels)
    return both[:, 0] - both[:, 1] + priors


def pair_map(masks: tuple[Target, Target], channels: Sequence[int], size: tuple[int, int], n_classes: int) -> Indices:
    """`(H, W)` int64: the channels of two components where they are, `n_classes` elsewhere."""
    shown = np.full(size, n_classes, np.int64)
    for target, channel in zip(masks, channels, strict=True):
        top, left, bottom, right = target.box
        shown[top:bottom, left:right][target.mask] = channel
    return shown


def _leads(
    network: Orderer,
    layout: Indices,
    targets: Sequence[tuple[Target, Target]],
    channels: npt.NDArray[np.int64],
    n_classes: int,
    priors: Sequence[float],
    at_once: int,
) -> list[float]:
    """`2 p - 1` of each pair, p the probability that its first is in front."""
    size = (layout.shape[0], layout.shape[1])
    maps = [pair_map(both, each.tolist(), size, n_classes) for both, each in zip(targets, channels, strict=True)]
    device = device_of(network)
    with in_turn(device):
        shown = one_hot(filled(torch.from_numpy(np.stack(maps)), at_once).to(device), n_classes)[:, :n_classes]
        around = one_hot(torch.from_numpy(layout)[None].to(device), n_classes).expand(at_once, -1, -1, -1)
        logits = network(shown, around)[: len(maps)]
        odds = front_logit(logits, torch.from_numpy(channels).to(device), torch.tensor(priors, device=device))
        leads: list[float] = torch.tanh(odds.double() / 2).tolist()
    return leads
