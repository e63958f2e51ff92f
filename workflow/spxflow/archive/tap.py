"""Table access: the archive's ``artifact`` and ``plane`` tables, joined, by position."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spxflow.archive.errors import ArchiveError, reason
from spxflow.archive.listing import ListedFile
from spxflow.archive.session import QuerySession
from spxflow.archive.settings import ArchiveSettings, QuerySettings
from spxflow.archive.tables import rows
from spxflow.retries import wait

if TYPE_CHECKING:
    from astropy.table import Table

Cells = Sequence[Any]

_ALL_BANDS = 6
_PHASES_OF_WORK = ("PENDING", "QUEUED", "EXECUTING", "RUN", "UNKNOWN", "SUSPENDED", "HELD")
_POLL_S = (0.2, 10.0)


class CutOffError(ArchiveError):
    """An answer that was cut off."""


@dataclass(frozen=True)
class Relation:
    """Where a service's tables say which files show a place, in ADQL.

    Attributes
    ----------
    tables
        What stands after FROM.
    columns
        Those that :class:`spxflow.archive.listing.ListedFile` is made of, in the order of its attributes.
    holds, meets
        That an image holds a point, and meets a circle; ``{}`` stands for the point or circle.
    band, mid_time
        Name of the bandpass; mid-exposure time, MJD.
    """

    tables: str
    columns: tuple[str, ...]
    holds: str
    meets: str
    band: str
    mid_time: str


_ARTIFACTS = Relation(
    tables="spherex.artifact a JOIN spherex.plane p ON a.planeid = p.planeid",
    columns=(
        "a.uri",
        "p.obs_publisher_did",
        "p.time_bounds_lower",
        "p.time_bounds_upper",
        "p.energy_bounds_lower",
        "p.energy_bounds_upper",
    ),
    holds="CONTAINS({}, p.poly)",
    meets="INTERSECTS({}, p.poly)",
    band="p.energy_bandpassname",
    mid_time="(p.time_bounds_lower + p.time_bounds_upper) / 2.0",
)


def files_at(
    positions: Sequence[tuple[float, float]],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    session: QuerySession,
) -> tuple[list[list[ListedFile]], list[str]]:
    """Files that show each position (ICRS, degrees), and what to say about how the answer came."""
    listed, messages = cells_at(_ARTIFACTS, positions, settings, query, bands, session)
    return [[ListedFile.from_cells(cells) for cells in of_source] for of_source in listed], messages


def cells_at(
    relation: Relation,
    positions: Sequence[tuple[float, float]],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    session: QuerySession,
) -> tuple[list[list[Cells]], list[str]]:
    """Cells of the files that show each position, from one query; to it, many positions are uploaded as a table."""
    columns, tables, upload = relation.columns, relation.tables, None
    ra, dec = (f"{degrees:.10f}" for degrees in positions[0])
    if len(positions) > 1:
        columns, tables, upload = ("s.source_no", *columns), f"TAP_UPLOAD.sources s, {tables}", _table_of(positions)
        ra, dec = "s.ra", "s.dec"
    where = _shows(relation, ra, dec, query) + _filters(relation, query, bands)
    adql = f"SELECT {', '.join(columns)} FROM {tables} WHERE {where}"  # noqa: S608
    table, messages = ask(adql, settings, session, upload)
    listed: list[list[Cells]] = [[] for _ in positions]
    for cells in rows(table, *(column.rpartition(".")[2] for column in columns)):
        source = 0 if upload is None else _source_index(cells[0], len(positions))
        listed[source].append(cells[-len(relation.columns) :])
    return listed, messages


def _shows(relation: Relation, ra: str, dec: str, query: QuerySettings) -> str:
    if query.radius_arcsec > 0.0:
        return "1 = " + relation.meets.format(f"CIRCLE('ICRS', {ra}, {dec}, {query.radius_arcsec / 3600.0:.10f})")
    return "1 = " + relation.holds.format(f"POINT('ICRS', {ra}, {dec})")


def _filters(relation: Relation, query: QuerySettings, bands: Sequence[str]) -> str:
    """Conditions on detectors and mid-exposure times, each with AND in front; none when everything is asked for."""
    conditions = []
    if len(bands) < _ALL_BANDS:
        conditions.append("(" + " OR ".join(f"{relation.band} = 'SPHEREx-{name}'" for name in bands) + ")")
    if query.mjd_min is not None:
        conditions.append(f"{relation.mid_time} >= {query.mjd_min!r}")
    if query.mjd_max is not None:
        conditions.append(f"{relation.mid_time} <= {query.mjd_max!r}")
    return "".join(f" AND {condition}" for condition in conditions)


def _source_index(value: Any, count: int) -> int:
    """Which of ``count`` uploaded sources a row belongs to."""
    index = int(value) if value is not None else -1
    if not 0 <= index < count:
        raise ArchiveError(f"the answer names source {value!r}, uploaded were 0 to {count - 1}")
    return index


def _table_of(positions: Sequence[tuple[float, float]]) -> Table:
    """The table ``sources`` of an upload: number in the sequence, right ascension and declination in degrees."""
    from astropy.table import Table

    numbered = [(number, *position) for number, position in enumerate(positions)]
    return Table(rows=numbered, names=("source_no", "ra", "dec"))


def ask(
    adql: str, settings: ArchiveSettings, session: QuerySession, upload: Table | None = None
) -> tuple[Table, list[str]]:
    """The whole answer to a query, and what to say about how it came.

    Asked synchronously; when that fails or its answer is cut off, as an asynchronous job.

    Raises
    ------
    CutOffError
        When the asynchronous answer is cut off too.
    ArchiveError
        When both fail.
    """
    from pyvo.dal import TAPService

    service = TAPService(f"{settings.url}/TAP", session=session)
    uploads = {"sources": upload} if upload is not None else None
    try:
        return _sync(service, adql, uploads, settings), []
    except Exception as error:  # pyvo, astropy and requests raise many kinds for an answer they cannot use
        refused = reason(error)
    try:
        return _async(service, adql, uploads, settings), [f"TAP answered as a job: {refused}"]
    except Exception as error:
        kind = CutOffError if isinstance(error, CutOffError) else ArchiveError
        reasons = dict.fromkeys((refused, reason(error)))
        raise kind(f"{settings.url}/TAP: {'; as a job: '.join(reasons)}") from error


def _sync(service: Any, adql: str, uploads: Mapping[str, Any] | None, settings: ArchiveSettings) -> Table:
    return _whole(service.run_sync(adql, maxrec=settings.max_records, uploads=uploads), settings)


def _async(service: Any, adql: str, uploads: Mapping[str, Any] | None, settings: ArchiveSettings) -> Table:
    job = service.submit_job(adql, maxrec=settings.max_records, uploads=uploads)
    with job:
        job.run()
        deadline = time.monotonic() + settings.job_timeout_s
        pause_s = _POLL_S[0]
        while (phase := job.phase) not in ("COMPLETED", "ERROR", "ABORTED"):
            if phase not in _PHASES_OF_WORK:
                raise ArchiveError(f"the service does not describe its job: the phase is {phase}")
            if time.monotonic() > deadline:
                raise ArchiveError(f"the job is {phase} after archive.job_timeout_s, {settings.job_timeout_s:g} s")
            wait(pause_s)
            pause_s = min(1.5 * pause_s, _POLL_S[1])
        job.raise_if_error()
        return _whole(job.fetch_result(), settings)


def _whole(results: Any, settings: ArchiveSettings) -> Table:
    status = str(results.status[0]).upper()
    if status == "OVERFLOW" or len(results) >= settings.max_records:
        raise CutOffError(
            f"the answer is cut off at {len(results)} rows (archive.max_records {settings.max_records}): narrow "
            "query.mjd_min and query.mjd_max, ask for fewer bands, or raise archive.max_records"
        )
    return results.to_table()
