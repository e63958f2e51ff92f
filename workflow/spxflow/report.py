"""One self-contained HTML page for a source, and an index page for a catalogue.

Everything a page needs is in it (plotly, data, pictures); its security policy forbids every request. What comes from
outside, names above all, is escaped where it becomes markup and stays text where a script handles it.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from spxflow import __version__, plot_points
from spxflow.config import Section
from spxflow.files import write_atomically
from spxflow.plot_points import LEAST_DAYS, LEAST_UM, PlotSettings, Points
from spxflow.plots_qa import exposure_name
from spxflow.quality import AB_ZERO_POINT
from spxflow.tables import COLUMNS, in_order

Record = Mapping[str, Any]

_WHOLE_RECORDS_UP_TO = 2000
_CORE_COLUMNS = (
    *("obs_id", "band", "mjd", "wavelength_um", "flux_ujy", "flux_err_ujy", "upper_limit_ujy", "snr"),
    *("status", "reason", "flag_names"),
)
_COLOUR_STOPS = 33
_UNMEASURED = "absent"


@dataclass(frozen=True)
class ReportSettings(Section):
    """Section ``report`` of the configuration.

    At most ``max_stamps`` cutouts of ``stamp_px`` pixels a side are put into the page.
    """

    max_stamps: int = 1000
    stamp_px: int = 15


def exposures_with_stamps(records: Sequence[Record], settings: ReportSettings) -> list[Record]:
    """The measured records whose cutouts go into the page: all, or evenly spread in time if they are too many."""
    measured = [record for record in in_order(records) if record["solid_angle_arcsec2"] is not None]
    if len(measured) <= settings.max_stamps:
        return measured
    return [measured[index] for index in np.linspace(0, len(measured) - 1, settings.max_stamps).astype(int)]


def write_report(
    path: Path | str,
    source: Record,
    records: Iterable[Record],
    stamps: Mapping[str, Record],
    plot: PlotSettings,
    made: Mapping[str, Any],
    spectrum: Sequence[Record] | None = None,
    variability: Record | None = None,
) -> None:
    """Write the page of a source.

    Parameters
    ----------
    source
        Fields of the source; ``name``, ``ra_deg`` and ``dec_deg`` are shown.
    records
        Judged records, see :data:`spxflow.tables.COLUMNS`.
    stamps
        Pictures of exposures (:func:`spxflow.stamps.encode`), by :func:`spxflow.plots_qa.exposure_name`.
    plot
        Colour maps, wavelength scale, range and time gaps, as in the combined plot.
    made
        How it was made, as sections with titles: configuration, versions ...
    spectrum
        Rows of :func:`spxflow.spectrum.combine`.
    variability
        Result of :func:`spxflow.variability.variability`.
    """
    ordered = in_order(records)
    drawn = plot_points.points(ordered, magnitude=False)
    sections = [_failures(ordered), _variability(variability), _how_made(made)]
    parts = {
        "title": html.escape(str(source["name"])),
        "position": f"ICRS {source['ra_deg']:.6f}, {source['dec_deg']:+.6f} deg",
        "counts": html.escape(plot_points.counts_in_words(ordered, drawn)),
        "sections": "\n".join(section for section in sections if section),
        "data": embedded_json(_page_data(ordered, drawn, stamps, plot, spectrum)),
        "style": _asset("report.css"),
        "script": _asset("report.js"),
        "plotly": _plotly(),
    }
    write_atomically(path, _filled(_asset("report.html"), parts))


def embedded_json(content: Any) -> str:
    """JSON that can stand inside a ``script`` element whatever its texts are, and is strict (no NaN)."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with its ``{{name}}`` replaced, in one pass: braces inside the parts stay."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _asset(name: str) -> str:
    return files("spxflow").joinpath("data", name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("</script", "<\\/script")


# --- what the page's script draws --------------------------------------------------------------


def _page_data(
    records: Sequence[Record],
    drawn: Points,
    stamps: Mapping[str, Record],
    plot: PlotSettings,
    spectrum: Sequence[Record] | None,
) -> dict[str, Any]:
    many = len(records) > _WHOLE_RECORDS_UP_TO
    shown = [column for column in COLUMNS if not many or column.name in _CORE_COLUMNS]
    kinds = np.full(len(records), _UNMEASURED, dtype=object)
    kinds[drawn.row] = drawn.kind
    return {
        "columns": [column.name for column in shown],
        "units": {column.name: column.unit for column in shown if column.unit},
        "rows": [[_rounded(record[column.name]) for column in shown] for record in records],
        "names": [exposure_name(record) for record in records],
        "kinds": kinds.tolist(),
        "leading": next((kind for kind in ("good", "limit") if kind in kinds), "rejected"),
        "labels": {"good": "good", "rejected": "rejected", "limit": "upper limit", _UNMEASURED: "no flux"},
        "many": many,
        "axes": _axes(drawn, plot_points.points(records, magnitude=True), plot) if len(drawn) else None,
        "nothing": plot_points.nothing_to_draw(records),
        "magnitude": plot.magnitude,
        "zero_point": AB_ZERO_POINT,
        "wavelength_scale": plot.wavelength_scale,
        "scales": {
            "date": _colours(plot.date_cmap),
            "wavelength": _colours(plot.wavelength_cmap),
            "image": _colours("viridis"),
            "residual": _colours("RdBu_r"),
        },
        "spectrum": _spectrum_columns(spectrum) if spectrum else None,
        "stamps": dict(stamps),
    }


def _axes(fluxes: Points, magnitudes: Points, plot: PlotSettings) -> dict[str, Any]:
    """Ranges of the axes and of the colours, and the gaps in time that are left out."""
    segments = plot_points.time_segments(fluxes.mjd, plot.break_gaps_days)
    return {
        "flux": plot_points.value_range(fluxes, plot),
        "magnitude": plot_points.value_range(magnitudes, plot, magnitude=True)[::-1],
        "wavelength": plot_points.padded(fluxes.wavelength_um, LEAST_UM, plot.wavelength_scale),
        "mjd": plot_points.padded(fluxes.mjd, LEAST_DAYS),
        "wavelength_colours": plot_points.apart(fluxes.wavelength_um, LEAST_UM),
        "mjd_colours": plot_points.apart(fluxes.mjd, LEAST_DAYS),
        "gaps": [_gap(before[1], after[0]) for before, after in itertools.pairwise(segments)],
    }


def _gap(last: float, first: float) -> list[float]:
    """What is left out of the time axis between two stretches: a day less at either end, or a quarter of it."""
    margin = min(1.0, 0.25 * (first - last))
    return [last + margin, first - margin]


def _rounded(value: Any) -> Any:
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _colours(cmap: str) -> list[list[Any]]:
    """A matplotlib colour map as plotly wants it: pairs of a place from 0 to 1 and a colour."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = [round(stop / (_COLOUR_STOPS - 1), 4) for stop in range(_COLOUR_STOPS)]
    return [[stop, to_hex(colormaps[cmap](stop))] for stop in stops]


def _spectrum_columns(spectrum: Sequence[Record]) -> dict[str, list[Any]]:
    used = [row for row in spectrum if row["n_used"]]
    return {name: [_rounded(row[name]) for row in used] for name in ("wavelength_um", "flux_ujy", "flux_err_ujy")}


# --- what is on the page without it ------------------------------------------------------------


def _table(headings: Sequence[str], lines: Iterable[str]) -> str:
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _line(cells: Iterable[Any], attributes: str = "") -> str:
    return f"<tr{attributes}>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in cells)}</tr>"


def _failures(records: Sequence[Record]) -> str:
    """Exposures that are not ``ok``: how many of which kind, and each of them."""
    failed = [(row, record) for row, record in enumerate(records) if record["status"] != "ok"]
    if not failed:
        told = "None: every exposure was measured." if records else "None: there are no exposures."
        return f"<section><h2>Exposures with problems</h2><p>{told}</p></section>"
    kinds = Counter((record["status"], record["reason"]) for _, record in failed)
    summary = _table(("status", "reason", "exposures"), (_line((*kind, count)) for kind, count in kinds.most_common()))
    each = _table(
        ("exposure", "status", "reason"),
        (
            _line((exposure_name(record), record["status"], record["reason"]), f' data-row="{row}" tabindex="0"')
            for row, record in failed
        ),
    )
    return (
        f"<section><h2>Exposures with problems</h2>{summary}"
        f"<details><summary>all {len(failed)} of them</summary>{each}</details></section>"
    )


def _variability(result: Record | None) -> str:
    if result is None or not result["n_repeats"]:
        return ""
    largest, excess, ratio = (result[name] for name in ("largest_deviation", "excess_variance", "von_neumann"))
    facts = {
        "exposures with repeats at matched wavelength": f"{result['n_repeats']} in {result['n_groups']} groups",
        "chi-square against constancy": f"{result['chi2']:.1f} for {result['dof']} degrees of freedom",
        "chance of more from a constant source": f"{result['p_value']:.3g}",
        "relative excess variance": "-" if excess is None else f"{excess:.2e} ± {result['excess_variance_err']:.2e}",
        "von Neumann ratio": "-" if ratio is None else f"{ratio:.2f}, {result['von_neumann_expected']:.2f} expected",
        "largest deviation": f"{largest['sigma']:+.1f} standard errors ({largest['obs_id']}{largest['band']}), "
        f"chance among {largest['trials']} trials {largest['p_value']:.3g}",
    }
    facts |= {
        f"flux of survey pass {one['survey_pass']}": f"{one['relative_flux']:.4f} ± {one['relative_flux_err']:.4f}"
        for one in result["passes"]
        if one["relative_flux"] is not None
    }
    if result["note"]:
        facts["note"] = result["note"]
    return f"<section><h2>Variability</h2><table>{''.join(_line(fact) for fact in facts.items())}</table></section>"


def _how_made(made: Mapping[str, Any]) -> str:
    import yaml

    sections = "".join(
        f"<details><summary>{html.escape(str(title))}</summary>"
        f"<pre>{html.escape(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))}</pre></details>"
        for title, content in made.items()
    )
    return f"<section><h2>How this was made</h2><p>spxflow {html.escape(__version__)}</p>{sections}</section>"


# --- catalogues --------------------------------------------------------------------------------


def write_index(path: Path | str, title: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write the page that leads to the pages of a catalogue's sources, with thumbnails and sortable numbers.

    Parameters
    ----------
    entries
        For each source ``name``; ``report`` and ``picture``, paths relative to the page, or None; and any numbers or
        texts, the same ones for all, which become the columns.
    """
    numbers = [key for key in (entries[0] if entries else ()) if key not in ("name", "report", "picture")]
    headings = "".join(f'<th data-sort="" tabindex="0">{html.escape(str(name))}</th>' for name in ("source", *numbers))
    body = "".join(_index_line(entry, numbers) for entry in entries)
    table = f'<div class="index"><table><thead><tr>{headings}<th></th></tr></thead><tbody>{body}</tbody></table></div>'
    parts = {
        "title": html.escape(title),
        "counts": f"{len(entries)} sources",
        "table": table,
        "style": _asset("report.css"),
        "script": _asset("index.js"),
    }
    write_atomically(path, _filled(_asset("index.html"), parts))


def _index_line(entry: Mapping[str, Any], numbers: Sequence[str]) -> str:
    name = html.escape(str(entry["name"]))
    report, picture = (_relative_url(entry[key]) for key in ("report", "picture"))
    linked = f'<a href="{report}">{name}</a>' if report else name
    cells = [f"<td>{linked}</td>"]
    for key in numbers:
        value = entry[key]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            shown = value if isinstance(value, int) else f"{value:.4g}"
            cells.append(f'<td class="number" data-value="{value!r}">{shown}</td>')
        else:
            cells.append(f"<td>{html.escape('' if value is None else str(value))}</td>")
    image = f'<img class="thumbnail" loading="lazy" alt="" src="{picture}">' if picture else ""
    return f"<tr>{''.join(cells)}<td>{image}</td></tr>"


def _relative_url(path: Any) -> str:
    """A path below the page as an attribute's text; anything but a relative path is left out."""
    from urllib.parse import quote

    if not path or str(path).startswith("/"):
        return ""
    return html.escape(quote(str(path)), quote=True)
