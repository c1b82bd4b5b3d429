"""Copies of the nearest known pixels, against loops over rows and columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from zeuxis.storage.codec import Mask
from zeuxis.synth.encoding import to_tensor
from zeuxis.synth.inpainting.directions import DETAIL, FILLS, depth, fills, nearest_known, nearness, textures
from zeuxis.synth.inpainting.fills import rows
from zeuxis.synth.roi_gan.regions import sample_region

pytestmark = pytest.mark.usefixtures("one_thread")
WAYS = ((0, -1), (0, 1), (-1, 0), (1, 0))
"""Left, right, up, down."""


def walked(region: Mask, row: int, col: int, way: tuple[int, int]) -> tuple[int, int, int] | None:
    """Row, column and distance of the first known pixel; None where the picture ends before."""
    distance = 0
    while 0 <= row < region.shape[0] and 0 <= col < region.shape[1]:
        if not region[row, col]:
            return row, col, distance
        row, col, distance = row + way[0], col + way[1], distance + 1
    return None


def looped(image: npt.NDArray[np.float64], region: Mask) -> dict[str, npt.NDArray[np.float64]]:
    """The fills of an `(H, W, 3)` picture from their definition, pixel by pixel."""
    found = {name: image.copy() for name in FILLS}
    mean = image[~region].mean(0)
    for row, col in zip(*np.nonzero(region), strict=True):
        ends = [walked(region, row, col, way) for way in WAYS]
        known = [None if end is None else (image[end[0], end[1]], end[2]) for end in ends]

        def weighed(some, power, instead):
            there = [each for each in some if each is not None]
            if not there:
                return instead
            weights = [1 / distance**power for _, distance in there]
            return sum(w * colour for w, (colour, _) in zip(weights, there, strict=True)) / sum(weights)

        around = weighed(known, 1, mean)
        found["around"][row, col], found["nearest"][row, col] = around, weighed(known, 3, mean)
        for name, two in (("rows", known[:2]), ("columns", known[2:])):
            found[name][row, col] = weighed(two, 1, around)
        for name, each in zip(("left", "right", "above", "below"), known, strict=True):
            found[name][row, col] = around if each is None else each[0]
    return found


def cases() -> list[Mask]:
    random = np.random.default_rng(0)
    kinds = ("ellipse", "rectangle", "level-set", "mixed", "mixed")
    corner = np.ones((9, 13), bool)
    corner[2, 3] = False  # most pixels see nothing at all
    stripe = np.zeros((9, 13), bool)
    stripe[4:7] = True  # rows without an end
    speckled = random.random((16, 11)) < 0.7
    return [*(sample_region(kind, (21, 34), random) for kind in kinds), corner, stripe, speckled]


@pytest.mark.parametrize("region", cases())
def test_fills_are_those_of_a_walk_in_each_direction(region: Mask):
    image = np.random.default_rng(2).uniform(-1, 1, (*region.shape, 3))
    shown = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    inside = torch.from_numpy(region)[None, None].float()
    found = nearest_known(shown, inside)
    wanted = looped(image, region)
    for name, each in zip(FILLS, fills(shown, inside, found), strict=True):
        np.testing.assert_allclose(each[0].permute(1, 2, 0), wanted[name], atol=2e-6, err_msg=name)
        assert torch.equal(each[(inside == 0).expand_as(each)], shown[(inside == 0).expand_as(each)])
    near, deep = nearness(found)[0], depth(found)[0, 0]
    for row, col in np.ndindex(region.shape):
        ends = [walked(region, row, col, way) for way in WAYS]
        there = [0.0 if end is None else 1 / max(1, end[2]) for end in ends]
        np.testing.assert_allclose(near[:, row, col], there, atol=1e-6)
        if any(ends):
            assert deep[row, col] == min(end[2] for end in ends if end is not None)
        else:
            assert deep[row, col] > max(region.shape)


def mirrored(image: npt.NDArray[np.float64], region: Mask) -> tuple[npt.NDArray[np.float64], ...]:
    """`textures` of an `(H, W, 3)` picture from their definition, pixel by pixel."""
    found, reach = (np.zeros_like(image), np.zeros_like(image)), DETAIL // 2

    def detail(row: int, col: int) -> npt.NDArray[np.float64]:
        if not (0 <= row < region.shape[0] and 0 <= col < region.shape[1]) or region[row, col]:
            return np.zeros(3)
        around = np.s_[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1]
        return image[row, col] - image[around][~region[around]].mean(0)

    for row, col in zip(*np.nonzero(region), strict=True):
        for number, ways in enumerate((WAYS[:2], WAYS[2:])):
            ends = [(walked(region, row, col, way), way) for way in ways]
            there = [(end, way) for end, way in ends if end is not None]
            if there:
                (_, _, distance), way = min(there, key=lambda each: each[0][2])
                beyond = 2 * distance - 1
                found[number][row, col] = detail(row + beyond * way[0], col + beyond * way[1])
    return found


@pytest.mark.parametrize("region", cases())
def test_details_are_mirrored_at_the_nearer_end(region: Mask):
    image = np.random.default_rng(4).uniform(-1, 1, (*region.shape, 3))
    shown = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    inside = torch.from_numpy(region)[None, None].float()
    unseen = torch.where(inside > 0, torch.full_like(shown, torch.nan), shown)
    made = textures(unseen, inside, nearest_known(unseen, inside))
    for each, wanted in zip(made, mirrored(image, region), strict=True):
        np.testing.assert_allclose(each[0].permute(1, 2, 0), wanted, atol=2e-6)


def test_what_lies_inside_is_not_seen_and_gradients_pass():
    region = torch.zeros(2, 1, 16, 16)
    region[0, :, 4:9, 3:12] = region[1, :, 2:4, :] = 1
    image = torch.rand(2, 3, 16, 16)
    other = torch.where(region > 0, torch.full_like(image, torch.nan), image)
    for one, two in zip(*(fills(each, region, nearest_known(each, region)) for each in (image, other)), strict=True):
        assert torch.equal(one, two)
    image.requires_grad_()
    made = fills(image, region, nearest_known(image, region))
    made[0][0, 0, 5, 6].backward()
    assert image.grad is not None
    assert sorted(image.grad[0, 0, 5].nonzero()[:, 0].tolist()) == [2, 12], "the two ends of the row"


def test_a_fill_by_rows_is_that_of_the_network_in_levels():
    random = np.random.default_rng(3)
    image, region = random.integers(0, 256, (12, 15, 3), np.uint8), np.zeros((12, 15), bool)
    region[3:6, 4:9] = True
    filled = rows(image, region)
    assert np.array_equal(filled[~region], image[~region])
    assert np.array_equal(rows(image, region, 7), filled), "no seed changes it"
    np.testing.assert_allclose(
        filled[4, 4:9], [image[4, 3] * (1 - k / 6.0) + image[4, 9] * (k / 6.0) for k in range(1, 6)], atol=0.5 + 1e-3
    )
    inside = torch.from_numpy(region)[None, None].float()
    shown = to_tensor(image)[None]
    np.testing.assert_allclose(to_tensor(filled), fills(shown, inside, nearest_known(shown, inside))[0][0], atol=0.0041)
    with pytest.raises(ValueError, match="nothing lies outside"):
        rows(image, np.ones_like(region))
