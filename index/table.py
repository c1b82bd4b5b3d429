"""The hits of a retrieval as one Arrow table, with their way back to the photographs' files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..storage.reader import Reader
from ..storage.records import hex_id

if TYPE_CHECKING:
    from .result import Component, Hit

_BOX = ("top", "left", "bottom", "right")
_CROP = tuple(f"crop_{side}" for side in _BOX)

HIT_SCHEMA = pa.schema(
    [
        *(("component", pa.int32()), ("class_id", pa.uint16()), ("class_name", pa.string()), ("area", pa.int64())),
        *((side, pa.int32()) for side in _BOX),
        *(("rank", pa.int32()), ("segment", pa.string())),
        *((term, pa.float64()) for term in ("score", "mask_iou", "context_iou")),
        *((f"hit_{side}", pa.int32()) for side in _BOX),
        *((name, pa.string()) for name in ("source", "dataset", "split", "group", "root", "image")),
        *((side, pa.int32()) for side in _CROP),
        ("licence", pa.string()),
    ]
)
"""Boxes without a prefix are the component's, `hit_` the segment's, both in the frame; `crop_` in source pixels."""


def hits_table(components: Sequence[Component], reader: Reader) -> pa.Table:
    """One row a hit, in the order of components and ranks; each shard's rows are read once."""
    rows = list(_rows(components))
    found = _provenance([hit for *_, hit in rows], reader)
    records = [_record(*row, where) for row, where in zip(rows, found, strict=True)]
    return pa.Table.from_pylist(records, schema=HIT_SCHEMA)


def plain_text(name: str) -> str:
    """A file's name as text: bytes of it that are none become escapes."""
    return name.encode(errors="backslashreplace").decode()


def _rows(components: Sequence[Component]) -> Iterator[tuple[int, Component, int, Hit]]:
    for number, component in enumerate(components):
        for rank, hit in enumerate(component.hits):
            yield number, component, rank, hit


def _record(number: int, component: Component, rank: int, hit: Hit, where: dict[str, Any]) -> dict[str, Any]:
    return {
        "component": number,
        "class_id": component.class_id,
        "class_name": component.class_name,
        "area": component.area,
        **dict(zip(_BOX, component.box, strict=True)),
        "rank": rank,
        "segment": hex_id(hit.segment_id),
        "score": hit.score,
        "mask_iou": hit.mask_iou,
        "context_iou": hit.context_iou,
        **{f"hit_{side}": place for side, place in zip(_BOX, hit.box, strict=True)},
        "source": hit.source,
        **where,
    }


def _provenance(hits: Sequence[Hit], reader: Reader) -> list[dict[str, Any]]:
    """Of each hit: its data set with root and licence, its file, its box there."""
    of_shard: dict[int, list[int]] = defaultdict(list)
    for i, hit in enumerate(hits):
        of_shard[hit._shard].append(i)
    datasets = {e.name: {"root": plain_text(e.root), "licence": e.licence} for e in reader.manifest.datasets}
    found: list[dict[str, Any]] = [{}] * len(hits)
    for shard, numbers in of_shard.items():
        rows = [hits[i]._row for i in numbers]
        segments = reader.rows("segments", shard, rows)
        sources = reader.rows("sources", shard, reader.shards[shard].footprints.source[rows].tolist())
        for i, segment, source in zip(numbers, segments, sources, strict=True):
            kept = {name: segment[name] for name in ("dataset", "split", "group", *_CROP)}
            found[i] = {**kept, "image": source["image"], **datasets[segment["dataset"]]}
    return found
