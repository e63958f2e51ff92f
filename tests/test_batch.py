"""Whole sources in one job: the same products as file by file, and only what is new, changed or failed is done."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from conftest import EVERY_PRODUCT, REPOSITORY, Workflow
from spxflow import files
from spxflow.demo import server
from spxflow.errors import ConfigError
from spxflow.journal import Journal, digest_of
from spxflow.transfer import TransferRecord

sys.path.insert(0, str(REPOSITORY))
from scripts import fetch_source, remember_inputs

SOURCE = "demo/cloverleaf"
FEW = "products=[photometry]"  # where the others are not looked at
BATCH = ["batch=true", "bands=D1,D5", FEW]
QUICK = "download={retry_wait_s: 0.05, retry_wait_max_s: 0.5, timeout_s: 10}"
BRIGHT = ("cloverleaf", "isolated-03", "isolated-04", "isolated-05")


def content_of_products(directory):
    """Content of all products of a source, without what is declared to be a time or the cost of a transfer."""
    results = directory / "results"
    content = {path.name: path.read_bytes() for path in results.iterdir()}
    downloads = json.loads(content["downloads.json"])
    for file in downloads["files"]:
        del file["seconds"], file["requests"], file["received_bytes"]
    del downloads["received_bytes"]
    summary = yaml.safe_load(content["query_summary.yaml"])
    del summary["query_time"]
    return content | {"downloads.json": downloads, "query_summary.yaml": summary}


def write_sources(path, field, names):
    sources = {source.name: source for source in field.sky.sources}
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "ra", "dec"])
        writer.writerows([name, sources[name].ra_deg, sources[name].dec_deg] for name in names)


def files_asked_for(archive, since=0):
    return [request for request in archive.requests[since:] if request.kind in ("cutout", "image")]


@pytest.fixture
def archive(demo_scenario):
    """A local archive of the demonstration's field that a test may spoil."""
    with server.running(demo_scenario) as running:
        yield running


@pytest.fixture
def catalogue(tmp_path):
    """A workflow on a catalogue, without its archive's address."""
    workflow = Workflow(tmp_path, "")
    workflow.configfile = tmp_path / "catalogue.yaml"
    workflow.configfile.write_text("outdir: demo\n", encoding="utf-8")
    return workflow


def test_products_are_those_of_single_files(demo_archive, tmp_path):
    """Two runs of their own, in every format: the same bytes."""
    content = {}
    for batch in ("true", "false"):
        workflow = Workflow(tmp_path / batch, demo_archive.url)
        workflow.directory.mkdir()
        config = [*EVERY_PRODUCT, f"batch={batch}", "bands=D1,D5"]
        assert ("fetch_source" in workflow.jobs_to_do(config=config)) == (batch == "true")
        workflow.run(config=config)
        content[batch] = content_of_products(workflow.directory / SOURCE)
        assert workflow.jobs_to_do(config=config) == {}
    assert {name.rpartition(".")[2] for name in content["true"]} == {
        *("csv", "ecsv", "parquet", "vot", "png", "pdf", "svg", "html", "json", "yaml")
    }
    assert content["true"] == content["false"]
    assert len(content["true"]["downloads.json"]["files"]) == 36


def test_only_what_changed_or_failed_is_done_again(archive, tmp_path):
    lost = sorted(file.stem for file in archive.holdings.scenario.files.values() if file.detector == 5)[7]
    archive.set_faults({"files": {f"*{lost}*": "404"}})
    workflow = Workflow(tmp_path, archive.url)
    config = [*BATCH, QUICK]
    printed = workflow.run(config=config)
    assert "404" in printed
    assert workflow.jobs_to_do(config=config)["fetch_source"] == 1

    archive.set_faults({})
    asked = len(archive.requests)
    journal = (workflow.directory / SOURCE / "records" / "photometry.journal").read_text(encoding="utf-8")
    workflow.run(config=config)
    assert [lost in request.path for request in files_asked_for(archive, asked)] == [True]
    again = (workflow.directory / SOURCE / "records" / "photometry.journal").read_text(encoding="utf-8")
    differing = [one for one, other in zip(journal.splitlines(), again.splitlines(), strict=True) if one != other]
    assert len(differing) == 1
    assert lost in differing[0]
    assert workflow.jobs_to_do(config=config) == {}

    # options of the photometry fetch nothing; a quality cut measures nothing; a lost image is fetched alone
    jobs = workflow.jobs_to_do(config=[*config, "photometry={aperture: {diameter_fwhm: 2.0}}"])
    assert "fetch_source" not in jobs
    assert jobs["measure_source"] == 1
    assert "measure_source" not in workflow.jobs_to_do(config=[*config, "quality={min_snr: 50}"])
    image = next((workflow.directory / SOURCE / "data" / "D1").glob("*.fits"))
    image.unlink()
    asked = len(archive.requests)
    workflow.run(config=config)
    assert [image.stem in request.path for request in files_asked_for(archive, asked)] == [True]
    assert image.exists()
    assert workflow.jobs_to_do(config=config) == {}


def test_a_killed_batch_goes_on_where_it_was(archive, tmp_path):
    archive.set_faults({"latency_s": 1.0})  # long enough for a busy machine to notice the fifth file
    workflow = Workflow(tmp_path, archive.url)
    journal = tmp_path / SOURCE / "records" / "transfer.journal"
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            workflow.command(config=BATCH),
            cwd=tmp_path,
            env=workflow.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        had = journal.read_bytes().count(b"\n") if journal.exists() else 0
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < had + 5:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        told = time.monotonic()
        process.send_signal(number)
        process.wait(timeout=60)
        assert time.monotonic() - told < 5
    kept = journal.read_bytes().count(b"\n")
    assert 10 <= kept < 36
    archive.set_faults({})
    asked = len(archive.requests)
    workflow.run(config=BATCH)
    assert len(files_asked_for(archive, asked)) <= 36 - kept
    assert len(json.loads((tmp_path / SOURCE / "results" / "photometry.json").read_text())["exposures"]) == 36
    assert not [path for path in (tmp_path / "demo").rglob("*") if re.search(r"\.part$|\.tmp$", path.name)]


@pytest.mark.parametrize("batch", ["true", "false"])
def test_images_that_are_not_kept_are_fetched_again_only_when_needed(archive, tmp_path, batch):
    workflow = Workflow(tmp_path, archive.url)
    config = [f"batch={batch}", "bands=D1", "download={keep: false}", FEW]
    workflow.run(config=config)
    assert not list((tmp_path / SOURCE / "data").rglob("*.fits"))
    assert len(files_asked_for(archive)) == 18
    rows = json.loads((tmp_path / SOURCE / "results" / "photometry.json").read_text())["exposures"]
    assert sum(row["flux_ujy"] is not None for row in rows) == 18
    assert workflow.jobs_to_do(config=config) == {}
    asked = len(archive.requests)
    workflow.run(config=[*config, "photometry={psf: {radius_px: 3.0}}"])
    assert len(files_asked_for(archive, asked)) == 18
    again = json.loads((tmp_path / SOURCE / "results" / "photometry.json").read_text())["exposures"]
    assert [row["flux_ujy"] for row in again] != [row["flux_ujy"] for row in rows]
    assert not list((tmp_path / SOURCE / "data").rglob("*.fits"))


@pytest.mark.parametrize("batch", ["true", "false"])
def test_newer_calibration_is_taken_for_all_exposures_alike(archive, tmp_path, batch):
    def calibration_of_rows(*arguments, photometry="{psf: {radius_px: 4.0}}"):
        workflow.run(*arguments, config=[*config, f"photometry={photometry}"])
        rows = json.loads((tmp_path / SOURCE / "results" / "photometry.json").read_text())["exposures"]
        return {re.search(r"wavelength: (\S+)\.fits", row["calibration"])[1] for row in rows}

    def wait_a_month():
        for kept in (tmp_path / "calibration").rglob("latest.json"):
            kept.write_text(re.sub(r'"checked": [0-9.]+', f'"checked": {time.time() - 31 * 86400.0}', kept.read_text()))

    older, newer = "spectral_wcs_D1_spx_cal-wcs-v3-2025-172", "spectral_wcs_D1_spx_cal-wcs-v4-2025-254"
    path = f"qr2/spectral_wcs/cal-wcs-v4-2025-254/1/{newer}.fits"
    workflow = Workflow(tmp_path, archive.url)
    config = [f"batch={batch}", "bands=D1", "calibration={wavelength: map}", FEW]
    archive.holdings.remove(path)
    assert calibration_of_rows() == {older}
    archive.holdings.restore(path)
    wait_a_month()
    assert calibration_of_rows(photometry="{psf: {radius_px: 3.0}}") == {older}
    asked = len(archive.requests)
    assert calibration_of_rows("--forcerun=find_exposures") == {newer}
    assert not files_asked_for(archive, asked)
    assert workflow.jobs_to_do(config=config) == {}
    wait_a_month()
    photometry = tmp_path / SOURCE / "records" / "photometry"
    measured = {record: record.stat().st_mtime_ns for record in photometry.glob("*.json")}
    assert len(measured) == (0 if batch == "true" else 18)
    assert calibration_of_rows("--forcerun=find_exposures") == {newer}
    assert {record: record.stat().st_mtime_ns for record in photometry.glob("*.json")} == measured


def test_calibration_that_was_removed_is_fetched_again(archive, tmp_path):
    workflow = Workflow(tmp_path, archive.url)
    config = [*BATCH, "calibration={wavelength: map}"]
    workflow.run(config=config)
    asked = len(archive.requests)
    shutil.rmtree(tmp_path / "calibration")
    workflow.run(config=[*config, "photometry={psf: {radius_px: 3.0}}"])
    assert not files_asked_for(archive, asked)
    for manifest in (tmp_path / "calibration" / "in_use").iterdir():
        manifest.write_text("{")
    workflow.run("--forcerun=find_exposures", config=config)
    rows = json.loads((tmp_path / SOURCE / "results" / "photometry.json").read_text())["exposures"]
    assert {row["status"] for row in rows} <= {"ok", "flagged"}


def test_a_part_made_with_other_options_is_not_forgotten_elsewhere(tmp_path, monkeypatch):
    def inputs(where, options):
        (tmp_path / where).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / where)
        return remember_inputs.Inputs(str(tmp_path / "source"), options)

    inputs("here", "first").remember()
    inputs("elsewhere", "first").refuse_forgotten()
    inputs("here", "second").remember()
    with pytest.raises(ConfigError, match="made with other options"):
        inputs("elsewhere", "second").refuse_forgotten()
    inputs("here", "third").refuse_forgotten()


def test_a_catalogue_that_grows_does_the_work_of_what_is_new(archive, catalogue):
    catalogue.archive_url = archive.url
    listed = catalogue.directory / "sources.csv"
    config = [f"sources={listed}", "bands=D1,D4", "download={mode: slim}", "products=[photometry,combined_plot]"]
    write_sources(listed, archive.holdings.scenario, BRIGHT[:2])
    catalogue.run(config=config)
    before = {
        path: path.stat().st_mtime_ns
        for path in (catalogue.directory / "demo").rglob("*.*")
        if path.parent.name == "results"
    }
    asked = len(archive.requests)
    write_sources(listed, archive.holdings.scenario, BRIGHT)
    jobs = catalogue.jobs_to_do(config=config)
    assert jobs["fetch_source"] == jobs["measure_source"] == jobs["plot_combined"] == 2
    catalogue.run(config=config)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert len([request for request in archive.requests[asked:] if request.kind == "tap"]) == 1
    assert catalogue.jobs_to_do(config=config) == {}

    import pandas
    from astropy.table import Table

    rows = pandas.read_parquet(catalogue.directory / "demo" / "catalogue.parquet")
    assert dict(rows.groupby("source").size()) == dict.fromkeys(BRIGHT, 36)
    one = json.loads((catalogue.directory / "demo" / BRIGHT[3] / "results" / "photometry.json").read_text())
    assert list(rows[rows["source"] == BRIGHT[3]]["flux_ujy"]) == [row["flux_ujy"] for row in one["exposures"]]
    assert str(Table.read(catalogue.directory / "demo" / "catalogue.parquet")["flux_ujy"].unit) == "uJy"
    lines = (catalogue.directory / "demo" / "catalogue.csv").read_text(encoding="utf-8").splitlines()
    summary = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [(line["source"], line["status"], line["n_exposures"]) for line in summary] == [
        (name, "ok", "36") for name in BRIGHT
    ]
    snr = np.median([row["snr"] for row in one["exposures"]])
    assert float(summary[3]["median_snr"]) == pytest.approx(snr)


def test_the_state_of_a_source_of_a_catalogue_repeats_it_alone(archive, catalogue):
    catalogue.archive_url = archive.url
    listed = catalogue.directory / "sources.csv"
    write_sources(listed, archive.holdings.scenario, BRIGHT[:2])
    catalogue.run(config=[f"sources={listed}", "bands=D1", "download={mode: slim}"])
    catalogue.configfile = catalogue.directory / "demo" / BRIGHT[1] / f"{BRIGHT[1]}.yaml"
    assert catalogue.jobs_to_do() == {}
    results = catalogue.directory / "demo" / BRIGHT[1] / "results"
    page = (results / "report.html").read_bytes()
    (results / "report.html").unlink()
    assert catalogue.jobs_to_do() == {"write_report": 1}
    catalogue.run()
    assert (results / "report.html").read_bytes() == page


def test_a_source_that_fails_does_not_stop_the_others(archive, catalogue):
    catalogue.archive_url = archive.url
    listed = catalogue.directory / "sources.csv"
    config = [f"sources={listed}", "bands=D1", "download={mode: slim}", FEW]
    write_sources(listed, archive.holdings.scenario, BRIGHT[:3])
    spoilt = catalogue.directory / "demo" / BRIGHT[1] / "records" / "photometry.json"
    spoilt.mkdir(parents=True)
    (spoilt / "in the way").write_text("")
    catalogue.run(config=config, status=1)
    lines = (catalogue.directory / "demo" / "catalogue.csv").read_text(encoding="utf-8").splitlines()
    summary = {row["source"]: row["status"] for row in csv.DictReader(line for line in lines if line[0] != "#")}
    assert summary == {BRIGHT[0]: "ok", BRIGHT[1]: "failed", BRIGHT[2]: "ok"}
    (spoilt / "in the way").unlink()
    spoilt.rmdir()
    jobs = catalogue.jobs_to_do(config=config)
    assert jobs["measure_source"] == jobs["write_catalogue"] == 1
    catalogue.run(config=config)
    assert catalogue.jobs_to_do(config=config) == {}


def test_whole_images_are_fetched_once_for_all_sources(archive, catalogue):
    catalogue.archive_url = archive.url
    field = archive.holdings.scenario
    listed = catalogue.directory / "sources.csv"
    write_sources(listed, field, BRIGHT[:2])
    first = sorted(file.mjd_begin for file in field.files.values() if file.detector == 2)[:2]
    config = [
        f"sources={listed}",
        "bands=D2",
        FEW,
        "download={mode: full}",
        f"query={{mjd_min: {first[0]}, mjd_max: {first[1] + 0.003}}}",
    ]
    catalogue.run(config=config)
    images = list((catalogue.directory / "demo" / "images").rglob("*.fits"))
    assert len(files_asked_for(archive)) == len(images) >= 2
    for name in BRIGHT[:2]:
        rows = json.loads((catalogue.directory / "demo" / name / "results" / "photometry.json").read_text())
        assert [row["flux_ujy"] is not None for row in rows["exposures"]] == [True] * len(images)
    assert catalogue.jobs_to_do(config=config) == {}
    os.unlink(images[0])
    catalogue.run(config=config)
    assert len(files_asked_for(archive)) == len(images) + 1
    printed = catalogue.run(config=[*config, "download={keep: false, mode: full}"], status=1)
    assert "download.keep: got false" in " ".join(printed.split())


def test_what_a_killed_run_left_of_a_shared_image_is_removed(tmp_path):
    stem = "level2_2025W25_1B_0062_1D3_spx_l2b-v20-2025-252"
    images = tmp_path / "images" / "D3"
    images.mkdir(parents=True)
    for name in ("fits", "json"):
        (images / f".{stem}.{name}.0123abcd.part").touch()
    failed = TransferRecord(stem, "download_failed", "gone", "", 0, 0, "", 1, 0.0, "full", 1)
    places = fetch_source.Places(str(tmp_path / "source"), str(tmp_path / "images"), keep=True)
    assert places.shared_image(stem, lambda _: failed) == failed
    assert sorted(path.name for path in images.iterdir()) == [f".{stem}.lock", f"{stem}.json"]


def test_a_journal_survives_a_cut_line(tmp_path):
    path = tmp_path / "a.journal"
    with Journal(path) as journal:
        journal.add("a", digest_of([1, {"x": 2.0}]), {"flux": 1.0})
        journal.add("b", "old", {"flux": 2.0})
        journal.add("b", "new", {"flux": 3.0})
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with Journal(path) as journal:
        assert journal.is_current("a", digest_of([1, {"x": 2.0}]))
        assert not journal.is_current("a", digest_of([1, {"x": 2.5}]))
        assert journal.record("b") == {"flux": 2.0}
        journal.add("c", "new", {"flux": 4.0})
        assert journal.keep(["c", "a"]) == [{"flux": 4.0}, {"flux": 1.0}]
    with Journal(path) as journal:
        assert (journal.record("b"), journal.record("c")) == (None, {"flux": 4.0})


def _end_or_name(tasks):
    if any("dies" in task for task in tasks):
        os._exit(9)
    return [task.upper() for task in tasks]


def test_a_worker_that_dies_takes_nothing_else_with_it():
    from spxflow.workers import Processes, finished

    pool = Processes(2)
    outcomes = {}
    for task, future in finished(pool, _end_or_name, [("a",), ("dies",), ("b",), ("c",)], 1):
        outcomes[task] = "died" if future.exception() else future.result()
    pool.shutdown()
    assert outcomes == {("a",): ["A"], ("dies",): "died", ("b",): ["B"], ("c",): ["C"]}


def test_records_of_one_file_or_many_read_alike(tmp_path):
    files.write_json(tmp_path / "one.json", {"stem": "a"})
    files.write_json(tmp_path / "many.json", [{"stem": "b"}, {"stem": "c"}])
    records = files.read_records([tmp_path / "one.json", tmp_path / "many.json"])
    assert [record["stem"] for record in records] == ["a", "b", "c"]
