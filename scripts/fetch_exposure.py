"""Fetch the image of one exposure; write the transfer record, whatever became of it."""

import math
from dataclasses import asdict, replace
from pathlib import Path

from spxflow import files, transfer
from spxflow.archive.urls import data_path, relocated_url
from spxflow.observations import Observation
from spxflow.sources import Source

from scripts.fetch_calibration import cache_of


def main(config, progress, record, log, image, source, observation, request, failed_runs):
    """Fetch one file.

    Parameters
    ----------
    config : dict
        The whole configuration.
    progress : spxflow.transfer.progress.Progress
        Told when the transfer is over.
    record, log : str
        Files to write: the transfer record (JSON), and a line about what went wrong if anything did.
    image : str
        Where the file goes.
    source, observation : dict
        Fields of `spxflow.sources.Source` and `spxflow.observations.Observation`.
    request : dict
        Download mode and cutout of the configuration, for Snakemake to see that they changed.
    failed_runs : int
        Earlier invocations in which this file could not be had.
    """
    exposure = Observation(**observation)
    outcome = fetch(exposure, config, image, source, failed_runs)
    progress.finished(outcome)
    if not outcome.is_ok:
        files.write_atomically(log, f"{exposure.stem}: {outcome.status}: {outcome.reason}\n")
        if not config["download"]["keep"]:
            files.write_atomically(image, b"")  # the place of an image that passes is not left empty
    transfer.write_record(record, outcome)


def facts(observation):
    """An exposure as plain values, with its file's place below the archive, whichever host that is."""
    return asdict(replace(observation, url=data_path(observation.url)))


def fetch(observation, config, image, source, failed_runs):
    """Fetch one file, as `main` does; the transfer record."""
    settings = transfer.TransferSettings.from_config(config)
    calibration = None
    if settings.mode == "slim":
        calibration = cache_of(config, check_days=math.inf)
    here = replace(observation, url=relocated_url(observation.url, settings.archive_url))
    return transfer.fetch(
        here, Source(**source), Path(image), settings, failed_runs=failed_runs, calibration=calibration
    )
