"""Where a source is at the time of an exposure, and when that was for the Sun.

Directions are ICRS unit vectors; the catalogue position is barycentric. The observer is taken to be at the centre of
the Earth unless the spacecraft's position is known (its orbit shifts a star at 10 pc by 0.005 mas).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import erfa
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_MJD_ZERO_JD = 2_400_000.5
_MJD_J2000 = 51_544.5
_DAYS_PER_JULIAN_YEAR = 365.25
_RADIANS_PER_MAS = math.pi / 180.0 / 3_600_000.0
_AU_KM = 149_597_870.7  # IAU 2012 resolution B2
_LIGHT_TIME_PER_AU_DAYS = _AU_KM / 299_792.458 / 86_400.0


class Star(Protocol):
    """What is asked of a source or neighbour: an astrometric solution (see :class:`spxflow.sources.Source`)."""

    @property
    def ra_deg(self) -> float: ...
    @property
    def dec_deg(self) -> float: ...
    @property
    def pmra_masyr(self) -> float: ...
    @property
    def pmdec_masyr(self) -> float: ...
    @property
    def parallax_mas(self) -> float: ...
    @property
    def epoch_yr(self) -> float: ...


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
    Earth from the analytic theory behind ``erfa.epv00`` (5 km). TDB - TT from its leading term, good to 50 µs
    (Explanatory Supplement to the Astronomical Almanac, 2013, eq. 3.14).
    """
    _, mjd_tt = erfa.taitt(*erfa.utctai(_MJD_ZERO_JD, mjd))
    anomaly = math.radians(357.53 + 0.985_600_3 * (float(mjd_tt) - _MJD_J2000))
    tdb_minus_tt_s = 0.001_658 * math.sin(anomaly) + 0.000_014 * math.sin(2.0 * anomaly)
    _, barycentric = erfa.epv00(_MJD_ZERO_JD, mjd_tt)
    place = np.array(barycentric["p"], dtype=np.float64)
    if spacecraft_km is not None:
        place = place + np.asarray(spacecraft_km, dtype=np.float64) / _AU_KM
    return Observer(mjd, _MJD_ZERO_JD + float(mjd_tt) + tdb_minus_tt_s / 86_400.0, place)


def direction(ra_deg: float, dec_deg: float) -> Vector:
    """Unit vector of a position."""
    ra, dec = math.radians(ra_deg), math.radians(dec_deg)
    return np.array([math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)])


def apparent_position(star: Star, observer: Observer) -> tuple[float, float]:
    """Right ascension and declination, in degrees, at which the star is seen.

    Linear motion on the tangent plane of the catalogue epoch, then annual parallax; radial velocity is left out
    (below 0.01 mas per year squared for any star but Barnard's). Aberration is part of the image's astrometry.
    """
    if not (star.pmra_masyr or star.pmdec_masyr or star.parallax_mas):
        return star.ra_deg, star.dec_deg
    ra, dec = math.radians(star.ra_deg), math.radians(star.dec_deg)
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    north = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
    years = (observer.mjd - _MJD_J2000) / _DAYS_PER_JULIAN_YEAR + 2000.0 - star.epoch_yr
    motion = (star.pmra_masyr * east + star.pmdec_masyr * north) * (years * _RADIANS_PER_MAS)
    parallax = -star.parallax_mas * _RADIANS_PER_MAS * observer.barycentric_au
    x, y, z = direction(star.ra_deg, star.dec_deg) + motion + parallax
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.atan2(z, math.hypot(x, y)))


def barycentric_julian_date(observer: Observer, ra_deg: float, dec_deg: float) -> float:
    """BJD (TDB) of light from a direction: the Roemer delay is added, the others are below 0.1 ms."""
    delay_au = float(observer.barycentric_au @ direction(ra_deg, dec_deg))
    return observer.jd_tdb + delay_au * _LIGHT_TIME_PER_AU_DAYS
