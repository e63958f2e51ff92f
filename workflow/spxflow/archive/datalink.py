"""DataLink documents: which files an identifier stands for; many identifiers a request, answers kept on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from spxflow.archive.errors import ArchiveError, reason
from spxflow.archive.session import QuerySession
from spxflow.archive.settings import ArchiveSettings
from spxflow.archive.tables import rows, text
from spxflow.files import hold_lock, read_cache, write_json

_DAY_S = 86400.0


def file_addresses(
    links: Mapping[str, str], listed: Mapping[str, int], settings: ArchiveSettings, session: QuerySession
) -> dict[str, tuple[str, ...]]:
    """Addresses of the files that identifiers stand for: one for each processing version, none where there is none.

    Parameters
    ----------
    links
        Address of the DataLink document of each identifier.
    listed
        How often the query listed each identifier: a kept answer with fewer files is out of date.
    """
    store = settings.cache / "datalink.json"
    now = time.time()
    oldest = now - settings.datalink_days * _DAY_S
    known = {
        did: addresses
        for did, (addresses, asked) in _kept(store).items()
        if did in links and oldest < asked <= now and len(addresses) >= listed[did]
    }
    wanted = [did for did in links if did not in known]
    for service, part in _requests(wanted, links, settings.datalink_ids):
        answered = _ask(service, part, settings, session)
        _keep(store, {did: (addresses, now) for did, addresses in answered.items()}, oldest)
        known |= answered
    return {did: known.get(did, ()) for did in links}


def _requests(dids: Sequence[str], links: Mapping[str, str], size: int) -> Iterator[tuple[str, Sequence[str]]]:
    by_service: dict[str, list[str]] = {}
    for did in dids:
        by_service.setdefault(urlunsplit(urlsplit(links[did])._replace(query="", fragment="")), []).append(did)
    for service, members in by_service.items():
        for start in range(0, len(members), size):
            yield service, members[start : start + size]


def _ask(
    service: str, dids: Sequence[str], settings: ArchiveSettings, session: QuerySession
) -> dict[str, tuple[str, ...]]:
    from astropy.io.votable import parse_single_table

    try:
        response = session.post(service, data={"ID": list(dids), "RESPONSEFORMAT": "application/x-votable+xml"})
        response.raise_for_status()
        table = parse_single_table(response.raw).to_table()
        named = [tuple(map(text, cells)) for cells in rows(table, "ID", "semantics", "access_url")]
    except Exception as error:  # astropy and requests raise many kinds for an answer they cannot use
        raise ArchiveError(f"{service[:200]}: {reason(error)}") from error
    addresses: dict[str, list[str]] = {did: [] for did in dids}
    for did, semantics, url in named:
        if semantics == "#this" and url and did in addresses:
            addresses[did].append(url)
    return {did: tuple(found) for did, found in addresses.items() if found}


def _kept(store: Path) -> dict[str, tuple[tuple[str, ...], float]]:
    try:
        kept = read_cache(store)
        return {str(did): (tuple(map(str, addresses)), float(asked)) for did, (addresses, asked) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(store: Path, answered: Mapping[str, tuple[tuple[str, ...], float]], oldest: float) -> None:
    """Add answers to those kept, and drop what was asked for before ``oldest``; another user's may not be written."""
    with suppress(PermissionError), hold_lock(store.with_name(f".{store.name}.lock"), waits=True):
        kept = {did: answer for did, answer in _kept(store).items() if answer[1] > oldest}
        write_json(store, {**kept, **answered})
