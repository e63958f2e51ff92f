"""Write one table of all exposures of all sources, and a line on each source."""

from spxflow import catalogue, files


def main(exposures_by_source, sources, table, summary):
    """Write ``catalogue.parquet`` and ``catalogue.csv``.

    Parameters
    ----------
    exposures_by_source : dict of str to str
        Gathered photometry records (JSON) by the key of the source; a source whose file is not there has failed.
    sources : dict of str to dict
        Fields of `spxflow.sources.Source` by key.
    table, summary : str
        Files to write.
    """
    catalogue.write_catalogue(
        ((sources[key], _exposures(path)) for key, path in exposures_by_source.items()), table, summary
    )


def _exposures(path):
    try:
        return files.read_json(path)["exposures"]
    except FileNotFoundError:
        return None
