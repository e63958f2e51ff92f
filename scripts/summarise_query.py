"""Write the query summary of a source."""

from pathlib import Path

from spxflow import files, observations, summary


def main(table, found, summary_yaml, source, file_bytes):
    """Write ``query_summary.yaml``.

    Parameters
    ----------
    table, found : str
        What the query left: the observation table and the account of the query.
    summary_yaml : str
        File to write. Where ``downloads.json`` stands beside it, sizes are those of the files.
    source : dict
        The source's fields.
    file_bytes : int
        Expected size of one file.
    """
    content = summary.query_summary(source, observations.read_observations(table), files.read_json(found), file_bytes)
    files.write_yaml(summary_yaml, content)
    # Downloads may be summarised at the same time: each writes its own file first and then looks for the other's.
    downloads = Path(summary_yaml).with_name("downloads.json")
    if downloads.exists():
        files.write_yaml(summary_yaml, summary.with_actual_size(content, files.read_json(downloads)))
