"""Fetch the image of one exposure; write the transfer record, whatever became of it."""

from dataclasses import replace
from pathlib import Path

from spxflow import files, transfer
from spxflow.archive.urls import relocated_url
from spxflow.sources import Source
from spxflow.transfer.calibration import calibration_cache


def main(observation, config, record, log, image, source, failed_runs):
    """Fetch one file.

    Parameters
    ----------
    observation : spxflow.observations.Observation
        The exposure.
    config : dict
        The whole configuration.
    record, log, image : str
        Files to write: the transfer record (JSON), a line about what went wrong if anything did, and the image.
    source : dict
        Fields of `spxflow.sources.Source`.
    failed_runs : int
        Earlier invocations in which this file could not be had.
    """
    settings = transfer.TransferSettings.from_config(config)
    calibration = None
    if settings.mode == "slim":
        calibration = calibration_cache(transfer.CalibrationSettings.from_config(config), settings)
    here = replace(observation, url=relocated_url(observation.url, settings.archive_url))
    outcome = transfer.fetch(
        here, Source(**source), Path(image), settings, failed_runs=failed_runs, calibration=calibration
    )
    if not outcome.is_ok:
        files.write_atomically(log, f"{observation.stem}: {outcome.status}: {outcome.reason}\n")
    transfer.write_record(record, outcome)
