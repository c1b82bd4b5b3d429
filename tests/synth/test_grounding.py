"""Statistics of where objects stand, against numbers that are put in."""

import numpy as np
import pytest

from zeuxis.synth.grounding import fitted_line


@pytest.mark.parametrize("seed", range(5))
def test_a_line_survives_a_quarter_of_nonsense(seed):
    random = np.random.default_rng(seed)
    x = random.uniform(0.5, 0.9, 60)
    y = -0.4 + 0.9 * x + random.normal(0, 0.01, 60)
    y[:15] = random.uniform(0, 0.6, 15)
    intercept, slope = fitted_line(x, y)
    assert slope == pytest.approx(0.9, abs=0.12)
    assert intercept + slope * 0.7 == pytest.approx(0.23, abs=0.02)


@pytest.mark.parametrize("y", [lambda x: 0 * x + 0.2, lambda x: 0.5 - 0.3 * x])
def test_no_line_where_heights_do_not_rise(y):
    x = np.linspace(0.5, 0.9, 20)
    assert np.isnan(fitted_line(x, y(x))).all()


def test_no_line_through_one_place():
    assert np.isnan(fitted_line(np.full(9, 0.5), np.linspace(0, 1, 9))).all()


def test_no_line_through_noise():
    random = np.random.default_rng(3)
    assert np.isnan(fitted_line(random.uniform(0.5, 0.9, 200), random.uniform(0, 0.5, 200))).all()
