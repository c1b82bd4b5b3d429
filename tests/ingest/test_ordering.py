"""Orderings: which of two touching segments is in front, checked against full-frame brute force."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from zeuxis.ingest.ordering import Ordering, band_side, orderings
from zeuxis.storage.classes import VOID
from zeuxis.storage.images import decode_depth, decode_labels
from zeuxis.storage.layouts import areas_and_boxes, find_components, label_runs, sample_to_frame

NYU = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nyu"
WALL, FLOOR = 0, 1
FURNITURE = {3, 4, 5, 6, 13, 32}
"""Bed, chair, sofa, table, desk, toilet: NYU ids of what stands free in a room."""


def regions_of(layout, stored=None):
    """labels, boxes, class_ids, stored of a layout."""
    found = find_components(layout)
    _, boxes = areas_and_boxes(found.labels, len(found))
    return found.labels, boxes, found.class_ids, np.ones(len(found), bool) if stored is None else stored


def ordered(labels, *regions, **options):
    """The orderings of a label map."""
    return list(orderings(label_runs(labels), labels.shape, *regions, **options))


def brute_force(labels, class_ids, stored, depth):
    """Depth orderings written from the definition: full frames, all pairs."""
    square = np.ones((max(1, int(np.floor(11 / 256 * labels.shape[0] + 0.5))),) * 2, bool)
    footprints = [labels == i + 1 for i in range(len(class_ids))]
    dilated = [binary_dilation(footprint, square) for footprint in footprints]
    expected = []
    for a, b in combinations(np.flatnonzero(stored).tolist(), 2):
        both = dilated[a] & dilated[b]
        if class_ids[a] == class_ids[b] or not both.any():
            continue
        sides = [depth[footprints[i] & both & (depth > 0)].astype(np.float64) for i in (a, b)]
        front, margin = None, None
        if min(map(len, sides)) >= 10:
            ours, theirs = map(np.median, sides)
            margin = abs(ours - theirs) / max(ours, theirs)
            if margin >= 0.02:
                front = a if ours < theirs else b
        expected.append(Ordering(a, b, front, margin, "depth"))
    return expected


def random_layout(rng, shape):
    """Rectangles and discs over one another, with void, holes, slivers and single pixels."""
    layout = np.full(shape, rng.choice([VOID, 0, 1]), np.uint16)
    rows, cols = np.indices(shape)
    for _ in range(rng.integers(2, 14)):
        y, x, size = rng.integers(shape[0]), rng.integers(shape[1]), rng.integers(1, max(shape) // 2)
        disc = (rows - y) ** 2 + (cols - x) ** 2 < (size / 2) ** 2
        bar = (abs(rows - y) < rng.integers(1, size + 1)) & (abs(cols - x) < size)
        layout[disc if rng.random() < 0.5 else bar] = rng.choice([VOID, 0, 1, 2, 3, 4])
    speckles = rng.random(shape) < 0.002
    layout[speckles] = 5
    return layout


def random_depth(rng, layout):
    """Near-equal values a class, in 8-bit steps so that medians tie, with unknown patches."""
    levels = rng.choice([50, 51, 52, 60, 90], VOID + 1)
    depth = ((levels[layout] + rng.integers(-1, 2, layout.shape)) / 25.5).astype(np.float32)
    depth[rng.random(layout.shape) < rng.choice([0, 0.3, 0.97])] = 0
    return depth


@pytest.mark.parametrize("rows", [4, 35, 48, 70, 93, 116, 140])
def test_equals_brute_force_on_random_layouts(rows):
    rng = np.random.default_rng(rows)
    known = unknown = 0
    for _ in range(12):
        layout = random_layout(rng, (rows, int(rng.integers(8, 120))))
        labels, boxes, class_ids, _ = regions_of(layout)
        stored = rng.random(len(class_ids)) < 0.9
        depth = random_depth(rng, layout)
        found = ordered(labels, boxes, class_ids, stored, depth)
        assert found == brute_force(labels, class_ids, stored, depth)
        known += sum(ordering.front is not None for ordering in found)
        unknown += sum(ordering.front is None for ordering in found)
    assert (known and unknown) or rows < 48


def test_a_depth_map_of_another_size_counts_where_the_frame_is_sampled_from_it():
    rng = np.random.default_rng(5)
    layout = random_layout(rng, (93, 110))
    for size in ((93, 110), (200, 150), (61, 240)):
        depth = rng.uniform(1, 9, size).astype(np.float32)
        labels, boxes, class_ids, stored = regions_of(layout)
        found = ordered(labels, boxes, class_ids, stored, depth)
        assert found == brute_force(labels, class_ids, stored, sample_to_frame(depth, layout.shape))
        assert any(ordering.front is not None for ordering in found)


def test_the_square_has_the_published_side_rounded_half_up():
    assert [band_side(rows) for rows in (1, 256, 384, 512, 1024)] == [1, 11, 17, 22, 44]
    assert band_side(384) == int(11 / 256 * 384 + 0.5)  # 16.5


@pytest.mark.parametrize("rows", [256, 512])
def test_segments_touch_up_to_just_under_one_square_apart(rows):
    side = band_side(rows)
    for gap, touching in ((side - 2, True), (side - 1, False)):  # empty columns between the two
        layout = np.full((rows, 90), VOID, np.uint16)
        layout[20:60, 10:30] = 3
        layout[20:60, 30 + gap : 60 + gap] = 4
        assert bool(ordered(*regions_of(layout), np.ones(layout.shape, np.float32))) is touching


def two_halves(near, far):
    layout = np.zeros((64, 64), np.uint16)
    layout[:, 32:] = 1
    depth = np.where(layout == 0, np.float32(near), np.float32(far))
    return layout, depth


@pytest.mark.parametrize(
    ("left", "right", "front"), [(1.0, 2.0, 0), (2.0, 1.0, 1), (9.81, 10.0, None), (9.79, 10.0, 0), (3, 3, None)]
)
def test_nearer_is_in_front_when_the_medians_differ_enough(left, right, front):
    layout, depth = two_halves(left, right)
    (found,) = ordered(*regions_of(layout), depth)
    assert (found.a, found.b, found.front, found.origin) == (0, 1, front, "depth")
    assert found.margin == pytest.approx(abs(left - right) / max(left, right), abs=1e-6)


@pytest.mark.parametrize("measured", ["depth", "disparity", "network"])
def test_orderings_say_where_their_depth_came_from_and_hold_in_any_unit(measured):
    for near, far in ((1.0, 2.0), (9.9, 10.0)):
        layout, depth = two_halves(near, far)
        depth[:, 60:] = 0
        expected = ordered(*regions_of(layout), depth)
        for unit in (1, 1e-3, 4096):
            (found,) = ordered(*regions_of(layout), depth * np.float32(unit), measured=measured)
            assert (found.front, found.origin) == (expected[0].front, measured)
            assert found.margin == pytest.approx(expected[0].margin, rel=1e-5)
    (unknown,) = ordered(*regions_of(layout), np.zeros_like(depth), "ground", measured=measured)
    assert (unknown.front, unknown.margin, unknown.origin) == (None, None, measured)


def test_only_the_band_counts_not_the_far_parts():
    layout, depth = two_halves(2.0, 1.0)
    depth[:, :28] = 0.1
    (found,) = ordered(*regions_of(layout), depth)
    assert found.front == 1


def test_too_few_known_depths_stay_unknown_whatever_the_rule():
    layout, depth = two_halves(1.0, 2.0)
    band = np.argwhere((layout == 1) & (np.indices(layout.shape)[1] == 32))
    depth[layout == 1] = 0
    for count, front in ((9, None), (10, 0)):
        depth[tuple(band[:count].T)] = 2
        (found,) = ordered(*regions_of(layout), depth, "ground")
        assert (found.front, found.origin) == (front, "depth")


def test_components_that_are_not_stored_and_equal_classes_have_no_ordering():
    layout = np.zeros((64, 64), np.uint16)
    layout[:, 32] = VOID
    depth = np.ones(layout.shape, np.float32)
    assert ordered(*regions_of(layout), depth) == []
    layout[:, 33:] = 1
    assert len(ordered(*regions_of(layout), depth)) == 1
    assert ordered(*regions_of(layout, np.array([True, False])), depth) == []


def test_a_layout_of_void_has_no_ordered():
    assert ordered(*regions_of(np.full((32, 32), VOID, np.uint16)), None, "ground") == []


SCENE = np.repeat(np.array([[0, 0, 0, 0], [0, 1, 2, 0], [3, 1, 2, 3], [3, 3, 2, 3]], np.uint16), 16, 0).repeat(16, 1)
"""Sky 0 behind building 1 and person 2, on road 3 (left and right of the person: one region, joined by no pixel)."""


def test_ground_rule_puts_what_reaches_lower_in_front_and_sky_last():
    labels, boxes, class_ids, stored = regions_of(SCENE)
    sky, building, person = (int(np.flatnonzero(class_ids == id)[0]) for id in (0, 1, 2))
    found = {(o.a, o.b): o for o in ordered(labels, boxes, class_ids, stored, None, "ground", class_ids == 0)}
    assert found[building, person] == Ordering(building, person, person, 16 / 64, "ground")
    assert found[sky, building] == Ordering(sky, building, building, 1.0, "ground")
    for road in np.flatnonzero(class_ids == 3).tolist():
        assert found[person, road] == Ordering(person, road, None, 0.0, "ground")
    upside_down = regions_of(SCENE[::-1].copy())
    for ordering in ordered(*upside_down, None, "ground", upside_down[2] == 0):
        if 0 in (upside_down[2][ordering.a], upside_down[2][ordering.b]):
            assert upside_down[2][ordering.front] != 0
    without_sky = ordered(*upside_down, None, "ground")
    assert any(o.front is not None and upside_down[2][o.front] == 0 for o in without_sky)


def test_without_depth_and_rule_touching_pairs_are_listed_as_unknown():
    labels, boxes, class_ids, stored = regions_of(SCENE)
    found = ordered(labels, boxes, class_ids, stored, None)
    assert {(o.front, o.margin, o.origin) for o in found} == {(None, None, "none")}
    by_depth = ordered(labels, boxes, class_ids, stored, np.ones(labels.shape, np.float32))
    assert [(o.a, o.b) for o in found] == [(o.a, o.b) for o in by_depth]


@pytest.fixture(scope="module")
def photographs():
    """Regions and depth of some NYU photographs at 384x512."""
    if not NYU.exists():
        pytest.skip(f"no NYU photographs in {NYU}")
    found = []
    for path in sorted((NYU / "labels").iterdir())[::25]:
        layout = decode_labels(path.read_bytes(), path).astype(np.uint16)
        layout[layout == 39] = VOID
        components = find_components(layout)
        labels = sample_to_frame(components.labels, (384, 512))
        areas, boxes = areas_and_boxes(labels, len(components))
        depth_path = NYU / "depths" / path.name
        depth = sample_to_frame(decode_depth(depth_path.read_bytes(), depth_path, 1 / 25.5), (384, 512))
        found.append(((labels, boxes, components.class_ids, areas >= 64), depth))
    return found


@pytest.mark.realdata
def test_real_photographs_equal_brute_force(photographs):
    for (labels, boxes, class_ids, stored), depth in photographs[:2]:
        found = ordered(labels, boxes, class_ids, stored, depth)
        assert found == brute_force(labels, class_ids, stored, depth)
        assert sum(o.front is not None for o in found) >= 3


@pytest.mark.realdata
@pytest.mark.parametrize(("ground", "share"), [(WALL, 0.9), (FLOOR, 0.7)])
def test_furniture_stands_in_front_of_wall_and_floor(photographs, ground, share):
    fronts = [
        class_ids[o.front]
        for (labels, boxes, class_ids, stored), depth in photographs
        for o in ordered(labels, boxes, class_ids, stored, depth)
        if o.front is not None and {class_ids[o.a], class_ids[o.b]} - FURNITURE == {ground}
    ]
    assert len(fronts) >= 40
    assert np.mean([front != ground for front in fronts]) >= share
