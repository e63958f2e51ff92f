"""Measure the source in one exposure; write its photometry record, whatever became of it."""

from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from spxflow import files
from spxflow.measure import measure_exposure, missing_record
from spxflow.observations import Observation
from spxflow.settings import PhotometrySettings
from spxflow.sources import Source
from spxflow.transfer.calibration import CalibrationUnavailableError

from scripts.fetch_calibration import load


def main(transfer, calibration, record, log, config, call, image, source, observation, neighbours, method):
    """Measure one exposure.

    Parameters
    ----------
    transfer : str
        Transfer record of the exposure (JSON): was its file had?
    calibration : str
        Names of the calibration files it needs besides (JSON); empty for none.
    record, log : str
        The photometry record (JSON) to write, and a line about what went wrong if anything did.
    config : dict
        The whole configuration, for where calibration is kept.
    call : callable
        Calls a function with arguments: `spxflow.workers.here`, or in a worker process.
    image : str
        The file to measure.
    source, observation : dict
        Fields of `Source` and `Observation`.
    neighbours : list of dict
        Fields of the `Source` of each neighbour.
    method : dict
        The configuration sections that a measurement depends on.
    """
    fetched = files.read_json(transfer)
    manifest = files.read_json(calibration) if calibration else NO_CALIBRATION
    exposure = Observation(**observation)
    try:
        outcome = call(measure, fetched, manifest, config, image, source, exposure, neighbours, method)
    except BrokenProcessPool:
        outcome = missing_record(exposure, "error", "the process that measured it died")
    if outcome["status"] != "ok":
        files.write_atomically(log, f"{observation['stem']}: {outcome['status']}: {outcome['reason']}\n")
    files.write_json(record, outcome)


NO_CALIBRATION = {"status": "ok", "files": {}}
"""Manifest of an exposure that needs nothing besides its own file."""


def measure(fetched, manifest, config, image, source, exposure, neighbours, method):
    """The photometry record of an `Observation`, from its transfer record and calibration manifest; else as `main`."""
    for stage in (fetched, manifest):
        if stage["status"] != "ok":
            return missing_record(exposure, stage["status"], stage["reason"])
    slim = fetched["mode"] == "slim"
    try:
        calibration = None
        if manifest["files"]:
            calibration = load(config, manifest["release"], exposure.detector, slim, manifest["files"])
    except CalibrationUnavailableError as error:
        return missing_record(exposure, "no_calibration", str(error))
    return measure_exposure(
        Path(image),
        Source(**source),
        exposure,
        PhotometrySettings.from_config(method),
        [Source(**neighbour) for neighbour in neighbours],
        calibration,
    )
