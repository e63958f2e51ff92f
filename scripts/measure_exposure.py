"""Measure the source in one exposure; write its photometry record, whatever became of it."""

from pathlib import Path

from spxflow import files
from spxflow.measure import measure_exposure, missing_record
from spxflow.observations import Observation
from spxflow.settings import PhotometrySettings
from spxflow.sources import Source


def main(transfer, record, log, image, source, observation, method):
    """Measure one exposure.

    Parameters
    ----------
    transfer : str
        Transfer record of the exposure (JSON): was its file had?
    record, log, image : str
        The photometry record (JSON) and log to write, and the image to read.
    source, observation : dict
        Fields of `Source` and `Observation`.
    method : dict
        The configuration sections that a measurement depends on.
    """
    fetched = files.read_json(transfer)
    exposure = Observation(**observation)
    if fetched["status"] == "ok":
        outcome = measure_exposure(Path(image), Source(**source), exposure, PhotometrySettings.from_config(method))
    else:
        outcome = missing_record(exposure, fetched["status"], fetched["reason"])
    if outcome["status"] != "ok":
        files.write_atomically(log, f"{exposure.stem}: {outcome['status']}: {outcome['reason']}\n")
    files.write_json(record, outcome)
