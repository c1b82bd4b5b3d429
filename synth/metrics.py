"""How good synthesised pictures are: distances of distributions, parsing, spectra, likeness, diversity.

Distances of distributions are of features that a network gave, a judge or the published Inception network. FID and SSIM
are torchmetrics'; all else is arithmetic on arrays that the papers describe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..storage.images import Photograph

Features = npt.NDArray[np.float32]
"""`(n, d)` float32, one row a picture."""
Counts = npt.NDArray[np.int64]
"""Pixels by true class, row, and class read, column."""

FID_IMAGES = 10
"""Pictures a feature dimension below which a covariance is too poorly known for FID to mean anything."""


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def apart_from(self, other: Interval) -> bool:
        """Whether the two intervals do not meet."""
        return self.high < other.low or other.high < self.low


def kid(real: Features, made: Features, *, per: int = 1, seed: int = 0, rounds: int = 500) -> Interval:
    """Kernel inception distance: the unbiased squared MMD with the kernel (x.y / d + 1)^3, times 1,000.

    The interval is a bootstrap over photographs: both sets are drawn anew with replacement, and no picture is compared
    with a copy of itself, which would bias the distance downwards, nor with another of its own photograph.

    Args:
        real, made: rows of at least two photographs each; they need not be equally many.
        per: rows of each photograph, one behind the other.
        seed: of the bootstrap; rounds: draws.

    Raises:
        ValueError: a set has fewer than two photographs.
    """
    if min(len(real), len(made)) < 2 * per:
        raise ValueError("at least two pictures on each side")
    kernel_rr, kernel_mm, kernel_rm = (kernel(*each, per) for each in ((real, real), (made, made), (real, made)))
    random, (n, m) = np.random.default_rng(seed), kernel_rm.shape
    value = _mmd(kernel_rr, kernel_mm, kernel_rm, np.ones(n), np.ones(m))
    drawn = [_mmd(kernel_rr, kernel_mm, kernel_rm, _draw(random, n), _draw(random, m)) for _ in range(rounds)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(1e3 * value, float(1e3 * low), float(1e3 * high))


def kid_gap(
    real: Features,
    made: Sequence[Features],
    other: Sequence[Features],
    *,
    per: int = 1,
    seed: int = 0,
    rounds: int = 500,
) -> Interval:
    """KID of one way to make pictures less that of another one, where both made row i for what photograph i shows.

    The estimate is the unbiased one for as many pictures on both sides, in which no picture meets the photograph it was
    made for (Gretton et al. 2012, equation 4). The interval is a bootstrap over layouts, the same draws for
    photographs and both ways, so that what is hard about a layout cancels.

    Args:
        real: `(n, d)`, of at least 2 photographs; made, other: one `(n, d)` a seed of training, as many on both sides
            or one.
        per: rows of each photograph, one behind the other; no two of one meet.
        seed: of the bootstrap; rounds: draws.
    """
    pairs = [_gaps(real, made[k % len(made)], other[k % len(other)], per) for k in range(max(len(made), len(other)))]
    gaps = 1e3 * np.mean(pairs, axis=0)
    random, n = np.random.default_rng(seed), len(gaps)
    low, high = np.percentile([_within(gaps, _draw(random, n)) for _ in range(rounds)], [2.5, 97.5])
    return Interval(_within(gaps, np.ones(n)), float(low), float(high))


def miou_gap(made: Sequence[Counts], other: Sequence[Counts], *, seed: int = 0, rounds: int = 500) -> Interval:
    """Mean IoU of one way to make pictures less that of another one, both for the same layouts.

    Args:
        made, other: `(n, C, C)` confusion by layout, one a seed of training; the bootstrap is one over layouts.
    """
    random, n = np.random.default_rng(seed), len(made[0])

    def gap(times: npt.NDArray[np.float64]) -> float:
        means = (
            np.mean([parsing(np.tensordot(times.astype(np.int64), each, 1)).mean_iou for each in way])
            for way in (made, other)
        )
        return float(next(means) - next(means))

    low, high = np.percentile([gap(_draw(random, n)) for _ in range(rounds)], [2.5, 97.5])
    return Interval(gap(np.ones(n)), float(low), float(high))


def mean_interval(values: Sequence[float], *, seed: int = 0, rounds: int = 1000) -> Interval:
    """A mean and its bootstrap interval: the values are drawn anew with replacement.

    Args:
        values: at least one; seed: of the bootstrap; rounds: draws.
    """
    held = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(held), (rounds, len(held)))
    low, high = np.percentile(held[drawn].mean(axis=1), [2.5, 97.5])
    return Interval(float(held.mean()), float(low), float(high))


def fid(real: Features, made: Features) -> float | None:
    """Frechet distance of the features, by torchmetrics; None below `FID_IMAGES` pictures a feature dimension."""
    if min(len(real), len(made)) < FID_IMAGES * real.shape[1]:
        return None
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(torch.nn.Module):
        """Features that are there already."""

        num_features = real.shape[1]

        def forward(self, features: Tensor) -> Tensor:
            return features

    distance = FrechetInceptionDistance(feature=Given(), normalize=False, input_img_size=(real.shape[1],))
    distance.update(torch.from_numpy(real), real=True)
    distance.update(torch.from_numpy(made), real=False)
    return float(distance.compute())


class Parsing(NamedTuple):
    """What a parsing network reads in pictures against the layouts they were made for: shares of 0..1."""

    accuracy: float
    mean_iou: float


def confusion(indices: npt.NDArray[np.int64], read: npt.NDArray[np.int64], n_classes: int) -> Counts:
    """`(C, C)` counts of pixels, true class by row, read class by column; void (`n_classes`) does not count."""
    known = indices < n_classes
    cells = indices[known] * n_classes + read[known]
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def parsing(counts: Counts) -> Parsing:
    """Pixel accuracy, and mean IoU over the classes that the layouts hold, of a confusion matrix."""
    right, true, read = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    there = true > 0
    union = (true + read - right)[there]
    return Parsing(
        float(right.sum() / max(counts.sum(), 1)), float((right[there] / union).mean()) if len(union) else 0.0
    )


def log_power_spectrum(images: Iterable[Photograph]) -> npt.NDArray[np.float64]:
    """Mean power spectrum of the brightness of equally large pictures, as log10, zero frequency in the middle (H, W).

    SIMS, section 6, figure 5. A Hann window takes away the cross that the edges of a picture leave.
    """
    total: npt.NDArray[np.float64] | None = None
    n = 0
    for image in images:
        light = image @ np.array([0.299, 0.587, 0.114]) / 255
        window = np.outer(np.hanning(light.shape[0]), np.hanning(light.shape[1]))
        power = np.abs(np.fft.fft2((light - light.mean()) * window)) ** 2
        total = power if total is None else total + power
        n += 1
    if total is None:
        raise ValueError("no picture")
    spectrum: npt.NDArray[np.float64] = np.fft.fftshift(np.log10(total / n + 1e-12))
    return spectrum


def spectrum_distance(real: npt.NDArray[np.float64], made: npt.NDArray[np.float64]) -> float:
    """Mean absolute difference of two `log_power_spectrum`, in decades; the zero frequency says nothing."""
    difference = np.abs(real - made)
    difference[real.shape[0] // 2, real.shape[1] // 2] = 0
    return float(difference.sum() / (difference.size - 1))


def masked_ssim(image: Photograph, truth: Photograph, mask: npt.NDArray[np.bool_]) -> float:
    """Structural similarity of two pictures, mean over the pixels of a mask; 0 for an empty one."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    if not mask.any():
        return 0.0
    first, second = (torch.from_numpy(each).movedim(-1, 0)[None].float() / 255 for each in (image, truth))
    _, full = structural_similarity_index_measure(first, second, data_range=1.0, return_full_image=True)
    return float(full[0].mean(dim=0).numpy()[mask].mean())


def diversity(variants: Sequence[Features]) -> float:
    """Mean distance, in features, of the variants of one layout; mean over layouts.

    Args:
        variants: one `(v, d)` array a layout, v at least 2.
    """
    spread = []
    for rows in variants:
        distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
        spread.append(distances[np.triu_indices(len(rows), 1)].mean())
    return float(np.mean(spread))


def kernel(a: Features, b: Features, per: int = 1) -> npt.NDArray[np.float64]:
    """`(n, m)`: that of KID, of each of `(n per, d)` with each of `(m per, d)`, the mean over `per` rows each."""
    products: npt.NDArray[np.float64] = a.astype(np.float64) @ b.astype(np.float64).T
    found: npt.NDArray[np.float64] = (products / a.shape[1] + 1) ** 3
    n, m = (side // per for side in found.shape)
    return found if per == 1 else found.reshape(n, per, m, per).mean((1, 3))


def _gaps(real: Features, made: Features, other: Features, per: int) -> npt.NDArray[np.float64]:
    """`(n, n)` by photograph, of which the mean off the diagonal is the difference of two unbiased squared MMDs."""
    (own, cross), (others_own, others_cross) = ((kernel(x, x, per), kernel(real, x, per)) for x in (made, other))
    gaps: npt.NDArray[np.float64] = (own - cross - cross.T) - (others_own - others_cross - others_cross.T)
    return gaps


def _draw(random: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """How often each of n is drawn in n draws with replacement, of which no less than two are different."""
    while True:
        times = np.bincount(random.integers(0, n, n), minlength=n)
        if np.count_nonzero(times) > 1:
            return times.astype(np.float64)


def _mmd(
    rr: npt.NDArray[np.float64],
    mm: npt.NDArray[np.float64],
    rm: npt.NDArray[np.float64],
    times_real: npt.NDArray[np.float64],
    times_made: npt.NDArray[np.float64],
) -> float:
    """Unbiased squared MMD where each picture counts so many times; pairs of a picture with itself do not."""
    return float(
        _within(rr, times_real)
        + _within(mm, times_made)
        - 2 * (times_real @ rm @ times_made) / (times_real.sum() * times_made.sum())
    )


def _within(kernel: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> float:
    own = times @ (np.diag(kernel) * times)
    pairs = times.sum() ** 2 - (times**2).sum()
    return float((times @ kernel @ times - own) / pairs)
