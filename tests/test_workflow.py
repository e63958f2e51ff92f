"""The workflow as a user runs it: real Snakemake, real HTTP, real files."""

import csv
import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import EVERY_PRODUCT, REPOSITORY, Workflow

SOURCE = "demo/cloverleaf"
PRODUCTS = {
    "query_summary.yaml": "summarise_query",
    "downloads.json": "summarise_downloads",
    "photometry.json": "write_photometry",
    "lightcurve.csv": "write_lightcurve",
    "spectrum.csv": "combine_spectrum",
    "variability.json": "measure_variability",
    "combined_plot.png": "plot_combined",
    "qa_sheet.png": "draw_qa_sheet",
    "report.html": "write_report",
    "../cloverleaf.yaml": "write_state",
}
PER_FILE = {"fetch_exposure", "measure_exposure"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, demo_archive):
    """A working directory in which the whole demonstration was run."""
    workflow = Workflow(tmp_path_factory.mktemp("finished"), demo_archive.url)
    workflow.printed = workflow.run()
    return workflow


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run that a test may change; times of files are kept."""
    shutil.copytree(finished.directory, tmp_path / "run", dirs_exist_ok=True)
    return Workflow(tmp_path / "run", finished.archive_url)


def read_rows(workflow):
    with open(workflow.directory / SOURCE / "results" / "lightcurve.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def times_of_products(workflow):
    return {name: (workflow.directory / SOURCE / "results" / name).stat().st_mtime_ns for name in PRODUCTS}


def test_every_exposure_is_a_row_and_every_product_is_there(finished):
    results = finished.directory / SOURCE / "results"
    assert all((results / name).stat().st_size > 100 for name in PRODUCTS)
    rows = read_rows(finished)
    assert len(rows) == 108
    document = json.loads((results / "photometry.json").read_text(encoding="utf-8"))
    assert {"source", "settings", "exposures"} <= set(document)
    assert [row["obs_id"] for row in rows] == [row["obs_id"] for row in document["exposures"]]
    assert "108 exposures" in finished.printed


def test_fluxes_agree_with_the_truth(finished, demo_scenario):
    name = demo_scenario.target.name
    truth = {(row["obs_id"], row["band"]): row["flux_ujy"] for row in demo_scenario.truth() if row["source"] == name}
    measured = [row for row in read_rows(finished) if row["status"] == "ok"]
    assert len(measured) > 80
    flux, error, true = np.array(
        [[float(row["flux_ujy"]), float(row["flux_err_ujy"]), truth[row["obs_id"], row["band"]]] for row in measured]
    ).T
    assert abs(np.median(flux / true) - 1) < 0.01
    pulls = (flux - true) / error
    assert abs(np.mean(pulls)) < 0.35
    assert 0.8 < np.std(pulls) < 1.25


def test_query_summary_has_what_was_found_and_the_actual_size(finished):
    summary = yaml.safe_load(
        (finished.directory / SOURCE / "results" / "query_summary.yaml").read_text(encoding="utf-8")
    )
    files = list((finished.directory / SOURCE / "data").glob("D[1-6]/*.fits"))
    assert summary["n_observations"] == len(files) == 108
    assert summary["band_counts"] == {f"D{number}": 18 for number in range(1, 7)}
    assert summary["total_size_gb_estimated"] is False
    assert summary["total_size_gb"] * 2**30 == sum(file.stat().st_size for file in files)
    assert summary["observations"][0].keys() >= {"obs_id", "band", "mjd_start", "mjd_end", "url", "version"}


def test_nothing_is_left_to_do(finished):
    assert finished.jobs_to_do() == {}


def test_the_order_of_options_is_no_change(finished):
    assert finished.jobs_to_do(config=["variability={systematic_error: 0.0}", "bands=D1,D2,D3,D4,D5,D6"]) == {}


def test_a_stage_brings_what_it_depends_on_and_nothing_else(workflow):
    printed = workflow.run("query", config=["bands=D1"])
    assert "demo/cloverleaf: 18 exposures found, some 92 MB (D1 18); more in results/query_summary.yaml" in printed
    source = workflow.directory / SOURCE
    assert (source / "results" / "query_summary.yaml").exists()
    assert not (source / "data").exists()
    workflow.run("download", config=["bands=D1"])
    assert len(list(source.glob("data/D1/*.fits"))) == 18
    assert not (source / "results" / "photometry.json").exists()
    workflow.run("photometry", config=["bands=D1"])
    assert (source / "results" / "photometry.json").exists()
    assert not (source / "results" / "combined_plot.png").exists()


COMPLETE = [*EVERY_PRODUCT, "bands=D4"]
TABLES = {
    "lightcurve": "write_lightcurve",
    "lightcurve_irsa_columns": "write_irsa_lightcurve",
    "spectrum": "combine_spectrum",
    "spectrum_passes": "combine_spectrum_passes",
}
PICTURES = {"combined_plot": "plot_combined", "qa_sheet": "draw_qa_sheet"}
VARIABILITY = ("variability.json", "matched_lightcurve.csv")
ALL_PRODUCTS = {
    **PRODUCTS,
    **dict.fromkeys(VARIABILITY, "measure_variability"),
    **{f"{name}.{form}": rule for name, rule in TABLES.items() for form in ("csv", "ecsv", "parquet", "vot")},
    **{f"{name}.{form}": rule for name, rule in PICTURES.items() for form in ("png", "pdf", "svg")},
}


@pytest.fixture(scope="module")
def complete(demo_archive, tmp_path_factory):
    """A run with every product in every format, on one detector."""
    workflow = Workflow(tmp_path_factory.mktemp("complete"), demo_archive.url)
    workflow.run(config=COMPLETE)
    return workflow


def test_products_are_those_that_are_asked_for_in_the_formats_asked_for(complete):
    written = {path.name for path in (complete.directory / SOURCE / "results").iterdir()}
    assert written == {Path(product).name for product in ALL_PRODUCTS} - {"cloverleaf.yaml"}
    few = ["bands=D4", "products=[lightcurve, combined_plot]"]
    assert complete.jobs_to_do(config=few) == {}
    for other in ("tables={formats: [vot]}", "pictures={formats: [svg]}"):
        assert complete.jobs_to_do(config=[*few, other]) == {}


def jobs_that_write(products):
    """How many jobs of each rule; the two files about variability come from one."""
    jobs = {(ALL_PRODUCTS[product], Path(product).suffix * (product not in VARIABILITY)) for product in products}
    return Counter(rule for rule, _ in jobs)


def test_a_deleted_product_is_rebuilt_alone(complete):
    """Of any two products there is a round in which one is missing and the other is not: nothing brings another."""
    results = complete.directory / SOURCE / "results"
    for bit, value in itertools.product(range(len(ALL_PRODUCTS).bit_length()), (0, 1)):
        missing = [product for number, product in enumerate(ALL_PRODUCTS) if number >> bit & 1 == value]
        for product in missing:
            (results / product).rename(results / f"{product}.aside")
        assert complete.jobs_to_do(config=COMPLETE) == jobs_that_write(missing)
        for product in missing:
            (results / f"{product}.aside").rename(results / product)


def test_deleted_products_come_back_the_same(complete):
    """All but the state byte for byte, which says when it was written."""
    results = complete.directory / SOURCE / "results"
    before = {product: (results / product).read_bytes() for product in ALL_PRODUCTS}
    for product in ALL_PRODUCTS:
        (results / product).unlink()
    complete.run(config=COMPLETE)
    changed = [product for product in ALL_PRODUCTS if (results / product).read_bytes() != before[product]]
    assert changed == ["../cloverleaf.yaml"]
    old, new = (yaml.safe_load(text) for text in (before[changed[0]], (results / changed[0]).read_bytes()))
    assert old["state"].pop("time") < new["state"].pop("time")
    assert old == new


def test_a_rebuilt_product_is_the_same_and_the_others_are_not_touched(copied):
    before = times_of_products(copied)
    report = copied.directory / SOURCE / "results" / "report.html"
    content = report.read_bytes()
    report.unlink()
    copied.run()
    assert report.read_bytes() == content
    after = times_of_products(copied)
    assert [name for name in PRODUCTS if before[name] != after[name]] == ["report.html"]
    assert copied.jobs_to_do() == {}


def test_a_plot_option_draws_again_and_measures_nothing(copied):
    assert copied.jobs_to_do(config=["plot={dpi: 60}"]) == {"plot_combined": 1, "write_report": 1, "write_state": 1}


def test_a_quality_cut_measures_nothing(copied):
    jobs = copied.jobs_to_do(config=["quality={min_snr: 50}"])
    assert not PER_FILE & set(jobs)
    assert jobs["gather_records"] == 1


def test_a_photometry_option_fetches_nothing(copied):
    jobs = copied.jobs_to_do(config=["photometry={aperture: {diameter_fwhm: 2.0}}"])
    assert "fetch_exposure" not in jobs
    assert jobs["measure_exposure"] == 108


def test_another_archive_host_changes_nothing(copied):
    copied.archive_url = "http://127.0.0.1:9"
    assert copied.jobs_to_do() == {}


def test_a_lost_image_is_fetched_again_alone(copied):
    image = next((copied.directory / SOURCE / "data" / "D3").glob("*.fits"))
    content = image.read_bytes()
    image.unlink()
    jobs = copied.jobs_to_do()
    assert jobs["fetch_exposure"] == jobs["measure_exposure"] == 1
    copied.run()
    assert image.read_bytes() == content
    assert copied.jobs_to_do() == {}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("ra=361", "ra: got 361, takes degrees"),
        ("dec=95", "are ra and dec swapped?"),
        ("bandz=D1", "bandz: no such option; did you mean bands?"),
        ("photometry={primary: psff}", "photometry.primary: got 'psff', takes one of psf"),
        ("plot={date_cmap: virids}", "plot.date_cmap: got 'virids', takes the name of a matplotlib colour map"),
        ("cutout={size: 3 parsec}", "cutout.size: got '3 parsec'"),
    ],
)
def test_a_wrong_option_stops_before_any_work(workflow, config, message):
    printed = workflow.run(config=[config], status=1)
    assert message in " ".join(printed.split())
    assert not (workflow.directory / SOURCE).exists()


def test_the_state_of_a_run_repeats_it(copied):
    state = yaml.safe_load((copied.directory / SOURCE / "cloverleaf.yaml").read_text(encoding="utf-8"))
    assert len(state["state"]["files"]) == state["state"]["photometry"]["n_exposures"] == 108
    assert all(len(file["sha256"]) == 64 for file in state["state"]["files"])
    assert state["state"]["versions"].keys() >= {"spxflow", "snakemake", "astropy"}
    copied.configfile = copied.directory / SOURCE / "cloverleaf.yaml"
    assert copied.jobs_to_do() == {}


def test_make_demo_is_the_whole_way(tmp_path):
    (tmp_path / "installed").touch()  # make installs nothing into the environment of the tests, which others may share
    command = ["make", "demo", f"DEMO={tmp_path}/demo", f"BIN={Path(sys.executable).parent}"]
    command.append(f"STAMP={tmp_path}/installed")
    for said in ("108 exposures", "Nothing to be done"):
        made = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
        assert made.returncode == 0, made.stderr
        assert said in made.stderr
        assert f"results: {tmp_path}/demo/cloverleaf/results" in made.stdout
    assert (tmp_path / "demo/cloverleaf/results/combined_plot.png").exists()


def test_old_files_are_not_taken_for_new_ones_in_another_working_directory(copied, tmp_path):
    elsewhere = Workflow(tmp_path, copied.archive_url)
    outdir = f"outdir={copied.directory}/demo"
    assert elsewhere.jobs_to_do(config=[outdir]) == {}
    printed = elsewhere.run(config=[outdir, "photometry={aperture: {diameter_fwhm: 2.0}}"], status=1)
    assert "was made with other options by a run in another working directory" in " ".join(printed.split())
    assert copied.jobs_to_do(config=[outdir, "photometry={aperture: {diameter_fwhm: 2.0}}"])["measure_exposure"] == 108


def test_another_display_name_measures_nothing(copied):
    assert not PER_FILE & set(copied.jobs_to_do(config=["name=cloverleaf "]))


def test_a_summary_has_the_size_of_its_own_files_only(workflow):
    workflow.run("download", config=["bands=D1"])
    workflow.run("query", config=["bands=D1,D2"])
    text = (workflow.directory / SOURCE / "results" / "query_summary.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["total_size_gb_estimated"] is True


def test_an_output_directory_that_is_a_file_is_refused(workflow):
    (workflow.directory / "taken").touch()
    printed = workflow.run(config=["outdir=taken"], status=1)
    assert "outdir: got 'taken', takes a directory that can be written" in " ".join(printed.split())


def test_two_runs_on_one_source_do_not_mix(copied):
    from spxflow import files

    lock = files.hold_lock(copied.directory / SOURCE / ".lock")
    (copied.directory / SOURCE / "results" / "lightcurve.csv").unlink()
    printed = copied.run(status=1)
    assert "another run is at work on this source" in " ".join(printed.split())
    lock.close()
    copied.run()
