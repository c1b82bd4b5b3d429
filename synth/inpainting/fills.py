"""Fills that need nothing but the picture, behind one interface."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from ...storage.codec import Mask
from ...storage.images import Photograph
from ..encoding import to_image, to_tensor
from .directions import fills, nearest_known
from .patchmatch import patchmatch

RADIUS = 3
"""Pixels around each pixel of the region that OpenCV's methods look at."""

Fill = Callable[[Photograph, Mask, int], Photograph]
"""Of `(H, W, 3)` uint8 RGB, a region `(H, W)` bool and a seed the filled picture; outside the region nothing changes.

Raises `ValueError` where the picture holds too little outside the region.
"""


def telea(image: Photograph, region: Mask, seed: int = 0) -> Photograph:
    """Fast marching from the border inwards (Telea 2004), by OpenCV; the same for every seed."""
    return _opencv(image, region, cv2.INPAINT_TELEA)


def navier_stokes(image: Photograph, region: Mask, seed: int = 0) -> Photograph:
    """Lines of equal brightness continued as a fluid flows (Bertalmio et al. 2001), by OpenCV; no seed changes it."""
    return _opencv(image, region, cv2.INPAINT_NS)


def rows(image: Photograph, region: Mask, seed: int = 0) -> Photograph:
    """Each row interpolated between the known pixels at its two ends; the same for every seed (see `directions`)."""
    if region.all():
        raise ValueError("nothing lies outside the region")
    shown, inside = to_tensor(image)[None], torch.from_numpy(region)[None, None].float()
    with torch.inference_mode():
        filled = to_image(fills(shown, inside, nearest_known(shown, inside))[0][0])
    return np.where(region[..., None], filled, image)


FILLS: dict[str, Fill] = {
    "telea": telea, "navier-stokes": navier_stokes, "patchmatch": patchmatch, "rows": rows
}  # fmt: skip
"""By the name that users say."""


def _opencv(image: Photograph, region: Mask, method: int) -> Photograph:
    if region.all():
        raise ValueError("nothing lies outside the region")
    _, (rows, cols) = distance_transform_edt(region, return_indices=True)
    nearest = np.ascontiguousarray(image[rows, cols])  # else what lies inside shows through at the border
    filled: Photograph = cv2.inpaint(nearest, region.astype(np.uint8), RADIUS, method)
    return np.where(region[..., None], filled, image)
