"""What the archive is asked, where, and how patiently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spxflow.config import Section

IRSA_URL = "https://irsa.ipac.caltech.edu"


@dataclass(frozen=True)
class ArchiveSettings(Section):
    """Section ``archive`` of the configuration.

    Attributes
    ----------
    url
        Archive host, without a trailing slash; it may have a path.
    service
        ``tap`` (artifact joined with plane), ``sia`` (SIA2) or ``obscore`` (obscore table, then DataLink).
    collections
        Data collections to list.
    timeout_s, job_timeout_s
        Longest wait for one answer, and for an asynchronous job as a whole, s.
    retries, retry_wait_s
        Tries after the first one for faults that pass, and the wait before the first of them, s (doubled each time).
    max_records
        Rows asked for in one query; an answer that is cut off there is an error, never a short list.
    max_answer_mb
        Largest answer read, MB.
    upload_sources
        Sources of a catalogue sent in one query.
    connections
        Queries under way at a time when sources are asked for one by one.
    datalink_ids, datalink_days
        Identifiers resolved in one DataLink request, and days for which its answers are kept.
    cache
        Directory of what is kept across runs.
    sesame_url
        Name resolver.
    """

    url: str = IRSA_URL
    service: str = "tap"
    collections: tuple[str, ...] = ("spherex_qr2", "spherex_qr2_deep", "spherex_qr3", "spherex_qr3_deep")
    timeout_s: float = 300.0
    job_timeout_s: float = 1800.0
    retries: int = 4
    retry_wait_s: float = 1.0
    max_records: int = 200_000
    max_answer_mb: float = 500.0
    upload_sources: int = 200
    connections: int = 4
    datalink_ids: int = 500
    datalink_days: float = 1.0
    cache: Path = Path("archive_cache")
    sesame_url: str = "https://cds.unistra.fr/cgi-bin/nph-sesame"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ArchiveSettings:
        """Settings from the whole configuration."""
        section = config["archive"]
        return cls.from_options({**section, "url": section["url"].rstrip("/"), "cache": Path(section["cache"])})


@dataclass(frozen=True)
class QuerySettings(Section):
    """Section ``query``: the search radius in arcsec (0: images that contain the position) and the range of
    mid-exposure times, MJD (UTC).
    """

    radius_arcsec: float = 0.0
    mjd_min: float | None = None
    mjd_max: float | None = None

    def holds(self, mjd_mid: float) -> bool:
        """Whether a mid-exposure time (MJD) lies in the range asked for."""
        return (self.mjd_min is None or mjd_mid >= self.mjd_min) and (self.mjd_max is None or mjd_mid <= self.mjd_max)
