"""Combine the exposures of a source into its spectrum in the 102 channels."""

from spxflow import files, spectrum, tables


def main(exposures_json, spectrum_table, options, by_pass=False):
    """Write the spectrum in the format that its suffix names.

    Parameters
    ----------
    exposures_json : str
        Gathered photometry records.
    spectrum_table : str
        File to write.
    options : dict
        The configuration section ``spectrum``.
    by_pass : bool
        One spectrum for each survey pass.
    """
    document = files.read_json(exposures_json)
    combine = spectrum.combine_passes if by_pass else spectrum.combine
    rows = combine(document["exposures"], spectrum.SpectrumSettings.from_options(options))
    tables.write_product(rows, spectrum_table, spectrum.COLUMNS, "SPHEREx spectrum", document["source"])
