"""Write the page that leads to the pages of a catalogue's sources."""

import csv
from pathlib import Path

from spxflow import report

_NUMBERS = {"n_exposures": int, "n_measured": int, "n_good": int, "n_upper_limits": int, "median_snr": float}


def main(summary, page, title):
    """Write ``index.html``.

    Parameters
    ----------
    summary : str
        The catalogue's table of sources (CSV), beside which the sources' directories are.
    page, title : str
        File to write, and its heading.
    """
    directory = Path(summary).parent
    with open(summary, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    report.write_index(page, title, [_entry(row, directory) for row in rows])


def _entry(row, directory):
    results = f"{row['source']}/results"
    report_page, picture = f"{results}/report.html", f"{results}/combined_plot.png"
    return {
        "name": row["name"] or row["source"],
        "report": report_page if (directory / report_page).exists() else None,
        "picture": picture if (directory / picture).exists() else None,
        "status": row["status"],
        **{column: read(row[column]) if row[column] else None for column, read in _NUMBERS.items()},
    }
