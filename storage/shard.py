"""A shard: one batch of sources, written once by one writer, immutable afterwards.

`blobs/` (LMDB: encoded sources and segment crops), one Parquet file a table, `footprints.safetensors` (search
columns), `appearance.safetensors` (what segments look like, by themselves and along their borders) and, written last,
`shard.json`: sizes, hashes and counts of all the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .appearance import Appearance
from .checks import FileEntry, check_size, checked_file, damage_of, file_entry
from .codec import unseal
from .environments import LMDB_ENGINE, reading
from .errors import DamagedBankError, SchemaError, sentence
from .footprints import Footprints
from .records import TABLES, schema_of

SCHEMA = 3
"""Version of everything under a bank; a reader refuses a newer one."""
MARKER = "shard.json"
FOOTPRINTS = "footprints.safetensors"
APPEARANCE = "appearance.safetensors"
BLOBS = "blobs/data.mdb"


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
        entry = with_marker(ShardEntry.from_json(row), path)
        sound = row["schema"] == SCHEMA and all(damage_of(path / name, of) is None for name, of in entry.files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DamagedBankError):
        return None
    return entry if sound else None


def check_schema(path: Path, row: Mapping[str, Any]) -> None:
    """Raises SchemaError where a file was written by a newer zeuxis."""
    if row.get("schema", 0) > SCHEMA:
        raise SchemaError(
            sentence(path, expected=f"schema {SCHEMA} or older", found=f"schema {row['schema']}", fix="update zeuxis")
        )


def with_marker(entry: ShardEntry, path: Path) -> ShardEntry:
    """The entry with the marker among its files; the marker cannot hold its own hash."""
    return replace(entry, files={**entry.files, MARKER: file_entry(path / MARKER)})


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
