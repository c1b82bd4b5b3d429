"""Vivid targets: photographs with their details, brightness and colours strengthened (Farbman et al. 2008, section 4).

The released models of CRN at 512 and 1024 rows were trained on such photographs. Lightness is taken apart by two
edge-preserving smoothings of different strength, so that what is strengthened gets no halos around edges. Weighted
least squares are solved by rows and columns (Min et al. 2014), as OpenCV has it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..storage.images import Photograph

SMOOTHINGS = ((30.0, 5.0), (300.0, 10.0))
"""Weight of smoothness, and the step of lightness that counts as an edge, of each smoothing; the weaker first."""
GAINS = (1.5, 1.5)
"""Of what each smoothing takes away, near 0; large differences are kept from growing beyond `SPAN`."""
SPAN = 50.0
"""Of lightness: no detail is strengthened beyond."""
GAMMA, SATURATION = 0.75, 1.1
"""Of lightness and of colour, as in the released models."""

_Plane = npt.NDArray[np.float32]


def vivid(photograph: Photograph) -> Photograph:
    """A photograph with details, lightness and colours strengthened; what is black, white or grey stays so.

    Args:
        photograph: `(H, W, 3)` uint8 RGB.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    lab = cv2.cvtColor(photograph.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lightness = np.ascontiguousarray(lab[..., 0])
    guide = (lightness * 2.55).round().astype(np.uint8)
    base, details = lightness, np.zeros_like(lightness)
    for (smoothness, edge), gain in zip(SMOOTHINGS, GAINS, strict=True):
        smooth = cv2.ximgproc.fastGlobalSmootherFilter(guide, lightness, smoothness, edge)
        details += _strengthened(base - smooth, gain)
        base = smooth
    brighter = 100 * (np.clip(base + details, 0, 100) / 100) ** GAMMA
    strong = np.dstack([brighter, lab[..., 1:] * SATURATION]).astype(np.float32)
    rgb = cv2.cvtColor(strong, cv2.COLOR_LAB2RGB)
    return np.asarray((rgb.clip(0, 1) * 255).round(), np.uint8)


def _strengthened(detail: _Plane, gain: float) -> _Plane:
    """`gain` times as large near 0, `SPAN` at most: a curve of the hyperbolic tangent."""
    return np.asarray(SPAN * np.tanh(detail * (gain / SPAN)), np.float32)
