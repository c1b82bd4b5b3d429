"""Windows around regions: at the network's resolution, scaled, tiled, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from zeuxis.storage.errors import InputError
from zeuxis.synth.inpainting.windows import SHARE, Plan, fill_by_windows, plan

SIZE = (32, 32)


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


def test_what_cannot_be_filled_is_refused():
    with pytest.raises(InputError, match=r"image: expected at least 32x32 pixels.*found 31x200; give a larger one"):
        plan(region((31, 200), (5, 5, 9, 9)), SIZE)
    everything = np.ones((100, 200), bool)
    everything[0] = False
    with pytest.raises(InputError, match="sees next to nothing else; give a smaller one"):
        plan(everything, SIZE)
