"""More like this: which segments look like a given one, by the descriptors that the bank stores of their pixels.

Descriptors are bytes and the metric is their squared Euclidean distance, so every distance is a whole number and FAISS
computes it without error; answers are exact, ties go to the smaller segment id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..storage.appearance import Rows
from ..storage.codec import Mask
from ..storage.errors import BankError, FilterError, InputError, sentence
from ..storage.images import Photograph
from ..storage.layouts import Box
from ..storage.reader import Reader
from ..storage.records import hex_id, id_of_hex

if TYPE_CHECKING:
    from rich.table import Table

NEAR_DUPLICATE = 1000
"""Squared distance below which two segments are probably one thing seen twice.

Of CamVid's and NYU's segments of at least 300 pixels, these stay below it: 80 and 88 % of mirrored ones, 81 and 95 %
of those saved again as JPEG of quality 75, 92 and 89 % of those cut by a tenth on each axis, 55 and 72 % of those
enlarged by a fifth; of pairs of one class drawn from different photographs, 0.4 % (of one video) and none of 119,351.
"""
_BLOCK = 4096  # rows compared with all others at a time, in the search for duplicates


class Named(Protocol):
    """Whatever names a segment: a hit of a retrieval, a similar one."""

    @property
    def segment_id(self) -> int:
        """Of the segment."""


class Neighbour(NamedTuple):
    """A segment that looks like another one: squared distance of their descriptors, its shard, its row there."""

    distance: int
    shard: int
    row: int


_Ranked: TypeAlias = tuple[int, int, Neighbour]  # distance, segment id, neighbour


@dataclass(frozen=True)
class Similar:
    """A stored segment that looks like another one.

    Attributes:
        segment_id: of the segment; class_id, class_name: of its class.
        distance: squared distance of the descriptors, from 0; below `NEAR_DUPLICATE` the two are nearly the same.
        box: the segment's box in the frame.
        source: name of the photograph it comes from, as in `bank.sources()`.
    """

    segment_id: int
    class_id: int
    class_name: str
    distance: int
    box: Box
    source: str
    _reader: Reader = field(repr=False, compare=False)
    _shard: int = field(repr=False, compare=False)
    _row: int = field(repr=False, compare=False)

    def pixels(self) -> Photograph:
        """The segment, `(h, w, 3)` uint8 RGB at its source's own resolution, 0 outside its mask."""
        return self._reader.segment_pixels(self._shard, self.segment_id)

    def mask(self) -> Mask:
        """The segment's mask, `(h, w)` bool at its source's own resolution."""
        return self._reader.segment_mask(self._shard, self.segment_id)

    def record(self) -> dict[str, Any]:
        """The segment's row of `bank.segments()`."""
        return self._reader.row("segments", self._shard, self._row)


def as_table(found: Sequence[Similar]) -> Table:
    """What was found, one line a segment, for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("distance", "segment", "class", "source"):
        table.add_column(name, justify="right" if name == "distance" else "left", overflow="fold")
    for each in found:
        table.add_row(f"{each.distance:,}", hex_id(each.segment_id), each.class_name, each.source)
    return table


class AppearanceIndex:
    """Search by appearance in one generation of a bank.

    Segments that were not described, or by another descriptor than the rest of the bank, are never found.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._of_class: dict[int, _ClassRows] = {}

    def similar(
        self,
        shard: int,
        row: int,
        k: int = 5,
        *,
        same_class: bool = True,
        exclude_source: bool = False,
        allowed: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> list[Neighbour]:
        """The k segments that look most like a given one, itself left out, nearest first.

        Args:
            shard, row: where the segment lies.
            k: how many, at most.
            same_class: only segments of its class.
            exclude_source: none of its own photograph.
            allowed: by shard, `(N,)` bool, which rows are candidates; None for all that are in the bank.

        Raises:
            FilterError: k. BankError: the segment was not described.
        """
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
            raise FilterError(sentence("k", expected="a whole number of at least 1", found=repr(k)))
        columns = self.reader.shards[shard].footprints
        query, class_id = self._descriptor(shard, row), int(columns.class_id[row])
        own = columns.source == columns.source[row] if exclude_source else np.arange(len(columns)) == row
        found = []
        for rows in self._classes([class_id] if same_class else self._class_ids):
            keep = np.ones(len(rows), bool) if allowed is None else rows.take(allowed)
            mine = rows.shard == shard
            keep[mine] &= ~own[rows.row[mine]]
            found += rows.nearest(query, int(k), keep)
        return [neighbour for *_, neighbour in sorted(found)[: int(k)]]

    def duplicates(
        self, threshold: int = NEAR_DUPLICATE, *, across_sources: bool = True
    ) -> list[tuple[Neighbour, Neighbour]]:
        """Pairs of segments of one class whose distance is below a threshold, nearest first, each pair once.

        Args:
            threshold: on the squared distance.
            across_sources: only segments of two photographs.

        Returns:
            `(a, b)`, both with the distance between them; `a` has the smaller segment id.
        """
        pairs = []
        for rows in self._classes(self._class_ids):
            for distance, *places in rows.pairs(threshold):
                a, b = sorted(places, key=lambda place: int(rows.segment_id[place]))
                alike = rows.shard[a] == rows.shard[b] and rows.source[a] == rows.source[b]
                if not (across_sources and alike):
                    pairs.append((rows.neighbour(distance, a), rows.neighbour(distance, b)))
        return [(a[-1], b[-1]) for a, b in sorted(pairs)]

    def find(self, segment: Named | int | str) -> tuple[int, int]:
        """The shard and row of a segment: a hit, an id, or an id as tables print it.

        Raises:
            InputError: the bank has no such segment, or it is no id.
        """
        named: Any = getattr(segment, "segment_id", segment)
        try:
            if isinstance(named, bool):
                raise TypeError("no id")
            id = id_of_hex(named) if isinstance(named, str) else index(named)
        except (TypeError, ValueError) as error:
            raise InputError(
                sentence("segment", expected="a hit or the id of a segment, 16 hexadecimal digits", found=repr(segment))
            ) from error
        if not 0 <= id < 1 << 64:
            raise InputError(sentence("segment", expected="an id of 64 bits", found=repr(segment)))
        return self.reader.find_segment(id)

    def describe(self, found: Sequence[Neighbour]) -> list[Similar]:
        """What was found, with all that is known of it."""
        return [self._similar(*each) for each in found]

    def _similar(self, distance: int, shard: int, row: int) -> Similar:
        columns = self.reader.shards[shard].footprints
        class_id = int(columns.class_id[row])
        top, left, bottom, right = (int(side) for side in columns.box[row])
        return Similar(
            int(columns.segment_id[row]),
            class_id,
            self.reader.classes[class_id].name,
            distance,
            (top, left, bottom, right),
            str(self.reader.shard_sources[shard].names[columns.source[row]]),
            self.reader,
            shard,
            row,
        )

    def _descriptor(self, shard: int, row: int) -> Rows:
        described = self._described[shard]
        if described is None or not described[row].any():
            name = hex_id(int(self.reader.shards[shard].footprints.segment_id[row]))
            raise BankError(
                sentence(
                    f"segment {name} of {self.reader.path}", "was stored without a description of its appearance",
                    fix="make a new bank with this zeuxis",
                )
            )  # fmt: skip
        descriptor: Rows = described[row]
        return descriptor

    @cached_property
    def _described(self) -> list[Rows | None]:
        """By shard, the descriptors that can be compared: those of the first shard that has any set the kind."""
        found = [shard.appearance for shard in self.reader.shards]
        kind = next((each.descriptor for each in found if each is not None), None)
        return [each.rows if each is not None and each.descriptor == kind else None for each in found]

    @property
    def _class_ids(self) -> list[int]:
        return sorted({id for shard in self.reader.shards for id in shard.entry.classes})

    def _classes(self, class_ids: Sequence[int]) -> Iterator[_ClassRows]:
        """The rows of each class, collected when it is first asked for."""
        for class_id in class_ids:
            if class_id not in self._of_class:
                self._of_class[class_id] = _ClassRows(self.reader, self._described, class_id)
            yield self._of_class[class_id]


class _ClassRows:
    """The described segments of one class that are in the bank: where they lie, and a FAISS index of their bytes.

    Attributes:
        shard, row, source: `(n,)` int64; segment_id: `(n,)` uint64.
    """

    def __init__(self, reader: Reader, described: Sequence[Rows | None], class_id: int) -> None:
        import faiss

        shards, rows, sources, ids, codes = [], [], [], [], []
        for number, (shard, descriptors) in enumerate(zip(reader.shards, described, strict=True)):
            start, stop = shard.entry.classes.get(class_id, (0, 0))
            if descriptors is None or start == stop:
                continue
            columns, part = shard.footprints, descriptors[start:stop]
            live = reader.shard_sources[number].live[columns.source[start:stop]] & part.any(axis=1)
            rows.append(start + np.flatnonzero(live))
            shards.append(np.full(len(rows[-1]), number))
            sources.append(columns.source[rows[-1]].astype(np.int64))
            ids.append(columns.segment_id[rows[-1]])
            codes.append(part[live])
        none = [np.zeros(0, np.int64)]
        self.shard, self.row, self.source = (np.concatenate(parts or none) for parts in (shards, rows, sources))
        self.segment_id = np.concatenate(ids or [np.zeros(0, np.uint64)])
        self._index = faiss.IndexScalarQuantizer(
            codes[0].shape[1] if codes else 1, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2
        )
        for part in codes:
            self._index.add_sa_codes(part)

    def __len__(self) -> int:
        return len(self.segment_id)

    def take(self, by_shard: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
        """What holds for each of these segments, `(n,)` bool, of what holds for the rows of each shard."""
        taken = np.zeros(len(self), bool)
        for number in np.unique(self.shard):
            here = self.shard == number
            taken[here] = by_shard[number][self.row[here]]
        return taken

    def neighbour(self, distance: int, place: int) -> _Ranked:
        """A segment as a neighbour, behind what it is ranked by."""
        found = Neighbour(distance, int(self.shard[place]), int(self.row[place]))
        return distance, int(self.segment_id[place]), found

    def nearest(self, query: Rows, k: int, keep: npt.NDArray[np.bool_]) -> list[_Ranked]:
        """The k nearest of those that are kept, and all others that are as near as the last of them."""
        import faiss

        n = int(keep.sum())
        count = min(k + 1, n)
        if not n:
            return []
        selector = faiss.IDSelectorBitmap(np.packbits(keep, bitorder="little"))  # type: ignore[call-arg,arg-type]
        parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        while True:  # until no more of the same distance can follow
            distances, places = self._index.search(query[None].astype(np.float32), count, params=parameters)
            if count == n or distances[0, -1] > distances[0, k - 1]:
                break
            count = min(2 * count, n)
        found = zip(distances[0].astype(int).tolist(), places[0].tolist(), strict=True)
        return [self.neighbour(distance, place) for distance, place in found]

    def pairs(self, threshold: float) -> Iterator[tuple[int, int, int]]:
        """`(distance, place, place)` of every pair below a threshold.

        Blocks of rows, by matrix products: exact in float32, whose whole numbers reach over twice any square here.
        """
        import faiss

        before = faiss.IndexFlatL2(self._index.d)
        for start in range(0, len(self), _BLOCK):
            block = self._index.reconstruct_n(start, min(_BLOCK, len(self) - start))
            before.add(block)
            limits, distances, others = before.range_search(block, threshold)
            places = start + np.repeat(np.arange(len(block)), np.diff(limits.astype(np.int64)))
            once = others < places
            yield from zip(
                distances[once].astype(int).tolist(), places[once].tolist(), others[once].tolist(), strict=True
            )
