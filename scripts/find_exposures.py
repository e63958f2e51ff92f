"""Ask the archive which exposures contain a source; write the observation table and what was found with it."""

import datetime
import logging

from spxflow import archive, files, observations
from spxflow.sources import Source


def main(source, bands, config, table, found):
    """Query for one source.

    Parameters
    ----------
    source : dict
        Fields of `spxflow.sources.Source`.
    bands : list of str
        Detectors wanted, ``D1`` to ``D6``.
    config : dict
        The whole configuration; its sections ``archive`` and ``query`` are used.
    table, found : str
        Files to write: the observation table (CSV), and time, service and refused rows of the query (JSON).
    """
    position = Source(**source)
    answer = archive.find(
        [position],
        archive.ArchiveSettings.from_config(config),
        archive.QuerySettings.from_config(config),
        bands,
    )[position.key]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    observations.write_observations(table, answer.observations)
    files.write_json(
        found,
        {
            "query_time": now,
            "archive": config["archive"]["url"],
            "service": answer.service,
            "collections": config["archive"]["collections"],
            "bands": bands,
            "query": config["query"],
            "ignored": [{"name": name, "reason": reason} for name, reason in answer.ignored],
            "messages": list(answer.messages),
        },
        indent=1,
    )


if __name__ == "__main__":
    logging.basicConfig(filename=snakemake.log[0], level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    main(
        snakemake.params.source,
        snakemake.params.bands,
        snakemake.config,
        snakemake.output.table,
        snakemake.output.found,
    )
