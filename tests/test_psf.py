"""PSF stamps against PSFs known exactly: at any sub-pixel position, anywhere on the detector, and never broadened."""

import time
import timeit
from concurrent.futures import ThreadPoolExecutor

import level2
import numpy as np
import pytest
from spxflow.psf import EffectivePsf, OpticalPsf, ZoneGrid

NARROW = level2.GaussianPsf([(0.7, -0.05, -0.05, 0.20, 0.21), (0.25, -0.1, 0.1, 0.5, 0.4), (0.05, 0.0, 0.0, 0.7, 0.7)])


def optical(psf=level2.CORE):
    centres = tuple(level2.OPTICAL_CENTRES - 1)
    return OpticalPsf(level2.optical_planes(psf).astype(">f4"), ZoneGrid(centres, centres))


def effective(psf=level2.CORE, nx=21, ny=21):
    zones = ZoneGrid(tuple(level2.effective_centres(nx)), tuple(level2.effective_centres(ny)))
    return EffectivePsf(level2.effective_planes(psf, nx=nx, ny=ny).astype(">f8"), zones)


def within(model, x, y, x0, y0, n):
    """Pixels of a window that lie wholly within the footprint of a model."""
    yy, xx = np.mgrid[y0 : y0 + n, x0 : x0 + n]
    return np.maximum(np.abs(xx - x), np.abs(yy - y)) <= model.radius_px - 0.5


def errors(model, psf, positions, n=21):
    """Largest error of a pixel and of the sum in a 2-pixel aperture, as share of the total flux."""
    worst_pixel = worst_aperture = 0.0
    for x, y in positions:
        x0, y0 = round(x) - n // 2, round(y) - n // 2
        difference = model.stamp(x, y, x0, y0, n, n) - psf.pixels(x, y, x0, y0, n, n)
        yy, xx = np.mgrid[y0 : y0 + n, x0 : x0 + n]
        aperture = np.hypot(xx - x, yy - y) < 2
        worst_pixel = max(worst_pixel, np.abs(difference[within(model, x, y, x0, y0, n)]).max())
        worst_aperture = max(worst_aperture, abs(difference[aperture].sum()))
    return worst_pixel, worst_aperture


@pytest.fixture(scope="module")
def positions():
    """All over the detector between the outer zone centres, at any sub-pixel phase."""
    return np.random.default_rng(5).uniform(100, 1940, (150, 2))


@pytest.mark.parametrize(
    ("build", "psf", "pixel_limit"),
    [
        (optical, level2.CORE, 1e-6),
        (optical, NARROW, 1e-5),
        (effective, level2.CORE, 1e-4),
    ],
    ids=["optical", "optical, two samples wide", "effective"],
)
def test_stamp_is_the_true_share_of_flux_in_each_pixel(build, psf, pixel_limit, positions):
    worst_pixel, worst_aperture = errors(build(psf), psf, positions)
    assert worst_pixel < pixel_limit
    assert worst_aperture < 1e-6


def test_total_flux_is_that_of_the_model(positions):
    """Nothing is renormalised: the sum of a large stamp is the sum of the samples."""
    for model in (optical(), optical(NARROW)):
        for x, y in positions[:20]:
            stamp = model.stamp(x, y, round(x) - 10, round(y) - 10, 21, 21)
            assert stamp.sum() == pytest.approx(model.total(x, y), abs=1e-12)
    halved = optical()
    halved = OpticalPsf(halved.planes * 0.5, halved.zones)
    assert halved.total(700.0, 300.0) == pytest.approx(0.5, abs=1e-6)
    assert halved.stamp(700.0, 300.0, 690, 290, 21, 21).sum() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("shift", range(10))
def test_shift_by_whole_samples_is_a_sum_of_blocks(shift):
    """Where the pixel borders fall on sample borders, any samples, noise too, are plainly added 10 x 10."""
    plane = np.random.default_rng(6).normal(1e-4, 1e-3, (101, 101))
    model = OpticalPsf(plane[None], ZoneGrid((1000.0,), (1000.0,)))
    x, y = 1000.05 + shift / 10, 999.95
    stamp = model.stamp(x, y, 997, 998, 7, 5)
    first_x, first_y = 45 - shift - 30, 46 - 20
    blocks = plane[first_y : first_y + 50, first_x : first_x + 70].reshape(5, 10, 7, 10).sum(axis=(1, 3))
    np.testing.assert_allclose(stamp, blocks, rtol=0, atol=1e-13)


def test_psf_is_not_broadened():
    """Width of the rendered PSF: the second moment is the true one at every phase; linear shifts add 0.0025 px²."""
    model, n = optical(NARROW), 21
    for phase in np.linspace(0, 0.1, 9):
        x, y = 1019.5 + phase, 1019.5
        x0 = y0 = 1019 - n // 2
        offsets = np.arange(x0, x0 + n) - x
        shares = model.stamp(x, y, x0, y0, n, n).sum(axis=0)
        truth = NARROW.pixels(x, y, x0, y0, n, n).sum(axis=0)
        moments = [(s * offsets**2).sum() / s.sum() - ((s * offsets).sum() / s.sum()) ** 2 for s in (shares, truth)]
        assert moments[0] == pytest.approx(moments[1], abs=2e-5)


@pytest.mark.parametrize("build", [optical, effective])
def test_middle_sample_is_the_source_whatever_the_centroid(build):
    """The core of the test PSF is 0.05 px off, its wing 0.2: the stamp keeps that."""
    model = build()
    stamp = model.stamp(1019.0, 1019.0, 1009, 1009, 21, 21)
    offsets = np.arange(-10, 11)
    truth = level2.CORE.pixels(1019.0, 1019.0, 1009, 1009, 21, 21)
    centroid = (stamp.sum(axis=0) * offsets).sum() / stamp.sum()
    assert centroid == pytest.approx((truth.sum(axis=0) * offsets).sum(), abs=1e-3)
    assert centroid < -0.05


@pytest.mark.parametrize("build", [optical, effective])
def test_pixels_outside_the_footprint_get_nothing(build):
    model = build()
    stamp = model.stamp(500.3, 600.7, 480, 580, 41, 41)
    yy, xx = np.mgrid[580:621, 480:521]
    outside = np.maximum(np.abs(xx - 500.3), np.abs(yy - 600.7)) > model.radius_px + 0.5
    assert np.abs(stamp[outside]).max() < 1e-10
    assert np.abs(model.stamp(500.3, 600.7, 5000, 5000, 3, 3)).max() < 1e-15


@pytest.mark.parametrize("build", [optical, effective])
def test_window_cuts_the_same_stamp(build):
    model = build()
    large, small = model.stamp(700.4, 31.9, 690, 22, 21, 21), model.stamp(700.4, 31.9, 693, 24, 7, 12)
    np.testing.assert_allclose(large[2:14, 3:10], small, rtol=0, atol=1e-15)


@pytest.mark.parametrize("build", [optical, effective])
def test_zones_are_blended_between_and_held_beyond_their_centres(build):
    model = build()
    xs, ys = model.zones.x_centres, model.zones.y_centres
    nx = len(xs)

    def share(x, y):
        return model.stamp(x, y, int(x) - 5, int(y) - 5, 11, 11)

    plane = model.planes[3 * nx + 2].astype(float)
    np.testing.assert_allclose(model.zones.blend(xs[2], ys[3], model.planes), plane)
    quarter = model.zones.blend(0.75 * xs[2] + 0.25 * xs[3], ys[3], model.planes)
    np.testing.assert_allclose(quarter, 0.75 * plane + 0.25 * model.planes[3 * nx + 3], atol=1e-12)
    inner = model.zones.blend(-0.5, 2039.5, model.planes)
    np.testing.assert_array_equal(inner, model.planes[(len(ys) - 1) * nx].astype(float))
    assert share(-0.4, 2039.4).sum() > 0.9


@pytest.mark.parametrize("build", [optical, effective])
def test_threads_get_the_same_stamps(build, positions):
    model = build()

    def stamp(position):
        return model.stamp(*position, round(position[0]) - 10, round(position[1]) - 10, 21, 21)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(stamp, positions))
    for position, ours in zip(positions, together, strict=True):
        np.testing.assert_array_equal(ours, stamp(position))


@pytest.mark.parametrize("build", [optical, effective])
def test_stamp_costs_a_fraction_of_a_millisecond(build):
    """Processor time, best of several runs; 0.1 ms was measured."""
    model = build()
    model.stamp(700.4, 31.9, 690, 22, 21, 21)
    runs = timeit.repeat(lambda: model.stamp(700.4, 31.9, 690, 22, 21, 21), timer=time.thread_time, number=20, repeat=5)
    assert min(runs) / 20 < 5e-4
