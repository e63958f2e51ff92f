"""Write the light curve tables of a source."""

from spxflow import files, tables


def main(exposures_json, lightcurve, irsa_columns=False):
    """Write the light curve in the format that its suffix names.

    Parameters
    ----------
    exposures_json : str
        Gathered photometry records.
    lightcurve : str
        File to write.
    irsa_columns : bool
        Only the columns of the IRSA Spectrophotometry Tool, under its names.
    """
    document = files.read_json(exposures_json)
    write = tables.write_irsa_table if irsa_columns else tables.write_lightcurve
    write(document["exposures"], lightcurve, document["source"])
