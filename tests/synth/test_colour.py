"""Colour transfer: the moments of the reference, and no more change than they need."""

import numpy as np
import pytest

from zeuxis.synth.colour import _opponent, monge_kantorovich, reinhard


def cloud(seed, n, mean, scale):
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n, 3)) @ random.normal(size=(3, 3)) * scale + mean
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_monge_kantorovich_matches_mean_and_covariance(seed):
    pixels, reference = cloud(seed, 4000, (120, 110, 140), 9), cloud(seed + 50, 3000, (130, 150, 100), 12)
    moved = monge_kantorovich(pixels, reference).astype(float)
    assert moved.mean(axis=0) == pytest.approx(reference.mean(axis=0), abs=0.5)
    found, wanted = np.cov(moved.T), np.cov(reference.T)
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max() + 1


def test_monge_kantorovich_moves_no_colour_that_need_not_move():
    pixels = cloud(1, 2000, (120, 110, 140), 9)
    assert np.abs(monge_kantorovich(pixels, pixels).astype(int) - pixels).max() <= 1
    brighter = np.clip(pixels.astype(int) + 20, 0, 255).astype(np.uint8)
    assert np.abs(monge_kantorovich(pixels, brighter).astype(int) - brighter).max() <= 1


def test_reinhard_matches_mean_and_deviation_of_each_opponent_channel():
    pixels, reference = cloud(2, 4000, (120, 110, 140), 6), cloud(52, 3000, (130, 140, 110), 6)
    moved = _opponent(reinhard(pixels, reference))
    wanted = _opponent(reference)
    assert moved.mean(axis=0) == pytest.approx(wanted.mean(axis=0), abs=0.01)
    assert moved.std(axis=0) == pytest.approx(wanted.std(axis=0), rel=0.06)


@pytest.mark.parametrize("transfer", [monge_kantorovich, reinhard])
def test_few_pixels_and_single_colours_are_no_trouble(transfer):
    grey, red = np.full((50, 3), 90, np.uint8), np.full((1, 3), (200, 20, 30), np.uint8)
    assert np.abs(transfer(grey, red).astype(int) - red).max() <= 2
    assert transfer(grey[:1], cloud(3, 100, (100, 100, 100), 5)).shape == (1, 3)
    none = np.zeros((0, 3), np.uint8)
    assert np.array_equal(transfer(grey, none), grey)
    assert len(transfer(none, red)) == 0
