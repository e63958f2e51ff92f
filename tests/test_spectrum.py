"""The combined spectrum: unbiased, with errors that mean what they say, and robust."""

from dataclasses import asdict

import numpy as np
import pytest
from astropy.table import Table
from records import SOURCE, missing, real_star, record, simulate, smooth_truth
from spxflow import config, spectrum, tables
from spxflow.observations import BANDS
from spxflow.spectrum import SpectrumSettings, band_channels, channels, combine, combine_passes

CENTRES = np.array([channel.wavelength_um for channel in channels()])
SETTINGS = SpectrumSettings()


def column(rows, name):
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)


def pulls(seeds, truth=smooth_truth, settings=SETTINGS, **simulation):
    """(flux - truth) / error of every channel, shape (seeds, 102)."""
    spectra = [combine(simulate(seed, truth=truth, **simulation), settings) for seed in seeds]
    return np.array([(column(rows, "flux_ujy") - truth(CENTRES)) / column(rows, "flux_err_ujy") for rows in spectra])


# --- channels ----------------------------------------------------------------------------------


def test_there_are_102_channels_in_order_of_wavelength():
    assert len(channels()) == 102
    assert (np.diff(CENTRES) > 0).all()
    assert [len(band_channels(band)) for band in BANDS] == [17] * 6
    d4 = band_channels("D4")[0]
    assert (d4.wavelength_um, d4.wavelength_min_um, d4.wavelength_max_um) == (2.445, 2.422, 2.474)
    assert (d4.bandwidth_um, d4.resolution) == (0.058, 42.0)


@pytest.mark.parametrize("band", BANDS)
def test_the_channel_coordinate_is_the_channel_number(band):
    centres = np.array([channel.wavelength_um for channel in band_channels(band)])
    assert np.allclose(spectrum.channel_coordinate(band, centres), np.arange(1, 18))
    outside = spectrum.channel_coordinate(band, np.array([centres[0] - 0.01, centres[-1] + 0.01]))
    assert outside[0] < 1.0
    assert outside[1] > 17.0


def test_every_channel_has_a_row_also_without_data():
    rows = combine([], SETTINGS)
    assert [row["wavelength_um"] for row in rows] == list(CENTRES)
    assert all(row["flux_ujy"] is None and row["n_used"] == 0 for row in rows)
    assert [set(row) for row in rows] == [{one.name for one in spectrum.COLUMNS}] * 102


# --- accuracy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [50.0, 10.0, 1.0])
def test_fluxes_are_unbiased_and_errors_right_down_to_the_noise(snr):
    z = pulls(range(60), snr=snr)
    assert np.mean(z) == pytest.approx(0.0, abs=0.05)
    assert 0.97 < np.std(z) < 1.03


def test_a_source_of_no_flux_comes_out_as_zero():
    z = pulls(range(25), truth=lambda wavelength: 0.0 * wavelength)
    assert np.mean(z) == pytest.approx(0.0, abs=0.05)


def test_errors_that_follow_the_noise_do_not_bias():
    """Photon noise: an exposure that came out low says it has a small error. Weighting by that would pull down."""
    means = []
    for seed in range(25):
        exposures = simulate(seed, snr=10.0)
        for one in exposures:
            true = smooth_truth(one["wavelength_um"])
            one["flux_err_ujy"] *= np.clip(one["flux_ujy"] / true, 0.5, 1.5) ** 0.5
        rows = combine(exposures, SETTINGS)
        means.append(np.nanmean(column(rows, "flux_ujy") / smooth_truth(CENTRES)))
    naive = 1.0 / 10.0**2  # about what weights of 1 / error^2 lose
    assert np.mean(means) == pytest.approx(1.0, abs=0.3 * naive)


def test_a_slope_inside_a_channel_does_not_matter():
    """Exposures all at the red side of their channels, in a spectrum that falls by 4 % a channel."""
    exposures = []
    centres = [channel.wavelength_um for channel in band_channels("D5")]

    def falling(x):
        return 1e5 * 0.96**x

    for number in range(2, 16):
        for offset in (0.2, 0.3, 0.4):
            wavelength = float(np.interp(number + offset, np.arange(1, 18), centres))
            flux = falling(number + offset)
            exposures.append(record(band="D5", mjd=60800.0, wavelength_um=wavelength, flux_ujy=flux, flux_err_ujy=30.0))
    rows = {row["channel"]: row for row in combine(exposures, SETTINGS) if row["n_used"]}
    for number in range(3, 15):
        assert rows[number]["flux_ujy"] == pytest.approx(falling(number), rel=0.003)
        assert rows[number]["slope_ujy_um"] < 0.0
        assert rows[number]["wavelength_eff_um"] > rows[number]["wavelength_um"]


def test_noise_beyond_the_errors_enlarges_them():
    z = pulls(range(60), errors_too_small=2.0)  # of the formal errors alone: 2
    assert 0.95 < np.std(z) < 1.06
    rows = combine(simulate(0, errors_too_small=2.0), SETTINGS)
    formal, combined = column(rows, "flux_err_formal_ujy"), column(rows, "flux_err_ujy")
    assert np.nanmedian(combined / formal) == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(
    ("passes", "errors_too_small", "least", "most"),
    [(1, 1.0, 0.9, 1.03), (1, 2.0, 1.0, 1.3), (2, 1.2, 0.97, 1.1), (4, 1.0, 0.95, 1.05), (4, 2.0, 0.95, 1.05)],
)
def test_errors_are_right_in_other_numbers_of_passes(passes, errors_too_small, least, most):
    """In one pass hardly any channel has a second exposure that tells the scatter."""
    assert least < np.std(pulls(range(40), passes=passes, errors_too_small=errors_too_small)) < most


def test_errors_are_formal_where_nothing_speaks_against_them():
    """One pass of exposures off the channels' centres: the slope is made of the points too that are moved along it."""
    spectra = [combine(simulate(seed, passes=1, truth=lambda wavelength: 500.0), SETTINGS) for seed in range(60)]
    z = [(column(rows, "flux_ujy") - 500.0) / column(rows, "flux_err_formal_ujy") for rows in spectra]
    assert 0.97 < np.nanstd(z) < 1.03
    assert all(
        (column(rows, "flux_err_ujy") >= column(rows, "flux_err_formal_ujy"))[column(rows, "n_used") > 0].all()
        for rows in spectra
    )


def test_a_detector_whose_errors_are_too_small_does_not_enlarge_those_of_others():
    exposures = simulate(0, passes=4)
    for one in exposures:
        if one["band"] == "D2":
            one["flux_err_ujy"] /= 3.0
    rows = combine(exposures, SETTINGS)
    enlarged = column(rows, "flux_err_ujy") / column(rows, "flux_err_formal_ujy")
    in_d2 = np.array([row["band"] == "D2" for row in rows])
    assert np.median(enlarged[in_d2]) == pytest.approx(3.0, rel=0.2)
    assert np.median(enlarged[~in_d2]) == pytest.approx(1.0, abs=0.1)


def test_outliers_that_stay_in_a_single_pass_do_not_enlarge_all_errors():
    spectra = [combine(simulate(seed, passes=1, outliers=0.05), SETTINGS) for seed in range(20)]
    enlarged = [column(rows, "flux_err_ujy") / column(rows, "flux_err_formal_ujy") for rows in spectra]
    assert np.nanmedian(enlarged) < 1.05
    assert np.nanmean(np.array(enlarged) > 2.0) < 0.05


def test_a_channel_that_scatters_significantly_more_has_an_error_of_its_own():
    exposures = simulate(0, passes=4, truth=lambda wavelength: 1000.0)
    before = column(combine(exposures, SpectrumSettings(outlier_sigma=0.0)), "flux_err_ujy")
    next(one for one in exposures if abs(one["wavelength_um"] - 2.041) < 0.02)["flux_ujy"] += 300.0
    after = column(combine(exposures, SpectrumSettings(outlier_sigma=0.0)), "flux_err_ujy")
    channel = int(np.argmin(np.abs(CENTRES - 2.041)))
    assert after[channel] > 2.0 * before[channel]
    assert np.delete(after, channel) == pytest.approx(np.delete(before, channel), rel=0.1)


def test_the_formal_error_falls_with_the_root_of_the_number():
    two, eight = (combine(simulate(3, passes=passes), SETTINGS) for passes in (2, 8))
    ratio = np.nanmedian(column(two, "flux_err_formal_ujy") / column(eight, "flux_err_formal_ujy"))
    assert ratio == pytest.approx(2.0, rel=0.1)


# --- outliers ----------------------------------------------------------------------------------


def test_outliers_are_rejected_and_counted():
    z = pulls(range(15), passes=4, outliers=0.05)
    assert np.std(z) < 1.1
    exposures = simulate(0, passes=4, outliers=0.05)
    wrong = [abs(one["flux_ujy"] - smooth_truth(one["wavelength_um"])) > 10 * one["flux_err_ujy"] for one in exposures]
    rejected = sum(row["n_rejected"] for row in combine(exposures, SETTINGS))
    assert rejected == pytest.approx(sum(wrong), abs=2)


def test_good_points_are_not_rejected():
    rejected = [sum(row["n_rejected"] for row in combine(simulate(seed), SETTINGS)) for seed in range(15)]
    assert sum(rejected) <= 1


def test_a_very_near_repeat_is_enough_to_tell():
    """At the end of a band there are no neighbours on the other side; no line is as steep as this."""
    exposures = simulate(0, passes=1, exposures=17)
    last = max((one for one in exposures if one["band"] == "D6"), key=lambda one: one["wavelength_um"])
    near = {**last, "mjd": 60990.0, "flux_ujy": last["flux_ujy"] + 5000.0}
    near["wavelength_um"] += 0.1 * 0.037
    assert sum(row["n_rejected"] for row in combine([*exposures, near], SETTINGS)) == 1


def test_an_outlier_that_stays_spoils_only_its_own_channel():
    exposures = simulate(1, passes=2, exposures=17)
    before = column(combine(exposures, SETTINGS), "flux_err_ujy")
    alone = min((one for one in exposures if one["band"] == "D5"), key=lambda one: one["wavelength_um"])
    alone["flux_ujy"] += 3000.0
    after = column(combine(exposures, SETTINGS), "flux_err_ujy")
    others = np.arange(4 * 17 + 2, 5 * 17)
    assert np.nanmedian(after[others] / before[others]) < 1.25


def test_rejection_can_be_switched_off():
    rows = combine(simulate(0, passes=4, outliers=0.05), SpectrumSettings(outlier_sigma=0.0))
    assert sum(row["n_rejected"] for row in rows) == 0


def line(strength, centre, width=0.42 * 0.048):
    """The smooth spectrum with an unresolved line of D3: as wide as the passband."""
    return lambda wavelength: smooth_truth(wavelength) + strength * np.exp(-0.5 * ((wavelength - centre) / width) ** 2)


@pytest.mark.parametrize("passes", [1, 2, 3, 8])
@pytest.mark.parametrize("strength", [700.0, 3000.0, -800.0])
def test_unresolved_lines_are_kept(passes, strength):
    """Lines of 20 to 90 times the noise, at the centre of a channel and between two."""
    n_exposures = n_rejected = 0
    for seed in range(4):
        for centre in (2.041, 2.065):
            exposures = simulate(seed, truth=line(strength, centre), passes=passes)
            in_line = [one for one in exposures if abs(one["wavelength_um"] - centre) < 0.05]
            n_exposures += len(in_line)
            n_rejected += sum(row["n_rejected"] for row in combine(exposures, SETTINGS))
    assert n_rejected <= 0.03 * n_exposures


def test_a_line_keeps_its_flux():
    """Also in many passes, where most points of the neighbourhood see the continuum."""
    rows = combine(simulate(2, truth=line(3000.0, 2.041), passes=8), SETTINGS)
    peak = next(row for row in rows if row["wavelength_um"] == 2.041)
    x = np.linspace(-0.5, 0.5, 101)
    mean_over_channel = smooth_truth(2.041) + 3000.0 * np.exp(-0.5 * (x / 0.42) ** 2).mean()
    assert peak["flux_ujy"] == pytest.approx(mean_over_channel, rel=0.1)
    assert peak["n_rejected"] == 0


def test_the_only_point_of_a_channel_is_kept():
    exposures = simulate(1, passes=1, exposures=17)
    exposures[5]["flux_ujy"] *= 20.0
    assert sum(row["n_rejected"] for row in combine(exposures, SETTINGS)) == 0


def test_a_source_that_varies_loses_nothing():
    exposures = simulate(1, snr=100.0, dimming=lambda mjd: 0.7 if mjd > 60900.0 else 1.0)
    rows = combine(exposures, SETTINGS)
    assert sum(row["n_rejected"] for row in rows) <= 0.02 * len(exposures)


# --- what enters -------------------------------------------------------------------------------


def test_negative_fluxes_and_points_without_detection_enter():
    exposures = simulate(2, snr=0.5)
    assert any(one["flux_ujy"] < 0 for one in exposures)
    assert sum(row["n_used"] + row["n_rejected"] for row in combine(exposures, SETTINGS)) >= 0.97 * len(exposures)


def test_statuses_decide_what_enters():
    exposures = simulate(2)
    for one in exposures[::2]:
        one["status"] = "unusable"
    used = sum(row["n_used"] for row in combine(exposures, SETTINGS))
    wider = SpectrumSettings(statuses=("ok", "unusable"))
    assert used < 0.55 * sum(row["n_used"] for row in combine(exposures, wider))


def test_records_without_values_do_not_disturb():
    exposures = simulate(2)
    spoilt = [*exposures, missing(), record(band="D1", mjd=1.0, wavelength_um=1.0, flux_ujy=None, flux_err_ujy=None)]
    spoilt.append(record(band="D1", mjd=1.0, wavelength_um=1.0, flux_ujy=1e9, flux_err_ujy=0.0))
    assert combine(spoilt, SETTINGS) == combine(exposures, SETTINGS)


def test_a_point_outside_every_channel_is_in_none():
    far = [record(band="D6", mjd=1.0, wavelength_um=5.018, flux_ujy=1.0, flux_err_ujy=1.0)]
    assert sum(row["n_used"] for row in combine(far, SETTINGS)) == 0


def test_one_exposure_is_a_spectrum():
    rows = combine([record(band="D2", mjd=60800.0, wavelength_um=1.32, flux_ujy=-3.0, flux_err_ujy=2.0)], SETTINGS)
    (row,) = [row for row in rows if row["n_used"]]
    assert (row["wavelength_um"], row["flux_ujy"], row["flux_err_ujy"]) == (1.315, -3.0, 2.0)
    assert row["wavelength_eff_um"] == 1.32
    assert row["flux_err_scatter_ujy"] is None


def test_the_order_of_records_does_not_matter():
    exposures = simulate(4)
    assert combine(exposures[::-1], SETTINGS) == combine(exposures, SETTINGS)


def test_survey_passes_are_told_apart_by_gaps():
    exposures = simulate(5, passes=3, dimming=lambda mjd: 2.0 if mjd > 61100.0 else 1.0)
    rows = combine_passes(exposures, SETTINGS)
    assert [row["survey_pass"] for row in rows] == [1] * 102 + [2] * 102 + [3] * 102
    fluxes = column(rows, "flux_ujy").reshape(3, 102)
    assert np.nanmedian(fluxes[2] / fluxes[0]) == pytest.approx(2.0, rel=0.05)
    assert all(row["mjd_last"] - row["mjd_first"] < 20.0 for row in rows if row["n_used"])
    assert len(combine_passes(exposures, SpectrumSettings(pass_gap_days=400.0))) == 102
    assert combine_passes([], SETTINGS) == []


def test_smoothing_follows_its_option():
    exposures = simulate(6, truth=lambda wavelength: 1000.0)
    narrow, wide = (combine(exposures, SpectrumSettings(smoothing_channels=width)) for width in (1.0, 4.0))
    assert np.nanstd(column(narrow, "slope_ujy_um")) > 2.0 * np.nanstd(column(wide, "slope_ujy_um"))


# --- a real star, and files --------------------------------------------------------------------


def test_a_real_star_gets_a_spectrum_of_its_kind():
    """A late-type star: D2 and D3 brighter than D1 and D4; its artefacts of 8,000 µJy at 4.6 µm gone."""
    rows = combine(real_star(), SETTINGS)
    median = {band: np.nanmedian(column([row for row in rows if row["band"] == band], "flux_ujy")) for band in BANDS}
    assert 200 < median["D1"] < median["D2"] < 330
    assert median["D4"] < median["D3"] < median["D2"]
    assert np.nanmax(column(rows, "flux_ujy")) < 1000
    assert sum(row["n_used"] > 0 for row in rows) >= 100


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".parquet", ".vot"])
def test_spectra_are_written_whole(tmp_path, suffix):
    path = tmp_path / f"spectrum{suffix}"
    rows = combine(real_star(), SETTINGS)
    tables.write_product(rows, path, spectrum.COLUMNS, "a title", SOURCE)
    table = Table.read(path, **({"format": "ascii.csv", "comment": "#"} if suffix == ".csv" else {}))
    assert len(table) == 102
    known = [row for row in range(102) if rows[row]["n_used"]]
    assert all(float(table["flux_ujy"][row]) == rows[row]["flux_ujy"] for row in known)


def test_spectral_tools_find_axis_flux_and_error_by_unit(tmp_path):
    """The rule of specutils' ECSV reader: first spectral column, first flux column, the next of the same unit."""
    tables.write_product(combine(real_star(), SETTINGS), tmp_path / "a.ecsv", spectrum.COLUMNS, "a title", SOURCE)
    table = Table.read(tmp_path / "a.ecsv")
    flux_like = [name for name in table.colnames if table[name].unit == "uJy"]
    assert flux_like[:2] == ["flux_ujy", "flux_err_ujy"]
    assert next(name for name in table.colnames if table[name].unit == "um") == "wavelength_um"
    assert not np.ma.is_masked(table["flux_ujy"]), "a missing flux is NaN: readers take masked values for zeros"


def test_the_defaults_are_those_of_the_configuration():
    assert config.defaults()["spectrum"].keys() == asdict(SpectrumSettings()).keys()
    assert SpectrumSettings.from_options(config.defaults()["spectrum"]) == SpectrumSettings()
