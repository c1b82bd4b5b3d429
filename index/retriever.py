"""Layout in, hits out: exact search over every shard of a bank."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..storage.classes import Layout
from ..storage.errors import FilterError, sentence
from ..storage.layouts import Box
from ..storage.reader import Reader, Where
from .query import Query, make_query
from .request import LayoutLike, as_layout
from .result import Component, Hit, Retrieval
from .scoring import TopK
from .search import ExactSearch

ASPECT_TOLERANCE = 0.02
"""Relative difference of aspect ratios above which a layout is answered with a warning."""


class Retriever:
    """Exact retrieval from one generation of a bank."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._exact = ExactSearch(reader)

    def retrieve(
        self,
        layout: LayoutLike,
        k: int = 5,
        *,
        dataset: str | None = None,
        where: Where = None,
        exclude: str | Iterable[str] = (),
        weights: tuple[float, float] = (1.0, 1.0),
    ) -> Retrieval:
        """The k best segments for every component of a layout, exactly by the score.

        Args:
            layout: path, `(H, W)` class ids or `(H, W, 3)` colours, of any size (see `as_layout`).
            k: hits a component, at most.
            dataset: ids and colours are the native ones of this data set.
            where: only segments that this filter on the columns of `bank.segments()` keeps.
            exclude: names of sources or groups whose segments are left out.
            weights: of mask IoU and context IoU.

        Raises:
            LayoutError: the layout. FilterError: k, where, exclude, weights. InputError: dataset.
        """
        _check(k, weights)
        query = make_query(
            as_layout(layout, self.reader, dataset), self.reader.geometry, self.reader.classes.flags("thin")
        )
        allowed = self._allowed(where, exclude)
        top = self._exact.search(query, k, allowed, weights)
        components = [self._component(query, q, top) for q in range(len(query.searched))]
        skipped = [self._skipped(query, int(number)) for number in np.flatnonzero(~query.framed.stored)]
        warnings = _aspect_warning(query.layout, self.reader.geometry.frame)
        if allowed is not None and not any(rows.any() for rows in allowed):
            warnings.append(sentence("where and exclude", "leave no segment of the bank"))
        if dataset is None and isinstance(layout, (str, Path)) and len(self.reader.manifest.datasets) > 1:
            names = ", ".join(entry.name for entry in self.reader.manifest.datasets)
            said = f"was read as the bank's own class ids, which are not those of each of {names}"
            warnings.append(sentence(layout, said, fix="name its data set if it holds native ids"))
        return Retrieval(query.layout, self.reader.geometry.frame, components, skipped, warnings, self.reader)

    def _allowed(self, where: Where, exclude: str | Iterable[str]) -> list[npt.NDArray[np.bool_]] | None:
        """By shard, which segments are candidates; None where all are."""
        try:
            names = [exclude] if isinstance(exclude, str) else list(exclude)
        except TypeError as error:
            raise FilterError(
                sentence("exclude", expected="names of sources or groups", found=repr(exclude))
            ) from error
        sources = self.reader.shard_sources
        known: set[str] = set()
        for each in sources if names else ():
            known.update(each.names.tolist(), each.groups.tolist())
        if strange := [name for name in names if name not in known]:
            raise FilterError(
                sentence(
                    f"exclude {strange[0]!r}", expected="the name of a source or a group of the bank", found="neither",
                    fix="see `bank.sources()`",
                )
            )  # fmt: skip
        if where is None and not names and all(each.live.all() for each in sources):
            return None
        allowed = []
        for number, each in enumerate(sources):
            keep = each.live & ~np.isin(each.names, names) & ~np.isin(each.groups, names)
            rows = keep[self.reader.shards[number].footprints.source]
            allowed.append(rows & self.reader.row_mask(number, where) if where is not None else rows)
        return allowed

    def _component(self, query: Query, q: int, top: TopK) -> Component:
        number = int(query.searched[q])
        class_id = int(query.class_ids[q])
        name = self.reader.classes[class_id].name
        hits = [self._hit(class_id, name, top, q, i) for i in range(int(top.found[q]))]
        return Component(
            class_id, name, _box(query.framed.boxes[number]), int(query.framed.areas[number]), hits,
            int(top.scored[q]), number, query.framed,
        )  # fmt: skip

    def _hit(self, class_id: int, name: str, top: TopK, q: int, i: int) -> Hit:
        shard, row = (int(part) for part in top.place[q, i])
        footprints = self.reader.shards[shard].footprints
        mask, mask_union, context, context_union = (int(count) for count in top.counts[q, i])
        return Hit(
            int(top.segment_id[q, i]),
            class_id,
            name,
            float(top.score[q, i]),
            mask / mask_union,
            context / context_union if context_union else 0.0,
            _box(footprints.box[row]),
            str(self.reader.shard_sources[shard].names[footprints.source[row]]),
            self.reader,
            shard,
            row,
        )

    def _skipped(self, query: Query, number: int) -> Component:
        class_id = int(query.framed.components.class_ids[number])
        box, area = _box(query.framed.boxes[number]), int(query.framed.areas[number])
        return Component(class_id, self.reader.classes[class_id].name, box, area, (), 0, number, query.framed)


def _check(k: int, weights: tuple[float, float]) -> None:
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise FilterError(sentence("k", expected="a whole number of at least 1", found=repr(k)))
    try:
        usable = len(weights) == 2 and all(w >= 0 for w in weights) and 0 < sum(weights) < math.inf
    except TypeError:
        usable = False
    if not usable:
        raise FilterError(sentence("weights", expected="two numbers of at least 0, not both 0", found=repr(weights)))


def _aspect_warning(layout: Layout, frame: tuple[int, int]) -> list[str]:
    height, width = layout.shape
    stretch = (width / height) / (frame[1] / frame[0])
    if abs(math.log(stretch)) <= ASPECT_TOLERANCE:
        return []
    return [
        sentence(
            f"layout of {height}x{width}",
            f"has another aspect ratio than the bank's frame of {frame[0]}x{frame[1]} and was stretched to it",
        )
    ]


def _box(row: npt.NDArray[np.integer]) -> Box:
    top, left, bottom, right = (int(side) for side in row)
    return top, left, bottom, right
