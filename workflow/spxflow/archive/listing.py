"""From the rows of a query service to exposures: one for each observation and detector."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from spxflow.archive.errors import one_line
from spxflow.archive.settings import ArchiveSettings, QuerySettings
from spxflow.archive.tables import number, text
from spxflow.archive.urls import data_url
from spxflow.observations import FileIdentity, Observation, parse_stem

_PUBLISHER_DID = re.compile(r"ivo://irsa\.ipac/(?P<collection>[a-z0-9_]+)\?(?P<obs_id>[^/]+)/D(?P<detector>[1-6])")


@dataclass(frozen=True)
class ListedFile:
    """A row of a query service: address of the file, its identifier, times in MJD (UTC), wavelengths in m."""

    address: str
    publisher_did: str
    mjd_begin: float
    mjd_end: float
    wavelength_min_m: float
    wavelength_max_m: float
    collection: str = ""

    @classmethod
    def from_cells(cls, cells: Sequence[Any]) -> ListedFile:
        """From the cells of a row, in the order of the attributes; the last may be absent."""
        readers: tuple[Callable[[Any], Any], ...] = (text, text, number, number, number, number, text)
        return cls(*(read(cell) for read, cell in zip(readers, cells, strict=False)))


@dataclass(frozen=True)
class FoundExposures:
    """What the archive has of one source.

    Attributes
    ----------
    observations
        Exposures in the order of their begin and band, each (observation id, detector) once.
    ignored
        Names and reasons of rows that are not used.
    service
        Query service that was asked.
    messages
        What a user should know about how the answer came.
    """

    observations: tuple[Observation, ...]
    ignored: tuple[tuple[str, str], ...] = ()
    service: str = "tap"
    messages: tuple[str, ...] = ()


def exposures(
    rows: Iterable[ListedFile],
    settings: ArchiveSettings,
    query: QuerySettings,
    bands: Sequence[str],
    messages: Sequence[str] = (),
) -> FoundExposures:
    """The exposures that rows list: newest version of each, files listed by several collections once."""
    listed: dict[tuple[str, int], list[tuple[FileIdentity, Observation]]] = {}
    ignored: dict[str, str] = {}
    for row in rows:
        try:
            identity, observation = _observation(row, settings)
        except ValueError as error:
            ignored[one_line(row.address.rsplit("/", 1)[-1] or row.publisher_did, 120)] = one_line(error)
            continue
        if _asked_for(observation, settings, query, bands):
            listed.setdefault((identity.obs_id, identity.detector), []).append((identity, observation))
    kept = [_newest(candidates) for candidates in listed.values()]
    return FoundExposures(
        observations=tuple(sorted(kept, key=lambda found: (found.mjd_begin, found.band, found.stem))),
        ignored=tuple(sorted(ignored.items())),
        service=settings.service,
        messages=tuple(messages),
    )


def _observation(row: ListedFile, settings: ArchiveSettings) -> tuple[FileIdentity, Observation]:
    url = data_url(row.address, settings.url)
    identity = parse_stem(PurePosixPath(urlsplit(url).path).name)
    named = _PUBLISHER_DID.fullmatch(row.publisher_did.strip())
    if named is not None and (named["obs_id"], int(named["detector"])) != (identity.obs_id, identity.detector):
        raise ValueError(f"the identifier names another exposure: {row.publisher_did!r}")
    collection = row.collection or (named["collection"] if named else "")
    if not collection:
        raise ValueError(f"no collection in the identifier {row.publisher_did!r}")
    if not row.mjd_begin <= row.mjd_end or not 0.0 < row.wavelength_min_m <= row.wavelength_max_m:
        raise ValueError("times or wavelengths are absent or out of order")
    observation = Observation(
        stem=identity.stem,
        obs_id=identity.obs_id,
        band=identity.band,
        mjd_begin=row.mjd_begin,
        mjd_end=row.mjd_end,
        wavelength_min_um=round(row.wavelength_min_m * 1e6, 9),
        wavelength_max_um=round(row.wavelength_max_m * 1e6, 9),
        url=url,
        version=identity.version,
        collection=collection,
    )
    return identity, observation


def _asked_for(observation: Observation, settings: ArchiveSettings, query: QuerySettings, bands: Sequence[str]) -> bool:
    listed = observation.band in bands and observation.collection in settings.collections
    return listed and query.holds(observation.mjd_mid)


def _newest(candidates: list[tuple[FileIdentity, Observation]]) -> Observation:
    newest = max(identity.version_key for identity, _ in candidates)
    files = [observation for identity, observation in candidates if identity.version_key == newest]
    files.sort(key=lambda found: (found.collection, found.url))
    first = files[0]
    collections = "+".join(dict.fromkeys(found.collection for found in files))
    return Observation(**{**vars(first), "collection": collections})
