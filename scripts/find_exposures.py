"""Ask the archive which exposures contain a source; write the observation table and how it was found."""

import datetime
import threading
import time
from pathlib import Path

from spxflow import archive, files, observations

_DAY_S = 86400.0


def search_of(config):
    """What an answer of the archive depends on."""
    return {
        "bands": config["bands"],
        "collections": config["archive"]["collections"],
        "radius_arcsec": config["query"]["radius_arcsec"],
        "mjd_min": config["query"]["mjd_min"],
        "mjd_max": config["query"]["mjd_max"],
    }


def superseded_answer(found, max_age_days):
    """Time of the answer that a new one is to replace because of its age; empty when there is none.

    Parameters
    ----------
    found : pathlib.Path
        Account of an earlier query.
    max_age_days : float or None
        Age from which an answer is too old.

    Returns
    -------
    str
        It stays the same from when an answer became too old until the one after it does, so that the workflow asks
        once for each time it changes.
    """
    try:
        earlier = files.read_json(found)
    except (OSError, ValueError):
        return ""
    age_s = time.time() - datetime.datetime.fromisoformat(earlier["query_time"]).timestamp()
    too_old = max_age_days is not None and age_s > max_age_days * _DAY_S
    return earlier["query_time"] if too_old else earlier["supersedes"]


class Questions:
    """The sources of a run, asked for together where the archive takes that.

    Parameters
    ----------
    sources : dict of str to spxflow.sources.Source
        All sources of the run by key.
    pending : set of str
        Keys of those that will be asked for: the first question asks for all of them.
    config : dict
        The whole configuration.
    """

    def __init__(self, sources, pending, config):
        self._sources = sources
        self._pending = pending
        self._config = config
        self._answers = {}
        self._lock = threading.Lock()

    def answer(self, key):
        """What the archive has of a source; raises `spxflow.archive.ArchiveError` when it cannot say."""
        with self._lock:
            if key not in self._answers:
                keys = self._pending | {key} if key in self._pending else {key}
                self._answers |= archive.find(
                    [self._sources[one] for one in self._sources if one in keys],
                    archive.ArchiveSettings.from_config(self._config),
                    archive.QuerySettings.from_config(self._config),
                    self._config["bands"],
                )
            return self._answers.pop(key)


def main(questions, key, config, supersedes, table, found, log):
    """Query for one source.

    Parameters
    ----------
    questions : Questions
        Where the archive is asked.
    key : str
        Key of the source.
    config : dict
        The whole configuration.
    supersedes : str
        Time of the answer that this one replaces because of its age, or empty.
    table, found, log : str
        Files to write: the observation table (CSV), time, search, service and refused rows of the query (JSON), and
        why the archive could not say, where that is so.
    """
    try:
        answer = questions.answer(key)
    except archive.ArchiveError as error:
        files.write_atomically(log, f"{key}: {error}\n")
        raise
    account = {
        "query_time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "supersedes": supersedes,
        "archive": config["archive"]["url"],
        "service": answer.service,
        "search": search_of(config),
        "ignored": [{"name": name, "reason": reason} for name, reason in answer.ignored],
        "messages": list(answer.messages),
    }
    files.write_json(found, account, indent=1)
    observations.write_observations(table, answer.observations)


def is_current(found, config):
    """Whether an earlier answer, with its account in the file ``found``, is to the question that would be asked now."""
    try:
        earlier = files.read_json(Path(found))
    except (OSError, ValueError):
        return False
    too_old = superseded_answer(found, config["query"]["max_age_days"]) != earlier["supersedes"]
    return earlier["search"] == search_of(config) and not too_old
