# Configuration, sources and the input functions of the rules.
import errno
import functools
import os
import resource
import signal
import sys
import threading
import traceback
from dataclasses import asdict, replace
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
# the scripts of whole-source rules run in interpreters of their own
os.environ.update(
    OPENBLAS_NUM_THREADS="1",
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
)
from spxflow.archive.urls import data_path
from spxflow.errors import ConfigError
from spxflow.transfer.calibration import release_of
from spxflow.transfer.progress import Progress
from scripts import (
    combine_spectrum,
    fetch_calibration,
    fetch_exposure,
    fetch_source,
    find_exposures,
    gather_records,
    measure_exposure,
    measure_source,
    measure_variability,
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
PRODUCTS = {
    "query_summary": ["results/query_summary.yaml"],
    "downloads": ["results/downloads.json"],
    "photometry": ["results/photometry.json"],
    "lightcurve": expand(
        "results/lightcurve.{table}", table=config["tables"]["formats"]
    ),
    "irsa_columns": expand(
        "results/lightcurve_irsa_columns.{table}", table=config["tables"]["formats"]
    ),
    "spectrum": expand("results/spectrum.{table}", table=config["tables"]["formats"]),
    "spectrum_passes": expand(
        "results/spectrum_passes.{table}", table=config["tables"]["formats"]
    ),
    "variability": ["results/variability.json", "results/matched_lightcurve.csv"],
    "combined_plot": expand(
        "results/combined_plot.{picture}", picture=config["pictures"]["formats"]
    ),
    "qa_sheet": expand(
        "results/qa_sheet.{picture}", picture=config["pictures"]["formats"]
    ),
    "report": ["results/report.html"],
    "state": ["{source}.yaml"],
}
# options that say where things are and how patiently they are asked for, which change no product
PLACES = ("archive", "batch", "outdir")
OPTIONS = {
    section: options for section, options in config.items() if section not in PLACES
}
OPTIONS["calibration"] = {
    option: value
    for option, value in config["calibration"].items()
    if option not in ("directory", "check_days")
}
# neighbours themselves count, not where they are listed
OPTIONS["photometry"] = config["photometry"] | {
    "neighbours": {
        option: value
        for option, value in config["photometry"]["neighbours"].items()
        if option not in ("file", "catalogue")
    }
}
LOCKS = []

# What a measurement depends on, and which calibration it needs besides the files themselves.
CALIBRATION = {
    "slim": config["download"]["mode"] == "slim",
    **{
        option: config["calibration"][option]
        for option in ("wavelength", "solid_angle", "harmonise")
    },
}
METHOD = {
    "version": __version__,
    "photometry": OPTIONS["photometry"],
    "errors": config["errors"],
    "calibration": CALIBRATION,
}
NEEDS_CALIBRATION = CALIBRATION != {
    "slim": False,
    "wavelength": "table",
    "solid_angle": "wcs",
    "harmonise": False,
}
CALIBRATION_KIND = "-".join(str(value).lower() for value in CALIBRATION.values())

if "downloads" not in workflow.global_resources:
    workflow.register_resource("downloads", config["download"]["connections"])


wildcard_constraints:
    source=r"[A-Za-z0-9_][A-Za-z0-9._+-]*",
    stem=STEM,
    release=r"QR\d+|unknown",
    detector="[1-6]",
    table="csv|ecsv|parquet|vot",
    picture="png|pdf|svg",


@functools.cache
def _neighbours(key):
    return [{**neighbour, "name": ""} for neighbour in NEIGHBOURS(key)]


def inputs_of(key):
    """What the products of a source are made from."""
    position = {**asdict(SOURCES[key]), "name": ""}
    return remember_inputs.Inputs(f"{OUT}/{key}", [position, OPTIONS, _neighbours(key)])


def refuse_forgotten_sources():
    """Stop where the notes by which Snakemake sees what changed are somewhere else, or caches cannot be written."""
    try:
        if NEEDS_CALIBRATION:
            read_sources.refuse_unwritable(
                "calibration.directory", config["calibration"]["directory"]
            )
        if config["archive"]["service"] == "obscore":
            read_sources.refuse_unwritable("archive.cache", config["archive"]["cache"])
        for key in SOURCES:
            inputs_of(key).refuse_forgotten()
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


if workflow.is_main_process:
    refuse_forgotten_sources()


def hold_source_locks():
    """Keep other runs away from these sources until this process ends, however it ends."""
    if not (workflow.use_threads or BATCH):
        raise WorkflowError(
            "force-use-threads: got false, takes true (as in profiles/default), or batch=true"
        )
    if not workflow.cores:
        raise WorkflowError(
            "cores: got 0, with which no job ever begins, takes at least 1"
        )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, most)
    )  # a catalogue has a lock file a source
    for key in SOURCES:
        try:
            LOCKS.append(files.hold_lock(f"{OUT}/{key}/.lock"))
            files.remove_partials(f"{OUT}/{key}")
            inputs_of(key).remember()
        except BlockingIOError:
            raise WorkflowError(
                f"{OUT}/{key}: another run is at work on this source; wait for it or choose another outdir or name"
            ) from None
        except OSError as error:
            raise WorkflowError(
                f"{OUT}/{key}: cannot be written ({error.strerror}); make room or choose another outdir"
            ) from None


def stop_when_told():
    """End what jobs wait for, and begin no more files, once this process is told to end."""

    def told(_, frame):
        retries.STOPPING.set()
        signal.default_int_handler(signal.SIGINT, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)


NO_ROOM = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
}


def logged(log, main, *arguments, **options):
    """Call the function of a script; what it did not expect goes to the job's log as well as up."""
    try:
        main(*arguments, **options)
    except retries.StoppedError:
        raise KeyboardInterrupt from None  # which Snakemake takes for the end of the run, not for a fault of the job
    except archive.ArchiveError as error:
        raise WorkflowError(str(error)) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise WorkflowError(
                f"{error.filename or OUT}: cannot be written ({error.strerror});"
                " make room or choose another outdir, then run again: it goes on where it stopped"
            ) from None
        with open(log[0], "a", encoding="utf-8") as stream:
            stream.write(traceback.format_exc())
        raise


# --- sources and their exposures ---


def of_all_sources(*products):
    """Input function: products of every source."""

    def paths(_):
        if not SOURCES:
            raise WorkflowError(
                "no source: give a position, as in --config ra=213.942708 dec=11.495389, a name, or sources=catalogue.csv"
            )
        return [
            f"{OUT}/{key}/{product.format(source=key)}"
            for product in products
            for key in SOURCES
        ]

    return paths


def products_of_all_sources(wildcards):
    """Input function: every product that is wanted, of every source."""
    wanted = [path for product in config["products"] for path in PRODUCTS[product]]
    return [path for product in wanted for path in of_all_sources(product)(wildcards)]


def source_directory(wildcards):
    """Where everything of a source is."""
    return f"{OUT}/{wildcards.source}"


def source_facts(wildcards):
    """The source as plain values."""
    if wildcards.source not in SOURCES:
        raise WorkflowError(
            f"{wildcards.source}: not a source of this run, which has {', '.join([*SOURCES][:5]) or 'none'}"
            f"{', ...' * (len(SOURCES) > 5)}; give it its position and name, or add it to the catalogue"
        )
    return asdict(SOURCES[wildcards.source])


def position_facts(wildcards):
    """The source without its display name: what a measurement of it depends on."""
    return {**source_facts(wildcards), "name": ""}


@functools.cache
def _superseded_answer(found):
    return find_exposures.superseded_answer(found, config["query"]["max_age_days"])


def superseded_answer(wildcards):
    """Time of the query whose answer is too old: a change makes the workflow ask again."""
    return _superseded_answer(f"{OUT}/{wildcards.source}/records/query.json")


QUESTIONS = find_exposures.Questions(
    SOURCES,
    {
        key
        for key in SOURCES
        if not find_exposures.is_current(
            f"{OUT}/{key}/records/query.json", config, SOURCES[key]
        )
    },
    config,
)


@functools.lru_cache(maxsize=64)
def _observations_of(table, mtime_ns):
    return {
        observation.stem: observation
        for observation in observations.read_observations(table)
    }


def exposures(key):
    """Observations of a source by stem; waits for the query."""
    table = checkpoints.find_exposures.get(source=key).output.table
    return _observations_of(str(table), os.stat(table).st_mtime_ns)


# --- files of one exposure ---


def record_paths(stage):
    """Input function: the records of a stage for every exposure of a source."""

    def paths(wildcards):
        if BATCH:
            return [f"{OUT}/{wildcards.source}/records/{stage}.json"]
        return [
            f"{OUT}/{wildcards.source}/records/{stage}/{stem}.json"
            for stem in exposures(wildcards.source)
        ]

    return paths


# Where an image is until it was measured, when it is not kept.
PASSING_IMAGE = (
    {} if KEEP else {"image": f"{OUT}/{{source}}/data/passing/{{stem}}.fits"}
)


def image_path(wildcards):
    """Where the image of an exposure is."""
    if not KEEP:
        return PASSING_IMAGE["image"].format(**wildcards)
    band = observations.parse_stem(wildcards.stem).band
    return f"{OUT}/{wildcards.source}/data/{band}/{wildcards.stem}.fits"


def observation_facts(wildcards):
    """One row of the observation table, with the file's place below the archive, whichever host that is."""
    observation = exposures(wildcards.source)[wildcards.stem]
    return asdict(replace(observation, url=data_path(observation.url)))


def neighbour_facts(wildcards):
    """Known sources near a source, as plain values."""
    return _neighbours(wildcards.source)


@functools.cache
def _failed_runs(record, image):
    return transfer.state(record, image)


def failed_runs(wildcards):
    """How often this file could not be had: a change makes the next invocation try again.

    Read once an invocation, since Snakemake asks again after it has removed the record to write a new one.
    """
    record = f"{OUT}/{wildcards.source}/records/transfer/{wildcards.stem}.json"
    return _failed_runs(record, image_path(wildcards) if KEEP else None)


PROGRESS = Progress(logger.info)


_EXPECTING = threading.Lock()


def progress_of(source):
    """Progress of the transfers, which expects those of a source from the first one on."""
    with (
        _EXPECTING
    ):  # a cache alone lets threads that come at the same time count twice
        return _progress_of(source)


@functools.cache
def _progress_of(source):
    records = f"{OUT}/{source}/records"
    listed = observations.read_observations(f"{records}/observations.csv")
    PROGRESS.expect(
        sum(not os.path.exists(f"{records}/transfer/{one.stem}.json") for one in listed)
    )
    return PROGRESS


# --- on a cluster ---

# What a node does: measuring a whole source. All else takes milliseconds here, or needs the internet.
CLUSTER_RULES = {"measure_source"} | (
    {"fetch_source", "visit_source"}
    if config["download"]["where"] == "nodes"
    else set()
)


def keep_local(away):
    """Keep all other rules of this workflow where it was started; as a module they have other names."""
    in_use = {rule.name for rule in workflow.rules}
    here = {proxy.rule.name for name, proxy in rules._rules.items() if name not in away}
    workflow.localrules(*(here & in_use))


# --- all files of a source in one job ---


def places(source):
    """Where the images of a source are."""
    return fetch_source.Places(f"{OUT}/{source}/data", SHARED_IMAGES, KEEP)


@functools.cache
def _failed_runs_of_source(source):
    records = f"{OUT}/{source}/records"
    return fetch_source.failures(
        f"{records}/transfer.json",
        f"{records}/observations.csv",
        places(source),
        manifests(),
    )


def failed_runs_of_source(wildcards):
    """How often files of this source could not be had: a change makes the next invocation try those again."""
    return _failed_runs_of_source(wildcards.source)


def manifests():
    """Calibration that exposures need besides their own files."""
    return fetch_source.Manifests(calibration_manifest if NEEDS_CALIBRATION else None)


def transfers(source, facts, resources):
    """How a job fetches: with the connections of this process, or on a node with its own share."""
    connections = (
        config["download"]["connections"]
        if workflow.is_main_process
        else max(1, resources.downloads)
    )
    return fetch_source.Transfers(
        config, PROGRESS, places(source), facts, REQUEST, connections
    )


def worker_processes(threads):
    """How many processes measure for a job: those that all jobs of this process share, or on a node its own."""
    return workflow.cores if workflow.is_main_process else max(1, threads)


# --- the whole catalogue ---

LONG_CATALOGUE = 10

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


def write_catalogue_tables(table, summary):
    """Write the tables of all sources, those that failed included."""
    write_catalogue.main(
        {key: f"{OUT}/{key}/records/exposures.json" for key in SOURCES},
        {key: asdict(source) for key, source in SOURCES.items()},
        table,
        summary,
    )


def write_unfinished_catalogue():
    """Tables of what there is, when a source has failed; they are made anew when it is there."""
    if CATALOGUE and any(
        os.path.exists(f"{OUT}/{key}/records/exposures.json") for key in SOURCES
    ):
        write_catalogue_tables(*CATALOGUE)


# --- calibration ---


def calibration_manifest(release, detector):
    """Names of the calibration files in use; one such file for each way to calibrate."""
    return f"{config['calibration']['directory']}/in_use/{release}_D{detector}_{CALIBRATION_KIND}.json"


def calibration_of_exposure(wildcards):
    """Input function: the calibration that an exposure needs besides its own file."""
    if not NEEDS_CALIBRATION:
        return []
    observation = exposures(wildcards.source)[wildcards.stem]
    return calibration_manifest(release_of(observation), observation.detector)


@functools.cache
def _calibration_failures(manifest):
    return fetch_calibration.failures(manifest)


def calibration_failures(wildcards):
    """How often this calibration could not be had: a change makes the next invocation try again."""
    return _calibration_failures(
        calibration_manifest(wildcards.release, wildcards.detector)
    )


def file_bytes_estimated():
    """Expected size of one file, from the download mode and the cutout's size."""
    width_px, height_px = transfer.CutoutSize.parse(config["cutout"]["size"]).pixels()
    return summary.estimated_bytes(config["download"]["mode"], width_px * height_px)


def print_summaries():
    """Say what came out, for each source, or for a long catalogue in all."""
    if CATALOGUE and len(SOURCES) > LONG_CATALOGUE:
        print_summary.catalogue(CATALOGUE[-1])
        return
    for key in SOURCES:
        print_summary.main(f"{OUT}/{key}", file_bytes_estimated())
