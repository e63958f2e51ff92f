"""Write the photometry of a source as one JSON document."""

from spxflow import files


def main(exposures_json, photometry_json):
    """Write ``photometry.json`` from the gathered records."""
    files.write_json(photometry_json, files.read_json(exposures_json), indent=1)
