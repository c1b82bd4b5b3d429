"""Coarse layouts: simulated from dense ones for training, and made dense again (SIMS, section 3).

Annotators who draw a coarse layout outline what matters with polygons, leave a gap between them and skip what is
small. `coarsen` does so to a dense layout; a network trained on such pairs, or `nearest_filled`, undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..storage.classes import VOID, Layout
from ..storage.errors import InputError, sentence
from ..storage.layouts import find_components
from .encoding import one_hot
from .fitting import device_of
from .turns import in_turn

Indices = npt.NDArray[np.int64]
"""`(H, W)` channel numbers, void is the number of classes."""


@dataclass(frozen=True)
class Coarsening:
    """How coarse a layout is drawn. Lengths are shares of its rows; each is drawn anew for every component.

    Attributes:
        drop: probability that a component is left out whatever its size.
        small: share of the pixels from which size is no reason to leave a component out; below, the probability grows
            linearly to 1 at no pixels.
        smooth: widest Gaussian that rounds a boundary off, standard deviation.
        polygon: largest distance between a boundary and its polygon (Douglas-Peucker).
        gap: widest rim of void that a component leaves inside its own boundary.

    Raises:
        InputError: a share is not within 0..1.
    """

    drop: float = 0.1
    small: float = 0.004
    smooth: float = 0.02
    polygon: float = 0.03
    gap: float = 0.03

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise InputError(sentence(f"coarsening: {name}", expected="a share in 0..1", found=repr(value)))


def coarsen(layout: Layout, settings: Coarsening, random: np.random.Generator) -> Layout:
    """A layout as an annotator in a hurry would draw it: some components only, as polygons with void between them.

    Components with larger boxes are drawn first, so that what another one encloses stays seen. No class appears that
    the layout has not.

    Args:
        layout: `(H, W)` uint16, `VOID` where there is none; of any ids.
        settings: how coarse.
        random: decides; equal states give equal layouts.
    """
    components = find_components(layout)
    areas, boxes = components.areas_and_boxes
    coarse = np.full(layout.shape, VOID, np.uint16)
    extents = (boxes[:, 2] - boxes[:, 0]).astype(np.int64) * (boxes[:, 3] - boxes[:, 1])
    for i in np.argsort(-extents, kind="stable").tolist():
        lost = max(settings.drop, 1 - areas[i] / (settings.small * layout.size) if settings.small else 0.0)
        draws = random.random(4)  # as many for each, whether it is left out or not
        if draws[0] < lost:
            continue
        window = _around(boxes[i].tolist(), layout.shape, settings)
        own = (components.labels[window] == i + 1).astype(np.uint8)
        outline, inside = _drawn(own, draws[1:], settings, layout.shape[0])
        coarse[window][outline] = VOID  # so that what lies within another has a gap around it too
        coarse[window][inside] = components.class_ids[i]
    return coarse


def nearest_filled(layout: Layout) -> Layout:
    """A layout whose void pixels take the class of the nearest pixel that has one; all void stays as it is."""
    known = layout != VOID
    if not known.any() or known.all():
        return layout.copy()
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    class_at = np.full(int(nearest.max()) + 1, VOID, np.uint16)
    class_at[nearest[known]] = layout[known]
    filled: Layout = class_at[nearest]
    return filled


class Densifier(Protocol):
    """Any network from `(N, C + 1, H, W)` one-hot coarse layouts to `(N, C, H, W)` logits of dense ones."""

    def __call__(self, coarse: Tensor, /) -> Tensor:
        """The logits."""
        ...


def densified(network: Densifier, layouts: Indices, n_classes: int) -> Indices:
    """Coarse layouts made dense: `(N, H, W)` or `(H, W)` channel numbers to the same shape, without void.

    The network draws the whole layout anew, as the paper has it: the outlines of a coarse layout are not to be trusted.

    Args:
        network: in evaluation mode, at the size it was trained at.
        layouts: void is `n_classes`.
        n_classes: C.
    """
    batch = layouts.reshape(-1, *layouts.shape[-2:])
    device = device_of(network)
    with in_turn(device):
        logits = network(one_hot(torch.from_numpy(batch).to(device), n_classes))
    dense: Indices = logits.argmax(dim=1).cpu().numpy().reshape(layouts.shape)
    return dense


def _around(box: Sequence[int], size: Sequence[int], settings: Coarsening) -> tuple[slice, slice]:
    """The window of a component with room for its smoothed outline."""
    room = int(np.ceil(3 * settings.smooth * size[0])) + 1
    top, left = max(box[0] - room, 0), max(box[1] - room, 0)
    bottom, right = min(box[2] + room, size[0]), min(box[3] + room, size[1])
    return slice(top, bottom), slice(left, right)


def _drawn(
    own: npt.NDArray[np.uint8], draws: npt.NDArray[np.float64], settings: Coarsening, rows: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """A component's mask, 0 or 1, smoothed, as filled polygons; and the same with a rim taken off."""
    sigma, epsilon, gap = draws * (settings.smooth * rows, settings.polygon * rows, settings.gap * rows)
    if sigma >= 0.3:  # below, a Gaussian leaves whole pixels as they are
        soft = cv2.GaussianBlur(own.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        own = (soft >= 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = np.zeros_like(own)
    for contour in contours:
        cv2.fillPoly(drawn, [cv2.approxPolyDP(contour, float(epsilon), True)], 1)
    side = 2 * round(gap) + 1
    # the window's edge is no boundary, for it is the picture's wherever a component reaches it: nothing goes there
    inside = cv2.erode(drawn, np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return drawn.view(bool), inside.view(bool)
