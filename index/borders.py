"""Which components of a layout lie side by side, and along how long a border."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..storage.layouts import Labels


class Borders(NamedTuple):
    """Components side by side: `pairs`, `(e, 2)` int64, each once and the smaller first; `lengths`, `(e,)` int64."""

    pairs: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


def find_borders(labels: Labels, n: int, reach: int = 2) -> Borders:
    """The borders between the components 1..n of a label map, which are numbered from 0 in the answer.

    Args:
        labels: `(R, C)` uint32, 0 where there is none.
        n: how many components.
        reach: two components are side by side where pixels of theirs are so far apart along a row or a column.

    Returns:
        The lengths are numbers of such pixel pairs.
    """
    keys = []
    for first, second in ((labels[:, :-reach], labels[:, reach:]), (labels[:-reach], labels[reach:])):
        there = (first != second) & (first > 0) & (second > 0)
        a, b = first[there].astype(np.int64) - 1, second[there].astype(np.int64) - 1
        keys.append(np.minimum(a, b) * n + np.maximum(a, b))
    found, lengths = np.unique(np.concatenate(keys), return_counts=True)
    return Borders(np.stack([found // max(n, 1), found % max(n, 1)], axis=1), lengths.astype(np.int64))
