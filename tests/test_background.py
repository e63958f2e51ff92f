"""The local background and its ladder of fallbacks."""

import dataclasses

import numpy as np
import patches
import pytest
from astropy.stats import sigma_clip
from spxflow.background import clip, find_pixels, measure
from spxflow.measure import measure as measure_exposure_at_hand
from spxflow.settings import BackgroundSettings, PhotometrySettings, ZodiSettings

RADIUS = 1.06
SMALL_ANNULUS = BackgroundSettings(min_area_px=10, min_pixels=10, max_radius_px=5, step_px=0.5)


def surroundings(sky=None, good=None, x=29.3, y=29.7):
    """A scene of sky pixels, unless some are named that are not."""
    everything = np.ones((patches.SIDE, patches.SIDE), bool)
    scene = patches.scene_of(patches.patch(), x, y)
    return dataclasses.replace(scene, sky=everything if sky is None else sky, good=everything if good is None else good)


def test_clipping_is_about_the_mean():
    values = np.concatenate([np.random.default_rng(3).normal(5.0, 1.0, 300), [12.0, 30.0, -20.0]])
    expected = ~sigma_clip(values, sigma=3, maxiters=3, cenfunc="mean", stdfunc="std").mask
    np.testing.assert_array_equal(clip(values, 3.0, 3), expected)
    assert not clip(values, 3.0, 3)[-2:].any()


def test_clipping_leaves_equal_values_and_few_values_alone():
    assert clip(np.full(5, 0.3), 3.0, 3).all()
    assert clip(np.array([1.0]), 3.0, 3).all()


def test_the_error_of_the_level_is_its_scatter():
    rng = np.random.default_rng(4)
    results = [measure(rng.normal(0.2, 0.013, 150), "annulus", BackgroundSettings(), False) for _ in range(3000)]
    pulls = [(result.level - 0.2) / result.error for result in results]
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.06)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.06)


def test_unflagged_stars_and_cosmic_rays_hardly_move_the_level():
    rng = np.random.default_rng(5)
    values = rng.normal(0.2, 0.013, 150)
    spiked = values.copy()
    spiked[:5] += 3.0
    level = measure(spiked, "annulus", BackgroundSettings(), False).level
    assert level == pytest.approx(measure(values, "annulus", BackgroundSettings(), False).level, abs=1e-3)


def test_the_annulus_has_the_area_asked_for():
    pixels, step = find_pixels(surroundings(), RADIUS, BackgroundSettings(min_area_px=150))
    assert step == "annulus"
    assert pixels.size == pytest.approx(150, abs=12)
    assert surroundings().radius2.flat[pixels].min() >= (RADIUS + 1.414) ** 2


def test_the_annulus_is_widened_until_it_has_enough_pixels():
    around = surroundings()
    sky = around.radius2 > 4.0**2  # nothing usable further in
    pixels, step = find_pixels(dataclasses.replace(around, sky=sky), RADIUS, SMALL_ANNULUS)
    assert step.startswith("annulus+")
    assert pixels.size >= 10
    assert around.radius2.flat[pixels].max() <= 5.0**2


@pytest.mark.parametrize(
    ("crowded_to_px", "fallbacks", "step"),
    [
        (8.0, ("window", "window_sources"), "window"),
        (99.0, ("window", "window_sources"), "window_sources"),
        (99.0, ("sources", "few"), "sources"),
    ],
)
def test_the_ladder_of_fallbacks(crowded_to_px, fallbacks, step):
    around = surroundings()
    around = dataclasses.replace(around, sky=around.radius2 > crowded_to_px**2)
    settings = dataclasses.replace(SMALL_ANNULUS, fallbacks=fallbacks)
    assert find_pixels(around, RADIUS, settings)[1] == step


@pytest.mark.parametrize(("x", "limit"), [(29.3, {"max_radius_px": 3.6}), (29.3, {"tries": 2}), (3.6, {})])
def test_sources_are_let_in_whatever_has_ended_the_widening(x, limit):
    """The largest radius, the number of tries, or the edge of the image."""
    around = dataclasses.replace(surroundings(x=x), sky=np.zeros((60, 60), bool))
    settings = dataclasses.replace(SMALL_ANNULUS, fallbacks=("sources", "few"), **limit)
    pixels, step = find_pixels(around, RADIUS, settings)
    assert step == "sources"
    assert around.radius2.flat[pixels].max() <= 3.7**2


def test_a_few_pixels_are_taken_only_where_that_is_allowed():
    around = surroundings()
    few = np.zeros((60, 60), bool)
    few[30, 33] = few[27, 27] = True
    around = dataclasses.replace(around, sky=few, good=few)
    pixels, step = find_pixels(around, RADIUS, dataclasses.replace(SMALL_ANNULUS, fallbacks=("sources", "few")))
    assert (step, pixels.size) == ("few", 2)
    assert find_pixels(around, RADIUS, BackgroundSettings()) is None


def test_no_pixel_at_all_is_no_background_and_not_a_background_of_zero():
    nothing = np.zeros((60, 60), bool)
    around = surroundings(sky=nothing, good=nothing)
    assert find_pixels(around, RADIUS, dataclasses.replace(SMALL_ANNULUS, fallbacks=("sources", "few"))) is None


def test_the_window_is_a_square_without_the_aperture():
    pixels, step = find_pixels(surroundings(), 2.0, BackgroundSettings(method="window", window_px=20))
    rows, columns = np.divmod(pixels, 60)
    assert step == "window"
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (19, 39, 19, 39)
    assert surroundings().radius2.flat[pixels].min() > (2.0 + 0.7) ** 2


def test_near_the_edge_the_annulus_stays_on_the_image():
    around = surroundings(x=4.5, y=29.0)
    pixels, _ = find_pixels(around, RADIUS, BackgroundSettings(min_pixels=10))
    assert around.radius2.flat[pixels].max() <= 4.5**2


@pytest.mark.parametrize("method", ["annulus", "window"])
def test_the_level_follows_a_sloping_sky(method):
    exposure = patches.patch(slope=(2e-3, -1e-3))
    settings = PhotometrySettings(background=BackgroundSettings(method=method), zodi=ZodiSettings(subtract="none"))
    record = measure_exposure_at_hand(exposure, patches.star(), settings)
    assert record["background_mjysr"] == pytest.approx(patches.SKY_MJYSR, abs=1e-3)


@pytest.mark.parametrize(("removed", "flux_range"), [(True, (0.999, 1.001)), (False, (0.9, 0.997))])
def test_the_light_of_the_source_itself_is_taken_out_of_its_background(removed, flux_range):
    bright = patches.patch([(50_000.0, patches.X, patches.Y)])
    unflagged = dataclasses.replace(bright, flags=np.zeros_like(bright.flags))
    close = BackgroundSettings(gap_px=0.0, min_area_px=20.0, min_pixels=10, remove_source=removed)
    settings = PhotometrySettings(background=close, zodi=ZodiSettings(subtract="none"))
    flux = measure_exposure_at_hand(unflagged, patches.star(), settings)["aperture_flux_ujy"]
    assert flux_range[0] < flux / 50_000.0 < flux_range[1]
