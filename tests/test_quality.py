"""Status, flags in words, and the cuts."""

import dataclasses

import numpy as np
import patches
import pytest
from patches import X, Y, altered, patch, star
from spxflow import tables
from spxflow.measure import measure
from spxflow.quality import judge
from spxflow.settings import PhotometrySettings, QualitySettings

MEASURED = {"flux_ujy": 1000.0, "flux_err_ujy": 50.0, "status": "ok", "psf_chi2_dof": 1.1}
CUTS = QualitySettings(min_snr=5.0, upper_limit_sigma=3.0)


def judged(**changes):
    return judge({**MEASURED, **changes}, CUTS)


def measured(exposure, **options):
    return tables.empty_record() | measure(exposure, star(), PhotometrySettings(**options))


def test_a_detection():
    record = judged()
    assert record["snr"] == pytest.approx(20.0)
    assert record["mag_ab"] == pytest.approx(23.9 - 7.5)
    assert record["mag_ab_err"] == pytest.approx(1.0857 / 20.0, rel=1e-4)
    assert record["is_good"] is True
    assert record["is_upper_limit"] is False


def test_the_magnitude_is_that_of_astropy():
    from astropy import units

    assert judged(flux_ujy=123.4)["mag_ab"] == pytest.approx((123.4 * units.uJy).to_value(units.ABmag), abs=1e-4)


@pytest.mark.parametrize("flux", [-80.0, 0.0, 100.0])
def test_a_faint_or_negative_flux_is_an_upper_limit_and_keeps_its_sign(flux):
    record = judged(flux_ujy=flux)
    assert record["flux_ujy"] == flux
    assert record["snr"] == pytest.approx(flux / 50.0)
    assert record["is_upper_limit"] is True
    assert record["upper_limit_ujy"] == pytest.approx(150.0)
    assert record["is_good"] is False
    assert (record["mag_ab"] is None) == (flux <= 0.0)


def test_thresholds_are_options():
    record = {**MEASURED, "flux_ujy": 200.0}
    assert judge(record, QualitySettings(min_snr=3.0))["is_good"] is True
    assert judge(record, QualitySettings(min_snr=4.5))["is_good"] is False
    assert judge(record, QualitySettings(upper_limit_sigma=5.0))["is_upper_limit"] is True
    assert judge(record, QualitySettings(upper_limit_sigma=5.0))["upper_limit_ujy"] == pytest.approx(250.0)
    assert judge(record, QualitySettings(min_snr=3.0, max_chi2_dof=1.0))["is_good"] is False


@pytest.mark.parametrize("status", ["unusable", "edge", "no_background"])
def test_points_of_other_statuses_are_neither_good_nor_limits(status):
    record = judged(status=status)
    assert (record["is_good"], record["is_upper_limit"]) == (False, False)
    assert judge({**MEASURED, "status": status}, QualitySettings(statuses=(status,)))["is_good"] is True


def test_no_flux_means_no_number():
    record = judged(flux_ujy=None, flux_err_ujy=None, status="no_background")
    assert [record[key] for key in ("snr", "mag_ab", "mag_ab_err", "upper_limit_ujy")] == [None] * 4
    assert record["is_good"] is False


def test_judging_again_with_other_cuts_changes_only_the_verdict():
    first = judged()
    assert judge(first, CUTS) == first
    again = judge(first, QualitySettings(min_snr=50.0))
    assert {key for key in first if first[key] != again[key]} == {"is_good"}


def test_flags_of_the_aperture_are_named_and_weighed():
    exposure = altered(patch([(1000.0, X, Y)]), flags={(29, 29): 1 << 0, (28, 29): 1 << 30, (40, 40): 1 << 6})
    record = measured(exposure)
    assert record["flag_names"].split("|") == ["TRANSIENT", "SOURCE", "BIT_30"]
    assert record["flags"] == 1 << 0 | 1 << 21 | 1 << 30
    fractions = record["flag_fractions"]
    assert fractions["SOURCE"] == pytest.approx(1.0, abs=0.02)
    assert 0.1 < fractions["TRANSIENT"] < 0.35
    assert fractions["BIT_30"] < 0.05


def test_a_clean_exposure_is_ok():
    record = measured(patch([(1000.0, X, Y)], seed=1))
    assert (record["status"], record["reason"]) == ("ok", "")


def test_a_bad_pixel_in_the_aperture_is_flagged_with_its_name():
    record = measured(altered(patch([(1000.0, X, Y)]), image={(30, 29): 9.0}, flags={(30, 29): patches.OUTLIER}))
    assert record["status"] == "flagged"
    assert "1 bad pixel" in record["reason"]
    assert "OUTLIER" in record["reason"]
    assert record["flux_ujy"] == pytest.approx(1000.0, rel=2e-3)


def test_a_spike_summed_into_the_raw_flux_is_never_ok():
    exposure = altered(patch([(1000.0, X, Y)]), image={(30, 30): 40.0}, flags={(30, 30): patches.OUTLIER})
    raw = measured(exposure, primary="aperture_raw")
    assert raw["flux_ujy"] > 20_000.0
    assert raw["status"] == "unusable"
    for primary in ("psf", "aperture"):
        record = measured(exposure, primary=primary)
        assert record["flux_ujy"] == pytest.approx(1000.0, rel=2e-3)
        assert record["status"] == "flagged"


def test_most_of_the_light_on_bad_pixels_is_unusable():
    core = {(x, y): patches.OUTLIER for x in (28, 29, 30, 31) for y in (29, 30)}
    record = measured(altered(patch([(1000.0, X, Y)]), flags=core))
    assert record["status"] == "unusable"
    assert "OUTLIER" in record["reason"]


def test_nothing_but_bad_pixels_is_a_status_and_no_flux():
    exposure = patch([(1000.0, X, Y)])
    bad = dataclasses.replace(exposure, flags=np.full_like(exposure.flags, patches.OUTLIER))
    for primary in ("psf", "aperture", "aperture_raw"):
        record = measured(bad, primary=primary)
        assert record["flux_ujy"] is None
        assert record["status"] in ("unusable", "no_background")
        assert record["reason"]


def test_without_sky_there_is_no_aperture_flux():
    exposure = patch([(1000.0, X, Y)])
    flags = np.full_like(exposure.flags, patches.OUTLIER)
    flags[27:33, 27:33] = 0
    record = measured(dataclasses.replace(exposure, flags=flags), primary="aperture")
    assert (record["status"], record["flux_ujy"], record["background_mjysr"]) == ("no_background", None, None)
