"""Measured against the truth of the local archive: total flux, honest errors, every exposure.

Two simulated fields, six detectors, both releases. Everything is seeded: a test fails when the measurement changes, not
by chance.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from spxflow.demo import scenario
from spxflow.demo.instrument import DETECTORS
from spxflow.measure import UJY_PER_ARCSEC2, measure
from spxflow.mef import read_exposure
from spxflow.scene import cut_out
from spxflow.settings import ApertureSettings, PhotometrySettings
from spxflow.sources import Source

FIELDS = ("demo", "field2")
SIDE = 60
DEFAULT = PhotometrySettings()

field_of = functools.cache(scenario.load)


@functools.cache
def truth_of(field):
    return {(row["stem"], row["source"]): row for row in field_of(field).truth()}


def names(field, kind):
    return [source.name for source in field_of(field).sky.sources if source.name.startswith(kind)]


def star(field, name, moving=True):
    """A source of the truth table, as the user would give it."""
    source = next(source for source in field_of(field).sky.sources if source.name == name)
    motion = (source.pmra_masyr, source.pmdec_masyr) if moving else (0.0, 0.0)
    return Source(name, name, source.ra_deg, source.dec_deg, *motion, 0.0, source.epoch_yr)


def exposures(field, name, step=1, first=0):
    """(exposure, truth) of a source in every step-th file, as the default cutout."""
    for file in list(field_of(field).files.values())[first::step]:
        truth = truth_of(field).get((file.stem, name))
        if truth is not None:
            x0, y0 = (math.floor(truth[axis]) - SIDE // 2 + 1 for axis in ("x_det", "y_det"))
            window = (max(x0, 0), max(y0, 0), min(SIDE, 2040 - max(x0, 0)), min(SIDE, 2040 - max(y0, 0)))
            yield read_exposure(field_of(field).render(file, window)), truth


def observe(field, kind, step, settings=DEFAULT, neighbour_of=None):
    """(record, truth) of every source of a kind in every step-th file, each source beginning at another file."""
    seen = []
    for index, name in enumerate(names(field, kind)):
        neighbours = [star(field, neighbour_of(name))] if neighbour_of else []
        for exposure, truth in exposures(field, name, step, index % step):
            seen.append((measure(exposure, star(field, name), settings, neighbours), truth))
    return seen


def used(seen):
    return [(record, truth) for record, truth in seen if record["status"] in ("ok", "flagged")]


def columns(seen, estimator):
    """Flux, error and true flux of the usable points, µJy."""
    rows = [
        (record[f"{estimator}_flux_ujy"], record[f"{estimator}_flux_err_ujy"], truth["flux_ujy"])
        for record, truth in used(seen)
    ]
    return np.array(rows).T


def best_error(exposure, source, flux_ujy):
    """Cramer-Rao bound, µJy: known sky, the file's PSF, the good pixels, variance without the noise of the pixels."""
    x, y = (float(value) for value in exposure.wcs.sky_to_pixel(source.ra_deg, source.dec_deg))
    scene = cut_out(exposure, x, y, DEFAULT)
    share = scene.profile(exposure, scene.x, scene.y)
    unit = UJY_PER_ARCSEC2 * float(exposure.wcs.solid_angle_arcsec2(x, y))
    sky = float(np.median(scene.variance[scene.sky & (scene.variance > 0)]))
    variance = sky + DETECTORS[exposure.detector].photon_slope * share * flux_ujy / unit
    information = float((share**2 / variance)[scene.good].sum())
    return unit / math.sqrt(information) if information > 0.0 else math.inf


RADII_PX = (1.2, 2.0, 3.0)


@dataclass
class Star:
    """An isolated star on one exposure: records by the default method and by apertures of the radii above."""

    record: dict
    truth: dict
    bound: float
    release: str
    by_radius: dict


@pytest.fixture(scope="module", params=FIELDS)
def isolated(request):
    """Isolated stars of S/N 20 to 100."""
    found = []
    for name in names(request.param, "isolated"):
        source = star(request.param, name)
        for exposure, truth in exposures(request.param, name):
            bound = best_error(exposure, source, truth["flux_ujy"])
            if 20.0 <= truth["flux_ujy"] / bound <= 100.0:
                by_radius = {radius: measure(exposure, source, aperture_of(radius)) for radius in RADII_PX}
                record = measure(exposure, source, DEFAULT)
                found.append(Star(record, truth, bound, exposure.release, by_radius))
    return found


def aperture_of(radius_px):
    fixed = ApertureSettings("fixed", diameter_px=2 * radius_px)
    return PhotometrySettings(estimators=("aperture",), primary="aperture", aperture=fixed)


def assert_unbiased_with_honest_errors(flux, error, true, bias=0.005):
    pulls = (flux - true) / error
    assert abs(np.median(flux / true) - 1.0) <= bias
    assert abs(pulls.mean()) <= 0.1
    assert 0.93 <= pulls.std() <= 1.07


@pytest.mark.parametrize("estimator", ["psf", "aperture"])
def test_total_flux_of_isolated_stars(isolated, estimator):
    flux, error, true = columns([(entry.record, entry.truth) for entry in isolated], estimator)
    assert flux.size > 900
    assert_unbiased_with_honest_errors(flux, error, true)


def test_psf_fluxes_scatter_as_little_as_is_possible(isolated):
    usable = [entry for entry in isolated if entry.record["status"] == "ok"]
    misses = [(entry.record["psf_flux_ujy"] - entry.truth["flux_ujy"]) / entry.bound for entry in usable]
    assert np.std(misses) <= 1.10


@pytest.mark.parametrize("radius_px", RADII_PX)
def test_total_flux_by_apertures_of_any_size(isolated, radius_px):
    flux, error, true = columns([(entry.by_radius[radius_px], entry.truth) for entry in isolated], "aperture")
    assert flux.size > 900
    assert_unbiased_with_honest_errors(flux, error, true)


def test_every_detector_and_release_is_on_the_same_scale(isolated):
    groups = {}
    for entry in isolated:
        if entry.record["status"] in ("ok", "flagged"):
            true = entry.truth["flux_ujy"]
            pair = entry.record["flux_ujy"] / true - 1.0, true / entry.bound
            groups.setdefault((entry.truth["band"], entry.release), []).append(pair)
    assert len({band for band, _ in groups}) == 6
    for group in groups.values():
        ratio, weight = np.array(group).T
        mean, error = np.average(ratio, weights=weight**2), 1.0 / np.sqrt((weight**2).sum())
        assert abs(mean) < 3.0 * error + 0.002


def test_both_releases_are_in_the_second_field():
    assert {file.release for file in field_of("field2").files.values()} == {"qr2", "qr3"}


def assert_a_row_for_each_exposure(field, kind, seen, step=1):
    assert all(record["status"] for record, _ in seen)
    stems = [file.stem for file in field_of(field).files.values()]
    expected = [
        (stem, name)
        for index, name in enumerate(names(field, kind))
        for stem in stems[index % step :: step]
        if (stem, name) in truth_of(field)
    ]
    assert [(truth["stem"], truth["source"]) for _, truth in seen] == expected


@pytest.mark.parametrize("field", FIELDS)
def test_nothing_is_measured_as_nothing(field):
    seen = observe(field, "blank", 1)
    assert_a_row_for_each_exposure(field, "blank", seen)
    assert all(record["flux_ujy"] is not None for record, _ in used(seen))
    assert len(used(seen)) > 0.95 * len(seen)
    for estimator in ("psf", "aperture"):
        flux, error, _ = columns(seen, estimator)
        assert abs((flux / error).mean()) <= 0.1
        assert 0.93 <= (flux / error).std() <= 1.07
        assert 0.4 < (flux > 0).mean() < 0.6


@pytest.mark.parametrize("field", FIELDS)
def test_faint_sources_are_not_lifted(field):
    assert_a_row_for_each_exposure(field, "faint", observe_faint(field), step=2)
    assert len(used(observe_faint(field))) > 0.95 * len(observe_faint(field))
    for estimator in ("psf", "aperture"):
        flux, error, true = columns(observe_faint(field), estimator)
        pulls = (flux - true) / error
        assert abs(pulls.mean()) <= 0.1
        assert 0.9 <= pulls.std() <= 1.1


@functools.cache
def observe_faint(field):
    return observe(field, "faint", 2)


def partner(name):
    """The other half of a blend."""
    return name[:-1] + {"a": "b", "b": "a"}[name[-1]]


@pytest.mark.parametrize("field", FIELDS)
def test_blends_come_apart_when_the_neighbour_is_given(field):
    """Both stars of each pair of a separation and a flux ratio: the standard error is 0.15 to 0.27 % a pair.

    The fainter star alone has up to 0.65 %, hence 1 % and two standard errors. Measured in both fields together, that
    of 2 px and 5:1 is -1.1 % +- 0.4 %: not shown to keep the bar by itself.
    """
    seen = observe(field, "blend", 1, neighbour_of=partner)
    for pair in sorted({name[:-1] for name in names(field, "blend")}):
        of_pair = [(record, truth) for record, truth in seen if truth["source"][:-1] == pair]
        for estimator in ("psf", "aperture"):
            flux, error, true = columns(of_pair, estimator)
            weights = (true / error) ** 2
            assert weights.sum() ** -0.5 < 0.005
            assert abs(np.average(flux / true - 1.0, weights=weights)) <= 0.01
            flux, error, true = columns([one for one in of_pair if one[1]["source"].endswith("b")], estimator)
            weights = (true / error) ** 2
            assert abs(np.average(flux / true - 1.0, weights=weights)) <= 0.01 + 2.0 * weights.sum() ** -0.5
    for estimator in ("psf", "aperture"):
        flux, error, true = columns(seen, estimator)
        assert abs(((flux - true) / error).mean()) <= 0.1
        assert ((flux - true) / error).std() <= 1.2
    close = [record for record, truth in seen if truth["source"].startswith(("blend-01", "blend-02"))]
    assert all(record["is_blended"] for record in close)


@pytest.mark.parametrize("field", FIELDS)
def test_a_flagged_spike_in_the_core_is_never_a_wrong_number_with_status_ok(field):
    seen = observe(field, "spiked", 1)
    spiked = [(record, truth) for record, truth in seen if truth["spiked"]]
    assert len(spiked) > 10
    for record, truth in spiked:
        pull = (record["flux_ujy"] - truth["flux_ujy"]) / record["flux_err_ujy"]
        assert record["status"] in ("flagged", "unusable", "edge")
        assert record["status"] != "flagged" or abs(pull) <= 3.0
    assert np.std([(r["flux_ujy"] - t["flux_ujy"]) / r["flux_err_ujy"] for r, t in used(spiked)]) < 1.3


def test_a_moving_star_needs_its_proper_motion():
    ratios = {True: [], False: []}
    for exposure, truth in exposures("demo", "mover", 6):
        for moving, found in ratios.items():
            record = measure(exposure, star("demo", "mover", moving), DEFAULT)
            if record["psf_flux_ujy"] is not None:
                found.append(record["psf_flux_ujy"] / truth["flux_ujy"])
    assert np.median(ratios[True]) == pytest.approx(1.0, abs=0.03)
    assert np.median(ratios[False]) < 0.9
