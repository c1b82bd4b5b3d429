"""Small banks and sources without photographs, for the tests of search: any boxes, any classes, any frame."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from zeuxis.ingest.datasets.base import EncodedSource, Source, SourceRef
from zeuxis.ingest.extract import Extraction, ExtractionSettings, extract
from zeuxis.pipelines.indexing import index_shards
from zeuxis.storage.classes import VOID, ClassTable, SemanticClass
from zeuxis.storage.decoding import Decoding
from zeuxis.storage.footprints import (
    Footprints,
    SegmentColumns,
    TiledRegions,
    context_areas,
    join_sources,
    tile_regions,
    void_free_sums,
)
from zeuxis.storage.layouts import Geometry, areas_and_boxes, context_boxes
from zeuxis.storage.manifest import DatasetEntry, Manifest, shard_folder
from zeuxis.storage.parts import PartEntry
from zeuxis.storage.reader import Reader
from zeuxis.storage.shard import ShardEntry
from zeuxis.storage.shard_writer import ShardWriter

CLASSES = ClassTable(SemanticClass(id, f"class {id}", (id, 0, 0)) for id in (*range(14), 300))
IDS = {entry.id: entry.id for entry in CLASSES}
DATASET = DatasetEntry("made", "folder", "/nowhere", None, Decoding(tuple(CLASSES), frozenset()), IDS)


def random_layout(rng: np.random.Generator, size: tuple[int, int], classes: int, specks: float = 0.02) -> np.ndarray:
    """Rectangles of the classes 0..`classes` (the last one is void) over each other, with specks of class 1."""
    layout = np.full(size, rng.integers(classes), np.uint16)
    for _ in range(rng.integers(3, 25)):
        top, left = rng.integers(size[0]), rng.integers(size[1])
        height, width = rng.integers(1, 2 + size[0] // 2), rng.integers(1, 2 + size[1] // 2)
        chosen = rng.integers(classes + 1)
        layout[top : top + height, left : left + width] = VOID if chosen == classes else chosen
    layout[rng.random(size) < specks] = 1
    return layout


def random_source(
    rng: np.random.Generator,
    frame: tuple[int, int],
    classes: Sequence[int],
    ids: Sequence[int],
    rest: int = 3,
    reach: int = 12,
) -> tuple[np.ndarray, TiledRegions, SegmentColumns]:
    """A region map in which every segment has a pixel at least, overlaid rectangles, void and `rest` other regions.

    Args:
        classes, ids: of the segments.
        rest: how many regions there are that are not stored; reach: how far a rectangle goes from its seed, at most.
    """
    n = len(classes) + rest
    regions = np.zeros(frame, np.uint32)
    seeds = rng.choice(regions.size, n, replace=False)
    for region in rng.permutation(n):
        row, col = divmod(int(seeds[region]), frame[1])
        above, left, below, right = rng.integers(0, 1 + rng.integers(1, reach), 4)
        regions[max(row - above, 0) : row + below + 1, max(col - left, 0) : col + right + 1] = region + 1
    regions.flat[seeds] = np.arange(1, n + 1)
    areas, boxes = areas_and_boxes(regions, n)
    region_class = np.array([VOID, *classes, *rng.integers(14, size=rest)], np.uint16)
    stored = slice(len(classes))
    counts = context_areas(void_free_sums(regions), context_boxes(boxes, frame))
    columns = SegmentColumns(
        np.array(ids, np.uint64), np.array(classes, np.uint16), boxes[stored].astype(np.uint16),
        areas[stored].astype(np.uint32), counts[stored],
    )  # fmt: skip
    return regions, tile_regions(regions, region_class), columns


def widened(shard: Footprints) -> Footprints:
    """The same columns as a shard has them that numbers its regions in 32 bits."""
    assert shard.tiles.dtype == np.uint16
    tiles = np.where(shard.tiles == 0xFFFF, np.uint32(0xFFFFFFFF), shard.tiles).astype(np.uint32)
    numbers = {name: getattr(shard, name).astype(np.uint32) for name in ("entry_region", "region")}
    return replace(shard, tiles=tiles, **numbers)


def random_footprints(
    rng: np.random.Generator, frame: tuple[int, int], sizes: dict[int, int], shards: int, per_source: int = 80
) -> tuple[list[Footprints], list[list[np.ndarray]]]:
    """Shards with so many segments of each class, and the region maps of their sources."""
    classes = rng.permutation(np.repeat(list(sizes), list(sizes.values())))
    ids = rng.choice(1 << 40, len(classes), replace=False)
    sources = [
        random_source(rng, frame, classes[first : first + per_source], ids[first : first + per_source])
        for first in range(0, len(classes), per_source)
    ]
    batches = np.array_split(np.arange(len(sources)), shards)
    joined = [join_sources([sources[i][1:] for i in batch], frame) for batch in batches]
    return joined, [[sources[i][0] for i in batch] for batch in batches]


def write_bank_shard(bank: Path, geometry: Geometry, layouts: Sequence[np.ndarray], seed: int = 0) -> ShardEntry:
    """A finished shard of these layouts, each with a photograph of noise that the seed and its number decide."""
    settings = ExtractionSettings(geometry, keep_sources=False)
    with ShardWriter(shard_folder(bank), "made", geometry.frame) as writer:
        for number, layout in enumerate(layouts):
            name = f"{seed}-{number}"
            image = np.random.default_rng((seed, number)).integers(0, 255, (*layout.shape, 3), np.uint8)
            encoded = EncodedSource(_npy(image), _npy(layout), None)
            ref = SourceRef(name, "train", name, name, name, None)
            source = Source(image, layout, None, "train", name)
            writer.add(extract(ref, encoded, source, Extraction(settings, CLASSES, DATASET), name))
        return writer.publish()


def open_bank(bank: Path, geometry: Geometry, shards: Sequence[ShardEntry], parts: Sequence[PartEntry] = ()) -> Reader:
    """A generation of shards and parts that are in place."""
    settings = ExtractionSettings(geometry).to_json()
    manifest = Manifest(1, geometry, settings, CLASSES, (DATASET,), tuple(shards), "", {}, tuple(parts))
    return Reader(bank, manifest)


def make_bank(bank: Path, geometry: Geometry, *nights: Sequence[Sequence[np.ndarray]]) -> Reader:
    """A bank of several nights, each of one or several shards of layouts, indexed night after night."""
    shards: list[ShardEntry] = []
    parts: tuple[PartEntry, ...] = ()
    for night in nights:
        shards += [write_bank_shard(bank, geometry, layouts, len(shards) + n) for n, layouts in enumerate(night)]
        parts = index_shards(bank, geometry.frame, shards, parts)
    return open_bank(bank, geometry, shards, parts)


def _npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()
