"""The correction of a region's border: the exact solution, what it leaves alone, that gradients pass."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torch.nn import functional

from zeuxis.pipelines.training.options import TrainOptions, check
from zeuxis.storage.errors import InputError
from zeuxis.synth.encoding import to_image, to_tensor
from zeuxis.synth.inpainting import membrane as made
from zeuxis.synth.inpainting.membrane import check_blend, corrected, membrane
from zeuxis.synth.inpainting.seam import seam
from zeuxis.synth.roi_gan.regions import Kind, sample_region

pytestmark = pytest.mark.usefixtures("one_thread")
LEVEL = 127.5
"""Levels of 0..255 in one of [-1, 1]."""


def solved(values: npt.NDArray[np.float64], region: npt.NDArray[np.bool_], length: float) -> npt.NDArray[np.float64]:
    """`(C, H, W)` values continued into a region: one equation a pixel, written down and solved directly."""
    number = np.full(region.shape, -1)
    number[region] = np.arange(region.sum())
    entries: list[tuple[int, int, float]] = []
    right = np.zeros((int(region.sum()), len(values)))
    for row, col in zip(*np.nonzero(region), strict=True):
        own = number[row, col]
        entries.append((own, own, 1 / length**2))
        for r, c in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
            if 0 <= r < region.shape[0] and 0 <= c < region.shape[1]:
                entries.append((own, own, 1.0))
                if region[r, c]:
                    entries.append((own, number[r, c], -1.0))
                else:
                    right[own] += values[:, r, c]
    rows, cols, found = map(np.array, zip(*entries, strict=True))
    answer = values.copy()
    answer[:, region] = spsolve(csc_matrix((found, (rows, cols))), right).reshape(-1, len(values)).T
    return answer


def smooth_and_rough(size: tuple[int, int]) -> Tensor:
    """`(1, 3, H, W)`: about 40 levels of a smooth difference, and 13 of noise on it."""
    random = torch.Generator().manual_seed(1)
    smooth = functional.interpolate(torch.randn(1, 3, 5, 5, generator=random), size, mode="bicubic")
    return 0.3 * smooth + 0.1 * torch.randn(1, 3, *size, generator=random)


def as_tensor(region: npt.NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(region)[None, None].float()


REGIONS: dict[str, npt.NDArray[np.bool_]] = {
    **{kind: sample_region(kind, (64, 64), np.random.default_rng(2)) for kind in ("ellipse", "level-set")},
    "all but a corner": ~(np.add.outer(np.arange(32), np.arange(32)) < 3),
    "odd sides": np.random.default_rng(0).random((37, 50)) < 0.6,
    "beside two borders": np.pad(np.ones((20, 33), bool), ((0, 11), (12, 0))),
}


@pytest.mark.parametrize("length", [math.inf, 8.0, 2.0])
@pytest.mark.parametrize("name", REGIONS)
def test_the_continuation_is_the_exact_one(name: str, length: float, monkeypatch: pytest.MonkeyPatch):
    region = REGIONS[name]
    values = smooth_and_rough((region.shape[0], region.shape[1]))
    wanted = solved(values[0].double().numpy(), region, length)
    blind = torch.where(as_tensor(region) > 0, math.nan, values)
    for cycles, mean, most in ((made.CYCLES, 1.0, 5.0), (30, 0.01, 0.1)):
        monkeypatch.setattr(made, "CYCLES", cycles)
        found = membrane(torch.nan_to_num(blind, 99.0), as_tensor(region), length)[0].double().numpy()
        np.testing.assert_array_equal(found[:, ~region], values[0].double().numpy()[:, ~region])
        apart = np.abs(found - wanted)[:, region] * LEVEL
        assert apart.mean() < mean
        assert apart.max() < most


def test_each_picture_is_continued_by_itself():
    kinds: tuple[Kind, ...] = ("ellipse", "rectangle", "level-set")
    regions = [sample_region(kind, (64, 64), np.random.default_rng(number)) for number, kind in enumerate(kinds)]
    values, inside = smooth_and_rough((64, 64)).repeat(3, 1, 1, 1), torch.cat([*map(as_tensor, regions)])
    together = membrane(values, inside, 8.0)
    for number in range(3):
        alone = membrane(values[number : number + 1], inside[number : number + 1], 8.0)
        torch.testing.assert_close(together[number : number + 1], alone)


def test_the_middle_of_a_large_region_keeps_its_colours_where_the_correction_fades():
    image, raw, region = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), -0.3), torch.zeros(1, 1, 64, 64)
    region[..., 4:60, 4:60] = 1
    harmonic, fading = corrected(image, region, raw, math.inf), corrected(image, region, raw, 4.0)
    torch.testing.assert_close(harmonic[..., 4:60, 4:60], image[..., 4:60, 4:60], atol=1e-3, rtol=0)
    torch.testing.assert_close(fading[..., 30:34, 30:34], raw[..., 30:34, 30:34], atol=3e-3, rtol=0)
    assert (fading[..., 4, 30] - image[..., 4, 30]).abs().max() < 0.25 * 0.8, "at the border it is the photograph's"
    outside = (region == 0).expand_as(raw)
    for each in (harmonic, fading):
        assert torch.equal(each[outside], raw[outside])


def test_a_corrected_picture_has_the_seam_of_what_was_made_and_none_of_its_own():
    y, x = np.mgrid[:64, :64]
    photograph = np.stack([100 + 60 * np.sin(x / 9), 90 + y, 128 + 40 * np.cos((x + y) / 7)], -1).astype(np.uint8)
    region = REGIONS["ellipse"]
    image, raw = to_tensor(photograph)[None], to_tensor(photograph)[None] * 0.8 - 0.25
    pasted = np.where(region[..., None], to_image(raw[0]), photograph)
    joined = np.where(region[..., None], to_image(corrected(image, as_tensor(region), raw, 8.0)[0]), photograph)
    assert seam(pasted, region) > 15
    assert seam(joined, region) < 4
    assert seam(photograph, region) < 2


def test_nothing_inside_is_seen_and_nothing_leaves_the_range():
    region, raw = as_tensor(REGIONS["ellipse"]), smooth_and_rough((64, 64)).clamp(-1, 1)
    image = torch.where(region > 0, -raw, torch.ones_like(raw))
    found = corrected(image, region, raw, 8.0)
    assert found.min() >= -1
    assert found.max() <= 1
    assert torch.equal(corrected(image * (1 - region), region, raw, 8.0), found)
    half = corrected(image.half(), region.half(), raw.half(), 8.0)
    torch.testing.assert_close(half, found, atol=4e-3, rtol=0)


def test_gradients_are_those_of_the_exact_solution():
    region = REGIONS["beside two borders"]
    values = smooth_and_rough((region.shape[0], region.shape[1])).requires_grad_(True)
    probe = as_tensor(region).expand_as(values)
    (membrane(values, as_tensor(region), 6.0) * probe).sum().backward()
    (row, col) = np.argwhere(~region & np.roll(region, -1, 1))[7]
    unit = np.zeros(values.shape[1:])
    unit[1, row, col] = 1
    wanted = float((solved(unit, region, 6.0) * probe[0].double().numpy()).sum())
    assert values.grad is not None
    assert float(values.grad[0, 1, row, col]) == pytest.approx(wanted, abs=0.05)
    assert abs(wanted) > 0.3
    assert not values.grad[:, :, 10, 40].any(), "inside"
    raw = torch.zeros_like(values).requires_grad_(True)
    corrected(torch.zeros_like(values), as_tensor(region), raw, 6.0)[0, 1].mul(as_tensor(region)[0, 0]).sum().backward()
    assert raw.grad is not None
    assert float(raw.grad[0, 1, row, col]) == pytest.approx(-wanted, abs=0.05)
    assert float(raw.grad[0, 1, 10, 40]) == 1, "inside it is added to"


@pytest.mark.parametrize("blend", [-0.1, 1e-4, 17.0, math.nan, math.inf])
def test_lengths_that_cannot_be(blend: float):
    with pytest.raises(ValueError, match=r"expected 0 or a length of 0\.001 to 16 sides"):
        check_blend(blend)
    with pytest.raises(InputError, match="--blend: expected 0 or a length"):
        check(TrainOptions(blend=blend))
    for right in (0.0, 1 / 8, 16.0):
        check_blend(right)
