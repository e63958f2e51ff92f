"""Variability: constant sources are constant, and a source that dims is found."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from astropy.table import Table
from records import SOURCE, missing, real_star, record, simulate, smooth_truth
from scipy.stats import chi2, kstest, norm
from spxflow import config, tables
from spxflow import variability as room
from spxflow.observations import BANDS
from spxflow.spectrum import SpectrumSettings, band_channels
from spxflow.variability import VariabilitySettings, matched_groups, variability

SETTINGS, SPECTRUM = VariabilitySettings(), SpectrumSettings()


def result(exposures, spectrum=SPECTRUM, **options):
    return variability(exposures, VariabilitySettings(**options), spectrum)


@pytest.fixture(scope="module")
def constant():
    """What is said of 150 constant sources."""
    return [result(simulate(seed)) for seed in range(150)]


# --- constant sources --------------------------------------------------------------------------


def test_p_values_of_constant_sources_are_flat(constant):
    assert kstest([one["p_value"] for one in constant], "uniform").pvalue > 0.01
    assert np.mean([one["chi2"] / one["dof"] for one in constant]) == pytest.approx(1.0, abs=0.04)


def test_p_values_are_flat_for_faint_sources_of_many_passes_too():
    p_values = [result(simulate(seed, snr=1.0, passes=4))["p_value"] for seed in range(60)]
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("exposures", "passes", "snr"), [(3, 2, 10.0), (3, 2, 100.0), (5, 2, 50.0), (8, 4, 100.0)])
def test_p_values_are_flat_for_few_exposures_too(exposures, passes, snr):
    """Repeats have hardly any neighbours then: what is compared must not be its own smooth spectrum."""
    found = [result(simulate(seed, snr=snr, exposures=exposures, passes=passes)) for seed in range(1000, 1200)]
    for name in ("p_value", "p_value_without_largest", "von_neumann_p_value"):
        p_values = [one[name] for one in found if one[name] is not None]
        assert kstest(p_values, "uniform").pvalue > 0.01
        assert np.mean(p_values) == pytest.approx(0.5, abs=3.0 / (12 * len(p_values)) ** 0.5)


def test_p_values_of_constant_sources_without_their_largest_are_flat_too(constant):
    p_values = [one["p_value_without_largest"] for one in constant]
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(p_values) == pytest.approx(0.5, abs=3.0 / (12 * len(constant)) ** 0.5)
    assert all(one["chi2_without_largest"] < one["chi2"] - 1.0 for one in constant)


def test_the_largest_of_constant_sources_is_no_surprise(constant):
    p_values = [one["largest_deviation"]["p_value"] for one in constant]
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_neighbours_in_time_of_constant_sources_are_independent(constant):
    z = norm.ppf([one["von_neumann_p_value"] for one in constant])
    assert np.mean(z) == pytest.approx(0.0, abs=0.25)
    assert np.std(z) == pytest.approx(1.0, abs=0.2)


def test_excess_variance_of_constant_sources_is_zero_within_its_error(constant):
    z = np.array([one["excess_variance"] / one["excess_variance_err"] for one in constant])
    assert np.mean(z) == pytest.approx(0.0, abs=0.25)
    assert np.std(z) == pytest.approx(1.0, abs=0.2)


def test_passes_of_constant_sources_agree(constant):
    z = np.array([(one["passes"][0]["relative_flux"] - 1) / one["passes"][0]["relative_flux_err"] for one in constant])
    assert np.mean(z) == pytest.approx(0.0, abs=0.25)
    assert np.std(z) == pytest.approx(1.0, abs=0.2)


# --- sources that vary -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_bright_source_that_is_dimmer_in_one_pass_is_found(seed):
    found = result(simulate(seed, snr=50.0, dimming=lambda mjd: 0.9 if mjd > 60900.0 else 1.0))
    assert found["p_value"] < 1e-6
    first, second = found["passes"]
    assert second["relative_flux"] / first["relative_flux"] == pytest.approx(0.9, abs=0.01)
    assert found["rms_fraction"] == pytest.approx(0.1 / 2**0.5, rel=0.35)


def test_a_source_that_varies_in_many_exposures_does_so_without_the_largest():
    found = result(simulate(0, snr=50.0, dimming=lambda mjd: 0.9 if mjd > 60900.0 else 1.0))
    assert found["p_value_without_largest"] < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_a_dip_of_some_days_is_found(seed):
    found = result(simulate(seed, snr=100.0, dimming=lambda mjd: 0.9 if 60984.0 < mjd < 60990.0 else 1.0))
    assert found["p_value"] < 1e-4
    assert found["von_neumann_p_value"] < 0.05


def test_one_flare_is_the_largest_deviation():
    exposures = simulate(0, snr=30.0)
    repeats = room.find_repeats(exposures, SETTINGS, SPECTRUM)
    flaring = int(repeats.row[10])
    exposures[flaring]["flux_ujy"] += 12 * exposures[flaring]["flux_err_ujy"]
    found = result(exposures)
    largest = found["largest_deviation"]
    partners = [exposures[row]["obs_id"] for row in repeats.row[repeats.group == repeats.group[10]]]
    assert largest["obs_id"] in partners
    assert largest["p_value"] < 1e-6
    assert found["p_value_without_largest"] > 0.001


def test_excess_variance_measures_the_amplitude():
    rng = np.random.default_rng(0)
    exposures = simulate(0, snr=100.0, passes=6)
    for one in exposures:
        one["flux_ujy"] += 0.15 * smooth_truth(one["wavelength_um"]) * rng.normal()
    found = result(exposures)
    assert found["rms_fraction"] == pytest.approx(0.15, rel=0.15)
    assert found["excess_variance"] > 5 * found["excess_variance_err"]


@pytest.mark.parametrize("seed", range(5))
def test_a_source_that_is_dimmer_in_one_pass_is_found_in_few_exposures(seed):
    found = result(simulate(seed, snr=100.0, exposures=3, dimming=lambda mjd: 0.9 if mjd > 60900.0 else 1.0))
    assert found["p_value"] < 1e-6


def test_two_repeats_without_neighbours_do_not_define_their_own_line():
    pair = [
        record(band="D1", mjd=60800.0 + day, wavelength_um=0.9 + 0.002 * day, flux_ujy=flux, flux_err_ujy=2.0)
        for day, flux in enumerate((130.0, 100.0))
    ]
    assert result(pair)["p_value"] < 1e-12


def of_passes(fluxes_by_pass, wavelengths_by_pass):
    """A source of flux 100 times its factor in each pass, 200 days apart, two exposures a wavelength."""
    return [
        record(
            band="D1",
            mjd=60800.0 + 200.0 * number + 0.1 * index,
            wavelength_um=wavelength,
            flux_ujy=100.0 * factor + (-1) ** index,
            flux_err_ujy=1.0,
        )
        for number, (factor, wavelengths) in enumerate(zip(fluxes_by_pass, wavelengths_by_pass, strict=True))
        for index, wavelength in enumerate(wavelength for wavelength in wavelengths for _ in range(2))
    ]


def test_passes_without_common_wavelengths_are_not_compared():
    passes = result(of_passes((1.0, 1.0), ((0.80, 0.84), (0.90, 0.94))))["passes"]
    assert [(one["survey_pass"], one["relative_flux"], one["relative_flux_err"]) for one in passes] == [
        (1, None, None),
        (2, None, None),
    ]


def test_a_pass_that_no_repeats_link_with_the_others_is_left_out_of_the_comparison():
    passes = result(of_passes((1.0, 0.8, 1.5), ((0.80, 0.84), (0.80, 0.84), (0.90, 0.94))))["passes"]
    assert passes[2]["relative_flux"] is None
    assert passes[1]["relative_flux"] / passes[0]["relative_flux"] == pytest.approx(0.8, abs=0.02)
    assert 0.001 < passes[0]["relative_flux_err"] < 0.02


def test_passes_have_the_numbers_that_they_have_in_the_spectra():
    exposures = of_passes((1.0, 1.0, 0.9), ((0.80,), (0.90, 0.94), (0.90, 0.94)))
    exposures.pop(0)  # the first pass is left without a repeat
    assert [one["survey_pass"] for one in result(exposures)["passes"]] == [2, 3]


def test_equal_fluxes_give_strict_json():
    equal = [
        record(band="D1", mjd=60800.0 + day, wavelength_um=0.9, flux_ujy=100.0, flux_err_ujy=2.0) for day in range(5)
    ]
    found = result(equal)
    assert json.loads(json.dumps(found, allow_nan=False))["von_neumann"] is None
    assert found["chi2"] == pytest.approx(0.0)


# --- matching ----------------------------------------------------------------------------------


def test_no_group_is_wider_than_asked():
    x = np.sort(np.random.default_rng(0).uniform(1, 17, 100))
    for width in (0.05, 0.3, 1.0):
        group = matched_groups(x, width)
        for number in range(group.max() + 1):
            assert np.ptp(x[group == number]) <= width
            assert (group == number).sum() >= 2


def test_points_alone_have_no_group():
    assert list(matched_groups(np.array([1.0, 1.1, 2.0, 5.0, 5.05, 5.1]), 0.2)) == [0, 0, -1, 1, 1, 1]


def test_detectors_are_not_matched_with_each_other():
    pair = [record(band=band, mjd=1.0, wavelength_um=1.107, flux_ujy=5.0, flux_err_ujy=1.0) for band in ("D1", "D2")]
    assert result(pair)["n_groups"] == 0


def test_wider_matching_finds_more_repeats():
    exposures = simulate(0)
    assert result(exposures, match_channels=0.6)["n_repeats"] > 1.3 * result(exposures)["n_repeats"]


def test_the_slope_of_the_spectrum_is_no_variation():
    """A spectrum so steep that repeats half a channel apart differ by many errors."""
    exposures = simulate(3, snr=100.0, passes=4, truth=lambda wavelength: 4000.0 - 700.0 * wavelength)
    found = result(exposures, match_channels=0.5)
    assert found["chi2"] / found["dof"] == pytest.approx(1.0, abs=0.3)


def with_line(wavelength):
    """An unresolved emission line of 90 times the noise, whose flanks the smooth spectrum does not know."""
    return smooth_truth(wavelength) + 3000.0 * np.exp(-0.5 * ((wavelength - 2.041) / (0.42 * 0.048)) ** 2)


@pytest.mark.parametrize("passes", [2, 4])
def test_a_line_is_no_variation(passes):
    p_values = [result(simulate(seed, truth=with_line, passes=passes))["p_value"] for seed in range(40)]
    assert sum(p < 1e-3 for p in p_values) <= 1


def with_lines(wavelength):
    """The same with an unresolved line of 45 times the noise in each detector."""
    flux = smooth_truth(wavelength)
    for band in BANDS:
        before, centre = (channel.wavelength_um for channel in band_channels(band)[7:9])
        flux += 1500.0 * np.exp(-0.5 * ((wavelength - centre) / (0.42 * (centre - before))) ** 2)
    return flux


@pytest.mark.parametrize(("exposures", "passes"), [(5, 2), (8, 2), (18, 2), (18, 4)])
def test_lines_do_not_change_what_is_said_of_a_constant_source(exposures, passes):
    found = [result(simulate(seed, truth=with_lines, exposures=exposures, passes=passes)) for seed in range(60)]
    p_values = [one["p_value"] for one in found]
    assert sum(p < 1e-3 for p in p_values) <= 1
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.15)


def test_repeats_on_the_flanks_of_a_line_tell_nothing_unless_they_depart_even_so():
    def in_line(exposures):
        repeats = room.find_repeats(exposures, SETTINGS, SPECTRUM)
        wavelength = np.array([exposures[row]["wavelength_um"] for row in repeats.row])
        return np.abs(np.abs(wavelength - 2.041) - 0.02) < 0.01

    assert in_line(simulate(6)).sum() > 0
    assert in_line(simulate(6, truth=with_line)).sum() == 0


def test_a_dimming_source_with_a_line_is_found():
    found = result(simulate(0, snr=50.0, truth=with_line, dimming=lambda mjd: 0.9 if mjd > 60900.0 else 1.0))
    assert found["p_value"] < 1e-6
    assert found["passes"][1]["relative_flux"] / found["passes"][0]["relative_flux"] == pytest.approx(0.9, abs=0.015)


def test_two_repeats_are_compared_exactly():
    fluxes = (103.0, 97.0)
    pair = [
        record(band="D1", mjd=60800.0 + day, wavelength_um=0.9, flux_ujy=flux, flux_err_ujy=2.0)
        for day, flux in enumerate(fluxes)
    ]
    found = result(pair)
    assert found["chi2"] == pytest.approx((6.0 / (2.0 * 2**0.5)) ** 2)
    assert found["p_value"] == pytest.approx(chi2.sf(4.5, 1))
    assert found["largest_deviation"]["trials"] == 1
    assert found["largest_deviation"]["p_value"] == pytest.approx(found["p_value"])
    assert found["groups"][0]["flux_ujy"] == pytest.approx(100.0)
    assert found["groups"][0]["flux_err_ujy"] == pytest.approx(2.0 / 2**0.5)


def test_a_systematic_error_enlarges_the_errors():
    exposures = simulate(0, snr=100.0)
    strict, lenient = result(exposures), result(exposures, systematic_error=0.05)
    assert lenient["chi2"] < 0.5 * strict["chi2"]
    assert lenient["p_value"] > 0.99


# --- releases ----------------------------------------------------------------------------------

GAIN = "psf: in the file; gain: gain_factor_D1.fits"
NO_GAIN = "psf: in the file; gain: none"


def of_releases(first, second, calibration):
    """A constant source whose passes are of two releases; the column ``calibration`` of the first."""
    exposures = simulate(0)
    for one in exposures:
        early = one["mjd"] < 60900.0
        one["release"], one["calibration"] = (first, calibration) if early else (second, NO_GAIN)
    return exposures


def test_one_release_needs_no_harmonising():
    found = result(of_releases("QR3", "QR3", NO_GAIN))
    assert (found["releases"], found["harmonised"], found["note"]) == (["QR3"], None, None)


def test_harmonised_releases_are_told():
    found = result(of_releases("QR2", "QR3", GAIN))
    assert (found["releases"], found["harmonised"], found["note"]) == (["QR2", "QR3"], True, None)


@pytest.mark.parametrize("calibration", [NO_GAIN, None])
def test_a_mix_of_releases_that_differ_in_gain_has_a_note(calibration):
    found = result(of_releases("QR2", "QR3", calibration))
    assert (found["releases"], found["harmonised"]) == (["QR2", "QR3"], False)
    assert "QR2 and QR3" in found["note"]
    assert "gain" in found["note"]


def test_one_exposure_without_gain_map_is_enough_for_a_note():
    exposures = of_releases("QR2", "QR3", GAIN)
    repeats = room.find_repeats(exposures, SETTINGS, SPECTRUM)
    first = next(row for row in repeats.row if exposures[row]["release"] == "QR2")
    exposures[first]["calibration"] = NO_GAIN
    found = result(exposures)
    assert found["harmonised"] is False
    assert "1 of the" in found["note"]


# --- what is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("exposures", [[], [missing()], simulate(0, passes=1, exposures=1), real_star()])
def test_results_are_strict_json(exposures):
    read = json.loads(json.dumps(result(exposures), allow_nan=False))
    assert read["n_exposures"] == len(exposures)
    if not read["n_repeats"]:
        assert read["p_value"] is None
        assert read["largest_deviation"] is None
        assert read["groups"] == []


def test_bands_and_groups_add_up():
    found = result(simulate(1))
    for parts in (found["bands"].values(), found["groups"]):
        assert sum(part["chi2"] for part in parts) == pytest.approx(found["chi2"])
        assert sum(part["dof"] for part in parts) == found["dof"]


def test_a_real_artefact_is_told_apart_from_variation():
    """One exposure of the star caught an artefact of 8,000 µJy; without it the star is nearly quiet."""
    found = result(real_star())
    assert found["largest_deviation"]["band"] == "D6"
    assert found["largest_deviation"]["p_value"] < 1e-100
    assert found["bands"]["D2"]["p_value"] > 0.01


def test_matched_light_curves_are_tables(tmp_path):
    exposures = simulate(0)
    rows = room.matched_lightcurve(exposures, SETTINGS, SPECTRUM)
    found = result(exposures)
    assert len(rows) == found["n_repeats"]
    assert sum((row["departure_ujy"] / row["matched_flux_err_ujy"]) ** 2 for row in rows) == pytest.approx(
        found["chi2"]
    )
    tables.write_product(rows, tmp_path / "matched.ecsv", room.COLUMNS, "a title", SOURCE)
    table = Table.read(tmp_path / "matched.ecsv")
    assert list(table["matched_flux_ujy"]) == [row["matched_flux_ujy"] for row in rows]
    assert str(table["matched_flux_ujy"].unit) == "uJy"
    first = table[table["group"] == 0]
    assert np.ptp(first["group_wavelength_um"]) == 0.0
    assert list(first["mjd"]) == sorted(first["mjd"])


def test_no_repeats_give_an_empty_table(tmp_path):
    rows = room.matched_lightcurve([], SETTINGS, SPECTRUM)
    tables.write_product(rows, tmp_path / "a.csv", room.COLUMNS, "a title", SOURCE)
    assert len(Table.read(tmp_path / "a.csv", format="ascii.csv", comment="#")) == 0


def test_the_defaults_are_those_of_the_configuration():
    assert config.defaults()["variability"] == asdict(VariabilitySettings())
