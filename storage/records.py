"""What a source, a segment, an ordering, a key patch and a reject are: one row each, and their Arrow schemas."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, TypeVar, get_type_hints, overload

import numpy as np
import pyarrow as pa

_NAME = pa.dictionary(pa.int32(), pa.string())

U16 = Annotated[int, pa.uint16()]
I32 = Annotated[int, pa.int32()]
U64 = Annotated[int, pa.uint64()]
F32 = Annotated[float, pa.float32()]
Text = Annotated[str, pa.string()]
Name = Annotated[str, _NAME]
"""Text that repeats from row to row."""


@dataclass(frozen=True)
class SourceRecord:
    """One photograph with its label map, taken in.

    Attributes:
        source: its name in the bank, `dataset/name`; what `exclude=` takes.
        source_id: 32 hex digits, blake2b over its image, layout and depth bytes.
        dataset: the data set's name in the bank.
        split: `train`, `val` or `test`.
        group: `dataset/group`; sources that look alike share one.
        image, layout, depth: its files, relative to the data set's root; None where it has none.
        height, width: its own resolution, pixels.
        components: its components; `segments`: those stored; `small`: those under the minimum area.
        void: the share of its pixels that are void.
        content: 32 hex digits over all that was extracted from it.
        stamp: sizes and modification times of its files, by which the next rebuild sees that nothing changed.
    """

    source: Text
    source_id: Text
    dataset: Name
    split: Name
    group: Name
    image: Text
    layout: Text | None
    depth: Text | None
    height: I32
    width: I32
    components: I32
    segments: I32
    small: I32
    void: F32
    content: Text
    stamp: Text


@dataclass(frozen=True)
class SegmentRecord:
    """One component of a source, stored.

    Attributes:
        segment_id: 63 bits, derived from content (score, "Segment id").
        source, dataset, split, group: as in `SourceRecord`.
        class_id, class_name: in the bank's class table.
        top, left, bottom, right: its box in the frame, half-open.
        area: its footprint, frame pixels.
        context_area: the pixels of its context box that are not void, frame pixels (`n` in the score).
        crop_top, crop_left, crop_bottom, crop_right: its box in the source, source pixels.
        pixels: its source pixels.
        instances: how many objects of an instance map it is made of, 1 for a single one; None where there is no map.
    """

    segment_id: U64
    source: Text
    dataset: Name
    split: Name
    group: Name
    class_id: U16
    class_name: Name
    top: I32
    left: I32
    bottom: I32
    right: I32
    area: I32
    context_area: I32
    crop_top: I32
    crop_left: I32
    crop_bottom: I32
    crop_right: I32
    pixels: I32
    instances: I32 | None


@dataclass(frozen=True)
class OrderingRecord:
    """Two touching segments of one source, and which is in front.

    Attributes:
        segment_a, segment_b: their ids; class_a, class_b: their classes.
        front: the id of the one in front, or None where it is unknown.
        margin: relative difference of their median depths, or None.
        origin: `depth`, `ground` (the rule: what reaches lower stands in front) or `none`.
    """

    source: Text
    dataset: Name
    split: Name
    group: Name
    segment_a: U64
    segment_b: U64
    class_a: U16
    class_b: U16
    front: U64 | None
    margin: F32 | None
    origin: Name


@dataclass(frozen=True)
class PatchRecord:
    """One key patch: `rank` from 0, its box in source pixels, and its objectness score."""

    source: Text
    dataset: Name
    split: Name
    group: Name
    rank: I32
    top: I32
    left: I32
    bottom: I32
    right: I32
    score: F32


@dataclass(frozen=True)
class RejectRecord:
    """One input that was not taken in, and why.

    Attributes:
        source: the name it would have had.
        dataset: the data set's name in the bank.
        image, layout: its files, relative to the data set's root, where they exist.
        reason: one word; message: one sentence.
        source_id: the hash of its bytes, where they could be read.
        stamp: as in `SourceRecord`.
    """

    source: Text
    dataset: Name
    image: Text | None
    layout: Text | None
    reason: Name
    message: Text
    source_id: Text | None
    stamp: Text


T = TypeVar("T")
Record = SourceRecord | SegmentRecord | OrderingRecord | PatchRecord | RejectRecord

TABLES: dict[str, type[Record]] = {
    "sources": SourceRecord,
    "segments": SegmentRecord,
    "orderings": OrderingRecord,
    "patches": PatchRecord,
    "rejects": RejectRecord,
}
"""The Parquet files of a shard."""


def schema_of(record: type[Record]) -> pa.Schema:
    """The Arrow schema of a record: column order and types of its fields, nullable where `None` is allowed."""
    return _SCHEMAS[record]


def to_table(record: type[Record], rows: Sequence[Record]) -> pa.Table:
    """Rows as an Arrow table of the record's schema."""
    schema, columns = schema_of(record), columns_of(record, rows)
    arrays = []
    for field in schema:
        if pa.types.is_dictionary(field.type):
            arrays.append(pa.array(columns[field.name], field.type.value_type).dictionary_encode().cast(field.type))
        else:
            arrays.append(pa.array(columns[field.name], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


class Rows(Sequence[T]):
    """Rows of a record that are held by column; a record is made when it is asked for.

    Args:
        record: which.
        columns: every field of it to a list of as many values.
    """

    def __init__(self, record: type[T], columns: Mapping[str, list[Any]]) -> None:
        self._record = record
        self.columns = {name: columns[name] for name in _names(record)}

    @classmethod
    def of(cls, record: type[T], count: int, common: Mapping[str, Any], columns: Mapping[str, list[Any]]) -> Rows[T]:
        """Of `count` rows: fields that are the same in every one, and the columns of the others."""
        return cls(record, {**{name: [value] * count for name, value in common.items()}, **columns})

    @classmethod
    def joined(cls, record: type[T], parts: Sequence[Sequence[T]]) -> Rows[T]:
        """The rows of all parts, one behind the other."""
        held = [columns_of(record, part) for part in parts]
        return cls(record, {name: list(chain.from_iterable(each[name] for each in held)) for name in _names(record)})

    def taken(self, order: Iterable[int]) -> Rows[T]:
        """The rows of these numbers, in this order."""
        numbers = list(order)
        return Rows(self._record, {name: [of[i] for i in numbers] for name, of in self.columns.items()})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self._record(**{name: of[index] for name, of in self.columns.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


def columns_of(record: type[T], rows: Sequence[T]) -> dict[str, list[Any]]:
    """Every field of a record to its values, one a row."""
    if isinstance(rows, Rows):
        return rows.columns
    return {name: list(map(attrgetter(name), rows)) for name in _names(record)}


def stored_columns(record: type[T], rows: Sequence[T]) -> dict[str, list[Any]]:
    """`columns_of`, as a table gives them back: it holds single precision."""
    columns = columns_of(record, rows)
    return {name: _single(values) if name in _FLOATS else values for name, values in columns.items()}


def _single(values: list[Any]) -> list[Any]:
    return [None if value is None else float(np.float32(value)) for value in values]


def _names(record: type[Any]) -> tuple[str, ...]:
    return tuple(record.__dataclass_fields__)


def segment_id(source_id: str, class_name: str, first_pixel: int) -> int:
    """63 bits of blake2b over source hash, class name and the component's first pixel in raster order."""
    name = class_name.encode()
    said = bytes.fromhex(source_id) + len(name).to_bytes(4, "little") + name + first_pixel.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little") >> 1


def hex_id(segment_id: int) -> str:
    """A segment id as JSON and file names hold it: 16 hex digits."""
    return f"{segment_id:016x}"


def id_of_hex(digits: str) -> int:
    """The segment id that `hex_id` has written so.

    Raises:
        ValueError: they are not 16 hexadecimal digits.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{16}", digits):
        raise ValueError(f"{digits!r} instead of 16 hexadecimal digits")
    return int(digits, 16)


def _column(name: str, hint: Any) -> pa.Field:
    options = [part for part in getattr(hint, "__args__", ()) if part is not type(None)]
    nullable = not hasattr(hint, "__metadata__")
    return pa.field(name, (options[0] if nullable else hint).__metadata__[0], nullable=nullable)


def _schema(record: type[Record]) -> pa.Schema:
    hints = get_type_hints(record, include_extras=True)
    return pa.schema([_column(field.name, hints[field.name]) for field in fields(record)])


_SCHEMAS = {record: _schema(record) for record in TABLES.values()}
_FLOATS = {field.name for schema in _SCHEMAS.values() for field in schema if pa.types.is_float32(field.type)}
