"""Where a source that moves is at some time, well enough to ask for images of it."""

from __future__ import annotations

import math

from spxflow.sources import Source

SURVEY_MJD = 61100.0  # 2026 February 28, within the two years of the survey
_MJD_J2000 = 51544.5
_MAS_PER_DEG = 3.6e6


def position_at(source: Source, mjd: float) -> tuple[float, float]:
    """Right ascension and declination (ICRS, degrees) of a source at a time (MJD), by its linear proper motion."""
    years = 2000.0 + (mjd - _MJD_J2000) / 365.25 - source.epoch_yr
    dec_deg = min(90.0, max(-90.0, source.dec_deg + years * source.pmdec_masyr / _MAS_PER_DEG))
    cos_dec = max(math.cos(math.radians(source.dec_deg)), 1e-6)
    return (source.ra_deg + years * source.pmra_masyr / _MAS_PER_DEG / cos_dec) % 360.0, dec_deg
