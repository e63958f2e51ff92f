"""Draw spectrum and light curve of a source."""

from spxflow import files, plots
from spxflow.plot_points import PlotSettings


def main(exposures_json, picture, plot_options):
    """Write ``combined_plot.png`` from the gathered records with the configuration section ``plot``."""
    document = files.read_json(exposures_json)
    settings = PlotSettings.from_options(plot_options)
    cuts = document["settings"]["quality"]
    figure = plots.combined_figure(document["exposures"], document["source"], settings, cuts)
    plots.save(figure, picture, settings.dpi)
