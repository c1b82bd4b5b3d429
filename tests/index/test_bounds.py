"""The bounds are never below what they bound, and are met where they should be."""

from __future__ import annotations

import numpy as np

from zeuxis.index.bounds import context_box, iou, least_common
from zeuxis.storage import layouts


def test_context_box_is_the_one_of_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows, cols = rng.integers(1, 200, 2)
        top, left = rng.integers(0, rows), rng.integers(0, cols)
        box = (int(top), int(left), int(rng.integers(top + 1, rows + 1)), int(rng.integers(left + 1, cols + 1)))
        assert context_box(box, rows, cols) == layouts.context_box(box, (rows, cols))


def test_fewer_common_pixels_than_needed_cannot_reach_the_score():
    rng = np.random.default_rng(2)
    for _ in range(500):
        area, other = (int(n) for n in rng.integers(1, 5000, 2))
        weight, missing = rng.random() * 2 + 0.01, rng.random() * 2
        needed = least_common(missing, weight, area + other)
        for common in range(max(needed - 3, 0), min(needed, area, other)):
            assert weight * iou(common, area, other) < missing
