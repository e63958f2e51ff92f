"""Simple image access (SIA2): one request a position, answered with direct addresses of the files.

Answers are asked for as VOTable: the service's CSV has a column of unescaped JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

from spxflow.archive.errors import ArchiveError, reason
from spxflow.archive.listing import ListedFile
from spxflow.archive.obscore import COLUMNS
from spxflow.archive.session import QuerySession
from spxflow.archive.settings import ArchiveSettings, QuerySettings
from spxflow.archive.tables import rows
from spxflow.archive.tap import CutOffError

_SMALLEST_RADIUS_DEG = 1e-5


def files_at(
    positions: Sequence[tuple[float, float]],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    session: QuerySession,
) -> tuple[list[list[ListedFile]], list[str]]:
    """Files that show one position (ICRS, degrees); bands and times are chosen from the answer."""
    from pyvo.dal import DALQuery

    ((ra_deg, dec_deg),) = positions
    radius_deg = max(query.radius_arcsec / 3600.0, _SMALLEST_RADIUS_DEG)
    request = DALQuery(
        f"{settings.url}/SIA",
        session=session,
        COLLECTION=list(settings.collections),
        POS=f"circle {ra_deg:.10f} {dec_deg:.10f} {radius_deg:.10f}",
        RESPONSEFORMAT="VOTABLE",
        MAXREC=settings.max_records,
    )
    try:
        results = request.execute()
    except Exception as error:  # pyvo, astropy and requests raise many kinds for an answer they cannot use
        raise ArchiveError(f"{settings.url}/SIA: {reason(error)}") from error
    if results.status[0].upper() == "OVERFLOW" or len(results) >= settings.max_records:
        raise CutOffError(
            f"{settings.url}/SIA: the answer is cut off at {len(results)} rows; raise archive.max_records"
        )
    return [[ListedFile.from_cells(cells) for cells in rows(results.to_table(), *COLUMNS)]], []
