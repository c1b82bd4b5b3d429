"""Windows around regions: at the network's resolution, scaled, tiled, or refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from zeuxis.storage.errors import InputError
from zeuxis.synth.encoding import to_image, to_tensor
from zeuxis.synth.inpainting.membrane import corrected
from zeuxis.synth.inpainting.seam import seam
from zeuxis.synth.inpainting.windows import SHARE, Plan, plan
from zeuxis.synth.inpainting.windows import fill_by_windows as fill_all

SIZE = (32, 32)


def fill_by_windows(image: np.ndarray, mask: np.ndarray, how: Plan, fill: Callable, blend: float = 0.0) -> np.ndarray:
    """One picture alone, by a function that fills one window."""
    (made,) = fill_all([image], mask, how, lambda windows, hole: [fill(window, hole) for window in windows], blend)
    return made


def region(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def grey(window: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """A network that answers with noise everywhere: the caller takes what lies inside."""
    assert window.shape == (*SIZE, 3)
    assert hole.shape == SIZE
    assert 0 < hole.sum() < hole.size
    return np.full((*SIZE, 3), 77, np.uint8)


def filled(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, Plan]:
    how = plan(mask, SIZE)
    return fill_by_windows(image, mask, how, grey), how


@pytest.mark.parametrize(
    ("size", "boxes", "said"),
    [
        ((80, 100), [(30, 40, 44, 60)], "one window of 32x32 pixels at the network's resolution"),
        ((80, 100), [(0, 92, 10, 100)], "one window of 32x32 pixels at the network's resolution"),
        ((80, 100), [(20, 20, 68, 60)], "one window of 64x64 pixels scaled by 0.50"),
        ((40, 200), [(14, 10, 26, 190)], "windows, tiled, of 32x32 pixels at the network's resolution"),
        ((60, 90), [(0, 0, 12, 90), (40, 0, 60, 10)], "windows, tiled,"),
        (SIZE, [(4, 4, 20, 20)], "one window of 32x32 pixels at the network's resolution"),
    ],
)
def test_all_of_a_region_and_nothing_else_is_filled(size: tuple[int, int], boxes: list, said: str):
    image = np.random.default_rng(0).integers(100, 256, (*size, 3), np.uint8)
    mask = region(size, *boxes)
    made, how = filled(image, mask)
    assert said in str(how)
    np.testing.assert_array_equal(made[~mask], image[~mask])
    assert (made[mask] == 77).all()


def test_one_window_lies_around_its_region_and_sees_enough_beside_it():
    mask = region((200, 300), (50, 80, 110, 120))
    how = plan(mask, SIZE)
    ((top, left, bottom, right),) = how.boxes
    assert bottom - top == right - left == round(60 / SHARE)
    assert abs((top + bottom) / 2 - 80) <= 1
    assert abs((left + right) / 2 - 100) <= 1


def test_a_window_keeps_the_shape_of_the_network():
    how = plan(region((200, 300), (50, 80, 110, 120)), (32, 64))
    ((top, left, bottom, right),) = how.boxes
    assert (right - left) / (bottom - top) == pytest.approx(2, rel=0.03)


def test_a_tile_sees_what_the_ones_before_it_filled():
    image = np.full((32, 120, 3), 10, np.uint8)
    mask = region((32, 120), (8, 8, 24, 112))
    seen = []

    def brighter(window: np.ndarray, hole: np.ndarray) -> np.ndarray:
        seen.append(int(window[~hole].max()))
        return np.full((*SIZE, 3), 20 + len(seen), np.uint8)

    fill_by_windows(image, mask, plan(mask, SIZE), brighter)
    assert len(seen) > 2
    assert seen[0] == 10
    assert max(seen) > 20


def test_pixels_that_a_scaled_region_reaches_into_are_inside():
    image = np.zeros((128, 128, 3), np.uint8)
    mask = region((128, 128), (22, 22, 22 + 70, 22 + 70))
    image[mask] = 255

    def dark(window: np.ndarray, hole: np.ndarray) -> np.ndarray:
        assert not window[~hole].any(), "nothing of the region is left in what the network sees around it"
        return window

    how = plan(mask, SIZE)
    assert how.factor == pytest.approx(70 / 24), "so that pixels lie across the border"
    fill_by_windows(image, mask, how, dark)


def flat(window: np.ndarray, hole: np.ndarray, level: float = 100, length: float = SIZE[0] / 8) -> np.ndarray:
    """A network that makes one level of everything, and corrects the border as far as it sees it."""
    shown, inside = to_tensor(window)[None], torch.from_numpy(hole)[None, None].float()
    made = corrected(shown, inside, torch.full_like(shown, level / 127.5 - 1), length)
    return to_image(torch.where(inside > 0, made, shown)[0])


def sloped(size: tuple[int, int]) -> np.ndarray:
    """A picture that rises evenly in both directions, and has no seam anywhere."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([50 + y, 50 + x, 40 + (x + y) / 2], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "boxes", "said"),
    [
        ((120, 150), [(22, 30, 97, 90)], "scaled"),
        ((50, 180), [(12, 10, 38, 170)], "windows, tiled"),
        ((60, 90), [(20, 30, 40, 50)], "at the network's resolution"),
        ((60, 90), [(0, 0, 18, 90), (40, 0, 60, 10)], "tiled"),
    ],
)
def test_what_windows_are_filled_with_goes_on_where_the_picture_ends(size: tuple[int, int], boxes: list, said: str):
    image, mask = sloped(size), region(size, *boxes)
    given = np.where(mask[..., None], 255, image).astype(np.uint8)

    how = plan(mask, SIZE)
    assert said in str(how)
    alone, joined = (fill_by_windows(given, mask, how, flat, blend) for blend in (0.0, 1 / 8))
    np.testing.assert_array_equal(joined[~mask], image[~mask])
    assert seam(joined, mask) < 6
    assert seam(joined, mask) <= seam(alone, mask)
    assert np.array_equal(joined, alone) == (said == "at the network's resolution")
    blind = np.where(mask[..., None], 0, image).astype(np.uint8)
    np.testing.assert_array_equal(fill_by_windows(blind, mask, how, flat, 1 / 8), joined)


def test_tiles_meet_what_was_filled_beyond_their_edges():
    image, mask = np.full((32, 64, 3), 120, np.uint8), region((32, 64), (8, 10, 24, 54))
    how = Plan(((0, 0, 32, 32), (0, 32, 32, 64)), 1.0, SIZE)

    def filled_side_by_side(blend: float) -> np.ndarray:
        levels = iter((60, 180))
        return fill_by_windows(image, mask, how, lambda *given: flat(*given, next(levels), 4), blend).astype(int)

    alone, joined = (filled_side_by_side(blend) for blend in (0.0, 1 / 8))
    assert np.abs(np.diff(alone, axis=1))[14:18, 31].min() > 60
    assert np.abs(np.diff(joined, axis=1))[14:18].max() < 35, "a fourth of the difference, as far as it fades a pixel"
    np.testing.assert_array_equal(joined[:, :32], alone[:, :32])


def test_what_already_meets_its_surroundings_stays():
    image, mask = sloped((60, 90)), region((60, 90), (20, 30, 40, 50))
    how = plan(mask, SIZE)
    random = np.random.default_rng(0)

    def noisy(window: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return np.where(hole[..., None], random.integers(0, 256, window.shape), window).astype(np.uint8)

    made = fill_by_windows(image, mask, how, noisy, 1 / 8)
    random = np.random.default_rng(0)
    np.testing.assert_array_equal(made, fill_by_windows(image, mask, how, noisy))


def test_what_cannot_be_filled_is_refused():
    with pytest.raises(InputError, match=r"image: expected at least 32x32 pixels.*found 31x200; give a larger one"):
        plan(region((31, 200), (5, 5, 9, 9)), SIZE)
    everything = np.ones((100, 200), bool)
    everything[0] = False
    with pytest.raises(InputError, match="sees next to nothing else; give a smaller one"):
        plan(everything, SIZE)


def test_several_pictures_are_filled_as_each_by_itself():
    """Each later tile sees what filled the earlier ones of its own picture."""
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (40, 200, 3), np.uint8) for _ in range(3)]
    mask = region((40, 200), (14, 10, 26, 190))
    how = plan(mask, SIZE)
    assert len(how.boxes) > 2
    asked = []

    def mean(windows: list[np.ndarray], hole: np.ndarray) -> list[np.ndarray]:
        asked.append(len(windows))
        return [np.full_like(window, round(window[~hole].mean())) for window in windows]

    together = fill_all(images, mask, how, mean, 1 / 8)
    assert asked == [3] * len(how.boxes)
    for made, image in zip(together, images, strict=True):
        (alone,) = fill_all([image], mask, how, mean, 1 / 8)
        np.testing.assert_array_equal(made, alone)
