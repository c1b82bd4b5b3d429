"""Writing a shard: what one batch of sources becomes goes to LMDB and tables, and is published whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import files
from .appearance import Appearance, join_appearances
from .checks import file_entry
from .codec import Codec, seal
from .environments import LMDB_ENGINE
from .errors import UnfinishedError, sentence
from .footprints import SegmentColumns, TiledRegions, join_sources
from .records import (
    TABLES,
    OrderingRecord,
    PatchRecord,
    Record,
    RejectRecord,
    Rows,
    SegmentRecord,
    SourceRecord,
    to_table,
)
from .shard import APPEARANCE, BLOBS, FOOTPRINTS, MARKER, ShardEntry, blob_key, finished_shard, with_marker

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


def sealed_files(source_id: str, image: bytes, layout: bytes | None, depth: bytes | None) -> dict[bytes, bytes]:
    """A source's files as LMDB values, as they came."""
    kinds = {"image": image, "layout": layout, "depth": depth}
    return {blob_key(kind, source_id): seal(Codec.RAW, data) for kind, data in kinds.items() if data is not None}


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
        return settle(self._path, self.folder / entry.id, with_marker(entry, self._path))

    def _id(self) -> str:
        sources = [bundle.source for bundle in self._bundles]
        names = sorted(f"{source.content}{source.source} {source.stamp}" for source in sources)
        names += sorted(f"{record.source} {record.reason} {record.stamp}" for record in self._rejects)
        return hashlib.blake2b("\n".join([self.settings, *names]).encode(), digest_size=8).hexdigest()

    def _appearance(self) -> Appearance | None:
        """In the order of the search columns."""
        columns = [bundle.columns for bundle in self._bundles]
        joined = join_appearances([b.appearance for b in self._bundles], [len(c.segment_id) for c in columns])
        if joined is None:
            return None
        ids, class_ids = (np.concatenate([getattr(c, name) for c in columns]) for name in ("segment_id", "class_id"))
        return joined.taken(np.lexsort((ids, class_ids)))

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


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, row_group_size=1 << 16)
    return sink.getvalue()
