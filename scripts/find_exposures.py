"""Ask the archive which exposures contain a source; write the observation table and how it was found."""

import datetime
import logging
import threading
import time
from dataclasses import asdict
from pathlib import Path

from spxflow import archive, files, observations

_DAY_S = 86400.0
_LAST_ANSWER = ".last_answer.json"
_LOGGER = logging.getLogger(__name__)


def search_of(config):
    """What an answer of the archive depends on, besides the position."""
    return {
        "bands": config["bands"],
        "collections": config["archive"]["collections"],
        "radius_arcsec": config["query"]["radius_arcsec"],
        "mjd_min": config["query"]["mjd_min"],
        "mjd_max": config["query"]["mjd_max"],
    }


def position_of(source):
    """Where a source is, as plain values."""
    return {name: value for name, value in asdict(source).items() if name not in ("key", "name")}


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
        once for each time it changes. Where the archive could not be asked, it tells how often, and so changes each
        time.
    """
    try:
        earlier = files.read_json(found)
        if earlier.get("asked_in_vain"):
            return f"{earlier['query_time']}, asked in vain: {earlier['asked_in_vain']}"
        age_s = time.time() - datetime.datetime.fromisoformat(earlier["query_time"]).timestamp()
        too_old = max_age_days is not None and age_s > max_age_days * _DAY_S
        return earlier["query_time"] if too_old else earlier["supersedes"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


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
        self._pending = set(pending)
        self._config = config
        self._answers = {}
        self._lock = threading.Lock()

    def answer(self, key):
        """What the archive has of a source; raises `spxflow.archive.ArchiveError` when it cannot say."""
        with self._lock:
            if key not in self._answers:
                self._ask({key, *self._pending} if key in self._pending else {key})
            answer = self._answers.pop(key)
        if isinstance(answer, archive.ArchiveError):
            raise answer
        return answer

    def position(self, key):
        """Where a source is, as plain values."""
        return position_of(self._sources[key])

    def _ask(self, keys):
        from spxflow.archive.search import find  # imports requests, which a run that asks nothing does without

        try:
            self._answers |= find(
                [source for key, source in self._sources.items() if key in keys],
                archive.ArchiveSettings.from_config(self._config),
                archive.QuerySettings.from_options(self._config["query"]),
                self._config["bands"],
            )
        except archive.ArchiveError as error:
            self._answers |= dict.fromkeys(keys, error)
        self._pending -= keys


def main(questions, key, config, manifests, supersedes, table, found, log):
    """Query for one source; where that fails, the last answer to the same question stands.

    Parameters
    ----------
    questions : Questions
        Where the archive is asked.
    key : str
        Key of the source.
    config : dict
        The whole configuration.
    manifests : scripts.fetch_source.Manifests
        Calibration in use, for which newer versions may be looked for as well.
    supersedes : str
        Time of the answer that this one replaces because of its age, or empty.
    table, found, log : str
        Files to write: the observation table (CSV), time, search, service and refused rows of the query (JSON), and
        why the archive could not say, where that is so.
    """
    question = {"search": search_of(config), "position": questions.position(key)}
    last = Path(found).with_name(_LAST_ANSWER)
    try:
        answer = questions.answer(key)
    except archive.ArchiveError as error:
        files.write_atomically(log, f"{key}: {error}\n")
        account, listed = _answer_that_stands(last, question, key, error)
    else:
        account = {
            "query_time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "archive": config["archive"]["url"],
            "service": answer.service,
            **question,
            "ignored": [{"name": name, "reason": reason} for name, reason in answer.ignored],
            "messages": list(answer.messages),
        }
        listed = answer.observations
        files.write_json(last, {"account": account, "observations": [asdict(one) for one in listed]})
        manifests.renew(listed, config)
    files.write_json(found, {**account, "supersedes": supersedes}, indent=1)
    observations.write_observations(table, listed)


def _answer_that_stands(last, question, key, error):
    """Account and observations of the last answer, noting that the archive could not be asked again.

    Raises
    ------
    spxflow.archive.ArchiveError
        The one given, when there is no answer to this question.
    """
    try:
        kept = files.read_json(last)
        account = kept["account"]
        listed = [observations.Observation(**one) for one in kept["observations"]]
        if {name: account[name] for name in question} != question:
            raise error
    except (OSError, ValueError, KeyError, TypeError):
        raise error from None
    account["asked_in_vain"] = account.get("asked_in_vain", 0) + 1
    files.write_json(last, kept)
    message = f"the archive could not be asked ({error}): the answer of {account['query_time']} stands"
    _LOGGER.warning("%s: %s", key, message)
    return {**account, "messages": [*account["messages"], message]}, listed


def is_current(found, config, source):
    """Whether an earlier answer, with its account in the file ``found``, is to the question that would be asked now."""
    try:
        earlier = files.read_json(Path(found))
        too_old = superseded_answer(found, config["query"]["max_age_days"]) != earlier["supersedes"]
        moved = earlier.get("position") != position_of(source)
        return earlier["search"] == search_of(config) and not moved and not too_old
    except (OSError, ValueError, KeyError, TypeError):
        return False
