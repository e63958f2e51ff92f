# The configuration, the sources it names, and what follows from both for all rules.
import os
import sys
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import validate
from threadpoolctl import threadpool_limits

_PACKAGE_HOME = str(Path(workflow.current_basedir).parent)
_SCRIPTS_HOME = str(Path(workflow.current_basedir).parent.parent)
sys.path[:0] = [home for home in (_PACKAGE_HOME, _SCRIPTS_HOME) if home not in sys.path]
# The last digits of sums depend on how many threads share them: one, here and in other processes. Matrices are tiny.
threadpool_limits(1, user_api="blas")
os.environ.update(
    dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # for the process that workers are forked from, where the package is not installed
    PYTHONPATH=os.pathsep.join(
        [_PACKAGE_HOME, _SCRIPTS_HOME, *filter(None, [os.getenv("PYTHONPATH")])]
    ),
)

from spxflow import config as configuration
from spxflow import (
    __version__,
    archive,
    files,
    observations,
    plots,
    retries,
    summary,
    transfer,
    workers,
)
from spxflow.errors import ConfigError
from spxflow.transfer.calibration import release_of
from spxflow.transfer.progress import Progress
from scripts import (
    combine_spectrum,
    draw_qa_sheet,
    fetch_calibration,
    fetch_exposure,
    fetch_source,
    find_exposures,
    gather_records,
    measure_exposure,
    measure_source,
    measure_variability,
    plot_combined,
    print_summary,
    read_sources,
    remember_inputs,
    summarise_downloads,
    summarise_query,
    visit_source,
    write_catalogue,
    write_index,
    write_lightcurve,
    write_photometry,
    write_report,
    write_state,
)


def check_configuration():
    """Complete the configuration in place; the sources it names, and the neighbours of a source by its key."""
    try:
        written = [*workflow.configfiles, *workflow.overwrite_configfiles]
        config.update(configuration.positions_as_written(config, written))
        complete = configuration.complete(config)
        config.clear()  # the order in which options were given is no change
        config.update(complete)
        validate(config, str(configuration.schema_path()))
        transfer.TransferSettings.from_config(config)
        plots.refuse_unknown_colour_maps(config, configuration.defaults())
        sources = read_sources.main(config)
        return sources, read_sources.neighbours_of(sources, config)
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


SOURCES, NEIGHBOURS = check_configuration()
OUT = os.path.relpath(config["outdir"])
OUT = OUT if not OUT.startswith("..") else os.path.abspath(OUT)
BATCH = configuration.is_batch(config)
KEEP = config["download"]["keep"]
SHARED_IMAGES = f"{OUT}/images" if configuration.shares_images(config) else ""
REQUEST = {"mode": config["download"]["mode"], **config["cutout"]}
STEM = r"level2_[0-9A-Z_]+D[1-6]_spx_l2b-v\d+-\d+-\d+"
OPTIONS = configuration.product_options(config)
CALIBRATION = configuration.calibration_in_use(config)
CALIBRATION_KIND = "-".join(str(value).lower() for value in CALIBRATION.values())
NEEDS_CALIBRATION = configuration.needs_calibration(config)
# what a measurement depends on
METHOD = {
    "version": __version__,
    "photometry": OPTIONS["photometry"],
    "errors": config["errors"],
    "calibration": CALIBRATION,
}


def in_formats(name, kind):
    """Paths of a product in all formats of its kind."""
    return [f"results/{name}.{suffix}" for suffix in config[kind]["formats"]]


PRODUCTS = {
    "query_summary": ["results/query_summary.yaml"],
    "downloads": ["results/downloads.json"],
    "photometry": ["results/photometry.json"],
    "lightcurve": in_formats("lightcurve", "tables"),
    "irsa_columns": in_formats("lightcurve_irsa_columns", "tables"),
    "spectrum": in_formats("spectrum", "tables"),
    "spectrum_passes": in_formats("spectrum_passes", "tables"),
    "variability": ["results/variability.json", "results/matched_lightcurve.csv"],
    "combined_plot": in_formats("combined_plot", "pictures"),
    "qa_sheet": in_formats("qa_sheet", "pictures"),
    "report": ["results/report.html"],
    "state": ["{source}.yaml"],
}

CATALOGUE = (
    [f"{OUT}/catalogue.parquet", f"{OUT}/catalogue.csv"]
    if config["sources"] is not None
    else []
)
# what the index page of a catalogue shows and leads to
PAGES = [
    path
    for product in ("report", "combined_plot")
    if product in config["products"]
    for path in PRODUCTS[product]
]
INDEX = [f"{OUT}/index.html"] if CATALOGUE else []

if "downloads" not in workflow.global_resources:
    workflow.register_resource("downloads", config["download"]["connections"])


wildcard_constraints:
    source=r"[A-Za-z0-9_][A-Za-z0-9._+-]*",
    stem=STEM,
    release=r"QR\d+|unknown",
    detector="[1-6]",
    table="csv|ecsv|parquet|vot",
    picture="png|pdf|svg",
