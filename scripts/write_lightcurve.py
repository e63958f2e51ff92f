"""Write the light curve table of a source."""

from spxflow import files, tables


def main(photometry_json, lightcurve_csv):
    """Write ``lightcurve.csv`` from ``photometry.json``."""
    document = files.read_json(photometry_json)
    tables.write_lightcurve_csv(document["exposures"], lightcurve_csv, document["source"])
