# Input functions and params of rules for a whole source.
import functools


def read_once(function):
    """Have a param read once an invocation: Snakemake asks again once it has removed the file that it is read from."""
    answers = {}

    @functools.wraps(function)
    def once(wildcards):
        key = tuple(wildcards)
        if key not in answers:
            answers[key] = function(wildcards)
        return answers[key]

    return once


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
def _neighbours(key):
    return [{**neighbour, "name": ""} for neighbour in NEIGHBOURS(key)]


def neighbour_facts(wildcards):
    """Known sources near a source, as plain values."""
    return _neighbours(wildcards.source)


def file_bytes_estimated():
    """Expected size of one file, from the download mode and the cutout's size."""
    width_px, height_px = transfer.CutoutSize.parse(config["cutout"]["size"]).pixels()
    return summary.estimated_bytes(config["download"]["mode"], width_px * height_px)


@read_once
def superseded_answer(wildcards):
    """Time of the query whose answer is too old: a change makes the workflow ask again."""
    return find_exposures.superseded_answer(
        f"{OUT}/{wildcards.source}/records/query.json", config["query"]["max_age_days"]
    )


QUESTIONS = find_exposures.Questions(
    SOURCES,
    {
        key
        for key in (SOURCES if workflow.is_main_process else ())
        if not find_exposures.is_current(
            f"{OUT}/{key}/records/query.json", config, SOURCES[key]
        )
    },
    config,
)


# --- all files of a source in one job ---


def places(source):
    """Where the images of a source are."""
    return fetch_source.Places(f"{OUT}/{source}/data", SHARED_IMAGES, KEEP)


@read_once
def failed_runs_of_source(wildcards):
    """How often files of this source could not be had: a change makes the next invocation try those again."""
    records = f"{OUT}/{wildcards.source}/records"
    return fetch_source.failures(
        f"{records}/transfer.json",
        f"{records}/observations.csv",
        places(wildcards.source),
        manifests(),
    )


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
    return cores_here() if workflow.is_main_process else max(1, threads)
