"""Say on the screen what came out for one source."""

import sys
from pathlib import Path

from spxflow import files, summary


def main(source_directory):
    """Print found, measured and rejected exposures, signal-to-noise ratios, and where the files are."""
    photometry = Path(source_directory) / "results" / "photometry.json"
    if photometry.exists():
        print(summary.describe(files.read_json(photometry), source_directory), file=sys.stderr)
