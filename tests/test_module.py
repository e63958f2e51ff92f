"""The workflow from elsewhere: as a module of another one, from any directory, by its entry in the catalogue."""

import csv
import json
import re
import sys

import pytest
import yaml
from conftest import REPOSITORY, Workflow
from spxflow import files

SNAKEFILE = """
configfile: "mine.yaml"


module spxflow:
    snakefile:
        "{repository}/Snakefile"
    config:
        config["spxflow"]


use rule * from spxflow as spxflow_*


rule brightest:
    default_target: True
    input:
        "results/cloverleaf/results/lightcurve.csv",
    output:
        "brightest.txt",
    shell:
        "grep -v '^#' {{input}} | sed -n 1,2p > {{output}}"
"""


class Elsewhere(Workflow):
    """Another workflow, which uses this one as a module."""

    def command(self, *arguments, config=()):
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        return [*command, "--workflow-profile", str(REPOSITORY / "profiles" / "default")]


def test_the_sources_of_a_module_are_locked(demo_archive, tmp_path):
    elsewhere = Elsewhere(tmp_path, demo_archive.url)
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(repository=REPOSITORY), encoding="utf-8")
    options = {"ra": 213.942708, "dec": 11.495389, "name": "cloverleaf", "outdir": "results", "bands": ["D3"]}
    options["archive"] = {"url": demo_archive.url}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"spxflow": options}), encoding="utf-8")
    lock = files.hold_lock(tmp_path / "results" / "cloverleaf" / ".lock")
    printed = elsewhere.run("spxflow_query", status=1)
    assert "another run is at work on this source" in " ".join(printed.split())
    lock.close()
    elsewhere.run("spxflow_query")


def test_a_package_named_scripts_of_the_outer_workflow_does_no_harm(demo_archive, tmp_path):
    elsewhere = Elsewhere(tmp_path, demo_archive.url)
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(repository=REPOSITORY), encoding="utf-8")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").touch()
    options = {"ra": 213.942708, "dec": 11.495389, "name": "cloverleaf", "archive": {"url": demo_archive.url}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"spxflow": options}), encoding="utf-8")
    elsewhere.run("spxflow_query", "--dry-run")


@pytest.mark.parametrize("batch", [True, False])
def test_another_workflow_builds_on_the_products(demo_archive, tmp_path, batch):
    elsewhere = Elsewhere(tmp_path, demo_archive.url)
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(repository=REPOSITORY), encoding="utf-8")
    options = {
        "ra": 213.942708, "dec": 11.495389, "name": "cloverleaf", "outdir": "results", "bands": ["D3"],
        "batch": batch, "products": ["photometry", "lightcurve"], "archive": {"url": demo_archive.url},
        "download": {"mode": "slim"},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"spxflow": options, "mine": 1}), encoding="utf-8")
    elsewhere.run()
    assert "flux_ujy" in (tmp_path / "brightest.txt").read_text(encoding="utf-8")
    assert not (tmp_path / "results" / "cloverleaf" / "results" / "report.html").exists()
    assert "Nothing to be done" in elsewhere.run("--dry-run")
    elsewhere.run("spxflow_all")
    document = json.loads((tmp_path / "results" / "cloverleaf" / "results" / "photometry.json").read_text())
    assert len(document["exposures"]) == 18


def test_relative_paths_are_those_of_the_working_directory(demo_archive, tmp_path):
    workflow = Workflow(tmp_path, demo_archive.url)
    workflow.configfile = tmp_path / "mine.yaml"
    workflow.configfile.write_text("sources: mine.csv\noutdir: mine\nbands: [D3]\n", encoding="utf-8")
    with open(tmp_path / "mine.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("id", "ra", "dec"), ("one", 213.942708, 11.495389)])
    workflow.run("photometry", config=["download={mode: slim}", "calibration={directory: kept}"])
    assert (tmp_path / "mine" / "one" / "results" / "photometry.json").exists()
    assert list((tmp_path / "kept").rglob("*.fits"))
    assert not (tmp_path / "calibration").exists()


def test_conda_installs_what_pip_does():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = yaml.safe_load((REPOSITORY / "envs" / "spxflow.yaml").read_text(encoding="utf-8"))

    def normal(requirement):
        name, bound = re.match(r"([A-Za-z0-9_.-]+)\s*(.*)", requirement).groups()
        other_name = {"snakemake-minimal": "snakemake", "matplotlib-base": "matplotlib"}
        return other_name.get(name, name).lower(), bound.replace(" ", "")

    conda = {normal(requirement) for requirement in environment["dependencies"]}
    pip = {normal(requirement) for requirement in project["dependencies"]}
    assert conda - {("python", project["requires-python"])} == pip
    assert ("python", project["requires-python"]) in conda


def test_the_catalogue_of_workflows_can_read_its_entry():
    entry = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))
    assert entry["usage"]["software-stack-deployment"]["conda"] is False
    assert {"desc", "flags"} == set(entry["usage"]["mandatory-flags"])
