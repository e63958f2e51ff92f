"""The quality sheet: cutout, PSF model, residual, aperture and masked pixels of chosen exposures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spxflow.plots import save
from spxflow.stamps import Stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN_SIGMAS = 5.0  # of the noise that the residual's colours span
_WRAP = 34  # characters


@dataclass(frozen=True)
class QaSettings:
    """Section ``qa`` of the configuration.

    ``exposures`` names exposures as ``2025W25_1B_0062_1D3``; without any, the ``count`` whose PSF fits are worst are
    taken. ``stamp_px`` is the side of the cutouts in pixels, ``cmap`` and ``residual_cmap`` their colour maps.
    """

    exposures: tuple[str, ...] = ()
    count: int = 8
    stamp_px: int = 15
    cmap: str = "viridis"
    residual_cmap: str = "RdBu_r"

    @classmethod
    def from_config(cls, options: Mapping[str, Any]) -> QaSettings:
        return cls(**{**options, "exposures": tuple(options["exposures"])})


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


def qa_sheet(
    shown: Sequence[tuple[Mapping[str, Any], Stamp | None]],
    path: Path | str,
    source: Mapping[str, Any],
    settings: QaSettings,
) -> None:
    """Write the sheet; PNG, PDF or SVG by the suffix.

    Parameters
    ----------
    shown
        Records and their stamps; None for a file that is not at hand.
    source
        Fields of the source; ``name`` is shown.
    """
    save(qa_figure(shown, source, settings), path)


def qa_figure(
    shown: Sequence[tuple[Mapping[str, Any], Stamp | None]], source: Mapping[str, Any], settings: QaSettings
) -> Figure:
    """The figure that :func:`qa_sheet` writes: three pictures and a text for each exposure, two exposures a line."""
    from matplotlib.figure import Figure

    blocks = min(2, max(1, len(shown)))
    lines = max(1, -(-len(shown) // 2))
    figure = Figure(figsize=(7.6 * blocks, 0.7 + 2.0 * lines), layout="constrained")
    figure.suptitle(f"{source['name']}: cutout, PSF model, residual", parse_math=False)
    if not shown:
        figure.text(0.5, 0.4, "no exposure to show", ha="center", va="center")
        return figure
    grid = figure.add_gridspec(lines, 4 * blocks, width_ratios=(1, 1, 1, 1.45) * blocks)
    for number, (record, stamp) in enumerate(shown):
        line, block = divmod(number, blocks)
        cells = [figure.add_subplot(grid[line, 4 * block + column]) for column in range(4)]
        cells[3].set_axis_off()
        cells[3].text(0.0, 1.0, _facts(record), va="top", fontsize="x-small", transform=cells[3].transAxes)
        if stamp is None:
            for axes in cells[:3]:
                axes.set_axis_off()
            cells[1].text(0.5, 0.5, "no file at hand", ha="center", transform=cells[1].transAxes)
        else:
            _draw_stamp(cells[:3], stamp, settings)
    return figure


def _draw_stamp(panels: Sequence[Axes], stamp: Stamp, settings: QaSettings) -> None:
    brightest = max(float(np.nanmax(stamp.model)), _SHOWN_SIGMAS * stamp.noise)
    flux_scale: dict[str, Any] = {"cmap": settings.cmap, "vmin": -3.0 * stamp.noise, "vmax": brightest}
    span = _SHOWN_SIGMAS * stamp.noise
    residual_scale: dict[str, Any] = {"cmap": settings.residual_cmap, "vmin": -span, "vmax": span}
    pictures = (("image", stamp.image, flux_scale), ("model", stamp.model, flux_scale))
    for axes, (label, picture, scale) in zip(
        panels, (*pictures, ("residual", stamp.residual, residual_scale)), strict=True
    ):
        axes.set_label(label)
        shown = axes.imshow(picture, origin="lower", interpolation="nearest", **scale)
        axes.tick_params(labelsize="xx-small", length=2)
        bar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
        bar.ax.tick_params(labelsize="xx-small", length=2)
        _draw_aperture(axes, stamp)
    for axes in (panels[0], panels[2]):
        rows, columns = np.nonzero(stamp.masked)
        axes.scatter(columns, rows, marker="x", s=14, linewidths=0.8, color="tab:red", gid="masked")


def _draw_aperture(axes: Axes, stamp: Stamp) -> None:
    from matplotlib.patches import Circle

    axes.plot(stamp.x, stamp.y, marker="+", markersize=5, color="white", markeredgewidth=0.8, gid="source")
    if stamp.aperture_radius_px is not None:
        axes.add_patch(
            Circle((stamp.x, stamp.y), stamp.aperture_radius_px, fill=False, color="white", linewidth=1, gid="aperture")
        )


def _facts(record: Mapping[str, Any]) -> str:
    import textwrap

    def number(name: str, form: str) -> str:
        return "-" if record[name] is None else format(record[name], form)

    flags = "\n".join(textwrap.wrap((record["flag_names"] or "none").replace("|", ", "), _WRAP))
    lines = [
        exposure_name(record),
        f"MJD {number('mjd', '.4f')}   {number('wavelength_um', '.4f')} µm",
        f"flux {number('flux_ujy', '.1f')} ± {number('flux_err_ujy', '.1f')} µJy   S/N {number('snr', '.1f')}",
        f"chi-square/dof {number('psf_chi2_dof', '.2f')}",
        f"masked {number('psf_masked_fraction', '.0%')} of the PSF",
        f"flags: {flags}",
        *textwrap.wrap(f"{record['status']}: {record['reason']}" if record["reason"] else record["status"], _WRAP),
    ]
    return "\n".join(lines).replace("$", r"\$")
