"""Write the light curve table of a source."""

from spxflow import files, tables


def main(exposures_json, lightcurve_csv):
    """Write ``lightcurve.csv`` from the gathered records."""
    document = files.read_json(exposures_json)
    tables.write_lightcurve_csv(document["exposures"], lightcurve_csv, document["source"])
