"""Slim transfers and the calibration that completes them: the same numbers for a fraction of the bytes."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from answers import answering
from astropy.io import fits
from spxflow import archive, mef, transfer
from spxflow.archive.calibration import latest_file, version_key
from spxflow.archive.search import find
from spxflow.demo import scenario, server
from spxflow.observations import BANDS
from spxflow.sources import Source
from spxflow.transfer import CalibrationSettings, CutoutSize, TransferSettings
from spxflow.transfer.calibration import CalibrationCache, CalibrationUnavailableError, release_of
from spxflow.transfer.client import HttpClient
from spxflow.transfer.slim import PLANES

QUICK = TransferSettings(mode="slim", retry_wait_s=0.01, retry_wait_max_s=0.05, retries=3, timeout_s=10.0)
LIMIT = 300_000  # bytes received per exposure


@pytest.fixture(scope="module")
def local():
    """QR2 and QR3 of one field."""
    with server.running(scenario.load("releases")) as running:
        yield running


@pytest.fixture
def spoilt(local):
    """The archive, to be spoilt by a test; well again afterwards."""
    local.traffic.forget()
    yield local
    local.set_faults({})


@pytest.fixture(scope="module")
def source(local):
    target = local.holdings.scenario.target
    return Source("target", "target", target.ra_deg, target.dec_deg)


@pytest.fixture(scope="module")
def exposures(local, source):
    """One exposure of QR2 and of QR3, by release."""
    found = find([source], archive.ArchiveSettings(url=local.url), archive.QuerySettings(), BANDS)
    return {release_of(one): one for one in found["target"].observations}


@pytest.fixture
def settings(local):
    return replace(QUICK, archive_url=local.url, s3_url=f"{local.url}/s3")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Calibration files that tests of this module share."""
    return tmp_path_factory.mktemp("calibration")


def cache_in(directory, settings, **options):
    return CalibrationCache(CalibrationSettings(directory, **options), settings.archive_url, HttpClient(settings))


def fetched(observation, source, path, settings, calibration=None):
    record = transfer.fetch(observation, source, path, settings, calibration=calibration)
    assert record.status == "ok", record.reason
    return record


def assert_planes_agree(path, other):
    with fits.open(path) as hdus, fits.open(other) as others:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", *PLANES]
        for name in PLANES:
            assert np.array_equal(hdus[name].data, others[name].data, equal_nan=name != "FLAGS")
            difference = fits.HeaderDiff(hdus[name].header, others[name].header, ignore_comments=["*"])
            assert difference.identical, difference.report()


# --- the files


@pytest.mark.parametrize("release", ["QR2", "QR3"])
@pytest.mark.parametrize("size", ["60px", "41px,23px"])
def test_a_slim_file_is_the_cutout_without_what_all_share(exposures, source, settings, tmp_path, release, size):
    settings = replace(settings, size=CutoutSize.parse(size))
    slim = fetched(exposures[release], source, tmp_path / "slim.fits", settings)
    whole = fetched(exposures[release], source, tmp_path / "whole.fits", replace(settings, mode="cutout"))
    assert_planes_agree(tmp_path / "slim.fits", tmp_path / "whole.fits")
    assert slim.file_bytes == (tmp_path / "slim.fits").stat().st_size
    assert slim.received_bytes < LIMIT < whole.received_bytes


@pytest.mark.parametrize("release", ["QR2", "QR3"])
@pytest.mark.parametrize("server_of_ranges", ["archive", "s3"])
def test_byte_ranges_give_the_same_file(exposures, source, settings, tmp_path, release, server_of_ranges):
    by_ranges = replace(settings, slim_from=server_of_ranges)
    record = fetched(exposures[release], source, tmp_path / "slim.fits", by_ranges)
    fetched(exposures[release], source, tmp_path / "whole.fits", replace(settings, mode="cutout"))
    assert_planes_agree(tmp_path / "slim.fits", tmp_path / "whole.fits")
    assert record.url.startswith(settings.s3_url if server_of_ranges == "s3" else exposures[release].url)
    assert record.received_bytes < (LIMIT if release == "QR2" else 400_000)


def test_whole_rows_are_read_where_requests_cost_more_than_bytes(exposures, source, settings, tmp_path):
    rows = replace(settings, slim_from="s3", range_gap_kb=10.0)
    record = fetched(exposures["QR2"], source, tmp_path / "rows.fits", rows)
    fetched(exposures["QR2"], source, tmp_path / "slim.fits", settings)
    assert record.requests < 12
    assert (tmp_path / "rows.fits").read_bytes() == (tmp_path / "slim.fits").read_bytes()


def test_a_clipped_window_is_the_same_by_ranges(local, exposures, source, settings, tmp_path):
    observation = exposures["QR2"]
    file = next(one for one in local.holdings.scenario.files.values() if one.stem == observation.stem)
    near = tuple(0.996 * edge + 0.004 * middle for edge, middle in zip(file.footprint[2], file.center, strict=True))
    settings = replace(settings, center=near)
    fetched(observation, source, tmp_path / "ranges.fits", replace(settings, slim_from="archive"))
    fetched(observation, source, tmp_path / "slim.fits", settings)
    assert (tmp_path / "ranges.fits").read_bytes() == (tmp_path / "slim.fits").read_bytes()
    with fits.open(tmp_path / "slim.fits") as hdus:
        assert hdus["IMAGE"].data.size < 3600


def test_a_window_beside_the_image_is_refused_by_ranges(exposures, source, settings, tmp_path):
    beside = replace(settings, center=(source.ra_deg, source.dec_deg + 5.0), slim_from="archive")
    record = transfer.fetch(exposures["QR2"], source, tmp_path / "x.fits", beside)
    assert (record.status, record.requests) == ("download_failed", 1)
    assert "overlap" in record.reason


def test_the_cutout_service_stands_in_where_there_are_no_ranges(exposures, source, settings, tmp_path):
    fetched(exposures["QR2"], source, tmp_path / "whole.fits", replace(settings, mode="cutout"))
    cutout = (tmp_path / "whole.fits").read_bytes()
    with answering(lambda path: (200, {}, cutout)) as url:
        here = replace(exposures["QR2"], url=exposures["QR2"].url.replace(settings.archive_url, url))
        without = replace(settings, archive_url=url, slim_from="archive")
        record = fetched(here, source, tmp_path / "slim.fits", without)
    assert (record.mode, record.requests) == ("slim", 2)
    assert "center=" in record.url
    assert_planes_agree(tmp_path / "slim.fits", tmp_path / "whole.fits")


# --- what completes them


@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_with_calibration_a_slim_file_measures_as_the_whole_one(
    exposures, source, settings, directory, tmp_path, release
):
    observation = exposures[release]
    cache = cache_in(directory, settings)
    record = fetched(observation, source, tmp_path / "slim.fits", settings, cache)
    fetched(observation, source, tmp_path / "whole.fits", replace(settings, mode="cutout"))
    assert record.mode == "slim"
    assert record.received_bytes < LIMIT
    slim = mef.read_exposure(tmp_path / "slim.fits", cache.load(release, observation.detector, slim=True))
    whole = mef.read_exposure(tmp_path / "whole.fits")
    x, y = whole.wcs.sky_to_pixel(source.ra_deg, source.dec_deg)
    x_det, y_det = float(x) + whole.x0, float(y) + whole.y0
    stamps = [one.psf.stamp(x_det, y_det, one.x0 + 20, one.y0 + 20, 20, 20) for one in (slim, whole)]
    assert np.array_equal(*stamps)
    assert slim.wavelength.at(x_det, y_det) == whole.wavelength.at(x_det, y_det)
    assert np.array_equal(slim.image, whole.image, equal_nan=True)


@pytest.mark.parametrize("slim_from", ["cutout", "archive"])
@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_a_file_with_another_psf_is_taken_whole(local, exposures, source, settings, tmp_path, release, slim_from):
    observation = exposures[release]
    cache = cache_in(tmp_path / "calibration", settings)
    path = cache.psf_file(release, observation.detector)
    changed = bytearray(path.read_bytes())
    start = next(hdu for hdu in mef.scan(bytes(changed))[0] if "PSF" in hdu.name).data_start
    changed[start : start + 8] = b"\x01" * 8
    path.write_bytes(bytes(changed).replace(b"Calibration source file: epsf", b"Calibration source file: EPSF"))
    record = fetched(observation, source, tmp_path / "x.fits", replace(settings, slim_from=slim_from), cache)
    assert record.mode == "cutout"
    assert "center=" in record.url
    assert mef.read_exposure(tmp_path / "x.fits").release == release


def test_without_calibration_the_psf_is_not_read(exposures, source, settings, directory, tmp_path):
    without = fetched(exposures["QR2"], source, tmp_path / "a.fits", settings)
    compared = fetched(exposures["QR2"], source, tmp_path / "b.fits", settings, cache_in(directory, settings))
    assert compared.received_bytes - without.received_bytes < 60_000
    assert compared.sha256 == without.sha256


def test_calibration_that_cannot_be_had_is_a_reason(spoilt, exposures, source, settings, tmp_path):
    spoilt.set_faults({"files": {"/ibe/dir/list/*": "404"}})
    cache = cache_in(tmp_path, settings)
    record = transfer.fetch(exposures["QR2"], source, tmp_path / "x.fits", settings, calibration=cache)
    assert record.status == "download_failed"
    assert "average_psf of QR2" in record.reason
    with pytest.raises(CalibrationUnavailableError, match="spectral_wcs"):
        cache_in(tmp_path, settings, wavelength="map").load("QR3", 4)


# --- the cache


def test_only_what_is_configured_is_fetched(spoilt, settings, tmp_path):
    calibration = cache_in(tmp_path, settings).load("QR2", 4)
    assert (calibration.detector, calibration.psf, calibration.wavelength) == (4, None, None)
    assert calibration.provenance == {}
    assert spoilt.requests == ()


def test_slim_files_get_their_psf_and_table(settings, directory):
    calibration = cache_in(directory, settings).load("QR2", 4, slim=True)
    assert calibration.provenance == {
        "psf": "average_psf_D4_spx_cal-psf-v5-2026-082.fits",
        "wavelength": "spectral_wcs_D4_spx_cal-wcs-v4-2025-254.fits",
    }
    assert isinstance(calibration.wavelength, mef.WaveTable)


def test_maps_replace_the_tables(settings, directory):
    cache = cache_in(directory, settings, wavelength="map", solid_angle="map")
    calibration = cache.load("QR2", 4)
    assert isinstance(calibration.wavelength, mef.WaveMap)
    assert calibration.solid_angle.shape == (2040, 2040)
    assert calibration.psf is None
    assert calibration.provenance["solid_angle"] == "solid_angle_pixel_map_D4_spx_cal-sapm-v2-2025-164.fits"


def test_harmonised_exposures_get_the_gain_and_wavelengths_of_the_latest_release(settings, directory):
    cache = cache_in(directory, settings, harmonise=True)
    earlier, latest = cache.load("QR2", 5), cache.load("QR3", 5)
    assert earlier.gain.shape == (2040, 2040)
    assert earlier.provenance == {
        "wavelength": "spectral_wcs_D5_spx_cal-swcs-v5-2026-191.fits",
        "gain": "l3_flux_corrections_D5_spx_cal-flxc-v1-2026-191.fits",
    }
    assert (latest.gain, latest.wavelength) == (None, None)
    own = cache_in(directory, settings).load("QR2", 5, slim=True).wavelength
    shift = np.subtract(earlier.wavelength.at(1000.0, 1000.0), own.at(1000.0, 1000.0))
    assert shift == pytest.approx((0.0064, 0.0), abs=2e-4)


def test_the_latest_version_of_each_detector_is_found(settings):
    def latest(family, detector):
        client = HttpClient(settings)
        return latest_file(lambda url: client.read(url, 10**6), settings.archive_url, "QR3", family, detector).token

    assert latest("epsf", 2) == "cal-epsf-v1-2026-191"
    assert latest("epsf", 3) == "cal-epsf-v2-2026-191"
    with pytest.raises(transfer.faults.TransferFault, match="404"):
        latest("nothing", 3)


def test_versions_are_ordered_by_number():
    tokens = ["cal-psf-v10-2025-001", "cal-psf-v9-2026-001", "cal-psf-v9-2025-300", "base-2025-158", "cal-epsf-v1"]
    assert sorted(tokens, key=version_key, reverse=True) == [*tokens[:3], tokens[4], tokens[3]]
    for name in ("..", "", "cal-psf-v5/..", "cal psf", "cal-psf-v5-2025-1"):
        with pytest.raises(ValueError, match="not a calibration version"):
            version_key(name)


def calibration_requests(local):
    return [request for request in local.requests if request.kind == "calibration"]


def test_a_file_is_fetched_once_by_many_threads(spoilt, settings, tmp_path):
    caches = [cache_in(tmp_path, settings) for _ in range(3)]
    with ThreadPoolExecutor(12) as pool:
        paths = list(pool.map(lambda number: caches[number % 3].psf_file("QR3", 3), range(24)))
    assert len(set(paths)) == 1
    assert len(calibration_requests(spoilt)) == 1


def test_a_file_is_fetched_once_by_many_processes(spoilt, settings, tmp_path):
    code = (
        "import sys; from pathlib import Path; from spxflow.transfer import *;"
        "from spxflow.transfer.calibration import calibration_cache;"
        "cache = calibration_cache(CalibrationSettings(Path(sys.argv[1])), TransferSettings(archive_url=sys.argv[2]));"
        "print(cache.load('QR3', 6, slim=True).provenance['psf'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path), settings.archive_url]
    children = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {child.communicate()[0].strip() for child in children} == {"epsf_D6_spx_cal-epsf-v1-2026-191.fits"}
    assert len(calibration_requests(spoilt)) == 2


def test_what_is_kept_serves_later_runs_and_offline(spoilt, settings, tmp_path):
    first = cache_in(tmp_path, settings).psf_file("QR2", 1)
    spoilt.traffic.forget()
    assert cache_in(tmp_path, settings).psf_file("QR2", 1) == first
    assert spoilt.requests == ()
    offline = replace(settings, archive_url="http://127.0.0.1:1", retries=0)
    assert cache_in(tmp_path, offline, check_days=0.0).psf_file("QR2", 1) == first


def test_a_newer_version_is_taken_when_it_is_time_to_look(local, settings, tmp_path):
    newest = [path for path in local.holdings.paths() if "cal-psf-v5-2026-082/1/" in path]
    token = "cal-psf-v5-2026-082"
    local.holdings.remove(newest[0])
    try:
        before = cache_in(tmp_path, settings).psf_file("QR2", 1)
    finally:
        local.holdings.restore(newest[0])
    assert token not in before.name
    assert cache_in(tmp_path, settings).psf_file("QR2", 1) == before
    cache = cache_in(tmp_path, settings, check_days=0.0)
    assert token in cache.psf_file("QR2", 1).name
    assert cache.load("QR2", 1, True, {"psf": before.name}).provenance["psf"] == before.name
    assert token in cache.load("QR2", 1, True).provenance["psf"]
    assert token in cache.names("QR2", 1, True)["psf"]


def test_files_that_a_manifest_names_are_kept_ones_and_whole(spoilt, settings, tmp_path):
    cache = cache_in(tmp_path / "calibration", settings)
    path = cache.psf_file("QR2", 2)
    whole = path.read_bytes()
    (tmp_path / "other.fits").write_bytes(whole)
    for name in (str(tmp_path / "other.fits"), "../../../../other.fits", "..", ""):
        assert (
            cache_in(tmp_path / "calibration", settings).load("QR2", 2, True, {"psf": name}).provenance["psf"]
            == path.name
        )
    path.write_bytes(whole[:-2880])
    assert cache_in(tmp_path / "calibration", settings).load("QR2", 2, True, {"psf": path.name})
    assert path.read_bytes() == whole


def test_a_kept_file_that_is_not_as_it_was_written_is_fetched_again(spoilt, settings, tmp_path):
    path = cache_in(tmp_path, settings).psf_file("QR2", 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-2880])
    assert cache_in(tmp_path, settings).psf_file("QR2", 2).read_bytes() == whole
    recorded = json.loads((path.parent / "latest.json").read_text())
    elsewhere = "http://evil.example/../../x"
    for record in ({"url": elsewhere}, recorded | {"url": "x"}, recorded | {"url": 5}, [recorded]):
        (path.parent / "latest.json").write_text(json.dumps(record))
        assert cache_in(tmp_path, settings).psf_file("QR2", 2).read_bytes() == whole
    assert len(calibration_requests(spoilt)) == 6


def test_calibration_of_another_user_is_read_where_it_cannot_be_locked(settings, tmp_path):
    path = cache_in(tmp_path, settings).psf_file("QR2", 2)
    (path.parent / ".lock").unlink()
    (path.parent / ".lock").mkdir()  # cannot be opened, not even by root
    assert cache_in(tmp_path, settings).psf_file("QR2", 2) == path
    assert cache_in(tmp_path, settings, check_days=0.0).psf_file("QR2", 2) == path
    (path.parent / "latest.json").unlink()
    with pytest.raises(CalibrationUnavailableError, match="average_psf of QR2 D2 cannot be had: .*directory"):
        cache_in(tmp_path, settings).psf_file("QR2", 2)


def test_what_a_killed_run_left_beside_calibration_is_removed(settings, tmp_path):
    directory = tmp_path / "qr2" / "average_psf" / "D2"
    directory.mkdir(parents=True)
    (directory / ".average_psf_D2_spx_cal-psf-v5-2026-082.fits.0123abcd.part").touch()
    path = cache_in(tmp_path, settings).psf_file("QR2", 2)
    assert sorted(kept.name for kept in directory.iterdir()) == [".lock", path.name, "latest.json"]


@pytest.mark.parametrize("fault", ["503", "truncated", "random", "empty", "html", "reset"])
def test_calibration_comes_through_faults(spoilt, settings, tmp_path, fault):
    spoilt.set_faults({"files": {"/ibe/data/*": [fault]}})
    assert cache_in(tmp_path, settings).psf_file("QR2", 2).stat().st_size > 4_900_000
    kept = [path.suffix for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert sorted(kept) == [".fits", ".json"]


def test_one_connection_is_enough_for_files_and_calibration(exposures, source, settings, tmp_path):
    settings = replace(settings, connections=1)
    client = HttpClient(settings)
    cache = CalibrationCache(CalibrationSettings(tmp_path / "calibration"), settings.archive_url, client)
    done = []

    def run(number):
        record = transfer.fetch(
            exposures["QR3"], source, tmp_path / f"{number}.fits", settings, client=client, calibration=cache
        )
        done.append(record.status)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert done == ["ok"] * 4
