"""The combined plot: nothing silently left out, and every option does what it says."""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.image import imread
from records import QUALITY, SOURCE, missing, real_star, record, simulate, smooth_truth
from spxflow import config
from spxflow.errors import ConfigError
from spxflow.plot_points import PlotSettings, points, value_range
from spxflow.plots import combined_figure, refuse_unknown_colour_maps, save

STAR = real_star()
N_GOOD = sum(one["is_good"] for one in STAR)
N_LIMITS = sum(one["is_upper_limit"] for one in STAR)


def figure(records=STAR, quality=QUALITY, **options):
    return combined_figure(records, SOURCE, PlotSettings(**options), quality)


def write(path, records=STAR, source=SOURCE, **options):
    save(combined_figure(records, source, PlotSettings(**options), QUALITY), path, options.get("dpi", 150.0))


def panels(drawn, label):
    return [axes for axes in drawn.axes if axes.get_label() == label]


def artists(drawn, gid, label="spectrum", kind=object):
    return [
        artist
        for axes in panels(drawn, label)
        for artist in axes.get_children()
        if artist.get_gid() == gid and isinstance(artist, kind)
    ]


def count(drawn, gid, label="spectrum"):
    return sum(len(artist.get_offsets()) for artist in artists(drawn, gid, label, PathCollection))


def count_outside(drawn, label="spectrum"):
    return count(drawn, "above", label) + count(drawn, "below", label)


def texts(drawn):
    drawn.draw_without_rendering()
    return [text.get_text() for text in drawn.findobj(matplotlib.text.Text) if text.get_text()]


# --- what is drawn -----------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["spectrum", "lightcurve"])
@pytest.mark.parametrize("magnitude", [False, True])
def test_every_exposure_with_a_flux_is_drawn_or_marked_at_the_edge(label, magnitude):
    drawn = figure(magnitude=magnitude)
    inside = sum(count(drawn, gid, label) for gid in ("good", "rejected", "upper limits"))
    assert inside + count_outside(drawn, label) == len(STAR)
    assert inside > 0.7 * len(STAR)


def test_the_number_beyond_the_range_is_written_at_the_edge():
    drawn = figure()
    above = count(drawn, "above")
    assert above > 0
    assert f"{above} above" in texts(drawn)


def test_an_outlier_neither_vanishes_nor_flattens_the_others():
    exposures = simulate(0)
    quiet = figure(exposures).axes[0].get_ylim()
    for one in exposures[5::36]:  # more than the percentiles leave out
        one["flux_ujy"] *= 1000.0
    drawn = figure(exposures)
    assert count(drawn, "above") == len(exposures[5::36]) == 6
    assert drawn.axes[0].get_ylim()[1] < 1.5 * quiet[1]


def test_a_line_of_the_spectrum_is_shown_to_its_peak():
    """Three of 216 exposures see it, ten times the continuum: no percentile may cut it."""

    def spectrum(wavelength_um):
        return smooth_truth(wavelength_um) + 9000.0 * np.exp(-0.5 * ((wavelength_um - 2.041) / 0.02) ** 2)

    drawn = figure(simulate(3, truth=spectrum))
    assert count(drawn, "good") == 216
    assert count_outside(drawn) == 0


@pytest.mark.parametrize("magnitude", [False, True])
def test_notes_at_the_edge_cover_no_point(magnitude):
    drawn = figure(magnitude=magnitude)
    drawn.draw_without_rendering()
    for axes in (*panels(drawn, "spectrum"), *panels(drawn, "lightcurve")):
        places = [artist.get_offsets() for artist in axes.collections if artist.get_gid() == "good"]
        pixels = axes.transData.transform(np.concatenate(places))
        for note in (text for text in axes.texts if re.fullmatch(r"\d+ (above|below)", text.get_text())):
            box = note.get_window_extent()
            assert not any(box.contains(*pixel) for pixel in pixels), note
            assert note.get_zorder() < 3, "behind what it might touch"


@pytest.mark.parametrize("figsize", [(10.0, 8.0), (7.0, 5.5)])
def test_labels_of_many_survey_passes_do_not_run_into_each_other(figsize):
    drawn = figure(simulate(4, passes=5), figsize=figsize)
    drawn.draw_without_rendering()
    times = panels(drawn, "lightcurve")
    assert len(times) == 5
    # 0.59 of the smaller picture with the wider text of matplotlib 3.9, 0.63 with 3.11; 0.21 where labels make room
    assert sum(axes.get_position().width for axes in times) > 0.55
    for axes_of_a_row in (times, [child for axes in times for child in axes.child_axes]):
        labels = [label for axes in axes_of_a_row for label in axes.get_xticklabels() if label.get_text()]
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
        assert len(boxes) >= 5
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_marks_tell_good_rejected_and_upper_limits_apart():
    drawn = figure()
    (good,), (rejected,), (limits,) = (artists(drawn, gid) for gid in ("good", "rejected", "upper limits"))
    assert len({colour.tobytes() for colour in good.get_facecolors()}) > 20
    assert np.allclose(rejected.get_edgecolors()[:, :3], to_rgba("0.55")[:3])
    heights = limits.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (-0.5, 0.0), "an arrow down from the limit"
    legend = texts(drawn)
    assert {"good (S/N ≥ 5)", "rejected", "upper limit (3 σ)"} <= set(legend)


def test_limits_below_few_good_points_are_on_the_picture():
    values = [(10.0, True), (10.1, True), *[(5.0, False)] * 18]
    exposures = [
        record(
            band="D1",
            mjd=60800.0 + day,
            wavelength_um=0.9,
            flux_ujy=value,
            flux_err_ujy=1.0,
            upper_limit_ujy=value,
            is_good=is_good,
            is_upper_limit=not is_good,
        )
        for day, (value, is_good) in enumerate(values)
    ]
    low, high = value_range(points(exposures, magnitude=False), PlotSettings())
    assert low < 5.0
    assert high > 10.1


def test_colours_are_dates_above_and_wavelengths_below():
    drawn = figure(simulate(0))
    above, below = (artists(drawn, "good", label) for label in ("spectrum", "lightcurve"))
    dates = above[0].get_facecolors()
    x = above[0].get_offsets()[:, 0]
    assert len({tuple(colour) for colour in dates[x < 1.0]}) > 10, "one wavelength, many dates"
    early, late = below
    assert early.get_offsets()[:, 0].max() < late.get_offsets()[:, 0].min()
    assert any("date" in text for text in texts(drawn))
    assert "wavelength (µm)" in texts(drawn)


def test_the_title_counts():
    title = figure([*STAR, missing(), missing()]).get_suptitle()
    assert title.startswith("a star   (ICRS 213.94271, +11.49539)")
    assert f"{len(STAR) + 2} exposures, {N_GOOD} good, {N_LIMITS} upper limits" in title
    assert "2 without a flux" in title


def test_names_are_not_read_as_formulas(tmp_path):
    source = {**SOURCE, "name": r"$\frac{1}{0$ <b>&"}
    write(tmp_path / "a.png", STAR[:5], source)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_negative_fluxes_are_below_every_magnitude():
    exposures = [record(band="D1", mjd=60800.0 + day, wavelength_um=0.9, flux_ujy=flux, flux_err_ujy=1.0, status="ok")
                 for day, flux in enumerate([100.0, 90.0, 110.0, -5.0])]  # fmt: skip
    exposures[3]["is_upper_limit"] = False
    drawn = figure(exposures, magnitude=True)
    assert (count(drawn, "good"), count(drawn, "below")) == (3, 1)


@pytest.mark.parametrize("records", [[], [missing()]])
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_no_measurement_is_a_picture_that_says_so(tmp_path, records, suffix):
    write(tmp_path / f"a.{suffix}", records)
    assert (tmp_path / f"a.{suffix}").stat().st_size > 1000
    said = " ".join(texts(figure(records)))
    assert ("could be measured" if records else "was found") in said


def test_one_exposure_is_a_picture(tmp_path):
    alone = [record(band="D1", mjd=60800.0, wavelength_um=0.9, flux_ujy=100.0, flux_err_ujy=1.0)]
    write(tmp_path / "a.png", alone)
    drawn = figure(alone, quality=None)
    assert count(drawn, "good") == 1
    assert "good" in texts(drawn)


@pytest.mark.parametrize("flux", [0.0, -7.0])
def test_only_faint_points_are_a_picture(flux):
    exposures = [record(band="D1", mjd=60800.0 + day, wavelength_um=0.9, flux_ujy=flux, flux_err_ujy=1.0)
                 for day in range(3)]  # fmt: skip
    assert count(figure(exposures), "upper limits") == 3


def test_a_long_gap_in_time_is_left_out():
    drawn = figure(simulate(0))
    first, second = panels(drawn, "lightcurve")
    assert first.get_xlim()[1] < 60830.0
    assert second.get_xlim()[0] > 60970.0
    assert first.get_ylim() == second.get_ylim()


# --- every option ------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_configuration():
    assert config.defaults()["plot"].keys() == asdict(PlotSettings()).keys()
    assert PlotSettings.from_options(config.defaults()["plot"]) == PlotSettings()


def test_an_unknown_colour_map_is_refused_with_the_nearest():
    usual = config.defaults()
    refuse_unknown_colour_maps(config.complete({"plot": {"date_cmap": "Greys"}}), usual)
    with pytest.raises(ConfigError, match=r"plot\.date_cmap: got 'virids', .*; did you mean viridis"):
        refuse_unknown_colour_maps(config.complete({"plot": {"date_cmap": "virids"}}), usual)


def test_resolution_is_left_to_matplotlibrc_when_not_given(tmp_path):
    with matplotlib.rc_context({"savefig.dpi": 40, "figure.figsize": (5.0, 4.0)}):
        write(tmp_path / "a.png", figsize=None, dpi=None)
    assert imread(tmp_path / "a.png").shape[:2] == (160, 200)


def test_one_moment_in_time_has_axes_of_whole_dates():
    alone = [record(band="D1", mjd=60800.3, wavelength_um=0.9, flux_ujy=9.0, flux_err_ujy=1.0)]
    drawn = figure(alone)
    assert {"2025-05-04", "2025-05-05"} <= set(texts(drawn))
    assert drawn.get_suptitle().endswith("1 exposure, 1 good")
    assert np.ptp(figure(alone, magnitude=True).axes[0].get_ylim()) == pytest.approx(1.0), "half a magnitude around it"


def test_magnitude():
    fluxes, magnitudes = figure(), figure(magnitude=True)
    assert "flux density (µJy)" in texts(fluxes)
    assert "AB magnitude" in texts(magnitudes)
    bottom, top = magnitudes.axes[0].get_ylim()
    assert bottom > top, "bright is up"
    drawn = points(STAR, magnitude=True)
    brightest = max((one for one in STAR if one["is_good"]), key=lambda one: one["flux_ujy"])
    assert drawn.value[drawn.good].min() == pytest.approx(brightest["mag_ab"])
    assert drawn.error[drawn.good].min() == pytest.approx(min(o["mag_ab_err"] for o in STAR if o["is_good"]))


def test_errorbars():
    bars = artists(figure(), "error bars", kind=LineCollection)
    lengths = [np.ptp(segment[:, 1]) for segment in bars[-1].get_segments()]
    errors = [2 * one["flux_err_ujy"] for one in STAR if one["is_good"]]
    assert np.median(lengths) == pytest.approx(np.median(errors), rel=0.02)
    assert not artists(figure(errorbars=False), "error bars")


def test_show_rejected():
    drawn = figure(show_rejected=False)
    assert not artists(drawn, "rejected")
    assert "rejected" not in texts(drawn)
    assert count(drawn, "good") == count(figure(), "good")


def test_wavelength_scale():
    assert figure().axes[0].get_xscale() == "log"
    assert figure(wavelength_scale="linear").axes[0].get_xscale() == "linear"
    assert "1.5" in texts(figure())


@pytest.mark.parametrize(("option", "label"), [("wavelength_cmap", "lightcurve"), ("date_cmap", "spectrum")])
def test_colour_maps(option, label):
    other = {"lightcurve": "spectrum", "spectrum": "lightcurve"}[label]

    def colours(drawn, where):
        return np.concatenate([artist.get_facecolors() for artist in artists(drawn, "good", where)])

    usual, changed = figure(), figure(**{option: "Greys"})
    assert np.ptp(colours(changed, label)[:, :3], axis=1).max() < 0.01, "grey"
    assert np.ptp(colours(usual, label)[:, :3], axis=1).max() > 0.3
    assert np.array_equal(colours(usual, other), colours(changed, other))


def test_band_shading():
    assert len(artists(figure(), "band")) == 3
    assert {"D1", "D2", "D3", "D4", "D5", "D6"} <= set(texts(figure()))
    assert not artists(figure(band_shading=False), "band")


def test_break_gaps_days():
    assert len(panels(figure(), "lightcurve")) == 2
    assert len(panels(figure(break_gaps_days=0), "lightcurve")) == 1
    assert len(panels(figure(break_gaps_days=300), "lightcurve")) == 1


def test_density_above():
    few, many = figure(density_above=1000), figure(density_above=100)
    assert not artists(few, "good", kind=PolyCollection)
    (cells,) = artists(many, "good", kind=PolyCollection)
    assert len(cells.get_offsets()) < N_GOOD
    assert np.ptp(cells.get_facecolors()[:, 3]) > 0.1, "dense cells are more opaque"
    assert not artists(figure(density_above=0), "good", kind=PolyCollection), "0: never"


def test_ylim_percentiles():
    drawn = points(STAR, magnitude=False)
    supported = drawn.value[drawn.good & ~drawn.stray]
    low, high = figure().axes[0].get_ylim()
    assert low < supported.min() < supported.max() < high
    assert high < drawn.value[drawn.good & drawn.stray].min(), "outliers do not set the range"
    middle, most = figure(ylim_percentiles=(25.0, 75.0)), figure(ylim_percentiles=(1.0, 99.0))
    assert np.ptp(middle.axes[0].get_ylim()) < np.ptp(most.axes[0].get_ylim()) < high - low
    assert count_outside(middle) > count_outside(most) > count_outside(figure())


def test_ylim_padding():
    tight, wide = (np.ptp(figure(ylim_padding=padding).axes[0].get_ylim()) for padding in (0.0, 1.0))
    assert wide == pytest.approx(3.0 * tight)


@pytest.mark.parametrize(
    ("option", "gid", "diameter"),
    [("marker_size_good", "good", 1), ("marker_size_rejected", "rejected", 1),
     ("marker_size_upper_limit", "upper limits", 2)],
)  # fmt: skip
def test_marker_sizes(option, gid, diameter):
    (artist,) = artists(figure(**{option: 7.0}), gid)
    assert artist.get_sizes() == pytest.approx([(7.0 * diameter) ** 2])


def test_opacities_and_line_width():
    drawn = figure(marker_alpha=0.35, errorbar_alpha=0.15, errorbar_linewidth=2.5)
    assert {artist.get_alpha() for artist in artists(drawn, "good")} == {0.35}
    bars = artists(drawn, "error bars", kind=LineCollection)
    assert {artist.get_alpha() for artist in bars} == {0.15}
    assert {artist.get_linewidth()[0] for artist in bars} == {2.5}


def test_figure_size_and_resolution(tmp_path):
    write(tmp_path / "a.png", figsize=(6.0, 5.0), dpi=60)
    assert imread(tmp_path / "a.png").shape[:2] == (300, 360)


def test_cuts_of_the_quality_section_are_named():
    assert "good (S/N ≥ 7.5)" in texts(figure(quality={"min_snr": 7.5, "upper_limit_sigma": 2.0}))


# --- files -------------------------------------------------------------------------------------


def test_matplotlibrc_is_respected():
    wishes = {"font.size": 17.0, "axes.grid": True, "axes.facecolor": "#ffeedd", "xtick.direction": "in"}
    with matplotlib.rc_context({**wishes, "figure.figsize": (4.0, 3.0), "figure.dpi": 50}):
        drawn = figure(figsize=None, dpi=None)
    axes = drawn.axes[0]
    assert axes.xaxis.label.get_size() == 17.0
    assert axes.get_facecolor() == to_rgba("#ffeedd")
    assert axes.xaxis.get_gridlines()[0].get_visible()
    assert (tuple(drawn.get_size_inches()), drawn.dpi) == ((4.0, 3.0), 50)


def test_a_matplotlibrc_that_asks_for_a_missing_latex_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        matplotlib.rc_context({"text.usetex": True}),
        pytest.raises(ConfigError, match=r"text\.usetex of matplotlibrc: .*latex could not be found"),
    ):
        write(tmp_path / "a.png", source={**SOURCE, "name": str(tmp_path)})  # which is in no cache of texts
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "density_above"), [("png", 3000), ("pdf", 3000), ("svg", 3000), ("svg", 100)])
def test_the_same_records_give_the_same_bytes(tmp_path, suffix, density_above):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.{suffix}", density_above=density_above, dpi=60)
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert content == (tmp_path / f"b.{suffix}").read_bytes()
    assert content.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])


def test_threads_draw_the_same(tmp_path):
    def draw(name):
        write(tmp_path / f"{name}.png", dpi=60)
        return (tmp_path / f"{name}.png").read_bytes()

    alone = draw("alone")
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(draw, "abc")) == {alone}


def test_no_global_state_is_left_behind(tmp_path):
    import matplotlib.pyplot

    before = dict(matplotlib.rcParams)
    write(tmp_path / "a.svg", dpi=60)
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []


def test_twenty_thousand_points_stay_readable_and_small(tmp_path):
    rng = np.random.default_rng(0)
    exposures = simulate(0, exposures=100)
    exposures = [
        {**one, "mjd": 60800.0 + 400.0 * rng.random(), "flux_ujy": one["flux_ujy"] + rng.normal(0, 30.0)}
        for one in exposures * 17
    ]
    assert len(exposures) > 20_000
    write(tmp_path / "a.pdf", exposures)
    assert (tmp_path / "a.pdf").stat().st_size < 2_000_000
