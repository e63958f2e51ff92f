"""The picture of a source: its spectrum coloured by date, its light curve coloured by wavelength.

Drawn with matplotlib's object interface: no global state, safe in threads. Everything the options do not name
(fonts, line widths, ticks, grid, face colours ...) is left to the user's ``matplotlibrc``.
"""

from __future__ import annotations

import difflib
import itertools
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spxflow import plot_points
from spxflow.errors import ConfigError
from spxflow.files import partial_path
from spxflow.observations import BANDS
from spxflow.plot_points import LEAST_DAYS, LEAST_UM, PlotSettings, Points
from spxflow.spectrum import band_limits_um

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = (0.55, 0.55, 0.55, 1.0)
_DENSITY_GRID = (90, 26)  # cells across a panel
_PANELS_WIDTH, _INCHES_A_TICK, _LETTER_IN = 0.78, 0.7, 0.085  # part of the figure; of the axis; of a label
_SVG_LOCK = threading.Lock()
_COLOUR_MAPS = (("plot", "wavelength_cmap"), ("plot", "date_cmap"), ("qa", "cmap"), ("qa", "residual_cmap"))


def refuse_unknown_colour_maps(config: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Raise a `ConfigError` with the nearest names where matplotlib has no colour map that a configuration names.

    It is imported only where one differs from the usual configuration.
    """
    for section, option in _COLOUR_MAPS:
        name = config[section][option]
        if name == usual[section][option]:
            continue
        from matplotlib import colormaps

        if name not in colormaps:
            near = difflib.get_close_matches(name, list(colormaps), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ", as viridis or rainbow"
            raise ConfigError(f"{section}.{option}: got {name!r}, takes the name of a matplotlib colour map{hint}")


def combined_figure(
    records: Sequence[Mapping[str, Any]],
    source: Mapping[str, Any],
    settings: PlotSettings,
    quality: Mapping[str, Any] | None = None,
) -> Figure:
    """The spectrum and the light curve of a source as one picture.

    Its axes are labelled ``spectrum``, ``lightcurve`` (one for each stretch of time), ``date_colorbar`` and
    ``wavelength_colorbar``; what is drawn in them carries a ``gid``: ``good``, ``rejected``, ``upper limits``,
    ``error bars``, ``above`` and ``below``.

    Parameters
    ----------
    records
        Judged records, see :data:`spxflow.tables.COLUMNS`; none at all gives a picture that says so.
    source
        Fields of the source; ``name``, ``ra_deg`` and ``dec_deg`` are shown.
    quality
        The cuts ``min_snr`` and ``upper_limit_sigma``, named in the legend.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=settings.figsize, dpi=settings.dpi, layout="constrained")
    drawn = plot_points.points(records, settings.magnitude)
    place = f"ICRS {source['ra_deg']:.5f}, {source['dec_deg']:+.5f}"
    counts = plot_points.counts_in_words(records, drawn)
    figure.suptitle(f"{source['name']}   ({place})\n{counts}", parse_math=False)
    if not len(drawn):
        figure.text(0.5, 0.5, plot_points.nothing_to_draw(records), ha="center", va="center")
        return figure
    segments = plot_points.time_segments(drawn.mjd, settings.break_gaps_days)
    widths = _segment_widths(segments)
    grid = figure.add_gridspec(2, len(segments) + 1, width_ratios=(*widths, 0.025))
    limits = plot_points.value_range(drawn, settings, settings.magnitude)
    _draw_spectrum(figure.add_subplot(grid[0, :-1]), figure.add_subplot(grid[0, -1]), drawn, settings, limits)
    panels = [figure.add_subplot(grid[1, column]) for column in range(len(segments))]
    _draw_lightcurve(panels, figure.add_subplot(grid[1, -1]), drawn, segments, settings, limits)
    _draw_legend(figure, drawn, settings, quality)
    return figure


def save(figure: Figure, path: Path | str, dpi: float | None = None) -> None:
    """Write a figure in the format of the suffix, the same bytes each time; ``dpi`` of None is ``matplotlibrc``'s.

    Raises
    ------
    ConfigError
        When ``matplotlibrc`` wants the texts set by LaTeX, and LaTeX cannot.
    """
    from matplotlib import rc_context, rcParams

    form = Path(path).suffix.removeprefix(".").lower()
    undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with ExitStack() as stack:
        partial = stack.enter_context(partial_path(path))
        if form == "svg":  # the names of its elements are random unless this global option is set
            stack.enter_context(_SVG_LOCK)
            stack.enter_context(rc_context({"svg.hashsalt": "spxflow"}))
        try:
            figure.savefig(partial, format=form, metadata=undated.get(form), dpi=dpi)
        except RuntimeError as error:
            if not rcParams["text.usetex"]:
                raise
            raise ConfigError(f"text.usetex of matplotlibrc: {' '.join(str(error).split())[:200]}") from None


# --- panels ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """A panel's axes, x and colour value of each point with the map of colours, and the range of values shown."""

    axes: Axes
    x: np.ndarray
    colour_value: np.ndarray
    mappable: Any
    limits: tuple[float, float]

    @property
    def colours(self) -> np.ndarray:
        """RGBA of each point."""
        return self.mappable.to_rgba(self.colour_value)


def _draw_spectrum(
    axes: Axes, bar_axes: Axes, drawn: Points, settings: PlotSettings, limits: tuple[float, float]
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.dates import AutoDateFormatter, AutoDateLocator

    axes.set_label("spectrum")
    bar_axes.set_label("date_colorbar")
    days = _as_dates(drawn.mjd)
    mappable = ScalarMappable(Normalize(*plot_points.apart(days, LEAST_DAYS)), settings.date_cmap)
    axes.set_xscale(settings.wavelength_scale)
    axes.set_xlim(*plot_points.padded(drawn.wavelength_um, LEAST_UM, settings.wavelength_scale))
    _draw_points(_Panel(axes, drawn.wavelength_um, days, mappable, limits), drawn, settings)
    axes.set_xlabel("wavelength (µm)")
    _value_label(axes, settings)
    _wavelength_ticks(axes.xaxis, settings.wavelength_scale, *axes.get_xlim())
    if settings.band_shading:
        _shade_bands(axes)
    bar = axes.figure.colorbar(mappable, cax=bar_axes, label="date (UTC)")
    locator = AutoDateLocator(minticks=3, maxticks=7)
    bar.ax.yaxis.set_major_locator(locator)
    bar.ax.yaxis.set_major_formatter(AutoDateFormatter(locator))


def _draw_lightcurve(
    panels: Sequence[Axes],
    bar_axes: Axes,
    drawn: Points,
    segments: Sequence[tuple[float, float]],
    settings: PlotSettings,
    limits: tuple[float, float],
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    norm = LogNorm if settings.wavelength_scale == "log" else Normalize
    mappable = ScalarMappable(norm(*plot_points.apart(drawn.wavelength_um, LEAST_UM)), settings.wavelength_cmap)
    bar_axes.set_label("wavelength_colorbar")
    widths = _segment_widths(segments)
    panels[int(np.argmax(widths))].set_xlabel("MJD (UTC)")
    for axes, (first, last), width in zip(panels, segments, widths, strict=True):
        own = drawn.chosen((drawn.mjd >= first) & (drawn.mjd <= last))
        axes.set_label("lightcurve")
        axes.set_xlim(*plot_points.padded(own.mjd, LEAST_DAYS))
        _draw_points(_Panel(axes, own.mjd, own.wavelength_um, mappable, limits), own, settings)
        _time_ticks(axes, width * _PANELS_WIDTH * axes.figure.bbox.width / axes.figure.dpi)
    _value_label(panels[0], settings)
    for left, right in itertools.pairwise(panels):
        _break_between(left, right)
    bar = panels[0].figure.colorbar(mappable, cax=bar_axes, label="wavelength (µm)")
    _wavelength_ticks(bar.ax.yaxis, settings.wavelength_scale, *bar.ax.get_ylim())


def _draw_points(panel: _Panel, drawn: Points, settings: PlotSettings) -> None:
    low, high = panel.limits
    panel.axes.set_ylim((high, low) if settings.magnitude else (low, high))
    shown = (drawn.value >= low) & (drawn.value <= high)
    if settings.density_above and len(drawn) > settings.density_above:
        _draw_density(panel, drawn, shown, settings)
    else:
        _draw_markers(panel, drawn, shown, settings)
    _mark_outside(panel, drawn, settings)


def _draw_markers(panel: _Panel, drawn: Points, shown: np.ndarray, settings: PlotSettings) -> None:
    def scatter(one: np.ndarray, size: float, marker: Any, gid: str, **style: Any) -> None:
        style |= {"marker": marker, "gid": gid, "alpha": settings.marker_alpha}
        panel.axes.scatter(panel.x[one], drawn.value[one], s=size**2, **style)

    if settings.show_rejected:
        one, size = shown & drawn.rejected, settings.marker_size_rejected
        grey = np.broadcast_to(_GREY, panel.colours.shape)
        _error_bars(panel, drawn, one, grey, settings)
        scatter(one, size, "x", "rejected", color=grey[one], linewidths=0.25 * size)
    one, size = shown & drawn.limit, settings.marker_size_upper_limit
    outline = {"facecolors": "none", "edgecolors": panel.colours[one], "linewidths": 0.2 * size}
    scatter(one, 2 * size, _limit_marker(), "upper limits", **outline)
    one = shown & drawn.good
    _error_bars(panel, drawn, one, panel.colours, settings)
    scatter(one, settings.marker_size_good, "o", "good", color=panel.colours[one], linewidths=0, zorder=3)


def _error_bars(panel: _Panel, drawn: Points, one: np.ndarray, colours: np.ndarray, settings: PlotSettings) -> None:
    if not settings.errorbars or not one.any():
        return
    value, error = drawn.value[one], drawn.error[one]
    panel.axes.vlines(
        panel.x[one],
        value - error,
        value + error,
        colors=colours[one],
        linewidth=settings.errorbar_linewidth,
        alpha=settings.errorbar_alpha,
        zorder=1.5,
        gid="error bars",
    )


def _draw_density(panel: _Panel, drawn: Points, shown: np.ndarray, settings: PlotSettings) -> None:
    """Cells instead of points: colour of the mean, opacity by the logarithm of the number of points."""
    for one, gid in ((drawn.rejected, "rejected"), (drawn.limit, "upper limits"), (drawn.good, "good")):
        if (one & shown).any() and (gid != "rejected" or settings.show_rejected):
            _draw_cells(panel, drawn.value, one & shown, gid, settings.marker_alpha)


def _draw_cells(panel: _Panel, value: np.ndarray, one: np.ndarray, gid: str, alpha: float) -> None:
    axes, scale = panel.axes, panel.axes.get_xscale()
    ends = np.log10(axes.get_xlim()) if scale == "log" else np.array(axes.get_xlim())
    inside: list[int] = []

    def mean(values: np.ndarray | list[float]) -> float:
        inside.append(len(values))
        return float(np.mean(values))

    cells = axes.hexbin(
        panel.x[one],
        value[one],
        C=panel.colour_value[one],
        reduce_C_function=mean,
        gridsize=_DENSITY_GRID,
        xscale="log" if scale == "log" else "linear",
        extent=(*ends, *panel.limits),
        mincnt=1,
        linewidths=0.4 if gid == "upper limits" else 0.0,
        rasterized=True,
        gid=gid,
    )
    rgba = panel.mappable.to_rgba(np.asarray(cells.get_array()))
    if gid == "rejected":
        rgba[:] = _GREY
    rgba[:, 3] = alpha * (0.25 + 0.75 * np.log1p(inside) / np.log1p(max(inside)))
    cells.set_array(None)
    cells.set(**{"facecolor": "none", "edgecolor": rgba} if gid == "upper limits" else {"facecolor": rgba})


def _mark_outside(panel: _Panel, drawn: Points, settings: PlotSettings) -> None:
    """Carets at the edge, and how many they are, for points beyond the range shown."""
    low, high = panel.limits
    colours = np.where(drawn.rejected[:, None], _GREY, panel.colours)
    kept = ~drawn.rejected | settings.show_rejected
    larger, smaller = drawn.value > high, drawn.value < low
    brighter, fainter = (smaller, larger) if settings.magnitude else (larger, smaller)
    for beyond, where, marker, height, text_height in (
        (brighter & kept, "above", "^", 0.985, 0.955),
        (fainter & kept, "below", "v", 0.015, 0.045),
    ):
        count = int(beyond.sum())
        if not count:
            continue
        panel.axes.scatter(
            panel.x[beyond],
            np.full(count, height),
            s=(1.6 * settings.marker_size_good) ** 2,
            marker=marker,
            color=colours[beyond],
            linewidths=0,
            alpha=settings.marker_alpha,
            transform=panel.axes.get_xaxis_transform(),
            zorder=3.5,
            rasterized=count > 500,
            gid=where,
        )
        place, align = _emptiest(panel, drawn, text_height)
        panel.axes.text(
            place,
            text_height,
            f"{count} {where}",
            transform=panel.axes.transAxes,
            ha=align,
            va="top" if where == "above" else "bottom",
            fontsize="small",
            color="0.3",
            zorder=1,
        )


def _emptiest(panel: _Panel, drawn: Points, height: float) -> tuple[float, str]:
    """Where along the edge at a height a note hides behind the fewest points: part of the width, and alignment."""
    value = np.where(np.isfinite(drawn.value), drawn.value, np.inf)
    x, y = panel.axes.transLimits.transform(panel.axes.transScale.transform(np.column_stack([panel.x, value]))).T
    near = x[np.abs(y - height) < 0.08]
    places = (
        (0.99, 0.89, "right"),
        *((part, part, "center") for part in (0.84, 0.67, 0.5, 0.33, 0.16)),
        (0.01, 0.11, "left"),
    )
    place, _, align = min(places, key=lambda one: int((np.abs(near - one[1]) < 0.14).sum()))
    return place, align


def _limit_marker() -> Any:
    """A bar with an arrow hanging from it; the bar is at the limit."""
    from matplotlib.path import Path as Outline

    strokes = [((-0.5, 0), (0.5, 0)), ((0, 0), (0, -1.4)), ((-0.35, -0.95), (0, -1.4)), ((0, -1.4), (0.35, -0.95))]
    vertices = [end for stroke in strokes for end in stroke]
    return Outline(vertices, [Outline.MOVETO, Outline.LINETO] * len(strokes))


def _shade_bands(axes: Axes) -> None:
    """Grey and white behind the detectors' ranges, each with its name above."""
    inner = [0.5 * (band_limits_um(a)[1] + band_limits_um(b)[0]) for a, b in itertools.pairwise(BANDS)]
    edges = [band_limits_um(BANDS[0])[0], *inner, band_limits_um(BANDS[-1])[1]]
    first, last = axes.get_xlim()
    for number, band in enumerate(BANDS):
        low, high = max(edges[number], first), min(edges[number + 1], last)
        if low >= high:
            continue
        if number % 2 == 0:
            axes.axvspan(low, high, color="0.5", alpha=0.08, linewidth=0, zorder=0, gid="band")
        middle = (low * high) ** 0.5 if axes.get_xscale() == "log" else 0.5 * (low + high)
        axes.text(middle, 1.01, band, transform=axes.get_xaxis_transform(), ha="center", va="bottom", color="0.3")


def _draw_legend(figure: Figure, drawn: Points, settings: PlotSettings, quality: Mapping[str, Any] | None) -> None:
    from matplotlib.lines import Line2D

    good, limit = "good", "upper limit"
    if quality is not None:
        good, limit = f"good (S/N ≥ {quality['min_snr']:g})", f"upper limit ({quality['upper_limit_sigma']:g} σ)"
    entries = [
        (drawn.good, good, {"marker": "o", "markersize": settings.marker_size_good, "color": "0.2"}),
        (
            drawn.rejected & settings.show_rejected,
            "rejected",
            {"marker": "x", "markersize": settings.marker_size_rejected, "color": _GREY},
        ),
        (
            drawn.limit,
            limit,
            {"marker": _limit_marker(), "markersize": 2 * settings.marker_size_upper_limit, "color": "0.2"},
        ),
    ]
    handles = [
        Line2D([], [], linestyle="none", label=label, markerfacecolor="none" if label == limit else None, **style)
        for present, label, style in entries
        if present.any()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


# --- axes --------------------------------------------------------------------------------------


def _segment_widths(segments: Sequence[tuple[float, float]]) -> list[float]:
    """Parts of the width for the panels: as long as the stretch, but none too narrow to read."""
    spans = np.array([last - first for first, last in segments])
    widths = np.maximum(spans, max(0.5 * spans.max(), 1e-6))
    return list(widths / widths.sum())


def _break_between(left: Axes, right: Axes) -> None:
    """Two panels of one axis: no spines between them, slanted marks where time is left out."""
    left.spines["right"].set_visible(False)
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", which="both", left=False, labelleft=False)
    marks: dict[str, Any] = {
        "marker": [(-0.4, -1), (0.4, 1)],
        "markersize": 8,
        "linestyle": "none",
        "color": "0.2",
        "markeredgewidth": 0.8,
        "clip_on": False,
    }
    left.plot([1, 1], [0, 1], transform=left.transAxes, **marks)
    right.plot([0, 0], [0, 1], transform=right.transAxes, **marks)


def _value_label(axes: Axes, settings: PlotSettings) -> None:
    axes.set_ylabel("AB magnitude" if settings.magnitude else "flux density (µJy)")


def _mjd_epoch() -> float:
    """MJD 0 in matplotlib's day numbers (their epoch is an option of ``matplotlibrc``)."""
    from matplotlib.dates import date2num

    return float(date2num(np.datetime64("1858-11-17")))


def _as_dates(mjd: Any) -> np.ndarray:
    return np.asarray(mjd) + _mjd_epoch()


def _from_dates(days: Any) -> np.ndarray:
    return np.asarray(days) - _mjd_epoch()


def _time_ticks(axes: Axes, width_in: float) -> None:
    """MJD below, calendar dates above; labels that fit inside a panel of this width, in inches."""
    from matplotlib.dates import AutoDateFormatter, AutoDateLocator, num2date
    from matplotlib.ticker import FixedLocator, MaxNLocator, ScalarFormatter

    first, last = axes.get_xlim()
    most = max(2, int(width_in / _INCHES_A_TICK))

    def fitting(ticks: Any, letters: int) -> list[float]:
        """Those whose labels of so many letters end inside the panel; the middle day when none does."""
        half = 0.5 * letters * _LETTER_IN / width_in * (last - first)
        kept = [float(tick) for tick in ticks if first + half <= tick <= last - half]
        return kept or [float(round(0.5 * (first + last)))]

    ticks = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(first, last)
    axes.xaxis.set_major_locator(FixedLocator(fitting(ticks, letters=5)))
    axes.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    locator = AutoDateLocator(minticks=2, maxticks=max(2, most * 2 // 3))
    days = locator.tick_values(*(num2date(day) for day in _as_dates([first, last])))
    dates = axes.secondary_xaxis("top", functions=(_as_dates, _from_dates))
    dates.tick_params(axis="x", labelbottom=False, labeltop=True, bottom=False, top=True)
    dates.xaxis.set_major_locator(FixedLocator(list(_as_dates(fitting(_from_dates(days), letters=10)))))
    dates.xaxis.set_major_formatter(AutoDateFormatter(locator))


def _wavelength_ticks(axis: Any, scale: str, low: float, high: float) -> None:
    """Ticks of a logarithmic axis at round wavelengths."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

    if scale != "log":
        return
    wide = high / low > 2.5
    axis.set_major_locator(FixedLocator([0.8, 1, 1.5, 2, 2.5, 3, 4, 5]) if wide else MaxNLocator(6))
    axis.set_minor_locator(FixedLocator([tenth / 10 for tenth in range(6, 56)]) if wide else NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.set_minor_formatter(NullFormatter())
