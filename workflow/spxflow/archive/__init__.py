"""What the archive has: exposures of a position by TAP, SIA or obscore; names; calibration files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spxflow.archive.errors import ArchiveError
from spxflow.archive.settings import ArchiveSettings, QuerySettings

if TYPE_CHECKING:
    from spxflow.archive.listing import FoundExposures
    from spxflow.archive.names import ResolvedName
    from spxflow.archive.tap import CutOffError
    from spxflow.sources import Source

__all__ = ["ArchiveError", "ArchiveSettings", "QuerySettings", "find", "resolve_name"]


def find(
    sources: Sequence[Source], settings: ArchiveSettings, query: QuerySettings, bands: Sequence[str]
) -> dict[str, FoundExposures | CutOffError]:
    """Exposures of every source, by the source's key, or its error: see :func:`spxflow.archive.search.find`."""
    from spxflow.archive.search import find

    return find(sources, settings, query, bands)


def resolve_name(name: str, settings: ArchiveSettings) -> ResolvedName:
    """Position of a named object: see :func:`spxflow.archive.names.resolve_name`."""
    from spxflow.archive.names import resolve_name

    return resolve_name(name, settings)
