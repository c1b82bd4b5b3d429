"""Metrics against their definitions, and against torchmetrics where it has them."""

import numpy as np
import pytest
import torch

from zeuxis.synth.metrics import (
    Interval,
    confusion,
    diversity,
    fid,
    kid,
    kid_gap,
    log_power_spectrum,
    masked_ssim,
    mean_interval,
    miou_gap,
    parsing,
    spectrum_distance,
)


@pytest.fixture
def random():
    return np.random.default_rng(3)


def features(random, n, shift=0.0):
    return (random.normal(size=(n, 6)) + shift).astype(np.float32)


def test_kid_is_the_unbiased_mmd_of_torchmetrics(random):
    from torchmetrics.image.kid import poly_mmd

    real, made = features(random, 40), features(random, 40, 0.3)
    expected = 1e3 * float(poly_mmd(torch.from_numpy(real).double(), torch.from_numpy(made).double()))
    assert kid(real, made, rounds=2).value == pytest.approx(expected, rel=1e-6)


def test_kid_of_unequal_numbers_is_its_definition(random):
    real, made = features(random, 7).astype(float), features(random, 5, 0.5).astype(float)

    def k(a, b):
        return (a @ b / 6 + 1) ** 3

    within = [np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]) for x in (real, made)]
    across = np.mean([k(a, b) for a in real for b in made])
    found = kid(real.astype(np.float32), made.astype(np.float32), rounds=2).value
    assert found == pytest.approx(1e3 * (sum(within) - 2 * across), rel=1e-4)


def test_the_interval_of_kid_holds_the_value_and_narrows_with_more_pictures(random):
    few, many = (kid(features(random, n), features(random, n, 0.5), rounds=200) for n in (30, 600))
    for found in (few, many):
        assert found.low < found.value < found.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_the_gap_of_kid_is_that_of_the_unbiased_distances_without_a_picture_and_its_own_photograph(random):
    real, made, other = (features(random, 9, shift) for shift in (0.0, 0.4, 1.0))

    def distance(x, y):
        def k(a, b):
            return (a.astype(float) @ b.astype(float) / 6 + 1) ** 3

        pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
        return np.mean([k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i, j in pairs])

    found = kid_gap(real, [made], [other], rounds=2)
    assert found.value == pytest.approx(1e3 * (distance(real, made) - distance(real, other)), rel=1e-6)
    assert kid_gap(real, [made, other], [other], rounds=2).value == pytest.approx(found.value / 2, rel=1e-6)


def test_rows_of_one_photograph_never_meet_each_other(random):
    """Of three rows each, against sums over all pairs of different photographs."""
    real, made, other = (features(random, 12, shift) for shift in (0.0, 0.4, 1.0))
    owner = np.arange(12) // 3

    def k(a, b):
        return (a.astype(float) @ b.astype(float) / 6 + 1) ** 3

    apart = [(i, j) for i in range(12) for j in range(12) if owner[i] != owner[j]]
    cross = np.mean([k(x, y) for x in real for y in made])
    wanted = np.mean([k(real[i], real[j]) + k(made[i], made[j]) for i, j in apart]) - 2 * cross
    assert kid(real, made, per=3, rounds=2).value == pytest.approx(1e3 * wanted, rel=1e-6)

    def distance(y):
        pairs = [k(y[i], y[j]) - k(real[i], y[j]) - k(real[j], y[i]) for i, j in apart]
        return np.mean(pairs)

    gap = kid_gap(real, [made], [other], per=3, rounds=2)
    assert gap.value == pytest.approx(1e3 * (distance(made) - distance(other)), rel=1e-6)
    with pytest.raises(ValueError, match="two pictures"):
        kid(real[:3], made, per=3)


def test_a_gap_is_known_better_than_its_two_sides(random):
    real = features(random, 100)
    made, other = real + features(random, 100) * 0.3 + 0.35, real + features(random, 100) * 0.3 + 0.45
    gap = kid_gap(real, [made], [other])
    assert gap.high < 0, "nearer to real by every draw"
    first, second = kid(real, made), kid(real, other)
    assert not first.apart_from(second)
    same = kid_gap(real, [made], [real + features(random, 100) * 0.3 + 0.35])
    assert same.low < 0 < same.high


def test_the_gap_of_mean_iou_is_paired_by_layout(random):
    counts = random.integers(5, 50, (40, 3, 3))
    better = counts + 20 * np.eye(3, dtype=int)
    gap = miou_gap([better], [counts])
    expected = parsing(better.sum(axis=0)).mean_iou - parsing(counts.sum(axis=0)).mean_iou
    assert gap.value == pytest.approx(expected)
    assert 0 < gap.low < gap.value < gap.high
    assert miou_gap([better, counts], [counts]).value == pytest.approx(expected / 2)
    assert miou_gap([counts], [counts]) == Interval(0, 0, 0)


def test_equal_distributions_are_not_apart_and_different_ones_are(random):
    real = features(random, 200)
    near, far = kid(real, features(random, 200)), kid(real, features(random, 200, 1.0))
    assert near.low < 0 < near.high
    assert far.apart_from(near)
    assert not Interval(1, 0, 2).apart_from(Interval(2, 1.5, 3))


def test_fid_needs_enough_pictures_and_is_the_distance_of_gaussians(random):
    assert fid(features(random, 59), features(random, 80)) is None
    real, made = features(random, 4000), features(random, 4000, 1.0)
    assert fid(real, made) == pytest.approx(6.0, abs=0.3)  # equal covariances: the squared distance of the means


def test_parsing_counts_pixels_of_known_classes():
    true = np.array([[0, 0, 1, 1], [1, 1, 3, 3]])  # 3 is void
    read = np.array([[0, 1, 1, 1], [1, 1, 0, 2]])
    counts = confusion(true, read, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 4, 0], [0, 0, 0]]
    found = parsing(counts)
    assert found.accuracy == 5 / 6
    assert found.mean_iou == pytest.approx((1 / 2 + 4 / 5) / 2)


def test_spectra_of_equal_pictures_agree_and_blur_is_seen(random):
    import cv2

    images = [random.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(8)]
    real = log_power_spectrum(images)
    assert spectrum_distance(real, log_power_spectrum(images)) == 0
    little, much = (
        spectrum_distance(real, log_power_spectrum([cv2.GaussianBlur(image, (0, 0), sigma) for image in images]))
        for sigma in (0.6, 2.0)
    )
    assert 0 < little < much
    with pytest.raises(ValueError, match="no picture"):
        log_power_spectrum([])


def test_a_wave_stands_at_its_frequency():
    wave = 127 + 100 * np.sin(2 * np.pi * 8 * np.arange(64) / 64)
    image = np.repeat(np.repeat(wave[None, :, None], 64, 0), 3, 2).astype(np.uint8)
    spectrum = log_power_spectrum([image])
    assert np.unravel_index(spectrum.argmax(), spectrum.shape) in {(32, 24), (32, 40)}


def test_ssim_looks_at_the_mask_alone(random):
    truth = random.integers(0, 256, (48, 64, 3), np.uint8)
    image = truth.copy()
    image[:, 32:] = random.integers(0, 256, (48, 32, 3), np.uint8)
    left = np.zeros((48, 64), bool)
    left[:, :20] = True
    assert masked_ssim(image, truth, left) == pytest.approx(1, abs=1e-4)
    assert masked_ssim(image, truth, ~left) < 0.8
    assert masked_ssim(image, truth, np.zeros((48, 64), bool)) == 0


def test_diversity_is_the_mean_distance_of_variants():
    rows = np.array([[0, 0], [3, 4], [0, 0]], np.float32)
    assert diversity([rows, np.zeros((2, 2), np.float32)]) == pytest.approx((10 / 3 + 0) / 2)


def test_one_picture_has_no_distance_to_others(random):
    with pytest.raises(ValueError, match="two pictures"):
        kid(features(random, 1), features(random, 5))


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide(random):
    values = random.normal(5, 2, 400)
    found = mean_interval(values)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert mean_interval(values) == found
    assert mean_interval([3.0]) == Interval(3, 3, 3)
