"""The score by brute force in plain NumPy, written from its definition alone: what every search is compared with."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

VOID = 65535


def components(layout, frame, min_area):
    """(class, mask) of every component of at least `min_area` frame pixels; masks are full frames."""
    found = []
    for class_id in np.unique(layout[layout != VOID]):
        labels, n = ndimage.label(layout == class_id, structure=np.ones((3, 3)))
        small = sample(labels.astype(np.float64), frame)
        for i in range(1, n + 1):
            mask = small == i
            if mask.sum() >= min_area:
                found.append((int(class_id), mask))
    return found


def sample(image, frame):
    return cv2.resize(image.astype(np.float64), (frame[1], frame[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def box_of(mask):
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1


def context(layout, mask):
    """The layout inside the mask's box padded by 12.5 %, void elsewhere."""
    top, left, bottom, right = box_of(mask)
    pad_rows, pad_cols = (bottom - top + 4) // 8, (right - left + 4) // 8
    inside = np.full(layout.shape, VOID, np.int64)
    window = np.s_[max(top - pad_rows, 0) : bottom + pad_rows, max(left - pad_cols, 0) : right + pad_cols]
    inside[window] = layout[window]
    return inside


def score(mask_a, context_a, mask_b, context_b):
    """(score, mask counts, context counts), counts as (intersection, union)."""
    both = int((mask_a & mask_b).sum())
    mask = both, int(mask_a.sum() + mask_b.sum()) - both
    same = int(((context_a == context_b) & (context_a != VOID)).sum())
    around = same, int((context_a != VOID).sum() + (context_b != VOID).sum()) - same
    return mask[0] / mask[1] + (around[0] / around[1] if around[1] else 0.0), mask, around
