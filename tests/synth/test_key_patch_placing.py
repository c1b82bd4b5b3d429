"""Patches are found where they are: against pictures that were put together from them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from zeuxis.ingest.patches import box_iou
from zeuxis.synth.key_patches.placing import OVERLAP, _contrasts, box_overlaps, place_patches

SIDE = 64
BOXES = [(4, 6, 24, 24), (8, 38, 26, 62), (38, 20, 62, 38)]


def texture(seed: int, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """A smooth pattern, so that a stretched copy is still like it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def put_together(boxes: list[tuple[int, int, int, int]], seed: int = 0) -> tuple[np.ndarray, np.ndarray, list]:
    """A picture of which these boxes show patches, the mask of them, and the patches."""
    image = texture(seed + 100, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.float32)
    patches = [texture(seed + number) for number in range(len(boxes))]
    for (top, left, bottom, right), patch in zip(boxes, patches, strict=True):
        image[top:bottom, left:right] = cv2.resize(patch, (right - left, bottom - top))
        mask[top:bottom, left:right] = 1
    return image, mask, patches


@pytest.mark.parametrize("seed", range(4))
def test_patches_are_found_where_they_are(seed: int):
    image, mask, patches = put_together(BOXES, seed)
    found = place_patches(image, mask, patches)
    assert all(box_iou(each.box, true) > 0.6 for each, true in zip(found, BOXES, strict=True))
    # each has its own place, whatever the order in which they are given
    turned = place_patches(image, mask, patches[::-1])
    assert turned == found[::-1]


def test_without_a_mask_the_pattern_alone_decides():
    image, mask, patches = put_together(BOXES)
    found = place_patches(image, np.zeros_like(mask), patches)
    assert all(box_iou(each.box, true) > 0.5 for each, true in zip(found, BOXES, strict=True))
    assert place_patches(image, np.full_like(mask, 0.7), patches) == found


def test_a_patch_without_a_pattern_goes_where_the_mask_is():
    image, mask, _ = put_together(BOXES[:1])
    (found,) = place_patches(image, mask, [np.full((20, 20, 3), 90, np.uint8)])
    assert box_iou(found.box, BOXES[0]) > 0.6


def test_a_large_patch_is_averaged_once():
    image, mask = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8), np.zeros((32, 32), np.float32)
    large = cv2.resize(image[4:12, 6:14], (700, 300), interpolation=cv2.INTER_CUBIC)
    averaged = cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
    assert place_patches(image, mask, [large]) == place_patches(image, mask, [averaged])


def test_two_equal_patches_do_not_share_a_place():
    image, mask, patches = put_together(BOXES)
    image[38:62, 20:38] = cv2.resize(patches[0], (18, 24))
    one, other = place_patches(image, mask, [patches[0], patches[0]])
    assert box_iou(one.box, other.box) <= OVERLAP
    assert {max(range(3), key=lambda n: box_iou(each.box, BOXES[n])) for each in (one, other)} == {0, 2}


def test_more_patches_than_places_all_get_one():
    image, mask, patches = put_together(BOXES[:1])
    found = place_patches(image, mask, patches * 9)
    assert len(found) == 9
    assert all(0 <= top < bottom <= SIDE and 0 <= left < right <= SIDE for (top, left, bottom, right), _ in found)
    assert place_patches(image, mask, []) == []


def test_windows_have_the_shape_of_the_patch_where_it_is_known():
    image, mask, patches = put_together(BOXES)
    aspects = [(bottom - top) / (right - left) for top, left, bottom, right in BOXES]
    found = place_patches(image, mask, patches, aspects)
    assert all(box_iou(each.box, true) > 0.6 for each, true in zip(found, BOXES, strict=True))
    slender = place_patches(image, mask, patches, [3.0, 1 / 3, 1.0])
    for (top, left, bottom, right), wanted in zip([each.box for each in slender], (3.0, 1 / 3, 1.0), strict=True):
        assert (bottom - top) / (right - left) == pytest.approx(wanted, rel=0.15)
    assert place_patches(image, mask, patches[::-1], aspects[::-1]) == found[::-1]


def test_patches_without_a_pattern_go_where_their_own_masks_are():
    image, _, _ = put_together(BOXES)
    flat = [np.full((20, 20, 3), 90, np.uint8)] * 3
    masks = np.zeros((3, SIDE, SIDE), np.float32)
    for mask, (top, left, bottom, right) in zip(masks, BOXES, strict=True):
        mask[top:bottom, left:right] = 1
    for order in ([0, 1, 2], [2, 0, 1]):
        found = place_patches(image, masks[order], flat)
        assert all(box_iou(each.box, BOXES[k]) > 0.6 for each, k in zip(found, order, strict=True))


def test_contrast_is_the_mean_inside_less_that_around():
    mask = np.random.default_rng(0).random((20, 24))
    other, found = _contrasts(mask, [(4, 4), (5, 7)])
    assert other.shape == (17, 21)
    for top, left in ((0, 0), (3, 4), (15, 17)):
        ring = np.zeros(mask.shape, bool)
        ring[max(top - 2, 0) : top + 7, max(left - 2, 0) : left + 9] = True
        ring[top : top + 5, left : left + 7] = False
        inside = mask[top : top + 5, left : left + 7].mean()
        assert found[top, left] == pytest.approx(inside - mask[ring].mean())


def test_overlaps_are_those_of_the_boxes():
    boxes = np.array([*BOXES, (0, 0, 64, 64), (10, 10, 30, 30)])
    found = box_overlaps(boxes, boxes[2:])
    wanted = [[box_iou(tuple(one), tuple(other)) for other in boxes[2:].tolist()] for one in boxes.tolist()]
    np.testing.assert_allclose(found, wanted)
