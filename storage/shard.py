"""A shard: one batch of sources, written once by one writer, immutable afterwards.

`blobs/` (LMDB: encoded sources and segment crops), one Parquet file a table, `footprints.safetensors` (search
columns), `appearance.safetensors` (what segments look like, where sources were described) and, written last,
`shard.json`: sizes, hashes and counts of all the others.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import files
from .appearance import Appearance, join_appearances
from .checks import FileEntry, check_size, checked_file, damage_of, file_entry
from .codec import Codec, seal, unseal
from .environments import LMDB_ENGINE, reading
from .errors import DamagedBankError, SchemaError, UnfinishedError, sentence
from .footprints import Footprints, SegmentColumns, TiledRegions, join_sources
from .records import (
    TABLES,
    OrderingRecord,
    PatchRecord,
    Record,
    RejectRecord,
    Rows,
    SegmentRecord,
    SourceRecord,
    schema_of,
    to_table,
)

SCHEMA = 3
"""Version of everything under a bank; a reader refuses a newer one."""
MARKER = "shard.json"
FOOTPRINTS = "footprints.safetensors"
APPEARANCE = "appearance.safetensors"
BLOBS = "blobs/data.mdb"
_MAP_SIZE = 1 << 40  # address space, not disk


@dataclass(frozen=True)
class SourceBundle:
    """All that one source becomes.

    Attributes:
        source, segments, orderings, patches: its rows.
        blobs: LMDB key to sealed value (`blob_key`).
        tiled, columns: its region map and the search columns of its segments.
        appearance: what its segments look like, in the order of the columns; None where they were not described.
    """

    source: SourceRecord
    segments: Sequence[SegmentRecord]
    orderings: Sequence[OrderingRecord]
    patches: Sequence[PatchRecord]
    blobs: Mapping[bytes, bytes]
    tiled: TiledRegions
    columns: SegmentColumns
    appearance: Appearance | None = None


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest knows of a shard.

    Attributes:
        id: content-derived, the name of its folder.
        settings: fingerprint of the extraction settings it was made with.
        files: relative path to size and hashes.
        rows: table to number of rows.
        classes: class id to the half-open range of its rows, in `segments.parquet` and the search columns alike.
        masked: names of sources that are in the shard and no longer in the bank.
        masked_rejects: names of rejects that are no longer so.
    """

    id: str
    settings: str
    files: Mapping[str, FileEntry]
    rows: Mapping[str, int]
    classes: Mapping[int, tuple[int, int]]
    masked: tuple[str, ...] = ()
    masked_rejects: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for `shard.json` and the manifest."""
        return {
            "schema": SCHEMA,
            "lmdb_engine": LMDB_ENGINE,
            "id": self.id,
            "settings": self.settings,
            "files": {name: list(entry) for name, entry in sorted(self.files.items())},
            "rows": dict(self.rows),
            "classes": {str(id): list(rows) for id, rows in sorted(self.classes.items())},
            "masked": sorted(self.masked),
            "masked_rejects": sorted(self.masked_rejects),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ShardEntry:
        """The entry that `to_json` wrote."""
        return cls(
            row["id"],
            row["settings"],
            {name: FileEntry(*entry) for name, entry in row["files"].items()},
            row["rows"],
            {int(id): (start, stop) for id, (start, stop) in row["classes"].items()},
            tuple(row["masked"]),
            tuple(row["masked_rejects"]),
        )


def blob_key(kind: str, id: str | int) -> bytes:
    """The LMDB key of a source's `image`, `layout` or `depth` (by source id) or of a `segment` (by its id)."""
    return kind[0].encode() + (bytes.fromhex(id) if isinstance(id, str) else id.to_bytes(8, "big"))


@dataclass
class ShardWriter:
    """Writes one shard under a temporary name and gives it its own when all of it is on the disk.

    Use as a context manager; leaving it without `publish` removes what was written.
    """

    folder: Path
    settings: str
    frame: tuple[int, int]
    _bundles: list[SourceBundle] = field(default_factory=list)
    _rejects: list[RejectRecord] = field(default_factory=list)

    def __enter__(self) -> ShardWriter:
        self._path = self.folder / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        files.make_folder(self._path / "blobs")
        try:
            self._env = lmdb.open(
                str(self._path / "blobs"), map_size=_MAP_SIZE, lock=False, sync=False, lib_version=LMDB_ENGINE
            )
        except lmdb.Error as error:
            with suppress(OSError):  # what is left is garbage, and collected as such
                files.remove_tree(self._path)
            raise self._full(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._env.close()
        if self._path.exists():
            with suppress(OSError):  # what is left is garbage, and collected as such
                files.remove_tree(self._path)

    def add(self, bundle: SourceBundle) -> None:
        """Takes in one source: its bytes go to LMDB in one transaction, its rows are kept until `publish`.

        Raises:
            UnfinishedError: LMDB cannot write.
        """
        files.fault_point(self._path)
        try:
            with self._env.begin(write=True) as transaction:
                for key, value in bundle.blobs.items():
                    transaction.put(key, value)
        except lmdb.Error as error:
            raise self._full(error) from error
        self._bundles.append(replace(bundle, blobs={}))

    def _full(self, error: lmdb.Error) -> UnfinishedError:
        return UnfinishedError(sentence(self.folder, f"cannot be written ({error})", fix="make room on its disk"))

    def reject(self, record: RejectRecord) -> None:
        """Takes in one input that could not be used."""
        self._rejects.append(record)

    @property
    def rows(self) -> int:
        """Inputs taken in so far, rejects among them."""
        return len(self._bundles) + len(self._rejects)

    def publish(self) -> ShardEntry:
        """Writes tables and search columns, makes all durable, and renames the folder to the shard's id."""
        self._env.close()
        files.fsync_file(self._path / BLOBS)
        files.fsync_folder(self._path / "blobs")
        footprints = join_sources([(b.tiled, b.columns) for b in self._bundles], self.frame)
        tables = self._tables()
        for name, table in tables.items():
            files.write_bytes(self._path / f"{name}.parquet", _parquet(table))
        files.write_bytes(self._path / FOOTPRINTS, footprints.to_bytes())
        names = [BLOBS, FOOTPRINTS, *(f"{name}.parquet" for name in TABLES)]
        if (appearance := self._appearance()) is not None:
            files.write_bytes(self._path / APPEARANCE, appearance.to_bytes())
            names.append(APPEARANCE)
        entry = ShardEntry(
            self._id(),
            self.settings,
            {name: file_entry(self._path / name) for name in names},
            {name: table.num_rows for name, table in tables.items()},
            footprints.class_rows(),
        )
        files.write_bytes(self._path / MARKER, json.dumps(entry.to_json(), indent=1).encode())
        files.fsync_folder(self._path)
        return settle(self._path, self.folder / entry.id, _with_marker(entry, self._path))

    def _id(self) -> str:
        sources = [bundle.source for bundle in self._bundles]
        names = sorted(f"{source.content}{source.source} {source.stamp}" for source in sources)
        names += sorted(f"{record.source} {record.reason} {record.stamp}" for record in self._rejects)
        return hashlib.blake2b("\n".join([self.settings, *names]).encode(), digest_size=8).hexdigest()

    def _appearance(self) -> Appearance | None:
        """Descriptors in the order of the search columns."""
        columns = [bundle.columns for bundle in self._bundles]
        joined = join_appearances([b.appearance for b in self._bundles], [len(c.segment_id) for c in columns])
        if joined is None:
            return None
        ids, class_ids = (np.concatenate([getattr(c, name) for c in columns]) for name in ("segment_id", "class_id"))
        return replace(joined, rows=joined.rows[np.lexsort((ids, class_ids))])

    def _tables(self) -> dict[str, pa.Table]:
        bundles = self._bundles
        segments = Rows.joined(SegmentRecord, [bundle.segments for bundle in bundles])
        keys = list(zip(segments.columns["class_id"], segments.columns["segment_id"], strict=True))
        rows: dict[str, Sequence[Record]] = {
            "sources": [bundle.source for bundle in bundles],
            "segments": segments.taken(sorted(range(len(keys)), key=keys.__getitem__)),
            "orderings": Rows.joined(OrderingRecord, [bundle.orderings for bundle in bundles]),
            "patches": Rows.joined(PatchRecord, [bundle.patches for bundle in bundles]),
            "rejects": self._rejects,
        }
        return {name: to_table(record, rows[name]) for name, record in TABLES.items()}


class Shard:
    """Reads one published shard; files are opened when first needed and never written.

    Raises:
        DamagedBankError: at once where a file is missing or has another size; on first use where its hash differs.
    """

    def __init__(self, path: Path, entry: ShardEntry) -> None:
        self.path = path
        self.entry = entry
        self._sound: set[str] = set()
        for name, published in entry.files.items():
            check_size(path / name, published)

    @cached_property
    def footprints(self) -> Footprints:
        """The search columns, memory-mapped after their hash was checked."""
        return Footprints.map(self.checked(FOOTPRINTS))

    @cached_property
    def appearance(self) -> Appearance | None:
        """What the segments look like, by row of the search columns, memory-mapped; None where it was not stored."""
        return Appearance.map(self.checked(APPEARANCE)) if APPEARANCE in self.entry.files else None

    @cached_property
    def _blobs(self) -> str:
        """The folder of the LMDB environment, resolved once: a path opened under two names would hang LMDB."""
        return str(self.checked(BLOBS).parent.resolve())

    def checked(self, name: str) -> Path:
        """The path of a file whose hash was checked when it was first asked for: libraries can die of damage."""
        if name not in self._sound:
            self.check_hash(name)
            self._sound.add(name)
        return self.path / name

    def table_path(self, table: str) -> Path:
        """The Parquet file of one of `TABLES`, its hash checked."""
        return self.checked(f"{table}.parquet")

    def table(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """One table with everything in it, masked sources included."""
        path, schema = self.table_path(table), _subset(schema_of(TABLES[table]), columns)
        try:
            return read_parquet(path, schema)
        except (OSError, pa.ArrowException) as error:
            raise DamagedBankError(sentence(path, f"cannot be read ({error})", fix="run `zeuxis repair`")) from error

    def blob(self, key: bytes) -> bytes:
        """The sealed value of an LMDB key.

        Raises:
            KeyError: there is none.
        """
        with reading(self._blobs) as transaction:
            value = transaction.get(key)
        if value is None:
            raise KeyError(key)
        return bytes(value)

    def raw(self, kind: str, source_id: str) -> bytes:
        """A source's file as it came: `kind` is `image`, `layout` or `depth`."""
        _, payload = unseal(self.blob(blob_key(kind, source_id)), f"{kind} of source {source_id} in {self.path}")
        return bytes(payload)

    def blobs(self) -> Iterable[tuple[bytes, bytes]]:
        """All keys with their sealed values."""
        with reading(self._blobs) as transaction:
            keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        yield from ((key, self.blob(key)) for key in keys)

    def check_hash(self, name: str) -> None:
        """Raises DamagedBankError where a file's bytes are not those that were published."""
        checked_file(self.path / name, self.entry.files[name])


def placed_rows(shards: Sequence[Shard], table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Rows of a table that are in the bank, each with the id of its shard behind its columns.

    Args:
        shards: all that are to be read, at once: thousands of small files are read side by side.
        table: of `TABLES`, with a column `source`.
        columns: to give.

    Raises:
        DamagedBankError: a file is missing or not what was published.
    """
    held = [shard for shard in shards if shard.entry.rows[table]]
    if not held:
        return
    chosen = list(dict.fromkeys([*columns, "source"]))
    schema = _subset(schema_of(TABLES[table]), chosen)
    try:
        found = read_all([shard.path / f"{table}.parquet" for shard in held], schema)
        if len(found) != sum(shard.entry.rows[table] for shard in held):
            raise OSError(f"{len(found)} rows")
    except (OSError, pa.ArrowException) as error:
        for shard in held:
            shard.check_hash(f"{table}.parquet")
        raise DamagedBankError(sentence(held[0].path.parent, f"{table}.parquet cannot be read ({error})")) from error
    values = {name: found[name].to_pylist() for name in chosen}
    first = 0
    for shard in held:
        last = first + shard.entry.rows[table]
        masked = set(shard.entry.masked_rejects if table == "rejects" else shard.entry.masked)
        rows = zip(*(values[name][first:last] for name in columns), repeat(shard.entry.id, last - first), strict=True)
        names = values["source"][first:last] if masked else ()
        yield from (row for row, name in zip(rows, names, strict=True) if name not in masked) if masked else rows
        first = last


def read_marker(path: Path) -> ShardEntry | None:
    """What a shard's own marker says, whether the shard is whole or not; None where it has none."""
    try:
        return ShardEntry.from_json(json.loads((path / MARKER).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def finished_shard(path: Path) -> ShardEntry | None:
    """What a shard's own marker says, if the shard is whole: every file's hash is checked."""
    try:
        row = json.loads((path / MARKER).read_bytes())
        entry = _with_marker(ShardEntry.from_json(row), path)
        sound = row["schema"] == SCHEMA and all(damage_of(path / name, of) is None for name, of in entry.files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DamagedBankError):
        return None
    return entry if sound else None


def settle(path: Path, target: Path, entry: ShardEntry) -> ShardEntry:
    """Renames a finished folder to its shard's id, unless the same task ran before, or runs twice: that one's stays.

    Returns the entry of the shard that is there now: of equal content, the bytes of its files may be others.
    """
    try:
        files.rename(path, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        done = finished_shard(target)
        if done is not None and (done.id, done.settings, done.rows) == (entry.id, entry.settings, entry.rows):
            return done
        files.remove_tree(target)
        files.rename(path, target)
    return entry


def check_schema(path: Path, row: Mapping[str, Any]) -> None:
    """Raises SchemaError where a file was written by a newer zeuxis."""
    if row.get("schema", 0) > SCHEMA:
        raise SchemaError(
            sentence(path, expected=f"schema {SCHEMA} or older", found=f"schema {row['schema']}", fix="update zeuxis")
        )


def sealed_files(source_id: str, image: bytes, layout: bytes | None, depth: bytes | None) -> dict[bytes, bytes]:
    """A source's files as LMDB values, as they came."""
    kinds = {"image": image, "layout": layout, "depth": depth}
    return {blob_key(kind, source_id): seal(Codec.RAW, data) for kind, data in kinds.items() if data is not None}


def _with_marker(entry: ShardEntry, path: Path) -> ShardEntry:
    """The entry with the marker among its files; the marker cannot hold its own hash."""
    return replace(entry, files={**entry.files, MARKER: file_entry(path / MARKER)})


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, row_group_size=1 << 16)
    return sink.getvalue()


def read_parquet(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of a schema from a Parquet file, page checksums compared; those that it does not have are null.

    `pyarrow.dataset` reads several files at once, but takes a third of a second to import.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        there = set(file.schema_arrow.names)
        return with_columns(file.read(columns=[name for name in schema.names if name in there]), schema)


def read_all(paths: Sequence[Path], schema: pa.Schema) -> pa.Table:
    """`read_parquet` of many files, side by side, one after the other in a table."""
    with ThreadPoolExecutor() as threads:
        return pa.concat_tables(threads.map(read_parquet, paths, repeat(schema)))


def with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table in this schema; columns that an older version did not write are null."""
    for column in schema:
        if column.name not in table.column_names and column.nullable:
            table = table.append_column(column, pa.nulls(len(table), column.type))
    return table.select(schema.names).cast(schema)


def _subset(schema: pa.Schema, columns: list[str] | None) -> pa.Schema:
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])
