"""One file in, one record out."""

import dataclasses
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import level2
import numpy as np
import patches
import pytest
import yaml
from astropy.stats import sigma_clip
from patches import OBSERVATION, X, Y, altered, patch, star, write
from photutils.aperture import CircularAperture, aperture_photometry
from spxflow import config as configuration
from spxflow import tables
from spxflow.measure import UJY_PER_ARCSEC2, measure, measure_exposure, missing_record
from spxflow.position import apparent_position, barycentric_julian_date, observer_at
from spxflow.settings import (
    ApertureSettings,
    ErrorSettings,
    NeighbourSettings,
    PhotometrySettings,
    PsfSettings,
    QualitySettings,
    ZodiSettings,
)
from spxflow.sources import Source

FLUX = 1500.0
SPXQUERY = PhotometrySettings.from_config(
    yaml.safe_load((Path(__file__).parents[1] / "config" / "spxquery.yaml").read_text(encoding="utf-8"))
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A star of known flux, with noise."""
    return write(patch([(FLUX, X, Y)], seed=7), tmp_path_factory.mktemp("data") / "star.fits")


def measured(path, source=None, settings=None, neighbours=()):
    return measure_exposure(path, source or star(), OBSERVATION, settings or PhotometrySettings(), neighbours)


# --- the record ---


def test_a_record_has_every_column_and_is_strict_json(file):
    record = measured(file)
    assert list(record) == [column.name for column in tables.COLUMNS]
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    kinds = {"text": str, "float": float, "int": int, "bool": bool, "map": dict}
    for column in tables.COLUMNS:
        assert record[column.name] is None or type(record[column.name]) is kinds[column.type], column.name


def test_the_flux_is_the_true_one(file):
    record = measured(file)
    for estimator in ("psf", "aperture"):
        flux, error = record[f"{estimator}_flux_ujy"], record[f"{estimator}_flux_err_ujy"]
        assert abs(flux - FLUX) < 3 * error
        assert FLUX / 40 < error < FLUX / 15
    assert record["aperture_raw_flux_ujy"] < 0.85 * FLUX
    assert record["aperture_raw_flux_ujy"] / record["aperture_psf_fraction"] == pytest.approx(
        record["aperture_flux_ujy"], rel=1e-9
    )


@pytest.mark.parametrize("primary", ["psf", "aperture", "aperture_raw"])
def test_the_primary_estimator_gives_the_flux(file, primary):
    record = measured(file, settings=PhotometrySettings(primary=primary))
    assert record["estimator"] == primary
    assert record["flux_ujy"] == record[f"{primary}_flux_ujy"]
    assert record["flux_err_ujy"] == record[f"{primary}_flux_err_ujy"]


@pytest.mark.parametrize(("estimator", "other"), [("psf", "aperture"), ("aperture", "psf")])
def test_only_the_estimators_asked_for_are_measured(file, estimator, other):
    record = measured(file, settings=PhotometrySettings(estimators=(estimator,), primary=estimator))
    assert record[f"{estimator}_flux_ujy"] is not None
    assert record[f"{other}_flux_ujy"] is None
    assert record["estimators_disagree"] is None


def test_place_and_time_are_in_the_record(file):
    record, exposure = measured(file), patches.base()
    assert (record["x_pix"], record["y_pix"]) == pytest.approx((X, Y), abs=1e-9)
    assert (record["x_det"], record["y_det"]) == pytest.approx((X + exposure.x0, Y + exposure.y0), abs=1e-9)
    wavelength, bandwidth = exposure.wavelength.at(X + exposure.x0, Y + exposure.y0)
    assert (record["wavelength_um"], record["bandwidth_um"]) == (float(wavelength), float(bandwidth))
    assert record["mjd"] == exposure.mjd_mid == pytest.approx(61027.215650564)
    assert record["solid_angle_arcsec2"] == pytest.approx(float(exposure.wcs.solid_angle_arcsec2(X, Y)))
    assert record["obs_id"] == OBSERVATION.obs_id
    assert record["release"] == "QR2"


def test_the_wavelength_is_that_of_the_sub_pixel_position(file):
    rows = [measured(file, star(X, y))["wavelength_um"] for y in (29.1, 29.5, 29.9)]
    assert rows[0] > rows[1] > rows[2]
    assert rows[0] - rows[1] == pytest.approx(rows[1] - rows[2], rel=1e-3)


def test_a_file_of_the_other_release_is_measured_alike(tmp_path):
    files = {release: tmp_path / f"{release}.fits" for release in ("QR2", "QR3")}
    for release, path in files.items():
        write(patch([(FLUX, X, Y)], release=release), path, release)
    records = {release: measured(path) for release, path in files.items()}
    assert [record["release"] for record in records.values()] == ["QR2", "QR3"]
    for record in records.values():
        assert record["status"] == "ok"
        assert record["psf_flux_ujy"] == pytest.approx(FLUX, rel=3e-3)
        assert record["aperture_flux_ujy"] == pytest.approx(FLUX, rel=3e-3)


def test_the_flux_does_not_depend_on_the_size_of_the_file(tmp_path):
    x0, y0, wide = 1292, 863, 130
    rng = np.random.default_rng(8)
    image = rng.normal(0.2, 0.013, (wide, wide)).astype(np.float32)
    corner = 40  # the patch's first pixel in the wide image
    image[corner : corner + 60, corner : corner + 60] = patch([(FLUX, X, Y)], seed=9).image
    flags = np.zeros((wide, wide), np.int32)
    variance = np.full((wide, wide), 0.013**2, np.float32)
    zodi = np.full((wide, wide), 0.16, np.float32)
    planes = image, flags, variance, zodi
    big = tmp_path / "big.fits"
    big.write_bytes(level2.file_bytes(level2.level2_hdus(x0=x0, y0=y0, planes=planes)))
    small = tmp_path / "small.fits"
    cut = tuple(plane[corner : corner + 60, corner : corner + 60] for plane in planes)
    small.write_bytes(level2.file_bytes(level2.level2_hdus(x0=x0 + corner, y0=y0 + corner, planes=cut)))
    ra, dec = patches.read_exposure(small).wcs.pixel_to_sky(X, Y)
    source = Source("s", "s", float(ra), float(dec))
    one, other = measured(big, source), measured(small, source)
    for key in ("psf_flux_ujy", "aperture_flux_ujy", "aperture_raw_flux_ujy", "error_scale", "zodi_scale", "x_det"):
        assert one[key] == pytest.approx(other[key], rel=1e-9), key
    assert one["x_pix"] == pytest.approx(other["x_pix"] + corner)


def test_many_threads_give_the_same_records(file):
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda _: measured(file), range(40)))
    assert all(record == records[0] for record in records)


# --- every exposure is a row ---


def test_an_exposure_that_was_not_had_has_the_same_keys():
    record = missing_record(OBSERVATION, "download_failed", "HTTP 404")
    assert list(record) == [column.name for column in tables.COLUMNS]
    assert (record["status"], record["reason"], record["flux_ujy"]) == ("download_failed", "HTTP 404", None)
    assert record["mjd"] == pytest.approx(61027.2156505)


@pytest.mark.parametrize("content", [b"", b"<html>503</html>", b"\x93\x00" * 5000])
def test_a_file_that_is_no_image_is_a_row_with_a_reason(tmp_path, content):
    path = tmp_path / "bad.fits"
    path.write_bytes(content)
    record = measured(path)
    assert record["status"] == "invalid_file"
    assert record["reason"]


def test_a_file_that_is_not_there_is_a_row_with_a_reason(tmp_path):
    assert measured(tmp_path / "none.fits")["status"] == "invalid_file"


def test_a_source_off_the_image_is_a_row(file):
    for source in (star(-0.6, 30.0), star(30.0, 59.6), star(400.0, 30.0), Source("a", "a", 190.0, -41.0)):
        record = measured(file, source)
        assert (record["status"], record["flux_ujy"]) == ("off_image", None)
    assert measured(file, star(59.4, 30.0))["status"] != "off_image"


@pytest.mark.parametrize(("x", "y"), [(0.3, 30.0), (30.0, 0.2), (59.0, 30.2), (29.8, 59.3), (0.4, 0.4)])
def test_a_source_at_the_edge_is_measured_from_what_there_is(x, y):
    record = measure(patch([(FLUX, x, y)]), star(x, y), PhotometrySettings())
    assert record["status"] == "edge"
    assert "outside" in record["reason"]
    assert record["psf_flux_ujy"] == pytest.approx(FLUX, rel=0.01)
    assert record["aperture_flux_ujy"] == pytest.approx(FLUX, rel=0.01)


@pytest.mark.parametrize("seed", range(60))
def test_wild_pixels_never_give_nan_or_a_failure(seed):
    rng = np.random.default_rng(seed)
    exposure, odd = patch([(FLUX, X, Y)], seed=seed), np.array([np.nan, np.inf, -np.inf, 0.0, 3e38, -3e38, -1.0])
    planes = {}
    for name in ("image", "variance", "zodi"):
        hit = rng.random((patches.SIDE, patches.SIDE)) < rng.choice([0.01, 0.3, 0.99, 1.0])
        planes[name] = np.where(hit, rng.choice(odd, hit.shape), getattr(exposure, name)).astype(np.float32)
    wild = dataclasses.replace(exposure, **planes)
    for settings in (PhotometrySettings(), SPXQUERY):
        record = measure(wild, star(), settings)
        json.dumps(record, allow_nan=False)
        assert (record["flux_ujy"] is None) == (record["flux_err_ujy"] is None)
        assert record["flux_ujy"] is not None or record["status"] not in ("ok", "flagged")


def test_an_unexpected_failure_is_a_row_and_is_logged(file, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr("spxflow.measure.locate", fail)
    with caplog.at_level(logging.ERROR):
        record = measured(file)
    assert record["status"] == "error"
    assert "no such luck" in record["reason"]
    assert OBSERVATION.stem in caplog.text


@pytest.mark.parametrize("seed", range(20))
def test_zero_flux_gives_signed_fluxes(seed):
    record = measure(patch(seed=seed), star(), PhotometrySettings())
    assert record["status"] == "ok"
    assert record["flux_ujy"] is not None
    assert abs(record["flux_ujy"]) < 4.5 * record["flux_err_ujy"]


# --- missing and bad pixels ---


def test_an_unflagged_missing_variance_costs_nothing():
    exposure = patch([(FLUX, X, Y)], seed=3)
    complete = measure(exposure, star(), PhotometrySettings())
    record = measure(altered(exposure, variance={(29, 30): np.nan, (31, 28): np.nan}), star(), PhotometrySettings())
    assert record["status"] == "ok"
    assert record["n_variance_repaired"] == 2
    for estimator in ("psf", "aperture"):
        assert record[f"{estimator}_flux_ujy"] == pytest.approx(complete[f"{estimator}_flux_ujy"], rel=0.01)
        assert record[f"{estimator}_flux_err_ujy"] == pytest.approx(complete[f"{estimator}_flux_err_ujy"], rel=0.15)


def test_a_missing_variance_on_the_star_is_not_that_of_the_sky():
    exposure = patch([(100_000.0, X, Y)])
    core = altered(exposure, variance={(29, 30): np.nan})
    errors = {}
    for repair in ("local", "image"):
        settings = PhotometrySettings(errors=ErrorSettings(variance_repair=repair))
        errors[repair] = measure(core, star(), settings)["aperture_flux_err_ujy"]
    complete = measure(exposure, star(), PhotometrySettings())["aperture_flux_err_ujy"]
    assert abs(errors["local"] / complete - 1.0) < abs(errors["image"] / complete - 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_without_value_is_bad_without_a_flag(value):
    record = measure(altered(patch([(FLUX, X, Y)]), image={(30, 30): value}), star(), PhotometrySettings())
    assert record["status"] == "flagged"
    assert record["flux_ujy"] == pytest.approx(FLUX, rel=2e-3)
    assert record["aperture_raw_flux_ujy"] is None


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf])
def test_a_pixel_with_an_impossible_variance_is_bad(value):
    record = measure(altered(patch([(FLUX, X, Y)]), variance={(30, 30): value}), star(), PhotometrySettings())
    assert record["aperture_n_bad"] == 1
    assert record["flux_ujy"] == pytest.approx(FLUX, rel=2e-3)


def test_the_source_flag_takes_nothing_from_the_source():
    everything = patch([(FLUX, X, Y)])
    flags = everything.flags.copy()
    flags[24:36, 24:36] |= np.uint32(patches.SOURCE)
    record = measure(dataclasses.replace(everything, flags=flags), star(), PhotometrySettings())
    assert record["status"] == "ok"
    assert record["psf_flux_ujy"] == pytest.approx(FLUX, rel=2e-3)


def test_bad_flags_are_an_option():
    exposure = altered(patch([(FLUX, X, Y)]), image={(30, 30): 9.0}, flags={(30, 30): 1 << 28})
    assert measure(exposure, star(), PhotometrySettings())["aperture_n_bad"] == 0
    for flag in ("HALO", 28):
        record = measure(exposure, star(), PhotometrySettings(bad_flags=(flag,)))
        assert record["aperture_n_bad"] == 1
        assert record["flux_ujy"] == pytest.approx(FLUX, rel=2e-3)


# --- options ---


def test_settings_come_from_the_configuration():
    config = {
        "photometry": {
            "primary": "aperture",
            "aperture": {"method": "fixed", "diameter_px": 4},
            "bad_flags": ["HOT", 3],
        },
        "errors": {"rescale": True},
        "quality": {"min_snr": 7, "statuses": ["ok"]},
    }
    settings = PhotometrySettings.from_config(config)
    assert settings.primary == "aperture"
    assert settings.aperture == ApertureSettings("fixed", 2.5, 4)
    assert settings.bad_flags == ("HOT", 3)
    assert settings.errors.rescale is True
    assert QualitySettings.from_options(config["quality"]) == QualitySettings(min_snr=7, statuses=("ok",))


def test_the_defaults_are_those_of_the_configuration():
    defaults = configuration.defaults()
    assert PhotometrySettings.from_config(defaults) == PhotometrySettings()
    assert QualitySettings.from_options(defaults["quality"]) == QualitySettings()


def test_the_reference_systems_method_is_a_valid_configuration():
    given = yaml.safe_load((Path(__file__).parents[1] / "config" / "spxquery.yaml").read_text(encoding="utf-8"))
    assert PhotometrySettings.from_config(configuration.complete(given)) == SPXQUERY


def test_the_aperture_follows_the_width_of_the_psf_or_is_fixed():
    exposure = patch([(FLUX, X, Y)])
    pixel = np.sqrt(float(exposure.solid_angle_arcsec2(X, Y)))
    by_width = measure(exposure, star(), PhotometrySettings(aperture=ApertureSettings(diameter_fwhm=3.0)))
    assert by_width["aperture_radius_px"] == pytest.approx(1.5 * exposure.psf_fwhm_arcsec / pixel)
    fixed = PhotometrySettings(aperture=ApertureSettings(method="fixed", diameter_px=5.0))
    assert measure(exposure, star(), fixed)["aperture_radius_px"] == 2.5


@pytest.mark.parametrize("diameter", [2.0, 2.4, 3.0, 4.5, 6.0, 12.0])
def test_the_corrected_flux_does_not_depend_on_the_aperture(diameter):
    settings = PhotometrySettings(aperture=ApertureSettings("fixed", diameter_px=diameter))
    record = measure(patch([(FLUX, X, Y)]), star(), settings)
    assert record["aperture_flux_ujy"] == pytest.approx(FLUX, rel=3e-3)


@pytest.mark.parametrize(("subtract", "scale"), [("scaled", 1.2), ("as_is", 1.0), ("none", 0.0)])
def test_zodiacal_light(subtract, scale):
    settings = PhotometrySettings(zodi=ZodiSettings(subtract=subtract))
    record = measure(patch([(FLUX, X, Y)]), star(), settings)
    assert record["zodi_scale"] == pytest.approx(scale, rel=1e-3)
    assert record["flux_ujy"] == pytest.approx(FLUX, rel=2e-3)
    left = patches.SKY_MJYSR * (1.0 - scale / 1.2)
    assert record["background_mjysr"] == pytest.approx(left, abs=3e-4)


def test_the_zodiacal_scale_is_not_biased_by_the_noise_of_the_weights():
    scales = {weights: [] for weights in ("uniform", "inverse_variance")}
    for seed in range(20):
        for weights, found in scales.items():
            settings = PhotometrySettings(zodi=ZodiSettings(weights=weights))
            found.append(measure(patch(seed=seed), star(), settings)["zodi_scale"])
    assert np.mean(scales["uniform"]) == pytest.approx(1.2, rel=2e-4)
    assert np.mean(scales["inverse_variance"]) < 1.2 * (1.0 - 1e-3)


def test_a_zodiacal_scale_out_of_its_limits_is_one():
    settings = PhotometrySettings(zodi=ZodiSettings(scale_min=0.5, scale_max=1.1))
    assert measure(patch(), star(), settings)["zodi_scale"] == 1.0


def test_rescaled_errors_are_the_real_scatter():
    exposures = [patch([(FLUX, X, Y)], seed=seed, noise=1.4) for seed in range(150)]
    pulls = {}
    for rescale in (False, True):
        settings = PhotometrySettings(errors=ErrorSettings(rescale=rescale))
        records = [measure(exposure, star(), settings) for exposure in exposures]
        pulls[rescale] = np.std([(record["flux_ujy"] - FLUX) / record["flux_err_ujy"] for record in records])
        assert np.mean([record["error_scale"] for record in records]) == pytest.approx(1.4, rel=0.05)
    assert pulls[False] > 1.2
    assert pulls[True] == pytest.approx(1.0, abs=0.13)


def test_stars_that_are_off_their_place_can_be_followed():
    shifted = patch([(FLUX, X + 0.3, Y - 0.2)])
    follows = PhotometrySettings(psf=PsfSettings(offset_px=(0.3, -0.2)))
    assert measure(shifted, star(), follows)["psf_flux_ujy"] == pytest.approx(FLUX, rel=2e-3)
    assert measure(shifted, star(), PhotometrySettings())["psf_flux_ujy"] < 0.97 * FLUX


def test_the_solid_angle_has_the_distortion_unless_told_otherwise():
    exposure = patch([(FLUX, X, Y)])
    local = measure(exposure, star(), PhotometrySettings())["solid_angle_arcsec2"]
    plane = measure(exposure, star(), PhotometrySettings(solid_angle="plane"))["solid_angle_arcsec2"]
    assert local == pytest.approx(float(exposure.wcs.solid_angle_arcsec2(X, Y)))
    assert plane == pytest.approx(37.888, abs=0.002)
    assert local != pytest.approx(plane, rel=1e-4)


def test_estimators_disagree_where_something_else_shines():
    records = [measure(patch([(FLUX, X, Y)], seed=seed), star(), PhotometrySettings()) for seed in range(100)]
    assert not any(record["estimators_disagree"] for record in records)
    contaminated = altered(patch([(FLUX, X, Y)], seed=1), image={(30, 31): 2.0})
    assert measure(contaminated, star(), PhotometrySettings())["estimators_disagree"] is True


@pytest.mark.parametrize("method", ["fwhm", "fixed"])
def test_the_method_of_the_reference_system(method):
    """config/spxquery.yaml, against the same steps done with photutils and astropy."""
    settings = dataclasses.replace(SPXQUERY, aperture=dataclasses.replace(SPXQUERY.aperture, method=method))
    exposure = altered(patch([(FLUX, X, Y)], seed=4), variance={(29, 30): np.nan}, flags={(33, 31): patches.OUTLIER})
    record = measure(exposure, star(), settings)

    sky = (exposure.flags & np.uint32(patches.SOURCE | patches.OUTLIER)) == 0
    variance = np.where(np.isnan(exposure.variance), np.nanmedian(exposure.variance), exposure.variance).astype(float)
    image, zodi = exposure.image.astype(float), exposure.zodi.astype(float)
    scale = (image * zodi / variance)[sky].sum() / (zodi**2 / variance)[sky].sum()
    image -= scale * zodi
    (cd11, cd12), (cd21, cd22) = exposure.wcs.cd
    area = np.hypot(cd11, cd21) * np.hypot(cd12, cd22) * 3600.0**2
    radius = 1.5 if method == "fixed" else 1.25 * exposure.psf_fwhm_arcsec / np.sqrt(area)
    rows, columns = np.mgrid[: patches.SIDE, : patches.SIDE]
    distance = np.hypot(columns - X, rows - Y)
    inner = radius + 1.414
    outer = min(np.sqrt(10 / np.pi + inner**2), 5.0)
    while ((distance >= inner) & (distance <= outer) & sky).sum() < 10:
        outer += 0.5
    ring = image[(distance >= inner) & (distance <= outer) & sky]
    kept = sigma_clip(ring, sigma=3, maxiters=3, cenfunc="mean", stdfunc="std", masked=False)
    phot = aperture_photometry(image, CircularAperture((X, Y), radius))
    # as photutils before 3.1, which the reference system uses: partial pixels count by their weight, not its square
    weights = CircularAperture((X, Y), radius).to_mask("exact").to_image(image.shape)
    photon_error = np.sqrt((weights * variance).sum())
    flux = phot["aperture_sum"][0] - np.median(kept) * np.pi * radius**2
    error = np.hypot(photon_error, kept.std() / np.sqrt(ring.size) * np.pi * radius**2)
    unit = UJY_PER_ARCSEC2 * area
    assert record["flux_ujy"] == record["aperture_raw_flux_ujy"] == pytest.approx(flux * unit, rel=1e-6)
    assert record["flux_err_ujy"] == pytest.approx(error * unit, rel=1e-6)
    assert record["zodi_scale"] == pytest.approx(scale, rel=1e-9)


# --- positions and times ---


def test_proper_motion_moves_the_pixel():
    still, moving = star(), star(pmra_masyr=3000.0, pmdec_masyr=-2000.0, epoch_yr=2016.0)
    exposure = patch()
    one, other = (measure(exposure, source, PhotometrySettings()) for source in (still, moving))
    years = (exposure.mjd_mid - 57388.5) / 365.25
    assert (other["dec_deg"] - one["dec_deg"]) * 3600.0 == pytest.approx(-2.0 * years, rel=1e-4)
    assert np.hypot(other["x_pix"] - one["x_pix"], other["y_pix"] - one["y_pix"]) == pytest.approx(
        np.hypot(3.0, 2.0) * years / 6.15, rel=0.03
    )


@pytest.mark.parametrize("arcsec_a_year", [10.0, 27.5, 80.0])
def test_a_star_that_has_left_its_catalogue_position_is_measured_with_all_its_surroundings(file, arcsec_a_year):
    """The file is centred on where it is: from its catalogue position it has gone 16, 45 and 130 pixels."""
    years = (OBSERVATION.mjd_mid - 57388.5) / 365.25
    there = star()
    moving = dataclasses.replace(there, dec_deg=there.dec_deg - arcsec_a_year * years / 3600.0, epoch_yr=2016.0)
    moving = dataclasses.replace(moving, pmdec_masyr=1000.0 * arcsec_a_year)
    one, other = measured(file), measured(file, moving)
    assert (other["x_pix"], other["y_pix"]) == pytest.approx((X, Y), abs=0.01)
    assert other["status"] == one["status"]
    assert other["flux_ujy"] == pytest.approx(one["flux_ujy"], rel=1e-3)
    assert other["background_n_pixels"] == one["background_n_pixels"]
    assert other["zodi_scale"] == pytest.approx(one["zodi_scale"], rel=1e-9)


@pytest.mark.parametrize("mjd", [60800.0, 60893.3, 61100.7])
def test_position_and_barycentric_date_are_those_of_astropy(mjd):
    from astropy import units
    from astropy.coordinates import EarthLocation, SkyCoord, get_body_barycentric
    from astropy.time import Time

    source = Source("b", "b", 269.452, 4.694, -801.551, 10362.394, 546.976, 2016.0)  # Barnard's star
    time = Time(mjd, format="mjd", scale="utc", location=EarthLocation.from_geocentric(0, 0, 0, unit="m"))
    observer = observer_at(mjd)
    earth = get_body_barycentric("earth", time, ephemeris="builtin").xyz.to_value("au")
    np.testing.assert_allclose(observer.barycentric_au, earth, atol=1e-6)

    at_epoch = SkyCoord(
        source.ra_deg * units.deg,
        source.dec_deg * units.deg,
        distance=1000.0 / source.parallax_mas * units.pc,
        pm_ra_cosdec=source.pmra_masyr * units.mas / units.yr,
        pm_dec=source.pmdec_masyr * units.mas / units.yr,
        obstime=Time(2016.0, format="jyear"),
    )
    moved = at_epoch.apply_space_motion(time)
    relative = moved.cartesian.xyz.to_value("au") - earth
    seen = SkyCoord(*relative, representation_type="cartesian").spherical
    ra, dec = apparent_position(source, observer)
    assert ra == pytest.approx(seen.lon.deg, abs=2e-6)  # 0.007 arcsec, a thousandth of a pixel
    assert dec == pytest.approx(seen.lat.deg, abs=2e-6)

    there = SkyCoord(ra * units.deg, dec * units.deg)
    expected = (time.tdb + time.light_travel_time(there, ephemeris="builtin")).jd
    assert barycentric_julian_date(observer, ra, dec) == pytest.approx(expected, abs=0.01 / 86400.0)


def test_the_spacecraft_is_not_where_the_earth_is():
    there = observer_at(60800.0, (6800.0, 0.0, 0.0))
    assert (there.barycentric_au - observer_at(60800.0).barycentric_au)[0] * 149597870.7 == pytest.approx(6800.0)


# --- neighbours ---


def test_neighbours_are_fitted_and_reported():
    exposure = patch([(FLUX, X, Y), (3.0 * FLUX, X + 1.5, Y + 0.4)])
    neighbour = star(X + 1.5, Y + 0.4)
    unaware = measure(exposure, star(), PhotometrySettings())
    assert unaware["fracflux"] is None
    assert unaware["flux_ujy"] > 1.1 * FLUX
    fitted = measure(exposure, star(), PhotometrySettings(), [neighbour])
    assert fitted["psf_flux_ujy"] == pytest.approx(FLUX, rel=3e-3)
    assert fitted["aperture_flux_ujy"] == pytest.approx(FLUX, rel=3e-3)
    assert fitted["is_blended"] is True
    reported = PhotometrySettings(neighbours=NeighbourSettings(fit=False))
    told = measure(exposure, star(), reported, [neighbour])
    assert told["psf_flux_ujy"] == pytest.approx(unaware["psf_flux_ujy"], rel=1e-9)
    assert told["fracflux"] == pytest.approx(fitted["fracflux"], rel=1e-6)
    assert told["is_blended"] is True


def test_a_far_neighbour_is_no_blend():
    record = measure(patch([(FLUX, X, Y)]), star(), PhotometrySettings(), [star(X + 20.0, Y)])
    assert (record["fracflux"], record["is_blended"]) == (0.0, False)


def test_the_target_in_its_own_list_of_neighbours_does_no_harm():
    record = measure(patch([(FLUX, X, Y)]), star(), PhotometrySettings(), [star()])
    assert record["flux_ujy"] == pytest.approx(FLUX, rel=2e-3)
    assert record["is_blended"] is False
