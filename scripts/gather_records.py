"""Gather the photometry records of a source into one document, judged by the quality cuts."""

from spxflow import files, quality, tables
from spxflow.settings import QualitySettings


def main(records, exposures_json, source, method, quality_options):
    """Write ``exposures.json``, from which every product is made: a row for every exposure, by time and band.

    Parameters
    ----------
    records : list of str
        Photometry records (JSON), one a file or lists of them.
    exposures_json : str
        File to write.
    source, method, quality_options : dict
        The source's fields, the configuration sections the measurements depend on, and the section ``quality``.
    """
    cuts = QualitySettings.from_options(quality_options)
    rows = [quality.judge(record, cuts) for record in files.read_records(records)]
    settings = {**method, "quality": quality_options}
    files.write_json(exposures_json, tables.photometry_document(source, settings, rows))
