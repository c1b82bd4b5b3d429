"""How light falls on segments and classes in each photograph: mean colours, as the bank stores them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.appearance import Appearance, BorderColours, Rows
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

    def of_borders(self, shards: Numbers, rows: Numbers, class_ids: Numbers) -> Colours:
        """Colours along the borders of segments with a class in their photographs, `(n, 2, 3)`: theirs, the class's.

        Args:
            shards, rows: of the segments; class_ids: what lies beside each, `(n,)` each. NaN where nothing of it does.
        """
        found = np.full((len(shards), 2, 3), np.nan)
        for number in np.unique(shards).tolist():
            own = shards == number
            found[own] = self._shard(number).of_borders(rows[own], class_ids[own])
        return found

    def _shard(self, number: int) -> _ShardLights:
        if number not in self._of_shard:  # two threads may both read it, and read the same
            self._of_shard[number] = _ShardLights(self._shards[number])
        return self._of_shard[number]


class _ShardLights:
    """`Lights` of one shard: 20 bytes for each class of each photograph, 8 for each class beside a segment."""

    def __init__(self, shard: Shard) -> None:
        columns, described = shard.footprints, _described(shard.appearance)
        self._descriptors = None if described is None else described.rows
        borders = (described and described.borders) or BorderColours.none(0)
        segments = np.repeat(np.arange(len(borders.neighbours)), borders.neighbours)
        self._beside, self._along = _key(segments, borders.beside.astype(np.int64)), borders.colours
        if described is None:
            self._keys, self._means = np.zeros(0, np.int64), np.zeros((0, 3), np.float32)
            return
        colours = mean_colours(described.rows)
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
            place, there = _found(self._keys, _key(sources[:, None], class_ids[None]))
            found[there] = self._means[place[there]]
        return found

    def of_borders(self, rows: Numbers, class_ids: Numbers) -> Colours:
        found = np.full((len(rows), 2, 3), np.nan)
        if len(self._beside):
            place, there = _found(self._beside, _key(rows, class_ids))
            if there.any():
                found[there] = _lab(self._along[place[there]])
        return found


def _lab(colours: npt.NDArray[np.uint8]) -> Colours:
    """CIELAB of RGB, `(..., 3)` each."""
    flat = np.float32(colours.reshape(1, -1, 3)) / 255
    found: Colours = cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).astype(np.float64).reshape(colours.shape)
    return found


def _found(keys: Numbers, asked: Numbers) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Where in ascending keys, at least one, those that are asked for are, and whether they are there."""
    place = np.searchsorted(keys, asked).clip(max=len(keys) - 1)
    return place, keys[place] == asked


def _described(appearance: Appearance | None) -> Appearance | None:
    return appearance if appearance is not None and appearance.descriptor.startswith(_FAMILY) else None


def _key(rows: Numbers, class_ids: Numbers) -> Numbers:
    """One number for a source, or a segment, and a class."""
    return rows * (VOID + 1) + class_ids
