"""The bounds are never below what they bound, and are met where they should be."""

from __future__ import annotations

import numpy as np

from zeuxis.index.bounds import box_overlap, context_bound, context_box, iou, least_common, mask_bound
from zeuxis.storage import layouts


def test_context_box_is_the_one_of_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows, cols = rng.integers(1, 200, 2)
        top, left = rng.integers(0, rows), rng.integers(0, cols)
        box = (int(top), int(left), int(rng.integers(top + 1, rows + 1)), int(rng.integers(left + 1, cols + 1)))
        assert context_box(box, rows, cols) == layouts.context_box(box, (rows, cols))


def test_bounds_hold_on_random_masks():
    rng = np.random.default_rng(1)
    for _ in range(300):
        a, b = (rng.random((16, 24)) < rng.random() for _ in range(2))
        a[:, rng.integers(1, 24) :] = False
        b[: rng.integers(0, 15)] = False
        common, area, other = int((a & b).sum()), int(a.sum()), int(b.sum())
        if not area or not other:
            continue
        score = iou(common, area, other)
        boxes = [layouts.areas_and_boxes(m.astype(np.uint32), 1)[1][0].tolist() for m in (a, b)]
        assert mask_bound(area, other, box_overlap(tuple(boxes[0]), tuple(boxes[1]))) >= score
        assert context_bound(area, other, other) >= score


def test_fewer_common_pixels_than_needed_cannot_reach_the_score():
    rng = np.random.default_rng(2)
    for _ in range(500):
        area, other = (int(n) for n in rng.integers(1, 5000, 2))
        weight, missing = rng.random() * 2 + 0.01, rng.random() * 2
        needed = least_common(missing, weight, area + other)
        for common in range(max(needed - 3, 0), min(needed, area, other)):
            assert weight * iou(common, area, other) < missing
