"""Files from the local archive to disk, through faults of all kinds."""

import datetime
import email.utils
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from answers import HOSTILE, answering, sending
from astropy.io import fits
from spxflow import archive, config, transfer
from spxflow.archive.search import find
from spxflow.demo import server
from spxflow.errors import ConfigError
from spxflow.observations import BANDS, Observation
from spxflow.retries import Backoff, passes, retry_after_s
from spxflow.sources import Source
from spxflow.transfer import CutoutSize, TransferSettings
from spxflow.transfer.check import cutout_window
from spxflow.transfer.client import HttpClient
from spxflow.transfer.faults import TransferFault
from spxflow.transfer.settings import parse_center

TARGET = Source("cloverleaf", "cloverleaf", 213.942708, 11.495389)
QUICK = TransferSettings(retry_wait_s=0.01, retry_wait_max_s=0.05, timeout_s=5.0, size=CutoutSize.parse("20px"))
HDUS = ["PRIMARY", "IMAGE", "FLAGS", "VARIANCE", "ZODI", "PSF", "WCS-WAVE"]


@pytest.fixture(scope="module")
def local(demo_scenario):
    with server.running(demo_scenario) as running:
        yield running


@pytest.fixture
def spoilt(local):
    """The archive, to be spoilt by a test; well again afterwards."""
    local.traffic.forget()
    yield local
    local.set_faults({})
    local.traffic.forget()


@pytest.fixture(scope="module")
def exposures(local):
    return find([TARGET], archive.ArchiveSettings(url=local.url), archive.QuerySettings(), BANDS)[
        TARGET.key
    ].observations


@pytest.fixture
def settings(local):
    return replace(QUICK, archive_url=local.url, s3_url=f"{local.url}/s3")


def fetched(observation, directory, settings, **others):
    """Record and path of one transfer."""
    path = Path(directory) / f"{observation.stem}.fits"
    return transfer.fetch(observation, TARGET, path, settings, **others), path


def files_in(directory):
    return sorted(path.name for path in Path(directory).iterdir())


# --- one file


def test_a_cutout_is_whole_and_shows_the_source(exposures, settings, tmp_path):
    record, path = fetched(exposures[0], tmp_path, settings)
    assert (record.status, record.reason, record.mode, record.requests, record.failed_runs) == (
        "ok",
        "",
        "cutout",
        1,
        0,
    )
    assert record.file_bytes == record.received_bytes == path.stat().st_size
    assert len(record.sha256) == 64
    assert files_in(tmp_path) == [path.name]
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == HDUS
        assert hdus["IMAGE"].data.shape == (20, 20)


def test_a_whole_image_is_asked_for_without_a_cutout(exposures, settings, tmp_path):
    record, path = fetched(exposures[0], tmp_path, replace(settings, mode="full"))
    assert (record.status, record.mode) == ("ok", "full")
    assert "?" not in record.url
    with fits.open(path) as hdus:
        assert hdus["IMAGE"].shape == (2040, 2040)


@pytest.mark.parametrize(
    ("size", "shape"),
    [("30px", (30, 30)), ("3arcmin", (29, 29)), ("180arcsec,60arcsec", (10, 29)), ("0.01deg", (6, 6))],
)
def test_sizes_in_all_units_are_what_the_service_gives(exposures, settings, tmp_path, size, shape):
    record, path = fetched(exposures[0], tmp_path, replace(settings, size=CutoutSize.parse(size)))
    assert record.status == "ok", record.reason
    with fits.open(path) as hdus:
        assert hdus["IMAGE"].data.shape == shape


def test_a_cutout_at_the_edge_of_the_image_is_clipped_and_valid(exposures, settings, tmp_path, local):
    corner = next(iter(local.holdings.scenario.files.values()))
    observation = next(one for one in exposures if one.stem == corner.stem)
    near = tuple(0.999 * edge + 0.001 * middle for edge, middle in zip(corner.footprint[0], corner.center, strict=True))
    record, path = fetched(observation, tmp_path, replace(settings, center=near))
    assert record.status == "ok", record.reason
    with fits.open(path) as hdus:
        assert hdus["IMAGE"].data.size < 400


def test_a_cutout_beside_the_image_is_not_asked_for_again(exposures, settings, tmp_path):
    record, path = fetched(exposures[0], tmp_path, replace(settings, center=(100.0, -60.0)))
    assert (record.status, record.requests) == ("download_failed", 1)
    assert "does not overlap" in record.reason
    assert not path.exists()


def test_the_centre_follows_a_moving_source(exposures, settings, tmp_path):
    moving = replace(TARGET, dec_deg=TARGET.dec_deg - 1.0, pmdec_masyr=1.0 / 25.46 * 3.6e6, epoch_yr=2000.0)
    record = transfer.fetch(exposures[0], moving, tmp_path / "x.fits", settings)
    center = record.url.split("center=")[1].split("&")[0]
    assert float(center.split(",")[1]) == pytest.approx(TARGET.dec_deg, abs=1e-3)


def test_a_compressed_answer_is_unpacked(exposures, settings, tmp_path):
    _, plain = fetched(exposures[0], tmp_path, settings)
    packed = gzip.compress(plain.read_bytes(), 1)
    with answering(lambda path: (200, {"Content-Type": "image/fits"}, packed)) as url:
        elsewhere = replace(exposures[0], url=exposures[0].url.replace(settings.archive_url, url))
        record, unpacked = fetched(elsewhere, tmp_path / "unpacked", replace(settings, archive_url=url))
    assert record.status == "ok", record.reason
    assert unpacked.read_bytes() == plain.read_bytes()
    assert record.received_bytes == len(packed)


def test_a_destination_that_cannot_be_written_is_a_record(exposures, settings, tmp_path):
    (tmp_path / "file").write_text("")
    record, _ = fetched(exposures[0], tmp_path / "file", settings)
    assert record.status == "download_failed"
    assert "cannot be written" in record.reason


# --- faults that pass, and faults that do not

PASSING = [
    "408",
    "425",
    {"kind": "429", "retry_after_s": 0.05},
    "500",
    "502",
    "503",
    "504",
    "reset",
    {"kind": "reset", "fraction": 0.4},
    "truncated",
    {"kind": "truncated", "fraction": 0.0005},
    "html",
    "random",
    "empty",
    {"kind": "missing_hdu", "hdu": "ZODI"},
    {"kind": "missing_hdu", "hdu": "PSF"},
]


LATE = [{"kind": "reset", "fraction": 0.4}, "truncated", {"kind": "missing_hdu", "hdu": "PSF"}]


@pytest.mark.parametrize(
    ("fault", "mode"),
    [*((fault, "cutout") for fault in PASSING), *((fault, "slim") for fault in PASSING if fault not in LATE)],
    ids=str,
)
def test_a_fault_that_passes_costs_one_request(spoilt, exposures, settings, tmp_path, fault, mode):
    spoilt.set_faults({"files": {"/ibe/data/*": [fault]}})
    record, path = fetched(exposures[0], tmp_path, replace(settings, mode=mode))
    assert (record.status, record.requests) == ("ok", 2), record.reason
    assert files_in(tmp_path) == [path.name]


def test_a_silent_connection_is_given_up(spoilt, exposures, settings, tmp_path):
    spoilt.set_faults({"files": {"/ibe/data/*": [{"kind": "stall", "seconds": 3.0}]}})
    record, _ = fetched(exposures[0], tmp_path, replace(settings, timeout_s=0.5))
    assert (record.status, record.requests) == ("ok", 2), record.reason
    assert record.seconds < 2.5


def test_a_crawling_answer_is_given_up(spoilt, exposures, settings, tmp_path):
    spoilt.set_faults({"files": {"/ibe/data/*": [{"kind": "drip", "bytes_per_s": 2000}]}})
    record, _ = fetched(exposures[0], tmp_path, replace(settings, timeout_s=0.5, min_rate_kb_s=100.0))
    assert (record.status, record.requests) == ("ok", 2), record.reason
    assert record.seconds < 2.5


@pytest.mark.parametrize("status", ["400", "401", "403", "404", "410", "501"])
def test_a_refusal_is_not_asked_again(spoilt, exposures, settings, tmp_path, status):
    spoilt.set_faults({"files": {"/ibe/data/*": status}})
    record, path = fetched(exposures[0], tmp_path, settings, failed_runs=2)
    assert (record.status, record.requests, record.failed_runs) == ("download_failed", 1, 3)
    assert status in record.reason
    assert not path.exists()


@pytest.mark.parametrize(
    ("fault", "status", "reason", "requests"),
    [
        ("random", "invalid_file", "not a FITS file", 3),
        ("empty", "invalid_file", "empty", 3),
        ({"kind": "missing_hdu", "hdu": "VARIANCE"}, "invalid_file", "VARIANCE", 3),
        ({"kind": "missing_hdu", "hdu": "WCS-WAVE"}, "invalid_file", "WCS-WAVE", 3),
        ("html", "download_failed", "page instead of a file", 5),
        ("503", "download_failed", "503", 5),
        ("truncated", "download_failed", "cut off", 5),
    ],
    ids=str,
)
def test_a_fault_that_stays_ends_in_a_reason(spoilt, exposures, settings, tmp_path, fault, status, reason, requests):
    spoilt.set_faults({"files": {"/ibe/data/*": fault}})
    record, _ = fetched(exposures[0], tmp_path, replace(settings, retries=4))
    assert (record.status, record.requests) == (status, requests), record.reason
    assert reason in record.reason
    assert "\n" not in record.reason
    assert (record.file_bytes, record.sha256) == (0, "")
    assert files_in(tmp_path) == []


def test_a_file_of_another_place_is_refused(spoilt, exposures, settings, tmp_path):
    _, other = fetched(exposures[0], tmp_path, replace(settings, center=(TARGET.ra_deg + 0.2, TARGET.dec_deg)))
    path = exposures[0].url.split("/ibe/data/spherex/")[1]
    spoilt.holdings.replace(path, other.read_bytes())
    try:
        record, _ = fetched(exposures[0], tmp_path / "here", settings)
    finally:
        spoilt.holdings.restore(path)
    assert record.status == "invalid_file"
    assert "does not show the position" in record.reason


def test_a_larger_file_than_allowed_is_not_read(spoilt, exposures, settings, tmp_path):
    record, _ = fetched(exposures[0], tmp_path, replace(settings, max_file_mb=1.0))
    assert (record.status, record.requests) == ("invalid_file", 1)
    assert "max_file_mb" in record.reason
    assert record.received_bytes < 200_000


def test_an_archive_that_is_gone_is_a_reason_and_soon_known(exposures, tmp_path):
    settings = replace(QUICK, archive_url="http://127.0.0.1:1", retries=2, connections=1)
    gone = replace(exposures[0], url="http://127.0.0.1:1/ibe/data/spherex/x.fits")
    requests = [fetched(gone, tmp_path, settings)[0] for _ in range(4)]
    assert {record.status for record in requests} == {"download_failed"}
    assert "127.0.0.1:1: no answer" in requests[0].reason
    assert [record.requests for record in requests] == [3, 1, 1, 1]


def test_redirections_stay_with_the_archive(exposures, settings, tmp_path):
    def moved(path):
        if path.startswith("/old"):
            return 301, {"Location": path.replace("/old", "https://irsa.ipac.caltech.edu")}, b""
        return 302, {"Location": "http://192.0.2.1/file.fits"}, b""

    with answering(moved) as url:
        old = replace(exposures[0], url=f"{url}/old/ibe/data/spherex/qr2/x.fits")
        record, _ = fetched(old, tmp_path, replace(settings, archive_url=url))
    assert (record.status, record.requests) == ("download_failed", 2)
    assert "another host" in record.reason


@pytest.mark.parametrize("mode", ["cutout", "slim"])
def test_whatever_a_server_sends_becomes_a_record(exposures, settings, tmp_path, mode):
    with sending() as (url, answers):
        here = replace(exposures[0], url=f"{url}/ibe/data/spherex/x.fits")
        settings = replace(settings, archive_url=url, retries=1, mode=mode, max_file_mb=2.0)
        for answer in HOSTILE:
            answers.append(answer)
            record, _ = fetched(here, tmp_path, settings, client=HttpClient(settings))
            assert record.status in ("download_failed", "invalid_file"), answer[:60]
            assert record.reason.isprintable(), answer[:60]
            assert len(record.reason) < 400, answer[:60]
            json.dumps(asdict(record), allow_nan=False)
    assert files_in(tmp_path) == []


# --- waiting


def test_retry_after_is_obeyed_in_full(spoilt, exposures, settings, tmp_path):
    spoilt.set_faults({"files": {"/ibe/data/*": [{"kind": "429", "retry_after_s": 1}]}})
    record, _ = fetched(exposures[0], tmp_path, settings)
    first, second = (request.time for request in spoilt.requests)
    assert record.status == "ok"
    assert 1.0 <= second - first < 1.5


def test_retry_after_as_a_date_is_obeyed(exposures, settings, tmp_path):
    asked = []

    def answer(path):
        asked.append(time.time())
        if len(asked) > 1:
            return 404, {}, b""
        date = datetime.datetime.fromtimestamp(int(time.time()) + 2, datetime.UTC)
        return 503, {"Retry-After": email.utils.format_datetime(date, usegmt=True)}, b""

    with answering(answer) as url:
        here = replace(exposures[0], url=f"{url}/ibe/data/spherex/x.fits")
        fetched(here, tmp_path, replace(settings, archive_url=url))
    assert asked[1] >= int(asked[0]) + 2


def test_a_pause_asked_for_is_kept_by_all(spoilt, exposures, settings, tmp_path):
    spoilt.set_faults({"files": {f"*{exposures[0].stem}*": [{"kind": "503", "retry_after_s": 1}]}})
    settings = replace(settings, connections=2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetched, exposures[0], tmp_path, settings)
        time.sleep(0.4)
        second = pool.submit(fetched, exposures[1], tmp_path, settings)
        assert (first.result()[0].status, second.result()[0].status) == ("ok", "ok")
    begin = min(request.time for request in spoilt.requests if request.fault)
    assert all(request.time >= begin + 1.0 for request in spoilt.requests if not request.fault)


def test_too_long_a_pause_ends_the_tries(spoilt, exposures, settings, tmp_path):
    spoilt.set_faults({"files": {"/ibe/data/*": {"kind": "503", "retry_after_s": 3600}}})
    settings = replace(settings, retry_after_max_s=5.0)
    first, _ = fetched(exposures[0], tmp_path, settings)
    second, _ = fetched(exposures[1], tmp_path, settings)
    assert (first.status, first.requests, second.status, second.requests) == (
        "download_failed",
        1,
        "download_failed",
        0,
    )
    assert "left alone" in second.reason


def test_waits_double_and_are_spread():
    backoff = Backoff(1.0, 60.0)
    for faults, longest in ((1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (2000, 60.0)):
        waits = [backoff.wait_s(faults) for _ in range(200)]
        assert longest / 2 <= min(waits) < 0.6 * longest
        assert 0.9 * longest < max(waits) <= longest


def test_retry_after_is_read_in_all_its_forms():
    date = email.utils.format_datetime(
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90), usegmt=True
    )
    assert retry_after_s({"Retry-After": date}) == pytest.approx(89.5, abs=1.5)
    assert retry_after_s({"Retry-After": "120"}) == 120.0
    assert retry_after_s({"Retry-After": "0.5"}) == 0.5
    assert retry_after_s({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}) == 0.0
    assert [retry_after_s({"Retry-After": text}) for text in ("", "soon", "-3", "nan", "inf")] == [None] * 5
    assert retry_after_s({}) is None


def test_only_some_statuses_pass():
    assert [status for status in range(300, 600) if passes(status)][:5] == [408, 425, 429, 500, 502]


# --- many files

TRANSIENT = {
    "429": {"rate": 0.03, "retry_after_s": 0.1},
    "500": 0.03,
    "502": 0.03,
    "503": 0.03,
    "504": 0.03,
    "reset": {"rate": 0.03, "fraction": 0.01},
    "truncated": 0.03,
    "html": 0.03,
    "random": 0.02,
    "empty": 0.02,
    "missing_hdu": 0.02,
}


@pytest.mark.parametrize("seed", [1, 2])
def test_all_files_come_through_thirty_percent_of_faults(demo_scenario, exposures, local, tmp_path, seed):
    with server.running(demo_scenario, faults={"seed": seed, "rates": TRANSIENT}) as own:
        settings = replace(QUICK, archive_url=own.url, connections=3)
        here = [replace(one, url=one.url.replace(local.url, own.url)) for one in exposures]
        with ThreadPoolExecutor(12) as pool:
            records = list(pool.map(lambda observation: fetched(observation, tmp_path, settings)[0], here))
        traffic = own.traffic.summary()
    assert sum(traffic["faults"].values()) > 15
    assert Counter(record.status for record in records) == {"ok": 108}
    assert traffic["requests"] < 2 * 108
    assert traffic["max_connections"]["all"] <= 3
    assert len(files_in(tmp_path)) == 108


def test_connections_are_kept_open(spoilt, exposures, settings, tmp_path):
    client = HttpClient(settings)
    for observation in exposures[:6]:
        assert fetched(observation, tmp_path, settings, client=client)[0].status == "ok"
    assert len({request.client_port for request in spoilt.requests}) == 1


def test_the_client_says_who_it_is(settings):
    seen = []

    def answer(path):
        seen.append(path)
        return 200, {}, b"fine"

    with answering(answer) as url:
        client = HttpClient(replace(settings, archive_url=url))
        assert client.read(f"{url}/x", 10) == b"fine"
        assert client._session.headers["User-Agent"].startswith("spxflow/")
        with pytest.raises(TransferFault, match="larger than 3 bytes"):
            client.read(f"{url}/x", 3)


def test_nothing_half_written_outlives_a_kill(spoilt, exposures, settings, tmp_path):
    spoilt.set_faults({"files": {"/ibe/data/*": [{"kind": "drip", "bytes_per_s": 200_000}]}})
    destination = tmp_path / f"{exposures[0].stem}.fits"
    code = (
        "import json, sys; from pathlib import Path; from spxflow import transfer; from spxflow.sources import Source;"
        "from spxflow.observations import Observation; given = json.loads(sys.argv[1]);"
        "transfer.fetch(Observation(**given['observation']), Source(**given['source']), Path(given['path']),"
        "transfer.TransferSettings(archive_url=given['url']))"
    )
    given = {"observation": vars(exposures[0]), "source": vars(TARGET), "path": str(destination), "url": spoilt.url}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", code, json.dumps(given)], env=environment)
    deadline = time.monotonic() + 20.0
    while not any(path.stat().st_size > 100_000 for path in tmp_path.iterdir()):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not destination.exists()
    assert all(name.startswith(".") and name.endswith(".part") for name in files_in(tmp_path))
    record, _ = fetched(exposures[0], tmp_path, settings)
    assert record.status == "ok"


def test_transfers_do_not_import_what_they_do_not_need():
    code = (
        "import sys, spxflow.transfer; "
        "names = ('astropy.io.fits', 'pyvo', 'pandas', 'matplotlib', 'requests');"
        "print([name for name in names if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


# --- records


def record_of(**changes):
    record = transfer.TransferRecord("stem", "ok", "", "http://x/", 100, 100, "ab", 1, 0.5, "cutout", 0)
    return replace(record, **changes)


def test_records_survive_json(tmp_path):
    record = record_of(status="invalid_file", reason="HDU ZODI is missing", failed_runs=3)
    transfer.write_record(tmp_path / "r.json", record)
    assert transfer.read_record(tmp_path / "r.json") == record


def test_the_state_changes_when_the_file_has_to_be_had_again(tmp_path):
    file, path = tmp_path / "x.fits", tmp_path / "r.json"
    assert transfer.state(path, file) == 0
    file.write_bytes(b"x" * 100)
    transfer.write_record(path, record_of())
    assert transfer.state(path, file) == 0
    transfer.write_record(path, record_of(failed_runs=2))
    assert transfer.state(path, file) == 2
    file.write_bytes(b"x" * 99)
    assert transfer.state(path, file) == 3
    file.unlink()
    assert transfer.state(path, file) == 3
    transfer.write_record(path, record_of(status="download_failed", failed_runs=4, file_bytes=0))
    assert transfer.state(path, file) == 4
    for unreadable in ("", "{", "[]", '{"status": "ok"}'):
        path.write_text(unreadable)
        assert transfer.state(path, file) == 0


# --- settings


@pytest.mark.parametrize(
    ("text", "pixels", "shown"),
    [
        ("60px", (60, 60), "60px"),
        (" 60 PX ", (60, 60), "60px"),
        ("60px,40px", (60, 40), "60,40px"),
        ("60,40px", (60, 40), "60,40px"),
        ("180arcsec", (29, 29), "180arcsec"),
        ("3arcmin", (29, 29), "3arcmin"),
        ("0.2deg", (117, 117), "0.2deg"),
        (".1deg,0.05deg", (59, 29), "0.1,0.05deg"),
    ],
)
def test_cutout_sizes_are_read(text, pixels, shown):
    size = CutoutSize.parse(text)
    assert size.pixels() == pixels
    assert str(size) == shown


@pytest.mark.parametrize(
    "text", ["60", "", "px", "-5px", "0px", "1e9px", "60px,3arcmin", "1,2,3px", "60 parsec", "9deg"]
)
def test_other_cutout_sizes_are_refused(text):
    with pytest.raises(ConfigError, match=r"cutout\.size"):
        CutoutSize.parse(text)


def test_cutout_centres_are_read():
    assert parse_center("213.9, -11.5") == (213.9, -11.5)
    assert parse_center(None) is None
    for text in ("1", "1,2,3", "400,0", "0,-91", "a,b", "nan,0"):
        with pytest.raises(ConfigError, match=r"cutout\.center"):
            parse_center(text)


@pytest.mark.parametrize(
    ("center_px", "side_px", "window"),
    [
        (1349.689, 117, (1292, 1409)),
        (921.145, 117, (863, 980)),
        (29.5, 60, (0, 60)),
        (5.0, 60, (0, 36)),
        (2035.2, 20, (2026, 2040)),
    ],
)
def test_windows_are_those_of_the_service(center_px, side_px, window):
    assert cutout_window(center_px, side_px) == window


def test_settings_come_from_the_configuration():
    given = {
        "archive": {"url": "http://x.example/a/"},
        "cutout": {"size": "3arcmin", "center": "10.5,-3"},
        "download": {"mode": "slim", "connections": 7, "keep": True},
    }
    settings = TransferSettings.from_config(config.complete(given))
    assert settings.archive_url == "http://x.example/a"
    assert (settings.mode, settings.connections, settings.retries) == ("slim", 7, TransferSettings().retries)
    assert (str(settings.size), settings.center) == ("3arcmin", (10.5, -3.0))


def test_threads_share_one_client(settings):
    clients = []
    threads = [threading.Thread(target=lambda: clients.append(transfer.client.http_client(settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, clients))) == 1
    assert isinstance(clients[0], HttpClient)


def test_observations_of_the_archive_are_what_is_fetched(exposures):
    assert all(isinstance(observation, Observation) for observation in exposures)
    assert len(exposures) == 108
