"""Colour transfer: pixels that keep their pattern and take on the tone of others (SIMS, section 5.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""`(n, 3)` uint8 RGB."""

_LEAST_VARIANCE = 1e-3
"""Of a colour direction, in squared levels of 0..255: pixels of one colour have none, which nothing can stretch."""

_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_TO_OPPONENT = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])


def monge_kantorovich(pixels: Pixels, reference: Pixels) -> Pixels:
    """The linear map of least cost that gives `(n, 3)` pixels the mean and covariance of `(m, 3)` others.

    Of all linear maps with that effect it moves colours least, in the mean of squares (F. Pitié and A. Kokaram, "The
    linear Monge-Kantorovitch colour mapping for example-based colour transfer", 2007). Values beyond 0..255 are
    clipped. Without a reference, pixels stay as they are.
    """
    if not len(pixels) or not len(reference):
        return pixels.copy()
    values = pixels.astype(np.float64)
    root, inverse = _roots(_covariance(values))
    between, _ = _roots(root @ _covariance(reference.astype(np.float64)) @ root)
    moved = (values - values.mean(axis=0)) @ (inverse @ between @ inverse) + reference.mean(axis=0)
    return _levels(moved)


def reinhard(pixels: Pixels, reference: Pixels) -> Pixels:
    """`(n, 3)` pixels with the mean and deviation of `(m, 3)` others in each channel of l-alpha-beta.

    E. Reinhard et al., "Color transfer between images", 2001. Values beyond 0..255 are clipped. Without a reference,
    pixels stay as they are.
    """
    if not len(pixels) or not len(reference):
        return pixels.copy()
    values, others = _opponent(pixels), _opponent(reference)
    spread = others.std(axis=0) / np.maximum(values.std(axis=0), 1e-6)
    moved = (values - values.mean(axis=0)) * spread + others.mean(axis=0)
    lms = 10 ** (moved @ np.linalg.inv(_TO_OPPONENT).T)
    return _levels((lms @ np.linalg.inv(_TO_LMS).T) * 255 - 1)


TRANSFERS = {"monge-kantorovich": monge_kantorovich, "reinhard": reinhard}
"""The ways by name."""


def _opponent(pixels: Pixels) -> npt.NDArray[np.float64]:
    """`(n, 3)` logarithmic l, alpha, beta; a level is added, for black has no logarithm."""
    lms = ((pixels.astype(np.float64) + 1) / 255) @ _TO_LMS.T
    opponent: npt.NDArray[np.float64] = np.log10(lms) @ _TO_OPPONENT.T
    return opponent


def _covariance(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred = values - values.mean(axis=0)
    return np.asarray(centred.T @ centred / len(values), np.float64)


def _roots(matrix: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The square root of a symmetric, positive matrix, and its inverse."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, _LEAST_VARIANCE))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _levels(values: npt.NDArray[np.float64]) -> Pixels:
    levels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels
