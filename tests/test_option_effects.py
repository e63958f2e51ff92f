"""Options with an effect: of each, two values and what they must change. No option without a test."""

import ast
import json
import re
import socket
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from answers import answering
from conftest import REPOSITORY
from patches import OBSERVATION, SOURCE, X, Y, altered, patch, star, write
from records import SOURCE as TARGET
from spxflow import archive, config, transfer
from spxflow.archive.errors import ArchiveError
from spxflow.archive.search import find
from spxflow.archive.session import QuerySession
from spxflow.archive.tap import ask
from spxflow.demo import server
from spxflow.demo.frames import target_window
from spxflow.measure import measure, measure_exposure
from spxflow.mef import mask_of, read_exposure
from spxflow.observations import BANDS
from spxflow.quality import judge
from spxflow.settings import BAD_FLAGS, PhotometrySettings, QualitySettings
from spxflow.sources import Source
from spxflow.transfer.client import HttpClient
from spxflow.transfer.faults import TransferFault

sys.path.insert(0, str(REPOSITORY))
from scripts import read_sources, write_report

FLUX = 1500.0


def configured(options):
    """The whole configuration with options given by their dotted names."""
    given = {}
    for name, value in options.items():
        *sections, last = name.split(".")
        section = given
        for key in sections:
            section = section.setdefault(key, {})
        section[last] = value
    return config.complete({"ra": 10.0, "dec": 10.0, **given})


# --- the measurement ---

# an annulus of few pixels, which has to be widened
NARROW = {
    "photometry.background.min_area_px": 20.0,
    "photometry.background.max_radius_px": 15.0,
    "photometry.background.min_pixels": 60,
}


def a_star():
    return patch([(FLUX, X, Y)], seed=7)


def a_star_in_a_known_galaxy():
    """Faint light under the flag SOURCE in the half of the sky above the star."""
    around = {(x, y): None for x in range(18, 42) for y in range(32, 42)}
    exposure = patch([(FLUX, X, Y)], seed=7)
    image = {(x, y): exposure.image[y, x] + 0.03 for x, y in around}
    return altered(exposure, image=image, flags=dict.fromkeys(around, SOURCE))


def a_star_beside_its_place():
    return patch([(FLUX, X + 0.3, Y - 0.2)], seed=7)


def a_star_with_a_dead_pixel():
    bit = a_star().flag_bits["HOT"]
    return altered(a_star(), flags={(round(X) + 1, round(Y)): 1 << bit})


def two_stars():
    return patch([(FLUX, X, Y), (FLUX, X + 2.5, Y)], seed=7)


def step_number(step):
    """How often the annulus was widened; without end for other steps."""
    return int(step.partition("+")[2] or 0) if step.startswith("annulus") else np.inf


# option, two values, other options, exposure, column, what the two values of the column must be to each other
EFFECTS = [
    ("background.tries", (5, 1), NARROW, a_star, "background_step", lambda a, b: step_number(a) > 0 and b == "window"),
    (
        "background.step_px",
        (0.5, 2.0),
        NARROW,
        a_star,
        "background_step",
        lambda a, b: step_number(b) < step_number(a) < np.inf,
    ),
    ("background.gap_px", (1.0, 5.0), {}, a_star, "background_n_pixels", lambda a, b: a > b),
    ("background.min_area_px", (60.0, 150.0), {}, a_star, "background_n_pixels", lambda a, b: a < b),
    ("zodi.scale_min", (0.0, 5.0), {}, a_star, "zodi_scale", lambda a, b: a != b == 1.0),
    ("background.max_radius_px", (5.0, 8.0), {}, a_star, "background_n_pixels", lambda a, b: a < b),
    (
        "background.min_pixels",
        (10, 60),
        {**NARROW, "photometry.background.fallbacks": []},
        a_star,
        "background_step",
        lambda a, b: step_number(a) < step_number(b) < np.inf,
    ),
    ("background.clip_sigma", (1.5, 5.0), {}, a_star, "background_n_pixels", lambda a, b: a < b),
    (
        "background.clip_iterations",
        (1, 5),
        {"photometry.background.clip_sigma": 1.5},
        a_star,
        "background_n_pixels",
        lambda a, b: a > b,
    ),
    (
        "background_flags",
        (["SOURCE"], []),
        {"photometry.zodi.subtract": "as_is"},
        a_star_in_a_known_galaxy,
        "background_mjysr",
        lambda a, b: b > a + 0.003,
    ),
    ("background_flags", (["SOURCE"], []), {}, a_star_in_a_known_galaxy, "psf_n_pixels", lambda a, b: a < b),
    ("psf.radius_px", (2.0, 5.0), {}, a_star_in_a_known_galaxy, "psf_n_pixels", lambda a, b: a < b),
    ("psf.background_radius_px", (6.0, 10.0), {}, a_star, "psf_n_pixels", lambda a, b: a < b),
    (
        "psf.offset_px",
        ([0.0, 0.0], [0.3, -0.2]),
        {},
        a_star_beside_its_place,
        "psf_chi2_dof",
        lambda a, b: a > 2.0 > 1.5 > b,
    ),
    (
        "max_masked_fraction",
        (0.01, 0.9),
        {},
        a_star_with_a_dead_pixel,
        "status",
        lambda a, b: (a, b) == ("unusable", "flagged"),
    ),
    ("disagree_sigma", (0.001, 20.0), {}, a_star, "estimators_disagree", lambda a, b: a and not b),
    ("neighbours.radius_px", (2.0, 6.0), {}, two_stars, "fracflux", lambda a, b: a == 0.0 < b),
    ("neighbours.blend_fracflux", (0.001, 0.9), {}, two_stars, "is_blended", lambda a, b: a and not b),
]


@pytest.mark.parametrize(
    ("option", "values", "others", "exposure", "column", "expected"),
    EFFECTS,
    ids=[f"{option}-{column}" for option, _, _, _, column, _ in EFFECTS],
)
def test_an_option_of_the_measurement_has_its_effect(option, values, others, exposure, column, expected):
    settings = [
        PhotometrySettings.from_config(configured({**others, f"photometry.{option}": value})) for value in values
    ]
    neighbours = [star(X + 2.5, Y)] if option.startswith("neighbours") else []
    first, second = (measure(exposure(), star(), one, neighbours)[column] for one in settings)
    assert expected(first, second), (first, second)


def test_the_offset_of_the_stars_brings_the_flux_back():
    settings = PhotometrySettings.from_config(configured({"photometry.psf.offset_px": [0.3, -0.2]}))
    assert measure(patch([(FLUX, X + 0.3, Y - 0.2)]), star(), settings)["psf_flux_ujy"] == pytest.approx(FLUX, rel=2e-3)


def test_the_zodiacal_light_is_scaled_in_the_window_or_in_the_whole_image(demo_scenario, tmp_path):
    file = next(iter(demo_scenario.files.values()))
    x, y, *_ = target_window(file.exposure)
    window = min(max(x - 30, 0), 1920), min(max(y - 30, 0), 1920), 120, 120
    path = tmp_path / "wide.fits"
    path.write_bytes(demo_scenario.render(file, window))
    source = Source("s", "s", demo_scenario.target.ra_deg, demo_scenario.target.dec_deg)
    scales = {}
    for region in ("window", "image"):
        settings = PhotometrySettings.from_config(configured({"photometry.zodi.region": region}))
        scales[region] = measure_exposure(path, source, OBSERVATION, settings)["zodi_scale"]
    assert scales["image"] != scales["window"]

    exposure = read_exposure(path)
    assert exposure.image.shape == (120, 120)
    sky = np.isfinite(exposure.image) & ((exposure.flags & mask_of((*BAD_FLAGS, "SOURCE"), exposure.flag_bits)) == 0)
    image, model = (plane[sky].astype(float) for plane in (exposure.image, exposure.zodi))
    assert scales["image"] == pytest.approx((image @ model) / (model @ model), rel=1e-6)


# --- the report ---


def test_the_report_has_stamps_of_the_size_asked_for(tmp_path):
    (tmp_path / "data" / "D3").mkdir(parents=True)
    path = write(a_star(), tmp_path / "data" / "D3" / f"{OBSERVATION.stem}.fits")
    record = judge(measure_exposure(path, star(), OBSERVATION, PhotometrySettings()), QualitySettings())
    (tmp_path / "exposures.json").write_text(json.dumps({"source": TARGET, "exposures": [record]}))
    page = tmp_path / "report.html"
    for size in (9, 21):
        options = configured({"report.stamp_px": size})
        write_report.main(str(tmp_path / "exposures.json"), str(page), options, str(tmp_path), {})
        data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)[1])
        assert [stamp["size"] for stamp in data["stamps"].values()] == [size]


# --- patience ---

_JOB = """<?xml version="1.0"?>
<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" version="1.1">
<uws:jobId>1</uws:jobId><uws:ownerId/><uws:phase>EXECUTING</uws:phase><uws:quote/>
<uws:executionDuration>0</uws:executionDuration><uws:destruction/><uws:parameters/><uws:results/></uws:job>"""


def test_a_job_that_does_not_end_is_left_after_its_time():
    asked = []

    def answer(path):
        asked.append(path)
        if path.startswith("/TAP/sync"):
            return 400, {}, b"not now"
        if path == "/TAP/async":
            return 303, {"Location": "/TAP/async/1"}, b""
        return 200, {"Content-Type": "text/xml"}, _JOB.encode()

    polls = []
    with answering(answer) as url:
        for seconds in (0.05, 0.6):
            asked.clear()
            options = configured({"archive.url": url, "archive.retries": 0, "archive.job_timeout_s": seconds})
            settings = archive.ArchiveSettings.from_config(options)
            with pytest.raises(ArchiveError, match=f"EXECUTING after archive.job_timeout_s, {seconds:g} s"):
                ask("SELECT 1", settings, QuerySession(settings))
            polls.append(asked.count("/TAP/async/1"))
    assert polls[0] < polls[1]


@contextmanager
def deaf():
    """Address of a server whose queue of connections is full: it does not even take a new one."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_connection_is_waited_for_no_longer_than_asked():
    waits = []
    with deaf() as url:
        for seconds in (0.2, 0.8):
            options = configured({"archive.url": url, "download.retries": 0, "download.connect_timeout_s": seconds})
            client = HttpClient(transfer.TransferSettings.from_config(options))
            begin = time.monotonic()
            with pytest.raises(TransferFault, match="timed out"):
                client.get(f"{url}/file", lambda body: body.read())
            waits.append(time.monotonic() - begin)
    assert 0.2 <= waits[0] < 0.8 <= waits[1] < 10.0


def asked_until_given_up(section, options):
    """How often a server that is always busy is asked, and for how many seconds."""
    asked = []

    def answer(path):
        asked.append(path)
        return 503, {}, b"busy"

    with answering(answer) as url:
        complete = configured({"archive.url": url, **{f"{section}.{name}": value for name, value in options.items()}})
        begin = time.monotonic()
        if section == "archive":
            settings = archive.ArchiveSettings.from_config(complete)
            with pytest.raises(ArchiveError, match="503"):
                ask("SELECT 1", settings, QuerySession(settings))
        else:
            client = HttpClient(transfer.TransferSettings.from_config(complete))
            with pytest.raises(TransferFault, match="503"):
                client.get(f"{url}/file", lambda body: body.read())
    return len(asked), time.monotonic() - begin


@pytest.mark.parametrize("section", ["archive", "download"])
def test_a_fault_is_asked_about_again_as_often_and_after_as_long_as_configured(section):
    at_once, _ = asked_until_given_up(section, {"retries": 0})
    soon, short = asked_until_given_up(section, {"retries": 2, "retry_wait_s": 0.01})
    later, long = asked_until_given_up(section, {"retries": 2, "retry_wait_s": 0.5})
    assert soon == later >= at_once + 2
    assert long > short + 0.6, "waits of 0.5 s and 1 s, each at least half of that"


def test_no_wait_between_tries_is_longer_than_asked():
    options = {"retries": 4, "retry_wait_s": 0.5}
    _, short = asked_until_given_up("download", {**options, "retry_wait_max_s": 0.02})
    _, long = asked_until_given_up("download", {**options, "retry_wait_max_s": 0.6})
    assert short < 0.5 < 1.0 < long


@pytest.mark.parametrize(("retry_after_max_s", "requests"), [(0.5, 1), (600.0, 2)])
def test_a_pause_that_the_archive_asks_for_is_made_unless_it_is_too_long(retry_after_max_s, requests):
    asked = []

    def answer(path):
        asked.append(time.monotonic())
        return 429, {"Retry-After": "1"}, b"later"

    with answering(answer) as url:
        given = {"retries": 1, "retry_wait_s": 0.01, "retry_after_max_s": retry_after_max_s}
        options = configured({"archive.url": url, **{f"download.{name}": value for name, value in given.items()}})
        client = HttpClient(transfer.TransferSettings.from_config(options))
        with pytest.raises(TransferFault, match="429|asks to be left alone"):
            client.get(f"{url}/file", lambda body: body.read())
    assert len(asked) == requests
    assert asked[-1] - asked[0] >= requests - 1


def test_an_answer_of_a_query_service_is_waited_for_no_longer_than_asked():
    def answer(_):
        time.sleep(0.8)
        return 400, {}, b"not like this"

    with answering(answer) as url:
        for seconds, reason in ((0.2, "timed out|no answer"), (5.0, "400")):
            options = configured({"archive.url": url, "archive.retries": 0, "archive.timeout_s": seconds})
            settings = archive.ArchiveSettings.from_config(options)
            with pytest.raises(ArchiveError, match=reason):
                ask("SELECT 1", settings, QuerySession(settings))


@pytest.mark.parametrize(("service", "kinds"), [("tap", {"tap"}), ("sia", {"sia"}), ("obscore", {"tap", "datalink"})])
def test_exposures_are_asked_for_in_the_way_asked_for(demo_scenario, tmp_path, service, kinds):
    source = Source("s", "s", demo_scenario.target.ra_deg, demo_scenario.target.dec_deg)
    with server.running(demo_scenario) as local:
        options = configured({"archive.url": local.url, "archive.service": service, "archive.cache": str(tmp_path)})
        settings = archive.ArchiveSettings.from_config(options)
        found = find([source], settings, archive.QuerySettings.from_options(options["query"]), BANDS)
        assert len(found["s"].observations) == 108
        assert {request.kind for request in local.requests} == kinds


@pytest.mark.parametrize(("datalink_ids", "requests"), [(500, 1), (40, 3)])
def test_datalink_answers_come_in_chunks_and_are_kept_where_asked(demo_scenario, tmp_path, datalink_ids, requests):
    source = Source("s", "s", demo_scenario.target.ra_deg, demo_scenario.target.dec_deg)
    with server.running(demo_scenario) as local:
        given = {"url": local.url, "service": "obscore", "cache": str(tmp_path / "kept"), "datalink_ids": datalink_ids}
        options = configured({f"archive.{name}": value for name, value in given.items()})
        settings = archive.ArchiveSettings.from_config(options)
        find([source], settings, archive.QuerySettings.from_options(options["query"]), BANDS)
        assert sum(request.kind == "datalink" for request in local.requests) == requests
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


@pytest.mark.parametrize("connections", [1, 3])
def test_no_more_queries_are_under_way_than_asked_for(demo_scenario, connections):
    faults = {"files": {"/TAP/sync": ["400"], "/TAP/async": ["400"]}, "latency_s": 0.1}
    target = demo_scenario.target
    sources = [Source(f"s{number}", "s", target.ra_deg, target.dec_deg) for number in range(9)]
    with server.running(demo_scenario, faults=faults) as local:
        options = configured({"archive.url": local.url, "archive.retries": 0, "archive.connections": connections})
        settings = archive.ArchiveSettings.from_config(options)
        found = find(sources, settings, archive.QuerySettings.from_options(options["query"]), BANDS)
        assert all(answer.observations for answer in found.values())
        assert local.traffic.summary()["max_connections"]["all"] == connections


# --- the source and its neighbours ---


def test_the_source_is_what_the_options_say():
    motion = {"pmra_masyr": 12.0, "pmdec_masyr": -3.0, "parallax_mas": 5.0, "epoch_yr": 2010.0}
    (source,) = read_sources.main(configured({"ra": 213.9, "dec": -11.5, "name": "a star", **motion})).values()
    assert (source.ra_deg, source.dec_deg, source.name) == (213.9, -11.5, "a star")
    assert {option: getattr(source, option) for option in motion} == motion
    (nameless,) = read_sources.main(configured({"ra": 213.9, "dec": -11.5})).values()
    assert nameless.name == "J141536.00-113000.0"


def test_neighbours_are_those_of_the_catalogue_and_of_the_file(tmp_path):
    (tmp_path / "sources.csv").write_text("id,ra,dec\na,10,10\nb,10.001,10\n")
    (tmp_path / "others.csv").write_text("id,ra,dec\nc,10.0,10.001\n")

    def neighbours(**options):
        given = {f"photometry.neighbours.{name}": value for name, value in options.items()}
        complete = configured({"ra": None, "dec": None, "sources": str(tmp_path / "sources.csv"), **given})
        sources = read_sources.main(complete)
        return {one["key"] for one in read_sources.neighbours_of(sources, complete)("a")}

    others = str(tmp_path / "others.csv")
    assert neighbours() == {"b"}
    assert neighbours(catalogue=False) == set()
    assert neighbours(catalogue=False, file=others) == {"c"}


# --- every option ---

SHOWN_BY = yaml.safe_load((Path(__file__).parent / "data" / "option_tests.yaml").read_text(encoding="utf-8"))
IN_A_TABLE = {
    "option_effects::an_option_of_the_measurement_has_its_effect": {f"photometry.{row[0]}" for row in EFFECTS}
}


def source_of_tests():
    """Text of every test with its decorators, by module and name."""
    texts = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                first = min(one.lineno for one in (node, *node.decorator_list))
                name = f"{path.stem.removeprefix('test_')}::{node.name.removeprefix('test_')}"
                texts[name] = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return texts


def test_the_effect_of_every_option_is_shown_by_a_test():
    """The list is kept by hand: a test shows an effect if it fails where the option is read as its default."""
    shown = Counter(option for options in SHOWN_BY.values() for option in options)
    assert set(shown) == {name for name, _ in config.options()}
    assert {option for option, count in shown.items() if count > 1} == set()
    texts = source_of_tests()
    assert set(SHOWN_BY) <= set(texts)
    for name, options in SHOWN_BY.items():
        said = {option for option in options if re.search(rf"\b{option.rsplit('.', 1)[-1]}\b", texts[name])}
        assert set(options) == said | IN_A_TABLE.get(name, set())
