"""Write what was done for a source, with what, and by which versions."""

import datetime

import yaml
from spxflow import files, state


def main(found, transfers, exposures_json, state_yaml, config, source):
    """Write ``{source}.yaml``, which is a configuration that repeats the run.

    Parameters
    ----------
    found : str
        Account of the query (JSON).
    transfers : list of str
        Transfer records (JSON), one a file or lists of them.
    exposures_json : str
        Gathered photometry records.
    state_yaml : str
        File to write.
    config : dict
        The whole configuration.
    source : dict
        Fields of `spxflow.sources.Source`.
    """
    content = state.run_state(
        config,
        source,
        files.read_json(found),
        files.read_records(transfers),
        files.read_json(exposures_json)["exposures"],
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    files.write_atomically(state_yaml, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
