"""The smooth spectrum: follows what is there, not what is wrong."""

import numpy as np
import pytest
from spxflow import smooth


def line(x):
    return 100.0 + 20.0 * x


@pytest.mark.parametrize("n", [30, 2000])  # points as nodes, and a grid of nodes
def test_straight_spectra_are_reproduced_exactly(n):
    x = np.sort(np.random.default_rng(0).uniform(1, 17, n))
    fit = smooth.smooth_spectrum(x, line(x), np.full(n, 5.0), 1.5)
    assert np.allclose(fit.value, line(x))
    assert np.allclose(fit.slope, 20.0)
    assert np.allclose(fit.residual, 0.0, atol=1e-8)


@pytest.mark.parametrize("n", [36, 2000])
def test_residuals_of_noise_have_the_expected_size(n):
    rng = np.random.default_rng(1)
    deviations = []
    for _ in range(3000 // n + 1):
        x = np.sort(rng.uniform(1, 17, n))
        fit = smooth.smooth_spectrum(x, line(x) + rng.normal(0, 5.0, n), np.full(n, 5.0), 1.5)
        deviations.append(fit.residual / fit.residual_error)
    assert np.nanstd(np.concatenate(deviations)) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("n", [36, 2000])
def test_outliers_do_not_pull_the_fit(n):
    rng = np.random.default_rng(2)
    x = np.sort(rng.uniform(1, 17, n))
    y = line(x) + rng.normal(0, 5.0, n)
    clean = smooth.smooth_spectrum(x, y, np.full(n, 5.0), 1.5)
    y[3::12] += 5000.0
    spoilt = smooth.smooth_spectrum(x, y, np.full(n, 5.0), 1.5)
    assert np.abs(spoilt.value - clean.value).max() < 12.0
    assert (spoilt.deviation[3::12] > 50.0).all()


def test_errors_that_are_too_small_show_in_the_scale():
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(1, 17, 400))
    fit = smooth.smooth_spectrum(x, line(x) + rng.normal(0, 15.0, 400), np.full(400, 5.0), 1.5)
    assert fit.scale == pytest.approx(3.0, rel=0.15)


def test_weights_do_not_know_the_noise_of_their_own_point():
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 1.0, 500)
    error = np.sqrt(25.0 + 4.0 * noise)  # photon noise: where the flux came out low, the variance did too
    variance = smooth.smooth_variance(np.linspace(1, 17, 500), error)
    assert abs(np.corrcoef(variance, noise)[0, 1]) < 0.25
    assert np.median(variance) == pytest.approx(25.0, rel=0.05)


def test_clearly_noisier_points_keep_their_variance():
    error = np.full(50, 5.0)
    error[10] = 50.0
    variance = smooth.smooth_variance(np.linspace(1, 17, 50), error)
    assert variance[10] == 2500.0
    assert (np.delete(variance, 10) == 25.0).all()


def test_the_slope_is_a_sum_over_the_points():
    x = np.sort(np.random.default_rng(5).uniform(1, 17, 30))
    weights = smooth.slope_weights(8.0, x, np.ones(30), 1.5)
    assert weights @ line(x) == pytest.approx(20.0)
    assert (weights[np.abs(x - 8.0) > 1.5] == 0.0).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_points_are_no_error(n):
    fit = smooth.smooth_spectrum(np.arange(n) + 1.0, np.ones(n), np.ones(n), 1.5)
    assert len(fit.value) == n
    assert np.isfinite(fit.deviation).all()


def test_points_far_from_all_others_have_no_fit():
    x = np.array([1.0, 1.2, 1.4, 1.6, 12.0])
    fit = smooth.smooth_spectrum(x, line(x), np.ones(5), 1.5)
    assert np.isnan(fit.value[4])
    assert fit.deviation[4] == 0.0
    assert smooth.slope_weights(12.0, x, np.ones(5), 1.5) is None
