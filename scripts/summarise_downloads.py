"""Gather the transfer records of a source; put the actual size into the query summary."""

import os
from pathlib import Path

from spxflow import files, summary


def main(records, downloads_json, query_summary_yaml):
    """Write ``downloads.json``: every file with size, checksum, status and reason.

    Parameters
    ----------
    records : list of str
        Transfer records (JSON), one a file or lists of them.
    downloads_json : str
        File to write.
    query_summary_yaml : str
        Query summary to complete with the actual size, where it is there. Its time stays, so that nothing is
        taken for changed.
    """
    downloads = summary.download_summary(files.read_records(records))
    files.write_json(downloads_json, downloads, indent=1)
    query_summary = Path(query_summary_yaml)
    if query_summary.exists():
        kept = query_summary.stat()
        content = summary.with_actual_size(files.read_yaml(query_summary), downloads)
        files.write_yaml(query_summary, content)
        os.utime(query_summary, ns=(kept.st_atime_ns, kept.st_mtime_ns))
