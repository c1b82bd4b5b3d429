"""The objects of a bank that can be put into layouts, and what its layouts say of where they belong."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..storage.codec import Mask
from ..storage.footprints import rows_by_source, source_regions
from ..storage.reader import Reader
from ..synth.anatomy import WHOLE, anatomy, loose_roots
from ..synth.grounding import CELLS, Grounding, Terrain, cell_middles, learn_grounding, learn_terrain, resting

MAX_SOURCES = 2000
"""Layouts that are learned from, and whose objects are used, at most; evenly spaced over the split."""
MASK_BYTES = 128 << 20
"""Masks that a process keeps decoded, at most."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Found(NamedTuple):
    """The source of a bank's layout: the number of its shard and its row there."""

    shard: int
    row: int


@dataclass(frozen=True, eq=False)
class ObjectBank:
    """Objects of one split of a bank, with all that they carry; indices of classes are places in its table.

    Attributes:
        class_ids: `(C,)` ids of the bank; things: `(C,)`.
        terrain, grounding: where stuff lies, and where objects stand.
        n_pixels: `(C,)`, the mean share of a layout that is of each class.
        n_loose: `(C, C)`, the mean share of each class (second) in objects that may be taken out, by the class of what
            carries all (first).
        sources: of the layouts; hidden: `(S,)` the share of each that is of things; counts: `(S, C)` its objects that
            nothing carries, by class.
        classes, feet, middles, heights, halves: `(n,)` of whole objects that nothing carries: class index, lower edge,
            middle, height and half the width of the box, in shares of the frame.
        edges: `(n, 4)`, which edges of the frame they touch: top, left, bottom, right.
        groups: `(n,)` index into group_names; source: `(n,)` index into sources.
        members: `(n + 1,)` offsets into the next four: each object first, then what it carries.
        ids: `(m,)` uint64 segment ids; of: `(m,)` class indices; areas: `(m,)` shares of the frame; places: `(m, 4)`
            crops in shares of the source.
    """

    class_ids: npt.NDArray[np.uint16]
    things: Flags
    terrain: Terrain
    grounding: Grounding
    n_pixels: Floats
    n_loose: Floats
    sources: list[Found]
    hidden: Floats
    counts: Ints
    classes: Ints
    feet: Floats
    middles: Floats
    heights: Floats
    halves: Floats
    edges: Flags
    groups: Ints
    group_names: list[str]
    source: Ints
    members: Ints
    ids: npt.NDArray[np.uint64]
    of: Ints
    areas: Floats
    places: Floats

    def __len__(self) -> int:
        return len(self.classes)

    def pixels_of(self, objects: Ints) -> Floats:
        """`(C,)`, the mean share of the frame that one of some objects covers with each class, what it carries too."""
        sums = np.zeros(len(self.things))
        for at in objects.tolist():
            members = slice(self.members[at], self.members[at + 1])
            np.add.at(sums, self.of[members], self.areas[members])
        mean: Floats = sums / max(len(objects), 1)
        return mean


class MaskCache:
    """Masks of segments, decoded when first needed and kept within a budget of bytes."""

    def __init__(self, reader: Reader, budget: int = MASK_BYTES) -> None:
        self._reader, self._budget, self._bytes = reader, budget, 0
        self._masks: OrderedDict[int, Mask] = OrderedDict()

    def get(self, shard: int, segment_id: int) -> Mask:
        """`(h, w)` bool at its source's own resolution; not to be written to."""
        if segment_id in self._masks:
            self._masks.move_to_end(segment_id)
            return self._masks[segment_id]
        mask = self._masks[segment_id] = self._reader.segment_mask(shard, segment_id)
        self._bytes += mask.nbytes
        while self._bytes > self._budget:
            self._bytes -= self._masks.popitem(last=False)[1].nbytes
        return mask


def read_objects(reader: Reader, split: str) -> ObjectBank:
    """Learns from the layouts of a split, out of the search columns: no photograph, layout or mask is decoded."""
    class_ids = np.array([entry.id for entry in reader.classes], np.uint16)
    things = np.array([entry.thing for entry in reader.classes], bool)
    sources, groups = _sources_of(reader, split)
    group_names, group = np.unique(np.array(groups, dtype=str), return_inverse=True)
    crops = _Crops(reader)
    cells = np.array([_cells(reader, found, class_ids) for found in sources], np.uint16).reshape(-1, *CELLS)
    terrain = learn_terrain(cells, things)
    layouts = [_examined(reader, found, class_ids, things, terrain.ground, crops) for found in sources]
    empty = _nothing(len(things))
    of_source = np.repeat(np.arange(len(layouts)), [len(each.objects.classes) for each in layouts])
    joined = _Objects(*(np.concatenate(each) for each in zip(empty, *(e.objects for e in layouts), strict=True)))
    lowest = joined.root & (joined.bitten <= WHOLE)
    box = joined.boxes[lowest]
    contact, classes = joined.contact[lowest], joined.classes[lowest]
    edges = np.concatenate([box[:, :2] <= 0, box[:, 2:] >= 1], axis=1)
    feet, heights = box[:, 2], box[:, 2] - box[:, 0]
    middles, halves = (box[:, 1] + box[:, 3]) / 2, (box[:, 3] - box[:, 1]) / 2
    cut = edges[:, 0] | edges[:, 2]
    pairs = sum((each.carried for each in layouts), np.zeros((len(things), len(things)), np.int64))
    grounding = learn_grounding(terrain, things, classes, contact, feet, middles, heights, ~cut, pairs)
    usable = resting(contact, terrain.ground) | edges[:, 2] | ~grounding.standing[classes]
    carried = _carried(joined, of_source, np.flatnonzero(lowest)[usable], grounding.carries)
    offsets = np.cumsum([0, *map(len, carried)])
    rows = np.concatenate([np.zeros(0, np.int64), *carried]).astype(np.int64)
    n = max(len(layouts), 1)
    return ObjectBank(
        class_ids,
        things,
        terrain,
        grounding,
        sum((each.n_pixels for each in layouts), np.zeros(len(things))) / n,
        sum((each.n_loose for each in layouts), np.zeros((len(things), len(things)))) / n,
        sources,
        np.array([each.n_pixels[things].sum() for each in layouts]),
        np.array([each.counts for each in layouts], np.int64).reshape(-1, len(things)),
        classes[usable],
        feet[usable],
        middles[usable],
        heights[usable],
        halves[usable],
        edges[usable],
        group[of_source[lowest][usable]].astype(np.int64),
        group_names.tolist(),
        of_source[lowest][usable].astype(np.int64),
        offsets.astype(np.int64),
        joined.ids[rows],
        joined.classes[rows],
        joined.areas[rows],
        joined.places[rows],
    )


class _Objects(NamedTuple):
    """Objects of a layout, stored ones alone.

    Attributes:
        labels: `(k,)` in their layout; ids: `(k,)` uint64; classes: `(k,)` indices; root: `(k,)`, nothing carries them;
        carrier: `(k,)` labels of what carries each, 0 for a root; under: of what carries all, itself for a root.
        contact: `(k, C + 1)`; bitten: `(k,)`; boxes: `(k, 4)`, areas: `(k,)` shares of the frame; places: `(k, 4)`.
    """

    labels: Ints
    ids: npt.NDArray[np.uint64]
    classes: Ints
    root: Flags
    carrier: Ints
    under: Ints
    contact: npt.NDArray[np.int32]
    bitten: Floats
    boxes: Floats
    areas: Floats
    places: Floats


class _Layout(NamedTuple):
    """What one layout says."""

    objects: _Objects
    n_pixels: Floats
    n_loose: Floats
    counts: Ints
    carried: Ints


class _Crops:
    """Where the segments of each shard lie in their sources, and how their rows belong to these."""

    def __init__(self, reader: Reader) -> None:
        names = ["crop_top", "crop_left", "crop_bottom", "crop_right"]
        table = reader.segment_columns(names)
        crops = np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)
        starts = np.cumsum([0, *(shard.entry.rows["segments"] for shard in reader.shards)])
        self._reader, self._crops = reader, [crops[a:b] for a, b in pairwise(starts)]
        self._rows: dict[int, list[Ints]] = {}
        self._sizes: dict[int, Floats] = {}

    def rows(self, found: Found) -> Ints:
        """The rows of a source's segments in its shard, in the order of their regions."""
        if found.shard not in self._rows:
            self._rows[found.shard] = rows_by_source(self._reader.shards[found.shard].footprints)
        return self._rows[found.shard][found.row]

    def places(self, found: Found, rows: Ints) -> Floats:
        """`(k, 4)` crops of some of its segments, in shares of the source."""
        if found.shard not in self._sizes:
            table = self._reader.shards[found.shard].table("sources", ["height", "width"])
            self._sizes[found.shard] = np.stack([each.to_numpy() for each in table.columns], axis=1).astype(np.float64)
        places: Floats = self._crops[found.shard][rows] / np.tile(self._sizes[found.shard][found.row], 2)
        return places


def _cells(reader: Reader, found: Found, class_ids: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """The class indices in the middle of each cell."""
    regions, classes = regions_of(reader, found, class_ids)
    return classes[regions[np.ix_(*cell_middles(regions.shape))]].astype(np.uint16)


def regions_of(reader: Reader, found: Found, class_ids: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.uint32], Ints]:
    """The region map of a source, and the class index of each region, C for void."""
    footprints = reader.shards[found.shard].footprints
    of = slice(int(footprints.region_start[found.row]), int(footprints.region_start[found.row + 1]))
    regions = source_regions(footprints, found.row, reader.geometry.frame)
    return regions, indices_of(class_ids)[footprints.region_class[of]].astype(np.int64)


def _examined(
    reader: Reader, found: Found, class_ids: npt.NDArray[np.uint16], things: Flags, ground: Flags, crops: _Crops
) -> _Layout:
    frame, n_classes = reader.geometry.frame, len(class_ids)
    regions, classes = regions_of(reader, found, class_ids)
    rows = crops.rows(found)
    thing = np.append(things, False)[classes]
    objects = thing & (np.arange(len(classes)) <= len(rows))
    parts = anatomy(regions, classes, objects, ground)
    size = frame[0] * frame[1]
    n_loose = np.zeros((n_classes, n_classes))
    away = np.flatnonzero(np.isin(parts.root, loose_roots(parts, frame)))
    np.add.at(n_loose, (classes[parts.root[away]], classes[away]), parts.areas[away] / size)
    labels = np.flatnonzero(objects & (parts.areas > 0))
    own = rows[labels - 1]
    roots = parts.root[labels] == labels
    carried = np.zeros((n_classes, n_classes), np.int64)
    held = labels[~roots]
    np.add.at(carried, (classes[parts.carrier[held]], classes[held]), 1)
    return _Layout(
        _Objects(
            labels,
            reader.shards[found.shard].footprints.segment_id[own],
            classes[labels],
            roots,
            parts.carrier[labels],
            parts.root[labels],
            parts.contact[labels],
            parts.bitten[labels],
            parts.boxes[labels] / np.tile(np.array(frame, np.float64), 2),
            parts.areas[labels] / size,
            crops.places(found, own),
        ),
        np.bincount(classes, parts.areas, n_classes + 1)[:n_classes] / size,
        n_loose,
        np.bincount(classes[labels[roots]], minlength=n_classes),
        carried,
    )


def indices_of(class_ids: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """`(65536,)` uint16 from class id to its place in the table, C for void and strange ids."""
    index = np.full(1 << 16, len(class_ids), np.uint16)
    index[class_ids] = np.arange(len(class_ids))
    return index


def _nothing(n_classes: int) -> _Objects:
    return _Objects(
        np.zeros(0, np.int64),
        np.zeros(0, np.uint64),
        np.zeros(0, np.int64),
        np.zeros(0, bool),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros((0, n_classes + 1), np.int32),
        *(np.zeros(shape) for shape in (0, (0, 4), 0, (0, 4))),
    )


def _carried(joined: _Objects, of_source: Ints, chosen: Ints, carries: Flags) -> list[Ints]:
    """By object, its own row in `joined` and then those of all that it carries, not of what it only hides."""
    key = of_source * (1 << 32) + joined.under
    order = np.lexsort((-joined.boxes[:, 2], key))
    firsts = np.searchsorted(key[order], key[chosen])
    lasts = np.searchsorted(key[order], key[chosen], side="right")
    found = []
    for at, first, last in zip(chosen.tolist(), firsts.tolist(), lasts.tolist(), strict=True):
        held = {int(joined.labels[at]): at}
        for row in order[first:last].tolist() if last - first > 1 else ():  # what carries comes first
            carrier = held.get(int(joined.carrier[row]))
            if carrier is not None and carries[joined.classes[carrier], joined.classes[row]]:
                held[int(joined.labels[row])] = row
        found.append(np.array(list(held.values()), np.int64))
    return found


def _sources_of(reader: Reader, split: str) -> tuple[list[Found], list[str]]:
    """The labelled sources of a split, ascending by name, and their groups."""
    listed = []
    for number, (shard, sources) in enumerate(zip(reader.shards, reader.shard_sources, strict=True)):
        rows: list[dict[str, Any]] = shard.table("sources", ["split", "layout"]).to_pylist()
        for row, (name, group, live) in enumerate(zip(*(each.tolist() for each in sources), strict=True)):
            if live and rows[row]["split"] == split and rows[row]["layout"] is not None:
                listed.append((name, group, Found(number, row)))
    listed.sort()
    chosen = np.linspace(0, len(listed) - 1, min(len(listed), MAX_SOURCES)).astype(int).tolist()
    return [listed[i][2] for i in chosen], [listed[i][1] for i in chosen]
