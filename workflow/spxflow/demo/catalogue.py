"""The archive's tables, in memory, and queries of them.

Table and column names are those of the real archive as far as they are known (facts 3.2); ``plane``
has no ``obs_id`` column, there as here.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spxflow.demo import adql, votable
from spxflow.demo.holdings import Holdings
from spxflow.demo.level2 import XPOSURE_S
from spxflow.demo.records import Record, records_of
from spxflow.demo.votable import Field
from spxflow.demo.web import Addresses

TABLES: Mapping[str, tuple[Field, ...]] = {
    "spherex.observation": (
        Field("obsid", description="key of the observation"),
        Field("collection", description="data collection"),
        Field("observationid", description="name of the observation"),
        Field("type"),
        Field("intent"),
        Field("target_name"),
    ),
    "spherex.plane": (
        Field("planeid", description="key of the plane"),
        Field("obsid", description="key of the observation"),
        Field("obs_publisher_did", ucd="meta.ref.ivoid"),
        Field("productid"),
        Field("poly", ucd="pos.outline;obs.field", description="outline of the image"),
        Field("time_bounds_lower", "double", "d", "time.start"),
        Field("time_bounds_upper", "double", "d", "time.end"),
        Field("time_exposure", "double", "s", "time.duration;obs.exposure"),
        Field("energy_bandpassname", ucd="instr.bandpass"),
        Field("energy_bounds_lower", "double", "m", "em.wl;stat.min"),
        Field("energy_bounds_upper", "double", "m", "em.wl;stat.max"),
        Field("energy_resolvingpower", "double", "", "spect.resolution"),
        Field("calibrationlevel", "long"),
        Field("dataproducttype"),
        Field("quality_flag"),
        Field("metrics_background", "double"),
        Field("metrics_maglimit", "double"),
    ),
    "spherex.artifact": (
        Field("artifactid", description="key of the artifact"),
        Field("planeid", description="key of the plane"),
        Field("uri", ucd="meta.ref.url", description="path on the archive's web server"),
        Field("producttype"),
        Field("contenttype"),
        Field("contentlength", "long", "byte"),
    ),
    "spherex.obscore": (
        Field("obs_id", ucd="meta.id"),
        Field("obs_collection", ucd="meta.id"),
        Field("obs_title", ucd="meta.title;obs"),
        Field("obs_publisher_did", ucd="meta.ref.ivoid"),
        Field("dataproduct_type", ucd="meta.code.class"),
        Field("calib_level", "long", "", "meta.code;obs.calib"),
        Field("s_ra", "double", "deg", "pos.eq.ra"),
        Field("s_dec", "double", "deg", "pos.eq.dec"),
        Field("s_fov", "double", "deg", "phys.angSize;instr.fov"),
        Field("s_region", ucd="pos.outline;obs.field"),
        Field("t_min", "double", "d", "time.start;obs.exposure"),
        Field("t_max", "double", "d", "time.end;obs.exposure"),
        Field("t_exptime", "double", "s", "time.duration;obs.exposure"),
        Field("em_min", "double", "m", "em.wl;stat.min"),
        Field("em_max", "double", "m", "em.wl;stat.max"),
        Field("em_res_power", "double", "", "spect.resolution"),
        Field("energy_bandpassname", ucd="instr.bandpass"),
        Field("facility_name", ucd="meta.id;instr.tel"),
        Field("instrument_name", ucd="meta.id;instr"),
        Field("target_name", ucd="meta.id;src"),
        Field("access_url", ucd="meta.ref.url"),
        Field("access_format", ucd="meta.code.mime"),
        Field("access_estsize", "long", "kbyte", "phys.size;meta.file"),
    ),
    "tap_schema.schemas": (Field("schema_name"), Field("description")),
    "tap_schema.tables": (Field("schema_name"), Field("table_name"), Field("table_type"), Field("description")),
    "tap_schema.columns": (
        Field("table_name"),
        Field("column_name"),
        Field("datatype"),
        Field("unit"),
        Field("ucd"),
        Field("description"),
    ),
}

DATALINK_TYPE = "application/x-votable+xml;content=datalink"


@dataclass(frozen=True)
class Answer:
    """Rows of a query; ``overflow`` when there are more than were asked for."""

    fields: tuple[Field, ...]
    rows: list[tuple[Any, ...]]
    overflow: bool


def _observation_row(record: Record) -> tuple[Any, ...]:
    file = record.file
    return (record.observation_id, record.collection, file.obs_id, "OBJECT", "science", file.target_id)


def _plane_row(record: Record) -> tuple[Any, ...]:
    file = record.file
    return (
        *(record.plane_id, record.observation_id, record.publisher_did, record.band, record.region),
        *(file.mjd_begin, file.mjd_end, XPOSURE_S),
        *(f"SPHEREx-{record.band}", file.wavelength_min_m, file.wavelength_max_m, record.resolving_power),
        *(2, "image", None, None, None),
    )


def _artifact_row(record: Record) -> tuple[Any, ...]:
    path = record.file.path
    return (
        *(f"{record.plane_id}/0", record.plane_id, f"ibe/data/spherex/{path}"),
        *("science", "image/fits", record.size_kb * 1000),
    )


def _obscore_row(record: Record, addresses: Addresses) -> tuple[Any, ...]:
    file = record.file
    return (
        *(file.obs_id, record.collection, file.stem, record.publisher_did, "image", 2),
        *(*file.center, 3.485, record.region, file.mjd_begin, file.mjd_end, XPOSURE_S),
        *(file.wavelength_min_m, file.wavelength_max_m, record.resolving_power, f"SPHEREx-{record.band}"),
        *("SPHEREx", "SPHEREx", file.target_id),
        *(addresses.datalink(record.publisher_did), DATALINK_TYPE, record.size_kb),
    )


def _schema_rows() -> dict[str, list[tuple[Any, ...]]]:
    schemas = sorted({name.split(".")[0] for name in TABLES})
    return {
        "tap_schema.schemas": [(schema, None) for schema in schemas],
        "tap_schema.tables": [(name.split(".")[0], name, "table", None) for name in TABLES],
        "tap_schema.columns": [
            (name, column.name, column.datatype, column.unit, column.ucd, column.description)
            for name, columns in TABLES.items()
            for column in columns
        ],
    }


_READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)


class Catalogue:
    """The tables of what the holdings list, made again when they change; one query at a time."""

    def __init__(self, holdings: Holdings, addresses: Addresses) -> None:
        self._holdings = holdings
        self._addresses = addresses
        self._lock = threading.Lock()
        self._revision: int | None = None
        self._connection = _connect()
        self._geometry = adql.Geometry(self._connection)

    def query(self, text: str, uploads: Mapping[str, bytes] | None = None, max_rows: int | None = None) -> Answer:
        """Answer an ADQL query.

        Parameters
        ----------
        text
            The query.
        uploads
            VOTables by their names in the schema ``TAP_UPLOAD``.
        max_rows
            Rows returned at most.

        Raises
        ------
        ValueError
            When it cannot be answered.
        """
        statement = adql.to_sqlite(text)
        tables = {name: _read_upload(name, content) for name, content in (uploads or {}).items()}
        with self._lock:
            self._refresh()
            self._geometry.complaint = None
            try:
                self._attach_uploads(tables)
                return self._run(statement, max_rows)
            except (sqlite3.Error, sqlite3.Warning) as error:
                raise ValueError(self._geometry.complaint or str(error)) from None
            finally:
                self._detach_uploads(tables)

    def _run(self, statement: str, max_rows: int | None) -> Answer:
        self._connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
        )
        try:
            cursor = self._connection.execute(statement)
            rows = cursor.fetchall() if max_rows is None else cursor.fetchmany(max_rows + 1)
        finally:
            self._connection.set_authorizer(None)
        overflow = max_rows is not None and len(rows) > max_rows
        names = [description[0] for description in cursor.description]
        cursor.close()
        rows = rows[:max_rows]
        return Answer(tuple(_result_fields(names, rows)), rows, overflow)

    def _refresh(self) -> None:
        revision, files = self._holdings.listed()
        if revision == self._revision:
            return
        self._connection.close()
        self._connection = _connect()
        self._geometry = adql.Geometry(self._connection)
        records = list(records_of(files))
        contents = {
            "spherex.observation": list(dict.fromkeys(map(_observation_row, records))),
            "spherex.plane": list(map(_plane_row, records)),
            "spherex.artifact": list(map(_artifact_row, records)),
            "spherex.obscore": [_obscore_row(record, self._addresses) for record in records],
            **_schema_rows(),
        }
        for schema in ("spherex", "tap_schema"):
            self._connection.execute(f"ATTACH ':memory:' AS {schema}")
        for name, rows in contents.items():
            _fill(self._connection, name, [column.name for column in TABLES[name]], rows)
        for table, column in (("plane", "planeid"), ("artifact", "planeid"), ("obscore", "obs_publisher_did")):
            self._connection.execute(f"CREATE INDEX spherex.{table}_{column} ON {table} ({column})")
        self._revision = revision

    def _attach_uploads(self, tables: Mapping[str, tuple[list[str], list[list[Any]]]]) -> None:
        if tables:
            self._connection.execute("ATTACH ':memory:' AS tap_upload")
        for name, (columns, rows) in tables.items():
            _fill(self._connection, f"tap_upload.{name}", columns, rows)

    def _detach_uploads(self, tables: Mapping[str, Any]) -> None:
        if tables:
            self._connection.execute("DETACH tap_upload")


def _connect() -> sqlite3.Connection:
    """A database in memory that any thread may use, one at a time."""
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)


def _fill(connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    names = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
    connection.execute(f"CREATE TABLE {table} ({names})")
    with connection:  # commits what has begun, or rolls it back
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)  # noqa: S608


def _read_upload(name: str, content: bytes) -> tuple[list[str], list[list[Any]]]:
    if not name.isidentifier():
        raise ValueError(f"not a table name: {name[:80]!r}")
    return votable.read_table(content)


_KNOWN = {column.name: column for name, columns in TABLES.items() for column in columns}


def _result_fields(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Field]:
    """Columns of an answer: described as in the tables where the name and the values fit."""
    fields = []
    for index, name in enumerate(names):
        found = votable.infer_field(name, (row[index] for row in rows))
        known = _KNOWN.get(name.lower())
        empty = all(row[index] is None for row in rows)
        fits = known is not None and (empty or known.datatype == found.datatype)
        fields.append(known if known is not None and fits else found)
    return fields
