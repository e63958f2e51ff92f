"""Hook of mkdocs: the reference pages, made from the schemas that the program itself uses."""

import re
import sys
from html import escape
from inspect import cleandoc
from pathlib import Path

import yaml
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow"))

from spxflow import catalogue, spectrum, tables, variability
from spxflow import config as options
from spxflow.background import __doc__ as background_doc
from spxflow.mef.flags import FLAG_MEANINGS, KNOWN_FLAGS
from spxflow.settings import PhotometrySettings
from spxflow.transfer.record import TransferRecord


def on_files(files, config):
    """Add the generated pages."""
    for name, page in (("options", options_page), ("columns", columns_page), ("status", status_page)):
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


# --- options ---


def options_page():
    """Every option with its default, what it takes and what it means."""
    sections = {}
    for name, entry in options.options():
        default = yaml.safe_dump(entry["default"], default_flow_style=True, width=10_000).removesuffix("...\n").strip()
        row = _row(_anchored(name), _code(default), _cell(_accepted(entry)), _cell(entry["description"]))
        sections.setdefault(name.rpartition(".")[0] or "top level", []).append(row)
    lines = [
        "# Options",
        "",
        "Give them on the command line, nested ones as a mapping (`--config ra=213.94 plot='{magnitude: true}'`), or"
        " in a file that holds only what differs (`--configfile my.yaml`). Unknown options, wrong types and values"
        " out of range stop the workflow before it does anything.",
    ]
    for section, rows in sections.items():
        lines += ["", f"## {section}", "", "| option | default | takes | meaning |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _accepted(entry):
    """What an option takes; the names of flags are on a page of their own."""
    if "enum" in entry.get("items", {}) and "TRANSIENT" in entry["items"]["enum"]:
        return "a list of names of flags, or bits from 0 to 31, each once"
    return options.accepted(entry)


# --- columns ---


def columns_page():
    """Every column of every table."""
    lines = [
        "# Columns",
        "",
        "Units and definitions are also in the tables: as comments in CSV, as metadata in ECSV, Parquet and VOTable. No"
        " value is an empty cell in CSV, NaN or masked in ECSV and VOTable, null in Parquet. Columns of the type `map`"
        " hold JSON text.",
        "",
    ]
    for title, about, columns in TABLES:
        lines += [f"\n## {title}\n", about, "", "| column | type | unit | definition | UCD |", "|---|---|---|---|---|"]
        lines += [
            _row(_code(column.name), column.type, _code(column.unit), _cell(column.description), _code(column.ucd))
            for column in columns
        ]
    lines += [
        "\n## Columns of the IRSA Spectrophotometry Tool\n",
        "`lightcurve_irsa_columns.*` (product `irsa_columns`) has `obs_publisher_did` and these, under the names of"
        " that tool:\n",
        "| there | here |",
        "|---|---|",
    ]
    lines += [_row(_code(column.irsa_name), _code(column.name)) for column in tables.COLUMNS if column.irsa_name]
    lines += [
        "\n## Downloads\n",
        "`results/downloads.json` has totals, in `failed` what could not be had, and in `files` every file:\n",
        "| key | meaning |",
        "|---|---|",
        *(_row(_code(names), _cell(meaning)) for names, meaning in _attributes(TransferRecord.__doc__)),
    ]
    return "\n".join(lines) + "\n"


def _attributes(doc):
    """Names and meanings of the attributes in a docstring in the style of numpy."""
    entries = re.split(r"\n(?=\S)", cleandoc(doc).partition("----------\n")[2])
    return [(names, meaning) for names, _, meaning in (entry.partition("\n    ") for entry in entries)]


TABLES = (
    (
        "Light curve",
        "`results/lightcurve.*`, one row for every exposure. `results/photometry.json` has the same keys in"
        " `exposures`, with `null` for no value.",
        tables.COLUMNS,
    ),
    (
        "Spectrum",
        "`results/spectrum.*`, one row for each of the 102 channels; `results/spectrum_passes.*`, the same for each"
        " survey pass.",
        spectrum.COLUMNS,
    ),
    (
        "Light curves at matched wavelength",
        "`results/matched_lightcurve.csv`, one row for every exposure that has a repeat.",
        variability.COLUMNS,
    ),
    (
        "Catalogue",
        "`{outdir}/catalogue.csv`, one row for every source. `{outdir}/catalogue.parquet` has `source` and the columns"
        " of the light curve, one row for every exposure of every source.",
        catalogue.SUMMARY_COLUMNS,
    ),
)


# --- statuses and flags ---


def status_page():
    """Statuses of exposures and sources, pixel flags, steps of the background."""
    defaults = PhotometrySettings()
    lines = [
        "# Statuses and flags",
        "",
        "## Statuses of an exposure\n",
        "Column `status`; `reason` says why in words.\n",
        "| status | meaning |",
        "|---|---|",
        *(_row(_code(status), _cell(meaning)) for status, meaning in tables.STATUSES.items()),
        "\n## Statuses of a source\n",
        "Column `status` of the table of a catalogue's sources.\n",
        "| status | meaning |",
        "|---|---|",
        *(_row(_code(status), _cell(meaning)) for status, meaning in catalogue.STATUSES.items()),
        "\n## Pixel flags\n",
        "Bits of `flags`, by name in `flag_names`. The header of a file has the last word on its bits; a name that a"
        " file does not know counts for nothing in it. By default, *bad* pixels are not used at all"
        " (`photometry.bad_flags`), *background* pixels are left out of the background only"
        " (`photometry.background_flags`).\n",
        "| bit | name | meaning in the header | by default |",
        "|---|---|---|---|",
    ]
    for name, bit in KNOWN_FLAGS.items():
        role = "bad" if name in defaults.bad_flags else "background" if name in defaults.background_flags else ""
        lines.append(_row(str(bit), _code(name), _cell(FLAG_MEANINGS.get(name, "(came with QR3)")), role))
    lines += [
        "\n## Steps of the background\n",
        "Column `background_step`. " + _cell(background_doc.split("\n\n")[1].rstrip(":")) + ":\n",
        "| step | pixels |",
        "|---|---|",
    ]
    for line in background_doc.split("\n\n")[2].splitlines():
        names, _, meaning = line.partition("   ")
        lines.append(_row(names.replace("``", "`").strip(), _cell(meaning.strip())))
    return "\n".join(lines) + "\n"


# --- Markdown ---


def _row(*cells):
    return f"| {' | '.join(cells)} |"


def _cell(text):
    return escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;").replace("\n", " ")


def _code(text):
    return f"<code>{_cell(text)}</code>" if text else ""


def _anchored(name):
    return f'<code id="{name}">{name}</code>'
