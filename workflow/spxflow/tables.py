"""The schema of a record, and tables written from it.

:data:`COLUMNS` is the one list of what is said of an exposure: names, types, units, UCDs, descriptions. The light
curve in every format, the JSON schema of ``photometry.json`` and the reference pages of the documentation are made
from it. A record is a flat dict with exactly these keys; ``None`` means that there is no value.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spxflow import __version__
from spxflow.files import partial_path, write_atomically

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    ``type`` is one of ``text``, ``float``, ``int``, ``bool`` and ``map`` (names to numbers; JSON text in tables);
    ``unit`` is in the notation of astropy and VOUnit, ``''`` for none; ``ucd`` an IVOA UCD1+ word list; ``irsa_name``
    the column of the IRSA Spectrophotometry Tool with the same meaning, where there is one.
    """

    name: str
    type: str
    unit: str
    ucd: str
    description: str
    irsa_name: str | None = None


STATUSES = {
    "ok": "measured; no flag, edge or disagreement of the estimators speaks against the value",
    "flagged": "measured, but some pixels of the aperture or the fit were bad and left out",
    "edge": "measured with a part of the aperture outside the image",
    "no_background": "too few pixels for a background",
    "unusable": "too much of the source falls on bad pixels",
    "off_image": "the source is not on the image",
    "invalid_file": "the file cannot be read as a Level-2 image",
    "download_failed": "the file could not be had from the archive",
    "no_calibration": "a calibration file that the measurement needs could not be had",
    "error": "the measurement failed in an unexpected way",
}

FLUX_UCD = "phot.flux.density;em.IR"
_FLUX_ERROR_UCD = f"stat.error;{FLUX_UCD}"

COLUMNS: tuple[Column, ...] = (
    Column("obs_id", "text", "", "meta.id;obs", "observation id of the archive"),
    Column("band", "text", "", "instr.bandpass", "detector name, D1 to D6"),
    Column("mjd", "float", "d", "time.epoch;meta.main", "middle of the exposure, MJD (UTC)", "mjd"),
    Column(
        "wavelength_um",
        "float",
        "um",
        "em.wl.central;meta.main",
        "wavelength of the detector at the source's pixel (vacuum)",
        "lambda",
    ),
    Column(
        "bandwidth_um", "float", "um", "instr.bandwidth", "width of the passband at the source's pixel", "lambda_width"
    ),
    Column(
        "flux_ujy",
        "float",
        "uJy",
        "phot.flux.density;em.IR;meta.main",
        "flux density by the primary estimator, signed; total unless that is aperture_raw",
        "flux",
    ),
    Column(
        "flux_err_ujy",
        "float",
        "uJy",
        "stat.error;phot.flux.density;em.IR;meta.main",
        "1-sigma uncertainty of flux_ujy, background included",
        "flux_err",
    ),
    Column("snr", "float", "", "stat.snr", "flux_ujy / flux_err_ujy"),
    Column("mag_ab", "float", "mag", "phot.mag;em.IR", "AB magnitude, 23.9 - 2.5 log10(flux_ujy); none if flux <= 0"),
    Column("mag_ab_err", "float", "mag", "stat.error;phot.mag;em.IR", "2.5 / ln(10) x flux_err_ujy / flux_ujy"),
    Column("flags", "int", "", "meta.code.qual", "pixel flags of the aperture, bits OR'ed", "flags"),
    Column("status", "text", "", "meta.code.status", "outcome of the exposure: " + ", ".join(STATUSES)),
    Column("reason", "text", "", "meta.note", "why the status is not ok, in words"),
    Column("is_upper_limit", "bool", "", "meta.code", "too faint for a detection: upper_limit_ujy is to be used"),
    Column("is_good", "bool", "", "meta.code.qual", "passes every quality cut of the configuration"),
    Column("upper_limit_ujy", "float", "uJy", "phot.flux.density;em.IR;stat.max", "upper limit of the flux density"),
    Column("estimator", "text", "", "meta.code.class", "estimator of flux_ujy: psf, aperture or aperture_raw"),
    Column("detector", "int", "", "meta.id;instr.det", "detector number, 1 to 6", "det_id"),
    Column("mjd_begin", "float", "d", "time.start;obs.exposure", "start of the exposure, MJD (UTC)"),
    Column("mjd_end", "float", "d", "time.end;obs.exposure", "end of the exposure, MJD (UTC)"),
    Column("bjd_tdb", "float", "d", "time.epoch", "middle of the exposure, barycentric Julian date (TDB)"),
    Column("flag_names", "text", "", "meta.code.qual", "names of the bits set in flags, joined with |"),
    Column("flag_fractions", "map", "", "meta.code.qual", "weighted part of the aperture under each flag, by name"),
    Column("x_pix", "float", "pix", "pos.cartesian.x", "column of the source in the file at hand, first pixel is 0"),
    Column("y_pix", "float", "pix", "pos.cartesian.y", "row of the source in the file at hand, first pixel is 0"),
    Column(
        "x_det",
        "float",
        "pix",
        "pos.cartesian.x;instr.det",
        "column of the source on the detector, first active pixel is 0",
        "x_image",
    ),
    Column(
        "y_det",
        "float",
        "pix",
        "pos.cartesian.y;instr.det",
        "row of the source on the detector, first active pixel is 0",
        "y_image",
    ),
    Column("ra_deg", "float", "deg", "pos.eq.ra", "right ascension measured at (ICRS, at the time of exposure)", "ra"),
    Column("dec_deg", "float", "deg", "pos.eq.dec", "declination measured at (ICRS, at the time of exposure)", "dec"),
    Column("psf_flux_ujy", "float", "uJy", FLUX_UCD, "total flux density by forced PSF photometry"),
    Column("psf_flux_err_ujy", "float", "uJy", _FLUX_ERROR_UCD, "1-sigma uncertainty of psf_flux_ujy"),
    Column("psf_chi2_dof", "float", "", "stat.fit.chi2", "reduced chi-square of the PSF fit"),
    Column("psf_masked_fraction", "float", "", "stat.value", "part of the PSF's weight on bad pixels, left out"),
    Column("psf_background_mjysr", "float", "MJy/sr", "instr.background", "background fitted together with the PSF"),
    Column("psf_n_pixels", "int", "", "meta.number", "pixels in the PSF fit"),
    Column("aperture_flux_ujy", "float", "uJy", FLUX_UCD, "aperture flux density corrected to total by the PSF"),
    Column("aperture_flux_err_ujy", "float", "uJy", _FLUX_ERROR_UCD, "1-sigma uncertainty of aperture_flux_ujy"),
    Column("aperture_raw_flux_ujy", "float", "uJy", FLUX_UCD, "flux density inside the aperture, not corrected"),
    Column(
        "aperture_raw_flux_err_ujy", "float", "uJy", _FLUX_ERROR_UCD, "1-sigma uncertainty of aperture_raw_flux_ujy"
    ),
    Column("aperture_radius_px", "float", "pix", "phys.angSize;instr.det", "radius of the aperture"),
    Column("aperture_psf_fraction", "float", "", "stat.value", "part of the PSF inside the aperture's good pixels"),
    Column("aperture_n_bad", "int", "", "meta.number", "bad pixels in the aperture"),
    Column("background_mjysr", "float", "MJy/sr", "instr.background", "local background of the aperture", "flux_bkg"),
    Column("background_err_mjysr", "float", "MJy/sr", "stat.error;instr.background", "its 1-sigma uncertainty"),
    Column("background_n_pixels", "int", "", "meta.number", "pixels in the background"),
    Column("background_step", "text", "", "meta.code", "how the background was found, as a step of the fallbacks"),
    Column("zodi_scale", "float", "", "arith.factor", "factor of the zodiacal light model that was subtracted"),
    Column("error_scale", "float", "", "arith.factor", "blank-sky scatter over formal error, for this exposure"),
    Column("fracflux", "float", "", "stat.value", "flux of neighbours at the source over the source's own"),
    Column("is_blended", "bool", "", "meta.code.qual", "neighbours contribute noticeably"),
    Column("estimators_disagree", "bool", "", "meta.code.qual", "PSF and aperture fluxes differ by more than noise"),
    Column("solid_angle_arcsec2", "float", "arcsec2", "phys.angArea;instr.pixel", "solid angle of the source's pixel"),
    Column("psf_fwhm_arcsec", "float", "arcsec", "instr.det.psf;phys.angSize", "PSF width as the file's header has it"),
    Column("n_variance_repaired", "int", "", "meta.number", "pixels whose missing variance was filled in"),
    Column("file", "text", "", "meta.id;meta.file", "file name in the archive"),
    Column("version", "text", "", "meta.version", "processing version of the file"),
    Column("collection", "text", "", "meta.dataset", "archive collections that list the file, joined with +"),
    Column("release", "text", "", "meta.version", "data release by the layout of the file: QR2 or QR3"),
    Column("pipeline_version", "text", "", "meta.version", "version of the mission's pipeline, from the header"),
    Column("calibration", "text", "", "meta.note", "calibration applied to the file's values"),
)

_JSON_TYPES = {"text": "string", "float": "number", "int": "integer", "bool": "boolean", "map": "object"}


def empty_record() -> dict[str, Any]:
    """A record with every key of :data:`COLUMNS` and no value."""
    return dict.fromkeys(column.name for column in COLUMNS)


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records by time, then band; those without a time last."""

    def key(record: Record) -> tuple[bool, float, str]:
        mjd = record["mjd"]
        return mjd is None, mjd or 0.0, record["band"] or ""

    return sorted(records, key=key)


def photometry_document(source: Record, settings: Record, records: Iterable[Record]) -> dict[str, Any]:
    """The content of ``photometry.json``: the source, the method's settings, one record an exposure."""
    return {"source": source, "settings": settings, "exposures": in_order(records)}


def photometry_schema() -> dict[str, Any]:
    """JSON schema of :func:`photometry_document`, as shipped in ``workflow/schemas/photometry.schema.json``."""
    properties: dict[str, Any] = {}
    for column in COLUMNS:
        entry: dict[str, Any] = {"type": [_JSON_TYPES[column.type], "null"], "description": column.description}
        if column.unit:
            entry["unit"] = column.unit
        if column.type == "map":
            entry["additionalProperties"] = {"type": "number"}
        properties[column.name] = entry
    properties["status"].update(type="string", enum=list(STATUSES))
    properties["reason"].update(type="string")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "photometry of one source",
        "type": "object",
        "required": ["source", "settings", "exposures"],
        "additionalProperties": False,
        "properties": {
            "source": {
                "type": "object",
                "required": ["name", "ra_deg", "dec_deg"],
                "properties": {
                    "name": {"type": "string"},
                    "ra_deg": {"type": "number", "minimum": 0, "maximum": 360},
                    "dec_deg": {"type": "number", "minimum": -90, "maximum": 90},
                },
            },
            "settings": {"type": "object"},
            "exposures": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": list(properties),
                    "additionalProperties": False,
                    "properties": properties,
                },
            },
        },
    }


def source_metadata(source: Record) -> dict[str, Any]:
    """What a table says of its source: name, position (ICRS) and proper motion."""
    names = ("ra_deg", "dec_deg", "pmra_masyr", "pmdec_masyr", "parallax_mas", "epoch_yr")
    return {"source": source["name"], **{name: source[name] for name in names}}


# --- writers -----------------------------------------------------------------------------------


def write_lightcurve(records: Iterable[Record], path: Path | str, source: Record) -> None:
    """Write every record, by time and band, in the format that the suffix names (see :func:`write_table`)."""
    write_product(in_order(records), path, COLUMNS, "SPHEREx photometry", source)


def write_irsa_table(records: Iterable[Record], path: Path | str, source: Record) -> None:
    """Write the columns that the IRSA Spectrophotometry Tool has too, under its names, for comparing point by point.

    ``obs_publisher_did``, the exposure's identifier in the archive, joins the two tables. The tool does not say
    whether ``x_image`` and ``y_image`` count from 0 or 1; here they count from 0. Its ``flags`` have bits of its own
    above 31.
    """
    shared = [column for column in COLUMNS if column.irsa_name]
    renamed = [dataclasses.replace(column, name=str(column.irsa_name)) for column in shared]
    identifier = Column("obs_publisher_did", "text", "", "meta.ref.ivoid", "identifier of the exposure in the archive")
    rows = [
        {"obs_publisher_did": _publisher_did(record)}
        | {str(column.irsa_name): record[column.name] for column in shared}
        for record in in_order(records)
    ]
    write_table(rows, path, [identifier, *renamed], {"title": "SPHEREx photometry", **source_metadata(source)})


def _publisher_did(record: Record) -> str | None:
    collection = (record["collection"] or "").split("+")[0]
    return f"ivo://irsa.ipac/{collection}?{record['obs_id']}/{record['band']}" if collection else None


def write_product(
    rows: Sequence[Record], path: Path | str, columns: Sequence[Column], title: str, source: Record
) -> None:
    """Write a table of a source in the format that the suffix names (see :func:`write_table`)."""
    metadata = {"title": title, **source_metadata(source), "software": f"spxflow {__version__}"}
    write_table(rows, path, columns, metadata)


def write_table(rows: Sequence[Record], path: Path | str, columns: Sequence[Column], metadata: Record) -> None:
    """Write rows in the format that the suffix names: ``.csv``, ``.ecsv``, ``.parquet`` or ``.vot``.

    Numbers round-trip bit for bit. A missing number is an empty cell in CSV, NaN or masked in ECSV and VOTable, null
    in Parquet; a missing text is an empty one. The same rows give the same bytes.
    """
    suffix = Path(path).suffix
    if suffix not in _WRITERS:
        raise ValueError(f"{path}: no table format for {suffix!r}, there are {', '.join(_WRITERS)}")
    _WRITERS[suffix](rows, Path(path), columns, metadata)


def _cell(value: Any, column: Column) -> Any:
    """A value as tables take it: maps as JSON text, a missing text as an empty one."""
    if column.type == "map":
        return "" if value is None else json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    if column.type == "text":
        return "" if value is None else str(value)
    return value


def _csv_cell(value: Any, column: Column) -> str:
    value = _cell(value, column)
    if value is None:
        return ""
    text = repr(float(value)) if column.type == "float" else str(value)
    # quoted for # too: readers that skip comments end a line there
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"#\r\n') else text


def _write_csv(rows: Sequence[Record], path: Path, columns: Sequence[Column], metadata: Record) -> None:
    text = io.StringIO()
    for key, value in metadata.items():
        text.write(f"# {key}: {' '.join(str(value).split())}\n")
    text.write(f"# rows: {len(rows)}\n#\n")
    for column in columns:
        text.write(f"# {column.name}{f' [{column.unit}]' if column.unit else ''}: {column.description}\n")
    text.write(",".join(column.name for column in columns) + "\n")
    for row in rows:
        text.write(",".join(_csv_cell(row[column.name], column) for column in columns) + "\n")
    write_atomically(path, text.getvalue())


def _as_astropy(rows: Sequence[Record], columns: Sequence[Column], metadata: Record) -> Any:
    """The rows as an `astropy.table.Table`; missing floats are NaN, other missing numbers masked."""
    import numpy as np
    from astropy.table import Column as TableColumn
    from astropy.table import MaskedColumn, Table

    kinds: dict[str, tuple[Any, Any]] = {"float": (np.float64, np.nan), "int": (np.int64, 0), "bool": (np.bool_, False)}
    table = Table(meta=dict(metadata))
    for column in columns:
        dtype, fill = kinds.get(column.type, (np.str_, ""))
        values = [_cell(row[column.name], column) for row in rows]
        mask = [value is None for value in values]
        filled = np.array([fill if value is None else value for value in values], dtype)
        hidden = any(mask) and column.type != "float"
        table[column.name] = MaskedColumn(filled, mask=mask) if hidden else TableColumn(filled)
        table[column.name].unit = column.unit or None
        table[column.name].description = column.description
        table[column.name].meta["ucd"] = column.ucd
    return table


def _write_ecsv(rows: Sequence[Record], path: Path, columns: Sequence[Column], metadata: Record) -> None:
    text = io.StringIO()
    _as_astropy(rows, columns, metadata).write(text, format="ascii.ecsv")
    write_atomically(path, text.getvalue())


_VOTABLE_FRAMES = {"mjd": "utc", "bjd": "tdb", "ra": "icrs", "dec": "icrs"}


def _write_votable(rows: Sequence[Record], path: Path, columns: Sequence[Column], metadata: Record) -> None:
    from astropy.io.votable import from_table
    from astropy.io.votable.converters import get_converter
    from astropy.io.votable.tree import CooSys, Info, TimeSys

    document = from_table(_as_astropy(rows, columns, metadata), table_id="table")
    resource = document.resources[0]
    resource.description = metadata.get("title")
    table = resource.tables[0]
    for field, column in zip(table.fields, columns, strict=True):
        field.ucd = column.ucd
        field.ref = _VOTABLE_FRAMES.get(column.name.split("_")[0])
        if column.type == "bool":  # astropy takes a bit, which knows no missing value
            field.datatype = "boolean"
            field.converter = get_converter(field)
        elif field.datatype == "unicodeChar":
            field.arraysize = "*"  # of any length; astropy takes that of the longest text, 0 among them
    known = {"version_1_4_or_later": True}  # the element is, and does not know of its document yet
    systems = (
        (resource.coordinate_systems, CooSys(ID="icrs", system="ICRS")),
        (resource.time_systems, TimeSys("utc", "MJD-origin", "UTC", "TOPOCENTER", config=known)),
        (resource.time_systems, TimeSys("tdb", "JD-origin", "TDB", "BARYCENTER", config=known)),
    )
    used = {field.ref for field in table.fields}
    for listed, system in systems:
        if system.ID in used:
            listed.append(system)
    for key, value in metadata.items():
        info = Info(name=key, value=str(value))
        info.ID = None  # astropy's own, the name, may be that of a column
        table.infos.append(info)
    stream = io.BytesIO()
    document.to_xml(stream)
    write_atomically(path, stream.getvalue())


def _write_parquet(rows: Sequence[Record], path: Path, columns: Sequence[Column], metadata: Record) -> None:
    import pyarrow.parquet

    table, widths = arrow_table(rows, columns)
    with partial_path(path) as partial:
        facts = parquet_metadata(columns, metadata, widths)
        pyarrow.parquet.write_table(table.replace_schema_metadata(facts), partial)


def arrow_table(rows: Sequence[Record], columns: Sequence[Column]) -> tuple[Any, dict[str, int]]:
    """The rows as a `pyarrow.Table`, and the width of the longest text in each column of texts."""
    import pyarrow

    types = {"float": pyarrow.float64(), "int": pyarrow.int64(), "bool": pyarrow.bool_()}
    fields, arrays, widths = [], [], {}
    for column in columns:
        values = [_cell(row[column.name], column) for row in rows]
        kind = types.get(column.type, pyarrow.string())
        facts = {"unit": column.unit, "ucd": column.ucd, "description": column.description}
        fields.append(pyarrow.field(column.name, kind, metadata=facts))
        arrays.append(pyarrow.array(values, type=kind))
        if column.type not in types:
            widths[column.name] = max(map(len, values), default=1) or 1
    return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields)), widths


def parquet_metadata(columns: Sequence[Column], metadata: Record, widths: Mapping[str, int]) -> dict[str, str]:
    """What a Parquet table says of itself: units, descriptions and text widths where `astropy.table` keeps them."""
    from astropy.table.meta import get_yaml_from_table

    lengths = {f"table::len::{name}": str(width) for name, width in widths.items()}
    header = "\n".join(get_yaml_from_table(_as_astropy([], columns, metadata)))
    return {**{key: str(value) for key, value in metadata.items()}, **lengths, "table_meta_yaml": header}


_WRITERS = {".csv": _write_csv, ".ecsv": _write_ecsv, ".parquet": _write_parquet, ".vot": _write_votable}


if __name__ == "__main__":
    print(json.dumps(photometry_schema(), indent=2))
