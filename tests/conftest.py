"""The local archive and the workflow, as the tests use them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from spxflow import config
from spxflow.demo import scenario, server

REPOSITORY = Path(__file__).parent.parent
EVERY_PRODUCT = [  # for --config: every product in every format
    f"products=[{','.join(config.defaults()['products'])},irsa_columns,spectrum_passes]",
    "tables={formats: [csv, ecsv, parquet, vot]}",
    "pictures={formats: [png, pdf, svg]}",
]


class Workflow:
    """The workflow in a working directory of its own, run as a user would."""

    def __init__(self, directory, archive_url):
        self.directory = Path(directory)
        self.archive_url = archive_url
        self.configfile = REPOSITORY / "config" / "demo.yaml"

    def command(self, *arguments, config=()):
        """The command line: options and targets of snakemake, and ``key=value`` entries for ``--config``."""
        flags = [argument for argument in arguments if argument.startswith("-")]
        targets = [argument for argument in arguments if not argument.startswith("-")]
        return [
            *(sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", str(REPOSITORY / "Snakefile")),
            *flags,
            *("--configfile", str(self.configfile)),
            *("--config", f"archive={{url: '{self.archive_url}'}}", *config),
            *(("--", *targets) if targets else ()),
        ]

    def environment(self):
        return {**os.environ, "MPLBACKEND": "agg", "COLUMNS": "200"}

    def run(self, *arguments, config=(), status=0, timeout=300):
        """Run to the end, check the exit status and return all that was printed."""
        finished = subprocess.run(
            self.command(*arguments, config=config),
            cwd=self.directory,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert finished.returncode == status, finished.stdout
        return finished.stdout

    def start(self, *arguments, config=()):
        """Start a run in a process group of its own, to be disturbed."""
        return subprocess.Popen(
            self.command(*arguments, config=config),
            cwd=self.directory,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def jobs_to_do(self, *arguments, config=()):
        """Names of the rules that a run would execute, with how often; the targets left out."""
        return _job_counts(self.run("--dry-run", *arguments, config=config))


def _job_counts(text):
    counts = {}
    _, found, stats = text.partition("Job stats")
    if not found:
        assert "Nothing to be done" in text, text
        return counts
    for line in stats.splitlines()[3:]:
        *words, count = line.split() or ["", "total"]
        if words and words[0] == "total":
            break
        if words and count.isdigit():
            counts["_".join(words)] = int(count)
    return {rule: count for rule, count in counts.items() if rule not in ("all", "query", "download", "photometry")}


@pytest.fixture(scope="session")
def demo_scenario():
    """The demonstration's field: 108 exposures of the Cloverleaf quasar."""
    return scenario.load("demo")


@pytest.fixture(scope="session")
def demo_archive(demo_scenario):
    """The local archive, serving the demonstration's field. Not to be changed by a test."""
    with server.running(demo_scenario) as archive:
        yield archive


@pytest.fixture
def workflow(tmp_path, demo_archive):
    """The workflow on the demonstration's archive in an empty directory."""
    return Workflow(tmp_path, demo_archive.url)
