"""The quality sheet: cutout, PSF model, residual, aperture and masked pixels of chosen exposures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spxflow.config import Section
from spxflow.stamps import Stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WRAP = 30  # characters


@dataclass(frozen=True)
class QaSettings(Section):
    """Section ``qa`` of the configuration.

    ``exposures`` names exposures as ``2025W25_1B_0062_1D3``; without any, the ``count`` whose PSF fits are worst are
    taken. ``stamp_px`` is the side of the cutouts in pixels, ``cmap`` and ``residual_cmap`` their colour maps.
    """

    exposures: tuple[str, ...] = ()
    count: int = 8
    stamp_px: int = 15
    cmap: str = "viridis"
    residual_cmap: str = "RdBu_r"


def choose(records: Sequence[Mapping[str, Any]], settings: QaSettings) -> list[Mapping[str, Any]]:
    """The records to be shown: those named, in that order, or those with the worst fits, worst first."""
    if settings.exposures:
        by_name = {exposure_name(record): record for record in records}
        return [by_name[name] for name in settings.exposures if name in by_name]
    fitted = [record for record in records if record["psf_chi2_dof"] is not None]
    return sorted(fitted, key=lambda record: -record["psf_chi2_dof"])[: settings.count]


def exposure_name(record: Mapping[str, Any]) -> str:
    """Observation and detector, as in the archive's file names."""
    return f"{record['obs_id']}{record['band']}"


def qa_figure(
    shown: Sequence[tuple[Mapping[str, Any], Stamp | None]], source: Mapping[str, Any], settings: QaSettings
) -> Figure:
    """The sheet: three pictures and a text for each exposure, two exposures a line.

    Parameters
    ----------
    shown
        Records and their stamps; None for a file that is not at hand.
    source
        Fields of the source; ``name`` is shown.
    """
    from matplotlib.figure import Figure

    blocks = min(2, max(1, len(shown)))
    lines = max(1, -(-len(shown) // blocks))
    figure = Figure(figsize=(8.0 * blocks, 0.7 + 1.75 * lines), layout="constrained")
    figure.suptitle(f"{source['name']}: surface brightness in MJy/sr", parse_math=False)
    if not shown:
        figure.text(0.5, 0.4, "no exposure to show", ha="center", va="center")
        return figure
    grid = figure.add_gridspec(lines, 4 * blocks, width_ratios=(1, 1, 1, 1.2) * blocks)
    for number, (record, stamp) in enumerate(shown):
        line, block = divmod(number, blocks)
        *panels, text = (figure.add_subplot(grid[line, 4 * block + column]) for column in range(4))
        text.set_axis_off()
        text.text(0.0, 1.0, _facts(record), va="top", fontsize="small", transform=text.transAxes, parse_math=False)
        if stamp is None:
            for axes in panels:
                axes.set_axis_off()
            panels[1].text(0.5, 0.5, "no file at hand", ha="center", transform=panels[1].transAxes)
        else:
            _draw_stamp(panels, stamp, settings)
        if line == 0:
            for axes, title in zip(panels, ("cutout", "PSF model", "residual"), strict=True):
                axes.set_title(title, fontsize="small")
    return figure


def _draw_stamp(panels: Sequence[Axes], stamp: Stamp, settings: QaSettings) -> None:
    flux_scale = (settings.cmap, *stamp.flux_scale)
    span = stamp.residual_span
    pictures = (
        ("image", stamp.image, flux_scale),
        ("model", stamp.model, flux_scale),
        ("residual", stamp.residual, (settings.residual_cmap, -span, span)),
    )
    for axes, (label, picture, (cmap, low, high)) in zip(panels, pictures, strict=True):
        shown = axes.imshow(picture, origin="lower", interpolation="nearest", cmap=cmap, vmin=low, vmax=high)
        axes.set_label(label)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_anchor("N")
        _draw_aperture(axes, stamp, "black" if label == "residual" else "white")
        if label != "model":
            _cross_out(axes, stamp)
        if label != "image":
            bar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02, anchor=(0.0, 1.0), panchor=False)
            bar.ax.tick_params(labelsize="x-small", length=2)


def _draw_aperture(axes: Axes, stamp: Stamp, colour: str) -> None:
    from matplotlib.patches import Circle

    axes.plot(stamp.x, stamp.y, marker="+", markersize=5, color=colour, markeredgewidth=0.8, gid="source")
    if stamp.aperture_radius_px is not None:
        circle = Circle((stamp.x, stamp.y), stamp.aperture_radius_px, fill=False, edgecolor=colour, gid="aperture")
        axes.add_patch(circle)


def _cross_out(axes: Axes, stamp: Stamp) -> None:
    """Masked pixels: grey with a cross, whatever their values."""
    veil = np.zeros((*stamp.masked.shape, 4))
    veil[stamp.masked] = (0.75, 0.75, 0.75, 1.0)
    axes.imshow(veil, origin="lower", interpolation="nearest")
    rows, columns = np.nonzero(stamp.masked)
    axes.scatter(columns, rows, marker="x", s=12, linewidths=0.7, color="tab:red", gid="masked")


def _facts(record: Mapping[str, Any]) -> str:
    import textwrap

    def number(name: str, form: str) -> str:
        return "-" if record[name] is None else format(record[name], form)

    flags = "\n".join(textwrap.wrap((record["flag_names"] or "none").replace("|", ", "), _WRAP))
    lines = [
        exposure_name(record),
        f"MJD {number('mjd', '.4f')}   {number('wavelength_um', '.4f')} µm",
        f"{number('flux_ujy', '.1f')} ± {number('flux_err_ujy', '.1f')} µJy, S/N {number('snr', '.1f')}",
        f"χ²/dof {number('psf_chi2_dof', '.2f')}, {number('psf_masked_fraction', '.0%')} of the PSF masked",
        f"flags: {flags}",
        *textwrap.wrap(f"{record['status']}: {record['reason']}" if record["reason"] else record["status"], _WRAP),
    ]
    return "\n".join(lines)
