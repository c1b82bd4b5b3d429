"""PatchMatch against brute force, and regions of pictures whose content is known."""

from __future__ import annotations

import numpy as np
import pytest

from zeuxis.synth.inpainting.fills import FILLS
from zeuxis.synth.inpainting.patch_field import PATCH, nearest_field, patches_that_touch
from zeuxis.synth.inpainting.patchmatch import patchmatch


def waves(size: int = 64, period: int = 8) -> np.ndarray:
    """`(size, size, 3)`: each channel repeats itself in another direction."""
    y, x = np.mgrid[:size, :size] * 2 * np.pi / period
    return np.rint(127 + 100 * np.stack([np.sin(x), np.sin(y), np.sin(x + y)], axis=2)).astype(np.uint8)


def hole(size: int, start: int, end: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[start:end, start:end] = True
    return mask


def brute_force(image: np.ndarray, wanted: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The least distance of each wanted patch to any allowed one, in raster order."""
    windows = np.lib.stride_tricks.sliding_window_view(image.astype(np.float64), (PATCH, PATCH), (0, 1))
    flat = windows.reshape(*windows.shape[:2], -1)
    return ((flat[wanted][:, None] - flat[allowed][None]) ** 2).sum(axis=2).min(axis=1)


def test_a_periodic_texture_with_a_hole_is_restored():
    image, region = waves(), hole(64, 20, 44)
    broken = np.where(region[..., None], 0, image).astype(np.uint8)
    np.testing.assert_array_equal(patchmatch(broken, region, 0), image)
    error = {name: np.abs(FILLS[name](broken, region, 0)[region].astype(int) - image[region]).mean() for name in FILLS}
    assert error["patchmatch"] < 0.1 * error["telea"]


def test_the_field_is_close_to_brute_force():
    random = np.random.default_rng(3)
    rows = np.repeat(random.normal(128, 30, (12, 12, 3)), 3, axis=0).repeat(3, axis=1)
    image = (rows + random.normal(0, 10, rows.shape)).astype(np.float32)
    wanted = patches_that_touch(hole(36, 14, 22))
    field = nearest_field(image, wanted, ~wanted, seed=1, passes=6)
    least = brute_force(image, wanted, ~wanted)
    found = field.distances[wanted]
    assert (found >= least * (1 - 1e-4)).all()
    assert found.mean() < 1.15 * least.mean()
    drawn = nearest_field(image, wanted, ~wanted, seed=1, passes=0).distances[wanted]
    assert drawn.mean() > 1.5 * least.mean(), "and chance alone is far from it"


def test_distances_are_those_of_the_partners_which_are_all_allowed():
    image = np.random.default_rng(0).random((24, 30, 3)).astype(np.float32)
    mask = np.zeros((24, 30), bool)
    mask[8:14, 10:20] = True
    wanted = patches_that_touch(mask)
    field = nearest_field(image, wanted, ~wanted, seed=0, passes=2)
    for row, col in np.argwhere(wanted):
        down, right = field.partners[row, col]
        assert not wanted[down, right]
        own, other = (image[r : r + PATCH, c : c + PATCH] for r, c in ((row, col), (down, right)))
        assert field.distances[row, col] == pytest.approx(((own - other) ** 2).sum(), rel=1e-4)


def test_a_field_that_is_given_is_improved_and_never_worsened():
    image = np.random.default_rng(0).random((30, 30, 3)).astype(np.float32)
    wanted = patches_that_touch(hole(30, 10, 20))
    first = nearest_field(image, wanted, ~wanted, seed=0, passes=1)
    second = nearest_field(image, wanted, ~wanted, seed=5, passes=2, start=first)
    assert (second.distances <= first.distances).all()
    assert second.distances.sum() < first.distances.sum()


def test_which_patches_touch_a_region():
    mask = np.zeros((20, 25), bool)
    mask[9, 12] = True
    touched = patches_that_touch(mask)
    assert touched.shape == (20 - PATCH + 1, 25 - PATCH + 1)
    expected = [(r, c) for r in range(14) for c in range(19) if r <= 9 < r + PATCH and c <= 12 < c + PATCH]
    assert [tuple(each) for each in np.argwhere(touched)] == expected


@pytest.mark.parametrize("name", FILLS)
def test_a_fill_leaves_everything_outside_and_repeats_itself(name: str):
    image = np.random.default_rng(1).integers(0, 256, (40, 48, 3), np.uint8)
    region = np.zeros((40, 48), bool)
    region[10:22, 0:14] = True
    given = image.copy()
    filled = FILLS[name](image, region, 7)
    np.testing.assert_array_equal(image, given)
    np.testing.assert_array_equal(filled[~region], image[~region])
    assert (filled[region] != image[region]).any()
    np.testing.assert_array_equal(FILLS[name](image, region, 7), filled)
    inside = np.where(region[..., None], 0, image).astype(np.uint8)
    np.testing.assert_array_equal(FILLS[name](inside, region, 7), filled, "what lies inside is not looked at")


def test_seeds_make_other_pictures():
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    region = hole(40, 12, 26)
    assert not np.array_equal(patchmatch(image, region, 1), patchmatch(image, region, 2))


def test_a_picture_without_a_patch_outside_is_refused():
    image = waves(32)
    region = np.ones((32, 32), bool)
    region[:, :5] = False
    with pytest.raises(ValueError, match="no patch lies wholly outside"):
        patchmatch(image, region, 0)
    for name in ("telea", "navier-stokes"):
        with pytest.raises(ValueError, match="nothing lies outside"):
            FILLS[name](image, np.ones((32, 32), bool), 0)
