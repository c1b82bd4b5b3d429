"""Which segments of a bank are candidates: `where`, `exclude`, the guard against leaks, and what has left the bank.

A filter is evaluated once and kept as one bool a segment, because on a million segments evaluating it takes far longer
than searching. Columns are read once, too. Both are kept within a budget of bytes.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.errors import FilterError, InputError, sentence
from ..storage.filters import as_expression, columns_of, evaluate, expression_key
from ..storage.reader import Reader
from ..storage.records import TABLES, schema_of
from .request import RetrievalOptions

COLUMN_BYTES = 64 << 20
"""Columns kept in memory, at most."""
MASK_BYTES = 64 << 20
"""Evaluated filters kept, at most: 64 of them for a million segments, one byte each."""

HELD_OUT = ("val", "test")
"""The splits that no training query may see."""


class Filtered(NamedTuple):
    """What a filter leaves.

    Attributes:
        rows: by shard, `(N,)` bool in the order of its search columns; the same arrays for the same filter, while kept.
        number: how many segments are left.
    """

    rows: Sequence[npt.NDArray[np.bool_]]
    number: int


class _Sources(NamedTuple):
    """All sources of a bank in the order of its shards.

    Attributes:
        row: name to row, that of the source still in the bank where one of that name has left it.
        group: `(S,)` int64 into groups; held_out, live: `(S,)` bool.
        groups: names, ascending; of: segment to source, `(N,)` uint32, shard after shard.
    """

    row: dict[str, int]
    group: npt.NDArray[np.int64]
    groups: list[str]
    held_out: npt.NDArray[np.bool_]
    live: npt.NDArray[np.bool_]
    of: npt.NDArray[np.uint32]


class SegmentFilters:
    """The filters of one generation of a bank. Safe to use from several threads."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._schema = schema_of(TABLES["segments"])
        self._columns: _Kept[pa.ChunkedArray] = _Kept(COLUMN_BYTES, lambda column: column.nbytes)
        self._masks: _Kept[Filtered] = _Kept(MASK_BYTES, lambda mask: sum(rows.nbytes for rows in mask.rows))
        self._masked = any(shard.entry.masked for shard in reader.shards)

    def candidates(self, options: RetrievalOptions) -> Filtered | None:
        """What where, exclude and guard leave; None where that is all there is.

        Raises:
            FilterError: where or exclude. InputError: the source is not in the bank.
        """
        expression = as_expression(options.where, self._schema)
        names, group = self._known(tuple(options.exclude)), self._group(options.source)
        guard = group if options.guarded else None
        if expression is None and not names and not options.guarded and not self._masked:
            return None
        key = (None if expression is None else expression_key(expression), names, options.guarded, guard)
        return self._masks.get(key, lambda: self._evaluated(expression, names, options.guarded, guard))

    def _evaluated(
        self, expression: pc.Expression | None, names: frozenset[str], guarded: bool, group: str | None
    ) -> Filtered:
        keep = np.ones(len(self._sources.of), bool) if expression is None else self._evaluate(expression)
        if names or guarded or self._masked:
            keep &= self._sources_kept(names, guarded, group)[self._sources.of]
        counts = [shard.entry.rows["segments"] for shard in self.reader.shards]
        return Filtered(np.split(keep, np.cumsum(counts)[:-1]), int(keep.sum()))

    def _evaluate(self, expression: pc.Expression) -> npt.NDArray[np.bool_]:
        names = columns_of(expression, self._schema) or ["class_id"]  # one that names none still has an answer a row
        columns = {name: self._columns.peek(name) for name in names}
        if missing := [name for name, column in columns.items() if column is None]:
            table = self.reader.segment_columns(missing)
            columns |= {name: self._columns.put(name, table[name]) for name in missing}
        return evaluate(pa.table(columns, schema=pa.schema([self._schema.field(name) for name in names])), expression)

    def _sources_kept(self, names: frozenset[str], guarded: bool, group: str | None) -> npt.NDArray[np.bool_]:
        """Which sources the guard and the excluded names leave, `(S,)` bool."""
        sources = self._sources
        keep = sources.live.copy()
        groups = set(names)
        if guarded:
            keep &= ~sources.held_out
            groups.update(self._guarded_groups(group) if group is not None else ())
        keep[[sources.row[name] for name in names if name in sources.row]] = False
        return keep & ~np.isin(sources.group, [i for i, name in enumerate(sources.groups) if name in groups])

    def _known(self, exclude: Sequence[str]) -> frozenset[str]:
        """The names of sources and groups to leave out, each of which the bank must have."""
        for name in exclude:
            if name not in self._sources.row and name not in self._sources.groups:
                raise FilterError(
                    sentence(
                        f"exclude {name!r}", expected="the name of a source or a group of the bank", found="neither",
                        fix="see `bank.sources()`",
                    )
                )  # fmt: skip
        return frozenset(exclude)

    def _group(self, source: str | None) -> str | None:
        """The group of a source.

        Raises:
            InputError: it is not in the bank.
        """
        if source is None:
            return None
        row = self._sources.row.get(source)
        if row is None or not self._sources.live[row]:
            raise InputError(
                sentence(f"source {source!r}", f"is not in {self.reader.path}", fix="see `bank.sources()`")
            )
        return self._sources.groups[int(self._sources.group[row])]

    def _guarded_groups(self, group: str) -> list[str]:
        dataset = group.partition("/")[0]
        return alike_groups(group, any(e.name == dataset and e.neighbours for e in self.reader.manifest.datasets))

    @cached_property
    def _sources(self) -> _Sources:
        shards = self.reader.shard_sources
        names = [name for shard in shards for name in shard.names.tolist()]
        groups, group = np.unique(_joined([shard.groups for shard in shards], str), return_inverse=True)
        live = _joined([shard.live for shard in shards], bool)
        tables = [shard.table("sources", ["split"])["split"] for shard in self.reader.shards]
        held_out = [split in HELD_OUT for table in tables for split in table.to_pylist()]
        offsets = np.cumsum([0, *(len(shard.names) for shard in shards)])
        of = [s.footprints.source + np.uint32(offset) for s, offset in zip(self.reader.shards, offsets, strict=False)]
        row = {name: i for i, name in enumerate(names) if not live[i]} | {n: i for i, n in enumerate(names) if live[i]}
        return _Sources(row, group, groups.tolist(), np.array(held_out, bool), live, _joined(of, np.uint32))


def alike_groups(group: str, neighbours: bool) -> list[str]:
    """The groups that a training query from one of them may not see (score, "Sources of data, split for honest tests").

    Args:
        group: as in `bank.sources()`, such as `nyu/12`.
        neighbours: its data set numbers its groups in the order they were taken: the one before and the one after
            belong to it, too.
    """
    numbered = re.fullmatch(r"(.*?)(\d+)", group) if neighbours else None
    if numbered is None:
        return [group]
    return [f"{numbered[1]}{number}" for number in range(max(int(numbered[2]) - 1, 0), int(numbered[2]) + 2)]


T = TypeVar("T")


class _Kept(Generic[T]):
    """What was used last, within a budget of bytes; what is larger than the budget is not kept at all."""

    def __init__(self, budget: int, size: Callable[[T], int]) -> None:
        self._budget, self._size = budget, size
        self._entries: OrderedDict[Hashable, T] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a key, or what is made now."""
        found = self.peek(key)
        return self.put(key, make()) if found is None else found

    def peek(self, key: Hashable) -> T | None:
        """What is kept under a key."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Hashable, value: T) -> T:
        """Keeps a value, or hands out the one that another thread has put there meanwhile."""
        with self._lock:
            if key not in self._entries and self._size(value) <= self._budget:
                self._entries[key] = value
                self._bytes += self._size(value)
                while self._bytes > self._budget:
                    self._bytes -= self._size(self._entries.popitem(last=False)[1])
            return self._entries.get(key, value)


def _joined(parts: Sequence[npt.NDArray[Any]], kind: type) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, kind)
