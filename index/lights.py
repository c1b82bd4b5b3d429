"""How light falls on each class in each photograph: mean colours, from the descriptors that the bank stores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..storage.appearance import Appearance, Rows
from ..storage.classes import VOID
from ..storage.reader import Reader
from ..storage.shard import Shard

Colours = npt.NDArray[np.float64]
"""`(..., 3)` CIELAB, L in 0..100; NaN where nothing is known."""
Numbers = npt.NDArray[np.int64]

_FAMILY = "colour-texture-"  # of descriptors that begin with mean L, a and b, see `ingest/appearance.py`
_GREY = np.array([0.0, 128.0, 128.0])
_STEP = np.array([100 / 255, 1 / 3, 1 / 3])  # CIELAB a byte: L takes all of it, a and b stand threefold around grey


def mean_colours(descriptors: Rows) -> Colours:
    """The mean colour of each segment, `(n, 3)`, by its descriptor, `(n, D)` uint8; NaN where it is all zero."""
    colours: Colours = (descriptors[:, :3] - _GREY) * _STEP
    colours[~descriptors.any(axis=1)] = np.nan
    return colours


class Lights:
    """Mean colours of segments, and of the classes in each photograph; a shard is read when it is first asked for.

    What one photograph shows is never mixed with another, so that no filter of a query has to be heeded here.
    """

    def __init__(self, reader: Reader) -> None:
        self._shards = reader.shards  # not the reader, which must not be kept
        self._of_shard: dict[int, _ShardLights] = {}

    def of_segments(self, shards: Numbers, rows: Numbers) -> Colours:
        """The mean colours of segments, `(n, 3)`, by their shards and rows there, `(n,)` each."""
        found = np.full((len(shards), 3), np.nan)
        for number in np.unique(shards).tolist():
            found[shards == number] = self._shard(number).of_segments(rows[shards == number])
        return found

    def of_classes(self, shards: Numbers, sources: Numbers, class_ids: Numbers) -> Colours:
        """The mean colour of each class in each photograph, `(s, c, 3)`; NaN where it shows none of it.

        Args:
            shards, sources: of the photographs, `(s,)` each: shards, and rows there; class_ids: `(c,)`.
        """
        found = np.full((len(shards), len(class_ids), 3), np.nan)
        for number in np.unique(shards).tolist():
            found[shards == number] = self._shard(number).of_classes(sources[shards == number], class_ids)
        return found

    def _shard(self, number: int) -> _ShardLights:
        if number not in self._of_shard:  # two threads may both read it, and read the same
            self._of_shard[number] = _ShardLights(self._shards[number])
        return self._of_shard[number]


class _ShardLights:
    """`Lights` of one shard: 20 bytes for each class of each photograph."""

    def __init__(self, shard: Shard) -> None:
        columns, described = shard.footprints, _described(shard.appearance)
        self._descriptors = described
        if described is None:
            self._keys, self._means = np.zeros(0, np.int64), np.zeros((0, 3), np.float32)
            return
        colours = mean_colours(described)
        known = ~np.isnan(colours[:, 0])
        keys = _key(columns.source[known].astype(np.int64), columns.class_id[known].astype(np.int64))
        self._keys, place = np.unique(keys, return_inverse=True)
        area = columns.area[known].astype(np.float64)
        sums = [np.bincount(place, area * channel, len(self._keys)) for channel in colours[known].T]
        means = np.stack(sums, axis=1) / np.bincount(place, area, len(self._keys))[:, None]
        self._means = means.astype(np.float32)

    def of_segments(self, rows: Numbers) -> Colours:
        if self._descriptors is None:
            return np.full((len(rows), 3), np.nan)
        return mean_colours(self._descriptors[rows])

    def of_classes(self, sources: Numbers, class_ids: Numbers) -> Colours:
        found = np.full((len(sources), len(class_ids), 3), np.nan)
        if len(self._keys):
            keys = _key(sources[:, None], class_ids[None])
            place = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
            there = self._keys[place] == keys
            found[there] = self._means[place[there]]
        return found


def _described(appearance: Appearance | None) -> Rows | None:
    return appearance.rows if appearance is not None and appearance.descriptor.startswith(_FAMILY) else None


def _key(sources: Numbers, class_ids: Numbers) -> Numbers:
    return sources * (VOID + 1) + class_ids
