"""Measure the source in all its exposures, in one job; write the photometry records."""

import functools
import itertools
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from spxflow import files, observations, workers
from spxflow.journal import Journal, digest_of
from spxflow.measure import missing_record
from spxflow.retries import go_on
from spxflow.transfer.calibration import release_of

from scripts import fetch_exposure, measure_exposure
from scripts.fetch_source import write_log

_CHUNK = 25  # files that a worker gets at a time
_AHEAD = 3  # chunks of a source queued for each worker


class Measurements:
    """The measurements of one source.

    Parameters
    ----------
    config : dict
        The whole configuration.
    places : scripts.fetch_source.Places
        Where images are.
    manifests : dict
        Calibration manifests by release and detector.
    source : dict
        Fields of `spxflow.sources.Source`.
    neighbours : list of dict
        Fields of the `Source` of each neighbour.
    method : dict
        The configuration sections that a measurement depends on.
    processes : int
        Workers.
    """

    def __init__(self, config, places, manifests, source, neighbours, method, processes):
        self._places = places
        self._manifests = manifests
        self._processes = processes
        self._given = (config, source, neighbours, method)
        self._method = digest_of([source, neighbours, method])

    def _manifest(self, observation):
        return self._manifests.get((release_of(observation), observation.detector), measure_exposure.NO_CALIBRATION)

    def digest(self, observation, fetched):
        """What a measurement depends on."""
        file = [fetched[key] for key in ("status", "reason", "sha256", "mode")]
        calibration = [self._manifest(observation)[key] for key in ("status", "files")]
        return digest_of([self._method, fetch_exposure.facts(observation), file, calibration])

    def finished(self, pending, journal, chunk=_CHUNK):
        """Measure exposures, note the outcomes in the journal, and give each exposure when it is over.

        Parameters
        ----------
        pending : iterable of (Observation, dict)
            Exposures with their transfer records.
        journal : spxflow.journal.Journal
            Where the outcomes go.
        chunk : int
            Exposures that a worker gets at a time.
        """
        pool = workers.processes(self._processes)
        function = functools.partial(_measured, self._given)
        chunks = self._chunks(pending, chunk)
        for tasks, future in workers.finished(pool, function, chunks, _AHEAD * self._processes):
            try:
                outcomes = future.result()
            except BrokenProcessPool:
                outcomes = _measured_apart(function, tasks)
            for (observation, fetched, *_), outcome in zip(tasks, outcomes, strict=True):
                journal.add(observation.stem, self.digest(observation, fetched), outcome)
                yield observation

    def _chunks(self, pending, chunk):
        waiting = iter(pending)
        while part := tuple(itertools.islice(waiting, chunk)):
            yield tuple(
                (observation, fetched, self._manifest(observation), self._places.image(observation.stem))
                for observation, fetched in part
            )


def _measured(given, tasks):
    """The records of some exposures; run in a worker."""
    config, source, neighbours, method = given
    return [
        measure_exposure.measure(fetched, manifest, config, image, source, observation, neighbours, method)
        for observation, fetched, manifest, image in tasks
    ]


def _measured_apart(function, tasks):
    """The records of exposures that a worker died with: each in a worker of its own, to find which it was."""
    records = []
    for task in tasks:
        go_on()
        try:
            records += workers.alone(function, (task,))
        except BrokenProcessPool:
            records.append(missing_record(task[0], "error", "the process that measured it died"))
    return records


def main(table, fetched, records, log, config, places, manifests, **how):
    """Measure what is new or changed.

    Parameters
    ----------
    table, fetched : str
        The observation table, and the transfer records of all exposures (JSON).
    records, log : str
        Files to write: the photometry records of all exposures (JSON), and lines about what went wrong.
    config : dict
        The whole configuration.
    places : scripts.fetch_source.Places
        Where images are.
    manifests : scripts.fetch_source.Manifests
        The calibration.
    how
        Further arguments of `Measurements`.
    """
    listed = observations.read_observations(table)
    if manifests.are_lost(listed):
        manifests.fetch(listed, config, log)
    measurements = Measurements(config, places, manifests.read(listed), **how)
    transfers = {record["stem"]: record for record in files.read_json(fetched)}
    with Journal(records) as journal:
        pending = [
            (observation, transfers[observation.stem])
            for observation in listed
            if not journal.is_current(observation.stem, measurements.digest(observation, transfers[observation.stem]))
        ]
        for _ in measurements.finished(pending, journal):
            pass
        kept = journal.keep(observation.stem for observation in listed)
    write_log(log, ((Path(record["file"]).stem, record) for record in kept))
    files.write_json(records, kept)
