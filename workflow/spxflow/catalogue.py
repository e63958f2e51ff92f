"""All sources of a catalogue together: one table of every exposure, and a line on each source."""

from __future__ import annotations

import base64
import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spxflow import __version__
from spxflow.files import partial_path
from spxflow.state import photometry_summary
from spxflow.tables import COLUMNS, Column, arrow_table, in_order, parquet_metadata, write_table

Record = Mapping[str, Any]

_ROW_GROUP = 16384

SOURCE_COLUMN = Column("source", "text", "", "meta.id;src;meta.main", "id of the source, the name of its directory")

SUMMARY_COLUMNS: tuple[Column, ...] = (
    SOURCE_COLUMN,
    Column("name", "text", "", "meta.id;src", "name of the source"),
    Column("ra_deg", "float", "deg", "pos.eq.ra", "right ascension, ICRS"),
    Column("dec_deg", "float", "deg", "pos.eq.dec", "declination, ICRS"),
    Column("status", "text", "", "meta.code.status", "ok, partial, none_measured, no_exposures or failed"),
    Column("n_exposures", "int", "", "meta.number;obs", "exposures found"),
    Column("n_measured", "int", "", "meta.number", "exposures with a flux"),
    Column("n_good", "int", "", "meta.number", "good points"),
    Column("n_upper_limits", "int", "", "meta.number", "upper limits"),
    Column("median_snr", "float", "", "stat.snr;stat.median", "median signal-to-noise ratio of the measured exposures"),
)
STATUSES = {
    "ok": "every exposure was measured",
    "partial": "some exposures could not be had or measured",
    "none_measured": "no exposure could be had or measured",
    "no_exposures": "the archive has none",
    "failed": "the source is not done",
}


def summarise(source: Record, exposures: Sequence[Record] | None) -> dict[str, Any]:
    """The line of one source.

    Parameters
    ----------
    source
        Fields of `spxflow.sources.Source`.
    exposures
        Judged photometry records; None when the source is not done.
    """
    about = {"source": source["key"], **{name: source[name] for name in ("name", "ra_deg", "dec_deg")}}
    if exposures is None:
        counts = dict.fromkeys(("n_exposures", "n_measured", "n_good", "n_upper_limits"))
        return {**about, "status": "failed", **counts, "median_snr": None}
    counts = photometry_summary(exposures)
    counts.pop("statuses")
    ratios = [row["snr"] for row in exposures if row["snr"] is not None]
    return {
        **about,
        "status": _status(counts["n_exposures"], counts["n_measured"]),
        **counts,
        "median_snr": statistics.median(ratios) if ratios else None,
    }


def _status(n_exposures: int, n_measured: int) -> str:
    if not n_exposures:
        return "no_exposures"
    if not n_measured:
        return "none_measured"
    return "ok" if n_measured == n_exposures else "partial"


def write_catalogue(
    sources: Iterable[tuple[Record, Sequence[Record] | None]], table: Path | str, summary: Path | str
) -> None:
    """Write the table of all exposures (Parquet) and the lines on all sources (CSV).

    Parameters
    ----------
    sources
        Each source with its judged photometry records, as for :func:`summarise`; not held in memory together.
    table, summary
        Files to write.
    """
    lines = []

    def rows() -> Iterator[dict[str, Any]]:
        for source, exposures in sources:
            lines.append(summarise(source, exposures))
            yield from ({"source": source["key"], **row} for row in in_order(exposures or ()))

    software = {"software": f"spxflow {__version__}"}
    columns = (SOURCE_COLUMN, *COLUMNS)
    _write_parquet(rows(), table, columns, {"title": "SPHEREx photometry of a catalogue", **software})
    write_table(lines, summary, SUMMARY_COLUMNS, {"title": "SPHEREx photometry: sources of a catalogue", **software})


def _write_parquet(rows: Iterator[Record], path: Path | str, columns: Sequence[Column], metadata: Record) -> None:
    """Write rows as they come; the widths of texts, which the schema tells, are known when all are there."""
    from pyarrow.parquet import ParquetWriter

    plain, widths = arrow_table([], columns)
    with partial_path(path) as partial, ParquetWriter(partial, plain.schema, store_schema=False) as writer:
        while group := list(itertools.islice(rows, _ROW_GROUP)):
            table, group_widths = arrow_table(group, columns)
            widths = {name: max(width, group_widths[name]) for name, width in widths.items()}
            writer.write_table(table)
        about = parquet_metadata(columns, metadata, widths)
        # as the writer does it for a schema that it knows from the beginning
        schema = plain.schema.with_metadata(about).serialize().to_pybytes()
        writer.add_key_value_metadata({**about, "ARROW:schema": base64.b64encode(schema).decode()})
