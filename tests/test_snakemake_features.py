"""Snakemake's own tools on a finished run: dry run, lint, graphs, report, generated unit tests."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from conftest import REPOSITORY

RULES = {
    "find_exposures",
    "summarise_query",
    "fetch_exposure",
    "summarise_downloads",
    "measure_exposure",
    "gather_records",
    "write_photometry",
    "write_lightcurve",
    "combine_spectrum",
    "measure_variability",
    "plot_combined",
    "draw_qa_sheet",
    "write_report",
    "write_state",
}


class Copy:
    """A copy of the workflow with its options in ``config/config.yaml``, called from its own directory."""

    def __init__(self, directory, archive_url):
        self.directory = directory
        shutil.copy(REPOSITORY / "Snakefile", directory)
        for part in ("workflow", "scripts", "config", "profiles", "envs"):
            shutil.copytree(REPOSITORY / part, directory / part, ignore=shutil.ignore_patterns("__pycache__"))
        options = yaml.safe_load((REPOSITORY / "config" / "demo.yaml").read_text(encoding="utf-8"))
        options |= {"archive": {"url": archive_url}, "bands": ["D1"]}
        (directory / "config" / "config.yaml").write_text(yaml.safe_dump(options), encoding="utf-8")

    def run(self, *command):
        environment = {**os.environ, "MPLBACKEND": "agg", "COLUMNS": "200"}
        environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
        finished = subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished

    def snakemake(self, *arguments):
        return self.run(sys.executable, "-m", "snakemake", "--cores", "2", *arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, demo_archive):
    copy = Copy(tmp_path_factory.mktemp("features"), demo_archive.url)
    copy.snakemake()
    return copy


def test_a_dry_run_finds_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake("--dry-run").stderr


def test_lint_is_content(finished):
    assert "in a good condition" in finished.snakemake("--lint").stderr


def test_the_graph_of_jobs_has_every_file(finished):
    graph = finished.snakemake("--dag").stdout
    assert graph.startswith("digraph")
    assert graph.count('label = "fetch_exposure') == graph.count('label = "measure_exposure') == 18


def test_the_graph_of_rules_is_that_of_the_documentation(finished):
    graph = finished.snakemake("--rulegraph").stdout
    assert set(re.findall(r'label = "(\w+)"', graph)) == RULES | {"all"}
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    picture = (REPOSITORY / "docs" / "images" / "rulegraph.svg").read_text(encoding="utf-8")
    drawn = dict(re.findall(r"<title>(\d+)</title>.*?<text[^>]*>(\w+)</text>", picture, re.DOTALL))
    arrows = {(drawn[one], drawn[other]) for one, other in re.findall(r"<title>(\d+)&#45;&gt;(\d+)</title>", picture)}
    assert arrows == {(names[one], names[other]) for one, other in re.findall(r"(\d+) -> (\d+)", graph)}


def test_the_graph_of_rules_for_mermaid(finished):
    graph = finished.snakemake("--rulegraph", "mermaid-js").stdout
    assert "flowchart" in graph
    assert all(f"[{rule}]" in graph for rule in RULES)


def test_the_report_has_the_products(finished):
    finished.snakemake("--report", "report.zip")
    with zipfile.ZipFile(finished.directory / "report.zip") as report:
        names = {os.path.basename(name) for name in report.namelist()}
        page = next(name for name in report.namelist() if name.endswith("report.html") and name.count("/") == 1)
        text = report.read(page).decode()
    assert {"combined_plot.png", "qa_sheet.png", "lightcurve.csv", "spectrum.csv", "variability.json"} <= names
    assert "spectrum and light curve" in text
    assert "coloured by date" in text


def test_unit_tests_are_generated_and_those_without_archive_and_images_pass(finished):
    finished.snakemake("--generate-unit-tests")
    unit = finished.directory / ".tests" / "unit"
    assert {path.stem.removeprefix("test_") for path in unit.glob("test_*.py")} == RULES
    passed = finished.run(sys.executable, "-m", "pytest", "-q", f"{unit}/test_write_lightcurve.py")
    assert "1 passed" in passed.stdout
