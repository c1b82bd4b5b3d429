"""Segments of a source agree with the score's definition, found here anew by plain means."""

import hashlib

import cv2
import numpy as np
import pytest
from scipy import ndimage

from zeuxis.ingest.segments import Segments, find_segments, void_share
from zeuxis.storage.classes import VOID, ClassTable, SemanticClass
from zeuxis.storage.cutting import find_runs
from zeuxis.storage.layouts import Geometry, find_components

SOURCE = "00112233445566778899aabbccddeeff"
CLASSES = ClassTable(
    [SemanticClass(id, name, (id, 0, 0), thin=name == "pole") for id, name in enumerate(("sky", "wall", "pole", "dog"))]
)


def segments_of(layout: np.ndarray, frame: tuple[int, int], min_area: int = 1, join_thin: bool = False) -> Segments:
    return find_segments(layout.astype(np.uint16), SOURCE, CLASSES, Geometry(frame, min_area, join_thin))


def id_of(class_name: str, first_pixel: int) -> int:
    """63 bits of blake2b over source hash, length and letters of the class name, first pixel."""
    name = class_name.encode()
    data = bytes.fromhex(SOURCE) + len(name).to_bytes(4, "little") + name + first_pixel.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def nearest_exact(array: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    return cv2.resize(array.astype(np.float64), frame[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int64)


def expected_segments(layout: np.ndarray, frame: tuple[int, int], min_area: int) -> dict[int, tuple]:
    """Id to class, frame box, area, context area, source box and source pixels, one component after the other."""
    found = {}
    valid = nearest_exact(layout != VOID, frame) > 0
    for class_id in np.unique(layout[layout != VOID]):
        labels, count = ndimage.label(layout == class_id, np.ones((3, 3)))
        for number in range(1, count + 1):
            here = labels == number
            footprint = nearest_exact(here, frame) > 0
            if footprint.sum() < min_area:
                continue
            rows, cols = np.nonzero(footprint)
            box = rows.min(), cols.min(), rows.max() + 1, cols.max() + 1
            down, across = (box[2] - box[0] + 4) // 8, (box[3] - box[1] + 4) // 8
            context = valid[max(box[0] - down, 0) : box[2] + down, max(box[1] - across, 0) : box[3] + across]
            rows, cols = np.nonzero(here)
            crop = rows.min(), cols.min(), rows.max() + 1, cols.max() + 1
            id = id_of(CLASSES[int(class_id)].name, int(np.flatnonzero(here)[0]))
            found[id] = (class_id, box, footprint.sum(), context.sum(), crop, here.sum())
    return found


def random_layout(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """Blobs of four classes and void, with single pixels among them."""
    random = np.random.default_rng(seed)
    coarse = random.choice([0, 1, 2, 3, VOID], (shape[0] // 6 + 1, shape[1] // 6 + 1))
    layout = coarse.repeat(6, 0).repeat(6, 1)[: shape[0], : shape[1]]
    return np.where(random.random(shape) < 0.03, random.choice([0, 1, 2, 3], shape), layout).astype(np.uint16)


@pytest.mark.parametrize(
    ("shape", "frame"),
    [((40, 56), (40, 56)), ((80, 112), (40, 56)), ((30, 41), (40, 56)), ((60, 30), (24, 64)), ((37, 90), (33, 31))],
    ids=["same", "halved", "enlarged", "another aspect ratio", "odd"],
)
@pytest.mark.parametrize("min_area", [1, 12])
def test_segments_equal_the_definition(shape: tuple[int, int], frame: tuple[int, int], min_area: int) -> None:
    layout = random_layout(sum(shape), shape)
    segments = segments_of(layout, frame, min_area)
    columns = segments.columns
    found = {
        id: (columns.class_id[n], (*columns.box[n],), columns.area[n], columns.context_area[n],
             (*segments.crop_boxes[n],), segments.pixels[n])
        for n, id in enumerate(columns.segment_id.tolist())
    }  # fmt: skip
    expected = expected_segments(layout, frame, min_area)
    assert len(expected) > 10
    assert found == expected
    assert len(segments) == len(expected)


def test_crops_hold_each_component_and_nothing_else() -> None:
    layout = random_layout(3, (48, 64))
    image = np.random.default_rng(4).integers(0, 256, (48, 64, 3), np.uint8)
    segments = segments_of(layout, (24, 32), 4)
    seen = np.zeros(layout.shape, int)
    crops = list(segments.crops(image))
    for (pixels, mask), (top, left, bottom, right), count, class_id in zip(
        crops, segments.crop_boxes, segments.pixels, segments.columns.class_id, strict=True
    ):
        assert np.array_equal(pixels, image[top:bottom, left:right])
        assert mask.sum() == count
        assert mask.any(axis=0).all()
        assert mask.any(axis=1).all()
        assert (layout[top:bottom, left:right][mask] == class_id).all()
        seen[top:bottom, left:right] += mask
    assert len(crops) > 5
    assert seen.max() == 1


def test_an_id_derives_from_source_class_and_first_pixel_alone() -> None:
    layout = np.full((16, 16), VOID)
    layout[2:9, 3:9] = 3
    segments = segments_of(layout, (16, 16))
    assert segments.columns.segment_id.tolist() == [0x6CB105377C694937]
    assert segments.columns.segment_id.tolist() == segments_of(layout, (32, 64), 5).columns.segment_id.tolist()
    other = ClassTable([SemanticClass(0, "x", (0, 0, 0)), SemanticClass(7, "dog", (1, 1, 1))])
    again = find_segments(np.where(layout == 3, 7, VOID).astype(np.uint16), SOURCE, other, Geometry((16, 16), 1))
    assert again.columns.segment_id.tolist() == segments.columns.segment_id.tolist(), "the id of a class plays no part"


def test_the_first_pixel_is_the_first_in_raster_order_and_not_the_corner_of_the_box() -> None:
    layout = np.full((8, 8), VOID)
    layout[1, 5] = layout[2, 4] = layout[3, 3] = 0
    assert segments_of(layout, (8, 8)).columns.segment_id.tolist() == [id_of("sky", 1 * 8 + 5)]


def test_exactly_the_minimum_area_is_stored() -> None:
    layout = np.full((32, 32), VOID)
    layout[0:4, 0:16] = 0
    layout[10:17, 0:9] = 1
    segments = segments_of(layout, (32, 32), 64)
    assert segments.columns.area.tolist() == [64]
    assert len(segments.framed.components) == 2


def test_the_minimum_area_counts_frame_pixels() -> None:
    layout = np.full((32, 32), VOID)
    layout[0:8, 0:8] = 0
    assert len(segments_of(layout, (16, 16), 17)) == 0
    assert segments_of(layout, (16, 16), 16).columns.area.tolist() == [16]
    assert segments_of(layout, (64, 64), 256).pixels.tolist() == [64]


def test_a_component_that_the_frame_skips_is_counted_and_not_stored() -> None:
    layout = np.zeros((32, 32), int)
    layout[0, 0] = 1
    segments = segments_of(layout, (8, 8), 1)
    assert len(segments.framed.components) == 2
    assert segments.columns.class_id.tolist() == [0]


@pytest.mark.parametrize("layout", [np.full((16, 16), VOID), np.eye(16, dtype=int)], ids=["void", "small"])
def test_a_layout_without_segments_is_no_error(layout: np.ndarray) -> None:
    segments = segments_of(layout, (16, 16), 257)
    assert len(segments) == 0
    assert list(segments.crops(np.zeros((16, 16, 3), np.uint8))) == []


@pytest.fixture
def wall_behind_a_pole() -> np.ndarray:
    """A wall from side to side with a pole from top to bottom before it."""
    layout = np.full((24, 32), 1)
    layout[:, 15:17] = 2
    return layout


def test_a_pole_cuts_the_wall_behind_it(wall_behind_a_pole: np.ndarray) -> None:
    columns = segments_of(wall_behind_a_pole, (24, 32)).columns
    assert sorted(zip(columns.class_id.tolist(), columns.area.tolist(), strict=True)) == [(1, 360), (1, 360), (2, 48)]


def test_join_thin_leaves_the_wall_whole_without_the_poles_pixels(wall_behind_a_pole: np.ndarray) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    segments = segments_of(wall_behind_a_pole, (24, 32), join_thin=True)
    masks = {
        class_id: mask
        for class_id, (_, mask) in zip(segments.columns.class_id.tolist(), segments.crops(image), strict=True)
    }
    assert sorted(segments.columns.area.tolist()) == [48, 720]
    assert np.array_equal(masks[1], wall_behind_a_pole == 1)
    assert masks[2].shape == (24, 2)


def test_void_share_is_of_all_pixels() -> None:
    assert void_share(find_components(np.array([[VOID, 0, 0, 0]], np.uint16))) == 0.25
    layout = random_layout(3, (33, 47))
    assert void_share(find_components(layout)) == np.count_nonzero(layout == VOID) / layout.size


@pytest.mark.parametrize("frame", [(40, 60), (64, 96), (90, 130)])
def test_the_runs_in_the_frame_are_those_of_the_labels_there(frame: tuple[int, int]) -> None:
    framed = segments_of(random_layout(8, (64, 96)), frame).framed
    for known, found in zip(framed.runs, find_runs(framed.labels, np.uint32(0)), strict=True):
        assert np.array_equal(known, found)


def test_crops_and_masks_are_windows_of_the_photograph_and_of_the_labels() -> None:
    found = segments_of(random_layout(9, (64, 96)), (64, 96))
    image = np.random.default_rng(9).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    labels = found.framed.components.labels
    for component, box, (pixels, mask) in zip(found.stored, found.crop_boxes, found.crops(image), strict=True):
        window = np.s_[box[0] : box[2], box[1] : box[3]]
        assert np.array_equal(mask, labels[window] == component + 1)
        assert np.array_equal(pixels, image[window])
