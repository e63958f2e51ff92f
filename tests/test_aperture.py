"""Circular apertures."""

import numpy as np
import patches
import pytest
from photutils.aperture import CircularAperture
from spxflow.aperture import circle_weights, place_aperture, raw_sum, total_sum
from spxflow.background import Background

NO_BACKGROUND = Background(0.0, 0.0, 100, "annulus")


def test_partial_pixels_are_exact():
    rng = np.random.default_rng(1)
    for _ in range(500):
        radius, (x, y) = rng.uniform(0.05, 6.0), rng.uniform(-3.0, 25.0, 2)
        expected = CircularAperture((x, y), radius).to_mask(method="exact").to_image((21, 23))
        expected = np.zeros((21, 23)) if expected is None else expected
        np.testing.assert_allclose(circle_weights(x, y, radius, (21, 23)), expected, atol=1e-11)


@pytest.mark.parametrize(("x", "y", "radius"), [(10, 10, 1.5), (10.5, 10.5, 1.5), (10.5, 10, 0.5), (10.2, 9.9, 0.1)])
def test_the_weights_add_up_to_the_circle(x, y, radius):
    assert circle_weights(x, y, radius, (21, 21)).sum() == pytest.approx(np.pi * radius**2, rel=1e-12)


def test_a_circle_off_the_image_has_no_weight():
    assert not circle_weights(-5.0, 3.0, 1.5, (21, 23)).any()


def test_error_is_the_scatter_of_sums_over_partial_pixels():
    aperture = place_aperture(10.3, 9.8, 1.3, np.zeros((21, 21), bool))
    rng = np.random.default_rng(2)
    variance = rng.uniform(0.5, 2.0, (21, 21))
    sums = [
        total_sum(aperture, rng.standard_normal((21, 21)) * np.sqrt(variance), variance, NO_BACKGROUND).value
        for _ in range(4000)
    ]
    error = total_sum(aperture, np.zeros((21, 21)), variance, NO_BACKGROUND).error
    assert error == pytest.approx(np.std(sums), rel=0.04)
    simple = raw_sum(aperture, np.zeros((21, 21)), variance, NO_BACKGROUND, simple=True)
    assert simple.error > 1.1 * error


def test_the_background_error_is_common_to_all_pixels():
    aperture = place_aperture(10.3, 9.8, 2.0, np.zeros((21, 21), bool))
    nothing = np.zeros((21, 21))
    result = total_sum(aperture, nothing, nothing, Background(0.1, 0.01, 100, "annulus"))
    area = np.pi * 2.0**2
    assert result.value == pytest.approx(-0.1 * area)
    assert result.error == pytest.approx(0.01 * area)


def test_total_flux_survives_a_masked_cosmic_ray_that_the_raw_sum_contains():
    unit = patches.ujy_per_mjysr()
    exposure = patches.altered(patches.patch([(1000.0, patches.X, patches.Y)]), image={(30, 30): 40.0})
    bad = np.zeros((patches.SIDE, patches.SIDE), bool)
    bad[30, 30] = True
    aperture = place_aperture(patches.X, patches.Y, 1.5, bad)
    sky = Background(patches.SKY_MJYSR, 0.0, 100, "annulus")
    image = exposure.image.astype(float)
    total = total_sum(aperture, image, exposure.variance.astype(float), sky).value
    raw = raw_sum(aperture, image, exposure.variance.astype(float), sky, simple=False).value
    assert total * unit / aperture.psf_fraction(patches.share()) == pytest.approx(1000.0, rel=1e-4)
    assert raw * unit > 30_000.0
    assert aperture.n_bad == 1


def test_a_pixel_without_value_makes_the_raw_sum_undefined_and_not_the_total():
    image = np.ones((21, 21))
    image[10, 10] = np.nan
    aperture = place_aperture(10.3, 9.8, 1.3, np.isnan(image))
    assert np.isnan(raw_sum(aperture, image, np.ones((21, 21)), NO_BACKGROUND, simple=False).value)
    assert np.isfinite(total_sum(aperture, image, np.ones((21, 21)), NO_BACKGROUND).value)
