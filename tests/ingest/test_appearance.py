"""The appearance of a segment: its own pixels decide, at whatever place and size; mirrored it stays, recoloured not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from zeuxis.ingest import appearance
from zeuxis.ingest.appearance import LENGTH, MOST_PIXELS, describe, describe_all
from zeuxis.storage.codec import decode_mask, decode_pixels, encode_segment
from zeuxis.storage.cutting import find_runs
from zeuxis.storage.layouts import areas_and_boxes

WEIGHT = 255 * 0.5


def photograph(seed: int, size: tuple[int, int] = (60, 84), tint: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """Smooth blobs with fine grain."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(60, 180, (6, 8, 3)), size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + rng.normal(0, 6, (*size, 3)) + tint, 0, 255).astype(np.uint8)


def blob(size: tuple[int, int] = (60, 84)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    axes = max(size[1] // 2 - 3, 2), max(size[0] // 2 - 5, 2)
    cv2.ellipse(mask, (size[1] // 2, size[0] // 2), axes, 12, 0, 360, 1, -1)
    return mask.astype(bool)


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return int(((a.astype(int) - b.astype(int)) ** 2).sum())


def test_what_lies_outside_the_mask_has_no_part_in_it() -> None:
    pixels, mask = photograph(0), blob()
    other = np.where(mask[..., None], pixels, photograph(1))
    assert (describe(pixels, mask) == describe(other, mask)).all()
    value = encode_segment(pixels, mask)
    assert (describe(decode_pixels(value, "x"), decode_mask(value, "x")) == describe(pixels, mask)).all()


def test_the_same_pixels_give_the_same_bytes_alone_and_among_others_and_from_a_view() -> None:
    image, labels = photograph(0, (301, 423)), np.zeros((301, 423), np.uint32)
    corners = {2: (3, 6), 3: (101, 90), 4: (2, 211), 7: (290, 401)}
    sizes = {2: (60, 84), 3: (190, 203), 4: (100, 200), 7: (9, 7)}  # of which two are looked at in part
    for label, (top, left) in corners.items():
        labels[top : top + sizes[label][0], left : left + sizes[label][1]][blob(sizes[label])] = label
    areas, boxes = areas_and_boxes(labels, 7)
    assert (areas > MOST_PIXELS).sum() == 2
    stored = np.array([1, 2, 3, 6])
    found = describe_all(image, find_runs(labels, np.uint32(0)), stored, boxes[stored], areas[stored])
    assert found.shape == (4, LENGTH)
    assert found.dtype == np.uint8
    for row, component in zip(found, stored, strict=True):
        top, left, bottom, right = boxes[component]
        window = np.s_[top:bottom, left:right]
        own = np.where(labels[window][..., None] == component + 1, image[window], 0)
        assert (describe(own, labels[window] == component + 1, (top, left)) == row).all()
        assert (describe(image[window], labels[window] == component + 1, (top, left)) == row).all()
    none = np.zeros(0, np.int64)
    assert describe_all(image, find_runs(labels, np.uint32(0)), none, boxes[none], none).shape == (0, LENGTH)


def test_a_crop_that_lies_elsewhere_is_near() -> None:
    pixels, mask = photograph(9), blob()
    for corner in [(0, 1), (1, 0), (3, 2)]:
        assert distance(describe(pixels, mask, corner), describe(pixels, mask)) < 300
    assert (describe(pixels, mask, (4, 8)) == describe(pixels, mask)).all()


def test_moments_and_histograms_are_those_of_the_masked_pixels() -> None:
    pixels, mask = photograph(2), blob()
    picture = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(float)
    own = picture[mask]
    found = describe(pixels, mask).astype(float)
    stretch = np.array([1, 3, 3])
    np.testing.assert_allclose(found[:3], 128 + stretch * (own.mean(0) - 128), atol=0.51)
    np.testing.assert_allclose(found[3:6], 2 * stretch * own.std(0), atol=0.51)
    lower, upper = picture[30:][mask[30:]].mean(0), picture[:30][mask[:30]].mean(0)
    np.testing.assert_allclose(found[6:9], 128 + stretch * (lower - upper), atol=0.51)
    centres = np.arange(16, 256, 32)
    parts = np.clip(1 - np.abs(np.clip(own[:, :1], 16, 240) - centres) / 32, 0, 1)  # a tent around each centre
    np.testing.assert_allclose(found[9:17], WEIGHT * np.sqrt(parts.mean(0)), atol=0.51)
    for bins in (found[9:17], found[17:25], found[25:33], found[33:39], found[39:43], found[53:59], found[59:63]):
        assert (bins**2).sum() == pytest.approx(WEIGHT**2, rel=0.03), "the shares do not add up to 1"


def test_gradients_are_those_of_whole_neighbourhoods() -> None:
    """Against OpenCV's own operators: how many pixels, how steep, and which way."""
    pixels, mask = photograph(3), blob()
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    inner = cv2.erode(mask.view(np.uint8), np.ones((3, 3)), borderValue=0).astype(bool)
    runs = find_runs(mask.astype(np.uint32), np.uint32(0))
    sampling = np.array([[0, 1, 60]])
    counted = appearance._count_gradients(grey, *runs, np.array([-1, 0]), sampling, appearance._LEVEL_OF)
    gradients, counts, solid = counted
    assert counts.tolist() == gradients.sum(axis=2).tolist()
    assert solid.tolist() == [inner.sum()]
    across, down = (np.abs(cv2.Sobel(grey, cv2.CV_16S, dx, 1 - dx))[inner] for dx in (1, 0))
    level = appearance._LEVEL_OF.astype(int)
    expected = np.bincount(16 * level[across] + level[down], minlength=256)
    assert (gradients[0, 0] == expected).all()
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cells = cv2.resize(mask.view(np.uint8) * 4, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) == 4
    inner_cells = cv2.erode(cells.view(np.uint8), np.ones((3, 3)), borderValue=0).astype(bool)
    across, down = (np.abs(cv2.Sobel(half, cv2.CV_16S, dx, 1 - dx))[inner_cells] for dx in (1, 0))
    assert (gradients[0, 1] == np.bincount(16 * level[across] + level[down], minlength=256)).all()
    assert describe(pixels, mask)[63] == round(255 * inner.sum() / mask.sum())


def test_numbers_are_those_of_plain_arithmetic_by_column() -> None:
    rng = np.random.default_rng(6)
    halves = np.concatenate([rng.integers(0, 9000, (40, 2, 3)), rng.integers(1, 60, (40, 2, 1))], axis=2).astype(float)
    halves[:5, 0] = halves[5:9, 1] = 0
    size, colours = halves[:, :, 3].sum(axis=1), rng.uniform(0, 1, (40, 3, 10))
    colours[:, :, 0] = rng.uniform(0, 255, (40, 3)) * size[:, None]
    colours[:, :, 1] = colours[:, :, 0] ** 2 / size[:, None] * rng.uniform(0.99, 2, (40, 3))
    textures, gradients = rng.uniform(0, 9, (40, 3, 10)), rng.integers(9, 99, (40, 3))
    textures[::3, 1, 6:] = 0
    solid = rng.integers(0, 60, 40).clip(0, size)
    found = appearance._numbers(colours, halves, textures, gradients, solid)

    stretch, sums = np.array([1.0, 3.0, 3.0]), colours / size[:, None, None]
    deviation = np.sqrt(np.maximum(sums[..., 1] - sums[..., 0] ** 2, 0))
    mean, both = halves[..., :3] / np.maximum(halves[..., 3:], 1), (halves[..., 3:] > 0).all(axis=1)
    shares = np.concatenate([textures[..., :6] / gradients[..., None], textures[..., 6:]], axis=2)
    energy = textures[..., 6:].sum(axis=2, keepdims=True)
    shares[..., 6:] = np.where(energy > 0, textures[..., 6:] / np.maximum(energy, 1e-9), 0.25)
    expected = np.concatenate([
        128 + stretch * (sums[..., 0] - 128), 2 * stretch * deviation,
        128 + stretch * (mean[:, 1] - mean[:, 0]) * both,
        WEIGHT * np.sqrt(sums[..., 2:].reshape(40, 24)), WEIGHT * np.sqrt(shares.reshape(40, 30)),
        255 * solid[:, None] / size[:, None],
    ], axis=1)  # fmt: skip
    assert (expected < 0).any()
    assert (expected > 255).any()
    assert (found == np.rint(expected).clip(0, 255)).all()


def test_stripes_are_told_by_their_direction_and_their_width() -> None:
    mask = np.ones((64, 64), bool)
    grey = np.arange(64) // 4 % 2 * 120 + 60
    upright = np.repeat(np.tile(grey, (64, 1))[..., None], 3, axis=2).astype(np.uint8)
    found, turned = describe(upright, mask), describe(upright.transpose(1, 0, 2).copy(), mask)
    assert (found[:6] == turned[:6]).all(), "the colours are the same"
    assert found[39] == round(WEIGHT), "all of the finest octave's gradient points across"
    assert found[40:43].max() == 0
    assert turned[42] == round(WEIGHT)
    narrow = describe(
        np.repeat(np.tile(np.arange(64) // 2 % 2 * 120 + 60, (64, 1))[..., None], 3, 2).astype("u1"), mask
    )
    assert distance(found, narrow) > 2000


@pytest.mark.parametrize("size", [(60, 84), (61, 83), (400, 300)])
def test_a_mirrored_copy_is_near_and_another_colour_or_texture_is_far(size: tuple[int, int]) -> None:
    pixels, mask = photograph(4, size), blob(size)
    found = describe(pixels, mask)
    mirrored = distance(found, describe(pixels[:, ::-1], mask[:, ::-1]))
    recoloured = distance(found, describe(photograph(4, size, (60, 0, -60)), mask))
    smooth = distance(found, describe(cv2.GaussianBlur(pixels, (0, 0), 3), mask))
    assert mirrored < 600
    assert recoloured > 10 * max(mirrored, 300)
    assert smooth > 10 * max(mirrored, 300)


@pytest.mark.parametrize("size", [(900, 700), (700, 900), (40, 3000), (3000, 40), (90, 100)])
def test_of_a_large_segment_evenly_spaced_pixels_are_looked_at(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    pixels = cv2.resize(rng.integers(40, 200, (size[0] // 12, size[1] // 12, 3)).astype(np.uint8), size[::-1])
    mask = np.ones(size, bool)
    looked_at = pixels_looked_at(mask)
    assert MOST_PIXELS // 4 < looked_at <= 1.1 * MOST_PIXELS < mask.size
    painted = pixels.copy()
    half = np.s_[size[0] // 2 :] if size[0] > size[1] else np.s_[:, size[1] // 2 :]
    painted[half] //= 4
    far = distance(describe(painted, mask), describe(pixels, mask))
    for picture in (pixels, painted):
        assert distance(describe(picture, mask), described_as_a_whole(picture, mask)) < far / 8


def described_as_a_whole(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appearance, "MOST_PIXELS", mask.size)
        return describe(pixels, mask)


def pixels_looked_at(mask: np.ndarray) -> int:
    box, area = np.array([[0, 0, *mask.shape]]), np.array([mask.sum()])
    runs = find_runs(mask.astype(np.uint32), np.uint32(0))
    blank = np.zeros((*mask.shape, 3), np.uint8)
    return len(appearance._looked_at(blank, *runs, np.array([-1, 0]), appearance._sampling(box, area))[0])


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_nothing_of_a_large_thin_segment_falls_between_the_pixels_that_are_looked_at(shift: int) -> None:
    """A steep line has a pixel or two a row: every row or column alone could miss them all."""
    mask = np.zeros((9000, 40), bool)
    rows = np.arange(len(mask))
    mask[rows, (rows // 300 + shift) % 40] = True
    assert mask.sum() > MOST_PIXELS
    assert 0.2 * mask.sum() < pixels_looked_at(mask) < 0.3 * mask.sum()
    mask = np.eye(6000, dtype=bool)[:, shift:]
    assert 0.2 * mask.sum() < pixels_looked_at(mask) < 0.3 * mask.sum()


@pytest.mark.parametrize(
    "mask", [np.ones((1, 1), bool), np.ones((1, 40), bool), np.ones((40, 1), bool), np.eye(30) > 0]
)
def test_a_segment_without_an_inside_counts_as_smooth(mask: np.ndarray) -> None:
    found = describe(photograph(6, mask.shape), mask)
    smooth = [round(WEIGHT), 0, 0, 0, 0, 0, *[round(WEIGHT / 2)] * 4]
    assert found[33:63].tolist() == 3 * smooth
    assert found[63] == 0
    assert found.any()


def test_an_octave_too_coarse_for_a_segment_repeats_the_one_before() -> None:
    found = describe(photograph(7, (5, 40)), np.ones((5, 40), bool))
    assert (found[33:43] != found[43:53]).any() or (found[43:53] == found[53:63]).all()
    assert (found[43:53] == found[53:63]).all()
