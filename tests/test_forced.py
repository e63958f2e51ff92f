"""Forced PSF photometry."""

import dataclasses

import numpy as np
import patches
import pytest
from patches import X, Y, patch, scene_of, share, ujy_per_mjysr
from spxflow.forced import fit_psf, masked_fraction
from spxflow.noise import blank_sky_scale
from spxflow.settings import BackgroundSettings, PhotometrySettings, PsfSettings, ZodiSettings

PSF = PsfSettings()
CLIPPING = BackgroundSettings()
NO_ZODI = PhotometrySettings(zodi=ZodiSettings(subtract="none"))


def fit(exposure, neighbours=(), psf=PSF):
    scene = scene_of(exposure, settings=NO_ZODI)
    profile = scene.profile(exposure, scene.x, scene.y)
    placed = [
        (x - X + scene.x, y - Y + scene.y, scene.profile(exposure, x - X + scene.x, y - Y + scene.y))
        for x, y in neighbours
    ]
    return fit_psf(scene, profile, placed, psf, CLIPPING)


def fluxes_and_errors(flux, seeds, **options):
    fits = [fit(patch([(flux, X, Y)], seed=seed, **options)) for seed in seeds]
    return np.array([f.flux for f in fits]) * ujy_per_mjysr(), np.array([f.error for f in fits]) * ujy_per_mjysr()


def test_without_noise_the_flux_is_the_true_one():
    for flux in (-200.0, 0.0, 1000.0, 100_000.0):
        result = fit(patch([(flux, X, Y)]))
        assert result.flux * ujy_per_mjysr() == pytest.approx(flux, rel=2e-4, abs=0.05)
        assert result.background == pytest.approx(patches.SKY_MJYSR, rel=2e-3)


def test_a_plane_takes_a_slope_out_of_sky_and_flux():
    sloping = patch([(1000.0, X, Y)], slope=(4e-3, -2e-3))
    # Half of the surroundings are flagged, so that the slope does not cancel.
    flags = sloping.flags.copy()
    flags[:, :27] |= np.uint32(patches.OUTLIER)
    sloping = dataclasses.replace(sloping, flags=flags)
    plane = fit(sloping, psf=PsfSettings(background="plane"))
    constant = fit(sloping)
    assert plane.flux * ujy_per_mjysr() == pytest.approx(1000.0, rel=1e-3)
    assert plane.background == pytest.approx(patches.SKY_MJYSR, rel=1e-3)
    assert abs(constant.flux * ujy_per_mjysr() - 1000.0) > 10.0


@pytest.mark.parametrize("flux", [0.0, 150.0, 2500.0])
def test_fluxes_are_unbiased_and_errors_are_the_scatter(flux):
    fluxes, errors = fluxes_and_errors(flux, range(800))
    pulls = (fluxes - flux) / errors
    assert np.mean(fluxes - flux) == pytest.approx(0.0, abs=0.12 * errors.mean())
    assert abs(np.mean(pulls)) < 0.1
    assert 0.93 < np.std(pulls) < 1.07
    assert np.std(fluxes) < 1.1 * patches.best_error_ujy(flux)


def test_weights_from_the_noisy_pixels_would_be_biased():
    """What the weights here avoid: the same data, weighted by VARIANCE, give fluxes that are too low."""
    flux, biased = 300.0, []
    for seed in range(500):
        exposure = patch([(flux, X, Y)], seed=seed)
        data, weights = exposure.image.astype(float) - patches.SKY_MJYSR, 1.0 / exposure.variance.astype(float)
        biased.append((weights * share() * data).sum() / (weights * share() ** 2).sum() * ujy_per_mjysr())
    ours, _ = fluxes_and_errors(flux, range(500))
    difference = ours - biased
    assert difference.mean() > 2.0 + 3.0 * difference.std() / np.sqrt(500)
    assert np.mean(ours) == pytest.approx(flux, rel=0.01)


def test_errors_hold_where_the_variance_does_not_follow_the_pixel_noise():
    fluxes, errors = fluxes_and_errors(2500.0, range(500), variance_follows_pixel=False)
    pulls = (fluxes - 2500.0) / errors
    assert abs(np.mean(pulls)) < 0.1
    assert 0.92 < np.std(pulls) < 1.08


def test_a_flagged_spike_in_the_core_is_left_out():
    plain, spiked = [], []
    for seed in range(60):
        exposure = patch([(1000.0, X, Y)], seed=seed)
        bad = patches.altered(exposure, image={(29, 30): 40.0}, flags={(29, 30): patches.OUTLIER})
        plain.append(fit(exposure))
        spiked.append(fit(bad))
    pulls = np.array([(f.flux * ujy_per_mjysr() - 1000.0) / (f.error * ujy_per_mjysr()) for f in spiked])
    assert np.abs(pulls).max() < 4.0
    assert np.std(pulls) < 1.25
    assert spiked[0].error > 1.3 * plain[0].error


def test_the_masked_fraction_is_the_light_on_bad_pixels():
    exposure = patches.altered(patch(), flags={(29, 30): patches.OUTLIER, (50, 50): patches.OUTLIER})
    scene = scene_of(exposure)
    profile = scene.profile(exposure, scene.x, scene.y)
    within = (np.arange(60)[None, :] - X) ** 2 + (np.arange(60)[:, None] - Y) ** 2 <= 16.0
    expected = share()[30, 29] / share()[within].sum()
    assert masked_fraction(scene, profile, 4.0) == pytest.approx(expected, rel=1e-3)


def test_too_few_pixels_give_no_fit():
    exposure = patch([(1000.0, X, Y)])
    flags = np.full_like(exposure.flags, patches.OUTLIER)
    flags[29:31, 29:31] = 0
    assert fit(dataclasses.replace(exposure, flags=flags)) is None


def test_chi_square_tells_a_wrong_profile():
    good = [fit(patch([(2500.0, X, Y)], seed=seed)).chi2_dof for seed in range(100)]
    wrong = fit(patch([(5000.0, X + 0.6, Y)], seed=1)).chi2_dof
    assert np.mean(good) == pytest.approx(1.0, abs=0.06)
    assert wrong > 2.0


@pytest.mark.parametrize("separation", [0.6, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("ratio", [0.2, 1.0, 5.0])
def test_a_neighbour_fitted_along_takes_nothing(separation, ratio):
    flux = 1500.0
    pair = [(flux, X, Y), (ratio * flux, X + 0.8 * separation, Y - 0.6 * separation)]
    together = fit(patch(pair), neighbours=[pair[1][1:]])
    assert together.flux * ujy_per_mjysr() == pytest.approx(flux, rel=2e-3)
    assert together.fluxes[1] * ujy_per_mjysr() == pytest.approx(ratio * flux, rel=2e-3)
    own, other = share(), share(*pair[1][1:])
    assert together.fracflux == pytest.approx(ratio * (own * other).sum() / (own**2).sum(), rel=0.02)


def test_the_error_of_a_blend_includes_what_cannot_be_told_apart():
    neighbour = (X + 0.7, Y)
    pairs = [fit(patch([(1500.0, X, Y), (1500.0, *neighbour)], seed=seed), [neighbour]) for seed in range(300)]
    pulls = [(f.flux * ujy_per_mjysr() - 1500.0) / (f.error * ujy_per_mjysr()) for f in pairs]
    assert np.std(pulls) == pytest.approx(1.0, abs=0.1)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.15)


def test_the_fluxes_are_the_linear_functions_they_say_they_are():
    exposure = patch([(1500.0, X, Y)], seed=3)
    result = fit(exposure, [(X + 2.0, Y)])
    image = scene_of(exposure, settings=NO_ZODI).image
    np.testing.assert_allclose(result.influence @ image.flat[result.pixels], result.fluxes, rtol=1e-10)


def test_a_neighbour_at_the_very_place_has_no_solution():
    assert fit(patch([(1500.0, X, Y)]), [(X, Y)]) is None


def test_sources_beyond_the_core_do_not_raise_the_sky():
    field = [(1000.0, X, Y)] + [(3000.0, X + 6.0 * np.cos(a), Y + 6.0 * np.sin(a)) for a in (0.3, 2.0, 4.1)]
    result = fit(patch(field))
    assert result.flux * ujy_per_mjysr() == pytest.approx(1000.0, rel=0.01)


@pytest.mark.parametrize("noise", [1.0, 1.4])
def test_blank_sky_shows_how_much_the_variance_under_reports(noise):
    scales = [blank_sky_scale(scene_of(patch(seed=seed, noise=noise)), 1.06) for seed in range(30)]
    assert np.mean(scales) == pytest.approx(noise, rel=0.03)
    assert np.std(scales) < 0.1 * noise


def test_blank_sky_needs_blank_sky():
    exposure = patch(seed=1)
    crowded = dataclasses.replace(exposure, flags=np.full_like(exposure.flags, patches.SOURCE))
    assert blank_sky_scale(scene_of(crowded), 1.06) is None
