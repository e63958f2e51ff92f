"""Where a source is at the time of an exposure, and when that was for the Sun.

Directions are ICRS unit vectors; the catalogue position is barycentric. The observer is taken to be at the centre of
the Earth unless the spacecraft's position is known (its orbit shifts a star at 10 pc by 0.005 mas).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import erfa
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from spxflow.sources import Source

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Observer:
    """Time and place of an exposure: MJD (UTC), Julian date (TDB), barycentric position in au (ICRS axes)."""

    mjd: float
    jd_tdb: float
    barycentric_au: Vector


def observer_at(mjd: float, spacecraft_km: Sequence[float] | None = None) -> Observer:
    """The Earth, or the spacecraft, at a time.

    Parameters
    ----------
    mjd
        Time, MJD (UTC).
    spacecraft_km
        Geocentric position of the spacecraft in km, shape (3,), if known.

    Notes
    -----
    Earth from the analytic theory behind ``erfa.epv00`` (5 km), TDB - TT of its centre from that behind ``erfa.dtdb``.
    """
    tt = erfa.taitt(*erfa.utctai(erfa.DJM0, mjd))
    _, barycentric = erfa.epv00(*tt)
    place = np.array(barycentric["p"], dtype=np.float64)
    if spacecraft_km is not None:
        place = place + np.asarray(spacecraft_km, dtype=np.float64) * 1e3 / erfa.DAU
    return Observer(mjd, float(sum(tt) + erfa.dtdb(*tt, 0.0, 0.0, 0.0, 0.0) / erfa.DAYSEC), place)


def direction(ra_deg: float, dec_deg: float) -> Vector:
    """Unit vector of a position."""
    return erfa.s2c(math.radians(ra_deg), math.radians(dec_deg))


def apparent_position(star: Source, observer: Observer) -> tuple[float, float]:
    """Right ascension and declination, in degrees, at which a source or neighbour is seen.

    Linear motion on the tangent plane of the catalogue epoch, by the time at which the light passes the barycentre,
    then annual parallax (``erfa.pmpx``); radial velocity is left out (below 0.01 mas per year squared for any star but
    Barnard's). Aberration is part of the image's astrometry.
    """
    if not _moves(star):
        return star.ra_deg, star.dec_deg
    ra, dec = math.radians(star.ra_deg), math.radians(star.dec_deg)
    pmra, pmdec = star.pmra_masyr * erfa.DMAS2R / math.cos(dec), star.pmdec_masyr * erfa.DMAS2R
    years = (observer.mjd - erfa.DJM00) / erfa.DJY + 2000.0 - star.epoch_yr
    seen = erfa.pmpx(ra, dec, pmra, pmdec, star.parallax_mas / 1e3, 0.0, years, observer.barycentric_au)
    ra, dec = erfa.c2s(seen)
    return math.degrees(ra) % 360.0, math.degrees(dec)


def position_at(star: Source, mjd: float) -> tuple[float, float]:
    """Where a source is seen from the Earth at a time (MJD, UTC); no ephemeris is needed of one that does not move."""
    return apparent_position(star, observer_at(mjd)) if _moves(star) else (star.ra_deg, star.dec_deg)


def _moves(star: Source) -> bool:
    return bool(star.pmra_masyr or star.pmdec_masyr or star.parallax_mas)


def barycentric_julian_date(observer: Observer, ra_deg: float, dec_deg: float) -> float:
    """BJD (TDB) of light from a direction: the Roemer delay is added, the others are below 0.1 ms."""
    return observer.jd_tdb + float(observer.barycentric_au @ direction(ra_deg, dec_deg)) / erfa.DC
