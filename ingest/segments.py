"""Components of a source become segments: ids, boxes, crops and search columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from ..storage.classes import ClassTable, Layout
from ..storage.cutting import count_covered
from ..storage.footprints import (
    SegmentColumns,
    TiledRegions,
    number_regions,
    tile_runs,
)
from ..storage.images import Photograph
from ..storage.layouts import Components, FramedLayout, Geometry, context_boxes, frame_layout
from ..storage.records import segment_id


@dataclass(frozen=True)
class Segments:
    """The segments of one source; rows in the order of its stored components.

    Attributes:
        framed: the source's components, stored or not.
        stored: `(s,)` int64, the components that are segments.
        crop_boxes: `(s, 4)` int32, their boxes in the source; pixels: `(s,)` int64, their source pixels.
        tiled, columns: what search reads.
    """

    framed: FramedLayout
    stored: npt.NDArray[np.int64]
    crop_boxes: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.int64]
    tiled: TiledRegions
    columns: SegmentColumns

    def __len__(self) -> int:
        return len(self.stored)

    def crops(self, image: Photograph) -> Iterator[tuple[Photograph, npt.NDArray[np.bool_]]]:
        """Each segment's crop of the photograph, `(h, w, 3)` uint8, and its mask, `(h, w)` bool."""
        runs = self.framed.components.runs
        for component, (top, left, bottom, right) in zip(self.stored.tolist(), self.crop_boxes.tolist(), strict=True):
            mask = np.zeros((bottom - top, right - left), np.bool_)
            _paint(*runs, component + 1, top, left, mask)
            yield image[top:bottom, left:right], mask

    def distinct(self, instances: npt.NDArray[np.int32]) -> list[int]:
        """How many objects of an instance map, `(H, W)` int32 with 0 for none, lie in each segment."""
        inside = instances > 0
        both = self.framed.components.labels[inside].astype(np.int64) << 32 | instances[inside]
        counts = np.bincount(np.unique(both) >> 32, minlength=len(self.framed.components) + 1)
        return [int(counts[component + 1]) for component in self.stored]


def find_segments(layout: Layout, source_id: str, classes: ClassTable, geometry: Geometry) -> Segments:
    """Cuts a source's layout into segments (score, sections 2 to 5; SIMS, section 4.1).

    Args:
        layout: `(H, W)` uint16 of the bank's class ids.
        source_id: hash of the source, from which the segments' ids derive.
        classes: the bank's class table.
        geometry: of the bank.
    """
    framed = frame_layout(layout, geometry, classes.flags("thin"))
    components, stored = framed.components, np.flatnonzero(framed.stored)
    region_of, region_class = number_regions(components.class_ids, framed.stored)
    first, starts, stops, values = framed.runs
    regions = first, starts, stops, region_of[values]
    pixels, crop_boxes = components.areas_and_boxes
    class_ids = components.class_ids[stored]
    first_pixels = components.first_pixels[stored].tolist()
    ids = [
        segment_id(source_id, classes[class_id].name, pixel)
        for class_id, pixel in zip(class_ids.tolist(), first_pixels, strict=True)
    ]
    boxes = framed.boxes[stored]
    columns = SegmentColumns(
        np.array(ids, np.uint64),
        class_ids,
        boxes.astype(np.uint16),
        framed.areas[stored].astype(np.uint32),
        count_covered(first, starts, stops, framed.cols, context_boxes(boxes, geometry.frame)).astype(np.uint32),
    )
    tiled = tile_runs(regions, geometry.frame, region_class)
    return Segments(framed, stored, crop_boxes[stored], pixels[stored], tiled, columns)


def void_share(components: Components) -> float:
    """The share of a layout's pixels that are void."""
    size = (len(components.runs[0]) - 1) * components.cols
    return (size - int(components.areas_and_boxes[0].sum())) / size


@nb.njit(cache=True, nogil=True)
def _paint(first, starts, stops, values, label, top, left, mask):  # type: ignore[no-untyped-def]
    """Sets a mask, zeros whose corner lies at `top` and `left`, where the runs of a map have a label."""
    for row in range(len(mask)):
        for run in range(first[top + row], first[top + row + 1]):
            if values[run] == label:
                mask[row, starts[run] - left : stops[run] - left] = True
