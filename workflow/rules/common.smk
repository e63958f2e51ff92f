# Configuration, sources and the input functions of the rules.
import functools
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

_PACKAGE_HOME = str(Path(workflow.current_basedir).parent)
_SCRIPTS_HOME = str(Path(workflow.current_basedir).parent.parent)
sys.path[:0] = [home for home in (_PACKAGE_HOME, _SCRIPTS_HOME) if home not in sys.path]
# the scripts of whole-source rules run in interpreters of their own
os.environ.update(
    PYTHONPATH=os.pathsep.join(
        [_PACKAGE_HOME, *filter(None, [os.getenv("PYTHONPATH")])]
    )
)

from spxflow import config as configuration
from spxflow import files, observations, sources, summary, transfer
from spxflow.errors import ConfigError


def check_configuration():
    """Complete the configuration in place and read the sources it names."""
    try:
        config.update(configuration.complete(config))
        validate(config, str(configuration.schema_path()))
        if config["ra"] is None:
            return {}
        source = sources.source_from_config(config)
        return {source.key: source}
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


SOURCES = check_configuration()
LOCKS = []
OUT = os.path.normpath(config["outdir"])
# the configuration sections that a measurement depends on
METHOD = {section: config[section] for section in ("photometry",)}
STEM = r"level2_[0-9A-Z_]+D[1-6]_spx_l2b-v\d+-\d+-\d+"
PRODUCTS = [
    "results/query_summary.yaml",
    "results/downloads.json",
    "results/photometry.json",
    "results/lightcurve.csv",
    "results/combined_plot.png",
]

if "downloads" not in workflow.global_resources:
    workflow.register_resource("downloads", config["download"]["connections"])


wildcard_constraints:
    source=r"[A-Za-z0-9_][A-Za-z0-9._+-]*",
    stem=STEM,


def of_all_sources(product):
    """Input function: a product of every source."""

    def paths(_):
        if not SOURCES:
            raise WorkflowError(
                "no source: give a position, as in --config ra=213.942708 dec=11.495389"
            )
        return [f"{OUT}/{key}/{product}" for key in SOURCES]

    return paths


def products_of_all_sources(wildcards):
    return [path for product in PRODUCTS for path in of_all_sources(product)(wildcards)]


def source_facts(wildcards):
    """The source as plain values: what a position-dependent job depends on."""
    return asdict(SOURCES[wildcards.source])


def hold_source_locks():
    """Keep other runs away from these sources until this process ends, however it ends."""
    for key in SOURCES:
        try:
            LOCKS.append(files.hold_lock(f"{OUT}/{key}/.lock"))
        except BlockingIOError:
            raise WorkflowError(
                f"{OUT}/{key}: another run is at work on this source; wait for it or choose another outdir or name"
            ) from None
        except OSError as error:
            raise WorkflowError(
                f"outdir: got {OUT}, takes a directory that can be written ({error.strerror})"
            ) from None


@functools.lru_cache(maxsize=64)
def _observations_of(table, mtime_ns):
    return {
        observation.stem: observation
        for observation in observations.read_observations(table)
    }


def exposures(wildcards):
    """Observations of a source by stem; waits for the query."""
    table = checkpoints.find_exposures.get(source=wildcards.source).output.table
    return _observations_of(str(table), os.stat(table).st_mtime_ns)


def transfer_records(wildcards):
    """Input function: the transfer record of every exposure of a source."""
    return [
        f"{OUT}/{wildcards.source}/records/transfer/{stem}.json"
        for stem in exposures(wildcards)
    ]


def photometry_records(wildcards):
    """Input function: the photometry record of every exposure of a source."""
    return [
        f"{OUT}/{wildcards.source}/records/photometry/{stem}.json"
        for stem in exposures(wildcards)
    ]


def image_path(wildcards):
    """Where the image of an exposure is kept."""
    band = observations.parse_stem(wildcards.stem).band
    return f"{OUT}/{wildcards.source}/data/{band}/{wildcards.stem}.fits"


def observation_facts(wildcards):
    """One row of the observation table; not where it came from, which changes no measurement."""
    return asdict(replace(exposures(wildcards)[wildcards.stem], url=""))


@functools.cache
def _failed_runs(record, image):
    return transfer.state(record, image)


def failed_runs(wildcards):
    """How often this file could not be had: a change makes the next invocation try again.

    Read once an invocation, since Snakemake asks again after it has removed the record to write a new one.
    """
    record = f"{OUT}/{wildcards.source}/records/transfer/{wildcards.stem}.json"
    return _failed_runs(record, image_path(wildcards))


def file_bytes_estimated():
    """Expected size of one file, from the download mode and the cutout's size."""
    width_px, height_px = transfer.CutoutSize.parse(config["cutout"]["size"]).pixels()
    return summary.estimated_bytes(config["download"]["mode"], width_px * height_px)


def print_summary():
    """Say what came out, for each source."""
    from scripts.print_summary import main

    for key in SOURCES:
        main(f"{OUT}/{key}")
