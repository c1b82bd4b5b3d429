"""Seams, distances inside a region, and places of other photographs, against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zeuxis.synth.inpainting.feature_distance import masked_distance
from zeuxis.synth.inpainting.nearest import nearest_place, surroundings
from zeuxis.synth.inpainting.seam import seam


def ramp(rows: int = 30, cols: int = 40) -> np.ndarray:
    y, x = np.mgrid[:rows, :cols]
    return np.stack([2 * x, 3 * y, x + y], axis=2).astype(np.uint8)


def box(size: tuple[int, ...], top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(size[:2], bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_picture_that_rises_evenly_has_no_seam_and_a_step_is_its_height():
    image = ramp()
    region = box(image.shape, 10, 12, 20, 30)
    assert seam(image, region) == 0
    image[region] += 40
    assert seam(image, region) == pytest.approx(40)


def test_a_seam_against_its_definition_pixel_by_pixel():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (14, 17, 3), np.uint8)
    region = random.random((14, 17)) < 0.5
    values, found = image.astype(float), []
    for grid, inside in ((values, region), (values.swapaxes(0, 1), region.T)):
        for i in range(1, grid.shape[0] - 2):
            for j in range(grid.shape[1]):
                before, own, other, after = inside[i - 1 : i + 3, j]
                if own != other and before == own and after == other:
                    a, b, c, d = grid[i - 1 : i + 3, j]
                    found.append(np.abs((c - b) - ((b - a) + (d - c)) / 2))
    assert len(found) > 20
    assert seam(image, region) == pytest.approx(np.mean(found))


def test_what_changes_away_from_the_border_is_no_seam():
    image = ramp()
    region = box(image.shape, 5, 5, 25, 35)
    image[12:16, 12:16] = 0
    image[0, 0] = 255
    assert seam(image, region) == 0


def test_a_border_without_neighbours_has_none():
    image = ramp(6, 6)
    assert seam(image, box(image.shape, 0, 0, 6, 1)) == 0


def test_distances_count_inside_the_region_alone():
    torch.manual_seed(0)
    first, other = torch.rand(2, 5, 8, 8), torch.rand(2, 5, 8, 8)
    region = torch.zeros(2, 1, 16, 16)
    region[:, :, 4:12, 4:12] = 1
    second = first.clone()
    second[:, :, 2:6, 2:6] = other[:, :, 2:6, 2:6]
    cells = [
        (torch.nn.functional.normalize(first, dim=1) - torch.nn.functional.normalize(other, dim=1)).square().sum(1)
    ]
    expected = cells[0][:, 2:6, 2:6].mean((1, 2))
    torch.testing.assert_close(masked_distance([first], [second], region), expected)
    outside = first.clone()
    outside[:, :, :2] = 0
    torch.testing.assert_close(masked_distance([first], [outside], region), torch.zeros(2))
    torch.testing.assert_close(masked_distance([first] * 2, [second, first], region), expected / 2)


def test_the_surroundings_of_a_region_are_found_where_they_were_cut_from():
    random = np.random.default_rng(2)
    coarse = [random.integers(0, 256, (12, 16, 3), np.uint8) for _ in range(4)]
    photographs = [each.repeat(8, axis=0).repeat(8, axis=1) for each in coarse]
    image = photographs[2][16:88, 24:104].copy()
    region = box(image.shape, 30, 30, 46, 50)
    image[region] = 0
    decoy = photographs[2] // 8 * 8 + 4  # a little off everywhere, but as black inside as what is looked for
    decoy[16:88, 24:104][region] = 0
    photographs.append(decoy)
    place = nearest_place(image, region, photographs)
    assert place.number == 2
    top, left, bottom, right = surroundings(region)
    assert np.abs(np.subtract(place.box, (16 + top, 24 + left, 16 + bottom, 24 + right))).max() <= 2
    assert place.box[2] - place.box[0] == bottom - top
    assert nearest_place(image, region, [photographs[0][:20]]) is None


def test_the_surroundings_stay_in_the_picture():
    assert surroundings(box((40, 60), 0, 10, 10, 30)) == (0, 0, 15, 40)
    assert surroundings(box((40, 60), 38, 58, 40, 60)) == (36, 56, 40, 60)
