"""Fetch the images of all exposures of a source, in one job; write the transfer records, whatever became of them."""

import os
import threading
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

from spxflow import files, observations, transfer, workers
from spxflow.journal import Journal, digest_of
from spxflow.transfer.calibration import release_of

from scripts import fetch_calibration, fetch_exposure

_AHEAD = 4  # files of a source queued for each connection
_LOCKS = defaultdict(threading.Lock)  # by manifest, for the jobs of this process
_TRIED = set()  # manifests that this process has asked the archive for: once for all sources


class Transfers:
    """The transfers of one source.

    Parameters
    ----------
    config : dict
        The whole configuration.
    progress : spxflow.transfer.progress.Progress
        Told of transfers to come and of those that are over.
    places : Places
        Where images go.
    source : dict
        Fields of `spxflow.sources.Source`.
    request : dict
        Download mode and cutout.
    connections : int
        Transfers at a time.
    """

    def __init__(self, config, progress, places, source, request, connections):
        self._config = config
        self._progress = progress
        self._places = places
        self._source = source
        self._request = request
        self._connections = connections

    def digest(self, observation):
        """What a transfer depends on."""
        return digest_of([fetch_exposure.facts(observation), self._source, self._request])

    def is_done(self, observation, journal):
        """Whether the image was had by this request, and is there if it is to be kept."""
        record = journal.record(observation.stem)
        return (
            journal.is_current(observation.stem, self.digest(observation))
            and record["status"] == "ok"
            and self._places.failed_runs(record) == record["failed_runs"]
        )

    def finished(self, pending, journal):
        """Fetch some exposures, note the outcomes in the journal, and give each exposure when it is over."""
        self._progress.expect(len(pending))
        for observation, future in workers.finished(
            workers.threads(self._connections),
            lambda observation: self._fetched(observation, journal.record(observation.stem)),
            pending,
            _AHEAD * self._connections,
        ):
            outcome = future.result()
            self._progress.finished(outcome)
            journal.add(observation.stem, self.digest(observation), asdict(outcome))
            yield observation

    def _fetched(self, observation, earlier):
        failed_runs = 0 if earlier is None else self._places.failed_runs(earlier)
        image = self._places.image(observation.stem)

        def fetch(path):
            return fetch_exposure.fetch(observation, self._config, path, self._source, failed_runs)

        return self._places.shared_image(observation.stem, fetch) if self._places.shared else fetch(image)


class Places:
    """Where the images of a source are.

    Parameters
    ----------
    directory : str
        The source's own directory of images.
    shared : str
        Directory of whole images that all sources share, and to which those in ``directory`` are links; empty for none.
    keep : bool
        Whether images stay after they were measured.
    """

    def __init__(self, directory, shared, keep):
        self._directory = directory
        self._keep = keep
        self.shared = shared

    def image(self, stem):
        """The image of an exposure."""
        return f"{self._directory}/{observations.parse_stem(stem).band}/{stem}.fits"

    def failed_runs(self, record):
        """Invocations in which the image could not be had; one that should be there and is lost counts."""
        return transfer.failed_runs(record, self.image(record["stem"]) if self._keep else None)

    def shared_image(self, stem, fetch):
        """Bring a whole image, unless another source has brought it, and link it into the source's directory."""
        image, link = Path(f"{self.shared}/{observations.parse_stem(stem).band}/{stem}.fits"), Path(self.image(stem))
        record = image.with_suffix(".json")
        with files.hold_lock(image.with_name(f".{stem}.lock"), waits=True):
            outcome = _earlier(record, image)
            if outcome is None:
                for partial in image.parent.glob(f".{stem}.*.part"):  # of a run that was killed
                    partial.unlink()
                outcome = fetch(str(image))
                transfer.write_record(record, outcome)
        if outcome.is_ok:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(image, link.parent))
        return outcome


def _earlier(record, image):
    """The transfer that brought a shared image, as one that cost nothing; None when there is none to rely on."""
    try:
        outcome = transfer.read_record(record)
        whole = outcome.is_ok and image.stat().st_size == outcome.file_bytes
    except (OSError, ValueError, TypeError):
        return None
    return replace(outcome, requests=0, received_bytes=0, seconds=0.0) if whole else None


class Manifests:
    """Calibration that the exposures of a source need besides their own files.

    Parameters
    ----------
    path_of : callable or None
        From release and detector to the manifest that `fetch_calibration` writes; None when nothing is needed.
    """

    def __init__(self, path_of):
        self._path_of = path_of

    def _paths(self, listed):
        if self._path_of is None:
            return {}
        kinds = {(release_of(observation), observation.detector) for observation in listed}
        return {self._path_of(*kind): kind for kind in sorted(kinds)}

    def fetch(self, listed, config, log):
        """Bring what is not there."""
        for path, (release, detector) in self._paths(listed).items():
            with _LOCKS[path]:
                if path not in _TRIED and fetch_calibration.is_wanted(path):
                    _TRIED.add(path)
                    failed_runs = fetch_calibration.failures(path)
                    fetch_calibration.main(path, log, config, release, str(detector), failed_runs)

    def renew(self, listed, config):
        """Take newer versions, for all exposures alike, where it is time to look for them."""
        for path, kind in self._paths(listed).items():
            with _LOCKS[path]:
                fetch_calibration.renew(path, config, *kind)

    def are_lost(self, listed):
        """Whether the cache was emptied since."""
        return not all(map(os.path.exists, self._paths(listed)))

    def failures(self, listed):
        """How often what is needed could not be had."""
        return sum(fetch_calibration.failures(path) for path in self._paths(listed))

    def read(self, listed):
        """Manifests by release and detector."""
        return {kind: files.read_json(path) for path, kind in self._paths(listed).items()}


def write_log(log, records):
    """A line for each exposure about what went wrong, if anything did."""
    with open(log, "a", encoding="utf-8") as stream:
        stream.writelines(
            f"{name}: {record['status']}: {record['reason']}\n" for name, record in records if record["status"] != "ok"
        )


def failures(transfers, table, places, manifests):
    """How often files of a source could not be had: a change makes the next invocation try those again.

    Parameters
    ----------
    transfers, table : str
        Transfer records of an earlier job, and the observation table; 0 where they are not there.
    places : Places
        Where the images are.
    manifests : Manifests
        The calibration.
    """
    try:
        records = files.read_json(transfers)
        listed = observations.read_observations(table)
    except (OSError, ValueError):
        return 0
    return sum(places.failed_runs(record) for record in records) + manifests.failures(listed)


def main(table, records, log, config, transfers, manifests):
    """Fetch what is new, changed, failed or lost.

    Parameters
    ----------
    table : str
        The observation table.
    records, log : str
        Files to write: the transfer records of all exposures (JSON), and lines about what went wrong.
    config : dict
        The whole configuration.
    transfers : Transfers
        How to fetch.
    manifests : Manifests
        The calibration.
    """
    listed = observations.read_observations(table)
    manifests.fetch(listed, config, log)
    with Journal(records) as journal:
        pending = [observation for observation in listed if not transfers.is_done(observation, journal)]
        for _ in transfers.finished(pending, journal):
            pass
        kept = journal.keep(observation.stem for observation in listed)
    write_log(log, ((record["stem"], record) for record in kept))
    files.write_json(records, kept)
