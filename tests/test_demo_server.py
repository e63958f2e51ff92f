"""The local archive as clients see it: protocols, quirks, faults."""

import base64
import csv
import dataclasses
import gzip
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import pyvo
import requests
from astropy.io import fits
from astropy.table import Table
from spxflow.demo import faults, records, server, sia, sphere
from spxflow.demo.catalogue import Catalogue
from spxflow.demo.cutouts import CutoutError, clipped_span, cutout_window, pixel_count
from spxflow.demo.faults import Fault, FaultPlan
from spxflow.demo.holdings import Holdings
from spxflow.demo.scenario import ArchiveFile, load
from spxflow.demo.uws import Job
from spxflow.demo.web import Addresses, Limits, Request
from spxflow.mef.blocks import whole

DATA = Path(__file__).parent / "data"
IRSA = "https://irsa.ipac.caltech.edu"
JOIN = "FROM spherex.artifact a JOIN spherex.plane p ON a.planeid = p.planeid"
HERE = "CONTAINS(POINT('ICRS', 213.942708, 11.495389), p.poly)"
CUTOUT = "?center=213.942708,11.495389&size=60px"


@pytest.fixture(scope="module")
def demo():
    return load("demo")


@pytest.fixture(scope="module")
def archive(demo):
    """An archive that no test changes."""
    with server.running(demo) as running:
        yield running


@pytest.fixture(autouse=True)
def no_failure_behind_the_scenes(capfd):
    """No thread of a server fails unseen."""
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def own_archive(demo):
    """An archive for one test."""
    with server.running(demo, control=True) as running:
        yield running


@pytest.fixture(scope="module")
def tap(archive):
    return pyvo.dal.TAPService(f"{archive.url}/TAP")


def image_url(archive, file):
    return f"{archive.url}/ibe/data/spherex/{file.path}"


def plain_get(url, **headers):
    return requests.get(url, headers={"Accept-Encoding": "identity", **headers}, timeout=60)


def file_at(demo, index):
    return list(demo.files.values())[index]


# --- the sphere -------------------------------------------------------------------------------------------------


def random_directions(number, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(number, 3))
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


def quadrangle(ra, dec, half_deg=1.75):
    """Corners of a square field by rotating a vector about the field's axes, as (ra, dec) in degrees."""
    center = np.array(sphere.unit_vector(ra, dec))
    east = np.array([-np.sin(np.radians(ra)), np.cos(np.radians(ra)), 0.0])
    north = np.cross(center, east)
    t = np.tan(np.radians(half_deg))
    corners = [center + t * (sx * east + sy * north) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return [
        (float(np.degrees(np.arctan2(c[1], c[0])) % 360), float(np.degrees(np.arcsin(c[2] / np.linalg.norm(c)))))
        for c in corners
    ]


@pytest.mark.parametrize(
    "where", [(0.0, 0.0), (359.9, 45.0), (213.9, 11.5), (10.0, 89.5), (200.0, -90.0), (0.0, 88.25)]
)
def test_polygon_covers_what_lies_on_the_inner_side_of_all_its_great_circles(where):
    corners = quadrangle(*where)
    polygon = sphere.Polygon([sphere.unit_vector(*corner) for corner in corners])
    center = np.array(sphere.unit_vector(*where))
    directions = center + 0.06 * random_directions(4000)
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    vertices = np.array(polygon.vertices)
    normals = np.cross(vertices, np.roll(vertices, -1, axis=0))
    inside = (directions @ normals.T > 0).all(axis=1)
    assert 500 < inside.sum() < 3500
    assert [polygon.covers(tuple(direction)) for direction in directions] == inside.tolist()
    backwards = sphere.Polygon(polygon.vertices[::-1])
    assert [backwards.covers(tuple(direction)) for direction in directions] == inside.tolist()
    assert not any(polygon.covers(tuple(-direction)) for direction in directions)


def test_circles_and_polygons_meet_where_their_points_do():
    polygon = sphere.parse_shape(sphere.shape_text("POLYGON", np.ravel(quadrangle(359.0, 60.0))))
    rng = np.random.default_rng(3)
    angles = np.linspace(0, 2 * np.pi, 400)
    for _ in range(200):
        ra, dec, radius = 359.0 + rng.uniform(-8, 8), 60.0 + rng.uniform(-4, 4), rng.uniform(0.01, 2.0)
        circle = sphere.parse_shape(f"CIRCLE ICRS {ra} {dec} {radius}")
        center = np.array(circle.center)
        axis = np.cross(center, [0, 0, 1.0])
        axis /= np.linalg.norm(axis)
        other = np.cross(center, axis)
        rim = [
            np.cos(circle.radius) * center + np.sin(circle.radius) * (np.cos(a) * axis + np.sin(a) * other)
            for a in angles
        ]
        covered = [polygon.covers(tuple(point)) for point in rim]
        meets = any(covered) or polygon.covers(circle.center) or any(circle.covers(v) for v in polygon.vertices)
        if meets != sphere.intersects(circle, polygon):  # the rim is sampled: only a graze may be missed
            assert abs(polygon.distance_to_edge(circle.center) - circle.radius) < 1e-4
        if sphere.contains(circle, polygon) != all(covered):
            assert abs(polygon.distance_to_edge(circle.center) - circle.radius) < 1e-4
        assert sphere.contains(polygon, circle) == all(circle.covers(vertex) for vertex in polygon.vertices)


def test_polygons_meet_when_they_cross_without_sharing_corners():
    wide = sphere.parse_shape("POLYGON 355 -1 5 -1 5 1 355 1")
    tall = sphere.parse_shape("POLYGON ICRS 359 -5 1 -5 1 5 359 5")
    apart = sphere.parse_shape("POLYGON ICRS 20 -5 22 -5 22 5 20 5")
    assert sphere.intersects(wide, tall)
    assert not sphere.contains(wide, tall)
    assert sphere.contains(sphere.parse_shape("POLYGON 359.5 -1 0.5 -1 0.5 1 359.5 1"), tall)
    assert not sphere.intersects(wide, apart)


@pytest.mark.parametrize(
    "text", ["POINT 10 95", "CIRCLE ICRS 1 2", "CIRCLE 1 2 -1", "POLYGON 1 2 3 4", "BOX 1 2 3 4", "POINT nan 1"]
)
def test_impossible_shapes_are_refused(text):
    with pytest.raises(ValueError, match=r"shape|lies outside"):
        sphere.parse_shape(text)


# --- TAP --------------------------------------------------------------------------------------------------------


def test_join_with_url_made_in_the_query_lists_all_exposures_in_order(tap, demo):
    found = tap.search(f"""
        SELECT '{IRSA}/' || a.uri || '?center=213.942708,11.495389d&size=0.1' AS uri, p.time_bounds_lower
        {JOIN} WHERE 1 = {HERE} ORDER BY p.time_bounds_lower""")
    assert [uri.split("/ibe/data/spherex/")[1].split("?")[0] for uri in found["uri"]] == [
        file.path for file in sorted(demo.files.values(), key=lambda file: file.mjd_begin)
    ]
    assert (np.diff(found["time_bounds_lower"]) >= 0).all()


def test_band_and_time_filters_of_the_peer_query(tap, demo):
    found = tap.search(f"""
SELECT
    '{IRSA}/' || a.uri AS download_url, p.obs_publisher_did, p.time_bounds_lower, p.time_bounds_upper,
    p.energy_bandpassname, p.energy_bounds_lower, p.energy_bounds_upper
{JOIN}
WHERE {HERE} = 1 AND (p.energy_bandpassname = 'SPHEREx-D2' OR p.energy_bandpassname = 'SPHEREx-D5')
 AND (p.time_bounds_lower + p.time_bounds_upper)/2.0 >= 60845
 AND (p.time_bounds_lower + p.time_bounds_upper)/2.0 <= 60850
 ORDER BY p.time_bounds_lower""")
    expected = {
        (f"ivo://irsa.ipac/spherex_qr2?{file.obs_id}/D{file.detector}", file.mjd_begin, file.wavelength_min_m)
        for file in demo.files.values()
        if file.detector in (2, 5) and 60845 <= (file.mjd_begin + file.mjd_end) / 2 <= 60850
    }
    assert expected
    assert {
        (row["obs_publisher_did"], row["time_bounds_lower"], row["energy_bounds_lower"]) for row in found
    } == expected


def test_asynchronous_job_from_submission_to_deletion(tap):
    query = f"SELECT a.uri {JOIN} WHERE 1 = {HERE}"
    job = tap.submit_job(query)
    assert job.phase == "PENDING"
    assert job.query == query
    job.run()
    job.wait(phases=["COMPLETED", "ERROR", "ABORTED"], timeout=30)
    assert job.phase == "COMPLETED"
    assert len(job.fetch_result()) == 108
    url = job.url
    job.delete()
    assert requests.get(url, timeout=10).status_code == 404
    direct = requests.post(f"{tap.baseurl}/async", data={"QUERY": query, "PHASE": "RUN", "FORMAT": "csv"}, timeout=10)
    assert requests.get(f"{direct.url}?WAIT=20", timeout=30).text.count("COMPLETED") == 1
    assert requests.get(f"{direct.url}/results/result", timeout=10).text.count("\n") == 109
    assert requests.get(f"{direct.url}?WAIT=soon", timeout=10).status_code == 400
    assert requests.post(f"{direct.url}/phase", data={"PHASE": "SUSPEND"}, timeout=10).status_code == 400
    job = tap.submit_job("SELECT nothing FROM nowhere")
    job.execution_duration, job.query = 10, query
    job.run().wait(timeout=20)
    assert len(job.fetch_result()) == 108


def test_a_job_whose_work_fails_ends(capfd):
    def work(request):
        raise RuntimeError("of the archive itself")

    job = Job(Request("POST", "/TAP/async", {}, "http://127.0.0.1"))
    job.run(work)
    assert (job.phase, job.outcome.status) == ("ERROR", 500)
    assert "of the archive itself" in capfd.readouterr().err


def test_failing_queries_say_why_at_once_and_as_jobs(tap):
    for query, reason in (
        ("SELECT p.obs_id FROM spherex.plane p", "no such column: p.obs_id"),
        ("SELECT * FROM spherex.plane WHERE 1=CONTAINS(POINT('ICRS', 10, 95), poly)", "dec value 95 lies outside"),
        ("DROP TABLE spherex.plane", "only SELECT"),
        ("SELECT TOP ten * FROM spherex.plane", "TOP takes a number"),
        (
            "SELECT s_ra FROM spherex.artifact a JOIN spherex.obscore o ON 1=1 WHERE 1=CONTAINS(POINT(1,2), s_region)",
            "st_covers",
        ),
        ("", "QUERY is missing"),
    ):
        with pytest.raises(pyvo.dal.DALQueryError, match=reason):
            tap.search(query)
        with pytest.raises(pyvo.dal.DALQueryError, match=reason):
            tap.run_async(query)
    answer = requests.get(f"{tap.baseurl}/sync?QUERY=SELECT+1&FORMAT=json", timeout=10)
    assert 'value="ERROR"' in answer.text


def test_obscore_by_position_region_and_circle(tap):
    assert (
        len(tap.search("SELECT * FROM spherex.obscore WHERE CONTAINS(POINT('ICRS',213.942708,11.495389), s_region)=1"))
        == 108
    )
    circle = "CIRCLE('ICRS', 213.942708, 11.495389, 0.5)"
    near = tap.search(f"SELECT TOP 25000 obs_id FROM spherex.obscore WHERE 1=INTERSECTS(s_region, {circle})")
    inside = tap.search(f"SELECT obs_id FROM spherex.obscore WHERE 1=CONTAINS({circle}, s_region)")
    assert 0 < len(inside) < len(near) == 108
    far = tap.search("SELECT obs_id FROM spherex.obscore WHERE 1=CONTAINS(POINT('ICRS', 33.94, -11.5), s_region)")
    assert len(far) == 0
    assert far.fieldnames == ("obs_id",)
    row = tap.search(
        "SELECT TOP 1 t_exptime, DISTANCE(POINT(s_ra, s_dec), POINT(213.942708, 11.495389)) d FROM spherex.obscore"
    )[0]
    assert row["t_exptime"] == 113.5826
    assert 0 < row["d"] < 2.5


def test_more_rows_than_asked_for_are_an_overflow_not_a_short_list(tap):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut = tap.search("SELECT * FROM spherex.plane", maxrec=7)
    assert (len(cut), cut.query_status) == (7, "OVERFLOW")
    exact = tap.search("SELECT * FROM spherex.plane", maxrec=108)
    assert (len(exact), exact.query_status) == (108, "OK")
    assert len(tap.search("SELECT TOP 2 * FROM (SELECT TOP 3 * FROM spherex.plane) few")) == 2
    assert tap.search("SELECT count(*) n FROM (SELECT TOP 3 * FROM spherex.plane) few")["n"][0] == 3


def test_server_limit_is_published_and_overflows(demo):
    with server.running(demo, limits=Limits(default=10, hard=50)) as running:
        service = pyvo.dal.TAPService(f"{running.url}/TAP")
        assert (service.maxrec, service.hardlimit) == (10, 50)
        for asked, got in ((None, 10), (30, 30), (1000, 50)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert len(service.search("SELECT * FROM spherex.plane", maxrec=asked)) == got
        assert 'value="OVERFLOW"' in requests.get(f"{running.url}/SIA?MAXREC=60", timeout=10).text


def test_uploaded_sources_join_at_once_and_as_job(tap):
    sources = Table({"id": ["0012", "zweite"], "ra": [213.942708, 10.0], "dec": [11.495389, 20.0]})
    query = f"SELECT s.id, a.uri {JOIN} JOIN TAP_UPLOAD.sources s ON 1=CONTAINS(POINT('ICRS', s.ra, s.dec), p.poly)"
    for run in (tap.search, tap.run_async):
        found = run(query, uploads={"sources": sources})
        assert len(found) == 108
        assert set(found["id"]) == {"0012"}
    answer = requests.post(f"{tap.baseurl}/sync", data={"QUERY": query, "UPLOAD": "sources,param:nothing"}, timeout=10)
    assert "no file 'nothing' came with the request" in answer.text


def test_an_upload_that_makes_no_table_is_refused_and_the_next_is_read(tap):
    query = "SELECT s.id FROM TAP_UPLOAD.s"
    twice = Table({"ID": [1], "id": [2]})
    of_arrays = Table({"id": [1], "flux": [[1.0, 2.0]]})
    for table, reason in ((twice, "duplicate column name"), (of_arrays, "type 'list' is not supported")):
        with pytest.raises(pyvo.dal.DALQueryError, match=reason):
            tap.search(query, uploads={"s": table})
        assert len(tap.search(query, uploads={"s": Table({"id": ["x", "y"]})})) == 2


def test_csv_answers_and_service_documents(tap):
    text = requests.get(
        f"{tap.baseurl}/sync?FORMAT=csv&QUERY=SELECT+TOP+2+planeid,quality_flag+FROM+spherex.plane", timeout=10
    ).text
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["planeid", "quality_flag"]
    assert len(rows) == 3
    assert "spherex.artifact" in tap.tables
    assert {column.name for column in tap.tables["spherex.plane"].columns} >= {"planeid", "poly", "time_bounds_lower"}
    assert any(method.ivo_id.endswith("#upload-inline") for method in tap.upload_methods)
    assert "true" in requests.get(f"{tap.baseurl}/availability", timeout=10).text


def test_files_of_two_collections_are_listed_twice_and_older_versions_too():
    scenario = load("releases")
    catalogue = Catalogue(Holdings(scenario), Addresses.irsa())
    rows = catalogue.query(
        f"SELECT a.uri, p.obs_publisher_did, o.collection {JOIN} JOIN spherex.observation o ON p.obsid=o.obsid"
    ).rows
    twice = [file for file in scenario.files.values() if len(file.collections) == 2]
    assert twice
    assert len(rows) == len(scenario.files) + len(twice)
    for file in twice:
        found = {(did, collection) for uri, did, collection in rows if uri == f"ibe/data/spherex/{file.path}"}
        assert found == {(f"ivo://irsa.ipac/{name}?{file.obs_id}/D{file.detector}", name) for name in file.collections}
    keys = [row[0] for row in catalogue.query("SELECT planeid FROM spherex.plane").rows]
    assert len(keys) == len(set(keys))


def test_twenty_thousand_planes_are_searched_quickly():
    catalogue = Catalogue(Holdings(load("deep", n=20000)), Addresses.irsa())
    catalogue.query("SELECT 1")
    for ra, expected in ((273.875, 20000), (93.875, 0)):
        query = f"SELECT a.uri {JOIN} WHERE 1=CONTAINS(POINT('ICRS', {ra}, 65.348), p.poly)"
        catalogue.query(query)
        started = time.perf_counter()
        assert len(catalogue.query(query).rows) == expected
        assert time.perf_counter() - started < 1.0


# --- SIA --------------------------------------------------------------------------------------------------------


def real_sia_rows():
    return (DATA / "sia_m31.csv").read_text().splitlines()


def file_of_row(line):
    """The file that a row of the real answer describes."""
    row = line.split(",")
    path = row[15].split("/ibe/data/spherex/")[1]
    numbers = [float(word) for word in row[19].split()[2:10]]
    return ArchiveFile(
        path=path,
        stem=Path(path).stem,
        obs_id=row[9],
        detector=int(row[7][-1]),
        release=path[:3],
        version=path.split("/")[3],
        collections=(row[20],),
        mjd_begin=float(row[39]),
        mjd_end=float(row[40]),
        wavelength_min_m=float(row[11]),
        wavelength_max_m=float(row[12]),
        footprint=tuple(zip(numbers[::2], numbers[1::2], strict=True)),
        center=(float(row[0]), float(row[1])),
        target_id=row[29],
        ingested=0,
        exposure=None,
    )


def test_sia_rows_are_those_of_the_real_archive_to_the_byte():
    header, *lines = real_sia_rows()
    assert ",".join(column.name for column in sia.COLUMNS) == header
    for line in lines:
        file = file_of_row(line)
        ours = sia.csv_text(records.records_of([file]), Addresses.irsa()).splitlines()[1].split(",")
        real = line.split(",")
        assert len(ours) == len(real) == 53
        known = [index for index in range(53) if index not in (17, 34)]  # size and release date
        assert [ours[index] for index in known] == [real[index] for index in known]
        assert abs(int(ours[17]) - int(real[17])) < 500


def test_sia_errors_are_tables_with_status_200(archive):
    answer = requests.get(
        f"{archive.url}/SIA?COLLECTION=spherex_qr2&POS=circle+10+95+0.1&RESPONSEFORMAT=CSV", timeout=10
    )
    assert answer.status_code == 200
    real = (DATA / "sia_error.txt").read_text()
    assert answer.text.split("<DESCRIPTION>")[1] == real.split("<DESCRIPTION>")[1].strip()
    for query in (
        "POS=here",
        "POS=BOX+1+2+3",
        "TIME=a+b",
        "TIME=2+1",
        "MAXREC=many",
        "RESPONSEFORMAT=json",
        "BAND=nan",
    ):
        assert 'value="ERROR"' in requests.get(f"{archive.url}/SIA?{query}", timeout=10).text


def test_sia_search_parameters(archive, demo):
    def found(query):
        text = requests.get(f"{archive.url}/SIA?RESPONSEFORMAT=CSV&{query}", timeout=10).text
        return [line.split(",") for line in text.splitlines()[1:]]

    everything = found("COLLECTION=spherex_qr2&COLLECTION=spherex_qr3&POS=circle+213.942708+11.495389+0.001")
    assert len(everything) == 108
    times = [float(row[39]) for row in everything]
    assert times != sorted(times)
    assert found("COLLECTION=spherex_qr3") == []
    assert found("POS=circle+33.9+-11.5+0.1") == []
    assert len(found("POS=circle+33.9+-11.5+0.1&POS=POLYGON+213.9+11.4+214+11.4+214+11.6")) == 108
    assert {row[7] for row in found("BAND=0.8e-6+1.0e-6")} == {"SPHEREx-D1"}
    assert len(found("BAND=-Inf+Inf")) == 108
    early = found("TIME=60842+60843.5")
    assert len(early) == sum(file.mjd_begin <= 60843.5 for file in demo.files.values()) > 0


def test_sia_answers_read_with_pyvo(archive, demo):
    service = pyvo.dal.sia2.SIA2Service(f"{archive.url}/SIA")
    found = service.search(pos=(213.942708, 11.495389, 0.001), collection="spherex_qr2")
    assert {record.access_url for record in found} == {f"{IRSA}/ibe/data/spherex/{path}" for path in demo.files}
    assert found.to_table()["t_min"].unit == "d"
    with pytest.raises(pyvo.dal.DALQueryError, match="POS takes a circle or a polygon"):
        service.search(pos=(213, 214, 11, 12))


# --- DataLink ---------------------------------------------------------------------------------------------------


def test_datalink_of_one_and_of_many_identifiers(archive, tap, demo):
    from pyvo.dal.adhoc import DatalinkResults

    rows = tap.search("SELECT obs_publisher_did, access_url FROM spherex.obscore")
    own = rows[0]["access_url"].replace(IRSA, archive.url)
    links = DatalinkResults.from_result_url(own)
    assert (
        next(links.bysemantics("#this", include_narrower=False)).access_url
        == f"{IRSA}/ibe/data/spherex/{file_at(demo, 0).path}"
    )
    cutout = next(links.bysemantics("#cutout", include_narrower=False))
    assert links.get_adhocservice_by_id(cutout.service_def) is not None
    families = {link.access_url.split("/")[-4] for link in links.bysemantics("#calibration", include_narrower=False)}
    assert {"spectral_wcs", "solid_angle_pixel_map", "average_psf"} <= families
    body = [("ID", did) for did in rows["obs_publisher_did"]] + [("ID", "ivo://irsa.ipac/spherex_qr2?nothing/D1")]
    answer = requests.post(f"{archive.url}/datalink/links/spherex", data=body, timeout=10)
    table = Table.read(io.BytesIO(answer.content), format="votable", table_id=0)
    images = table[(table["semantics"] == "#this") & (table["error_message"] == "")]
    assert len(images) == 108
    assert [row["ID"] for row in table if row["error_message"]] == ["ivo://irsa.ipac/spherex_qr2?nothing/D1"]


# --- cutouts ----------------------------------------------------------------------------------------------------


def test_window_of_the_real_cutout_and_of_measured_sizes():
    assert pixel_count(0.2 * 3600 / 6.1530) == 117
    assert pixel_count(0.01 * 3600 / 6.1530) == 6
    assert pixel_count(180 / 6.1530) == 29
    assert clipped_span(1349.689, 117) == (1292, 117)
    assert clipped_span(921.145, 117) == (863, 117)
    for center in np.linspace(100, 101, 21):
        for n in (10, 12, 16, 20, 60):
            assert n / 2 - 1 <= center - clipped_span(center, n)[0] < n / 2
        for n in (15, 17, 29):
            assert -0.5 <= center - clipped_span(center, n)[0] - (n - 1) / 2 <= 0.5


def test_cutout_is_the_crop_of_the_whole_frame_with_its_origin_in_the_header(archive, demo):
    file = file_at(demo, 3)
    x, y = demo.sky_to_pixel(file, 213.942708, 11.495389)
    answer = plain_get(f"{image_url(archive, file)}{CUTOUT}")
    assert answer.headers["Content-Length"] == str(len(answer.content))
    with fits.open(io.BytesIO(answer.content)) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "FLAGS", "VARIANCE", "ZODI", "PSF", "WCS-WAVE"]
        x0, y0 = (round(1 - hdus["IMAGE"].header[f"CRPIX{axis}A"]) for axis in (1, 2))
        assert hdus["IMAGE"].data.shape == (60, 60)
        assert hdus["PSF"].data.shape == (121, 101, 101)
    assert (x0, y0) == (np.floor(x + 1 - 30), np.floor(y + 1 - 30))
    assert answer.content == demo.render(file, (x0, y0, 60, 60))


def test_all_unit_forms_give_the_same_window():
    def window(center, size):
        return cutout_window(center, size, lambda ra, dec: (10 * ra, 10 * dec), (100.0, 50.0), 6.153 / 3600)

    degrees = window("100,50", "0.1")
    assert degrees == (971, 471, 59, 59)
    radians = f"{np.radians(100.0):.15f},{np.radians(50.0):.15f}rad"
    for center in ("100,50d", "100,50deg", "100, +50DEG", "-260,50", "360000,180000arcsec", "6000,3000arcmin", radians):
        assert window(center, "0.1deg") == degrees
    for size in (
        "0.1,0.1",
        "0.1d",
        "6arcmin",
        "360arcsec",
        f"{np.radians(0.1):.15f}rad",
        "59px",
        "59,59pix",
        "59pixels",
    ):
        assert window("100,50", size) == degrees
    assert window("1001,501px", "20,10px") == (991, 496, 20, 10)
    assert window("1001,501px", "1e-9")[2:] == (1, 1)


@pytest.mark.parametrize(
    "query",
    [
        "center=213.942708,95&size=60px",
        "center=213.942708,11.495389&size=-60px",
        "center=213.942708,11.495389",
        "size=60px",
        "center=213.942708&size=60px",
        "center=here&size=60px",
        "center=213.942708,11.495389&size=60furlongs",
        "center=213.942708,11.495389&size=1,2,3",
        "center=33.942708,-11.495389&size=60px",
        "center=219.942708,11.495389&size=60px",
        "center=-500,-500px&size=60px",
        "center=1e999,0&size=60px",
        "center=213.942708,11.495389&size=1e999",
        "center=213.942708,11.495389&size=1e306",
    ],
)
def test_illegal_and_missing_cutouts_are_bad_requests(archive, demo, query):
    answer = requests.get(f"{image_url(archive, file_at(demo, 0))}?{query}", timeout=10)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("text/html")


def test_cutouts_at_the_edge_are_clipped():
    def window(center, size, frame_center=(0.0, 0.0)):
        return cutout_window(center, size, lambda ra, dec: (1000.0, 1000.0), frame_center, 1.0)

    assert window("10,2030px", "60px") == (0, 2000, 40, 40)
    assert window("-4300,1000px", "9000px") == (0, 0, 200, 2040)
    with pytest.raises(CutoutError, match="overlap"):
        window("-40,1000px", "60px")
    with pytest.raises(CutoutError, match="overlap"):  # the distortion means nothing that far out
        window("100,50", "60px", frame_center=(140.0, 50.0))


def test_cutouts_ignore_ranges_and_are_compressed_for_those_who_accept_it(archive, demo):
    url = f"{image_url(archive, file_at(demo, 0))}{CUTOUT}"
    plain = plain_get(url, Range="bytes=0-99")
    assert plain.status_code == 200
    assert "Content-Encoding" not in plain.headers
    packed = requests.get(url, headers={"Accept-Encoding": "gzip"}, stream=True, timeout=10)
    raw = packed.raw.read(decode_content=False)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(raw) < len(plain.content)
    assert gzip.decompress(raw) == plain.content
    assert requests.get(url, headers={"Accept-Encoding": "gzip"}, timeout=10).content == plain.content
    unpacked = requests.get(f"{url}&gzip=false", headers={"Accept-Encoding": "gzip"}, timeout=10)
    assert "Content-Encoding" not in unpacked.headers


def test_client_that_leaves_early_costs_a_fraction_of_the_file(own_archive, demo, capfd):
    path = f"/ibe/data/spherex/{file_at(demo, 0).path}{CUTOUT}"
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", own_archive.port)
        connection.request("GET", path)
        assert connection.getresponse().read(100_000).startswith(b"SIMPLE")
        connection.close()
    wait_until(lambda: len(own_archive.requests) == 5)
    assert not any(request.complete for request in own_archive.requests)
    assert own_archive.traffic.summary()["max_connections"]["cutout"] == 1
    assert plain_get(f"{own_archive.url}{path}").status_code == 200
    assert capfd.readouterr().err == ""


def test_connection_that_the_client_has_closed_is_not_counted_any_more(own_archive, demo):
    own_archive.set_faults({"files": {"*": {"kind": "stall", "seconds": 0.5, "fraction": 0.01}}})
    for index in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", own_archive.port)
        connection.request("GET", f"/ibe/data/spherex/{file_at(demo, index).path}{CUTOUT}")
        connection.getresponse().read(1000)
        connection.close()
    summary = own_archive.traffic.summary()
    assert (summary["max_connections"]["all"], summary["max_in_progress"]["cutout"]) == (1, 1)


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


# --- whole files ------------------------------------------------------------------------------------------------


def test_byte_ranges_of_whole_images_on_premises_and_in_the_bucket(archive, tap, demo):
    file = file_at(demo, 7)
    content = demo.render(file)
    size = len(content)
    listed = tap.search(f"SELECT contentlength FROM spherex.artifact WHERE uri = 'ibe/data/spherex/{file.path}'")
    assert 0 <= listed["contentlength"][0] - size < 1000
    planes = {hdu.name: hdu for hdu in whole(content)}
    first = planes["VARIANCE"].data_start + 4 * 2040 * 1000
    spans = [(0, 28799), (first, first + 4 * 2040 * 60 - 1), (planes["ZODI"].end - 20, planes["PSF"].data_start + 7)]
    spans += [(planes["IMAGE"].data_start + 12345, planes["IMAGE"].data_start + 5_000_000), (size - 1, size + 500)]
    for root in (f"{archive.url}/s3/", f"{archive.url}/ibe/data/spherex/"):
        for start, last in spans:
            answer = plain_get(root + file.path, Range=f"bytes={start}-{last}")
            assert answer.status_code == 206
            assert answer.headers["Content-Range"] == f"bytes {start}-{min(last, size - 1)}/{size}"
            assert answer.content == content[start : last + 1]
        assert plain_get(root + file.path, Range=f"bytes={size - 80}-").content == content[-80:]
        assert plain_get(root + file.path, Range="bytes=-80").content == content[-80:]
        assert plain_get(root + file.path, Range=f"bytes={size}-").status_code == 416
    assert requests.head(f"{archive.url}/s3/{file.path}", timeout=10).headers["Content-Length"] == str(size)
    assert plain_get(f"{archive.url}/s3/{file.path}").content == content


def test_files_that_are_not_there(archive, demo):
    page = requests.get(f"{archive.url}/ibe/data/spherex/qr2/level2/nothing.fits", timeout=10)
    assert (page.status_code, page.headers["Content-Type"][:9]) == (404, "text/html")
    assert "404 Not Found" in page.text
    key = requests.get(f"{archive.url}/s3/qr2/nothing.fits", timeout=10)
    assert (key.status_code, "<Code>NoSuchKey</Code>" in key.text) == (404, True)
    assert requests.get(f"{archive.url}/elsewhere", timeout=10).status_code == 404


def test_directories_are_listed_a_line_an_entry(archive, demo):
    def names(path):
        answer = requests.get(f"{archive.url}/ibe/dir/list/spherex/{path}", timeout=30)
        return [json.loads(line)["name"] for line in answer.text.splitlines()]

    assert {"level2", "spectral_wcs", "average_psf", "solid_angle_pixel_map"} <= set(names("qr2"))
    tokens = names("qr2/spectral_wcs/")
    assert "cal-wcs-v4-2025-254" in tokens
    assert names(f"qr2/spectral_wcs/{max(tokens)}") == list("123456")
    file = file_at(demo, 0)
    directory, name = file.path.rsplit("/", 1)
    assert name in names(directory)
    assert requests.get(f"{archive.url}/ibe/dir/list/spherex/qr2/nowhere", timeout=10).status_code == 404


def test_calibration_files_are_served(archive, demo):
    path = next(path for path in demo.calibration if "average_psf" in path)
    with fits.open(io.BytesIO(plain_get(f"{archive.url}/ibe/data/spherex/{path}").content)) as hdus:
        assert any(hdu.data is not None and hdu.data.shape == (121, 101, 101) for hdu in hdus)


# --- content that changes ---------------------------------------------------------------------------------------


def listed(archive):
    text = requests.get(
        f"{archive.url}/TAP/sync", params={"FORMAT": "csv", "QUERY": "SELECT uri FROM spherex.artifact"}, timeout=10
    ).text
    return {line.removeprefix("ibe/data/spherex/") for line in text.splitlines()[1:]}


def test_files_are_published_hidden_lost_replaced_and_restored(own_archive, demo):
    paths = [file.path for file in demo.files.values()]
    own_archive.holdings.publish(100)
    assert listed(own_archive) == {file.path for file in demo.files.values() if file.ingested < 100}
    assert plain_get(f"{image_url(own_archive, file_at(demo, 105))}{CUTOUT}").status_code == 404
    own_archive.holdings.publish(None)
    own_archive.holdings.hide(paths[:3])
    assert listed(own_archive) == set(paths[3:])
    assert len(requests.get(f"{own_archive.url}/SIA?RESPONSEFORMAT=CSV", timeout=10).text.splitlines()) == 106
    own_archive.holdings.show(paths[:2])
    own_archive.holdings.remove(paths[0])
    own_archive.holdings.replace(paths[1], b"not a file at all")
    assert listed(own_archive) == set(paths) - {paths[2]}
    lost, replaced = (f"{own_archive.url}/ibe/data/spherex/{path}{CUTOUT}" for path in paths[:2])
    assert requests.get(lost, timeout=10).status_code == 404
    assert requests.get(replaced, timeout=10).content == b"not a file at all"
    own_archive.holdings.restore(paths[0])
    own_archive.holdings.restore(paths[1])
    assert plain_get(lost).content.startswith(b"SIMPLE")
    assert plain_get(replaced).content.startswith(b"SIMPLE")


def test_control_from_another_process(own_archive, demo):
    def control(**changes):
        return requests.post(f"{own_archive.url}/_control", json=changes, timeout=10)

    path = file_at(demo, 0).path
    url = f"{image_url(own_archive, file_at(demo, 0))}{CUTOUT}"
    assert control(faults={"files": {"*": "503"}}).status_code == 200
    assert requests.get(url, timeout=10).status_code == 503
    summary = control(faults={}, publish=50, replace={"path": path, "base64": base64.b64encode(b"x").decode()}).json()
    assert summary["by_status"] == {"503": 1}
    assert requests.get(url, timeout=10).content == b"x"
    assert len(listed(own_archive)) == 50
    assert control(forget=True).json()["requests"] == 0
    assert control(explode=1).status_code == 400
    assert "known: " in control(faults={"nonsense": 1}).text


def test_control_is_off_unless_asked_for(archive):
    assert requests.post(f"{archive.url}/_control", json={}, timeout=10).status_code == 404


def test_advertised_addresses(demo, archive):
    with server.running(demo, advertise="self") as running:
        assert f"{running.url}/ibe/data/spherex/" in requests.get(f"{running.url}/SIA?MAXREC=1", timeout=10).text
        links = requests.get(
            f"{running.url}/datalink/links/spherex?ID=ivo://irsa.ipac/spherex_qr2?2025W25_1B_0062_1/D3", timeout=10
        )
        assert f"{running.url}/s3/qr2/level2/" in links.text
        assert IRSA not in links.text
    assert archive.url not in requests.get(f"{archive.url}/SIA?MAXREC=1", timeout=10).text


# --- faults -----------------------------------------------------------------------------------------------------


def test_statuses_in_the_order_of_attempts(own_archive, demo):
    own_archive.set_faults(
        {"files": {"*0062_1D3*": ["404", {"kind": "429", "retry_after_s": 2}, None, "500", "502", "503", "504"]}}
    )
    url = f"{image_url(own_archive, file_at(demo, 0))}{CUTOUT}"
    assert "0062_1D3" in url
    answers = [plain_get(url) for _ in range(9)]
    assert [answer.status_code for answer in answers] == [404, 429, 200, 500, 502, 503, 504, 200, 200]
    assert answers[1].headers["Retry-After"] == "2"
    assert "Retry-After" not in answers[5].headers
    assert plain_get(f"{image_url(own_archive, file_at(demo, 1))}{CUTOUT}").status_code == 200
    assert own_archive.traffic.summary()["faults"] == {"404": 1, "429": 1, "500": 1, "502": 1, "503": 1, "504": 1}
    own_archive.set_faults({"files": {"*0062_1D3*": ["404"]}})
    assert [plain_get(url).status_code for _ in range(2)] == [404, 200]


def spoilt(archive, demo, fault):
    archive.set_faults({"files": {"*": fault}})
    return f"{image_url(archive, file_at(demo, 0))}{CUTOUT}"


def test_broken_connections(own_archive, demo):
    url = spoilt(own_archive, demo, "reset")
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        plain_get(url)
    url = spoilt(own_archive, demo, {"kind": "reset", "fraction": 0.3})
    with pytest.raises(requests.RequestException):
        plain_get(url)
    url = spoilt(own_archive, demo, "truncated")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        plain_get(url)
    first, second, third = own_archive.requests
    assert (first.status, first.bytes_sent, first.complete) == (0, 0, False)
    assert 0 < second.bytes_sent < third.bytes_sent < 5_000_000


def test_wrong_content_with_status_200(own_archive, demo):
    page = plain_get(spoilt(own_archive, demo, "html"))
    assert (page.status_code, page.headers["Content-Type"][:9], page.content[:9]) == (200, "text/html", b"<!DOCTYPE")
    junk = plain_get(spoilt(own_archive, demo, "random"))
    assert junk.status_code == 200
    assert len(set(junk.content)) == 256
    empty = plain_get(spoilt(own_archive, demo, "empty"))
    assert (empty.status_code, empty.content) == (200, b"")
    lacking = requests.get(spoilt(own_archive, demo, {"kind": "missing_hdu", "hdu": "ZODI"}), timeout=10)
    with fits.open(io.BytesIO(lacking.content)) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "FLAGS", "VARIANCE", "PSF", "WCS-WAVE"]
        hdus.verify("exception")


def test_slow_answers(own_archive, demo):
    def timed(fault=None, **plan):
        own_archive.set_faults({"files": {} if fault is None else {"*": fault}, **plan})
        started = time.perf_counter()
        size = len(plain_get(f"{image_url(own_archive, file_at(demo, 0))}{CUTOUT}").content)
        return size, time.perf_counter() - started

    size, _ = timed()
    assert size > 5_000_000
    for seconds, taken in (
        (0.5, timed({"kind": "drip", "bytes_per_s": size / 0.5})),
        (0.4, timed({"kind": "stall", "seconds": 0.4})),
        (0.3, timed(latency_s=0.3)),
        (0.5, timed(bytes_per_s=size / 0.5)),
    ):
        assert taken[0] == size
        assert 0.8 * seconds < taken[1] < seconds + 3.0


def test_rates_are_met_and_do_not_depend_on_the_order_of_requests():
    plan = FaultPlan.parse({"seed": 5, "rates": {"503": 0.1, "reset": 0.1, "429": {"rate": 0.1, "retry_after_s": 0.2}}})
    paths = [f"/ibe/data/spherex/{number}.fits" for number in range(3000)]
    drawn = [plan.fault(path, 0) for path in paths]
    assert drawn[::-1] == [plan.fault(path, 0) for path in reversed(paths)]
    kinds = [fault.kind for fault in drawn if fault]
    for kind in ("503", "reset", "429"):
        assert 230 < kinds.count(kind) < 370
    again = [plan.fault(path, 1) is not None for path in paths]
    both = sum(a and b is not None for a, b in zip(again, drawn, strict=True))
    assert 200 < both < 340  # 9 percent: attempts are independent
    assert not any(plan.fault("/TAP/sync", attempt) for attempt in range(100))
    reseeded = dataclasses.replace(plan, seed=6)
    assert [reseeded.fault(path, 0) for path in paths] != drawn


@pytest.mark.parametrize(
    "plan", [{"rates": {"503": 0.7, "500": 0.7}}, {"files": {"*": "explode"}}, {"file": {}}, {"rates": {"200": 0.1}}]
)
def test_impossible_plans_are_refused(plan):
    with pytest.raises(ValueError, match=r"add up|unknown"):
        FaultPlan.parse(plan)


def test_faults_of_query_services(own_archive):
    own_archive.set_faults({"files": {"/TAP/sync": "504", "/SIA": "html"}})
    service = pyvo.dal.TAPService(f"{own_archive.url}/TAP")
    with pytest.raises(pyvo.dal.DALServiceError, match="504"):
        service.search("SELECT TOP 1 * FROM spherex.plane")
    assert len(service.run_async("SELECT TOP 1 * FROM spherex.plane")) == 1
    assert requests.get(f"{own_archive.url}/SIA", timeout=10).text.startswith("<!DOCTYPE html>")


def test_fault_on_whole_fits_leaves_other_hdus_as_they_are(demo):
    content = demo.render(file_at(demo, 0), (100, 100, 8, 8))
    assert faults.without_hdu(content, "NONE") == content
    for status in (500, 520):
        assert Fault(str(status)).replacement("/x").status == status
    psf = next(hdu for hdu in whole(content) if hdu.name == "PSF")
    assert faults.without_hdu(content, "PSF") == content[: psf.start] + content[psf.end :]


# --- the server itself ------------------------------------------------------------------------------------------


def test_only_one_address_listens(archive):
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", archive.port), timeout=2).close()


def test_connections_are_kept_and_counted(own_archive, demo):
    own_archive.set_faults({"latency_s": 0.05})
    barrier = threading.Barrier(3)

    def fetch(indices):
        with requests.Session() as session:
            barrier.wait(10)
            for index in indices:
                url = f"{image_url(own_archive, file_at(demo, index))}?center=213.942708,11.495389&size=8px"
                assert session.get(url, headers={"Accept-Encoding": "identity"}, timeout=10).status_code == 200

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(fetch, [range(4), range(4, 8), range(8, 12)]))
    requests.get(f"{own_archive.url}/SIA?MAXREC=1", timeout=10)
    summary = own_archive.traffic.summary()
    assert summary["max_connections"] == {"all": 3, "cutout": 3, "sia": 1}
    assert summary["max_in_progress"] == {"all": 3, "cutout": 3, "sia": 1}
    assert len({request.client_port for request in own_archive.requests if request.kind == "cutout"}) == 3
    assert summary["by_status"] == {"200": 13}


def test_stopping_ends_kept_connections(demo):
    with server.running(demo) as running:
        session = requests.Session()
        session.get(f"{running.url}/TAP/availability", timeout=10)
        url = running.url
    with pytest.raises(requests.ConnectionError):
        session.get(f"{url}/TAP/availability", timeout=10)


def serve_command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(server.__file__).parents[2])}
    command = [sys.executable, "-m", "spxflow.demo", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_command_line_serves_logs_and_stops(tmp_path):
    port_file, log = tmp_path / "port", tmp_path / "requests.jsonl"
    process = serve_command(
        *("serve", "--port-file", str(port_file), "--request-log", str(log), "--scenario", "many", "--set", "n=20"),
        *("--faults", '{"files": {"/SIA": ["503"]}}', "--ingested", "10", "--exit-with-parent"),
    )
    try:
        wait_until(port_file.exists, 30)
        url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        assert requests.get(f"{url}/SIA", timeout=10).status_code == 503
        answer = requests.get(f"{url}/SIA?RESPONSEFORMAT=CSV", timeout=10)
        assert len(answer.text.splitlines()) == 11
        process.terminate()
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, out.strip(), err) == (0, url, "")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(entry["path"], entry["status"], entry["fault"]) for entry in entries] == [
        ("/SIA", 503, "503"),
        ("/SIA", 200, None),
    ]
    assert entries[1]["bytes_sent"] == len(answer.content)


def test_server_ends_with_the_process_that_started_it(tmp_path):
    port_file = tmp_path / "port"
    starter = (
        "import subprocess, sys, time, pathlib\n"
        "command = [sys.executable, '-m', 'spxflow.demo', 'serve', '--exit-with-parent', '--port-file']\n"
        f"subprocess.Popen([*command, {str(port_file)!r}])\n"
        f"while not pathlib.Path({str(port_file)!r}).exists(): time.sleep(0.02)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(server.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", starter], env=environment, check=True, timeout=30, stdout=subprocess.DEVNULL)
    port = int(port_file.read_text())

    def is_gone():
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return True
        return False

    wait_until(is_gone, 10)


def test_archive_runs_for_the_length_of_a_command():
    script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1] + '/TAP/availability').status); sys.exit(3)"
    process = serve_command("run", "--", sys.executable, "-c", script, "{archive_url}")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out.strip(), err) == (3, "200", "")


def test_truth_is_written_as_csv():
    process = serve_command("truth", "--scenario", "many", "--set", "n=3")
    out, _ = process.communicate(timeout=30)
    rows = list(csv.DictReader(io.StringIO(out)))
    truth = load("many", n=3).truth()
    assert len(rows) == len(truth) > 3
    assert [float(row["flux_ujy"]) for row in rows] == [row["flux_ujy"] for row in truth]


def test_wrong_command_lines_say_so_in_a_line():
    for arguments, reason in (
        (("truth", "--scenario", "nowhere"), "nowhere"),
        (("serve", "--faults", '{"rates": {"799": 1}}'), "unknown fault '799'"),
        (("serve", "--set", "n"), "NAME=VALUE"),
        (("run", "--", "/no/such/command"), "/no/such/command"),
    ):
        process = serve_command(*arguments)
        _, err = process.communicate(timeout=30)
        assert process.returncode in (1, 2)
        assert reason in err.splitlines()[-1]
