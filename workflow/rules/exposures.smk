# Input functions and params of rules for one exposure.
import functools
import threading


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
    return fetch_exposure.facts(exposures(wildcards.source)[wildcards.stem])


MANY_EXPOSURES = 500


def call_of(source):
    """How a measurement is called: here, or where exposures are many in a worker process, which is slow to begin."""
    if workflow.is_main_process and len(exposures(source)) > MANY_EXPOSURES:
        return functools.partial(workers.called, workers.processes(cores_here()))
    return workers.here


@read_once
def failed_runs(wildcards):
    """How often this file could not be had: a change makes the next invocation try again."""
    record = f"{OUT}/{wildcards.source}/records/transfer/{wildcards.stem}.json"
    return transfer.state(record, image_path(wildcards) if KEEP else None)


PROGRESS = Progress(logger.info)


_EXPECTED = set()  # sources whose transfers are
_EXPECTING = threading.Lock()


def progress_of(source):
    """Progress of the transfers, which expects those of a source from the first one on."""
    with _EXPECTING:
        if source not in _EXPECTED:
            _EXPECTED.add(source)
            records = f"{OUT}/{source}/records/transfer"
            PROGRESS.expect(
                sum(
                    not os.path.exists(f"{records}/{stem}.json")
                    for stem in exposures(source)
                )
            )
    return PROGRESS


def calibration_manifest(release, detector):
    """Names of the calibration files in use; one such file for each way to calibrate."""
    return f"{config['calibration']['directory']}/in_use/{release}_D{detector}_{CALIBRATION_KIND}.json"


def calibration_of_exposure(wildcards):
    """Input function: the calibration that an exposure needs besides its own file."""
    if not NEEDS_CALIBRATION:
        return []
    observation = exposures(wildcards.source)[wildcards.stem]
    return calibration_manifest(release_of(observation), observation.detector)


@read_once
def calibration_failures(wildcards):
    """How often this calibration could not be had: a change makes the next invocation try again."""
    return fetch_calibration.failures(
        calibration_manifest(wildcards.release, wildcards.detector)
    )
