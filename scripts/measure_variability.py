"""Compare exposures of a source at matched wavelength: is it constant?"""

from spxflow import files, tables, variability
from spxflow.spectrum import SpectrumSettings


def main(exposures_json, variability_json, matched_lightcurve, options, spectrum_options):
    """Write the statistics and the light curves they stand on.

    Parameters
    ----------
    exposures_json : str
        Gathered photometry records.
    variability_json, matched_lightcurve : str
        Files to write.
    options, spectrum_options : dict
        The configuration sections ``variability`` and ``spectrum``.
    """
    document = files.read_json(exposures_json)
    settings = variability.VariabilitySettings.from_options(options)
    smooth = SpectrumSettings.from_options(spectrum_options)
    rows = variability.matched_lightcurve(document["exposures"], settings, smooth)
    title = "SPHEREx light curves at matched wavelength"
    tables.write_product(rows, matched_lightcurve, variability.COLUMNS, title, document["source"])
    files.write_json(variability_json, variability.variability(document["exposures"], settings, smooth), indent=1)
