"""Celestial coordinates of a pixel: the gnomonic projection with SIP distortion.

Formulas: Calabretta & Greisen 2002 (FITS paper II) sections 2 and 5.1.3, and Shupe et al. 2005 for SIP. The SIP
polynomials of SPHEREx have constant and linear terms, which many programs leave out (7 arcsec, facts 1.3). Sky to pixel
inverts the forward polynomials A and B; AP and BP, their approximate inverse in the header, are not used.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spxflow.mef.blocks import InvalidFile
from spxflow.mef.header import Header

Array = NDArray[np.floating]
Polynomial = tuple[tuple[float, ...], ...]  # [q][p]: coefficient of u^p v^q

_DEGREES = 180.0 / math.pi
_ARCSEC2_PER_DEG2 = 3600.0**2
_HIGHEST_ORDER = 9
_FRAME_PX = 2040.0
_ITERATIONS = 20
_TOLERANCE_PX = 1e-11


@dataclass(frozen=True)
class TanSip:
    """World coordinates of an image, 0-based pixels with centres on integers, ICRS degrees.

    Attributes
    ----------
    crpix
        Reference pixel, 0-based.
    cd
        Matrix from pixels to projection plane coordinates, degrees per pixel, ((1_1, 1_2), (2_1, 2_2)).
    crval
        Right ascension and declination of the reference point, degrees.
    lonpole
        Native longitude of the celestial pole, degrees.
    a, b
        SIP polynomials, ``a[q][p]`` the coefficient of u^p v^q.
    """

    crpix: tuple[float, float]
    cd: tuple[tuple[float, float], tuple[float, float]]
    crval: tuple[float, float]
    lonpole: float = 180.0
    a: Polynomial = ()
    b: Polynomial = ()

    def shifted(self, x0: int, y0: int) -> TanSip:
        """The same sky for a window whose first pixel is (x0, y0) of this image."""
        return dataclasses.replace(self, crpix=(self.crpix[0] - x0, self.crpix[1] - y0))

    def pixel_to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Sky position of pixels.

        Parameters
        ----------
        x, y
            0-based pixels of the image at hand.

        Returns
        -------
        ra, dec
            ICRS, degrees, ra within [0, 360).
        """
        xi, eta = self._plane(np.asarray(x, float) - self.crpix[0], np.asarray(y, float) - self.crpix[1])
        dec0 = math.radians(self.crval[1])
        away = math.cos(dec0) - eta * math.sin(dec0)
        ra = self.crval[0] + np.arctan2(xi, away) * _DEGREES
        dec = np.arctan2(math.sin(dec0) + eta * math.cos(dec0), np.hypot(xi, away)) * _DEGREES
        return np.mod(ra, 360.0), dec

    def sky_to_pixel(self, ra: ArrayLike, dec: ArrayLike) -> tuple[Array, Array]:
        """Pixel of sky positions.

        Parameters
        ----------
        ra, dec
            ICRS, degrees.

        Returns
        -------
        x, y
            0-based pixels of the image at hand; NaN where the position is not on this side of the sky or so far away
            that the distortion polynomial has no inverse.
        """
        u_target, v_target = self._undistorted(np.asarray(ra, float), np.asarray(dec, float))
        u, v = u_target, v_target
        with np.errstate(all="ignore"):
            for _ in range(_ITERATIONS):
                (a, a_u, a_v), (b, b_u, b_v) = _evaluate(self.a, u, v), _evaluate(self.b, u, v)
                miss_u, miss_v = u + a - u_target, v + b - v_target
                determinant = (1 + a_u) * (1 + b_v) - a_v * b_u
                step_u = (miss_u * (1 + b_v) - miss_v * a_v) / determinant
                step_v = (miss_v * (1 + a_u) - miss_u * b_u) / determinant
                u, v = u - step_u, v - step_v
                largest = np.maximum(np.abs(step_u), np.abs(step_v))
                tolerance = _TOLERANCE_PX + 1e-14 * (np.abs(u) + np.abs(v))
                if not np.any(largest > tolerance):
                    break
            found = largest <= tolerance
        return np.where(found, u + self.crpix[0], np.nan)[()], np.where(found, v + self.crpix[1], np.nan)[()]

    def solid_angle_arcsec2(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Solid angle of pixels, distortion included.

        The area of the pixel on the projection plane, by the Jacobian of matrix and distortion, times the cube of the
        cosine of the distance to the reference point.
        """
        u, v = np.asarray(x, float) - self.crpix[0], np.asarray(y, float) - self.crpix[1]
        (_, a_u, a_v), (_, b_u, b_v) = _evaluate(self.a, u, v), _evaluate(self.b, u, v)
        (cd11, cd12), (cd21, cd22) = self.cd
        area = np.abs((cd11 * cd22 - cd12 * cd21) * ((1 + a_u) * (1 + b_v) - a_v * b_u))
        xi, eta = self._plane(u, v)
        return area * _ARCSEC2_PER_DEG2 * (1 + xi**2 + eta**2) ** -1.5

    def _plane(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Projection plane coordinates towards east and north, radians, of pixels relative to the reference."""
        u, v = u + _evaluate(self.a, u, v)[0], v + _evaluate(self.b, u, v)[0]
        (cd11, cd12), (cd21, cd22) = self._cd_north()
        return np.radians(cd11 * u + cd12 * v), np.radians(cd21 * u + cd22 * v)

    def _undistorted(self, ra: Array, dec: Array) -> tuple[Array, Array]:
        """Pixels relative to the reference, before the distortion is taken out."""
        d_ra, dec, dec0 = np.radians(ra - self.crval[0]), np.radians(dec), math.radians(self.crval[1])
        cos_distance = np.sin(dec) * math.sin(dec0) + np.cos(dec) * math.cos(dec0) * np.cos(d_ra)
        cos_distance = np.where(cos_distance > 1e-9, cos_distance, np.nan)
        xi = np.cos(dec) * np.sin(d_ra) / cos_distance * _DEGREES
        eta = (np.sin(dec) * math.cos(dec0) - np.cos(dec) * math.sin(dec0) * np.cos(d_ra)) / cos_distance * _DEGREES
        (cd11, cd12), (cd21, cd22) = self._cd_north()
        determinant = cd11 * cd22 - cd12 * cd21
        return (cd22 * xi - cd12 * eta) / determinant, (cd11 * eta - cd21 * xi) / determinant

    def _cd_north(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The matrix turned so that its second axis points north, which it does for LONPOLE 180."""
        if self.lonpole == 180.0:
            return self.cd
        turn = math.radians(self.lonpole - 180.0)
        cos, sin = math.cos(turn), math.sin(turn)
        (cd11, cd12), (cd21, cd22) = self.cd
        return (cos * cd11 + sin * cd21, cos * cd12 + sin * cd22), (cos * cd21 - sin * cd11, cos * cd22 - sin * cd12)


def read_wcs(header: Header) -> TanSip:
    """World coordinates from an image header (PC with CDELT, or CD).

    Raises
    ------
    InvalidFile
        When a keyword is missing, or the projection is not a TAN one in the order right ascension, declination.
    """
    types = header.text("CTYPE1"), header.text("CTYPE2")
    if types not in (("RA---TAN-SIP", "DEC--TAN-SIP"), ("RA---TAN", "DEC--TAN")):
        raise InvalidFile(
            f"HDU {header.hdu}: CTYPE1, CTYPE2 are {types[0]!r}, {types[1]!r}, not RA---TAN-SIP, DEC--TAN-SIP"
        )
    cd = _matrix(header)
    determinant = cd[0][0] * cd[1][1] - cd[0][1] * cd[1][0]
    crpix = header.number("CRPIX1") - 1, header.number("CRPIX2") - 1
    crval = header.number("CRVAL1"), header.number("CRVAL2")
    steps = max(abs(element) for row in cd for element in row)
    if abs(determinant) < 1e-12 or steps > 1 or max(map(abs, crpix)) > 1e6 or abs(crval[1]) > 90 or abs(crval[0]) > 720:
        raise InvalidFile(f"HDU {header.hdu}: the celestial WCS makes no sense (PC/CD, CRPIX or CRVAL)")
    sip = types[0].endswith("SIP")
    return TanSip(
        crpix=crpix,
        cd=cd,
        crval=crval,
        lonpole=header.number("LONPOLE", 180.0 if crval[1] < 90 else 0.0),
        a=_polynomial(header, "A") if sip else (),
        b=_polynomial(header, "B") if sip else (),
    )


def _matrix(header: Header) -> tuple[tuple[float, float], tuple[float, float]]:
    if "CD1_1" in header:
        rows = [[header.number(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
    else:
        rows = [
            [header.number(f"CDELT{i}") * header.number(f"PC{i}_{j}", float(i == j)) for j in (1, 2)] for i in (1, 2)
        ]
    return (rows[0][0], rows[0][1]), (rows[1][0], rows[1][1])


def _polynomial(header: Header, letter: str) -> Polynomial:
    order = header.integer(f"{letter}_ORDER")
    if not 0 <= order <= _HIGHEST_ORDER:
        raise InvalidFile(f"HDU {header.hdu}: {letter}_ORDER is {order}")
    terms = [[header.number(f"{letter}_{p}_{q}", 0.0) for p in range(order + 1 - q)] for q in range(order + 1)]
    farthest = sum(abs(term) * _FRAME_PX ** (p + q) for q, row in enumerate(terms) for p, term in enumerate(row))
    if farthest > _FRAME_PX:
        raise InvalidFile(f"HDU {header.hdu}: the SIP polynomial {letter} moves pixels by up to {farthest:.3g} px")
    return tuple(map(tuple, terms))


def _evaluate(polynomial: Polynomial, u: Array, v: Array) -> tuple[Array, Array, Array]:
    """Value of a polynomial and its derivatives by u and by v (Horner's scheme in both)."""
    value = by_u = by_v = 0.0 * u
    for row in reversed(polynomial):
        in_u: Array | float = 0.0
        slope: Array | float = 0.0
        for coefficient in reversed(row):
            slope = slope * u + in_u
            in_u = in_u * u + coefficient
        by_v = by_v * v + value
        by_u = by_u * v + slope
        value = value * v + in_u
    return value, by_u, by_v
