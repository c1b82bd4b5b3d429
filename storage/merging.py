"""Reads shards back as they were written, and writes one new shard of what is still live in several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .codec import check_value
from .errors import BankError, DamagedBankError, sentence
from .footprints import rows_by_source, take_source
from .records import OrderingRecord, PatchRecord, RejectRecord, SegmentRecord, SourceRecord, hex_id
from .shard import Shard, ShardEntry, blob_key
from .shard_writer import ShardWriter, SourceBundle


def bundles(shard: Shard, gone: Collection[str] = ()) -> Iterator[SourceBundle]:
    """The live sources of a shard as they were given to `ShardWriter.add`, in that order, one in memory at a time.

    A source that was not described comes with descriptors of zeros and no borders where others of its shard have some.

    Args:
        shard: a published one.
        gone: names of sources to leave out, besides those that are masked.

    Raises:
        DamagedBankError: the shard cannot be read.
    """
    dead = {*shard.entry.masked, *gone}
    joined, appearance, segments = shard.footprints, shard.appearance, shard.table("segments")
    if not np.array_equal(segments["segment_id"].to_numpy(), joined.segment_id):
        raise DamagedBankError(sentence(shard.path, "its segments are not those of its search columns"))
    orderings, patches = (_by_source(shard.table(name)) for name in ("orderings", "patches"))
    places = rows_by_source(joined)
    for number, row in enumerate(shard.table("sources").to_pylist()):
        name, rows = row["source"], places[number]
        if name in dead:
            continue
        tiled, columns = take_source(joined, number, rows)
        yield SourceBundle(
            SourceRecord(**row),
            [SegmentRecord(**each) for each in segments.take(rows).to_pylist()],
            [OrderingRecord(**each) for each in orderings[name]],
            [PatchRecord(**each) for each in patches[name]],
            _blobs(shard, row["source_id"], columns.segment_id.tolist()),
            tiled,
            columns,
            appearance and appearance.taken(rows),
        )


def live_rejects(shard: Shard, gone: Collection[str] = ()) -> list[RejectRecord]:
    """The rejects of a shard that are still so, less those named in `gone`."""
    dead = {*shard.entry.masked_rejects, *gone}
    return [RejectRecord(**row) for row in shard.table("rejects").to_pylist() if row["source"] not in dead]


def unchanged(bundle: SourceBundle) -> SourceBundle:
    """The bundle itself."""
    return bundle


def merge_shards(
    folder: Path,
    shards: Sequence[Shard],
    frame: tuple[int, int],
    change: Callable[[SourceBundle], SourceBundle] = unchanged,
    *,
    settings: str | None = None,
    gone: Collection[str] = (),
    stamps: Mapping[str, str] | None = None,
) -> ShardEntry:
    """One new shard of the live sources and rejects of several, equal to one that was written directly.

    The blobs of one source at a time are in memory, and the rows of all.

    Args:
        folder: where shards lie.
        shards: what to merge, in the order in which the new one shall hold it.
        frame: of the bank.
        change: what becomes of each source.
        settings: fingerprint of the new shard; default: the one that all of them have.
        gone: names of sources and rejects to leave out.
        stamps: newer stamps by name, to be written in place of those in the shards.

    Raises:
        DamagedBankError: one of them cannot be read. BankError: their settings differ and `settings` is not given.
    """
    found = {shard.entry.settings for shard in shards}
    if settings is None and len(found) != 1:
        said = sentence(folder, expected="shards of one extraction", found=f"settings {', '.join(sorted(found))}")
        raise BankError(said)
    newer = stamps or {}
    with ShardWriter(folder, settings or found.pop(), frame) as writer:
        for shard in shards:
            for bundle in bundles(shard, gone):
                source = bundle.source
                stamped = replace(source, stamp=newer.get(source.source, source.stamp))
                writer.add(change(replace(bundle, source=stamped)))
            for record in live_rejects(shard, gone):
                writer.reject(replace(record, stamp=newer.get(record.source, record.stamp)))
        return writer.publish()


def _by_source(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """The rows of each source, in their order."""
    rows = defaultdict(list)
    for row in table.to_pylist():
        rows[row["source"]].append(row)
    return rows


def _blobs(shard: Shard, source_id: str, segment_ids: Sequence[int]) -> dict[bytes, bytes]:
    """The sealed values of a source: its files, where they are kept, and its segments."""
    found = {}
    for kind in ("image", "layout", "depth"):
        key = blob_key(kind, source_id)
        with suppress(KeyError):
            found[key] = _sound(shard, key)
    for id in segment_ids:
        try:
            found[blob_key("segment", id)] = _sound(shard, blob_key("segment", id))
        except KeyError:
            raise DamagedBankError(sentence(shard.path, f"lacks the crop of segment {hex_id(id)}")) from None
    return found


def _sound(shard: Shard, key: bytes) -> bytes:
    """A value that passes its own checksum: what is damaged must not be given a new hash."""
    value = shard.blob(key)
    check_value(value, f"value {key.hex()} of {shard.path}")
    return value
