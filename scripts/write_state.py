"""Write what was done for a source, with what, and by which versions."""

import datetime
from pathlib import Path

from spxflow import files, sources, state


def main(found, transfers, exposures_json, state_yaml, config, source, neighbours):
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
    neighbours : list of dict
        The same of its neighbours; they are kept beside the state, to which the configuration in it refers.
    """
    kept = Path(state_yaml).parent / "records" / "neighbours.csv"
    if neighbours:
        sources.write_catalogue(kept, [sources.Source(**neighbour) for neighbour in neighbours])
    content = state.run_state(
        config,
        source,
        files.read_json(found),
        files.read_records(transfers),
        files.read_json(exposures_json)["exposures"],
        str(kept) if neighbours else None,
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    files.write_yaml(state_yaml, content)
