"""Whether what lies in sound files belongs together: every row has its value, every value its row, the index its rows.

Sizes and hashes tell that files are as they were written; this tells that what was written makes sense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .codec import check_value, decode_mask, decode_pixels
from .errors import DamagedBankError, sentence
from .footprints import Footprints
from .parts import LEAVES, IndexPart
from .records import TABLES
from .shard import FOOTPRINTS, Shard, blob_key

_KINDS = ("image", "layout", "depth")
_BOX = ("top", "left", "bottom", "right")
_CROP = ("crop_top", "crop_left", "crop_bottom", "crop_right")
_PLAIN = ("segment_id", "class_id", "area", "context_area")


def damage_inside(shard: Shard) -> Iterator[str]:
    """Everything in a shard that lacks its counterpart, one sentence each; its files must be sound.

    Every table has the rows that the manifest says. Search columns are those of the segment rows. Every segment has its
    value and decodes to the size and number of pixels of its row; every file of a source passes its checksum, and a
    shard that keeps one keeps all. Every value belongs to a row. In memory are one shard's rows and one value.
    """
    try:
        for name in TABLES:
            found = pq.read_metadata(shard.table_path(name)).num_rows
            if found != shard.entry.rows[name]:
                yield sentence(
                    shard.path / f"{name}.parquet", expected=f"{shard.entry.rows[name]:,} rows", found=f"{found:,}"
                )
        segments = shard.table("segments", ["source", *_PLAIN, *_BOX, *_CROP, "pixels"])
        sources = shard.table("sources", ["source", "source_id", *_KINDS])
        yield from _search_columns(shard, segments, sources)
        yield from _values(shard, segments, sources)
    except (DamagedBankError, OSError, pa.ArrowException) as error:
        yield str(error) if isinstance(error, DamagedBankError) else sentence(shard.path, f"cannot be read ({error})")


def damage_of_parts(
    parts: Sequence[IndexPart], shards: Mapping[str, Shard], uncovered: Sequence[str] = ()
) -> Iterator[str]:
    """Everything in index parts that is not in their shards or the other way round, one sentence each.

    Args:
        parts: those whose files are sound.
        shards: id to shard, those whose files are sound.
        uncovered: ids of shards that no part covers, and one should.
    """
    for id, count in Counter(id for part in parts for id in part.entry.shards).items():
        if count > 1:
            yield sentence(f"shard {id}", expected="one index part over it", found=str(count))
    yield from (sentence(f"shard {id}", expected="an index part over it", found="none") for id in uncovered)
    for part in parts:
        if all(id in shards for id in part.entry.shards):
            try:
                yield from _leaves(part, [shards[id].footprints for id in part.entry.shards])
            except DamagedBankError as error:
                yield str(error)


def _search_columns(shard: Shard, segments: pa.Table, sources: pa.Table) -> Iterator[str]:
    """Where the search columns are not those of the rows."""
    columns, path = shard.footprints, shard.path / FOOTPRINTS
    if len(columns) != len(segments):
        yield sentence(path, expected=f"{len(segments):,} segments, as there are rows", found=f"{len(columns):,}")
        return
    names = np.array(sources["source"].to_pylist(), dtype=object)
    if len(columns) and columns.source.max() >= len(names):
        yield sentence(path, expected=f"sources below {len(names):,}", found=f"{columns.source.max():,}")
        return
    differing = {name: segments[name].to_numpy() != getattr(columns, name) for name in _PLAIN}
    differing["box"] = (np.stack([segments[name].to_numpy() for name in _BOX], axis=1) != columns.box).any(axis=1)
    differing["source"] = np.array(segments["source"].to_pylist(), dtype=object) != names[columns.source]
    for name, where in differing.items():
        if np.any(where):
            yield sentence(path, f"{name} is not that of segments.parquet, first in row {np.argmax(where)}")


def _values(shard: Shard, segments: pa.Table, sources: pa.Table) -> Iterator[str]:
    """Values that are damaged or nobody's, and rows without one."""
    ids = segments["segment_id"].to_numpy()
    crop = np.stack([segments[name].to_numpy() for name in _CROP], axis=1)
    sizes = np.column_stack([crop[:, 2:] - crop[:, :2], segments["pixels"].to_numpy()]).tolist()
    expected = {blob_key("segment", int(id)): tuple(size) for id, size in zip(ids, sizes, strict=True)}
    kept = {blob_key(kind, row["source_id"]) for row in sources.to_pylist() for kind in _KINDS if row[kind] is not None}
    seen = set()
    for key, value in shard.blobs():
        seen.add(key)
        name = f"value {key.hex()} of {shard.path}"
        try:
            if key in expected:
                mask, pixels = decode_mask(value, name), decode_pixels(value, name)
                found = (*mask.shape, int(np.count_nonzero(mask)))
                if found != expected[key] or pixels.shape[:2] != mask.shape:
                    yield sentence(name, expected=_size(*expected[key]), found=_size(*found))
            elif key in kept:
                check_value(value, name)
            else:
                yield sentence(name, "belongs to no segment and no source")
        except DamagedBankError as error:
            yield str(error)
    yield from (sentence(f"segment {key[1:].hex()} of {shard.path}", "has no value") for key in expected.keys() - seen)
    if kept & seen:
        lacking = sorted(kept - seen)
        yield from (sentence(f"source {key[1:].hex()} of {shard.path}", f"lacks its {_kind(key)}") for key in lacking)


def _leaves(part: IndexPart, shards: Sequence[Footprints]) -> Iterator[str]:
    """Where the leaves of a part are not the segments of its shards, each once."""
    leaves, path = part.leaves, part.path / LEAVES
    first = np.concatenate([[0], np.cumsum([len(shard) for shard in shards])])
    if len(leaves) != first[-1]:
        yield sentence(path, expected=f"{first[-1]:,} segments, as in its shards", found=f"{len(leaves):,}")
        return
    if not len(leaves):
        return
    inside = (leaves.shard < len(shards)) & (leaves.row < np.diff(first)[np.minimum(leaves.shard, len(shards) - 1)])
    place = first[leaves.shard[inside]] + leaves.row[inside]
    if not (np.bincount(place, minlength=len(leaves)) == 1).all():
        yield sentence(path, "does not hold every segment of its shards once")
        return
    counts: Any = np.diff(leaves.class_start[:, 0].astype(np.int64))
    class_ids = np.repeat(leaves.class_ids, counts)
    found: dict[str, Any] = {
        "class_id": class_ids,
        "box": leaves.box,
        "area": leaves.area,
        "context_area": leaves.context_area,
    }
    for name, column in found.items():
        if not np.array_equal(np.concatenate([getattr(shard, name) for shard in shards])[place], column):
            yield sentence(path, f"{name} is not that of its shards")


def _size(height: int, width: int, pixels: int) -> str:
    return f"{height}x{width} with {pixels:,} pixels"


def _kind(key: bytes) -> str:
    return next(kind for kind in _KINDS if key[:1] == kind[0].encode())
