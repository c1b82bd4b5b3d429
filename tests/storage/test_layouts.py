"""Layouts: components against an independent labelling, sampling against OpenCV, boxes against the definition."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import SourceError
from zeuxis.storage.layouts import (
    Geometry,
    areas_and_boxes,
    context_box,
    context_boxes,
    find_components,
    frame_layout,
    labels_to_layout,
    sample_to_frame,
)

NO_THIN = np.zeros(VOID + 1, bool)
layouts = hnp.arrays(
    np.uint16,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, 7, VOID - 1, VOID]),
)


def thin(*ids: int) -> np.ndarray:
    flags = NO_THIN.copy()
    flags[list(ids)] = True
    return flags


def drawn(text: str) -> np.ndarray:
    """A layout of one digit a pixel; a dot is void."""
    rows = [[VOID if c == "." else int(c) for c in line] for line in text.split()]
    return np.array(rows, np.uint16)


def regions_of(layout: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """`(first pixel, class, mask)` of every component, by SciPy, class by class."""
    found = []
    for class_id in np.unique(layout[layout != VOID]):
        labels, n = ndimage.label(layout == class_id, structure=np.ones((3, 3)))
        masks = [labels == i + 1 for i in range(n)]
        found += [(int(np.flatnonzero(mask.ravel())[0]), int(class_id), mask) for mask in masks]
    return sorted(found, key=lambda region: region[0])


@given(layouts)
@settings(max_examples=300, deadline=None)
def test_components_are_those_of_an_independent_labelling_in_raster_order(layout):
    components, expected = find_components(layout), regions_of(layout)
    assert len(components) == len(expected)
    assert components.labels.dtype == np.uint32
    np.testing.assert_array_equal(components.labels == 0, layout == VOID)
    for number, (first, class_id, mask) in enumerate(expected):
        assert components.first_pixels[number] == first
        assert components.class_ids[number] == class_id
        np.testing.assert_array_equal(components.labels == number + 1, mask)


def test_components_of_a_large_layout_and_of_views_are_the_same():
    rng = np.random.default_rng(3)
    layout = np.kron(rng.integers(0, 5, (40, 50)), np.ones((5, 5))).astype(np.uint16)
    layout[rng.random(layout.shape) < 0.1] = VOID
    expected = regions_of(layout)
    for variant in (layout, np.asfortranarray(layout), np.repeat(layout, 2, axis=1)[:, ::2]):
        components = find_components(variant)
        assert components.first_pixels.tolist() == [first for first, _, _ in expected]
        assert components.class_ids.tolist() == [class_id for _, class_id, _ in expected]


def test_diagonal_pixels_are_connected_and_class_zero_is_a_class():
    components = find_components(drawn("01 10"))
    assert components.class_ids.tolist() == [0, 1]
    assert components.labels.tolist() == [[1, 2], [2, 1]]


def test_a_layout_of_void_alone_has_no_components():
    components = find_components(np.full((3, 4), VOID, np.uint16))
    assert len(components) == 0
    assert not components.labels.any()
    framed = frame_layout(np.full((3, 4), VOID, np.uint16), Geometry((8, 8)), NO_THIN)
    assert framed.areas.shape == (0,)
    assert framed.boxes.shape == (0, 4)


@given(layouts)
@settings(max_examples=200, deadline=None)
def test_areas_and_boxes_are_tight(layout):
    components = find_components(layout)
    n = len(components) + 2  # two numbers that do not occur
    areas, boxes = areas_and_boxes(components.labels, n)
    for number in range(n):
        rows, cols = np.nonzero(components.labels == number + 1)
        assert areas[number] == rows.size
        expected = (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1) if rows.size else (0, 0, 0, 0)
        assert tuple(boxes[number]) == expected


class TestThinStructures:
    """SIMS, section 4.1: thin structures do not cut the region behind them."""

    CUT = drawn("11511 11511 22522 22522")

    def test_a_pole_cuts_what_is_behind_it_unless_asked_not_to(self):
        assert len(find_components(self.CUT)) == 5
        joined = find_components(self.CUT, thin(5))
        assert joined.class_ids.tolist() == [1, 5, 2]
        assert (joined.labels == 1).sum() == 8
        assert (joined.labels == 2).sum() == 4
        np.testing.assert_array_equal(joined.labels == 2, self.CUT == 5)

    def test_without_thin_pixels_nothing_changes(self):
        plain, asked = find_components(self.CUT), find_components(self.CUT, thin(9))
        np.testing.assert_array_equal(plain.labels, asked.labels)

    def test_a_layout_of_thin_structures_alone_keeps_its_components(self):
        layout = drawn("5.5 5.5")
        np.testing.assert_array_equal(find_components(layout, thin(5)).labels, find_components(layout).labels)

    def test_regions_are_not_joined_across_void(self):
        assert find_components(drawn("11.511 11.511"), thin(5)).class_ids.tolist() == [1, 5, 1]

    def test_a_region_in_which_thin_pixels_match_its_own_is_left_cut(self):
        assert find_components(drawn("1551 1551"), thin(5)).class_ids.tolist() == [1, 5, 1]
        assert find_components(drawn("11551 11551"), thin(5)).class_ids.tolist() == [1, 5]

    @given(layouts)
    @settings(max_examples=200, deadline=None)
    def test_joining_only_merges_components_of_one_class(self, layout):
        plain, joined = find_components(layout), find_components(layout, thin(7))
        np.testing.assert_array_equal(joined.labels == 0, layout == VOID)
        for number in range(len(joined)):
            classes = np.unique(layout[joined.labels == number + 1])
            assert classes.tolist() == [joined.class_ids[number]]
        for number in range(len(plain)):
            assert np.unique(joined.labels[plain.labels == number + 1]).size == 1, "a component was cut in two"
        assert (np.diff(joined.first_pixels) > 0).all()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
@settings(max_examples=300, deadline=None)
def test_sampling_is_that_of_opencv(height, width, rows, cols, seed):
    image = np.random.default_rng(seed).integers(0, 65536, (height, width)).astype(np.uint16)
    expected = cv2.resize(image, (cols, rows), interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(sample_to_frame(image, (rows, cols)), expected)


@pytest.mark.parametrize("size", [(480, 640), (360, 480), (1080, 1920), (375, 1242), (384, 512)])
def test_sampling_of_real_sizes_keeps_dtype_and_channels(size):
    rng = np.random.default_rng(0)
    for image in (rng.integers(0, 255, (*size, 3), np.uint8), rng.random(size, np.float32)):
        sampled = sample_to_frame(image, (384, 512))
        assert sampled.dtype == image.dtype
        expected = cv2.resize(image, (512, 384), interpolation=cv2.INTER_NEAREST_EXACT)
        np.testing.assert_array_equal(sampled, expected)


def test_sampling_numbers_that_opencv_cannot_resize():
    labels = np.arange(12, dtype=np.uint32).reshape(3, 4) + 2**31
    np.testing.assert_array_equal(sample_to_frame(labels, (6, 8)), np.kron(labels, np.ones((2, 2), np.uint32)))


def test_components_are_found_at_the_layouts_own_resolution_then_sampled():
    layout = np.zeros((32, 32), np.uint16)
    layout[::2] = 1  # stripes that sampling to half the size merges into one colour
    layout[:, 20:] = 2
    framed = frame_layout(layout, Geometry((16, 16), min_area=20), NO_THIN)
    assert len(framed.components) == 33
    assert framed.areas.sum() == 256
    assert framed.stored.tolist() == [False] + [True] + [False] * 31
    gone = framed.areas == 0
    assert gone.sum() == 16
    assert not framed.boxes[gone].any()


def test_a_component_that_sampling_loses_is_never_stored():
    layout = np.zeros((32, 32), np.uint16)
    layout[0, 0] = 1
    framed = frame_layout(layout, Geometry((4, 4), min_area=0), NO_THIN)
    assert framed.areas.tolist() == [0, 16]
    assert framed.stored.tolist() == [False, True]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10, 10, 18, 26), (9, 8, 19, 28)),
        ((10, 10, 13, 13), (10, 10, 13, 13)),  # 3 / 8 rounds to none
        ((10, 10, 14, 22), (9, 8, 15, 24)),  # 4 / 8 and 12 / 8 round up
        ((0, 0, 8, 8), (0, 0, 9, 9)),
        ((40, 50, 48, 64), (39, 48, 48, 64)),
    ],
)
def test_a_context_box_is_padded_by_an_eighth_and_clipped(box, expected):
    assert context_box(box, (48, 64)) == expected


def test_many_context_boxes_are_those_of_each():
    rng = np.random.default_rng(1)
    frame = (300, 65535)
    corners = rng.integers(0, [[300, 65535]] * 2, (500, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1).astype(np.int32)
    boxes = np.minimum(boxes, [300, 65535, 300, 65535]).astype(np.int32)
    expected = [context_box(tuple(box), frame) for box in boxes.tolist()]
    assert context_boxes(boxes, frame).tolist() == [list(box) for box in expected]


class TestLabelsToLayout:
    KNOWN = thin(0, 1, 5)

    def test_void_ids_become_void_and_the_input_stays(self):
        labels = np.array([[0, 5], [255, VOID]], np.uint16)
        before = labels.copy()
        layout = labels_to_layout(labels, "x.png", known=self.KNOWN, void=frozenset({255}))
        assert layout.tolist() == [[0, 5], [VOID, VOID]]
        np.testing.assert_array_equal(labels, before)

    def test_a_known_id_that_is_also_void_is_void(self):
        layout = labels_to_layout(np.array([[0, 5]]), "x.png", known=self.KNOWN, void=frozenset({0}))
        assert layout.tolist() == [[VOID, 5]]

    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            (np.array([[0, 3, 3]]), "3 (2 pixels)"),
            (np.arange(10, 20)[None], "and 5 more"),
            (np.array([[-1]]), "ids from -1 to 0"),
            (np.array([[70000]]), "ids from 0 to 70000"),
        ],
    )
    def test_unknown_ids_are_named_with_their_count(self, labels, said):
        with pytest.raises(SourceError) as caught:
            labels_to_layout(labels, "x.png", known=self.KNOWN, void=frozenset({255}))
        assert caught.value.reason == "unknown-id"
        assert said in str(caught.value)
        assert str(caught.value).startswith("x.png: ")

    def test_colours_become_ids_by_the_palette(self):
        picture = np.array([[[1, 2, 3], [0, 0, 0]], [[255, 255, 255], [1, 2, 3]]], np.uint8)
        palette = {(1, 2, 3): 5, (0, 0, 0): 255, (255, 255, 255): 1}
        layout = labels_to_layout(picture, "x.png", known=self.KNOWN, void=frozenset({255}), palette=palette)
        assert layout.tolist() == [[5, VOID], [1, 5]]

    def test_unknown_colours_are_named_commonest_first(self):
        picture = np.array([[[9, 9, 9], [1, 2, 3], [8, 8, 8], [8, 8, 8]]], np.uint8)
        with pytest.raises(SourceError) as caught:
            labels_to_layout(picture, "x.png", known=self.KNOWN, void=frozenset(), palette={(1, 2, 3): 5})
        assert caught.value.reason == "unknown-colour"
        assert "(8, 8, 8) (2 pixels), (9, 9, 9) (1 pixels)" in str(caught.value)

    def test_colours_without_a_palette_are_refused(self):
        with pytest.raises(SourceError) as caught:
            labels_to_layout(np.zeros((1, 1, 3), np.uint8), "x.png", known=self.KNOWN, void=frozenset())
        assert caught.value.reason == "rgb-without-palette"
