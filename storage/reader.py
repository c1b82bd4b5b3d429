"""Reads one generation of a bank, and stays on it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .classes import ClassTable, Layout
from .codec import Mask, decode_mask, decode_pixels
from .errors import BankError, DamagedBankError, FilterError, InputError, sentence
from .files import Hold
from .filters import Where, all_of, as_expression, check_column, unusable
from .images import Depth, Photograph, decode_photograph
from .layouts import Geometry
from .manifest import DatasetEntry, Manifest, hold_generation, open_generation, shard_folder
from .parts import INDEX, IndexPart, part_folder
from .records import TABLES, hex_id, schema_of
from .shard import Shard, blob_key, placed_rows, read_all

_CACHED_TABLES = 64  # of one shard each: a few hundred kB


class ShardSources(NamedTuple):
    """The sources of a shard by row: names, groups, and whether they are still in the bank."""

    names: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    live: npt.NDArray[np.bool_]


class Reader:
    """One generation of a bank, which stays in place as long as its reader lives.

    Args:
        path: the bank's folder.
        manifest: the generation to read, or one that is yet to be published; default the current one.

    Raises:
        NotABankError, SchemaError, DamagedBankError: the bank cannot be used; the sentence names the file.
        BankError: the generation was removed.
    """

    def __init__(self, path: str | Path, manifest: Manifest | None = None) -> None:
        self.path = Path(os.path.expanduser(path)).resolve()
        self.manifest: Manifest
        self._hold: Hold | None
        if manifest is None:
            self.manifest, self._hold = open_generation(self.path)
        else:
            self.manifest, self._hold = manifest, hold_generation(self.path, manifest)
        folder = shard_folder(self.path)
        self.shards = [Shard(folder / entry.id, entry) for entry in self.manifest.shards]
        parts = [entry for entry in self.manifest.index if entry.version == INDEX]
        self.parts = [IndexPart(part_folder(self.path) / entry.id, entry) for entry in parts]
        shards = self.shards  # not the reader: a cycle would keep it, and its generation, until somebody collects it
        self._whole_table = lru_cache(maxsize=_CACHED_TABLES)(lambda table, shard: shards[shard].table(table))

    def __reduce__(self) -> tuple[object, ...]:
        return Reader, (self.path, self.manifest)  # what is open stays here; another process opens its own

    def release(self) -> None:
        """Lets the generation be removed: for a writer that is done with the one before its own."""
        if self._hold:
            self._hold.release()

    @property
    def geometry(self) -> Geometry:
        """Frame, minimum area, thin option."""
        return self.manifest.geometry

    @property
    def classes(self) -> ClassTable:
        """The bank's class table."""
        return self.manifest.classes

    def dataset(self, name: str) -> DatasetEntry:
        """A data set of the bank, by name, or by kind where only one has it.

        Raises:
            InputError: there is no such data set, or several.
        """
        entries = self.manifest.datasets
        found = [e for e in entries if e.name == name or f"{e.kind}:{e.root}" == name] or [
            e for e in entries if e.kind == name
        ]
        if len(found) == 1:
            return found[0]
        known = ", ".join(entry.name for entry in entries)
        raise InputError(
            sentence(f"data set {name!r}", expected=f"one of the bank's: {known}", found=f"{len(found)} of that name")
        )

    def table(self, name: str, where: Where = None, columns: Sequence[str] | None = None) -> pa.Table:
        """One of `TABLES` over all shards, filters pushed down to Parquet.

        Args:
            name: `sources`, `segments`, `orderings`, `patches` or `rejects`.
            where: which rows.
            columns: which columns; default all.

        Raises:
            FilterError: the filter names no column of the table, or compares unlike types.
        """
        schema = schema_of(TABLES[name])
        expression = as_expression(where, schema)
        chosen = list(columns) if columns is not None else schema.names
        for column in chosen:
            check_column(column, schema)
        if not chosen:
            raise FilterError(sentence("columns", expected=f"at least one of {', '.join(schema.names)}", found="none"))
        parts = []
        for shard in self.shards:
            masked = shard.entry.masked_rejects if name == "rejects" else shard.entry.masked
            live = ~pc.field("source").isin(list(masked)) if masked else None
            both = all_of([expression, live])
            parts.append(self._scan(shard, name, schema, chosen, both))
        subset = pa.schema([schema.field(column) for column in chosen])
        table = pa.concat_tables([part.cast(subset) for part in parts]) if parts else subset.empty_table()
        return table.unify_dictionaries()

    def segment_columns(self, columns: Sequence[str]) -> pa.Table:
        """Columns of all segments of all shards, masked sources included, in the order of the search columns."""
        schema = pa.schema([schema_of(TABLES["segments"]).field(column) for column in columns])
        paths = [shard.table_path("segments") for shard in self.shards]
        if not paths:
            return schema.empty_table()
        try:
            table = read_all(paths, schema)
        except (OSError, pa.ArrowException) as error:
            for shard in self.shards:
                shard.check_hash("segments.parquet")
            raise DamagedBankError(sentence(self.path, f"segments.parquet cannot be read ({error})")) from error
        return table.unify_dictionaries().combine_chunks()

    @cached_property
    def shard_sources(self) -> list[ShardSources]:
        """The sources of each shard, in the order its search columns count them."""
        found = []
        for shard in self.shards:
            table = shard.table("sources", ["source", "group"])
            names, groups = (np.array(column.to_pylist(), dtype=str) for column in table.columns)
            found.append(ShardSources(names, groups, ~np.isin(names, list(shard.entry.masked))))
        return found

    def find_segment(self, segment_id: int) -> tuple[int, int]:
        """The shard of a segment, and its row there.

        Raises:
            InputError: the bank has no such segment.
        """
        for number, shard in enumerate(self.shards):
            columns = shard.footprints
            for row in np.flatnonzero(columns.segment_id == np.uint64(segment_id)):
                if self.shard_sources[number].live[columns.source[row]]:
                    return number, int(row)
        raise InputError(sentence(f"segment {hex_id(segment_id)}", f"is not in {self.path}"))

    def segment_pixels(self, shard: int, segment_id: int) -> Photograph:
        """A segment's crop, `(h, w, 3)` uint8 at its source's own resolution, 0 outside its mask."""
        return decode_pixels(*self._segment_value(shard, segment_id))

    def segment_mask(self, shard: int, segment_id: int) -> Mask:
        """A segment's mask, `(h, w)` bool at its source's own resolution."""
        return decode_mask(*self._segment_value(shard, segment_id))

    def row(self, table: str, shard: int, row: int) -> dict[str, Any]:
        """One row of a shard's table by its number, as its search columns count it."""
        found: list[dict[str, Any]] = self._whole_table(table, shard).slice(row, 1).to_pylist()
        return found[0]

    def rows(self, table: str, shard: int, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of a shard's table by their numbers, as its search columns count them."""
        found: list[dict[str, Any]] = self._whole_table(table, shard).take(list(rows)).to_pylist()
        return found

    def photograph(self, source: str) -> Photograph:
        """A source's photograph, `(H, W, 3)` uint8 RGB.

        Raises:
            InputError: no such source. BankError: the bank keeps no sources.
        """
        data, _ = self._source_file(source, "image")
        return decode_photograph(data, source)

    def patch_pixels(self, source: str, rank: int) -> Photograph:
        """A key patch of a source, `(h, w, 3)` uint8 RGB at the source's own resolution.

        Raises:
            InputError: no such source or patch. BankError: the bank keeps no sources.
        """
        rows = self.table("patches", {"source": source}, ["rank", "top", "left", "bottom", "right"]).to_pylist()
        found = [row for row in rows if row["rank"] == rank]
        if not found:
            known = f"it has {len(rows)}, from 0" if rows else "no key patch is of that source"
            raise InputError(sentence(f"key patch {rank} of source {source!r}", f"is not in {self.path}: {known}"))
        top, left, bottom, right = (found[0][side] for side in ("top", "left", "bottom", "right"))
        return self.photograph(source)[top:bottom, left:right].copy()

    def layout(self, source: str) -> Layout:
        """A source's layout at its own resolution, in the bank's ids."""
        data, row = self._source_file(source, "layout")
        entry = self.dataset(row["dataset"])
        bank_layout: Layout = entry.to_bank(entry.decoding.layout(data, source))
        return bank_layout

    def depth(self, source: str) -> Depth | None:
        """A source's depth in metres, 0 where unknown; None where it has none."""
        data, row = self._source_file(source, "depth")
        return self.dataset(row["dataset"]).decoding.depth(data, source) if data else None

    def _source_file(self, source: str, kind: str) -> tuple[bytes, dict[str, Any]]:
        for number, (shard, sources) in enumerate(zip(self.shards, self.shard_sources, strict=True)):
            rows = np.flatnonzero((sources.names == source) & sources.live)
            if rows.size:
                row = self.row("sources", number, int(rows[0]))
                if row[kind] is None:
                    return b"", row
                try:
                    return shard.raw(kind, row["source_id"]), row
                except KeyError:
                    raise BankError(
                        sentence(self.path, "keeps no sources", fix="rebuild it without --no-keep-sources")
                    ) from None
        raise InputError(sentence(f"source {source!r}", f"is not in {self.path}"))

    def _segment_value(self, shard: int, segment_id: int) -> tuple[bytes, str]:
        name = f"segment {hex_id(segment_id)} of {self.path}"
        try:
            return self.shards[shard].blob(blob_key("segment", segment_id)), name
        except KeyError:
            raise InputError(sentence(name, "is not in the shard it was looked up in")) from None

    def _scan(self, shard: Shard, name: str, schema: pa.Schema, columns: Any, filter: Any) -> pa.Table:
        import pyarrow.dataset as ds

        source = ds.dataset(shard.table_path(name), schema=schema, format="parquet")
        checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        try:
            return source.to_table(columns=columns, filter=filter, fragment_scan_options=checked)
        except OSError as error:
            shard.check_hash(f"{name}.parquet")  # it was sound when it was first read
            raise DamagedBankError(sentence(shard.path, f"{name}.parquet cannot be read ({error})")) from error
        except pa.ArrowException as error:
            shard.check_hash(f"{name}.parquet")
            raise unusable(error, name, schema) from error


_CONTENT, _REASON = ("source", "content"), ("source", "reason")


def content_of(reader: Reader) -> str:
    """32 hex digits over everything in a bank, however it is cut into shards: equal banks have equal ones."""
    sources = [{"content": row[1], "source": row[0]} for row in placed_rows(reader.shards, "sources", _CONTENT)]
    rejects = [{"reason": row[1], "source": row[0]} for row in placed_rows(reader.shards, "rejects", _REASON)]
    rows = sorted(json.dumps(row) for row in [*sources, *rejects])
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()
