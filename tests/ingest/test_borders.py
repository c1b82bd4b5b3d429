"""Colours along borders: beside a count by hand, and beside sums over pixels one by one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from zeuxis.ingest.borders import border_colours
from zeuxis.storage.layouts import border_reach, sample_to_frame


def test_both_sides_of_a_border_are_the_pixels_within_reach_of_it():
    labels = np.ones((40, 60), np.uint32)
    labels[:, 30:] = 2
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :28], image[:, 28:30], image[:, 30:32], image[:, 32:] = 10, (40, 50, 60), (200, 0, 7), 90
    found = border_colours(image, labels, np.array([5, 3], np.uint16), np.array([0, 1]))
    assert border_reach(40) == 2
    assert found.neighbours.tolist() == [1, 1]
    assert found.beside.tolist() == [3, 5]
    assert found.colours.tolist() == [[[40, 50, 60], [200, 0, 7]], [[200, 0, 7], [40, 50, 60]]]


def one_by_one(image, labels, class_ids, stored):
    """What is defined, pixel by pixel."""
    reach, sums = border_reach(len(labels)), {}
    for row, col in np.ndindex(*labels.shape):
        one = labels[row, col]
        for down, right in ((0, reach), (reach, 0), (0, -reach), (-reach, 0)):
            r, c = row + down, col + right
            if (col if down else row) % (reach // 2):
                continue
            if not (0 <= r < labels.shape[0] and 0 <= c < labels.shape[1]) or not one:
                continue
            other = labels[r, c]
            if other and other != one and one - 1 in stored:
                key = stored.tolist().index(one - 1), int(class_ids[other - 1])
                sums.setdefault(key, []).append([image[row, col], image[r, c]])
    return {key: np.rint(np.mean(each, axis=0)) for key, each in sums.items()}


@pytest.mark.parametrize("seed", range(4))
def test_they_are_what_is_defined_at_any_resolution(seed):
    random = np.random.default_rng(seed)
    size = (120, 96) if seed % 2 else (60, 300)
    coarse = random.integers(0, 7, (6, 8), np.uint32)
    labels = cv2.resize(coarse.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(np.uint32)
    class_ids = np.array([4, 9, 4, 7, 2, 60_000], np.uint16)
    stored = np.array([0, 1, 2, 4])  # two are too small to be segments
    image = random.integers(0, 256, (250, 131, 3), np.uint8)
    found = border_colours(image, labels, class_ids, stored)
    wanted = one_by_one(sample_to_frame(image, labels.shape), labels, class_ids, stored)
    segments = np.repeat(np.arange(4), found.neighbours)
    assert list(zip(segments.tolist(), found.beside.tolist(), strict=True)) == sorted(wanted)
    for key, colours in zip(sorted(wanted), found.colours, strict=True):
        assert (colours == wanted[key]).all()


def test_a_photograph_without_segments_or_of_one_component_has_none():
    image, labels = np.zeros((20, 20, 3), np.uint8), np.ones((20, 20), np.uint32)
    nothing = border_colours(image, labels, np.array([1], np.uint16), np.zeros(0, np.int64))
    alone = border_colours(image, labels, np.array([1], np.uint16), np.array([0]))
    assert [len(each) for each in vars(nothing).values()] == [0, 0, 0]
    assert alone.neighbours.tolist() == [0]
