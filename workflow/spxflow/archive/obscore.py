"""The ``obscore`` table, whose addresses are DataLink documents that name the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from spxflow.archive import datalink
from spxflow.archive.listing import ListedFile
from spxflow.archive.session import QuerySession
from spxflow.archive.settings import ArchiveSettings, QuerySettings
from spxflow.archive.tables import rows, text
from spxflow.archive.tap import ask, filters, source_index, upload_table

Cells = Sequence[Any]

_COLUMNS = ("access_url", "obs_publisher_did", "t_min", "t_max", "em_min", "em_max", "obs_collection")


def files_at(
    position: tuple[float, float],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    session: QuerySession,
) -> tuple[list[ListedFile], list[str]]:
    """Files that show one position (ICRS, degrees), and what to say about how the answer came."""
    names = ", ".join(_COLUMNS)
    region = _region(f"{position[0]:.10f}", f"{position[1]:.10f}", query)
    adql = f"SELECT {names} FROM spherex.obscore WHERE {region}{_filters(query, bands)}"  # noqa: S608
    table, messages = ask(adql, settings, session)
    return _resolved([list(rows(table, *_COLUMNS))], settings, session)[0], messages


def files_at_many(
    positions: Sequence[tuple[float, float]],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    session: QuerySession,
) -> tuple[list[list[ListedFile]], list[str]]:
    """Files that show each of many positions, from one query with the positions uploaded."""
    names = ", ".join(f"o.{name}" for name in _COLUMNS)
    region = _region("s.ra", "s.dec", query, "o.")
    adql = (
        f"SELECT s.source_no, {names} FROM TAP_UPLOAD.sources s, spherex.obscore o "  # noqa: S608
        f"WHERE {region}{_filters(query, bands, 'o.')}"
    )
    table, messages = ask(adql, settings, session, upload_table(positions))
    listed: list[list[Cells]] = [[] for _ in positions]
    for number, *cells in rows(table, "source_no", *_COLUMNS):
        listed[source_index(number, len(positions))].append(cells)
    return _resolved(listed, settings, session), messages


def _region(ra: str, dec: str, query: QuerySettings, prefix: str = "") -> str:
    if query.radius_arcsec > 0.0:
        return f"1 = INTERSECTS({prefix}s_region, CIRCLE('ICRS', {ra}, {dec}, {query.radius_arcsec / 3600.0:.10f}))"
    return f"1 = CONTAINS(POINT('ICRS', {ra}, {dec}), {prefix}s_region)"


def _filters(query: QuerySettings, bands: Sequence[str], prefix: str = "") -> str:
    return filters(query, bands, f"{prefix}energy_bandpassname", f"({prefix}t_min + {prefix}t_max) / 2.0")


def _resolved(
    listed: Sequence[Sequence[Cells]], settings: ArchiveSettings, session: QuerySession
) -> list[list[ListedFile]]:
    """The files of the rows of each source; a row without any stays with an empty address."""
    links = {text(did): text(url) for of_source in listed for url, did, *_ in of_source}
    counts: Counter[str] = Counter()
    for of_source in listed:
        counts |= Counter(text(did) for _, did, *_ in of_source)
    addresses = datalink.file_addresses(links, counts, settings, session)
    return [
        [
            ListedFile.from_cells((address, did, *others))
            for _, did, *others in of_source
            for address in addresses[text(did)] or ("",)
        ]
        for of_source in listed
    ]
