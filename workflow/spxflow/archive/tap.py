"""Table access: the archive's ``artifact`` and ``plane`` tables, joined, by position."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spxflow.archive.errors import ArchiveError, reason
from spxflow.archive.listing import ListedFile
from spxflow.archive.session import QuerySession
from spxflow.archive.settings import ArchiveSettings, QuerySettings
from spxflow.archive.tables import rows
from spxflow.retries import wait

if TYPE_CHECKING:
    from astropy.table import Table

_JOIN = "spherex.artifact a JOIN spherex.plane p ON a.planeid = p.planeid"
_NAMES = (
    "uri",
    "obs_publisher_did",
    "time_bounds_lower",
    "time_bounds_upper",
    "energy_bounds_lower",
    "energy_bounds_upper",
)
_COLUMNS = ", ".join(("a." if name == "uri" else "p.") + name for name in _NAMES)
_BAND = "p.energy_bandpassname"
_MID_TIME = "(p.time_bounds_lower + p.time_bounds_upper) / 2.0"
_ALL_BANDS = 6
_PHASES_OF_WORK = ("PENDING", "QUEUED", "EXECUTING", "RUN", "UNKNOWN", "SUSPENDED", "HELD")
_POLL_S = (0.2, 10.0)


class CutOffError(ArchiveError):
    """An answer that was cut off."""


def position_query(ra_deg: float, dec_deg: float, query: QuerySettings, bands: Sequence[str]) -> str:
    """ADQL for the files that show a position (ICRS, degrees)."""
    region = _region(f"{ra_deg:.10f}", f"{dec_deg:.10f}", query)
    return f"SELECT {_COLUMNS} FROM {_JOIN} WHERE {region}{filters(query, bands)}"  # noqa: S608


def upload_query(query: QuerySettings, bands: Sequence[str]) -> str:
    """ADQL for the files that show any position of the uploaded table ``sources`` (source_no, ra, dec)."""
    region = _region("s.ra", "s.dec", query)
    tables = f"TAP_UPLOAD.sources s, {_JOIN}"
    return f"SELECT s.source_no, {_COLUMNS} FROM {tables} WHERE {region}{filters(query, bands)}"  # noqa: S608


def _region(ra: str, dec: str, query: QuerySettings) -> str:
    if query.radius_arcsec > 0.0:
        return f"1 = INTERSECTS(CIRCLE('ICRS', {ra}, {dec}, {query.radius_arcsec / 3600.0:.10f}), p.poly)"
    return f"1 = CONTAINS(POINT('ICRS', {ra}, {dec}), p.poly)"


def filters(query: QuerySettings, bands: Sequence[str], band: str = _BAND, mid_time: str = _MID_TIME) -> str:
    """Conditions on detectors and mid-exposure times, each with AND in front; none when everything is asked for."""
    conditions = []
    if len(bands) < _ALL_BANDS:
        conditions.append("(" + " OR ".join(f"{band} = 'SPHEREx-{name}'" for name in bands) + ")")
    if query.mjd_min is not None:
        conditions.append(f"{mid_time} >= {query.mjd_min!r}")
    if query.mjd_max is not None:
        conditions.append(f"{mid_time} <= {query.mjd_max!r}")
    return "".join(f" AND {condition}" for condition in conditions)


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


def listed_files(table: Table) -> list[ListedFile]:
    """Rows of an answer to :func:`position_query` or :func:`upload_query`."""
    return [ListedFile.from_cells(cells) for cells in rows(table, *_NAMES)]


def files_at(
    position: tuple[float, float],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    session: QuerySession,
) -> tuple[list[ListedFile], list[str]]:
    """Files that show one position (ICRS, degrees), and what to say about how the answer came."""
    table, messages = ask(position_query(*position, query, bands), settings, session)
    return listed_files(table), messages


def files_at_many(
    positions: Sequence[tuple[float, float]],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    session: QuerySession,
) -> tuple[list[list[ListedFile]], list[str]]:
    """Files that show each of many positions, from one query with the positions uploaded."""
    table, messages = ask(upload_query(query, bands), settings, session, upload_table(positions))
    found: list[list[ListedFile]] = [[] for _ in positions]
    for (number_,), file in zip(rows(table, "source_no"), listed_files(table), strict=True):
        found[source_index(number_, len(positions))].append(file)
    return found, messages


def source_index(value: Any, count: int) -> int:
    """Which of ``count`` uploaded sources a row belongs to."""
    index = int(value) if value is not None else -1
    if not 0 <= index < count:
        raise ArchiveError(f"the answer names source {value!r}, uploaded were 0 to {count - 1}")
    return index


def upload_table(positions: Sequence[tuple[float, float]]) -> Table:
    """The table ``sources`` of an upload: number in the sequence, right ascension and declination in degrees."""
    from astropy.table import Table

    return Table(
        {
            "source_no": list(range(len(positions))),
            "ra": [ra_deg for ra_deg, _ in positions],
            "dec": [dec_deg for _, dec_deg in positions],
        }
    )
