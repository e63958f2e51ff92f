"""Fetch and measure a source in all its exposures, in one job that keeps no image longer than it needs it."""

from pathlib import Path

from spxflow import files, observations
from spxflow.journal import Journal

from scripts.fetch_source import write_log
from scripts.measure_source import Measurements

_CHUNK = 4  # files that a worker gets at a time: images wait for the rest of their chunk


def main(table, transfer_records, photometry_records, log, config, transfers, manifests, places, **method):
    """Fetch and measure what is new, changed or failed.

    Parameters
    ----------
    table : str
        The observation table.
    transfer_records, photometry_records, log : str
        Files to write: the records of all exposures (JSON), and lines about what went wrong.
    config : dict
        The whole configuration.
    transfers : scripts.fetch_source.Transfers
        How to fetch.
    manifests : scripts.fetch_source.Manifests
        The calibration.
    places : scripts.fetch_source.Places
        Where images are while they are needed.
    method
        Further arguments of `scripts.measure_source.Measurements`.
    """
    listed = observations.read_observations(table)
    manifests.fetch(listed, config, log)
    measurements = Measurements(config, places, manifests.read(listed), **method)
    with Journal(transfer_records) as fetched, Journal(photometry_records) as measured:

        def is_done(observation):
            return transfers.is_done(observation, fetched) and measured.is_current(
                observation.stem, measurements.digest(observation, fetched.record(observation.stem))
            )

        pending = [observation for observation in listed if not is_done(observation)]
        arriving = (
            (observation, fetched.record(observation.stem)) for observation in transfers.finished(pending, fetched)
        )
        for observation in measurements.finished(arriving, measured, _CHUNK):
            Path(places.image(observation.stem)).unlink(missing_ok=True)
        stems = [observation.stem for observation in listed]
        kept = [journal.keep(stems) for journal in (fetched, measured)]
    for stem in stems:  # of a job that was killed
        Path(places.image(stem)).unlink(missing_ok=True)
    write_log(log, zip(stems, kept[1], strict=True))
    for path, records in zip((transfer_records, photometry_records), kept, strict=True):
        files.write_json(path, records)
