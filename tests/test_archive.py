"""What the archive has, asked through the real protocols of the local archive."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from answers import HOSTILE, answering, sending
from spxflow import archive, config
from spxflow.archive import datalink
from spxflow.archive.listing import ListedFile, exposures
from spxflow.archive.search import find
from spxflow.archive.session import QuerySession
from spxflow.archive.urls import data_url, moved_url
from spxflow.demo import scenario, server
from spxflow.observations import BANDS, parse_stem
from spxflow.sources import Source

SERVICES = ("tap", "sia", "obscore")
ALL = archive.QuerySettings()


@pytest.fixture(scope="module")
def releases():
    """QR2 and QR3 of one field: listed twice, at two versions, bands missing."""
    return scenario.load("releases")


@pytest.fixture(scope="module")
def releases_archive(releases):
    with server.running(releases) as local:
        yield local


@pytest.fixture
def settings(releases_archive, tmp_path):
    return archive.ArchiveSettings(url=releases_archive.url, retry_wait_s=0.01, cache=tmp_path / "cache")


def source_at(position, key="target", **others):
    return Source(key, key, position.ra_deg, position.dec_deg, **others)


def found(sky, settings, query=ALL, bands=BANDS):
    return find([source_at(sky.target)], settings, query, bands)["target"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_exposure_is_found_once_in_its_newest_version(releases, settings, service):
    newest = {}
    for file in releases.files.values():
        key = file.obs_id, file.detector
        newest[key] = max(newest.get(key, file.stem), file.stem, key=lambda stem: parse_stem(stem).version_key)
    assert len(newest) < len(releases.files)
    answer = found(releases, replace(settings, service=service))
    assert {observation.stem for observation in answer.observations} == set(newest.values())
    assert len(answer.observations) == len(newest)
    assert answer.service == service
    assert answer.ignored == ()


def test_the_services_agree(releases, settings):
    by_tap, by_sia, by_obscore = (found(releases, replace(settings, service=name)).observations for name in SERVICES)
    assert by_obscore == by_tap
    assert [replace(one, mjd_begin=0.0, mjd_end=0.0) for one in by_sia] == [
        replace(one, mjd_begin=0.0, mjd_end=0.0) for one in by_tap
    ]
    assert max(abs(one.mjd_begin - other.mjd_begin) for one, other in zip(by_sia, by_tap, strict=True)) < 1e-6


def test_files_of_two_collections_are_one_row_that_names_both(releases, settings):
    twice = {file.stem for file in releases.files.values() if len(file.collections) == 2}
    rows = {one.stem: one.collection for one in found(releases, settings).observations if one.stem in twice}
    assert rows
    assert set(rows.values()) <= {"spherex_qr2+spherex_qr2_deep", "spherex_qr3+spherex_qr3_deep"}


def test_only_the_collections_asked_for_are_listed(releases, settings):
    answer = found(releases, replace(settings, collections=("spherex_qr3",)))
    assert answer.observations
    assert {one.collection for one in answer.observations} == {"spherex_qr3"}


def test_addresses_lead_to_the_configured_host(releases, settings):
    assert all(
        one.url.startswith(f"{settings.url}/ibe/data/spherex/qr") for one in found(releases, settings).observations
    )


@pytest.mark.parametrize("service", SERVICES)
def test_bands_and_times_narrow_the_search(releases, settings, service):
    settings = replace(settings, service=service)
    everything = found(releases, settings).observations
    times = sorted(one.mjd_mid for one in everything)
    query = archive.QuerySettings(mjd_min=times[20] - 1e-4, mjd_max=times[60] + 1e-4)
    wanted = {
        one.stem for one in everything if one.band in ("D1", "D5") and times[20] <= one.mjd_mid <= times[60] + 1e-4
    }
    answer = found(releases, settings, query, ("D1", "D5")).observations
    assert {one.stem for one in answer} == wanted
    assert 0 < len(wanted) < len(everything)


@pytest.mark.parametrize("service", SERVICES)
def test_a_radius_finds_images_beside_the_position(releases, settings, service):
    settings = replace(settings, service=service)
    beside = replace(source_at(releases.target), dec_deg=releases.target.dec_deg + 6.0)
    near = find([beside], settings, archive.QuerySettings(radius_arcsec=5.8 * 3600), BANDS)["target"]
    assert find([beside], settings, ALL, BANDS)["target"].observations == ()
    assert near.observations


@pytest.mark.parametrize("service", SERVICES)
def test_empty_sky_is_an_empty_answer(settings, service):
    nowhere = Source("nowhere", "nowhere", 10.0, -80.0)
    answer = find([nowhere], replace(settings, service=service), ALL, BANDS)["nowhere"]
    assert answer.observations == ()
    assert answer.ignored == ()


def test_a_moving_source_is_sought_where_it_is_now(releases, settings):
    years = (61100.0 - 51544.5) / 365.25
    here = source_at(releases.target, epoch_yr=2000.0)
    away = replace(here, dec_deg=here.dec_deg - 4.0)
    moving = replace(away, pmdec_masyr=4.0 / years * 3.6e6)
    assert find([away], settings, ALL, BANDS)["target"] != found(releases, settings)
    assert find([moving], settings, ALL, BANDS)["target"] == found(releases, settings)


# --- answers that fail, and answers that are cut off


@pytest.mark.parametrize("fault", ["503", "html", "reset", "truncated"])
def test_a_passing_fault_of_the_query_service_is_not_noticed(releases, fault):
    with server.running(releases, faults={"files": {"/TAP/sync": [fault]}}) as local:
        settings = archive.ArchiveSettings(url=local.url, retry_wait_s=0.01)
        assert len(found(releases, settings).observations) == 86


def test_retry_after_of_the_query_service_is_obeyed(releases):
    with server.running(releases, faults={"files": {"/TAP/sync": [{"kind": "503", "retry_after_s": 1}]}}) as local:
        found(releases, archive.ArchiveSettings(url=local.url, retry_wait_s=0.01))
        first, second = (request.time for request in local.requests if request.path == "/TAP/sync")
        assert second - first >= 1.0


@pytest.mark.parametrize("fault", ["504", "html", "400"])
def test_a_job_answers_when_the_synchronous_service_does_not(releases, fault):
    with server.running(releases, faults={"files": {"/TAP/sync": fault}}) as local:
        settings = archive.ArchiveSettings(url=local.url, retries=1, retry_wait_s=0.01)
        answer = found(releases, settings)
        assert len(answer.observations) == 86
        assert "answered as a job" in answer.messages[0]
        assert any(request.path.startswith("/TAP/async/") for request in local.requests)


@pytest.mark.parametrize("service", SERVICES)
def test_a_page_for_an_answer_is_told(releases, service):
    with server.running(releases, faults={"files": {"*": "html"}}) as local:
        settings = archive.ArchiveSettings(url=local.url, service=service, retries=0)
        with pytest.raises(archive.ArchiveError, match=r"a page, not data \(IRSA Service is busy\); is the address"):
            found(releases, settings)


def test_a_job_answers_when_the_synchronous_answer_is_cut_off(releases):
    with server.running(releases) as local, server.running(releases, limits=server.Limits(hard=50)) as limited:
        tap, limited_tap = local._routes["/TAP"], limited._routes["/TAP"]
        local._routes["/TAP"] = lambda request, rest: (limited_tap if rest == "/sync" else tap)(request, rest)
        answer = found(releases, archive.ArchiveSettings(url=local.url))
        assert len(answer.observations) == 86
        assert "cut off at 50 rows" in answer.messages[0]


@pytest.mark.parametrize("service", SERVICES)
def test_a_list_that_is_cut_off_is_an_error(releases, service, tmp_path):
    with server.running(releases, limits=server.Limits(hard=50)) as local:
        settings = archive.ArchiveSettings(url=local.url, service=service, cache=tmp_path)
        error = found(releases, settings)
        assert isinstance(error, archive.ArchiveError)
        assert "cut off at 50 rows" in str(error)


@pytest.mark.parametrize("service", SERVICES)
def test_as_many_rows_as_asked_for_are_not_taken_for_all(releases, settings, service):
    listed = sum(len(file.collections) for file in releases.files.values())
    error = found(releases, replace(settings, service=service, max_records=listed))
    assert isinstance(error, archive.ArchiveError)
    assert "max_records" in str(error)
    assert found(releases, replace(settings, service=service, max_records=listed + 1)).observations


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_down_is_one_clear_line(releases, service, tmp_path):
    with server.running(releases) as local:
        url = local.url
    settings = archive.ArchiveSettings(url=url, service=service, retries=1, retry_wait_s=0.01, cache=tmp_path)
    with pytest.raises(archive.ArchiveError) as error:
        found(releases, settings)
    path = "SIA" if service == "sia" else "TAP"
    hint = "is the network up, and the address right?"
    assert str(error.value) == f"{url}/{path}: no answer: Connection refused; {hint}"


ERROR_DOCUMENT = b"""<?xml version="1.0" encoding="utf-8"?>
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<DESCRIPTION>Caltech/IPAC-IRSA IVOA Simple Image Access v2 Service</DESCRIPTION><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="ERROR">UsageFault: BAD_REQUEST: dec value 95 lies outside valid interval</INFO>
</RESOURCE></VOTABLE>"""


@pytest.mark.parametrize("service", SERVICES)
def test_an_error_document_with_status_200_is_an_error(service, tmp_path):
    with answering(lambda path: (200, {"Content-Type": "text/xml"}, ERROR_DOCUMENT)) as url:
        settings = archive.ArchiveSettings(url=url, service=service, retries=0, cache=tmp_path)
        with pytest.raises(archive.ArchiveError, match="dec value 95"):
            find([Source("x", "x", 10.0, 20.0)], settings, ALL, BANDS)


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE VOTABLE [<!ENTITY a "'
    + b"x" * 1000
    + b'">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 50) for n in range(6))
    + b']><VOTABLE version="1.3"><DESCRIPTION>&g;</DESCRIPTION></VOTABLE>'
)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("body", "reason"),
    [(BOMB, "entities"), (BOMB.decode().encode("utf-16"), "entities"), (b"x" * 2_100_000, "larger"), (b"", ".")],
    ids=["bomb", "bomb in UTF-16", "huge", "empty"],
)
def test_hostile_answers_are_refused(service, body, reason, tmp_path):
    with answering(lambda path: (200, {"Content-Type": "text/xml"}, body)) as url:
        settings = archive.ArchiveSettings(
            url=url, service=service, retries=0, retry_wait_s=0.01, max_answer_mb=2.0, cache=tmp_path
        )
        with pytest.raises(archive.ArchiveError, match=reason):
            find([Source("x", "x", 10.0, 20.0)], settings, ALL, BANDS)


@pytest.mark.parametrize("service", SERVICES)
def test_whatever_a_server_sends_is_an_archive_error(service, tmp_path):
    with sending() as (url, answers):
        settings = archive.ArchiveSettings(
            url=url, service=service, retries=0, timeout_s=5.0, max_answer_mb=2.0, cache=tmp_path, sesame_url=url
        )
        for answer in HOSTILE:
            answers.append(answer)
            with pytest.raises(archive.ArchiveError) as error:
                find([Source("x", "x", 10.0, 20.0)], settings, ALL, BANDS)
            assert str(error.value).isprintable(), answer[:60]
            with pytest.raises(archive.ArchiveError):
                archive.resolve_name("x", settings)


def test_a_redirection_to_another_host_is_not_followed():
    with answering(lambda path: (302, {"Location": "http://192.0.2.1/TAP/sync"}, b"")) as url:
        settings = archive.ArchiveSettings(url=url, service="sia", retries=0)
        with pytest.raises(archive.ArchiveError, match="another host"):
            find([Source("x", "x", 10.0, 20.0)], settings, ALL, BANDS)


# --- rows that cannot be used

GOOD = ListedFile(
    "ibe/data/spherex/qr2/level2/2025W25_1B/l2b-v20-2025-253/3/level2_2025W25_1B_0062_1D3_spx_l2b-v20-2025-253.fits",
    "ivo://irsa.ipac/spherex_qr2?2025W25_1B_0062_1/D3",
    60842.269,
    60842.270,
    1.6301e-6,
    2.4346e-6,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "https://evil.example/" + GOOD.address},
        {"address": "https://irsa.ipac.caltech.edu.evil.example/" + GOOD.address},
        {"address": "file:///etc/passwd"},
        {"address": GOOD.address.replace("/3/", "/../")},
        {"address": GOOD.address.replace("ibe/data/spherex/", "other/")},
        {"address": GOOD.address + "?center=1,2"},
        {"address": GOOD.address.replace("level2_2025W25", "level2_../25W25")},
        {"address": GOOD.address.replace("_spx_", "_psf_")},
        {"address": ""},
        {"publisher_did": "ivo://irsa.ipac/spherex_qr2?2025W25_1B_0062_1/D4"},
        {"publisher_did": "ivo://irsa.ipac/spherex_qr2?2025W25_1B_0063_1/D3"},
        {"publisher_did": "nothing"},
        {"mjd_begin": math.nan},
        {"mjd_end": 60842.0},
        {"wavelength_min_m": math.nan},
    ],
)
def test_rows_that_cannot_be_used_are_named_with_a_reason(changes):
    settings = archive.ArchiveSettings(url="http://127.0.0.1:1")
    answer = exposures([GOOD, replace(GOOD, **changes)], settings, ALL, BANDS)
    assert len(answer.observations) == 1
    ((_, reason),) = answer.ignored
    assert reason


def test_addresses_move_to_an_archive_below_a_path():
    mirror = "https://mirror.example/spherex/irsa"
    key = GOOD.address
    assert data_url(key, mirror) == f"{mirror}/{key}"
    assert data_url(f"https://irsa.ipac.caltech.edu/{key}", mirror) == f"{mirror}/{key}"
    assert data_url(f"{mirror}/{key}", mirror) == f"{mirror}/{key}"
    assert moved_url("https://irsa.ipac.caltech.edu/TAP/async/1", mirror) == f"{mirror}/TAP/async/1"
    with pytest.raises(ValueError, match="another host"):
        moved_url("https://irsa.ipac.caltech.edu:444/TAP", mirror)


# --- catalogues


def catalogue(target, count):
    """Sources about a target, the last of them where no image is."""
    return [
        Source(f"s{index}", f"s{index}", target.ra_deg + 0.01 * index, target.dec_deg - 0.003 * index)
        for index in range(count - 1)
    ] + [Source("empty", "empty", 10.0, -80.0)]


@pytest.mark.parametrize("join_fails", [True, False])
@pytest.mark.parametrize("service", SERVICES)
def test_a_catalogue_gives_what_its_sources_give(releases, service, join_fails, tmp_path):
    with server.running(releases, join_fails=join_fails) as local:
        settings = archive.ArchiveSettings(url=local.url, service=service, retry_wait_s=0.01, cache=tmp_path)
        sources = catalogue(releases.target, 5)
        together = find(sources, settings, ALL, BANDS)
        assert list(together) == ["s0", "s1", "s2", "s3", "empty"]
        assert together["empty"].observations == ()
        for source in sources:
            assert together[source.key].observations == find([source], settings, ALL, BANDS)[source.key].observations


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_an_upload_is_whole_at_the_second_try(releases, fault):
    with server.running(releases, faults={"files": {"/TAP/sync": [fault]}}) as local:
        settings = archive.ArchiveSettings(url=local.url, retry_wait_s=0.01)
        together = find(catalogue(releases.target, 4), settings, ALL, BANDS)
        asked = [request.path for request in local.requests if request.kind == "tap"]
    assert asked == ["/TAP/sync"] * 2
    assert [len(answer.observations) > 50 for answer in together.values()] == [True, True, True, False]
    assert {answer.messages for answer in together.values()} == {()}


def test_an_upload_is_whole_where_a_redirection_leads():
    sent = []

    def answer(path):
        return (307, {"Location": "/there"}, b"") if path == "/here" else (200, {}, b"x")

    with answering(answer, sent.append) as url, QuerySession(archive.ArchiveSettings(url=url)) as session:
        session.post(f"{url}/here", files={"sources": io.BytesIO(b"the table")})
    assert [b"the table" in body for body in sent] == [True, True]


def test_a_catalogue_is_asked_in_chunks(releases):
    with server.running(releases) as local:
        settings = archive.ArchiveSettings(url=local.url, upload_sources=4)
        together = find(catalogue(releases.target, 10), settings, ALL, BANDS)
        assert all(answer.observations for key, answer in together.items() if key != "empty")
        assert sum(request.kind == "tap" for request in local.requests) == 3


def test_each_source_is_asked_for_when_uploads_fail(releases):
    faults = {"files": {"/TAP/sync": ["400"], "/TAP/async": ["400"]}}
    with server.running(releases, faults=faults) as local:
        settings = archive.ArchiveSettings(url=local.url, upload_sources=3, retries=0)
        together = find(catalogue(releases.target, 7), settings, ALL, BANDS)
        assert all(len(answer.observations) > 50 for key, answer in together.items() if key != "empty")
        assert "asked for each source" in together["s0"].messages[0]
        assert sum(request.path == "/TAP/sync" for request in local.requests) == 1 + 7


def test_a_chunk_whose_answer_is_cut_off_is_halved(releases):
    rows = sum(len(file.collections) for file in releases.files.values())
    with server.running(releases, limits=server.Limits(hard=2 * rows + 1)) as local:
        settings = archive.ArchiveSettings(url=local.url)
        together = find(catalogue(releases.target, 6), settings, ALL, BANDS)
        assert all(answer.observations for key, answer in together.items() if key != "empty")


def test_only_the_source_whose_own_answer_is_cut_off_has_none(releases):
    rows = sum(len(file.collections) for file in releases.files.values())
    sources = catalogue(releases.target, 4)
    sources[1:1] = [Source("far", "far", releases.target.ra_deg, releases.target.dec_deg + 3.0)]
    with server.running(releases) as local:
        counts = {
            key: len(answer.observations)
            for key, answer in find(sources, archive.ArchiveSettings(url=local.url), ALL, BANDS).items()
        }
    assert counts["far"] < counts["s0"]
    with server.running(releases, limits=server.Limits(hard=rows - 1)) as limited:
        together = find(sources, archive.ArchiveSettings(url=limited.url), ALL, BANDS)
    assert [key for key, answer in together.items() if isinstance(answer, archive.ArchiveError)] == ["s0", "s1", "s2"]
    assert {key: len(together[key].observations) for key in ("far", "empty")} == {"far": counts["far"], "empty": 0}


def test_a_catalogue_of_a_service_that_is_down_fails_soon(releases):
    with server.running(releases, faults={"files": {"/TAP/*": "503"}}) as local:
        settings = archive.ArchiveSettings(url=local.url, retries=1, retry_wait_s=0.01)
        with pytest.raises(archive.ArchiveError, match="503"):
            find(catalogue(releases.target, 50), settings, ALL, BANDS)
        assert len(local.requests) <= 24  # pyvo 1.6 asks more often than later ones


def test_a_source_that_the_service_does_not_answer_for_leaves_the_others_theirs(releases):
    sources = catalogue(releases.target, 8)
    for number in (0, 4):
        sources[number] = replace(sources[number], dec_deg=95.0)
    with server.running(releases) as local:
        settings = archive.ArchiveSettings(url=local.url, service="sia", retries=0)
        together = find(sources, settings, ALL, BANDS)
        with pytest.raises(archive.ArchiveError, match="95"):
            find(sources[:1], settings, ALL, BANDS)
    assert [key for key, answer in together.items() if isinstance(answer, archive.ArchiveError)] == ["s0", "s4"]
    assert all(together[key].observations for key in ("s1", "s2", "s3", "s5", "s6"))


def test_a_catalogue_of_a_service_that_dies_half_way_keeps_what_was_answered(releases):
    with server.running(releases, faults={"files": {"/SIA": [None] * 10 + ["503"] * 100}}) as local:
        settings = archive.ArchiveSettings(url=local.url, service="sia", retries=0)
        together = find(catalogue(releases.target, 60), settings, ALL, BANDS)
        assert len(local.requests) <= 30
    assert sum(not isinstance(answer, archive.ArchiveError) for answer in together.values()) == 10


# --- DataLink


def datalink_requests(local):
    return [request for request in local.requests if request.kind == "datalink"]


def test_datalink_answers_are_kept_across_runs(releases, releases_archive, settings):
    settings = replace(settings, service="obscore", datalink_ids=40)
    releases_archive.traffic.forget()
    first = found(releases, settings)
    asked = len(datalink_requests(releases_archive))
    dids = sum(
        len({(file.obs_id, file.detector, name) for name in file.collections}) for file in releases.files.values()
    )
    assert asked <= math.ceil(dids / 40)
    assert found(releases, settings) == first
    assert len(datalink_requests(releases_archive)) == asked


def test_datalink_answers_are_asked_for_again_when_old_or_unreadable(releases, releases_archive, settings):
    settings = replace(settings, service="obscore")
    first = found(releases, settings)
    releases_archive.traffic.forget()
    assert found(releases, replace(settings, datalink_days=0.0)) == first
    assert len(datalink_requests(releases_archive)) == 1
    (settings.cache / "datalink.json").write_text('{"half')
    assert found(releases, settings) == first
    assert len(datalink_requests(releases_archive)) == 2


def test_datalink_answers_of_many_at_once_are_all_kept_and_old_ones_dropped(tmp_path):
    store = tmp_path / "datalink.json"
    datalink._keep(store, {"old": (("a",), 10.0)}, 0.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: datalink._keep(store, {f"{number}": (("b",), 30.0)}, 20.0), range(40)))
    assert datalink._kept(store) == {f"{number}": (("b",), 30.0) for number in range(40)}


def test_a_store_that_only_another_user_may_write_costs_no_answer(releases, settings, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(datalink, "hold_lock", refuse)
    assert found(releases, replace(settings, service="obscore")).observations


def test_a_new_version_is_seen_behind_a_kept_datalink_answer(releases, settings):
    by_exposure = {}
    for file in releases.files.values():
        by_exposure.setdefault((file.obs_id, file.detector), []).append(file)
    newer = [
        max(files, key=lambda file: parse_stem(file.stem).version_key)
        for files in by_exposure.values()
        if len(files) > 1
    ]
    with server.running(releases) as local:
        settings = replace(settings, url=local.url, service="obscore")
        local.holdings.hide(file.path for file in newer)
        before = {one.stem for one in found(releases, settings).observations}
        local.holdings.show(file.path for file in newer)
        after = {one.stem for one in found(releases, settings).observations}
    assert not before & {file.stem for file in newer}
    assert {file.stem for file in newer} <= after


def test_an_identifier_without_a_file_is_named(releases, settings, monkeypatch):
    monkeypatch.setattr(datalink, "_ask", lambda *_: {})
    answer = found(releases, replace(settings, service="obscore"))
    assert answer.observations == ()
    assert answer.ignored


# --- names

SESAME = b"""# 3C 273  #Q22523669
#=S=Simbad (via url):    1
%@ 2827176
%C.0 QSO
%J 187.27791594 +02.05238823 = 12:29:06.69 +02:03:08.5
%P -0.030 0.070 [0.050 0.040 90] A 2020yCat.1350....0G
%X 0.50 [0.10] A 2020yCat
%I.0 QSO B1226+023
#====Done (2026-Nov-23,06:00:00z)====
"""


def test_a_name_is_resolved():
    paths = []

    def answer(path):
        paths.append(path)
        return 200, {}, SESAME

    with answering(answer) as url:
        resolved = archive.resolve_name("3C 273", archive.ArchiveSettings(sesame_url=f"{url}/sesame"))
    assert paths == ["/sesame/-oI/SNV?3C%20273"]
    assert (resolved.ra_deg, resolved.dec_deg) == (187.27791594, 2.05238823)
    assert (resolved.pmra_masyr, resolved.pmdec_masyr, resolved.parallax_mas) == (-0.030, 0.070, 0.50)
    assert resolved.epoch_yr == 2000.0


def test_an_unknown_name_says_what_to_do():
    unknown = b"# nosuch\n#!E Nothing found *\n#====Done====\n"
    with answering(lambda path: (200, {}, unknown)) as url:
        settings = archive.ArchiveSettings(sesame_url=url)
        with pytest.raises(archive.ArchiveError, match="'nosuch' is not known .* give ra and dec"):
            archive.resolve_name("nosuch", settings)


def test_a_name_offline_says_what_to_do():
    settings = archive.ArchiveSettings(sesame_url="http://127.0.0.1:1/sesame", retries=1, retry_wait_s=0.01)
    with pytest.raises(archive.ArchiveError, match="'M31' cannot be resolved, .* give ra and dec") as error:
        archive.resolve_name("M31", settings)
    assert "\n" not in str(error.value)


def test_settings_come_from_the_configuration(tmp_path):
    section = {"url": "http://x.example/a/", "collections": ["spherex_qr2"], "cache": str(tmp_path)}
    options = config.complete({"archive": section, "query": {"radius_arcsec": 3.0}})
    settings = archive.ArchiveSettings.from_config(options)
    assert settings == archive.ArchiveSettings(url="http://x.example/a", collections=("spherex_qr2",), cache=tmp_path)
    assert archive.QuerySettings.from_options(options["query"]) == replace(ALL, radius_arcsec=3.0)
