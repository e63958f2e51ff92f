"""Stamps of exposures and the quality sheet made of them."""

import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from conftest import REPOSITORY
from level2 import CORE, file_bytes, level2_hdus
from matplotlib.patches import Circle
from records import SOURCE, missing
from spxflow import config
from spxflow.measure import UJY_PER_ARCSEC2, describe_file, measure
from spxflow.mef import read_exposure
from spxflow.plots import save
from spxflow.plots_qa import QaSettings, choose, exposure_name, qa_figure
from spxflow.quality import judge
from spxflow.scene import cut_out
from spxflow.settings import PhotometrySettings, PsfSettings, QualitySettings
from spxflow.sources import Source
from spxflow.stamps import make_stamp
from spxflow.tables import empty_record

sys.path.insert(0, str(REPOSITORY))
from scripts import draw_qa_sheet

SKY, ZODI, NOISE, PEAK_FLUX = 0.05, 0.15, 0.005, 3000.0
METHOD = PhotometrySettings()


def observed(x, y, seed=0, size=60):
    """A star of 3,000 µJy at pixel (x, y) of a cutout with sky and noise, one dead pixel beside it; file and record."""
    rng = np.random.default_rng(seed)
    share = CORE.pixels(1292 + x, 863 + y, 1292, 863, size, size)
    image = SKY + ZODI + rng.normal(0, NOISE, (size, size)) + PEAK_FLUX / (UJY_PER_ARCSEC2 * 37.86) * share
    flags = np.full((size, size), 1 << 21)
    flags[rng.random((size, size)) < 0.5] = 0
    flags[min(round(y) + 2, size - 1), round(x)] = 1 << 6
    variance = np.full((size, size), NOISE**2)
    planes = [
        plane.astype(kind)
        for plane, kind in (
            (image, np.float32),
            (flags, np.int32),
            (variance, np.float32),
            (np.full_like(image, ZODI), np.float32),
        )
    ]
    content = file_bytes(level2_hdus(planes=planes))
    exposure = read_exposure(content)
    source = Source("star", "star", *(float(value) for value in exposure.wcs.pixel_to_sky(x, y)))
    record = empty_record() | {"obs_id": "2025W25_1B_0062_1", "band": "D3", "status": "ok", "reason": ""}
    record |= describe_file(exposure) | measure(exposure, source, METHOD)
    return content, judge(record, QualitySettings())


@pytest.fixture(scope="module")
def star():
    return observed(29.3, 30.1)


def stamp_of(observed_star, size=15):
    content, record = observed_star
    return make_stamp(read_exposure(content), record, METHOD.bad_flags, size)


# --- stamps ------------------------------------------------------------------------------------


def test_the_source_is_in_the_middle_and_its_flux_in_model_and_image(star):
    stamp = stamp_of(star)
    assert stamp.image.shape == stamp.model.shape == stamp.masked.shape == (15, 15)
    assert (stamp.x, stamp.y) == pytest.approx((7.3, 7.1), abs=1e-6)
    unit = UJY_PER_ARCSEC2 * star[1]["solid_angle_arcsec2"]
    assert stamp.model.sum() * unit == pytest.approx(PEAK_FLUX, rel=0.02)
    assert stamp.image.sum() * unit == pytest.approx(PEAK_FLUX, rel=0.05)


def test_the_residual_is_noise(star):
    stamp = stamp_of(star)
    used = stamp.residual[~stamp.masked]
    assert abs(used.mean()) < 0.2 * NOISE
    assert used.std() == pytest.approx(NOISE, rel=0.2)
    assert stamp.noise == pytest.approx(NOISE, rel=0.25)


def test_bad_pixels_are_masked_and_the_source_flag_is_not(star):
    stamp = stamp_of(star)
    assert [tuple(place) for place in np.argwhere(stamp.masked)] == [(9, 7)]


@pytest.mark.parametrize(("variance", "is_masked"), [(0.0, True), (-1e-5, True), (np.inf, True), (np.nan, False)])
def test_pixels_are_masked_by_their_variance_as_in_the_measurement(star, variance, is_masked):
    content, record = star
    exposure = read_exposure(content)
    planes = exposure.variance.copy()
    planes[28, 31] = variance
    changed = replace(exposure, variance=planes)
    stamp = make_stamp(changed, record, METHOD.bad_flags, 15)
    assert stamp.masked[28 - 30 + 7, 31 - 29 + 7] == is_masked
    scene = cut_out(changed, 29.3, 30.1, METHOD)
    first_x, first_y = (record["x_det"] - stamp.x - scene.x_det0, record["y_det"] - stamp.y - scene.y_det0)
    same = np.s_[round(first_y) : round(first_y) + 15, round(first_x) : round(first_x) + 15]
    assert np.array_equal(stamp.masked, ~scene.good[same])


def test_the_model_is_where_the_measurement_has_it():
    """A star beside its WCS position: measured and drawn with the offset, nothing of it is left."""
    offset = (0.4, -0.3)
    content, record = observed(29.3 + offset[0], 30.1 + offset[1])
    exposure = read_exposure(content)
    source = Source("star", "star", *(float(value) for value in exposure.wcs.pixel_to_sky(29.3, 30.1)))
    record = record | measure(exposure, source, PhotometrySettings(psf=PsfSettings(offset_px=offset)))
    with_offset = make_stamp(exposure, record, METHOD.bad_flags, 15, offset)
    without = make_stamp(exposure, record, METHOD.bad_flags, 15)
    assert (with_offset.x, with_offset.y) == (without.x, without.y) == pytest.approx((7.3, 7.1), abs=1e-6)
    assert with_offset.residual[~with_offset.masked].std() == pytest.approx(NOISE, rel=0.2)
    assert without.residual[~without.masked].std() > 5 * NOISE


def test_sheet_and_report_draw_the_model_with_the_offset_configured(star, tmp_path):
    content, record = star
    options = config.defaults()
    options["photometry"]["psf"]["offset_px"] = [0.4, -0.3]
    drawn = read_stamp(content, record, tmp_path, options)
    expected = make_stamp(read_exposure(content), record, METHOD.bad_flags, 15, (0.4, -0.3))
    np.testing.assert_allclose(drawn.model, expected.model, atol=1e-9)
    assert np.abs(drawn.model - stamp_of(star).model).max() > 0.1 * expected.model.max()


def test_outside_the_image_there_is_nothing():
    stamp = stamp_of(observed(2.0, 30.0))
    assert np.isnan(stamp.image[:, :5]).all()
    assert stamp.masked[:, :5].all()
    assert np.isfinite(stamp.image[:, 5:]).all()


def read_stamp(content, record, directory, options):
    """The stamp as the sheet and the report read it, from a file in the directory of a source."""
    stem = "level2_2025W25_1B_0062_1D3_spx_l2b-v20-2025-200"
    if content is not None:
        (directory / "data" / "D3").mkdir(parents=True)
        (directory / "data" / "D3" / f"{stem}.fits").write_bytes(content)
    return draw_qa_sheet.read_stamp(record | {"file": f"{stem}.fits"}, options, str(directory), 15)


def test_stamps_are_read_from_files(star, tmp_path):
    content, record = star
    stamp = read_stamp(content, record, tmp_path, config.defaults())
    assert np.array_equal(stamp.image, stamp_of(star).image)
    for broken in (None, content[:5000]):
        assert read_stamp(broken, record, tmp_path / str(broken is None), config.defaults()) is None


@pytest.mark.parametrize("status", ["download_failed", "invalid_file", "no_calibration"])
def test_an_exposure_without_a_measurement_is_shown_without_a_stamp(tmp_path, status):
    """And no calibration is looked for: of which release is not known."""
    record = missing(status, detector=1)
    assert read_stamp(None, record, tmp_path, config.complete({"calibration": {"wavelength": "map"}})) is None


# --- the sheet ---------------------------------------------------------------------------------


def figure(star, **options):
    settings = QaSettings(**options)
    return qa_figure([(star[1], stamp_of(star, settings.stamp_px))], SOURCE, settings)


def panel(drawn, label):
    return next(axes for axes in drawn.axes if axes.get_label() == label)


def said(drawn):
    return "\n".join(text.get_text() for axes in drawn.axes for text in axes.texts) + "\n".join(
        text.get_text() for text in drawn.texts
    )


def test_a_sheet_shows_image_model_residual_aperture_mask_and_facts(star):
    drawn = figure(star)
    for label in ("image", "model", "residual"):
        (circle,) = [patch for patch in panel(drawn, label).patches if isinstance(patch, Circle)]
        assert circle.radius == star[1]["aperture_radius_px"]
        assert circle.center == pytest.approx((7.3, 7.1), abs=1e-6)
    crosses = [artist for artist in panel(drawn, "residual").collections if artist.get_gid() == "masked"]
    assert crosses[0].get_offsets().tolist() == [[7.0, 9.0]]
    for fact in ("2025W25_1B_0062_1D3", f"{star[1]['flux_ujy']:.1f} ±", "SOURCE", star[1]["status"]):
        assert fact in said(drawn)


def test_the_exposures_with_the_worst_fits_are_chosen(star):
    records = [{**star[1], "psf_chi2_dof": value, "obs_id": f"o{value}"} for value in (1.0, 7.0, None, 3.0)]
    assert [one["psf_chi2_dof"] for one in choose(records, QaSettings(count=2))] == [7.0, 3.0]


def test_exposures_can_be_named(star):
    records = [{**star[1], "obs_id": name} for name in ("a", "b", "c")]
    chosen = choose(records, QaSettings(exposures=("cD3", "aD3", "absentD1")))
    assert [exposure_name(one) for one in chosen] == ["cD3", "aD3"]


def test_stamp_size_and_colour_maps(star):
    drawn = figure(star, stamp_px=9, cmap="Greys", residual_cmap="PiYG")
    picture, residual = panel(drawn, "image").images[0], panel(drawn, "residual").images[0]
    assert picture.get_array().shape == (9, 9)
    assert (picture.get_cmap().name, residual.get_cmap().name) == ("Greys", "PiYG")


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_any_number_of_exposures_is_a_sheet(star, tmp_path, count):
    stamp = stamp_of(star)
    shown = [(star[1], None if number == 1 else stamp) for number in range(count)]
    drawn = qa_figure(shown, SOURCE, QaSettings())
    save(drawn, tmp_path / "qa.png")
    assert (tmp_path / "qa.png").stat().st_size > 5000
    if count != 1:
        assert ("no file at hand" if count else "no exposure to show") in said(drawn)


def test_the_same_sheet_gives_the_same_bytes(star, tmp_path):
    for name in ("a.pdf", "b.pdf"):
        save(figure(star), tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_settings_come_from_the_configuration():
    options = {"exposures": ["xD1"], "count": 3, "stamp_px": 9, "cmap": "Greys", "residual_cmap": "PiYG"}
    assert QaSettings.from_options(options) == QaSettings(("xD1",), 3, 9, "Greys", "PiYG")


def test_the_defaults_are_those_of_the_configuration():
    assert config.defaults()["qa"].keys() == asdict(QaSettings()).keys()
    assert QaSettings.from_options(config.defaults()["qa"]) == QaSettings()
