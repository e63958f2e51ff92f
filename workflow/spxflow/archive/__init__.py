"""What the archive has: exposures of a position by TAP, SIA or obscore; names; calibration files."""

from spxflow.archive.errors import ArchiveError
from spxflow.archive.names import resolve_name
from spxflow.archive.settings import ArchiveSettings, QuerySettings

__all__ = ["ArchiveError", "ArchiveSettings", "QuerySettings", "resolve_name"]
