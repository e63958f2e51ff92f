"""Write the interactive page of a source."""

from spxflow import files, report, spectrum, stamps, state, variability
from spxflow.plot_points import PlotSettings
from spxflow.plots_qa import exposure_name

from scripts.draw_qa_sheet import read_stamp


def main(exposures_json, page, config, source_directory, options):
    """Write ``report.html``.

    Parameters
    ----------
    exposures_json : str
        Gathered photometry records.
    page : str
        File to write.
    config : dict
        The whole configuration.
    source_directory : str
        Directory of the source.
    options : dict
        Those parts of the configuration that the page shows.
    """
    document = files.read_json(exposures_json)
    records = document["exposures"]
    settings = report.ReportSettings.from_options(config["report"])
    pictures = {}
    for record in report.exposures_with_stamps(records, settings):
        stamp = read_stamp(record, config, source_directory, settings.stamp_px)
        if stamp is not None:
            pictures[exposure_name(record)] = stamps.encode(stamp)
    smooth = spectrum.SpectrumSettings.from_options(config["spectrum"])
    report.write_report(
        page,
        document["source"],
        records,
        pictures,
        PlotSettings.from_options(config["plot"]),
        {"configuration": options, "versions": state.versions()},
        spectrum.combine(records, smooth),
        variability.variability(records, variability.VariabilitySettings.from_options(config["variability"]), smooth),
    )
