"""Gather the photometry records of a source into one document, judged by the quality cuts."""

from spxflow import files, quality, tables
from spxflow.settings import QualitySettings


def main(records, photometry_json, source, photometry, quality_options):
    """Write ``photometry.json``: a row for every exposure, by time and band.

    Parameters
    ----------
    records : list of str
        Photometry records (JSON).
    photometry_json : str
        File to write.
    source, photometry, quality_options : dict
        The source's fields, and the configuration sections ``photometry`` and ``quality``.
    """
    cuts = QualitySettings.from_config(quality_options)
    rows = [quality.judge(files.read_json(record), cuts) for record in records]
    settings = {"photometry": photometry, "quality": quality_options}
    files.write_json(photometry_json, tables.photometry_document(source, settings, rows), indent=1)
