"""Small shards for tests of the search, with the full-frame masks and contexts that the oracle scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import oracle

from zeuxis.storage.classes import VOID
from zeuxis.storage.footprints import (
    Footprints,
    SegmentColumns,
    context_areas,
    join_sources,
    region_map,
    tile_regions,
    void_free_sums,
)
from zeuxis.storage.layouts import Geometry, context_boxes, frame_layout

FRAME = (44, 60)  # of 6x8 tiles, the last of them cut
GEOMETRY = Geometry(FRAME, min_area=6)
THIN = np.zeros(VOID + 1, bool)


def layout_of(seed: int, classes: int = 4) -> np.ndarray:
    """Overlapping boxes of random classes on void."""
    rng = np.random.default_rng(seed)
    layout = np.full(FRAME, VOID, np.uint16)
    for _ in range(14):
        top, left = rng.integers(0, FRAME[0] - 4), rng.integers(0, FRAME[1] - 4)
        layout[top : top + rng.integers(3, 24), left : left + rng.integers(3, 30)] = rng.integers(classes)
    return layout


@dataclass(frozen=True)
class Toy:
    """A shard, and by row the mask and context of its segments."""

    footprints: Footprints
    masks: list[np.ndarray]
    contexts: list[np.ndarray]


def toy_shard(seeds: range, classes: int = 4) -> Toy:
    """One source a seed."""
    sources, masks, contexts = [], [], []
    for seed in seeds:
        layout = layout_of(seed, classes)
        framed = frame_layout(layout, GEOMETRY, THIN)
        regions, region_class = region_map(framed.labels, framed.components.class_ids, framed.stored)
        boxes = framed.boxes[framed.stored]
        ids = np.arange(len(masks), len(masks) + len(boxes), dtype=np.uint64)
        columns = SegmentColumns(
            ids, framed.components.class_ids[framed.stored], boxes.astype(np.uint16),
            framed.areas[framed.stored].astype(np.uint32),
            context_areas(void_free_sums(regions), context_boxes(boxes, FRAME)),
        )  # fmt: skip
        sources.append((tile_regions(regions, region_class), columns))
        masks += [framed.labels == number + 1 for number in np.flatnonzero(framed.stored)]
        contexts += [oracle.context(layout, mask) for mask in masks[len(contexts) :]]
    footprints = join_sources(sources, FRAME)
    order = footprints.segment_id.astype(int)
    return Toy(footprints, [masks[i] for i in order], [contexts[i] for i in order])
