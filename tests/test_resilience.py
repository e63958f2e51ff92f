"""What the archive, the network and the operator do to a run, and what becomes of it."""

import json
import os
import random
import re
import signal
import time

import pytest
import yaml
from conftest import Workflow
from spxflow.demo import scenario, server

SOURCE = "demo/cloverleaf"
TRANSIENT = {
    "500": 0.04,
    "502": 0.03,
    "503": 0.05,
    "504": 0.03,
    "429": {"rate": 0.03, "retry_after_s": 0.2},
    "reset": 0.03,
    "truncated": 0.03,
    "html": 0.02,
    "random": 0.02,
    "empty": 0.01,
    "missing_hdu": 0.01,
    "stall": {"rate": 0.01, "seconds": 4},
    "drip": {"rate": 0.03, "bytes_per_s": 2000},
}
QUICK = "download={retry_wait_s: 0.05, retry_wait_max_s: 0.5, timeout_s: 2, min_rate_kb_s: 100}"


@pytest.fixture
def archive(demo_scenario):
    """A local archive of the demonstration's field that a test may spoil."""
    with server.running(demo_scenario) as running:
        yield running


def read_exposures(workflow, source=SOURCE):
    path = workflow.directory / source / "results" / "photometry.json"
    return json.loads(path.read_text(encoding="utf-8"))["exposures"]


def modification_times(workflow, pattern, source=SOURCE):
    return {path.name: path.stat().st_mtime_ns for path in (workflow.directory / source).glob(pattern)}


def test_thirty_percent_of_faulty_answers_cost_no_file(archive, tmp_path):
    archive.set_faults({"seed": 3, "rates": TRANSIENT})
    workflow = Workflow(tmp_path, archive.url)
    workflow.run("download", config=[QUICK])
    downloads = json.loads((tmp_path / SOURCE / "results" / "downloads.json").read_text(encoding="utf-8"))
    assert (downloads["n_ok"], downloads["failed"]) == (108, [])
    assert len(list((tmp_path / SOURCE / "data").glob("D[1-6]/*.fits"))) == 108
    traffic = archive.traffic.summary()
    requests = [request for request in archive.requests if request.path.startswith("/ibe/data/")]
    spoilt = sum(request.fault is not None for request in requests)
    assert spoilt > 30
    assert {request.fault for request in requests} - {None} == TRANSIENT.keys()
    assert len(requests) < 2 * 108
    assert traffic["max_connections"]["cutout"] <= 4


def test_files_that_cannot_be_had_are_rows_and_are_tried_again_alone(archive, tmp_path):
    files = sorted(file.stem for file in archive.holdings.scenario.files.values() if file.detector in (1, 3, 5, 6))
    lost, random_bytes, headless = files[5], files[25], files[45]
    archive.set_faults(
        {
            "files": {
                f"*{lost}*": "404",
                f"*{random_bytes}*": "random",
                f"*{headless}*": {"kind": "missing_hdu", "hdu": "VARIANCE"},
            }
        }
    )
    workflow = Workflow(tmp_path, archive.url)
    config = [QUICK, "bands=D1,D3,D5,D6"]
    printed = workflow.run(config=config)
    rows = read_exposures(workflow)
    assert len(rows) == 72
    reasons = {
        row["file"].removesuffix(".fits"): (row["status"], row["reason"]) for row in rows if row["flux_ujy"] is None
    }
    assert reasons.keys() == {lost, random_bytes, headless}
    assert reasons[lost][0] == "download_failed"
    assert "404" in reasons[lost][1]
    assert "VARIANCE" in reasons[headless][1]
    assert "69 measured" in printed
    assert "404" in printed

    assert workflow.jobs_to_do(config=config)["fetch_exposure"] == 3
    archive.set_faults({})
    measured = modification_times(workflow, "records/photometry/*.json")
    fetched = modification_times(workflow, "data/*/*.fits")
    workflow.run(config=config)
    assert all(row["flux_ujy"] is not None for row in read_exposures(workflow))
    assert fetched.items() < modification_times(workflow, "data/*/*.fits").items()
    again = {
        name
        for name, when in modification_times(workflow, "records/photometry/*.json").items()
        if when != measured[name]
    }
    assert again == {f"{stem}.json" for stem in (lost, random_bytes, headless)}
    assert workflow.jobs_to_do(config=config) == {}


def test_an_archive_that_does_not_answer_is_one_clear_line(tmp_path):
    printed = Workflow(tmp_path, "http://127.0.0.1:9").run("query", config=["archive={retries: 0}"], status=1)
    assert "127.0.0.1:9" in printed


def test_no_exposures_are_an_empty_product_and_a_message(archive, tmp_path):
    workflow = Workflow(tmp_path, archive.url)
    printed = workflow.run(config=["dec=-60", "name=nowhere"])
    assert "0 exposures" in printed
    assert read_exposures(workflow, "demo/nowhere") == []
    assert (tmp_path / "demo/nowhere/results/combined_plot.png").stat().st_size > 1000


def test_new_exposures_are_fetched_and_measured_alone(tmp_path):
    many = scenario.load("many", n=330)
    target = [f"ra={many.target.ra_deg}", f"dec={many.target.dec_deg}", "name=many"]
    with server.running(many, ingested_before=300) as archive:
        workflow = Workflow(tmp_path, archive.url)
        workflow.run(config=target)
        patterns = ("data/*/*.fits", "records/transfer/*.json", "records/photometry/*.json")
        before = {pattern: modification_times(workflow, pattern, "demo/many") for pattern in patterns}
        assert {len(times) for times in before.values()} == {300}
        archive.holdings.publish(None)
        assert workflow.jobs_to_do(config=target) == {}
        asked = len(archive.requests)
        workflow.run(config=[*target, "query={max_age_days: 0}"])
        new = [request for request in archive.requests[asked:] if request.kind == "cutout"]
        assert len(new) == 30
        for pattern in patterns:
            after = modification_times(workflow, pattern, "demo/many")
            assert len(after) == 330
            assert before[pattern].items() < after.items()
        assert len(read_exposures(workflow, "demo/many")) == 330


def test_both_releases_are_measured_and_download_modes_agree(tmp_path):
    releases = scenario.load("releases")
    target = [f"ra={releases.target.ra_deg}", f"dec={releases.target.dec_deg}"]
    with server.running(releases) as archive:
        workflow = Workflow(tmp_path, archive.url)
        fluxes = {}
        around_the_change = {}
        for mode in ("cutout", "slim", "full"):
            config = [*target, f"name={mode}", f"download={{mode: {mode}}}"]
            if mode == "full":  # whole images are large: four of each release
                config.append(f"query={around_the_change}")
            workflow.run(config=config)
            rows = read_exposures(workflow, f"demo/{mode}")
            assert all(row["flux_ujy"] is not None for row in rows)
            assert {row["release"] for row in rows} == {"QR2", "QR3"}
            assert len({(row["obs_id"], row["band"]) for row in rows}) == len(rows)
            fluxes[mode] = {row["file"]: row["flux_ujy"] for row in rows}
            first_qr3 = next(number for number, row in enumerate(rows) if row["release"] == "QR3")
            if mode == "cutout":
                around_the_change = {"mjd_min": rows[first_qr3 - 4]["mjd"], "mjd_max": rows[first_qr3 + 3]["mjd"]}
        downloads = json.loads((tmp_path / "demo/slim/results/downloads.json").read_text(encoding="utf-8"))
        assert downloads["received_bytes"] / downloads["n_files"] < 300_000
    for mode in ("slim", "full"):
        for file, flux in fluxes[mode].items():
            assert flux == pytest.approx(fluxes["cutout"][file], rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_is_stopped_at_once_while_the_archive_asks_for_patience(archive, tmp_path, number):
    archive.set_faults({"files": {"/ibe/data/*": {"kind": "429", "retry_after_s": 60}}})
    workflow = Workflow(tmp_path, archive.url)
    config = [QUICK, "bands=D3"]
    process = workflow.start(config=config)
    wait_until(lambda: any(request.status == 429 for request in archive.requests), process)
    process.send_signal(number)
    process.wait(timeout=15)
    assert process.returncode != 0
    assert not list((tmp_path / SOURCE / "records" / "transfer").glob("*.json"))
    archive.set_faults({})
    workflow.run(config=config)
    rows = read_exposures(workflow)
    assert len(rows) == 18
    assert all(row["flux_ujy"] is not None for row in rows)


def test_an_old_answer_stands_while_the_archive_cannot_be_asked_again(archive, tmp_path):
    workflow = Workflow(tmp_path, archive.url)
    config = ["bands=D3", "archive={retries: 0}"]
    refresh = [*config, "query={max_age_days: 0}"]
    table = tmp_path / SOURCE / "records" / "observations.csv"
    summary = tmp_path / SOURCE / "results" / "query_summary.yaml"
    workflow.run("query", config=config)
    before = table.read_bytes()
    archive.set_faults({"files": {"/TAP/*": "503"}})
    for target in ("query", "photometry"):
        printed = workflow.run(target, config=refresh)
        assert "the archive could not be asked" in printed
        assert "stands" in printed
        assert table.read_bytes() == before
        assert "the archive could not be asked" in summary.read_text(encoding="utf-8")
    assert all(row["flux_ujy"] is not None for row in read_exposures(workflow))
    assert "find_exposures" in workflow.jobs_to_do("query", config=config)
    printed = workflow.run("query", config=[*config, "dec=12.0"], status=1)
    assert "503" in printed
    archive.set_faults({})
    workflow.run("query", config=config)
    assert table.read_bytes() == before
    assert "could not be asked" not in summary.read_text(encoding="utf-8")
    assert workflow.jobs_to_do("query", config=config) == {}


def wait_until(happened, process):
    """Look every 10 ms whether something happened to a run, which goes on until then."""
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def content_of_products(workflow):
    """Content of all products and of the state, without what is declared to be a time, a cost or a version."""
    directory = workflow.directory / SOURCE
    content = {path.name: path.read_bytes() for path in (directory / "results").iterdir() if path.name[0] != "."}
    downloads = json.loads(content["downloads.json"])
    for file in downloads["files"]:
        del file["seconds"], file["requests"], file["received_bytes"]
    del downloads["received_bytes"]
    summary = yaml.safe_load(content["query_summary.yaml"])
    del summary["query_time"]
    state = yaml.safe_load((directory / f"{directory.name}.yaml").read_text(encoding="utf-8"))
    del state["state"]["time"], state["state"]["versions"], state["state"]["query"]["query_time"]
    return content | {"downloads.json": downloads, "query_summary.yaml": summary, "state": state}


def moments(chance):
    """Stages of a run and how much of each is there, in order: ten moments from the query to the last products."""
    return [
        ("query", 1),
        *(("transfer", count) for count in sorted(chance.sample(range(1, 16), 3))),
        *(("photometry", count) for count in sorted(chance.sample(range(20, 36), 3))),
        *(("products", chance.choice(counts)) for counts in ((1, 2), (3, 4, 5), (6, 7))),
    ]


def test_a_run_killed_at_any_moment_is_completed_by_the_next(demo_archive, tmp_path):
    config = ["bands=D2,D5"]
    undisturbed = Workflow(tmp_path / "undisturbed", demo_archive.url)
    undisturbed.directory.mkdir()
    undisturbed.run(config=config)
    expected = content_of_products(undisturbed)
    chance = random.Random(20)
    for name in ("once", "again"):
        killed = Workflow(tmp_path / name, demo_archive.url)
        killed.directory.mkdir()
        source = killed.directory / SOURCE
        asked = len(demo_archive.requests)
        progress = {
            "query": lambda asked=asked: len(demo_archive.requests) - asked,
            "transfer": lambda source=source: len(list(source.glob("records/transfer/*.json"))),
            "photometry": lambda source=source: len(list(source.glob("records/photometry/*.json"))),
            "products": lambda source=source: len(list(source.glob("results/[!.q]*"))),
        }
        for stage, count in moments(chance):
            # scripts that outlived a kill may have made more than there was then
            target = max(count, progress[stage]() + 1)
            process = killed.start(config=config)
            wait_until(lambda made=progress[stage], target=target: made() >= target, process)
            # sometimes the main process alone, so that children may still be writing
            os.kill(process.pid, signal.SIGKILL) if chance.random() < 0.5 else os.killpg(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        killed.run(config=config)
        assert content_of_products(killed) == expected
        assert not [path for path in (killed.directory / "demo").rglob("*") if re.search(r"\.part$|\.tmp$", path.name)]
