"""Draw cutout, model and residual of the exposures that are worth a look."""

from pathlib import Path

from spxflow import files, observations, plots, plots_qa, stamps
from spxflow.config import needs_calibration
from spxflow.mef import InvalidFile, SkyWindow, read_exposure
from spxflow.transfer.calibration import CalibrationUnavailableError

from scripts.fetch_calibration import load


def read_stamp(record, config, source_directory, size_px):
    """The stamp of a measured exposure; None where it was not measured, or its image cannot be read any more.

    Parameters
    ----------
    record : dict
        Its photometry record.
    config : dict
        The whole configuration.
    source_directory : str
        Directory of the source, with ``data/D1`` ... ``data/D6``.
    size_px : int
        Side of the stamp.
    """
    if record["solid_angle_arcsec2"] is None:
        return None
    stem = observations.parse_stem(record["file"]).stem
    image = Path(source_directory) / "data" / record["band"] / f"{stem}.fits"
    around = SkyWindow(record["ra_deg"], record["dec_deg"], size_px + 2)
    slim, needed = config["download"]["mode"] == "slim", needs_calibration(config)
    try:
        names = dict(part.split(": ", 1) for part in record["calibration"].split("; ") if ": " in part)
        calibration = load(config, record["release"], record["detector"], slim, names) if needed else None
        exposure = read_exposure(image, calibration, around)
    except (InvalidFile, OSError, CalibrationUnavailableError):
        return None
    method = config["photometry"]
    return stamps.make_stamp(exposure, record, method["bad_flags"], size_px, method["psf"]["offset_px"])


def main(exposures_json, sheet, config, source_directory):
    """Write the sheet.

    Parameters
    ----------
    exposures_json : str
        Gathered photometry records.
    sheet : str
        Picture to write.
    config : dict
        The whole configuration; its section ``qa`` chooses the exposures.
    source_directory : str
        Directory of the source.
    """
    document = files.read_json(exposures_json)
    settings = plots_qa.QaSettings.from_options(config["qa"])
    chosen = plots_qa.choose(document["exposures"], settings)
    shown = [(record, read_stamp(record, config, source_directory, settings.stamp_px)) for record in chosen]
    plots.save(plots_qa.qa_figure(shown, document["source"], settings), sheet)
