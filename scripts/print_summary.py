"""Say on the screen what came out for one source."""

import csv
import sys
from collections import Counter
from pathlib import Path

from spxflow import files, observations, summary


def main(source_directory, file_bytes):
    """Print found, measured and rejected exposures, signal-to-noise ratios, files that could not be had, and where
    all is; what was found as long as nothing is measured.
    """
    records, results = Path(source_directory) / "records", Path(source_directory) / "results"
    exposures, downloads = records / "exposures.json", results / "downloads.json"
    if exposures.exists():
        print(summary.describe(files.read_json(exposures), source_directory), file=sys.stderr)
    elif (records / "observations.csv").exists():
        listed = observations.read_observations(records / "observations.csv")
        print(summary.describe_query(listed, file_bytes, source_directory), file=sys.stderr)
    if downloads.exists():
        failures = summary.describe_failures(files.read_json(downloads), source_directory)
        print(failures, file=sys.stderr, end="\n" if failures else "")


def catalogue(catalogue_csv, exposures):
    """Print how many sources of a catalogue came out how, and where the tables are, if they are up to date.

    Parameters
    ----------
    catalogue_csv : str
        The table of sources.
    exposures : list of str
        Gathered photometry records of the sources.
    """
    newest = max((Path(path).stat().st_mtime for path in exposures if Path(path).exists()), default=0.0)
    if not Path(catalogue_csv).exists() or Path(catalogue_csv).stat().st_mtime < newest:
        return
    with open(catalogue_csv, newline="", encoding="utf-8") as stream:
        statuses = Counter(row["status"] for row in csv.DictReader(line for line in stream if line[0] != "#"))
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    print(f"{statuses.total()} sources: {counts}\n  tables: {catalogue_csv}, .parquet", file=sys.stderr)
