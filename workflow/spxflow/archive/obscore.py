"""The ``obscore`` table, whose addresses are DataLink documents that name the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from spxflow.archive import datalink
from spxflow.archive.listing import ListedFile
from spxflow.archive.session import QuerySession
from spxflow.archive.settings import ArchiveSettings, QuerySettings
from spxflow.archive.tables import text
from spxflow.archive.tap import Cells, Relation, cells_at

COLUMNS = ("access_url", "obs_publisher_did", "t_min", "t_max", "em_min", "em_max", "obs_collection")


def files_at(
    positions: Sequence[tuple[float, float]],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    session: QuerySession,
) -> tuple[list[list[ListedFile]], list[str]]:
    """Files that show each position (ICRS, degrees), and what to say about how the answer came."""
    relation = _relation("") if len(positions) == 1 else _relation("o")
    listed, messages = cells_at(relation, positions, settings, query, bands, session)
    return _resolved(listed, settings, session), messages


def _relation(alias: str) -> Relation:
    """The table, with another name where positions stand beside it."""
    o = alias and f"{alias}."
    return Relation(
        tables=f"spherex.obscore {alias}".rstrip(),
        columns=tuple(o + name for name in COLUMNS),
        holds=f"CONTAINS({{}}, {o}s_region)",
        meets=f"INTERSECTS({o}s_region, {{}})",
        band=f"{o}energy_bandpassname",
        mid_time=f"({o}t_min + {o}t_max) / 2.0",
    )


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
